//! Suite `systemd_packages`: the `.deb` on a machine of its own, from the first installation to the purge. Its disk keeps
//! what is written between the two boots of `xtask/src/scenarios.rs`.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::print_stdout, reason = "what a test prints is its evidence")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use enforcer_vm_tests::{
    actor::{self, Actor, Place, op},
    cgroup::Cgroup,
    enforcer::{SIZES, shown},
    pins,
    policy::Policy,
    units, wait,
};

const UNIT: &str = "enforcer.service";
const SECRET: &str = "/var/tmp/secret";
const ALLOWED: &str = "/var/tmp/allowed";
const POLICIES: &str = "/etc/enforcer/policies.d";
const PINS: &str = "/sys/fs/bpf/enforcer";

/// When services start that read what they should not: a name, and what their units say about their order.
const EARLY: &[(&str, &str)] = &[
    // Like any service: after basic.target.
    ("usual", "WantedBy=multi-user.target"),
    // Before basic.target, by the order that our unit has of itself.
    ("sysinit", "DefaultDependencies=no After=sysinit.target Before=basic.target WantedBy=basic.target"),
    // As early as can be, and after ours because it says so.
    ("first", "DefaultDependencies=no After=enforcer.service Before=sysinit.target WantedBy=sysinit.target"),
];

/// The unit of one of these, and that of its twin, which nobody restricts.
fn early(name: &str) -> [String; 2] {
    ["attack", "twin"].map(|role| format!("{name}-{role}.service"))
}

/// A service that is there before ours: it reads what it should not until it is refused, and says so by this status.
const BEFORE: &str = "before-ours.service";
const REFUSED_LATER: &str = "3";

/// Directories of the machine's own.
const DIRECTORIES: &[&str] = &["/etc/enforcer", "/var/lib/enforcer", "/var/log/enforcer", "/run/enforcer"];

/// Files that a package which is gone must not leave.
const INSTALLED: &[&str] = &[
    "/usr/bin/enforcer",
    "/usr/bin/enforcer-oci-hook",
    "/usr/lib/systemd/system/enforcer.service",
    "/usr/lib/systemd/system/enforcer.service.d/10-tpm-group.conf",
    "/usr/lib/sysusers.d/enforcer.conf",
    "/usr/lib/tmpfiles.d/enforcer.conf",
    "/usr/share/man/man8/enforcer-run.8.gz",
    "/usr/share/man/man8/enforcer-oci-hook.8.gz",
    "/usr/share/doc/enforcer/policy-examples/nginx.toml",
    "/usr/share/bash-completion/completions/enforcer",
];

fn command(words: &[&str]) -> Output {
    Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap()
}

fn done(words: &[&str]) -> String {
    println!("   $ {}", words.join(" "));
    let output = command(words);
    let said = shown(&output);
    said.lines().for_each(|line| println!("     {line}"));
    assert!(output.status.success(), "{}: {said}\n{}", words.join(" "), units::state(UNIT));
    said
}

/// Installs as an administrator does. The guest's dpkg leaves documentation out, unless it is told not to.
fn install(package: &str) -> String {
    done(&[
        "dpkg",
        "--path-include=/usr/share/man/*",
        "--path-include=/usr/share/doc/*",
        "--install",
        package,
    ])
}

fn version() -> String {
    let output =
        command(&["dpkg-query", "--show", "--showformat=${Version} ${db:Status-Abbrev}", "enforcer"]);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{path}: {error}")).permissions().mode() & 0o7777
}

fn is_refused(cgroup: &Cgroup) -> bool {
    let file = |path| op(&["open-read", path]);
    let reports = actor::run(Place::Joining(cgroup), &[file(ALLOWED), file(SECRET)]).unwrap();
    assert!(reports[0].ok, "what is listed is refused");
    reports[1].refused()
}

/// Waits until the looping actor has finished rounds that began after this call.
fn more_rounds(actor: &mut Actor) {
    for _ in 0..2 {
        wait::until("another report of the loop", wait::SOON * 3, || {
            let mut progress = false;
            for report in actor.pending() {
                assert!(report.ok, "a wrong verdict: {report:?}");
                progress = true;
            }
            progress.then_some(())
        });
    }
}

/// What the administrator decides: policies, that nobody has to sign them, and what starts early.
fn configure(cgroup: &Cgroup) {
    fs::write("/etc/enforcer/anchors.toml", "unsigned = \"allow\"\n").unwrap();
    let drop_in = Path::new("/etc/systemd/system/enforcer.service.d/90-local.conf");
    fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    let options = format!("--insecure-unsigned {}", SIZES.join(" "));
    fs::write(drop_in, format!("[Service]\nEnvironment=\"ENFORCER_OPTIONS={options}\"\n")).unwrap();
    let listed = Policy::of("listed", cgroup).allow("file.read", ALLOWED);
    let bare = |name: &str, unit: &str| {
        Policy::bare(name, "unit", unit).allow("exec.allow", "/usr/bin/busybox").allow("file.read", ALLOWED)
    };
    let early_ones = EARLY.iter().map(|(name, _)| bare(name, &early(name)[0]));
    for policy in early_ones.chain([listed, bare("before", BEFORE)]) {
        fs::write(Path::new(POLICIES).join(format!("{}.toml", policy.name())), policy.to_toml()).unwrap();
    }
    let install = |unit: &str, order: &str, service: &str| {
        let (order, wanted_by): (Vec<&str>, Vec<&str>) =
            order.split(' ').partition(|setting| !setting.starts_with("WantedBy="));
        let text = format!(
            "[Unit]\n{}\n[Service]\n{service}\n[Install]\n{}\n",
            order.join("\n"),
            wanted_by.join("\n")
        );
        fs::write(Path::new("/etc/systemd/system").join(unit), text).unwrap();
        done(&["systemctl", "enable", unit]);
    };
    for (name, order) in EARLY {
        for unit in early(name) {
            let reads = format!(
                "Type=oneshot\nExecStart=/usr/bin/busybox cat {ALLOWED}\nExecStart=/usr/bin/busybox cat {SECRET}"
            );
            install(&unit, order, &reads);
        }
    }
    // Ours waits until it has read once.
    let order =
        "DefaultDependencies=no Before=enforcer.service Before=sysinit.target WantedBy=sysinit.target";
    let reads = format!(
        "Type=exec\nNice=19\nExecStartPre=/usr/bin/busybox cat {SECRET}\n\
         ExecStart=/usr/bin/busybox sh -c 'while busybox cat {SECRET}; do :; done; exit {REFUSED_LATER}'"
    );
    install(BEFORE, order, &reads);
    done(&["systemctl", "daemon-reload"]);
}

#[test]
fn installed_configured_and_upgraded_under_attack() {
    for file in [ALLOWED, SECRET] {
        fs::write(file, "").unwrap();
    }
    // The guest's own, so that it is a machine that has never seen this software.
    fs::remove_dir_all("/etc/enforcer").unwrap();

    let said = install("/share/enforcer.deb");
    assert!(said.contains("enabled, and not started"), "{said}");
    for file in INSTALLED {
        assert!(Path::new(file).exists(), "{file} is missing");
    }
    for directory in DIRECTORIES {
        assert_eq!(mode(directory), 0o700, "{directory}");
    }
    done(&["systemctl", "is-enabled", UNIT]);
    done(&["bash", "-c", "source /usr/share/bash-completion/completions/enforcer && complete -p enforcer"]);
    // Machines without a TPM are not to wait for one: systemd does, for 90 s, where anything wants this target.
    assert!(!units::property(UNIT, "Wants").contains("tpm2.target"));
    // Nobody has said what this machine trusts: no daemon, and none that tries again and again.
    assert!(!units::is_active(UNIT));
    assert!(!units::systemctl(&["start", UNIT]).status.success());
    assert_eq!(units::property(UNIT, "ActiveState"), "inactive", "{}", units::state(UNIT));
    assert!(!Path::new(PINS).exists());

    let cgroup = Cgroup::create("package");
    configure(&cgroup);
    assert!(!is_refused(&cgroup), "nothing is in force yet");
    units::tell("start", UNIT);
    assert!(is_refused(&cgroup), "{}", units::state(UNIT));
    done(&["/usr/bin/enforcer", "status"]);

    let table = serde_json::json!([
        { "expect": "allow", "op": ["open-read", ALLOWED] },
        { "expect": "deny", "op": ["open-read", SECRET] },
        { "expect": "deny", "op": ["fork", "open-read", SECRET] },
    ]);
    let mut looping = Actor::start(Place::Joining(&cgroup)).unwrap();
    looping.ask(&op(&["loop", &table.to_string()]));
    looping.be_nice();
    more_rounds(&mut looping);
    let (old_pid, links, old_version) = (units::property(UNIT, "MainPID"), pins::link_ids(), version());
    let _ = install("/share/next.deb");
    more_rounds(&mut looping);
    let last = looping.finish();
    assert!(last.iter().all(|report| report.ok), "{last:?}");
    println!("{}", last.last().map_or("", |report| &report.detail));
    assert_eq!(version(), old_version.replacen(' ', "+next ", 1));
    assert!(units::is_active(UNIT), "{}", units::state(UNIT));
    assert_ne!(units::property(UNIT, "MainPID"), old_pid, "the old daemon still runs");
    // The same programs: they are left alone. That others are attached beside them first is `kernel/takeover.rs`'s.
    assert_eq!(pins::link_ids(), links);
    done(&["/usr/bin/enforcer", "status"]);

    // An administrator who stopped it finds it stopped after an upgrade, too; enforcement stays.
    units::tell("stop", UNIT);
    let _ = install("/share/next.deb");
    assert!(!units::is_active(UNIT));
    assert!(is_refused(&cgroup));
}

#[test]
fn after_a_reboot_services_start_under_their_policies_until_the_purge() {
    let ended = |unit: &str| (units::property(unit, "Result"), units::property(unit, "ExecMainStatus"));
    let exited = |unit: &str| units::property(unit, "ExecMainExitTimestampMonotonic");
    let pair = |result: &str, status: &str| (result.to_owned(), status.to_owned());
    let has_ended = |unit: &str| !["activating", "active"].contains(&&*units::property(unit, "ActiveState"));
    wait::until("the early services' end", wait::SOON * 3, || {
        let all = EARLY.iter().flat_map(|(name, _)| early(name)).chain([BEFORE.to_owned()]);
        all.into_iter().all(|unit| has_ended(&unit)).then_some(())
    });
    assert!(units::is_active(UNIT), "{}", units::state(UNIT));
    let refusals = |policy: &str| {
        let log = fs::read_to_string("/var/log/enforcer/events.jsonl").unwrap();
        // By the policy: the name of the unit is looked up when the event arrives, and the unit's cgroup may be gone then.
        let of_policy = |line: &&str| line.contains(&format!("\"{policy}\"")) && line.contains("denied");
        log.lines().filter(of_policy).map(str::to_owned).collect::<Vec<_>>()
    };
    let one_refusal = |policy: &str| {
        let events = wait::until("the event of the refusal", wait::SOON, || {
            Some(refusals(policy)).filter(|all| !all.is_empty())
        });
        assert!(events.len() == 1 && events[0].contains(SECRET), "{events:?}");
    };
    for (name, _) in EARLY {
        let [attack, twin] = early(name);
        assert_eq!(ended(&twin), pair("success", "0"), "{}", units::state(&twin));
        // The first attempt is the only one.
        assert_eq!(ended(&attack), pair("exit-code", "1"), "{}", units::state(&attack));
        one_refusal(name);
        println!("   {attack}: refused at {} us after the start of the kernel", exited(&attack));
    }
    // What is there before ours is unrestricted until then, and restricted from then on.
    assert_eq!(ended(BEFORE), pair("exit-code", REFUSED_LATER), "{}", units::state(BEFORE));
    one_refusal("before");
    let cgroup = Cgroup::create("package");
    assert!(is_refused(&cgroup));

    // Removed, it leaves what it protects protected, and what the administrator wrote.
    let said = done(&["dpkg", "--remove", "enforcer"]);
    assert!(said.contains("stays in force until the machine is rebooted"), "{said}");
    assert!(is_refused(&cgroup), "removing the package turned enforcement off");
    assert!(!Path::new("/usr/bin/enforcer").exists());
    assert!(Path::new("/etc/enforcer/anchors.toml").exists() && Path::new(PINS).exists());
    assert!(!units::is_active(UNIT));

    // Back again, it is as it was.
    let _ = install("/share/next.deb");
    done(&["systemctl", "is-enabled", UNIT]);
    units::tell("start", UNIT);
    assert!(is_refused(&cgroup));

    let said = done(&["dpkg", "--purge", "enforcer"]);
    assert!(said.contains("enforcement is off"), "{said}");
    // The kernel detaches programs some time after the last name of their links is gone.
    wait::until("enforcement to end", wait::SOON, || (!is_refused(&cgroup)).then_some(()));
    let wants = "/etc/systemd/system/sysinit.target.wants/enforcer.service";
    for path in INSTALLED.iter().chain(DIRECTORIES).chain(&[PINS, "/usr/share/doc/enforcer", wants]) {
        assert!(fs::symlink_metadata(path).is_err(), "{path} is still there");
    }
    // What the administrator wrote for it is theirs.
    assert_eq!(units::property(UNIT, "FragmentPath"), "");
    assert_eq!(version(), "");
}
