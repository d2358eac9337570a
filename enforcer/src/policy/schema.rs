//! The tables and keys of a policy file: the one list that the parser, its suggestions, [`super::suggest`] and the
//! reference documentation go by.

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A string.
    Text,
    /// `true` or `false`.
    Switch,
    /// An array of strings.
    List,
    /// An array of strings, and of tables with the keys [`PROGRAM_KEYS`].
    Programs,
    /// A string or an array of strings.
    OneOrMore,
    /// A table.
    Table,
}

impl Type {
    /// What to call it, with an example.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Switch => "`true` or `false`",
            Self::List => "an array of strings",
            Self::Programs => "an array of strings and of `{ path = …, sha256 = … }`",
            Self::OneOrMore => "a string or an array of strings",
            Self::Table => "a table",
        }
    }
}

/// A key: its table (empty at the top), its name, and its type.
pub type Key = (&'static str, &'static str, Type);

/// Every key there is.
pub const KEYS: &[Key] = &[
    ("", "policy", Type::Text),
    ("", "description", Type::Text),
    ("", "workload", Type::Table),
    ("", "mode", Type::Table),
    ("", "exec", Type::Table),
    ("", "memory", Type::Table),
    ("", "file", Type::Table),
    ("", "network", Type::Table),
    ("", "interpreters", Type::Table),
    ("", "privileges", Type::Table),
    ("workload", "unit", Type::OneOrMore),
    ("workload", "slice", Type::OneOrMore),
    ("workload", "cgroup", Type::OneOrMore),
    ("workload", "container", Type::Table),
    ("workload", "container-roots", Type::OneOrMore),
    ("workload.container", "image", Type::OneOrMore),
    ("workload.container", "service-account", Type::OneOrMore),
    ("workload.container", "namespace", Type::OneOrMore),
    ("workload.container", "container", Type::OneOrMore),
    ("workload.container", "name", Type::OneOrMore),
    ("workload.container", "labels", Type::Table),
    ("mode", "default", Type::Text),
    ("mode", "exec", Type::Text),
    ("mode", "memory", Type::Text),
    ("mode", "file", Type::Text),
    ("mode", "network", Type::Text),
    ("mode", "privilege", Type::Text),
    ("exec", "allow", Type::Programs),
    ("exec", "probes", Type::List),
    ("exec", "unlinked", Type::Switch),
    ("memory", "libraries", Type::List),
    ("memory", "anonymous", Type::Switch),
    ("file", "read", Type::List),
    ("file", "write", Type::List),
    ("file", "create", Type::List),
    ("file", "unlinked", Type::Switch),
    ("network", "connect", Type::List),
    ("network", "bind", Type::List),
    ("network", "families", Type::List),
    ("network", "raw", Type::Switch),
    ("interpreters", "programs", Type::List),
    ("interpreters", "code", Type::List),
    ("interpreters", "options", Type::List),
    ("interpreters", "environment", Type::List),
    ("privileges", "allow", Type::List),
];

/// Keys of a program that is pinned to contents.
pub const PROGRAM_KEYS: &[&str] = &["path", "sha256", "fsverity"];

/// The type of a key, if there is such a key.
#[must_use]
pub fn type_of(table: &str, key: &str) -> Option<Type> {
    KEYS.iter().find(|(in_table, name, _)| *in_table == table && *name == key).map(|(.., kind)| *kind)
}

/// The keys of a table.
pub fn keys_of(table: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(move |(in_table, ..)| *in_table == table).map(|(_, name, _)| *name)
}

/// What to do about a key that does not exist.
#[must_use]
pub fn advice(table: &str, key: &str) -> String {
    if matches!(key, "deny" | "block" | "forbid" | "exclude" | "except" | "ignore") {
        return "there are no deny rules: whatever no rule allows is refused, so allow less".to_owned();
    }
    if let Some(close) = closest(key, keys_of(table)) {
        return format!("did you mean `{close}`?");
    }
    let elsewhere = KEYS.iter().find(|(in_table, name, _)| *name == key && *in_table != table);
    match elsewhere {
        Some(("", ..)) => format!("`{key}` stands at the top of the file, before the first [table]"),
        Some((in_table, ..)) => format!("`{key}` belongs in [{in_table}]"),
        None => {
            let known: Vec<_> = keys_of(table).collect();
            let place = if table.is_empty() { "at the top".to_owned() } else { format!("in [{table}]") };
            format!("{place} can stand: {}", known.join(", "))
        }
    }
}

/// The word of `known` that `word` was probably meant to be.
#[must_use]
pub fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The distance is quadratic in the length, and nobody mistypes at length.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    known
        .map(|candidate| {
            let abbreviated = word.len() > 2 && (candidate.starts_with(&word) || word.starts_with(candidate));
            let distance = if abbreviated { 1 } else { strsim::osa_distance(&word, candidate) };
            (distance, candidate)
        })
        .filter(|(distance, candidate)| distance * 3 <= candidate.len().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        let table = [
            ("", "net", "did you mean `network`?"),
            ("", "privilege", "did you mean `privileges`?"),
            ("file", "raed", "did you mean `read`?"),
            ("file", "reads", "did you mean `read`?"),
            ("exec", "read", "`read` belongs in [file]"),
            ("exec", "policy", "`policy` stands at the top of the file, before the first [table]"),
            ("exec", "deny", "there are no deny rules: whatever no rule allows is refused, so allow less"),
            ("exec", "qqqq", "in [exec] can stand: allow, probes, unlinked"),
        ];
        for (table, key, expected) in table {
            assert_eq!(advice(table, key), expected, "[{table}] {key}");
        }
        assert_eq!(closest(&"x".repeat(10_000), keys_of("")), None);
    }
}
