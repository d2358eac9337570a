//! `enforcer explain`: asks a policy the way the kernel does, and says which rule answered.
#![forbid(unsafe_code)]

use std::{
    ffi::OsStr,
    io::{BufRead, Write},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use enforcer_common::{
    abi::Measure,
    decide::{Bytes, granted},
    net::Direction,
    rights::Rights,
    verdict::{Decision, Mode, Reason, Verdict, outcome},
};
use serde_json::{Value, json};

use super::check::{Format, style_for};
use crate::policy::{
    automaton::Nfa,
    compile::compile,
    digest::{ContentDigest, Known, fsverity},
    lookup::ImageTables,
    model::{ObjectRule, Origin, PinRule, Policy, Switch},
    parse::parse,
    question::Question,
    source::Source,
    suggest::{no_suggestion, suggest_missing},
};

/// Says whether a policy allows a request, and which rule it is or which is missing.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The policy file.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    ask: Ask,
    /// With `--exec`: what the program holds. Without it, a pinned program is read where this runs.
    #[arg(long, value_name = "DIGEST", requires = "exec")]
    sha256: Option<ContentDigest>,
    /// With `--exec`: the program's fs-verity digest, `sha256:` first. Without it, a pinned program is asked where this
    /// runs.
    #[arg(long, value_name = "DIGEST", requires = "exec", value_parser = fsverity)]
    fsverity: Option<ContentDigest>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The request.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Ask {
    /// May this program be started?
    #[arg(long, value_name = "PATH")]
    exec: Option<String>,
    /// May this program be started from outside: `podman exec`, `kubectl exec`, a probe?
    #[arg(long, value_name = "PATH")]
    probe: Option<String>,
    /// May this file be mapped as executable code?
    #[arg(long, value_name = "PATH")]
    library: Option<String>,
    /// May this file be read, or this directory listed?
    #[arg(long, value_name = "PATH")]
    read: Option<String>,
    /// May this file be changed, renamed or removed?
    #[arg(long, value_name = "PATH")]
    write: Option<String>,
    /// May this name be created?
    #[arg(long, value_name = "PATH")]
    create: Option<String>,
    /// May this address be connected or sent to? E.g. 'tcp 10.0.0.1:443'.
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<String>,
    /// May this address be bound and listened on? E.g. 'tcp [::]:80'.
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// May this unix socket be connected or sent to? A path, or @name.
    #[arg(long, value_name = "NAME")]
    unix_connect: Option<String>,
    /// May a unix socket be bound to this name? A path, or @name.
    #[arg(long, value_name = "NAME")]
    unix_bind: Option<String>,
    /// May sockets of this family be made? E.g. 'netlink', 'packet raw'.
    #[arg(long, value_name = "FAMILY")]
    socket: Option<String>,
    /// Is this privilege granted? E.g. 'mount'.
    #[arg(long, value_name = "NAME")]
    privilege: Option<String>,
    /// Explain an event: a line of JSON, or a file of such lines.
    #[arg(long, value_name = "JSON|FILE")]
    event: Option<String>,
    /// Decide one request a line, e.g. `read /etc/passwd`, and print `allow REASON` or `deny REASON` for each. `-`
    /// reads standard input.
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// The policy cannot be read or has mistakes, or the request makes no sense.
pub fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let subject = Subject::load(&args.policy)?;
    let out = &mut std::io::stdout().lock();
    match &args.ask.batch {
        Some(path) if path.as_os_str() == "-" => batch(&subject, std::io::stdin().lock(), out)?,
        Some(path) => {
            let file =
                std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            batch(&subject, std::io::BufReader::new(file), out)?;
        }
        None => {
            let given = Known { sha256: args.sha256, fsverity: args.fsverity };
            for question in questions(&args.ask)? {
                let question = subject.with_content(question, given);
                let answer = subject.answer(&question);
                match args.format {
                    Format::Text => print_text(&subject, &answer, out)?,
                    Format::Json => writeln!(out, "{}", answer_json(&subject, &answer))?,
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A policy, ready to be asked.
struct Subject {
    path: String,
    policy: Policy,
    tables: ImageTables,
    /// All object rules, to tell which of them match.
    rules: Nfa,
}

/// What the policy says to one question.
struct Answer<'a> {
    question: &'a Question,
    decision: Decision,
    mode: Mode,
    /// Rights on the object that the policy grants.
    held: Rights,
    /// Everything in the file that takes part.
    origins: Vec<&'a Origin>,
}

impl Subject {
    fn load(path: &Path) -> anyhow::Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read the policy {}", path.display()))?;
        let source = Source::new(path.display().to_string(), bytes)?;
        let parsed = parse(&source);
        let Some(policy) = parsed.policy else {
            let style = style_for(&std::io::stderr());
            bail!("the policy has mistakes\n\n{}", parsed.diagnostics.render(&source, style).trim_end());
        };
        let image = compile(&policy)?;
        let rules = Nfa::of(policy.objects.iter().map(|rule| &rule.glob));
        Ok(Self { path: source.name().to_owned(), tables: ImageTables::new(&image), rules, policy })
    }

    /// A question about a pinned program becomes one about its content: the given, or that of the file.
    fn with_content(&self, question: Question, given: Known) -> Question {
        let Question::Object { name, needed: Rights::EXEC } = &question else { return question };
        if given.is_nothing() && self.decide(&question).reason != Reason::Digest {
            return question;
        }
        let known = if given.is_nothing() { self.look_at(Path::new(OsStr::from_bytes(name))) } else { given };
        if known.is_nothing() { question } else { Question::Content { name: name.clone(), known } }
    }

    /// What the file at a path holds, by the kinds of digests that the policy goes by.
    fn look_at(&self, path: &Path) -> Known {
        // Nothing that opening alone could change or wait for.
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let Some(file) = std::fs::File::open(path).ok().filter(|_| is_file) else { return Known::default() };
        let pins = |wanted| self.policy.pins.iter().any(|pin| pin.content.measure == wanted);
        Known {
            fsverity: pins(Measure::FsVerity)
                .then(|| crate::sys::fsverity_digest(file.as_fd()).ok().flatten())
                .flatten()
                .map(ContentDigest),
            sha256: pins(Measure::Sha256).then(|| ContentDigest::of(file).ok()).flatten(),
        }
    }

    fn decide(&self, question: &Question) -> Decision {
        question.with_request(|request| self.tables.decide(request))
    }

    fn answer<'a>(&'a self, question: &'a Question) -> Answer<'a> {
        let held = match question {
            Question::Object { name, .. } | Question::Content { name, .. } => self.held(name),
            _ => Rights::NONE,
        };
        let decision = self.decide(question);
        let mode = self.policy.modes.of(question.family());
        Answer { question, decision, mode, held, origins: self.origins(question, &decision) }
    }

    /// Everything granted on a name, by the kernel's own look-up.
    fn held(&self, name: &[u8]) -> Rights {
        let everything = Rights::NAMES.iter().fold(Rights::NONE, |all, (right, _)| all.union(*right));
        granted(&Bytes(name), everything, self.tables.head(), &self.tables)
            .map_or(Rights::NONE, |grant| grant.rights())
    }

    /// The parts of the file that grant something of what was asked.
    fn origins(&self, question: &Question, decision: &Decision) -> Vec<&Origin> {
        let policy = &self.policy;
        let switch = |wanted: Switch| {
            policy.switches.iter().filter(move |(it, _)| *it == wanted).map(|(_, origin)| origin)
        };
        match question {
            Question::Object { name, needed } => {
                let matching = self.rules.matching(name).into_iter().filter_map(|at| policy.objects.get(at));
                let helps = |rule: &&ObjectRule| {
                    rule.rights.with_implied().with_probe().0 & needed.0 != 0
                        || (needed.contains(Rights::EXEC) && rule.rights.contains(Rights::PROBE))
                };
                let helpful = matching.filter(helps);
                helpful.filter_map(|rule| policy.rules.get(rule.rule as usize)).collect()
            }
            Question::Content { name, known } => {
                let pins = policy.pins.iter().filter(|pin| pin.name == *name);
                let is_held = |pin: &PinRule| known.pins().any(|content| content == pin.content);
                let pins = pins.filter(|pin| decision.verdict == Verdict::Deny || is_held(pin));
                let mut rules: Vec<u32> = pins.map(|pin| pin.rule).collect();
                let matching = self.rules.matching(name).into_iter().filter_map(|at| policy.objects.get(at));
                rules
                    .extend(matching.filter(|rule| rule.rights.contains(Rights::EXEC)).map(|rule| rule.rule));
                rules.sort_unstable();
                rules.dedup();
                rules.into_iter().filter_map(|rule| policy.rules.get(rule as usize)).collect()
            }
            Question::Address { .. } => policy.rules.get(decision.rule as usize).into_iter().collect(),
            _ if decision.verdict == Verdict::Deny => Vec::new(),
            Question::Unnamed { needed, .. } => {
                let is_code = needed.0 & (Rights::EXEC.0 | Rights::PROBE.0 | Rights::LIBRARY.0) != 0;
                switch(if is_code { Switch::UnlinkedExec } else { Switch::UnlinkedFiles }).collect()
            }
            Question::AnonymousExec => switch(Switch::AnonymousExec).collect(),
            Question::Socket { family, raw } => {
                let listed =
                    policy.families.iter().filter(|(it, _)| it.class() == *family).map(|(_, origin)| origin);
                listed.chain(switch(Switch::RawSockets).filter(|_| *raw)).collect()
            }
            Question::Privilege(privilege) => {
                policy.privileges.iter().filter(|(it, _)| it == privilege).map(|(_, origin)| origin).collect()
            }
        }
    }
}

fn questions(ask: &Ask) -> anyhow::Result<Vec<Question>> {
    let objects = [
        (&ask.exec, Rights::EXEC),
        (&ask.probe, Rights::PROBE),
        (&ask.library, Rights::LIBRARY),
        (&ask.read, Rights::READ),
        (&ask.write, Rights::WRITE),
        (&ask.create, Rights::CREATE),
        (&ask.unix_connect, Rights::UNIX_CONNECT),
        (&ask.unix_bind, Rights::UNIX_BIND),
    ];
    if let Some((name, needed)) = objects.iter().find_map(|(name, needed)| Some((name.as_ref()?, *needed))) {
        return Ok(vec![Question::object(name.as_str(), needed)?]);
    }
    for (address, direction) in [(&ask.connect, Direction::Connect), (&ask.bind, Direction::Bind)] {
        if let Some(address) = address {
            return Ok(vec![Question::address(address, direction)?]);
        }
    }
    for (word, kind) in [(&ask.socket, "socket"), (&ask.privilege, "privilege")] {
        if let Some(word) = word {
            return Ok(vec![Question::from_line(format!("{kind} {word}").as_bytes())?]);
        }
    }
    events(ask.event.as_deref().unwrap_or_default())
}

fn events(argument: &str) -> anyhow::Result<Vec<Question>> {
    let is_json = argument.trim_start().starts_with('{');
    let text = if is_json {
        argument.to_owned()
    } else {
        std::fs::read_to_string(argument).with_context(|| format!("cannot read events from {argument}"))?
    };
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let questions = lines.map(|(number, line)| {
        let event: Value =
            serde_json::from_str(line).with_context(|| format!("line {number} is not JSON"))?;
        Question::from_event(&event).with_context(|| format!("line {number}"))
    });
    questions.collect()
}

/// One request a line, one answer a line, and nothing else: meant to be compared with what a kernel did.
fn batch(subject: &Subject, lines: impl BufRead, out: &mut impl Write) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(out);
    // Names are bytes: only the newline ends one.
    for (number, line) in (1..).zip(lines.split(b'\n')) {
        let line = line?;
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let question = Question::from_line(&line).with_context(|| format!("line {number}"))?;
        let question = subject.with_content(question, Known::default());
        let decision = subject.decide(&question);
        writeln!(out, "{} {}", decision.verdict, decision.reason)?;
    }
    Ok(out.flush()?)
}

fn print_text(subject: &Subject, answer: &Answer<'_>, out: &mut impl Write) -> std::io::Result<()> {
    let Answer { question, decision, .. } = answer;
    writeln!(out, "{:<7} {question}", decision.verdict.name())?;
    writeln!(out, "reason  {}: {}", decision.reason, in_words(decision.reason))?;
    let label = match (decision.verdict, question) {
        (Verdict::Allow, _) => "rule",
        (Verdict::Deny, Question::Content { .. }) => "pinned",
        (Verdict::Deny, _) => "partly",
    };
    for origin in &answer.origins {
        writeln!(out, "{label:<7} {}  ({}:{})", origin.text, subject.path, origin.line)?;
    }
    if decision.verdict == Verdict::Allow {
        if answer.origins.is_empty() {
            writeln!(out, "{:<7} {}", "rule", implied(question))?;
        }
        return Ok(());
    }
    let effect = if outcome(answer.mode, *decision).refuse { "refused" } else { "passes, with an event" };
    writeln!(out, "mode    {} for {}: {effect}", answer.mode, question.family())?;
    let suggestions = suggest_missing(question, answer.held);
    if suggestions.is_empty() {
        return writeln!(out, "allow?  {}", no_suggestion(decision));
    }
    suggestions.iter().try_for_each(|suggestion| writeln!(out, "add     {suggestion}"))
}

const fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Rule => "rules grant everything that was asked for",
        Reason::NoRule => "no rule grants what was asked for",
        Reason::Unlinked => "the file has no name (any more)",
        Reason::Unreachable => "the file lies on a mount that the workload cannot see",
        Reason::PathTooLong => "the name is longer than 4096 bytes",
        Reason::AnonymousExec => "no file backs the memory",
        Reason::SocketFamily => "the socket's family or type is not listed",
        Reason::Privilege => "the privilege is not listed",
        Reason::NoPolicy => "no policy is installed for the workload",
        Reason::Internal => "it could not be found out what was asked",
        Reason::Switch => "the policy opens this whole class",
        Reason::Probe => "the program is for who comes from outside, not for the workload itself",
        Reason::Digest => "the program is pinned to contents, and this is none of them",
        Reason::Unverifiable => "the program is pinned, and its content can change behind the kernel's back",
        Reason::Protected => "it is the enforcer's own, which no policy gives away",
    }
}

/// What allows a request that nothing in the file mentions.
const fn implied(question: &Question) -> &'static str {
    match question {
        Question::Socket { family: 1, .. } => "unix sockets need no rule to be made",
        Question::Socket { .. } => "implied by the address rules",
        _ => "implied",
    }
}

fn answer_json(subject: &Subject, answer: &Answer<'_>) -> Value {
    let Answer { question, decision, .. } = answer;
    let is_denied = decision.verdict == Verdict::Deny;
    let rules: Vec<Value> =
        answer.origins.iter().map(|it| json!({ "text": it.text, "line": it.line })).collect();
    let suggestions = if is_denied { suggest_missing(question, answer.held) } else { Vec::new() };
    let suggestions: Vec<Value> = suggestions
        .iter()
        .map(|it| json!({ "table": it.table, "key": it.key, "line": it.line(), "text": it.to_string() }))
        .collect();
    json!({
        "request": question.to_string(),
        "policy": subject.policy.name.as_str(),
        "file": subject.path,
        "verdict": decision.verdict.name(),
        "reason": decision.reason.name(),
        "family": question.family().name(),
        "mode": answer.mode.name(),
        "refused": outcome(answer.mode, *decision).refuse,
        "rules": rules,
        "suggestions": suggestions,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: ExplainArgs,
    }

    const POLICY: &str = r#"policy = "p"
[workload]
unit = "p.service"
[mode]
file = "audit"
[exec]
allow = ["/bin/app"]
[file]
read = ["/etc/**"]
[network]
connect = ["tcp *:443"]
families = ["netlink"]
"#;

    fn subject(folder: &tempfile::TempDir) -> Subject {
        let path = folder.path().join("p.toml");
        std::fs::write(&path, POLICY).unwrap();
        Subject { path: "p.toml".into(), ..Subject::load(&path).unwrap() }
    }

    fn explained(options: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let subject = subject(&folder);
        let args = Cli::parse_from(["explain", "--policy", "p.toml"].iter().chain(options)).args;
        let mut out = Vec::new();
        for question in questions(&args.ask).unwrap() {
            print_text(&subject, &subject.answer(&question), &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answers() {
        let table: &[(&[&str], &str)] = &[
            (
                &["--read", "/etc/passwd"],
                "allow   read /etc/passwd\n\
                 reason  rule: rules grant everything that was asked for\n\
                 rule    file.read \"/etc/**\"  (p.toml:9)\n",
            ),
            (
                &["--write", "/etc/passwd"],
                "deny    write /etc/passwd\n\
                 reason  no-rule: no rule grants what was asked for\n\
                 mode    audit for file: passes, with an event\n\
                 add     [file] write = [\"/etc/passwd\"]\n",
            ),
            (
                &["--exec", "/bin/sh"],
                "deny    exec /bin/sh\n\
                 reason  no-rule: no rule grants what was asked for\n\
                 mode    enforce for exec: refused\n\
                 add     [exec] allow = [\"/bin/sh\"]\n",
            ),
            (
                &["--connect", "tcp 10.0.0.1:443"],
                "allow   connect tcp 10.0.0.1:443\n\
                 reason  rule: rules grant everything that was asked for\n\
                 rule    network.connect \"tcp *:443\"  (p.toml:11)\n",
            ),
            (
                &["--socket", "inet"],
                "allow   socket inet\n\
                 reason  switch: the policy opens this whole class\n\
                 rule    implied by the address rules\n",
            ),
            (
                &["--event", r#"{"needed":["read","write"],"object":{"kind":"name","path":"/etc/x"}}"#],
                "deny    read+write /etc/x\n\
                 reason  no-rule: no rule grants what was asked for\n\
                 partly  file.read \"/etc/**\"  (p.toml:9)\n\
                 mode    audit for file: passes, with an event\n\
                 add     [file] write = [\"/etc/x\"]\n",
            ),
            (
                &["--event", r#"{"needed":["exec"],"reason":"unreachable","object":{"kind":"unnamed"}}"#],
                "deny    unreachable exec\n\
                 reason  unreachable: the file lies on a mount that the workload cannot see\n\
                 mode    enforce for exec: refused\n\
                 allow?  no rule can: the file lies on a mount outside the workload's mount namespace\n",
            ),
        ];
        for (options, expected) in table {
            assert_eq!(explained(options), *expected, "{options:?}");
        }
    }

    #[test]
    fn batches_answer_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut out = Vec::new();
        let lines = b"# comment\nread /etc/a\nread /\xff\nexec /bin/app\n\nsocket netlink\nprivilege mount\n";
        batch(&subject(&folder), &lines[..], &mut out).unwrap();
        let expected = "allow rule\ndeny no-rule\nallow rule\nallow switch\ndeny privilege\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let error = batch(&subject(&folder), &b"read /a\nlook\n"[..], &mut Vec::new()).unwrap_err();
        assert_eq!(format!("{error}"), "line 2");
    }

    #[test]
    fn a_pinned_program_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().canonicalize().unwrap().join("tool");
        std::fs::write(&program, "good").unwrap();
        let good = ContentDigest::of(&b"good"[..]).unwrap();
        let path = program.to_str().unwrap();
        let text = format!(
            "policy = \"p\"\nworkload.unit = \"p.service\"\n[exec]\nallow = [\n\
             {{ path = '{path}', sha256 = '{good}' }},\n{{ path = '/nowhere', sha256 = '{good}' }}]\n"
        );
        let file = folder.path().join("p.toml");
        std::fs::write(&file, text).unwrap();
        let subject = Subject { path: "p.toml".into(), ..Subject::load(&file).unwrap() };
        let explained = |name: &str, given: Option<ContentDigest>| {
            let question = Question::object(name, Rights::EXEC).unwrap();
            let question = subject.with_content(question, given.map(Known::sha256).unwrap_or_default());
            let mut out = Vec::new();
            print_text(&subject, &subject.answer(&question), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let rule = format!("exec.allow {{ path = \"{path}\", sha256 = \"{good}\" }}  (p.toml:5)\n");
        assert_eq!(
            explained(path, None),
            format!(
                "allow   content {good} {path}\n\
                 reason  rule: rules grant everything that was asked for\n\
                 rule    {rule}"
            )
        );
        let evil = ContentDigest::of(&b"evil"[..]).unwrap();
        let denied = format!(
            "deny    content {evil} {path}\n\
             reason  digest: the program is pinned to contents, and this is none of them\n\
             pinned  {rule}\
             mode    enforce for exec: refused\n\
             add     [exec] allow = [{{ path = \"{path}\", sha256 = \"{evil}\" }}]\n"
        );
        assert_eq!(explained(path, Some(evil)), denied);
        std::fs::write(&program, "evil").unwrap();
        assert_eq!(explained(path, None), denied);
        let unknown = explained("/nowhere", None);
        assert!(
            unknown.starts_with("deny    exec /nowhere\nreason  digest") && unknown.contains("--sha256"),
            "{unknown}"
        );
    }

    #[test]
    fn json_carries_the_suggestion() {
        let folder = tempfile::tempdir().unwrap();
        let subject = subject(&folder);
        let question = Question::from_line(b"read /srv/x").unwrap();
        let value = answer_json(&subject, &subject.answer(&question));
        assert_eq!(value["verdict"], "deny");
        assert_eq!(value["suggestions"][0]["text"], "[file] read = [\"/srv/x\"]");
        assert_eq!(value["refused"], false);
    }

    #[test]
    fn a_policy_with_mistakes_is_shown_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        std::fs::write(&path, "policy = \"p\"\n").unwrap();
        let Err(error) = Subject::load(&path) else { panic!("accepted") };
        assert!(error.to_string().contains("[workload] is missing"), "{error}");
    }
}
