//! `enforcer completions` and `enforcer man`.

use std::io::stdout;

use anyhow::Result;
use clap::Command;
use clap_complete::Shell;

use super::Outcome;

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

/// One page with all verbs: the summary, then each verb's synopsis and options.
pub(super) fn man(mut command: Command) -> Result<Outcome> {
    command.build();
    let mut out = stdout();
    clap_mangen::Man::new(command.clone()).section("8").render(&mut out)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let page = clap_mangen::Man::new(verb.clone());
        page.render_name_section(&mut out)?;
        page.render_synopsis_section(&mut out)?;
        page.render_description_section(&mut out)?;
        page.render_options_section(&mut out)?;
    }
    Ok(Outcome::Well)
}
