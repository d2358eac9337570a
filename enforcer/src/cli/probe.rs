//! `enforcer probe`.

use std::{io::stdout, path::Path};

use anyhow::Result;

use super::{
    Format, Outcome,
    output::{Colour, paint},
};
use crate::kernel::{
    btf::KernelTypes,
    probe::{Grade, Report, Root, probe, try_load},
};

/// Looks at the kernel and the machine. Changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also load every program to hear the kernel's verifier, without attaching any (as root)
    #[arg(long)]
    load: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    let types = KernelTypes::of_running_kernel();
    let mut report = probe(Root(Path::new("/")), &types);
    if args.load
        && let Ok(types) = &types
    {
        report.findings.push(try_load(types));
        report.supported &= report.findings.iter().all(|finding| finding.grade != Grade::Failure);
    }
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Text => print(&report),
    }
    Ok(if report.supported { Outcome::Well } else { Outcome::NotWell })
}

fn print(report: &Report) {
    let out = stdout();
    for finding in &report.findings {
        let grade = match finding.grade {
            Grade::Ok => paint(&out, Colour::Green, "ok     "),
            Grade::Info => "info   ".to_owned(),
            Grade::Warning => paint(&out, Colour::Yellow, "warning"),
            Grade::Failure => paint(&out, Colour::Red, "FAILURE"),
        };
        println!("{grade}  {:<13} {}", finding.name, finding.detail);
        if let Some(advice) = &finding.advice {
            println!("                       → {advice}");
        }
    }
    for hook in report.hooks.iter().filter(|hook| !hook.present) {
        println!("         no hook {}: {}", hook.name, hook.consequence.as_deref().unwrap_or_default());
    }
    let verdict = if report.supported {
        paint(&out, Colour::Green, "this machine can enforce")
    } else {
        paint(&out, Colour::Red, "this machine cannot enforce; see the failures above")
    };
    println!("\n{verdict}");
}
