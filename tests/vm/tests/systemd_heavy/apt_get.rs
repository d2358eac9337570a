//! `apt-get` as a unit under `policy-examples/apt-get.toml`: installs what may be installed, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use enforcer_common::verdict::Family;
use enforcer_vm_tests::enforcer::{Enforcer, baseline_only, shown};
use enforcer_vm_tests::events::Event;
use enforcer_vm_tests::service::{assert_no_denials, lines, policy_file};
use enforcer_vm_tests::units::{self, UnitFile};

const UNIT: &str = "install@.service";
const POLICY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy-examples/apt-get.toml"));
const REPOSITORY: &str = "/srv/repository";

const UNIT_FILE: &str = "\
[Service]
Type=oneshot
Environment=DEBIAN_FRONTEND=noninteractive APT_CONFIG=/etc/apt/install.conf
ExecStart=/usr/bin/apt-get --quiet update
ExecStart=/usr/bin/apt-get --quiet --yes install %i
";

/// As the policy's comment tells, like the unit.
const CONFIGURATION: &str = "Dir::Etc::Parts \"/dev/null\";\nDPkg::Inhibit-Shutdown \"false\";\n";

/// A package under construction: files with their content, by path.
struct Package {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

/// What may be installed: a program, a file that its maintainer scripts keep, and documentation.
const REPORT: Package = Package {
    name: "report",
    files: &[
        ("opt/report/bin/report", "#!/bin/sh\necho report\n"),
        ("usr/share/doc/report/copyright", "Nobody's.\n"),
        ("DEBIAN/preinst", "#!/bin/sh -e\nmkdir -p /opt/report/state\ntouch /opt/report/state/unpacking\n"),
        (
            "DEBIAN/postinst",
            "#!/bin/sh -e\nrm /opt/report/state/unpacking\necho \"$1\" > /opt/report/state/configured\n",
        ),
    ],
};

/// What may not: a program where all others are, and a script that calls for help.
const IMPLANT: Package = Package {
    name: "implant",
    files: &[
        ("usr/bin/implant", "#!/bin/sh\necho implant\n"),
        ("DEBIAN/preinst", "#!/bin/sh\nbusybox touch /opt/report/state/implant-was-here || true\n"),
    ],
};

/// Builds it in the repository and returns its entry in the index.
fn build(package: &Package) -> String {
    let tree = PathBuf::from("/srv").join(package.name);
    let file = format!("{}.deb", package.name);
    let control = format!(
        "Package: {}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\nDescription: a test\n",
        package.name
    );
    for (path, text) in package.files.iter().copied().chain([("DEBIAN/control", control.as_str())]) {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let target = Path::new(REPOSITORY).join(&file);
    let output = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    output(
        Command::new("dpkg-deb").args(["-Zgzip", "--root-owner-group", "--build"]).arg(&tree).arg(&target),
    );
    let sum = output(Command::new("sha256sum").arg(&target));
    let sum = sum.split_whitespace().next().unwrap();
    let size = fs::metadata(&target).unwrap().len();
    format!("{control}Filename: ./{file}\nSize: {size}\nSHA256: {sum}\n")
}

/// A repository in a directory, as apt's only one; apt's own configuration comes back when this is dropped.
struct Repository {
    sources: String,
}

impl Repository {
    fn create() -> Self {
        fs::create_dir_all(REPOSITORY).unwrap();
        let index = [build(&REPORT), build(&IMPLANT)].join("\n");
        fs::write(Path::new(REPOSITORY).join("Packages"), index).unwrap();
        let sources = fs::read_to_string("/etc/apt/sources.list").unwrap();
        fs::write("/etc/apt/sources.list", format!("deb [trusted=yes] file:{REPOSITORY} ./\n")).unwrap();
        fs::write("/etc/apt/install.conf", CONFIGURATION).unwrap();
        Self { sources }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = fs::write("/etc/apt/sources.list", &self.sources);
    }
}

/// The instance of the unit that installs this package.
fn installing(package: &Package) -> String {
    UNIT.replace('@', &format!("@{}", package.name))
}

fn is_installed(package: &Package) -> bool {
    let mut query = Command::new("dpkg-query");
    let output = query.args(["--show", "--showformat=${db:Status-Status}", package.name]).output().unwrap();
    output.stdout == b"installed"
}

#[test]
fn apt_get_installs_what_it_may_and_nothing_else() {
    let mut enforcer = Enforcer::ready();
    let _unit = UnitFile::unit(UNIT, UNIT_FILE);
    let _repository = Repository::create();
    if baseline_only() {
        units::tell("start", &installing(&IMPLANT));
        assert!(is_installed(&IMPLANT) && fs::exists("/usr/bin/implant").unwrap());
        return;
    }
    let mark = enforcer.mark();
    enforcer.apply_files(&[policy_file("apt-get", POLICY)]);
    units::tell("start", &installing(&REPORT));
    assert_no_denials(&mut enforcer, mark, "of apt-get");
    assert!(is_installed(&REPORT));
    assert_eq!(fs::read_to_string("/opt/report/state/configured").unwrap(), "configure\n");
    assert!(!fs::exists("/opt/report/state/unpacking").unwrap(), "the scripts ran in order");
    let output = Command::new("/opt/report/bin/report").output().unwrap();
    assert_eq!(output.stdout, b"report\n");

    let mark = enforcer.mark();
    let unit = installing(&IMPLANT);
    let output = units::systemctl(&["start", &unit]);
    assert!(!output.status.success(), "the implant was installed: {}", units::state(&unit));
    assert!(!is_installed(&IMPLANT) && !fs::exists("/usr/bin/implant").unwrap());
    assert!(!fs::exists("/opt/report/state/implant-was-here").unwrap(), "its script ran a program");
    let events = enforcer.events_since(mark);
    let refused = |family: Family, path: &str| {
        let same = |event: &Event| {
            event.text("family") == family.name()
                && event.object("path") == path
                && event.text("unit") == unit
        };
        assert!(events.iter().any(same), "no refusal of {path}:\n{}", lines(&events));
    };
    refused(Family::Exec, "/usr/bin/busybox");
    refused(Family::File, "/usr/bin/implant.dpkg-new");
    let _ = units::systemctl(&["reset-failed", &unit]);
}
