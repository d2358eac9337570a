//! Whatever is wrong with an input, the policy in force stays as it is, byte for byte.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use enforcer_common::maps;
use enforcer_vm_tests::actor::{self, Place, op};
use enforcer_vm_tests::cgroup::Cgroup;
use enforcer_vm_tests::enforcer::{Enforcer, SCRATCH, baseline_only, shown, write_policy};
use enforcer_vm_tests::pins;
use enforcer_vm_tests::policy::Policy;
use enforcer_vm_tests::random::Random;

/// Inputs, by name, and a word that the error must contain beside the file's name.
fn inputs(cgroup: &Cgroup) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = Policy::of("refused", cgroup).allow("file.read", "/tmp/vm-tests/refused").to_toml();
    let mut random = Random::seeded();
    let garbage: Vec<u8> = (0..4096).map(|_| random.number().to_le_bytes()[0]).collect();
    vec![
        ("malformed.toml", good.replace("[workload]", "[workload").into_bytes(), "workload"),
        ("truncated.toml", good.as_bytes()[..good.len() - 20].to_vec(), "truncated.toml"),
        ("garbage.toml", garbage, "UTF-8"),
        ("nul.toml", vec![0; 100], "TOML"),
        ("empty.toml", Vec::new(), "policy"),
        ("unknown-key.toml", format!("{good}\n[filee]\nread = []\n").into_bytes(), "filee"),
        ("wrong-type.toml", good.replace("\"enforce\"", "7").into_bytes(), "default"),
        ("no-workload.toml", b"policy = \"p\"\n[exec]\nallow = [\"/bin/sh\"]\n".to_vec(), "workload"),
        ("relative.toml", format!("{good}\n[memory]\nlibraries = [\"lib/x.so\"]\n").into_bytes(), "lib/x.so"),
        ("bad-glob.toml", format!("{good}\n[memory]\nlibraries = [\"/lib/[x\"]\n").into_bytes(), "/lib/[x"),
        (
            "bad-port.toml",
            format!("{good}\n[network]\nconnect = [\"tcp 1.2.3.4:99999\"]\n").into_bytes(),
            "99999",
        ),
        ("twice.toml", good.replace("refused\"", "sentinel\"").into_bytes(), "sentinel"),
    ]
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("refused");
    if baseline_only() {
        return;
    }
    let standing = Standing::install(&mut enforcer, &cgroup);
    let directory = Path::new(SCRATCH).join("broken");
    fs::create_dir_all(&directory).unwrap();
    for (name, content, word) in inputs(&cgroup) {
        let file = directory.join(name);
        fs::write(&file, content).unwrap();
        standing.survives(&enforcer, name, &[file], word);
    }
    standing.survives(&enforcer, "missing", &[directory.join("missing.toml")], "missing.toml");
    standing.survives(&enforcer, "a directory", std::slice::from_ref(&directory), "broken");
    // A good file in bad company is not installed either.
    let good = write_policy(&Policy::of("good-company", &cgroup.child("other")));
    standing.survives(&enforcer, "bad company", &[good, directory.join("malformed.toml")], "malformed.toml");
}

#[test]
fn a_policy_too_large_for_the_maps_changes_nothing() {
    let mut enforcer = Enforcer::ready();
    let cgroup = Cgroup::create("refused");
    if baseline_only() {
        return;
    }
    let standing = Standing::install(&mut enforcer, &cgroup);
    let directory = Path::new(SCRATCH).join("large-files");
    fs::create_dir_all(&directory).unwrap();
    for (name, text) in [
        ("prefixes.toml", many_prefixes(&cgroup, pins::capacity(maps::PREFIXES))),
        ("ports.toml", many_ports(&cgroup, pins::capacity(maps::PORTS))),
    ] {
        let file = directory.join(name);
        fs::write(&file, text).unwrap();
        standing.survives(&enforcer, name, &[file], "room");
    }
}

fn header(cgroup: &Cgroup) -> String {
    Policy::of("too-large", cgroup).to_toml() + "\n[network]\nconnect = [\n"
}

fn many_prefixes(cgroup: &Cgroup, capacity: u32) -> String {
    let mut text = header(cgroup);
    for index in 0..=capacity {
        let [_, a, b, c] = index.to_be_bytes();
        let _ = writeln!(text, "\"tcp 10.{a}.{b}.{c}:80\",");
    }
    text + "]\n"
}

fn many_ports(cgroup: &Cgroup, capacity: u32) -> String {
    let mut text = header(cgroup);
    // Each address has as many ranges as can lie apart from each other in some thousand ports.
    let per_address = 1000;
    for index in 0..=capacity {
        let (address, range) = (index / per_address, index % per_address);
        let [_, a, b, c] = address.to_be_bytes();
        let _ = writeln!(text, "\"tcp 11.{a}.{b}.{c}:{}\",", 1 + 2 * range);
    }
    text + "]\n"
}

/// A policy in force, and proof that it is.
struct Standing<'a> {
    cgroup: &'a Cgroup,
    listed: String,
    unlisted: String,
}

impl<'a> Standing<'a> {
    fn install(enforcer: &mut Enforcer, cgroup: &'a Cgroup) -> Self {
        let listed = format!("{SCRATCH}/refused-listed");
        let unlisted = format!("{SCRATCH}/refused-unlisted");
        for file in [&listed, &unlisted] {
            fs::write(file, "").unwrap();
        }
        enforcer.apply(&[&Policy::of("standing", cgroup).allow("file.read", &listed)]);
        let standing = Self { cgroup, listed, unlisted };
        standing.holds("at first");
        standing
    }

    fn holds(&self, when: &str) {
        let ops = [op(&["open-read", &self.listed]), op(&["open-read", &self.unlisted])];
        let reports = actor::run(Place::Joining(self.cgroup), &ops).unwrap();
        assert!(reports[0].ok && reports[1].refused(), "{when}: {reports:?}");
    }

    fn survives(&self, enforcer: &Enforcer, name: &str, files: &[PathBuf], word: &str) {
        let before = pins::policy_maps();
        let output = enforcer.try_apply(files);
        let after = pins::policy_maps();
        assert!(!output.status.success(), "{name} was accepted: {}", shown(&output));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(word), "{name}: the error does not say {word:?}: {}", shown(&output));
        assert!(!said.contains("panicked"), "{name}: {}", shown(&output));
        for (map, dump) in &before {
            assert!(*dump == after[map], "{name}: map {map} has changed");
        }
        self.holds(name);
    }
}
