//! `docs/policy-reference.md` and the code name the same things.

use std::collections::BTreeSet;

use enforcer::policy::{
    compile::compile,
    diagnostics::{Code, Style},
    families,
    glob::Glob,
    net::Protocol,
    parse::parse,
    schema::{KEYS, Type},
    source::Source,
};
use enforcer_common::{
    hook::Privilege,
    verdict::{Family, Mode},
};

const REFERENCE: &str = include_str!("../../docs/policy-reference.md");

/// The text of a section, by its heading.
fn section(heading: &str) -> &'static str {
    let start =
        REFERENCE.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let text = &REFERENCE[start + 4..];
    text.find("\n## ").map_or(text, |end| &text[..end])
}

/// Words in backquotes.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words in backquotes in the first cell of each row of a table.
fn first_cells(text: &'static str) -> BTreeSet<&'static str> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| code(row.split('|').nth(1).unwrap_or_default())).collect()
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    names.collect()
}

#[test]
fn keys() {
    let documented: BTreeSet<String> =
        first_cells(section("A whole policy")).into_iter().map(str::to_owned).collect();
    let keys = KEYS.iter().filter(|(_, _, kind)| *kind != Type::Table);
    let known: BTreeSet<String> = keys
        .map(|(table, key, _)| if table.is_empty() { (*key).to_owned() } else { format!("{table}.{key}") })
        .collect();
    assert_eq!(documented, known);
    for (inside, table, _) in KEYS.iter().filter(|(_, _, kind)| *kind == Type::Table) {
        let table = if inside.is_empty() { (*table).to_owned() } else { format!("{inside}.{table}") };
        assert!(REFERENCE.contains(&format!("`[{table}]`")), "{table}");
    }
}

#[test]
fn privileges() {
    let known = names(Privilege::ALL.iter().map(|privilege| privilege.name()));
    assert_eq!(first_cells(section("Privileged doors: `[privileges]`")), known);
}

#[test]
fn socket_families() {
    let text = section("Network: `[network]`");
    let start = text.find("`unix`, `inet`").expect("the list of families");
    let list = text[start..].split("\n\n").next().expect("its end");
    assert_eq!(names(code(list)), names(families::NAMES.iter().map(|(name, _)| *name)));
}

#[test]
fn protocols_modes_and_families() {
    let network = first_cells(section("Network: `[network]`"));
    for (_, name) in Protocol::NAMES {
        assert!(network.contains(name), "{name}");
    }
    let modes = section("How strictly: `[mode]`");
    assert_eq!(first_cells(modes), names(Mode::ALL.iter().map(|mode| mode.name())));
    for family in Family::ALL {
        assert!(modes.contains(&format!("`{family}`")), "{family}");
    }
}

#[test]
fn diagnostic_codes() {
    assert_eq!(first_cells(section("Mistakes")), names(Code::ALL.iter().map(|code| code.name())));
}

/// The tables of patterns say what the matcher does.
#[test]
fn patterns() {
    let rows = section("Patterns").lines().filter(|line| line.starts_with("| `/"));
    let mut count = 0;
    for row in rows {
        let cells: Vec<Vec<&str>> = row.split('|').skip(1).map(|cell| code(cell).collect()).collect();
        let glob = Glob::path(cells[0][0]).unwrap_or_else(|error| panic!("{row}: {error:?}"));
        for (names, expected) in [(&cells[1], true), (&cells[2], false)] {
            for name in names {
                assert_eq!(glob.matches_naively(name.as_bytes()), Some(expected), "{row} on {name}");
            }
        }
        count += 1;
    }
    assert!(count > 5);
}

/// Every policy in the document compiles as it stands.
#[test]
fn examples() {
    let examples: Vec<&str> =
        REFERENCE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for text in examples {
        let source = Source::new("example.toml", text).expect("text");
        let parsed = parse(&source);
        assert!(parsed.diagnostics.is_empty(), "{}", parsed.diagnostics.render(&source, Style::Plain));
        compile(&parsed.policy.expect("no errors")).expect("fits");
    }
}
