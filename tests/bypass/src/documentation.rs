//! `docs/bypasses.md` is made from the attacks themselves.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use enforcer_common::hook::Hook;

use crate::attack::Attack;
use crate::attacks::GROUPS;

const BEGINNING: &str = "\
# Bypasses

Ways around an allowlist that somebody has thought of, and what stops each. Every line is a test in `tests/bypass`: real
code that first succeeds without enforcement, then under a policy that allows it, and is then refused with exactly the
event told here, on every kernel of the matrix that has what the attack needs. All are tried as root with every
capability; *as user*: also without any.

This file is made from the attacks themselves; a host test compares. After a change:

```
ENFORCER_BLESS=1 cargo test -p enforcer-bypass-tests --lib
```
";

/// One line of a table: an attack, or all of its rows that are refused alike.
fn lines(group: &str, attack: &Attack) -> Vec<String> {
    let mut verdicts: Vec<(&str, &str)> = Vec::new();
    for case in (attack.rows)() {
        for (hook, _, reason) in case.refusals() {
            let verdict = (hook, reason.name());
            if !verdicts.contains(&verdict) {
                verdicts.push(verdict);
            }
        }
    }
    let file = attack.name.replace('-', "_");
    let user = if attack.ordinary { "yes" } else { "" };
    let line = |(hook, reason): (&str, &str)| {
        format!(
            "| {} | `{hook}` | {reason} | {} | {user} | [{}](../tests/bypass/src/attacks/{group}/{file}.rs) |",
            attack.told,
            attack.kernels.text(),
            attack.name,
        )
    };
    verdicts.into_iter().map(line).collect()
}

fn text() -> String {
    let mut text = BEGINNING.to_owned();
    for (group, attacks) in GROUPS {
        let _ = write!(
            text,
            "\n## {}{}\n\n| Attack, in the attacker's words | Refused at | Reason | Kernels | As user | Test |\n\
             |---|---|---|---|---|---|\n",
            group[..1].to_uppercase(),
            &group[1..]
        );
        for line in attacks.iter().flat_map(|attack| lines(group, attack)) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_table_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bypasses.md");
    let wanted = text();
    if std::env::var_os("ENFORCER_BLESS").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "docs/bypasses.md is not what the attacks say: ENFORCER_BLESS=1 rewrites it");
}

#[test]
fn every_file_is_an_attack_and_named_after_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/attacks");
    for (group, attacks) in GROUPS {
        let files = std::fs::read_dir(directory.join(group)).unwrap();
        let stems =
            files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
        let files: BTreeSet<String> = stems.filter(|stem| stem != "mod").collect();
        let names: BTreeSet<String> = attacks.iter().map(|attack| attack.name.replace('-', "_")).collect();
        assert_eq!(files, names, "{group}");
    }
    let names: Vec<&str> =
        GROUPS.iter().flat_map(|(_, attacks)| attacks.iter()).map(|attack| attack.name).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len(), "two attacks have one name");
}

#[test]
fn what_is_tested_names_hooks_that_we_have() {
    for attack in GROUPS.iter().flat_map(|(_, attacks)| attacks.iter()) {
        for (hook, ..) in (attack.rows)().iter().flat_map(|case| case.refusals()) {
            assert!(Hook::from_name(hook).is_some(), "{}: no hook {hook}", attack.name);
        }
    }
}
