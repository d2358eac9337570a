//! Podman with crun and conmon, as Debian configures them, with the hook in Podman's own directory for hooks.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use enforcer::policy::digest::ContentDigest;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only};
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::report::Report;
use enforcer_vm_tests::units::is_active;
use enforcer_vm_tests::wait;

use super::image::{self, ACTOR, EVIL, assert_never_ran, named, report, reported, run};

const HOOKS: &str = "/usr/share/containers/oci/hooks.d";
const IMAGE: &str = "localhost/actors:1";

/// Makes the image, unless it is there. The hook is where Podman looks for hooks, from now on.
fn prepare() {
    fs::create_dir_all(HOOKS).unwrap();
    let hook = format!(
        r#"{{"version":"1.0.0","hook":{{"path":"{}","args":["enforcer-oci-hook"]}},"when":{{"always":true}},"stages":["createRuntime"]}}"#,
        image::hook()
    );
    fs::write(format!("{HOOKS}/enforcer.json"), hook).unwrap();
    if !run(Command::new("podman").args(["image", "exists", IMAGE])).status.success() {
        let root = image::tree("image");
        let archive = format!("{SCRATCH}/image.tar");
        let packed = run(Command::new("tar").args(["-cf", &archive, "-C"]).arg(&root).arg("."));
        assert!(packed.status.success(), "{packed:?}");
        let imported = run(Command::new("podman").args(["import", &archive, IMAGE]));
        assert!(imported.status.success(), "{imported:?}");
    }
}

/// `podman run` with what is before the image's name, and what is after it.
fn podman_run(name: &str, options: &[&str], program: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command.args(["run", "--rm", "--network=none", "--name", name]).args(options).arg(IMAGE).args(program);
    command
}

/// `podman run` without hooks.
fn unhooked(name: &str, program: &[&str]) -> Command {
    let none = format!("{SCRATCH}/no-hooks");
    fs::create_dir_all(&none).unwrap();
    let mut command = Command::new("podman");
    command
        .args(["--hooks-dir", &none, "run", "--rm", "--network=none", "--name", name, IMAGE])
        .args(program);
    command
}

/// That it is the hook that did not let it start. crun does not show what the hook says.
fn assert_hook_failed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("enforcer-oci-hook"), "{said}");
}

/// A container whose actor takes orders.
struct Container {
    name: &'static str,
    child: Child,
    orders: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
}

impl Container {
    fn start(name: &'static str, options: &[&str]) -> Self {
        let options: Vec<&str> = [&["-i"][..], options].concat();
        let mut child = podman_run(name, &options, &[ACTOR, "script"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let reports = BufReader::new(child.stdout.take().unwrap());
        let mut container = Self { name, child, orders, reports };
        assert!(container.perform(&["open-read", "/etc/listed"]).ok, "{name} runs");
        container
    }

    fn perform(&mut self, op: &[&str]) -> Report {
        let orders = self.orders.as_mut().unwrap();
        writeln!(orders, "{}", serde_json::to_string(op).unwrap()).unwrap();
        let mut line = String::new();
        self.reports.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error}: {line:?}", self.name))
    }

    fn exec(&self, program: &[&str]) -> Output {
        run(Command::new("podman").args(["exec", self.name]).args(program))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The actor ends with its orders, and the container with the actor.
        self.orders = None;
        let _ = self.child.wait();
    }
}

#[test]
fn the_first_instruction_is_judged_and_strangers_do_not_start() {
    let mut enforcer = Enforcer::ready();
    prepare();
    if !baseline_only() {
        enforcer.apply(&[]);
    }
    let bare = run(&mut unhooked("web", &[EVIL, "open-read", "/etc/secret"]));
    assert!(bare.status.success() && reported(&bare).ok, "an attack without hook and policy: {bare:?}");
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&image::base(), &named("web")]);
    let mark = enforcer.mark();
    let good = run(&mut podman_run("web", &[], &[ACTOR, "open-read", "/etc/listed"]));
    assert!(good.status.success() && reported(&good).ok, "{good:?}");
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "the runtime needed a hole: {events:?}");

    let mark = enforcer.mark();
    assert_never_ran(&run(&mut podman_run("web", &[], &[EVIL, "open-read", "/etc/listed"])));
    let events = enforcer.events_since(mark);
    assert!(
        events.iter().any(|event| event.object("path") == EVIL && event.text("policy") == "web"),
        "{events:?}"
    );
    // What lies where the host's launchers lie is no launcher, and neither is the runtime's own image.
    for posing in ["/usr/bin/crun", "/usr/sbin/runc", "/proc/self/exe"] {
        assert_never_ran(&run(&mut podman_run("web", &[], &[posing, "open-read", "/etc/listed"])));
    }
    let mark = enforcer.mark();
    let stranger = run(&mut podman_run("stranger", &[], &[ACTOR, "open-read", "/etc/listed"]));
    assert_never_ran(&stranger);
    assert_hook_failed(&stranger);
    wait::until("the event about the stranger", wait::SOON, || {
        let asked = enforcer.log().containers_since(mark);
        asked.iter().any(|event| event.text("message").contains("stranger")).then_some(())
    });
    // Without the hook nobody asks, and it stays under the base policy.
    assert_never_ran(&run(&mut unhooked("web", &[ACTOR, "open-read", "/etc/listed"])));
}

/// Whatever starts Podman may have a mount namespace of its own, and what it starts has it, too: conmon, crun and the hook.
#[test]
fn a_service_with_mounts_of_its_own_starts_containers() {
    let mut enforcer = Enforcer::ready();
    prepare();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&image::base(), &named("private")]);
    let service = |program: &str| {
        let podman = podman_run("private", &[], &[program, "open-read", "/etc/listed"]);
        let mut command = Command::new("systemd-run");
        command.args([
            "--wait",
            "--pipe",
            "--quiet",
            "--collect",
            "-p",
            "PrivateTmp=yes",
            "-p",
            "ProtectHome=yes",
        ]);
        run(command.arg(podman.get_program()).args(podman.get_args()))
    };
    let mark = enforcer.mark();
    let good = service(ACTOR);
    assert!(good.status.success() && reported(&good).ok, "{good:?}");
    let events = enforcer.events_since(mark);
    assert!(events.is_empty(), "the runtime needed a hole: {events:?}");
    for refused in [EVIL, "/usr/bin/crun", "/proc/self/exe"] {
        assert_never_ran(&service(refused));
    }
}

#[test]
fn a_container_and_its_neighbour_and_who_comes_in_later() {
    let mut enforcer = Enforcer::ready();
    prepare();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&image::base(), &named("one"), &named("two").allow("file.read", "/etc/secret")]);
    let mut one = Container::start("one", &[]);
    let mut two = Container::start("two", &[]);
    assert!(one.perform(&["open-read", "/etc/secret"]).refused());
    assert!(two.perform(&["open-read", "/etc/secret"]).ok, "the neighbour's policy is another");
    assert!(!one.perform(&["exec", EVIL]).ok);
    assert!(!one.perform(&["exec", "/usr/bin/crun"]).ok, "posing as the runtime from inside");
    assert!(one.perform(&["exec", ACTOR]).ok);

    let listed = one.exec(&[ACTOR, "open-read", "/etc/listed"]);
    assert!(listed.status.success() && reported(&listed).ok, "{listed:?}");
    assert!(reported(&one.exec(&[ACTOR, "open-read", "/etc/secret"])).refused());
    assert!(reported(&two.exec(&[ACTOR, "open-read", "/etc/secret"])).ok);
    for posing in [EVIL, "/usr/bin/crun", "/proc/self/exe"] {
        assert_never_ran(&one.exec(&[posing, "open-read", "/etc/listed"]));
    }
}

#[test]
fn paths_are_the_container_s_own() {
    let mut enforcer = Enforcer::ready();
    prepare();
    if baseline_only() {
        return;
    }
    let volume = format!("{SCRATCH}/volume");
    fs::create_dir_all(&volume).unwrap();
    for file in ["listed", "secret"] {
        fs::write(format!("{volume}/{file}"), file).unwrap();
    }
    let policy = named("paths")
        .allow("file.read", "/vol/listed")
        .allow("file.create", "/scratch/*")
        .allow("file.create", "/etc/new");
    enforcer.apply(&[&image::base(), &policy]);
    let mount = format!("{volume}:/vol");
    let mut container = Container::start("paths", &["-v", &mount, "--tmpfs", "/scratch"]);
    let cases: [(&[&str], bool); 7] = [
        (&["open-read", "/vol/listed"], true),
        (&["open-read", "/vol/secret"], false),
        (&["open-write", "/vol/listed"], false),
        (&["open-create", "/scratch/new"], true),
        // Into the upper layer of the image.
        (&["open-create", "/etc/new"], true),
        (&["open-create", "/etc/other"], false),
        (&["open-write", "/etc/listed"], false),
    ];
    for (op, allowed) in cases {
        let report = container.perform(op);
        assert_eq!((report.ok, report.refused()), (allowed, !allowed), "{report:?}");
    }
}

#[test]
fn a_program_of_an_image_is_pinned_to_its_content() {
    let mut enforcer = Enforcer::ready();
    prepare();
    if baseline_only() {
        return;
    }
    let digest = ContentDigest::of(File::open(enforcer_vm_tests::actor::program()).unwrap()).unwrap();
    let pinned = |digest| Policy::bare("pinned", "container.name", "pinned").pin(ACTOR, &[digest]);
    for (digest, starts) in [(digest, true), (ContentDigest([7; 32]), false)] {
        enforcer.apply(&[&image::base(), &pinned(digest)]);
        let mark = enforcer.mark();
        let output = run(&mut podman_run("pinned", &[], &[ACTOR, "open-read", "/etc/listed"]));
        let events = enforcer.events_since(mark);
        assert_eq!(report(&output).is_some(), starts, "{output:?} {events:?}");
        let reasons: Vec<&str> = events.iter().map(|event| event.text("reason")).collect();
        assert_eq!(reasons.contains(&"digest"), !starts, "{events:?}");
    }
}

#[test]
fn without_the_daemon_no_container_starts_and_those_that_run_stay_judged() {
    let mut enforcer = Enforcer::ready();
    prepare();
    if baseline_only() {
        return;
    }
    enforcer.apply(&[&image::base(), &named("lasting"), &named("late")]);
    let mut lasting = Container::start("lasting", &[]);
    enforcer.kill_daemon();
    assert!(!is_active("enforcer-under-test.service"));
    let late = run(&mut podman_run("late", &[], &[ACTOR, "open-read", "/etc/listed"]));
    assert_never_ran(&late);
    assert_hook_failed(&late);
    assert!(lasting.perform(&["open-read", "/etc/secret"]).refused());
    assert!(reported(&lasting.exec(&[ACTOR, "open-read", "/etc/secret"])).refused());
    enforcer.start_daemon();
    assert!(lasting.perform(&["open-read", "/etc/secret"]).refused(), "after the daemon came back");
    assert!(lasting.perform(&["open-read", "/etc/listed"]).ok);
    let late = run(&mut podman_run("late", &[], &[ACTOR, "open-read", "/etc/listed"]));
    assert!(reported(&late).ok, "{late:?}");
}
