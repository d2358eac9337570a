//! `enforcer completions` and `enforcer man`.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Command;
use clap_complete::Shell;

use super::Outcome;

/// Where manual pages of commands for administrators belong.
const SECTION: &str = "8";

/// Prints a completion script, for example: enforcer completions bash > /etc/bash_completion.d/enforcer
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs, command: &mut Command) -> Result<Outcome> {
    clap_complete::generate(args.shell, command, "enforcer", &mut stdout());
    Ok(Outcome::Well)
}

/// Prints one manual page with all commands, or writes a page for each
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write enforcer.8, enforcer-run.8 and so on into this directory instead
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn man(args: &ManArgs, mut command: Command) -> Result<Outcome> {
    match &args.directory {
        Some(directory) => pages(command.disable_help_subcommand(true), directory)?,
        None => {
            command.build();
            one_page(&command, &mut stdout())?;
        }
    }
    Ok(Outcome::Well)
}

/// The summary, then each verb's synopsis and options.
fn one_page(command: &Command, out: &mut dyn Write) -> Result<()> {
    clap_mangen::Man::new(command.clone()).section(SECTION).render(out)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let page = clap_mangen::Man::new(verb.clone());
        page.render_name_section(out)?;
        page.render_synopsis_section(out)?;
        page.render_description_section(out)?;
        page.render_options_section(out)?;
    }
    Ok(())
}

/// A page for the command and each below it, named as `man` looks for them: `enforcer-tpm-enroll.8`.
fn pages(mut command: Command, directory: &Path) -> Result<()> {
    fn page(command: &Command, directory: &Path) -> Result<()> {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            page(verb, directory)?;
        }
        let page = clap_mangen::Man::new(command.clone()).section(SECTION);
        let written = page.generate_to(directory);
        drop(written.with_context(|| format!("cannot write a manual page into {}", directory.display()))?);
        Ok(())
    }
    command.build();
    page(&command, directory)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory as _;

    use super::{super::Cli, *};

    /// Every command below this one, with the name that its page has.
    fn commands(command: &Command, prefix: &str) -> Vec<(String, Command)> {
        let name = match prefix {
            "" => command.get_name().to_owned(),
            prefix => format!("{prefix}-{}", command.get_name()),
        };
        let below = command.get_subcommands().flat_map(|verb| commands(verb, &name)).collect::<Vec<_>>();
        [(name, command.clone())].into_iter().chain(below).collect()
    }

    #[test]
    fn every_command_has_a_page_with_all_of_its_options() {
        let directory = tempfile::tempdir().unwrap();
        pages(Cli::command().disable_help_subcommand(true), directory.path()).unwrap();
        let expected = commands(&Cli::command(), "");
        assert!(expected.iter().any(|(name, _)| name == "enforcer-tpm-enroll"), "{expected:?}");
        for (name, command) in &expected {
            let page = fs::read_to_string(directory.path().join(format!("{name}.8"))).unwrap();
            for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                let shown = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.contains(&shown), "{name}: {shown}");
            }
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), expected.len(), "a page too many");
    }

    #[test]
    fn completions_know_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "enforcer", &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }
}
