//! From text to a [`Policy`], or to everything that is wrong with it.
//!
//! TOML's own mistakes end the reading; all others are collected, so that one run shows them all. The document tree is
//! walked by hand because a deserialiser stops at its first error.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use enforcer_common::{
    abi::Measure,
    environment,
    hook::Privilege,
    net::Direction,
    rights::Rights,
    verdict::{Family, Mode},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    automaton::Nfa,
    containers::{self, ContainerSelector},
    diagnostics::{Code, Diagnostic, Diagnostics},
    digest::{ContentDigest, DigestError, PREFIX, Pinned},
    families::{self, SocketFamily},
    glob::{Glob, GlobError},
    model::{
        Modes, OBJECT_LISTS, ObjectRule, Origin, PinRule, Policy, PolicyName, Selector, SelectorKind,
        SelectorPattern, SelectorReach, Switch,
    },
    net::{AddressRule, Protocol, Reach},
    schema::{self, Type},
    source::{Source, Span},
};

/// What came out of a file.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The policy, if there is no error.
    pub policy: Option<Policy>,
    /// Errors and warnings, in the order of the file.
    pub diagnostics: Diagnostics,
}

/// Reads a policy.
#[must_use]
pub fn parse(source: &Source) -> Parsed {
    let (document, errors) = DeTable::parse_recoverable(source.text());
    if !errors.is_empty() {
        let diagnostics = errors.iter().map(|error| syntax_error(source, error)).collect();
        return Parsed { policy: None, diagnostics };
    }
    let mut reader = Reader::new(source);
    let draft = reader.document(document.get_ref());
    let mut diagnostics = reader.found;
    let policy = draft.filter(|_| !diagnostics.has_errors());
    for warning in policy.iter().flat_map(effect_warnings) {
        diagnostics.push(warning);
    }
    diagnostics.sort();
    Parsed { policy, diagnostics }
}

fn syntax_error(source: &Source, error: &toml::de::Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(Code::Syntax, format!("not valid TOML: {}", error.message()));
    match error.span() {
        Some(span) => {
            let end = source.text().len();
            diagnostic.at(Span { start: span.start.min(end), end: span.end.min(end) }, "")
        }
        None => diagnostic,
    }
}

/// Rights that let something start.
const STARTS: Rights = Rights::EXEC.union(Rights::EXEC_PINNED).union(Rights::PROBE);

/// What a whole policy deserves to be asked about.
fn effect_warnings(policy: &Policy) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    let allows_nothing = policy.rules.is_empty()
        && policy.switches.is_empty()
        && policy.families.is_empty()
        && policy.privileges.is_empty();
    let starts = |rule: &ObjectRule| rule.rights.0 & STARTS.0 != 0;
    let starts_something = policy.objects.iter().any(starts);
    let unlinked = policy.switches.iter().any(|(switch, _)| *switch == Switch::UnlinkedExec);
    if allows_nothing {
        let warning = Diagnostic::warning(Code::NoEffect, "the policy allows nothing at all");
        warnings.push(
            warning.help("its workload cannot even start; add e.g. `[exec] allow = [\"/usr/sbin/nginx\"]`"),
        );
    } else if !starts_something && !unlinked {
        let warning = Diagnostic::warning(Code::NoEffect, "the policy allows no program to start");
        warnings.push(warning.help("list the workload's programs: `[exec] allow = [\"/usr/sbin/nginx\"]`"));
    }
    warnings.extend(interpreter_warnings(policy));
    for rule in &policy.objects {
        if rule.glob.text() == "/**"
            && rule.rights != Rights::READ
            && let Some(origin) = policy.rules.get(rule.rule as usize)
        {
            let list = origin.text.split(' ').next().unwrap_or_default();
            let warning = Diagnostic::warning(Code::Broad, format!("`{list}` covers every file there is"));
            warnings.push(
                warning
                    .at(origin.span, "")
                    .help("an allowlist protects by what it leaves out: name directories"),
            );
        }
    }
    warnings.extend(worthless_warnings(policy));
    warnings
}

/// Programs whose input is code, by the start of their name: whoever may start one, and hand it a file, runs what it
/// likes.
const INTERPRETERS: &[&str] = &[
    "sh", "dash", "bash", "ash", "busybox", "zsh", "ksh", "csh", "tcsh", "fish", "python", "perl", "ruby",
    "node", "php", "lua", "tclsh", "awk", "gawk", "mawk", "guile", "deno", "bun",
];

/// Whether a program's file name is an interpreter's, with or without a version behind it.
fn is_interpreter(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    INTERPRETERS.contains(&stem)
}

/// Whether a variable's value can be code itself, rather than only name files that have to be listed as code.
fn holds_code(name: &str) -> bool {
    const HOLDING: &[&str] = &[
        "BASH_ENV",
        "ENV",
        "PS4",
        "PROMPT_COMMAND",
        "PYTHONINSPECT",
        "PERL5OPT",
        "PERL5DB",
        "NODE_OPTIONS",
        "BUN_OPTIONS",
    ];
    HOLDING.contains(&name) || name.starts_with("BASH_FUNC_") || name.starts_with("LUA_INIT")
}

/// Options by which interpreters are handed code that no rule looks at.
const INLINE: &[&str] = &["-", "-c", "-i"];

fn interpreter_warnings(policy: &Policy) -> Vec<Diagnostic> {
    let listed =
        |right: Rights, name: &str| {
            policy.objects.iter().filter(|rule| rule.rights.0 & right.0 != 0).any(|rule| {
                rule.glob.text() == name || rule.glob.matches_naively(name.as_bytes()) == Some(true)
            })
        };
    let mut warnings = Vec::new();
    for rule in &policy.objects {
        let (Some(origin), name) = (policy.rules.get(rule.rule as usize), rule.glob.text()) else { continue };
        if rule.glob.literal().is_none() {
            continue;
        }
        if INLINE.contains(&name) {
            let message = format!("`{name}` lets interpreters be given code that no rule looks at");
            warnings.push(Diagnostic::warning(Code::Interpreter, message).at(origin.span, "").help(
                "what comes as an argument or on standard input has no name that could be listed: put it into a \
                 file, and list that in `code`",
            ));
        }
        let file_name = name.rsplit('/').next().unwrap_or(name);
        if rule.rights.contains(Rights::EXEC)
            && is_interpreter(file_name)
            && !listed(Rights::INTERPRETER, name)
        {
            let message = format!("`{file_name}` runs whatever code it may read or is given");
            warnings.push(Diagnostic::warning(Code::Interpreter, message).at(origin.span, "").help(
                "list it in `[interpreters] programs`, and the files it may run in `code`; \
                 what a script itself reads and evaluates is not covered",
            ));
        }
        if rule.rights.contains(Rights::INTERPRETER) && !listed(STARTS, name) {
            let warning = Diagnostic::warning(
                Code::NoEffect,
                format!("`{name}` is not in `exec.allow`, so it never starts"),
            );
            warnings.push(warning.at(origin.span, "").help("list it there, too"));
        }
    }
    warnings
}

/// Pins and probes that other rules make worthless, as all rules add up.
fn worthless_warnings(policy: &Policy) -> Vec<Diagnostic> {
    let is_narrow = |rule: &&ObjectRule| rule.rights == Rights::EXEC_PINNED || rule.rights == Rights::PROBE;
    if !policy.objects.iter().any(|rule| is_narrow(&rule)) {
        return Vec::new();
    }
    let rules = Nfa::of(policy.objects.iter().map(|rule| &rule.glob));
    let warning = |rule: &ObjectRule| {
        let name = rule.glob.literal()?;
        let is_probe = rule.rights == Rights::PROBE;
        let matching: Vec<&ObjectRule> =
            rules.matching(name).into_iter().filter_map(|at| policy.objects.get(at)).collect();
        let granting = |right| matching.iter().find(|other| other.rights.with_implied().contains(right));
        let (other, warning) = if let Some(other) = granting(Rights::EXEC) {
            let message = if is_probe {
                "the entry has no effect: another rule lets the workload itself start the program"
            } else {
                "the pin has no effect: another rule lets the program start whatever it holds"
            };
            let help = "rules add up: leave the program out of that rule";
            (other, Diagnostic::warning(Code::NoEffect, message).help(help))
        } else {
            let other = granting(Rights::LIBRARY)?;
            let (message, help) = if is_probe {
                (
                    "the workload itself may map the program as code",
                    "the dynamic loader runs what may be mapped (`ld.so PROGRAM`), whoever starts it: leave the \
                     program out of `memory.libraries`",
                )
            } else {
                (
                    "the pinned program may be mapped as code whatever it holds",
                    "the dynamic loader runs what may be mapped (`ld.so PROGRAM`), and looks at no digest: leave \
                     the program out of `memory.libraries`",
                )
            };
            (other, Diagnostic::warning(Code::Broad, message).help(help))
        };
        let place = |rule: &ObjectRule| policy.rules.get(rule.rule as usize).map(|origin| origin.span);
        Some(warning.at(place(rule)?, "").related(place(other)?, "by this"))
    };
    policy.objects.iter().filter(is_narrow).filter_map(warning).collect()
}

/// A value of the type its key wants.
enum Value<'a> {
    Text(Text<'a>),
    Switch(bool, Span),
    List(Vec<Text<'a>>),
    Programs(Vec<Program<'a>>),
    Table(&'a DeTable<'a>, Span),
}

impl Value<'_> {
    /// Where the value, or the first in it, stands.
    fn first_span(&self) -> Option<Span> {
        match self {
            Self::Text(text) => Some(text.span),
            Self::Switch(_, span) | Self::Table(_, span) => Some(*span),
            Self::List(list) => list.first().map(|text| text.span),
            Self::Programs(programs) => programs.first().map(|program| match program {
                Program::Any(text) => text.span,
                Program::Pinned { span, .. } => *span,
            }),
        }
    }
}

/// A string in the file.
#[derive(Clone, Copy, Debug)]
struct Text<'a> {
    text: &'a str,
    span: Span,
}

/// An entry of the list of programs.
#[derive(Clone, Debug)]
enum Program<'a> {
    /// Whatever it holds.
    Any(Text<'a>),
    /// With one of these contents.
    Pinned { path: Text<'a>, digests: Vec<(Measure, Text<'a>)>, span: Span },
}

/// Values by key.
type Table<'a> = BTreeMap<&'static str, Value<'a>>;

struct Reader<'s> {
    source: &'s Source,
    found: Diagnostics,
    rules: Vec<Draft>,
    /// Where each rule was seen first, by list and meaning.
    seen: HashMap<(&'static str, String), Span>,
}

/// A rule that has no index yet: that follows from its place in the file, not from the order in which lists are read.
struct Draft {
    origin: Origin,
    meaning: Meaning,
}

enum Meaning {
    Object(Glob, Rights),
    Pinned(Glob, Vec<Pinned>),
    Address(AddressRule, Direction),
}

impl<'s> Reader<'s> {
    fn new(source: &'s Source) -> Self {
        Self { source, found: Diagnostics::default(), rules: Vec::new(), seen: HashMap::new() }
    }

    fn document(&mut self, document: &DeTable<'_>) -> Option<Policy> {
        let top = self.table("", document);
        let name = self.name(top.get("policy"));
        let description = match top.get("description") {
            Some(Value::Text(text)) => Some(text.text.to_owned()),
            _ => None,
        };
        let mut inner = |name: &'static str| match top.get(name) {
            Some(Value::Table(table, span)) => Some((self.table(name, table), *span)),
            _ => None,
        };
        let workload = inner("workload");
        let tables: BTreeMap<&str, Table<'_>> =
            ["mode", "exec", "memory", "file", "network", "interpreters", "privileges"]
                .into_iter()
                .filter_map(|name| Some((name, inner(name)?.0)))
                .collect();
        let list = |table: &str, key: &str| match tables.get(table).and_then(|table| table.get(key)) {
            Some(Value::List(list)) => list.clone(),
            _ => Vec::new(),
        };

        if workload.is_none() && !top.contains_key("workload") && !document.contains_key("workload") {
            self.found.push(
                Diagnostic::error(
                    Code::MissingKey,
                    "the policy does not say whom it binds: [workload] is missing",
                )
                .help("add e.g.\n[workload]\nunit = \"nginx.service\""),
            );
        }
        let selector = workload.and_then(|(table, span)| self.selector(&table, span));
        let modes = self.modes(tables.get("mode"));
        for (table, key, rights) in OBJECT_LISTS {
            let list_name = list_name(table, key);
            list(table, key).into_iter().for_each(|text| self.object(list_name, text, *rights));
            if let Some(Value::Programs(programs)) = tables.get(table).and_then(|table| table.get(key)) {
                programs.iter().for_each(|program| self.program_rule(list_name, program, *rights));
            }
        }
        list("interpreters", "options").into_iter().for_each(|text| self.option(text));
        list("interpreters", "environment").into_iter().for_each(|text| self.variable(text));
        for (key, direction) in [("connect", Direction::Connect), ("bind", Direction::Bind)] {
            list("network", key)
                .into_iter()
                .for_each(|text| self.network(list_name("network", key), text, direction));
        }
        let families = list("network", "families").into_iter().filter_map(|text| self.family(text)).collect();
        let privileges =
            list("privileges", "allow").into_iter().filter_map(|text| self.privilege(text)).collect();
        let switches = Switch::ALL.iter().filter_map(|switch| {
            let (table, key) = switch.key();
            match tables.get(table)?.get(key)? {
                Value::Switch(true, span) => {
                    Some((*switch, self.origin(format!("{table}.{key} = true"), *span)))
                }
                _ => None,
            }
        });
        let switches = switches.collect();
        let mut policy = Policy {
            name: name?,
            description,
            selector: selector?,
            modes,
            rules: Vec::new(),
            objects: Vec::new(),
            pins: Vec::new(),
            addresses: Vec::new(),
            switches,
            families,
            privileges,
        };
        self.number_rules(&mut policy);
        Some(policy)
    }

    fn number_rules(&mut self, policy: &mut Policy) {
        let mut drafts = std::mem::take(&mut self.rules);
        drafts.sort_by_key(|draft| draft.origin.span);
        for (rule, draft) in (0..).zip(drafts) {
            policy.rules.push(draft.origin);
            match draft.meaning {
                Meaning::Object(glob, rights) => policy.objects.push(ObjectRule { rule, glob, rights }),
                Meaning::Pinned(glob, digests) => {
                    let name = glob.literal().unwrap_or_default().to_vec();
                    let pin = |content| PinRule { rule, name: name.clone(), content };
                    policy.pins.extend(digests.into_iter().map(pin));
                    policy.objects.push(ObjectRule { rule, glob, rights: Rights::EXEC_PINNED });
                }
                Meaning::Address(address, direction) => {
                    let flows = address.protocol.flows(direction);
                    policy.addresses.push(Reach { host: address.host, ports: address.ports, flows, rule });
                }
            }
        }
    }

    // --- the shape of the document ---

    /// The known keys of a table whose values have the right type. Says what is wrong with all others.
    fn table<'a>(&mut self, name: &str, table: &'a DeTable<'_>) -> Table<'a> {
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let known =
                schema::KEYS.iter().find(|(in_table, known, _)| *in_table == name && known == key.get_ref());
            match known {
                Some((_, known, kind)) => {
                    if let Some(value) = self.value(name, known, *kind, value) {
                        values.insert(*known, value);
                    }
                }
                None => self.unknown_key(name, key, value.get_ref().is_table()),
            }
        }
        values
    }

    fn unknown_key(&mut self, table: &str, key: &Spanned<Cow<'_, str>>, is_table: bool) {
        let what = if is_table && table.is_empty() { "table" } else { "key" };
        let mut error = Diagnostic::error(Code::UnknownKey, format!("unknown {what} `{}`", key.get_ref()));
        if !self.found.is_full() {
            error = error.help(schema::advice(table, key.get_ref()));
        }
        self.found.push(error.at(key.span().into(), ""));
    }

    fn value<'a>(
        &mut self,
        table: &str,
        key: &'static str,
        kind: Type,
        value: &'a Spanned<DeValue<'_>>,
    ) -> Option<Value<'a>> {
        let span = value.span().into();
        match (kind, value.get_ref()) {
            (Type::Text, DeValue::String(text)) => Some(Value::Text(Text { text, span })),
            (Type::OneOrMore, DeValue::String(text)) => Some(Value::List(vec![Text { text, span }])),
            (Type::Switch, DeValue::Boolean(on)) => Some(Value::Switch(*on, span)),
            (Type::Table, DeValue::Table(table)) => Some(Value::Table(table, span)),
            (Type::List | Type::OneOrMore, DeValue::Array(items)) => {
                let texts: Vec<_> = items.iter().filter_map(|item| self.item(key, item)).collect();
                Some(Value::List(texts))
            }
            (Type::Programs, DeValue::Array(items)) => {
                Some(Value::Programs(items.iter().filter_map(|item| self.program(key, item)).collect()))
            }
            (_, other) => {
                let name = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
                let message = format!("`{name}` must be {}, not {}", kind.describe(), found(other));
                let mut diagnostic = Diagnostic::error(Code::WrongType, message).at(span, "");
                match (kind, other) {
                    (Type::List | Type::Programs, DeValue::String(_)) => {
                        diagnostic =
                            diagnostic.help(format!("write `{key} = [{}]`", self.source.slice(span)));
                    }
                    (Type::Table, _) => {
                        diagnostic = diagnostic.help(format!("write `[{key}]` and its keys below"))
                    }
                    (Type::Switch, DeValue::String(text)) if matches!(&**text, "true" | "false") => {
                        diagnostic = diagnostic.help(format!("write `{key} = {text}` without quotes"));
                    }
                    _ => {}
                }
                self.found.push(diagnostic);
                None
            }
        }
    }

    fn item<'a>(&mut self, key: &str, item: &'a Spanned<DeValue<'_>>) -> Option<Text<'a>> {
        let span = item.span().into();
        match item.get_ref() {
            DeValue::String(text) => Some(Text { text, span }),
            other => {
                let message = format!("`{key}` lists strings, not {}", found(other));
                self.found.push(Diagnostic::error(Code::WrongType, message).at(span, ""));
                None
            }
        }
    }

    /// An entry of the list of programs: a path, or a table of a path and what the file may hold.
    fn program<'a>(&mut self, key: &str, item: &'a Spanned<DeValue<'_>>) -> Option<Program<'a>> {
        let span: Span = item.span().into();
        let table = match item.get_ref() {
            DeValue::String(text) => return Some(Program::Any(Text { text, span })),
            DeValue::Table(table) => table,
            other => {
                let message = format!(
                    "`{key}` lists strings and tables (`{{ path = …, sha256 = … }}`), not {}",
                    found(other)
                );
                self.found.push(Diagnostic::error(Code::WrongType, message).at(span, ""));
                return None;
            }
        };
        let (mut path, mut digests, mut complete) = (None, None::<Vec<_>>, true);
        for (key, value) in table {
            let at: Span = value.span().into();
            let name = &**key.get_ref();
            match (name, Measure::from_name(name), value.get_ref()) {
                ("path", _, DeValue::String(text)) => path = Some(Text { text, span: at }),
                (_, Some(measure), DeValue::String(text)) => {
                    digests.get_or_insert_default().push((measure, Text { text, span: at }));
                }
                (_, Some(measure), DeValue::Array(items)) => {
                    let texts: Vec<_> = items.iter().filter_map(|item| self.item(name, item)).collect();
                    complete &= texts.len() == items.len();
                    if items.is_empty() {
                        self.no_digest(name, at);
                        complete = false;
                    }
                    digests.get_or_insert_default().extend(texts.into_iter().map(|text| (measure, text)));
                }
                ("path", _, other) | (_, Some(_), other) => {
                    let wanted = if name == "path" { Type::Text } else { Type::OneOrMore };
                    let message = format!("`{name}` must be {}, not {}", wanted.describe(), found(other));
                    self.found.push(Diagnostic::error(Code::WrongType, message).at(at, ""));
                    complete = false;
                }
                (unknown, None, _) => {
                    let help = match schema::closest(unknown, schema::PROGRAM_KEYS.iter().copied()) {
                        Some(close) => format!("did you mean `{close}`?"),
                        None => format!("a program has: {}", schema::PROGRAM_KEYS.join(", ")),
                    };
                    let error = Diagnostic::error(Code::UnknownKey, format!("unknown key `{unknown}`"));
                    self.found.push(error.at(key.span().into(), "").help(help));
                    complete = false;
                }
            }
        }
        let missing = match (&path, &digests) {
            (None, _) => Some(("path", "say which program: `path = \"/usr/bin/tool\"`".to_owned())),
            (Some(path), None) => {
                let help =
                    format!("to allow it whatever it holds, write the path alone: {}", quoted(path.text));
                Some(("sha256` or `fsverity", help))
            }
            _ => None,
        };
        if let Some((key, help)) = missing.filter(|_| complete) {
            let error = Diagnostic::error(Code::MissingKey, format!("the program has no `{key}`"));
            self.found.push(error.at(span, "").help(help));
        }
        match (path, digests) {
            (Some(path), Some(digests)) if complete => Some(Program::Pinned { path, digests, span }),
            _ => None,
        }
    }

    fn origin(&self, text: String, span: Span) -> Origin {
        Origin { text, line: self.source.line(span.start), span }
    }

    /// The place of a part of a string, or of the whole string when escapes make it another length.
    fn inside(&self, text: Text<'_>, part: Range<usize>) -> Span {
        let raw = self.source.slice(text.span);
        let is_verbatim = raw.len() == text.text.len() + 2 && raw.get(1..raw.len() - 1) == Some(text.text);
        if is_verbatim {
            let start = text.span.start + 1;
            Span { start: start + part.start, end: start + part.end }
        } else {
            text.span
        }
    }

    // --- single values ---

    fn name(&mut self, value: Option<&Value<'_>>) -> Option<PolicyName> {
        let Some(Value::Text(text)) = value else {
            if value.is_none()
                && !self
                    .found
                    .iter()
                    .any(|found| found.code == Code::WrongType && found.message.starts_with("`policy`"))
            {
                let error =
                    Diagnostic::error(Code::MissingKey, "the policy has no name: `policy` is missing");
                self.found.push(error.help("start the file with e.g. `policy = \"nginx\"`"));
            }
            return None;
        };
        match PolicyName::new(text.text) {
            Ok(name) => Some(name),
            Err(error) => {
                let clean = |c: char| {
                    if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                        c.to_ascii_lowercase()
                    } else {
                        '-'
                    }
                };
                let suggestion: String = text.text.chars().map(clean).take(PolicyName::MAX).collect();
                let suggestion = suggestion.trim_start_matches(['.', '_', '-']);
                let mut diagnostic = Diagnostic::error(Code::BadName, error.to_string()).at(text.span, "");
                if PolicyName::new(suggestion).is_ok() {
                    diagnostic = diagnostic.help(format!("write `policy = \"{suggestion}\"`"));
                }
                self.found.push(diagnostic);
                None
            }
        }
    }

    fn modes(&mut self, table: Option<&Table<'_>>) -> Modes {
        let mut mode_of = |key: &str| match table.and_then(|table| table.get(key)) {
            Some(Value::Text(text)) => {
                self.word("mode", *text, Mode::from_name, Mode::ALL.iter().map(|mode| mode.name()))
            }
            _ => None,
        };
        let mut modes = Modes::all(mode_of("default").unwrap_or(Mode::Enforce));
        for family in Family::ALL {
            if let Some(mode) = mode_of(family.name()) {
                modes.set(*family, mode);
            }
        }
        modes
    }

    /// A word out of a list.
    fn word<'k, T>(
        &mut self,
        what: &str,
        text: Text<'_>,
        parse: impl Fn(&str) -> Option<T>,
        known: impl Iterator<Item = &'k str> + Clone,
    ) -> Option<T> {
        if let Some(value) = parse(text.text) {
            return Some(value);
        }
        let list = known.clone().collect::<Vec<_>>().join(", ");
        let help = match schema::closest(text.text, known) {
            Some(close) => format!("did you mean \"{close}\"?"),
            None => format!("there are: {list}"),
        };
        let message = format!("there is no {what} `{}`", text.text);
        self.found.push(Diagnostic::error(Code::UnknownValue, message).at(text.span, "").help(help));
        None
    }

    fn family(&mut self, text: Text<'_>) -> Option<(SocketFamily, Origin)> {
        let names = families::NAMES.iter().map(|(name, _)| *name);
        let family = self.word("socket family", text, SocketFamily::from_name, names)?;
        if family == families::UNIX {
            let warning = Diagnostic::warning(
                Code::NoEffect,
                "unix sockets need not be listed: every policy allows them",
            );
            self.found.push(
                warning
                    .at(text.span, "")
                    .help("what they may reach is said by `unix` rules in `connect` and `bind`"),
            );
        }
        self.first_time("network.families", family.name().to_owned(), text.span);
        Some((family, self.origin(format!("network.families \"{}\"", family.name()), text.span)))
    }

    fn privilege(&mut self, text: Text<'_>) -> Option<(Privilege, Origin)> {
        let names = Privilege::ALL.iter().map(|privilege| privilege.name());
        let privilege = self.word("privilege", text, Privilege::from_name, names)?;
        self.first_time("privileges.allow", privilege.name().to_owned(), text.span);
        Some((privilege, self.origin(format!("privileges.allow \"{privilege}\""), text.span)))
    }

    // --- rules ---

    fn object(&mut self, list: &'static str, text: Text<'_>, rights: Rights) {
        match Glob::path(text.text) {
            Ok(glob) => self.rule(list, text, glob.text().to_owned(), Meaning::Object(glob, rights)),
            Err(error) => self.bad_pattern(text, 0, &error),
        }
    }

    fn option(&mut self, text: Text<'_>) {
        match Glob::option(text.text) {
            Ok(glob) => {
                let meaning = glob.text().to_owned();
                self.rule("interpreters.options", text, meaning, Meaning::Object(glob, Rights::CODE));
            }
            Err(error) => self.bad_pattern(text, 0, &error),
        }
    }

    fn variable(&mut self, text: Text<'_>) {
        const LIST: &str = "interpreters.environment";
        let glob = match Glob::variable(text.text) {
            Ok(glob) => glob,
            Err(error) => return self.bad_pattern(text, 0, &error),
        };
        let has_value = text.text.contains('=');
        let warning = if !environment::is_worth_listing(text.text) {
            let message = format!("`{}` need not be listed: it hands interpreters no code", text.text);
            Some((Code::NoEffect, message, "leave it out; other variables are not judged"))
        } else if !has_value && holds_code(text.text) {
            let message = format!("whoever sets `{}` has interpreters run what it holds", text.text);
            Some((Code::Interpreter, message, "list it with the one value it needs: `NAME=value`"))
        } else {
            None
        };
        if let Some((code, message, help)) = warning {
            self.found.push(Diagnostic::warning(code, message).at(text.span, "").help(help));
        }
        let meaning = glob.text().to_owned();
        self.rule(LIST, text, meaning, Meaning::Object(glob, Rights::CODE));
    }

    fn program_rule(&mut self, list: &'static str, program: &Program<'_>, rights: Rights) {
        let (path, digests, span) = match program {
            Program::Any(text) => return self.object(list, *text, rights),
            Program::Pinned { path, digests, span } => (*path, digests, *span),
        };
        let glob = match Glob::path(path.text) {
            Ok(glob) => Some(glob),
            Err(error) => {
                self.bad_pattern(path, 0, &error);
                None
            }
        };
        if glob.as_ref().is_some_and(|glob| glob.literal().is_none()) {
            let message = format!("`{}` is a pattern: only one file can be pinned to contents", path.text);
            let error = Diagnostic::error(Code::BadPattern, message).at(path.span, "");
            self.found.push(error.help(
                "name each program with its own sha256; to pin none, write the pattern as a string; a special \
                 character of a file's own name is escaped with `\\`",
            ));
            return;
        }
        let read: Vec<_> = digests
            .iter()
            .filter_map(|(measure, text)| Some((self.digest(*measure, *text)?, text.span)))
            .collect();
        let Some(glob) = glob.filter(|_| !read.is_empty() && read.len() == digests.len()) else { return };
        let new = |reader: &mut Self, content: &Pinned, span| {
            reader.first_time(list, format!("{} {} {content}", glob.text(), content.measure), span)
        };
        let digests: Vec<Pinned> = read
            .into_iter()
            .filter(|(content, span)| new(self, content, *span))
            .map(|(content, _)| content)
            .collect();
        if let Some(entry) = pinned_entry(path.text, &digests) {
            let origin = self.origin(format!("{list} {entry}"), span);
            self.rules.push(Draft { origin, meaning: Meaning::Pinned(glob, digests) });
        }
    }

    /// An empty list of digests.
    fn no_digest(&mut self, key: &str, span: Span) {
        let message = format!("`{key}` is empty: no content would do");
        let error = Diagnostic::error(Code::BadDigest, message);
        self.found.push(error.at(span, "").help("list the contents it may have, or leave the program out"));
    }

    fn digest(&mut self, measure: Measure, text: Text<'_>) -> Option<Pinned> {
        let error = match Pinned::parse(measure, text.text) {
            Ok(content) => return Some(content),
            Err(error) => error,
        };
        let source = match measure {
            Measure::Sha256 => SHA256SUM,
            Measure::FsVerity => FSVERITY,
        };
        let (span, help) = match &error {
            DigestError::Digit { .. } if measure == Measure::Sha256 && text.text.starts_with(PREFIX) => (
                text.span,
                format!(
                    "write the digits alone: {}; if it is an fs-verity digest, its key is `fsverity`",
                    quoted(text.text.trim_start_matches(PREFIX))
                ),
            ),
            DigestError::Digit { at, found } => {
                (self.inside(text, *at..*at + found.len_utf8()), source.to_owned())
            }
            DigestError::Length(_) | DigestError::Algorithm => (text.span, source.to_owned()),
        };
        let error = Diagnostic::error(Code::BadDigest, error.to_string());
        self.found.push(error.at(span, "").help(help));
        None
    }

    fn network(&mut self, list: &'static str, text: Text<'_>, direction: Direction) {
        if let Some(name) = text
            .text
            .trim_start()
            .strip_prefix("unix")
            .filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        {
            let name = name.trim();
            let rights = match direction {
                Direction::Connect => Rights::UNIX_CONNECT,
                Direction::Bind => Rights::UNIX_BIND,
            };
            match Glob::socket(name) {
                Ok(glob) => {
                    let meaning = format!("unix {}", glob.text());
                    self.rule(list, text, meaning, Meaning::Object(glob, rights));
                }
                Err(error) => {
                    let offset = text.text.find(name).unwrap_or(0);
                    self.bad_pattern(text, offset, &error);
                }
            }
            return;
        }
        match text.text.parse::<AddressRule>() {
            Ok(rule) => {
                self.protocol_hints(text, &rule);
                self.rule(list, text, rule.to_string(), Meaning::Address(rule, direction));
            }
            Err(error) => {
                let mut diagnostic = Diagnostic::error(Code::BadAddress, error.to_string()).at(text.span, "");
                let is_path = text.text.starts_with(['/', '@']);
                let help = if is_path { format!("write \"unix {}\"", text.text) } else { error.help() };
                diagnostic = diagnostic.help(help);
                self.found.push(diagnostic);
            }
        }
    }

    fn protocol_hints(&mut self, text: Text<'_>, rule: &AddressRule) {
        if rule.protocol == Protocol::Other && !rule.ports.contains(&0) {
            let warning =
                Diagnostic::warning(Code::NoEffect, "protocols without ports are decided as port 0");
            self.found.push(
                warning
                    .at(text.span, "")
                    .help("write `:0`, or `:*` to cover protocols with ports (DCCP), too"),
            );
        }
    }

    fn bad_pattern(&mut self, text: Text<'_>, offset: usize, error: &GlobError) {
        let at = error.at.start + offset..error.at.end + offset;
        let span = self.inside(text, at);
        self.found.push(
            Diagnostic::error(Code::BadPattern, error.problem.to_string())
                .at(span, "")
                .help(error.help.clone()),
        );
    }

    fn rule(&mut self, list: &'static str, text: Text<'_>, canonical: String, meaning: Meaning) {
        if self.first_time(list, canonical, text.span) {
            let origin = self.origin(format!("{list} {}", quoted(text.text)), text.span);
            self.rules.push(Draft { origin, meaning });
        }
    }

    /// Whether an entry is not yet in its list; warns if it is.
    fn first_time(&mut self, list: &'static str, canonical: String, span: Span) -> bool {
        let first = *self.seen.entry((list, canonical)).or_insert(span);
        if first != span {
            let warning = Diagnostic::warning(Code::Duplicate, format!("this stands twice in `{list}`"));
            self.found.push(warning.at(span, "again here").related(first, "first here"));
        }
        first == span
    }

    // --- selectors ---

    fn selector(&mut self, table: &Table<'_>, span: Span) -> Option<Selector> {
        let kinds = [
            ("unit", SelectorKind::Unit),
            ("slice", SelectorKind::Slice),
            ("cgroup", SelectorKind::Cgroup),
            ("container-roots", SelectorKind::ContainerRoots),
            ("container", SelectorKind::Container),
        ];
        let mut given = kinds.into_iter().filter_map(|(key, kind)| Some((key, kind, table.get(key)?)));
        let Some((key, kind, value)) = given.next() else {
            if table.is_empty() && !self.found.has_errors() {
                let error =
                    Diagnostic::error(Code::MissingKey, "[workload] does not say whom the policy binds");
                self.found.push(error.at(span, "").help(
                    "write e.g. `unit = \"nginx.service\"`, or `slice`, `cgroup`, or a table `container`",
                ));
            }
            return None;
        };
        if let Some((other, _, others)) = given.next() {
            let mut error = Diagnostic::error(
                Code::BadSelector,
                format!("[workload] has both `{key}` and `{other}`: a policy binds by one of them"),
            );
            if let (Some(second), Some(first)) = (others.first_span(), value.first_span()) {
                error = error.at(second, "").related(first, "");
            }
            self.found.push(error.help("write a second policy, or `cgroup` patterns for both"));
            return None;
        }
        let list: Vec<Text<'_>> = match value {
            Value::List(list) => list.clone(),
            Value::Table(table, span) => return self.container_selector(table, *span),
            _ => return None,
        };
        if list.is_empty() {
            let error = Diagnostic::error(
                Code::BadSelector,
                format!("`workload.{key}` is empty: the policy binds nothing"),
            );
            self.found.push(error.at(span, ""));
            return None;
        }
        let patterns = list
            .into_iter()
            .flat_map(|text| match kind {
                SelectorKind::ContainerRoots => self.container_root(text),
                _ => self.selector_patterns(key, kind, text),
            })
            .collect();
        Some(Selector { kind, patterns, container: None })
    }

    /// What a policy asks of containers.
    fn container_selector(&mut self, table: &DeTable<'_>, span: Span) -> Option<Selector> {
        let values = self.table("workload.container", table);
        let mut selector = ContainerSelector::default();
        for (key, value) in &values {
            match value {
                Value::List(list) => {
                    if let Some(first) = list.first().filter(|_| *key == "service-account") {
                        let message =
                            "no runtime says a container's service account, so this policy admits none";
                        let help = "leave the key out; a namespace and the image's digest say who it is";
                        let warning = Diagnostic::warning(Code::NoEffect, message);
                        self.found.push(warning.at(first.span, "").help(help));
                    }
                    for text in list {
                        self.container_value(key, *text, &mut selector);
                    }
                    if list.is_empty() {
                        let message =
                            format!("`workload.container.{key}` is empty: no container is like that");
                        let help = "leave the key out if any value will do";
                        self.found
                            .push(Diagnostic::error(Code::BadSelector, message).at(span, "").help(help));
                    }
                }
                Value::Table(labels, _) => self.labels(labels, &mut selector),
                _ => {}
            }
        }
        if selector.attributes().iter().all(|(_, values)| values.is_empty()) && !self.found.has_errors() {
            let message = "[workload.container] does not say which containers the policy admits";
            let help = "name an image, namespace, container or name; whoever writes a pod chooses \
                        its labels, so they are not enough";
            self.found.push(Diagnostic::error(Code::MissingKey, message).at(span, "").help(help));
            return None;
        }
        Some(Selector { kind: SelectorKind::Container, patterns: Vec::new(), container: Some(selector) })
    }

    fn container_value(&mut self, key: &str, text: Text<'_>, selector: &mut ContainerSelector) {
        let digest = text.text.strip_prefix("sha256:").and_then(|hex| hex.parse::<ContentDigest>().ok());
        let value = match digest {
            Some(digest) if key == "image" => format!("sha256:{digest}"),
            _ if key == "image" => {
                let message = format!("`{}` is no image digest", text.text);
                let help =
                    "write `sha256:` and 64 hexadecimal digits; names and tags can be given to any image";
                self.found.push(Diagnostic::error(Code::BadSelector, message).at(text.span, "").help(help));
                return;
            }
            _ => text.text.to_owned(),
        };
        if value.is_empty() {
            let message = format!("`workload.container.{key}` has an empty value: no container is like that");
            self.found.push(Diagnostic::error(Code::BadSelector, message).at(text.span, ""));
        } else if let Some(values) = selector.attribute_mut(key)
            && !values.contains(&value)
        {
            values.push(value);
        }
    }

    fn labels(&mut self, labels: &DeTable<'_>, selector: &mut ContainerSelector) {
        for (key, value) in labels {
            let DeValue::String(text) = value.get_ref() else {
                let message =
                    format!("the label `{}` must be a string, not {}", key.get_ref(), found(value.get_ref()));
                self.found.push(Diagnostic::error(Code::WrongType, message).at(value.span().into(), ""));
                continue;
            };
            selector.labels.insert(key.get_ref().to_string(), text.to_string());
        }
    }

    /// The patterns of one entry of `container-roots`.
    fn container_root(&mut self, text: Text<'_>) -> Vec<SelectorPattern> {
        let checked = cgroup_pattern(text.text).and_then(|_| {
            containers::root_patterns(text.text).ok_or_else(|| {
                let known: Vec<String> = containers::ROOTS.iter().map(|(name, _)| quoted(name)).collect();
                let close = schema::closest(text.text, containers::ROOTS.iter().map(|(name, _)| *name));
                let help = close.map_or_else(
                    || format!("write one of {}, or a pattern of cgroup paths", known.join(", ")),
                    |close| format!("did you mean {}?", quoted(close)),
                );
                (format!("`{}` is no container runtime that is known here", text.text), help)
            })
        });
        let patterns = match checked {
            Ok(patterns) => patterns,
            Err((message, help)) => {
                self.found.push(Diagnostic::error(Code::BadSelector, message).at(text.span, "").help(help));
                return Vec::new();
            }
        };
        if !self.first_time("workload.container-roots", text.text.to_owned(), text.span) {
            return Vec::new();
        }
        let origin = self.origin(format!("workload.container-roots {}", quoted(text.text)), text.span);
        let mut made = Vec::new();
        for pattern in patterns {
            match Glob::path(pattern) {
                Ok(glob) => {
                    made.push(SelectorPattern { glob, reach: SelectorReach::Base, origin: origin.clone() });
                }
                Err(error) => self.bad_pattern(text, 0, &error),
            }
        }
        made
    }

    fn selector_patterns(
        &mut self,
        key: &'static str,
        kind: SelectorKind,
        text: Text<'_>,
    ) -> Vec<SelectorPattern> {
        let checked = match kind {
            SelectorKind::Unit => unit_pattern(text.text),
            SelectorKind::Slice => slice_pattern(text.text),
            SelectorKind::Cgroup | SelectorKind::ContainerRoots | SelectorKind::Container => {
                cgroup_pattern(text.text)
            }
        };
        let pattern = match checked {
            Ok(pattern) => pattern,
            Err((message, help)) => {
                self.found.push(Diagnostic::error(Code::BadSelector, message).at(text.span, "").help(help));
                return Vec::new();
            }
        };
        if !self.first_time(list_name("workload", key), pattern.to_string(), text.span) {
            return Vec::new();
        }
        let origin = self.origin(format!("workload.{key} {}", quoted(text.text)), text.span);
        let mut patterns = vec![(pattern.to_string(), SelectorReach::Itself)];
        if kind == SelectorKind::Slice {
            patterns.push((format!("{pattern}/**"), SelectorReach::Below));
        }
        let mut made = Vec::new();
        for (pattern, reach) in patterns {
            match Glob::path(&pattern) {
                Ok(glob) => made.push(SelectorPattern { glob, reach, origin: origin.clone() }),
                Err(error) if kind == SelectorKind::Cgroup => self.bad_pattern(text, 0, &error),
                Err(error) => {
                    let error = Diagnostic::error(Code::BadSelector, error.problem.to_string());
                    self.found.push(error.at(text.span, ""));
                    break;
                }
            }
        }
        if made.iter().any(|pattern| matches!(pattern.glob.text(), "/" | "/*" | "/**")) {
            let warning = Diagnostic::warning(
                Code::Broad,
                "this binds the whole machine, its service manager included",
            );
            self.found.push(warning.at(text.span, "").help("name a slice, e.g. \"/system.slice/*\""));
        }
        made
    }
}

type Checked<'a> = Result<Cow<'a, str>, (String, String)>;

/// Unit types that have a cgroup with processes.
const UNITS_WITH_PROCESSES: &[&str] = &["service", "scope", "socket", "mount", "swap"];

fn unit_pattern(unit: &str) -> Checked<'static> {
    if unit.contains('/') {
        let help = format!("for a cgroup path write `cgroup = {}`", quoted(unit));
        return Err((format!("`{unit}` is a path, not a unit's name"), help));
    }
    let (stem, kind) = unit.rsplit_once('.').unwrap_or((unit, ""));
    if kind == "slice" {
        return Err((format!("`{unit}` is a slice"), format!("write `slice = {}`", quoted(unit))));
    }
    if !UNITS_WITH_PROCESSES.contains(&kind) {
        let (message, name) = match kind {
            "timer" | "path" | "target" | "device" | "automount" => {
                (format!("a {kind} unit has no processes of its own"), stem)
            }
            _ => (format!("`{unit}` lacks a unit type"), unit),
        };
        return Err((message, format!("name the service: `unit = {}`", quoted(&format!("{name}.service")))));
    }
    if stem.is_empty() {
        return Err((
            format!("`{unit}` lacks a unit's name"),
            "write e.g. `unit = \"nginx.service\"`".into(),
        ));
    }
    if let Some(template) = stem.strip_suffix('@') {
        let help =
            format!("for all its instances write `unit = {}`", quoted(&format!("{template}@*.{kind}")));
        return Err((format!("`{unit}` is a template, which has no processes"), help));
    }
    Ok(anywhere(unit))
}

fn slice_pattern(slice: &str) -> Checked<'static> {
    let stem = slice.strip_suffix(".slice").filter(|stem| !stem.is_empty() && !stem.contains('/'));
    match stem {
        None => {
            let name = slice.rsplit('/').next().unwrap_or_default().trim_end_matches(".slice");
            let name = if name.is_empty() { "batch" } else { name };
            Err((
                format!("`{slice}` is not a slice's name"),
                format!("write `slice = {}`", quoted(&format!("{name}.slice"))),
            ))
        }
        Some("-") => Err((
            "`-.slice` is the root: it holds the whole machine".into(),
            "bind the slices that hold workloads, e.g. `slice = \"batch.slice\"`".into(),
        )),
        Some(_) => Ok(anywhere(slice)),
    }
}

fn cgroup_pattern(path: &str) -> Checked<'_> {
    match path.strip_prefix("/sys/fs/cgroup") {
        Some(inner) if inner.is_empty() || inner.starts_with('/') => {
            let inner = if inner.is_empty() { "/" } else { inner };
            let help =
                format!("cgroup paths start at the cgroup file system's root: write {}", quoted(inner));
            Err((format!("`{path}` is the path of a directory, not of a cgroup"), help))
        }
        _ => Ok(Cow::Borrowed(path)),
    }
}

/// systemd escapes with `\`, which stands for itself here; the other special characters cannot be part of its names.
fn anywhere(unit: &str) -> Cow<'static, str> {
    Cow::Owned(format!("/**/{}", unit.replace('\\', "\\\\")))
}

fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// `table.key`, without building it for each of many rules.
fn list_name(table: &str, key: &str) -> &'static str {
    match (table, key) {
        ("exec", "probes") => "exec.probes",
        ("exec", _) => "exec.allow",
        ("memory", _) => "memory.libraries",
        ("file", "read") => "file.read",
        ("file", "write") => "file.write",
        ("file", _) => "file.create",
        ("interpreters", "programs") => "interpreters.programs",
        ("interpreters", _) => "interpreters.code",
        ("network", "connect") => "network.connect",
        ("network", _) => "network.bind",
        ("workload", "unit") => "workload.unit",
        ("workload", "slice") => "workload.slice",
        _ => "workload.cgroup",
    }
}

/// Where digests come from.
const SHA256SUM: &str = "`sha256sum FILE` prints it; the suggestion in a denial's event has it, too";

/// Where fs-verity digests come from.
const FSVERITY: &str = "`fsverity digest FILE` prints it for files with 4096-byte blocks, `fsverity measure FILE` for those \
                        that have it enabled; only SHA-256 can be compared";

/// A program that is pinned to contents, as TOML. `None` without contents.
pub(super) fn pinned_entry(path: &str, contents: &[Pinned]) -> Option<String> {
    let lists = Measure::ALL.iter().filter_map(|measure| {
        let digests = contents.iter().filter(|content| content.measure == *measure);
        let digests: Vec<String> = digests.map(|content| format!("\"{content}\"")).collect();
        match digests.as_slice() {
            [] => None,
            [one] => Some(format!("{measure} = {one}")),
            several => Some(format!("{measure} = [{}]", several.join(", "))),
        }
    });
    let lists: Vec<String> = lists.collect();
    (!lists.is_empty()).then(|| format!("{{ path = {}, {} }}", quoted(path), lists.join(", ")))
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
