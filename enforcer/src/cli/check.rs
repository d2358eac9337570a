//! `enforcer check`: says everything that is wrong with policies, without installing anything.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;
use enforcer_common::abi::SLOT_FIRST_POLICY;
use serde_json::{Value, json};

use crate::policy::{
    compile::compile,
    diagnostics::{Diagnostics, Severity, Style},
    image::PolicyImage,
    model::Policy,
    parse::parse,
    selectors::{Claim, compile_selectors},
    source::{Source, SourceError},
    stats::Stats,
};

/// Checks policies and says everything that is wrong with them.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Policy files. Several are also checked against each other, as if installed together.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also print what each policy costs: rules, automaton states, kernel memory, compile time.
    #[arg(long)]
    stats: bool,
    /// Exit with 1 on warnings, too.
    #[arg(long)]
    deny_warnings: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Runs the verb.
///
/// # Errors
/// A file cannot be read, or the output not written. Mistakes in policies are no error of this kind: they are printed,
/// and the exit code is 1.
pub fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let style = style_for(&std::io::stderr());
    let passed = check(&args, style, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Colours where a person reads and has not asked for none.
pub(super) fn style_for(stream: &impl std::io::IsTerminal) -> Style {
    let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if stream.is_terminal() && !wants_none { Style::Coloured } else { Style::Plain }
}

/// One file's result.
struct Checked {
    path: String,
    source: Result<Source, SourceError>,
    diagnostics: Diagnostics,
    compiled: Option<Compiled>,
}

struct Compiled {
    policy: Policy,
    image: PolicyImage,
    stats: Stats,
}

fn check(args: &CheckArgs, style: Style, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<bool> {
    let checked = args.files.iter().map(|path| check_file(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let conflicts = conflicts(&checked);
    let errors = |file: &Checked| file.compiled.is_none();
    let warnings = |file: &Checked| args.deny_warnings && file.diagnostics.count(Severity::Warning) > 0;
    let passed = conflicts.is_empty() && !checked.iter().any(|file| errors(file) || warnings(file));
    match args.format {
        Format::Text => print_text(args, &checked, &conflicts, style, out, err)?,
        Format::Json => {
            let files: Vec<Value> = checked.iter().map(|file| file_json(file, args.stats)).collect();
            writeln!(out, "{:#}", json!({ "ok": passed, "files": files, "conflicts": conflicts }))?;
        }
    }
    Ok(passed)
}

fn check_file(path: &Path) -> anyhow::Result<Checked> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the policy {}", path.display()))?;
    let path = path.display().to_string();
    let source = match Source::new(path.clone(), bytes) {
        Ok(source) => source,
        Err(error) => {
            return Ok(Checked {
                path,
                source: Err(error),
                diagnostics: Diagnostics::default(),
                compiled: None,
            });
        }
    };
    let started = Instant::now();
    let parsed = parse(&source);
    let mut diagnostics = parsed.diagnostics;
    let compiled = parsed.policy.and_then(|policy| match compile(&policy) {
        Ok(image) => {
            let stats = Stats::of(&policy, &image, started.elapsed());
            Some(Compiled { policy, image, stats })
        }
        Err(error) => {
            diagnostics.push(error.diagnostic(&policy));
            None
        }
    });
    Ok(Checked { path, source: Ok(source), diagnostics, compiled })
}

/// What keeps the files from being installed together.
fn conflicts(checked: &[Checked]) -> Vec<String> {
    let mut conflicts = Vec::new();
    let mut by_name: BTreeMap<&str, &str> = BTreeMap::new();
    let policies = checked.iter().filter_map(|file| Some((file, &file.compiled.as_ref()?.policy)));
    for (file, policy) in policies.clone() {
        if let Some(other) = by_name.insert(policy.name.as_str(), &file.path) {
            conflicts.push(format!("{other} and {} are both called `{}`", file.path, policy.name));
        }
    }
    let claims: Vec<Claim<'_>> = (SLOT_FIRST_POLICY..)
        .zip(policies)
        .map(|(slot, (_, policy))| Claim { selector: &policy.selector, slot, policy: policy.name.as_str() })
        .collect();
    conflicts.extend(compile_selectors(&claims).err().map(|error| error.to_string()));
    conflicts
}

fn print_text(
    args: &CheckArgs,
    checked: &[Checked],
    conflicts: &[String],
    style: Style,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<()> {
    for file in checked {
        match &file.source {
            Ok(source) => write!(err, "{}", file.diagnostics.render(source, style))?,
            Err(error) => writeln!(err, "error: {error}")?,
        }
    }
    for conflict in conflicts {
        writeln!(err, "error: {conflict}")?;
    }
    for file in checked {
        writeln!(out, "{}: {}", file.path, summary(file))?;
        if let Some(compiled) = file.compiled.as_ref().filter(|_| args.stats) {
            print_stats(&compiled.stats, out)?;
        }
    }
    Ok(())
}

fn summary(file: &Checked) -> String {
    let plural =
        |count: usize, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let counted = |count: usize, word: &str| match count {
        0 => String::new(),
        _ => format!(", {}", plural(count, word)),
    };
    let warnings = counted(file.diagnostics.count(Severity::Warning), "warning");
    match &file.compiled {
        Some(compiled) => {
            let rules = plural(compiled.stats.rules, "rule");
            format!("ok, policy {}, {rules}{warnings}", compiled.policy.name)
        }
        None => {
            let errors = file.diagnostics.count(Severity::Error).max(1);
            format!("refused{}{warnings}", counted(errors, "error"))
        }
    }
}

fn print_stats(stats: &Stats, out: &mut impl Write) -> std::io::Result<()> {
    let lines: [(&str, String); 9] = [
        ("rules", stats.rules.to_string()),
        ("exact names", stats.exact.to_string()),
        ("pins", stats.pins.to_string()),
        ("patterns", stats.patterns.to_string()),
        ("states", format!("{} ({} byte classes)", stats.states, stats.classes)),
        ("prefixes", format!("{} ({} port ranges)", stats.prefixes, stats.ports)),
        ("map memory", format!("{} KiB", stats.memory_kib())),
        (
            "",
            stats
                .memory
                .iter()
                .map(|(map, bytes)| format!("{map} {}", bytes.div_ceil(1024)))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("compile time", format!("{:.1} ms", stats.compile_ms())),
    ];
    lines.iter().try_for_each(|(key, value)| writeln!(out, "  {key:<13} {value}"))
}

fn file_json(file: &Checked, stats: bool) -> Value {
    let diagnostics = match &file.source {
        Ok(source) => file.diagnostics.to_json(source),
        Err(error) => json!([{ "severity": "error", "code": "not-text", "message": error.to_string() }]),
    };
    let compiled = file.compiled.as_ref();
    json!({
        "file": file.path,
        "ok": compiled.is_some(),
        "policy": compiled.map(|compiled| compiled.policy.name.as_str()),
        "digest": compiled.map(|compiled| hex::encode(compiled.image.digest())),
        "diagnostics": diagnostics,
        "stats": compiled.filter(|_| stats).map(|compiled| compiled.stats.to_json()),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CheckArgs,
    }

    const GOOD: &str = "policy = \"good\"\nworkload.unit = \"good.service\"\nexec.allow = [\"/bin/good\"]\n";

    /// Runs the verb on files with these contents.
    fn outcome(options: &[&str], files: &[&str]) -> (bool, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let paths = (0..).zip(files).map(|(at, text)| {
            let path = folder.path().join(format!("{at}.toml"));
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        });
        let options = ["check"].iter().chain(options).map(|it| (*it).to_owned());
        let args = Cli::parse_from(options.chain(paths)).args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let passed = check(&args, Style::Plain, &mut out, &mut err).unwrap();
        let clean =
            |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&*folder.path().to_string_lossy(), "");
        (passed, clean(out), clean(err))
    }

    #[test]
    fn a_good_policy_passes() {
        let (passed, out, err) = outcome(&[], &[GOOD]);
        assert_eq!((passed, out.as_str(), err.as_str()), (true, "/0.toml: ok, policy good, 1 rule\n", ""));
    }

    #[test]
    fn errors_fail_and_warnings_only_on_demand() {
        let (passed, out, err) = outcome(&[], &["policy = \"bad\"\nexec.alow = []\n"]);
        assert!(
            !passed && out.contains("refused, 2 errors") && err.contains("did you mean `allow`?"),
            "{out}{err}"
        );
        let empty = GOOD.replace("\"/bin/good\"", "");
        let (passed, out, _) = outcome(&[], &[&empty]);
        assert!(passed && out.contains("1 warning"), "{out}");
        assert!(!outcome(&["--deny-warnings"], &[&empty]).0);
    }

    #[test]
    fn files_are_checked_against_each_other() {
        let (passed, _, err) = outcome(&[], &[GOOD, GOOD]);
        assert!(!passed, "{err}");
        assert!(
            err.contains("are both called `good`") && err.contains("both bind the cgroup `/good.service`"),
            "{err}"
        );
    }

    #[test]
    fn json_is_one_object() {
        let (passed, out, err) = outcome(&["--format", "json", "--stats"], &[GOOD, "policy = 1\n"]);
        let value: Value = serde_json::from_str(&out).unwrap();
        assert!(!passed && err.is_empty());
        assert_eq!(value["files"][0]["policy"], "good");
        assert_eq!(value["files"][0]["stats"]["exact_names"], 1);
        assert_eq!(value["files"][1]["ok"], false);
        assert_eq!(value["files"][1]["diagnostics"][1]["code"], "wrong-type");
        assert_eq!(value["files"][1]["diagnostics"][1]["place"]["column"], 10);
    }

    #[test]
    fn stats_name_every_map() {
        let (_, out, _) = outcome(&["--stats"], &[GOOD]);
        for word in ["exact names", "EXACT 1", "ARENA 0", "compile time"] {
            assert!(out.contains(word), "{out}");
        }
    }
}
