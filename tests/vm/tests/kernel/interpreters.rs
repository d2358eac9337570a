//! Interpreters: what they may be given and what they may read as code.
//!
//! The interpreter is busybox's shell, real and static. Every script ends with its own status, so that one can tell
//! whether it ran.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use enforcer_common::hook::Hook::{self, BprmCommittedCreds, FileOpen};
use enforcer_vm_tests::actor::{Place, command};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::scenario::make_executable;

const SHELL: &str = "/usr/bin/busybox";
/// Status of every script.
const RAN: i32 = 42;

/// One start of the shell.
struct Start {
    what: &'static str,
    /// What the program is called, and has the status of a script if it runs one.
    name: &'static str,
    arguments: &'static [&'static str],
    /// Added to the environment.
    variables: &'static [(&'static str, &'static str)],
    /// Bytes of a variable that comes before those, and says nothing.
    ballast: usize,
    /// What comes in on standard input, through a pipe.
    input: Option<&'static str>,
    /// The hook and the object of the refusal; none if it is allowed.
    refused: Option<(Hook, &'static str)>,
}

const fn allowed(what: &'static str, arguments: &'static [&'static str]) -> Start {
    Start { what, name: "sh", arguments, variables: &[], ballast: 0, input: None, refused: None }
}

const fn refused(
    what: &'static str,
    arguments: &'static [&'static str],
    hook: Hook,
    object: &'static str,
) -> Start {
    Start { refused: Some((hook, object)), ..allowed(what, arguments) }
}

/// A listed script, started with a variable whose name and value the policy does not list.
const fn unlisted(
    what: &'static str,
    variables: &'static [(&'static str, &'static str)],
    object: &'static str,
) -> Start {
    Start { variables, ..refused(what, &["{dir}/code/traced"], BprmCommittedCreds, object) }
}

/// A listed script, started with variables that may be there.
const fn listed(what: &'static str, variables: &'static [(&'static str, &'static str)]) -> Start {
    Start { variables, ..allowed(what, &["{dir}/code/main"]) }
}

/// Shells evaluate this before each command that they trace. The script that is traced ends with what it sets.
const PROMPT: (&str, &str) = ("PS4", "$((ran=42))");

/// `{dir}` is the directory of the files below.
const STARTS: &[Start] = &[
    allowed("a listed script", &["{dir}/code/main"]),
    allowed("a listed option before it", &["-u", "{dir}/code/main"]),
    allowed("arguments behind it are the script's", &["{dir}/code/main", "-c", "exit 1"]),
    allowed("a listed script sources a listed module", &["{dir}/code/with-module"]),
    allowed("a listed script reads data", &["{dir}/code/with-data"]),
    refused("data as a script", &["{dir}/data/evil"], FileOpen, "{dir}/data/evil"),
    refused("data behind a link that looks like code", &["{dir}/data/main"], FileOpen, "{dir}/data/evil"),
    refused("inline code", &["-c", "exit 42"], BprmCommittedCreds, "-c"),
    refused("an option that is not listed", &["-x", "{dir}/code/main"], BprmCommittedCreds, "-x"),
    refused("a listed option with more", &["-ux", "{dir}/code/main"], BprmCommittedCreds, "-ux"),
    Start { input: Some("exit 42\n"), ..refused("code on standard input", &[], BprmCommittedCreds, "-") },
    Start {
        input: Some("exit 42\n"),
        ..refused("code on standard input, behind an option", &["-u"], BprmCommittedCreds, "-")
    },
    Start {
        input: Some("exit 42\n"),
        // A pipe has no name of its own.
        ..refused("standard input by its name", &["/proc/self/fd/0"], FileOpen, "")
    },
    Start {
        name: LONG_NAME,
        ..refused(
            "inline code behind a name that is longer than what is read at once",
            &["-c", "exit 42"],
            BprmCommittedCreds,
            "-c",
        )
    },
    Start { name: LONG_NAME, ..allowed("a listed script behind such a name", &["{dir}/code/main"]) },
    unlisted("code in a variable", &[PROMPT], "$PS4"),
    unlisted("code in a variable behind others", &[("HOME", "/"), ("PYTHONPATHS", ""), PROMPT], "$PS4"),
    unlisted(
        "a listed variable with another value",
        &[("NODE_OPTIONS", "--cpu-profile"), PROMPT],
        "$NODE_OPTIONS",
    ),
    unlisted("functions", &[("BASH_FUNC_ls%%", "() { exit 42; }"), PROMPT], "$BASH_FUNC_ls%%"),
    Start { ballast: 10_000, ..unlisted("code behind a long variable", &[PROMPT], "$PS4") },
    // Its last piece is empty, and the others are full.
    Start { ballast: 2 * 4095, ..unlisted("code behind a variable of whole pieces", &[PROMPT], "$PS4") },
    Start {
        arguments: &["{dir}/code/traced", LONG_NAME, "", "-c"],
        ..unlisted("code behind arguments of the script", &[PROMPT], "$PS4")
    },
    listed("a listed variable", &[("PYTHONPATH", "/nowhere")]),
    listed("a listed variable with its value", &[("NODE_OPTIONS", "--max-old-space-size=512")]),
    listed(
        "variables that carry no code",
        &[("PS41", "$((ran=42))"), ("ps4", ""), ("LD_LIBRARY_PATH", "/nowhere")],
    ),
    Start { ballast: 100_000, ..listed("a long variable", &[]) },
    allowed("empty arguments", &["{dir}/code/main", "", ""]),
    refused(
        "a data file of a module's name",
        &["{dir}/code/with-evil-module"],
        FileOpen,
        "{dir}/data/module.sh",
    ),
];

/// 5000 bytes, and what busybox takes for its name.
const LONG_NAME: &str = {
    const BYTES: &[u8] = &{
        let mut bytes = [b'x'; 5000];
        [bytes[0], bytes[4997], bytes[4998], bytes[4999]] = [b'/', b'/', b's', b'h'];
        bytes
    };
    match core::str::from_utf8(BYTES) {
        Ok(name) => name,
        Err(_) => unreachable!(),
    }
};

struct World {
    directory: String,
}

impl World {
    fn new() -> Self {
        let directory = format!("{SCRATCH}/interpreters");
        let _ = fs::remove_dir_all(&directory);
        for part in ["code", "data"] {
            fs::create_dir_all(format!("{directory}/{part}")).unwrap();
        }
        let exit = format!("exit {RAN}\n");
        let sources = |module: &str| format!(". {directory}/{module}\n");
        let files = [
            ("code/main", exit.clone()),
            ("code/traced", "set -x\n:\nexit $((ran))\n".to_owned()),
            ("code/module.sh", exit.clone()),
            ("code/with-module", sources("code/module.sh")),
            ("code/with-evil-module", sources("data/module.sh")),
            ("code/with-data", format!("read word < {directory}/data/evil\n{exit}")),
            ("data/evil", exit.clone()),
            ("data/module.sh", exit),
        ];
        for (name, text) in files {
            fs::write(format!("{directory}/{name}"), text).unwrap();
        }
        std::os::unix::fs::symlink(format!("{directory}/data/evil"), format!("{directory}/data/main"))
            .unwrap();
        make_executable(
            format!("{directory}/code/script").as_ref(),
            format!("#!{SHELL} sh\nexit {RAN}\n").as_bytes(),
        );
        Self { directory }
    }

    fn fill_in(&self, text: &str) -> String {
        text.replace("{dir}", &self.directory)
    }

    fn policy(&self, cgroup: &Cgroup) -> Policy {
        Policy::of("interpreters", cgroup)
            .allow("exec.allow", SHELL)
            .allow("interpreters.programs", "/usr/bin/busy*")
            .allow("interpreters.code", &self.fill_in("{dir}/code/*"))
            .allow("interpreters.options", "-u")
            .allow("interpreters.environment", "PYTHONPATH")
            .allow("interpreters.environment", "NODE_OPTIONS=--max-old-space-size=512")
            .allow("file.read", &self.fill_in("{dir}/data/*"))
    }

    /// The status with which the shell ended; none if a signal ended it.
    fn run(&self, place: Place<'_>, start: &Start) -> Option<i32> {
        let mut command: Command = command(place, SHELL);
        command.arg0(start.name).args(start.arguments.iter().map(|argument| self.fill_in(argument)));
        // In the order of their names.
        command.env_clear().envs(start.variables.iter().copied());
        if start.ballast > 0 {
            command.env("A", "x".repeat(start.ballast - "A=".len()));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The shell may be gone already.
        let _ = std::io::Write::write_all(&mut stdin, start.input.unwrap_or_default().as_bytes());
        drop(stdin);
        child.wait().unwrap().code()
    }
}

#[test]
fn what_an_interpreter_is_given_must_be_listed() {
    let world = World::new();
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("interpreters");
    for start in STARTS {
        // `-x` and `-ux` are good for nothing but being refused: without a policy `-ux` runs the script, too.
        assert_eq!(world.run(Place::Joining(&cgroup), start), Some(RAN), "without a policy: {}", start.what);
    }
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&world.policy(&cgroup)]);
    for start in STARTS {
        let mark = enforcer.mark();
        let status = world.run(Place::Joining(&cgroup), start);
        let events = enforcer.events_since(mark);
        match start.refused {
            None => {
                assert_eq!(status, Some(RAN), "{}: {events:#?}", start.what);
                assert!(events.is_empty(), "{}: {events:#?}", start.what);
            }
            Some((hook, object)) => {
                assert_ne!(status, Some(RAN), "{}", start.what);
                assert_eq!(events.len(), 1, "{}: {events:#?}", start.what);
                let event = &events[0];
                assert_eq!(event.text("hook"), hook.name(), "{}: {event}", start.what);
                assert!(event.needed().contains(&"code"), "{}: {event}", start.what);
                assert!(event.about().contains(&world.fill_in(object)), "{}: {event}", start.what);
            }
        }
        assert_eq!(world.run(Place::Host, start), Some(RAN), "host: {}", start.what);
    }
    // The reports of audit mode are the refusals of the other.
    enforcer.apply(&[&world.policy(&cgroup).audit()]);
    for start in STARTS {
        let mark = enforcer.mark();
        assert_eq!(world.run(Place::Joining(&cgroup), start), Some(RAN), "audited: {}", start.what);
        let events = enforcer.events_since(mark);
        assert_eq!(events.is_empty(), start.refused.is_none(), "audited: {}: {events:#?}", start.what);
    }
}

#[test]
fn a_script_brings_its_interpreter() {
    let world = World::new();
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("script");
    let script = world.fill_in("{dir}/code/script");
    let run = |place: Place<'_>| command(place, &script).stdin(Stdio::null()).status();
    assert_eq!(run(Place::Joining(&cgroup)).unwrap().code(), Some(RAN));
    if baseline_only() {
        return;
    }
    // A script that may be started is code.
    let policy = Policy::of("script", &cgroup)
        .allow("exec.allow", SHELL)
        .allow("interpreters.programs", SHELL)
        .allow("interpreters.options", "-u");
    enforcer.apply(&[&policy.clone().allow("exec.allow", &script)]);
    let mark = enforcer.mark();
    let status = run(Place::Joining(&cgroup)).unwrap();
    let events = enforcer.events_since(mark);
    assert_eq!(status.code(), Some(RAN), "{events:#?}");
    assert!(events.is_empty(), "{events:#?}");
    // One that may only be read as code does not start by itself.
    enforcer.apply(&[&policy.allow("interpreters.code", &script)]);
    assert_eq!(run(Place::Joining(&cgroup)).unwrap_err().raw_os_error(), Some(libc::EPERM));
}

/// What is no interpreter reads data of any name.
#[test]
fn other_programs_read_what_they_may() {
    use enforcer_vm_tests::actor::{op, run};
    let world = World::new();
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("no-interpreter");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&world.policy(&cgroup)]);
    let mark = enforcer.mark();
    let reads = ["data/module.sh", "data/evil"]
        .map(|name| op(&["open-read", &world.fill_in(&format!("{{dir}}/{name}"))]));
    let reports = run(Place::Joining(&cgroup), &reads).unwrap();
    assert!(reports.iter().all(|report| report.ok), "{reports:#?}");
    assert!(enforcer.events_since(mark).is_empty());
}
