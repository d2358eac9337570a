//! Everything that is refused on a machine where a policy is in force: each leaves the kernel's maps as they are, byte for
//! byte, and the log of events says why. What a refusal depends on in detail is tested with an emulated TPM on the host
//! (`enforcer/tests/admission`); here it is tried from the command line to the maps.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use enforcer::bundle::anchors::DEFAULT_SLOT;
use enforcer_vm_tests::{
    cgroup::Cgroup,
    policy::Policy,
    tpm::Tpm,
    trust::{ANCHORS, done},
    wait,
};
use serde_json::Value;

use super::{ALLOWED, authority, bundle, copy, json, log, sign, survives};

/// Where this boot's count of the TPM's resets is noted.
const BOOT: &str = "/run/enforcer/boot.json";
/// Anchors that differ from the machine's.
const OTHER_ANCHORS: &str = "/etc/enforcer/other-anchors.toml";

/// The state that the machine booted into.
const OLD: &str = "old=/share/old.json";

/// Tries them all. `first` is the bundle in force, version 1.
pub(super) fn all(first: &Path, cgroup: &Cgroup) {
    what_was_changed(first);
    what_others_signed(first, cgroup);
    what_is_for_others(cgroup);
    what_the_machine_does_not_trust(first);
    a_tpm_that_was_reset(first);
    a_slot_that_is_gone(first);
}

fn refused(reason: &str, directory: &Path) -> String {
    survives(reason, &[directory.to_str().unwrap()])
}

/// A copy of a bundle's directory with something done to it.
fn altered(from: &Path, name: &str, alter: impl FnOnce(&Path)) -> PathBuf {
    let directory = bundle(name);
    copy(from, &directory);
    alter(&directory);
    directory
}

/// A copy of a bundle whose signatures' file is another.
fn edited(from: &Path, name: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
    altered(from, name, |directory| {
        let file = directory.join("app.pcrsig.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        edit(&mut value);
        fs::write(file, serde_json::to_vec(&value).unwrap()).unwrap();
    })
}

/// Another letter in the middle of a base64 text, which stays one.
fn flip(text: &mut Value) {
    let mut letters = text.as_str().unwrap().to_owned().into_bytes();
    let middle = letters.len() / 2;
    letters[middle] = if letters[middle] == b'A' { b'B' } else { b'A' };
    *text = String::from_utf8(letters).unwrap().into();
}

fn what_was_changed(first: &Path) {
    let tampered = altered(first, "tampered", |directory| {
        let file = directory.join("app.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace(ALLOWED, super::SECRET)).unwrap();
    });
    refused("subject", &tampered);
    let extra = altered(first, "extra", |directory| {
        fs::copy(directory.join("app.toml"), directory.join("more.toml")).unwrap();
    });
    refused("unsigned-file", &extra);
    refused(
        "subject-missing",
        &altered(first, "missing", |directory| {
            fs::remove_file(directory.join("app.toml")).unwrap();
        }),
    );
    let unsigned = altered(first, "unsigned", |directory| {
        fs::remove_file(directory.join("app.pcrsig.json")).unwrap();
    });
    survives("unsigned", &["--insecure-unsigned", unsigned.to_str().unwrap()]);
    refused(
        "malformed",
        &altered(first, "torn", |directory| {
            let file = directory.join("app.pcrsig.json");
            let bytes = fs::read(&file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
    );
    refused(
        "payload-type",
        &edited(first, "type", |file| file["dsseEnvelope"]["payloadType"] = "text/plain".into()),
    );
    refused("signatures", &edited(first, "payload", |file| flip(&mut file["dsseEnvelope"]["payload"])));
    refused(
        "signatures",
        &edited(first, "sig", |file| flip(&mut file["dsseEnvelope"]["signatures"][0]["sig"])),
    );
}

/// Signs like [`sign`], but says everything itself.
fn sign_as(name: &str, version: u64, cgroup: &Cgroup, arguments: &[&str]) -> PathBuf {
    let directory = bundle(name);
    fs::create_dir_all(&directory).unwrap();
    let policy = Policy::of("app", cgroup).allow("file.read", ALLOWED);
    fs::write(directory.join("app.toml"), policy.to_toml()).unwrap();
    let (version, slot) = (version.to_string(), authority().file("slot.key"));
    let always = ["--version", &version, "--slot-key", &slot, "--pcr", "4,7,9"];
    done(&[&["sign", directory.to_str().unwrap()][..], &always, arguments].concat());
    directory
}

fn what_others_signed(first: &Path, cgroup: &Cgroup) {
    let (ops, on_call, stranger) =
        (authority().file("ops.key"), authority().file("oncall.key"), authority().file("stranger.key"));
    done(&["key", "gen", &stranger]);
    let signed_by =
        |name: &str, key: &str| sign_as(name, 2, cgroup, &["--policy", "app", "--bind", OLD, "--key", key]);
    refused("signatures", &signed_by("stranger", &stranger));
    refused("key-role", &signed_by("oncall", &on_call));
    let unapproved = signed_by("unapproved", &ops);
    refused(
        "not-approved",
        &edited(&unapproved, "no-approval", |file| {
            file["tpmApprovals"] = Value::Array(Vec::new());
        }),
    );
    refused(
        "not-approved",
        &edited(&unapproved, "approval", |file| flip(&mut file["tpmApprovals"][0]["sig"])),
    );
    // Two of two have to sign: first one did, then both.
    let security = authority().file("security.key");
    done(&["key", "gen", &security]);
    let public = fs::read_to_string(authority().file("security.key.pub")).unwrap();
    with_anchors(|text| {
        format!(
            "threshold = 2\n{}\n[keys.security]\nrole = \"policy\"\npublic = \"\"\"\n{public}\"\"\"\n",
            without(text, "threshold")
        )
    });
    let both = |directory: &Path| directory.to_str().unwrap().to_owned();
    survives("signatures", &["--anchors", OTHER_ANCHORS, &both(first)]);
    let by_both = altered(first, "both", |directory| {
        let file = directory.join("app.pcrsig.json");
        done(&["sign", "--add-to", file.to_str().unwrap(), "--key", &security]);
    });
    done(&["verify", &both(&by_both), "--anchors", OTHER_ANCHORS]);
}

fn what_is_for_others(cgroup: &Cgroup) {
    let ops = authority().file("ops.key");
    let usual = ["--policy", "app", "--bind", OLD, "--key", &ops];
    refused("other-policy", &sign_as("policy", 2, cgroup, &["--policy", "db", "--bind", OLD, "--key", &ops]));
    let ak_name = format!("000b{}", "11".repeat(32));
    refused("other-machine", &sign("machine", 2, cgroup, &[OLD], &["--ak-name", &ak_name]));
    let expired = [&usual[..], &["--not-after", "2020-01-01T00:00:00Z"]].concat();
    refused("expired", &sign_as("expired", 2, cgroup, &expired));
    let mut state: Value = serde_json::from_slice(&fs::read("/share/old.json").unwrap()).unwrap();
    state["pcrs"]["7"] = "77".repeat(32).into();
    fs::write("/share/nowhere.json", state.to_string()).unwrap();
    let elsewhere = ["--policy", "app", "--bind", "nowhere=/share/nowhere.json", "--key", &ops];
    let said = refused("platform-state", &sign_as("elsewhere", 2, cgroup, &elsewhere));
    assert!(said.contains("state nowhere: PCR 7"), "{said}");
    // The version that is in force, with other contents.
    let same = [&usual[..], &["--not-after", "2099-01-01T00:00:00Z"]].concat();
    let said = refused("rollback", &sign_as("same", 1, cgroup, &same));
    assert!(said.contains("other contents"), "{said}");
}

/// Writes anchors that differ from the machine's.
fn with_anchors(edit: impl FnOnce(&str) -> String) {
    fs::write(OTHER_ANCHORS, edit(&fs::read_to_string(ANCHORS).unwrap())).unwrap();
}

fn without(text: &str, name: &str) -> String {
    let other = |line: &&str| line.split('=').next().unwrap().trim() != name;
    text.lines().filter(other).map(|line| format!("{line}\n")).collect()
}

/// The pin of this name with its last digit changed.
fn repinned(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    let (start, digit) = line.trim_end_matches('"').split_at(line.len() - 2);
    text.replace(line, &format!("{start}{}\"", if digit == "0" { "1" } else { "0" }))
}

fn what_the_machine_does_not_trust(first: &Path) {
    let first = first.to_str().unwrap();
    let refused = |reason: &str, edit: &dyn Fn(&str) -> String| {
        with_anchors(edit);
        survives(reason, &["--anchors", OTHER_ANCHORS, first])
    };
    refused("anchors", &|_| "threshold = ".into());
    refused("other-tpm", &|text| repinned(text, "ek_sha256"));
    refused("other-ak", &|text| repinned(text, "ak_name"));
    refused("not-enrolled", &|text| without(text, "ak_name"));
    refused("tpm-absent", &|text| text.replace("[tpm]\n", "[tpm]\ntcti = \"device:/dev/tpm-none\"\n"));
    refused("needs-tpm", &|text| text.replace("mode = \"require\"", "mode = \"off\""));
}

/// A guest cannot reset its TPM; that it was reset shows in its count, which is compared with the boot's.
fn a_tpm_that_was_reset(first: &Path) {
    let (noted, mark) = (fs::read(BOOT).unwrap(), log().mark());
    let mut boot: Value = serde_json::from_slice(&noted).unwrap();
    let count = boot["reset_count"].as_u64().unwrap();
    boot["reset_count"] = (count + 1).into();
    fs::write(BOOT, boot.to_string()).unwrap();
    refused("tpm-reset", first);
    // The daemon notices by itself.
    let alarm = wait::until("the alarm about the reset", Duration::from_secs(60), || {
        log().admissions_since(mark).into_iter().find(|event| event.text("result") == "alarm")
    });
    assert_eq!((alarm.text("reason"), alarm.text("consequence")), ("tpm-reset", "unchanged"));
    fs::write(BOOT, noted).unwrap();
    wait::until("the alarm to end", Duration::from_secs(60), || {
        let status = json(&["status", "--format", "json"]);
        (!status["problems"].to_string().contains("ALARM")).then_some(())
    });
}

/// Root can remove the slot; that is noticed, and so is another index in its place. Enrolling anew is the way out.
fn a_slot_that_is_gone(first: &Path) {
    let mut tpm = Tpm::open();
    tpm.forget(DEFAULT_SLOT);
    refused("slot-missing", first);
    tpm.remember(DEFAULT_SLOT, &[0; 40]);
    refused("slot-replaced", first);
    drop(tpm);
    assert_eq!(json(&["tpm", "status", "--format", "json"])["well"], false);
    done(&["tpm", "enroll", "--replace"]);
    done(&["apply", first.to_str().unwrap()]);
}
