//! The command line. One file a verb; printing and exit codes live here and nowhere else.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing belongs")]

mod anchors;
mod apply;
mod attest;
pub mod check;
mod events;
pub mod explain;
mod generate;
mod key;
mod output;
mod pcr;
mod probe;
mod run;
mod sign;
mod status;
mod tpm;
mod unload;
mod verify;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::{
    admission::Places,
    bundle::{anchors::ANCHORS, sources::SourcesError},
    intake::{Intake, IntakeError},
    policy::diagnostics::Style,
};

/// Kernel-level allowlist enforcement for containers and services.
///
/// Policies say what a workload may run, map, open and connect to. BPF programs in the kernel refuse everything else.
#[derive(Debug, Parser)]
#[command(name = "enforcer", version, max_term_width = 110, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit status: 0 done and well; 1 refused, failed, or not well; 2 wrong usage.
Environment: ENFORCER_LOG sets what is logged (error, warn, info, debug, or per module); \
ENFORCER_VERIFIER_LOG_DIR is a directory that gets the kernel verifier's whole log; NO_COLOR turns colour off.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Turn enforcement on, keep policies current and report events, in the foreground
    Run(run::Args),
    /// Put a set of policies in force now, with or without a running daemon
    Apply(apply::Args),
    /// Say everything that is wrong with policies, without installing anything
    Check(check::CheckArgs),
    /// Tell whether a policy allows a request, and by which rule
    Explain(Box<explain::ExplainArgs>),
    /// Sign policies for platform states
    Sign(Box<sign::Args>),
    /// Check a bundle's signatures, files and age, without a TPM
    Verify(verify::Args),
    /// Make and show keys that sign policies
    Key(key::Args),
    /// Write what machines trust: keys, thresholds, what the TPM has to prove
    Anchors(Box<anchors::Args>),
    /// Show and note what the platform's PCRs hold
    Pcr(pcr::Args),
    /// Enrol this machine's TPM, and show what it says
    Tpm(tpm::Args),
    /// Hand out evidence of what this machine enforces
    Attest(attest::AttestArgs),
    /// Verify evidence, on another machine
    VerifyEvidence(attest::VerifyArgs),
    /// Show what is in force beside what should be
    Status(status::Args),
    /// Show what was denied
    Events(events::Args),
    /// Check whether this machine can enforce, and say what it lacks
    Probe(probe::Args),
    /// Turn enforcement off and forget all policies
    Unload(unload::Args),
    /// Print a completion script
    Completions(generate::CompletionsArgs),
    /// Print the manual page, or write a page for each command
    Man(generate::ManArgs),
}

/// How output is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What a command found, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Well,
    NotWell,
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    init_log();
    // Only the daemon has to survive a reader that goes away.
    if !matches!(cli.command, Command::Run(_)) {
        crate::sys::die_of_broken_pipes();
    }
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => return finish(check::run(args)),
        Command::Explain(args) => return finish(explain::run(*args)),
        Command::Apply(args) => apply::run(&args),
        Command::Sign(args) => sign::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Anchors(args) => anchors::run(&args),
        Command::Pcr(args) => pcr::run(&args),
        Command::Tpm(args) => tpm::run(&args),
        Command::Attest(args) => attest::attest(&args),
        Command::VerifyEvidence(args) => attest::verify(&args),
        Command::Status(args) => status::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Unload(args) => unload::run(&args),
        Command::Completions(args) => generate::completions(&args, &mut Cli::command()),
        Command::Man(args) => generate::man(&args, Cli::command()),
    };
    finish(result.map(|outcome| match outcome {
        Outcome::Well => ExitCode::SUCCESS,
        Outcome::NotWell => ExitCode::FAILURE,
    }))
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

/// Says why a command failed: mistakes in policies drawn, everything else in a line a cause.
fn complain(error: &anyhow::Error) {
    let sources = match error.downcast_ref() {
        Some(IntakeError::Sources(sources)) => Some(sources),
        _ => error.downcast_ref(),
    };
    if let Some(SourcesError::Mistakes(mistakes)) = sources {
        let style = if output::has_colour(&std::io::stderr()) { Style::Coloured } else { Style::Plain };
        eprintln!("{}; nothing was changed", mistakes.render(style));
        return;
    }
    eprintln!("{} {error}", output::paint(&std::io::stderr(), output::Colour::Red, "error:"));
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries repeat their source in their own message.
        if !said.contains(&cause) {
            eprintln!("  because: {cause}");
        }
        said.push_str(&cause);
    }
}

fn init_log() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("ENFORCER_LOG")
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    // What it says of refusals, we say better.
    let filter = match "tss_esapi=off".parse() {
        Ok(quiet) if std::env::var_os("ENFORCER_LOG").is_none() => filter.add_directive(quiet),
        _ => filter,
    };
    let terminal = std::io::stderr().is_terminal() && output::has_colour(&std::io::stderr());
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    // systemd adds the time itself.
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().try_init()
    } else {
        log.try_init()
    };
    if let Err(error) = started {
        eprintln!("warning: no log: {error}");
    }
}

/// Policies and what they need, for the commands that install.
#[derive(Debug, clap::Args)]
struct InstallArgs {
    /// Accept policies that nobody signed, if the anchors agree (`unsigned = "allow"`)
    #[arg(long)]
    insecure_unsigned: bool,
    /// What this machine trusts
    #[arg(long, value_name = "FILE", default_value = ANCHORS)]
    anchors: PathBuf,
    /// Path of a program that sets workloads up for the host, such as runc. May be given more than once; replaces the
    /// built-in list
    #[arg(long = "launcher", value_name = "PATH")]
    launchers: Vec<String>,
}

impl InstallArgs {
    /// These policies, for this machine.
    fn intake(&self, policies: Vec<PathBuf>) -> Intake {
        Intake {
            policies,
            anchors: self.anchors.clone(),
            insecure_unsigned: self.insecure_unsigned,
            places: Places::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_explained() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }

    /// What people copy from the pages has to be understood, whatever was renamed meanwhile.
    #[test]
    fn commands_in_the_documentation_are_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let mut understood = 0;
        for page in pages.chain([root.join("README.md")]) {
            let text = std::fs::read_to_string(&page).unwrap().replace("\\\n", " ");
            for line in text.lines().map(str::trim_start).filter(|line| is_command(line)) {
                let words = line.split('#').next().unwrap().split_whitespace().map(example);
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{}: {line}: {error}", page.display());
                }
                understood += 1;
            }
            for span in text.split('`').filter(|span| span.starts_with("enforcer ")) {
                mention(span).unwrap_or_else(|what| panic!("{}: `{span}`: no {what}", page.display()));
                understood += 1;
            }
        }
        assert!(understood > 30, "{understood} commands were found");
    }

    fn is_command(line: &str) -> bool {
        let is_drawing = line.contains('▶');
        line.starts_with("enforcer ") && !is_drawing
    }

    /// A value for what stands for one.
    fn example(word: &str) -> String {
        match word {
            "\"$nonce\"" => "00".repeat(32),
            "\"$ak_name\"" => "00".repeat(34),
            word => word.to_owned(),
        }
    }

    /// Whether the command is there, and the options that are named with it.
    fn mention(span: &str) -> Result<(), String> {
        let mut command = Cli::command();
        for word in span.split_whitespace().skip(1) {
            let name = word.trim_matches(['[', ']', '"']).split('=').next().unwrap_or_default();
            if let Some(option) = name.strip_prefix("--") {
                let known = |argument: &clap::Arg| argument.get_long() == Some(option);
                command.get_arguments().find(|argument| known(argument)).ok_or(name)?;
            } else if command.has_subcommands() {
                command = command.find_subcommand(name).ok_or(name)?.clone();
            }
        }
        Ok(())
    }
}
