//! Large policies: one program; of a hundred further rules 97 are names, two patterns, and one is a network.

use std::fmt::Write as _;

/// A policy.
#[derive(Clone, Copy, Debug)]
pub struct Large<'a> {
    /// Its name.
    pub name: &'a str,
    /// The cgroup that it is for.
    pub cgroup: &'a str,
    /// Where its files are. Policies with the same root have the same rules.
    pub root: &'a str,
    /// How many rules it has.
    pub rules: usize,
    /// Part of a tenth of the names, so that two versions differ throughout.
    pub version: usize,
}

impl Large<'_> {
    /// The policy file. Each rule has a line of its own.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let Self { name, cgroup, root, rules, version } = *self;
        let mut text = format!(
            "policy = \"{name}\"\n\n[workload]\ncgroup = \"{cgroup}\"\n\n\
             [exec]\nallow = [\n    \"/usr/bin/app\",\n]\n\n[file]\nread = [\n"
        );
        let of = |wanted: fn(usize) -> bool| (0..rules).filter(move |rule| wanted(*rule));
        for rule in of(is_name) {
            let _ = writeln!(text, "    \"{}\",", file(root, rule, version));
        }
        for rule in of(is_pattern) {
            let _ = writeln!(text, "    \"{}\",", pattern(root, rule));
        }
        text.push_str("]\n\n[network]\nconnect = [\n");
        for rule in of(is_network) {
            let [_, second, third, _] = network(rule);
            let _ = writeln!(text, "    \"tcp 10.{second}.{third}.0/24:443\",");
        }
        text.push_str("]\n");
        text
    }
}

/// The rule that lets the program start.
const PROGRAM: usize = 0;

/// Whether this rule is a file's name.
#[must_use]
pub const fn is_name(rule: usize) -> bool {
    !is_pattern(rule) && !is_network(rule) && rule != PROGRAM
}

/// Whether this rule is a pattern.
#[must_use]
pub const fn is_pattern(rule: usize) -> bool {
    matches!(rule % 100, 7 | 57)
}

/// Whether this rule is a network.
#[must_use]
pub const fn is_network(rule: usize) -> bool {
    rule % 100 == 11
}

/// The file that a rule names.
#[must_use]
pub fn file(root: &str, rule: usize, version: usize) -> String {
    let version = if rule.is_multiple_of(10) { version } else { 0 };
    format!("{root}/lib/part-{:03}/file-{rule:06}.{version}", rule % 251)
}

fn pattern(root: &str, rule: usize) -> String {
    if rule % 100 == 7 {
        format!("{root}/tenants/t{rule}/**")
    } else {
        format!("{root}/plugins/p{rule}/*.so")
    }
}

/// A file that only the pattern of a rule allows.
#[must_use]
pub fn matching(root: &str, rule: usize) -> String {
    if rule % 100 == 7 {
        format!("{root}/tenants/t{rule}/data/2024/records.db")
    } else {
        format!("{root}/plugins/p{rule}/codec-for-audio.so")
    }
}

/// A file that no rule allows, although it looks like those that are allowed.
#[must_use]
pub fn unlisted(root: &str, rule: usize) -> String {
    format!("{root}/lib/part-{:03}/file-{rule:06}.x", rule % 251)
}

/// An address in the network of a rule.
#[must_use]
pub fn network(rule: usize) -> [u8; 4] {
    let [low, high, ..] = (rule / 100).to_le_bytes();
    [10, high, low, 17]
}

/// The rules as lines, in an order that has nothing to do with the alphabet: what sorting is timed with.
#[must_use]
pub fn shuffled_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // Fisher and Yates with a fixed sequence, so that every run sorts the same.
    let mut state: u64 = 1;
    for last in (1..lines.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(state >> 33).unwrap_or(0) % (last + 1);
        lines.swap(last, other);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(rules: usize) -> String {
        Large { name: "large", cgroup: "/large", root: "/srv", rules, version: 0 }.to_toml()
    }

    #[test]
    fn a_policy_has_as_many_rules_as_asked_for() {
        for rules in [20, 1000] {
            let listed = large(rules).lines().filter(|line| line.starts_with("    \"")).count();
            assert_eq!(listed, rules);
        }
        assert!(large(1000).contains("\"tcp 10.0.9.0/24:443\""));
    }

    #[test]
    fn shuffling_loses_nothing() {
        let text = large(1000);
        let mut shuffled = shuffled_lines(&text);
        let mut lines: Vec<_> = text.lines().collect();
        assert_ne!(shuffled, lines);
        shuffled.sort();
        lines.sort_unstable();
        assert_eq!(shuffled, lines);
    }
}
