//! What to write into a policy so that it allows a request: the least that does.

use std::fmt;

use enforcer_common::{
    environment,
    net::Direction,
    rights::Rights,
    verdict::{Decision, Reason},
};

use super::{
    digest::Pinned,
    families::SocketFamily,
    glob::Glob,
    model::{OBJECT_LISTS, Switch},
    net::Protocol,
    parse::{pinned_entry, quoted},
    question::{Question, address_text},
};

/// One line of TOML, and the table it belongs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The table.
    pub table: &'static str,
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// What to do with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Add this to its list.
    Entry(String),
    /// Add this program with this content to its list.
    Pinned(String, Pinned),
    /// Set it to `true`.
    On,
}

impl Suggestion {
    const fn entry(table: &'static str, key: &'static str, entry: String) -> Self {
        Self { table, key, value: Value::Entry(entry) }
    }

    fn switch(switch: Switch) -> Self {
        let (table, key) = switch.key();
        Self { table, key, value: Value::On }
    }

    /// The line without its table: `read = ["/etc/shadow"]`.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.value {
            Value::Entry(entry) => format!("{} = [{}]", self.key, quoted(entry)),
            Value::Pinned(path, content) => {
                let entry = pinned_entry(path, std::slice::from_ref(content)).unwrap_or_default();
                format!("{} = [{entry}]", self.key)
            }
            Value::On => format!("{} = true", self.key),
        }
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.table, self.line())
    }
}

/// What would allow the request. Empty when nothing a policy can say would.
#[must_use]
pub fn suggest(question: &Question) -> Vec<Suggestion> {
    match question {
        Question::Object { name, needed } => object(name, *needed),
        // One digest is enough; where there is an fs-verity digest, the policy goes by such.
        Question::Content { name, known } => {
            let pinned = |content| Value::Pinned(Glob::escape(name), content);
            let suggestion = |value| Suggestion { table: "exec", key: "allow", value };
            known.pins().next().map(pinned).map(suggestion).into_iter().collect()
        }
        Question::Unnamed { why: Reason::Unlinked, needed, .. } => {
            let is_code = needed.0 & (Rights::EXEC.0 | Rights::PROBE.0 | Rights::LIBRARY.0) != 0;
            vec![Suggestion::switch(if is_code { Switch::UnlinkedExec } else { Switch::UnlinkedFiles })]
        }
        Question::Unnamed { .. } => Vec::new(),
        Question::AnonymousExec => vec![Suggestion::switch(Switch::AnonymousExec)],
        Question::Address { address, port, flow } => {
            let key = match Protocol::of_flow(*flow) {
                Some((_, Direction::Bind)) => "bind",
                _ => "connect",
            };
            vec![Suggestion::entry("network", key, address_text(*address, *port, *flow))]
        }
        Question::Socket { family, raw } => {
            let listed = SocketFamily::from_class(*family);
            let family =
                listed.map(|family| Suggestion::entry("network", "families", family.name().to_owned()));
            let raw = raw.then(|| Suggestion::switch(Switch::RawSockets)).filter(|_| family.is_some());
            family.into_iter().chain(raw).collect()
        }
        Question::Privilege(privilege) => {
            vec![Suggestion::entry("privileges", "allow", privilege.name().to_owned())]
        }
    }
}

/// What would allow the part of the request that a policy does not grant yet.
#[must_use]
pub fn suggest_missing(question: &Question, held: Rights) -> Vec<Suggestion> {
    match question {
        // Whoever pinned the program wants to know what it holds.
        Question::Object { needed, .. }
            if held.contains(Rights::EXEC_PINNED) && needed.missing_from(held) == Rights::EXEC =>
        {
            Vec::new()
        }
        Question::Object { name, needed } => object(name, needed.missing_from(held)),
        _ => suggest(question),
    }
}

/// Why no line of a policy would allow it, where [`suggest`] finds none.
#[must_use]
pub const fn no_suggestion(decision: &Decision) -> &'static str {
    match decision.reason {
        Reason::Unreachable => "no rule can: the file lies on a mount outside the workload's mount namespace",
        Reason::PathTooLong => "no rule can: names end at 4096 bytes",
        Reason::Internal => "no rule can: the enforcer could not find out what was asked",
        Reason::NoPolicy => "install a policy for this workload",
        Reason::Digest => {
            "say what the program holds: `--sha256 DIGEST` or `--fsverity sha256:DIGEST`, or ask where the file is"
        }
        Reason::Unverifiable => "no rule can: pinned programs cannot lie on this file system",
        Reason::Protected => "no rule can: it is the enforcer's own",
        Reason::SocketFamily => "no rule can: policies do not know this socket family",
        _ => "no rule can",
    }
}

fn object(name: &[u8], needed: Rights) -> Vec<Suggestion> {
    let mut left = needed;
    let mut suggestions = Vec::new();
    // Strongest first, because it may imply others.
    if name.starts_with(b"-") {
        let option = String::from_utf8_lossy(name).into_owned();
        return vec![Suggestion::entry("interpreters", "options", option)];
    }
    if let Some(variable) = name.strip_prefix(&[environment::SIGN]) {
        let variable = String::from_utf8_lossy(variable).into_owned();
        return vec![Suggestion::entry("interpreters", "environment", variable)];
    }
    for right in [
        Rights::EXEC,
        Rights::PROBE,
        Rights::LIBRARY,
        Rights::CODE,
        Rights::CREATE,
        Rights::READ,
        Rights::WRITE,
        Rights::INTERPRETER,
    ] {
        if left.contains(right)
            && let Some((table, key, _)) = OBJECT_LISTS.iter().find(|(.., granted)| *granted == right)
        {
            suggestions.push(Suggestion::entry(table, key, Glob::escape(name)));
            left = left.missing_from(right.with_implied());
        }
    }
    for (right, key) in [(Rights::UNIX_CONNECT, "connect"), (Rights::UNIX_BIND, "bind")] {
        if left.contains(right) {
            suggestions.push(Suggestion::entry("network", key, format!("unix {}", Glob::escape(name))));
        }
    }
    suggestions
}

#[cfg(test)]
mod tests {
    use enforcer_common::verdict::Verdict;

    use super::{
        super::{compile::compile, lookup::ImageTables, parse::parse, source::Source},
        *,
    };

    #[test]
    fn lines() {
        let table: &[(&str, &[&str])] = &[
            ("read /etc/shadow", &["[file] read = [\"/etc/shadow\"]"]),
            ("read+write /x", &["[file] read = [\"/x\"]", "[file] write = [\"/x\"]"]),
            ("create+write /x", &["[file] create = [\"/x\"]"]),
            ("exec+read /x", &["[exec] allow = [\"/x\"]"]),
            ("probe /x", &["[exec] probes = [\"/x\"]"]),
            ("library /x.so", &["[memory] libraries = [\"/x.so\"]"]),
            ("code -u", &["[interpreters] options = [\"-u\"]"]),
            ("code $PYTHONPATH", &["[interpreters] environment = [\"PYTHONPATH\"]"]),
            ("code $ENV=a", &["[interpreters] environment = [\"ENV=a\"]"]),
            ("read /a*[b]", &["[file] read = [\"/a\\\\*\\\\[b\\\\]\"]"]),
            ("unix-connect @a b", &["[network] connect = [\"unix @a b\"]"]),
            ("unix-bind /s", &["[network] bind = [\"unix /s\"]"]),
            ("connect tcp 10.0.0.1:443", &["[network] connect = [\"tcp 10.0.0.1:443\"]"]),
            ("bind other [::]:0", &["[network] bind = [\"other [::]:0\"]"]),
            ("socket packet raw", &["[network] families = [\"packet\"]", "[network] raw = true"]),
            ("privilege chroot", &["[privileges] allow = [\"chroot\"]"]),
            ("anonymous-exec", &["[memory] anonymous = true"]),
            ("unlinked exec", &["[exec] unlinked = true"]),
            ("unlinked read", &["[file] unlinked = true"]),
            (
                "content e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 /a b",
                &["[exec] allow = [{ path = \"/a b\", sha256 = \
                   \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" }]"],
            ),
            (
                "content fsverity=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 /a b",
                &["[exec] allow = [{ path = \"/a b\", fsverity = \
                   \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" }]"],
            ),
            ("socket 63", &[]),
        ];
        for (line, expected) in table {
            let question = Question::from_line(line.as_bytes()).unwrap();
            let lines: Vec<String> = suggest(&question).iter().map(ToString::to_string).collect();
            assert_eq!(lines, *expected, "{line}");
            if !expected.is_empty() {
                assert_eq!(verdict_with(&suggest(&question), &question), Verdict::Allow, "{line}");
                assert_eq!(verdict_with(&[], &question), Verdict::Deny, "{line}");
            }
        }
    }

    /// What is suggested, does allow.
    fn verdict_with(suggestions: &[Suggestion], question: &Question) -> Verdict {
        let lines: Vec<String> = suggestions.iter().map(|it| format!("{}.{}", it.table, it.line())).collect();
        let text = format!("policy = \"p\"\nworkload.unit = \"p.service\"\n{}", lines.join("\n"));
        let parsed = parse(&Source::new("p.toml", text).unwrap());
        let policy = parsed.policy.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
        let tables = ImageTables::new(&compile(&policy).unwrap());
        question.with_request(|request| tables.decide(request)).verdict
    }
}
