//! AppArmor with the benchmark's rules.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use enforcer_bench::fixture::{self, CHANGEABLE, READABLE};
use enforcer_bench::operations::Measured;
use enforcer_vm_tests::actor::installed;

use crate::ops::Ops;

const PROFILE: &str = "enforcer-bench";

pub(crate) fn measure(ops: &Ops, rules: usize) -> Result<Measured> {
    load(&profile(rules))?;
    let mut command = ops.command();
    // It has no rules about addresses.
    command.args(["--common", "--refused", "open,exec"]);
    let enter = || fs::write("/proc/self/attr/apparmor/exec", format!("exec {PROFILE}"));
    // SAFETY: the child is a copy of a process whose other threads hold no lock that writing a file takes.
    unsafe { command.pre_exec(enter) };
    ops.measure(command)
}

fn load(profile: &str) -> Result<()> {
    let mut parser = Command::new(installed("apparmor_parser"));
    parser.args(["--config-file=/dev/null", "--replace", "--skip-cache", "--quiet"]).stdin(Stdio::piped());
    let mut child = parser.spawn().context("starting apparmor_parser")?;
    child.stdin.take().context("a pipe was asked for")?.write_all(profile.as_bytes())?;
    let status = child.wait().context("waiting for apparmor_parser")?;
    ensure!(status.success(), "apparmor_parser ended with {status}");
    Ok(())
}

fn profile(rules: usize) -> String {
    let mut lines: Vec<String> =
        ["inet", "inet6", "unix"].map(|family| format!("network {family},")).to_vec();
    lines.extend(["capability,", "unix,", "signal,", "/proc/** r,"].map(str::to_owned));
    lines.push(format!("{} mr,", fixture::program().display()));
    for program in [fixture::STATIC_PROGRAM, fixture::DYNAMIC_PROGRAM] {
        lines.push(format!("{program} mrix,"));
    }
    lines.extend([fixture::LIBRARY, "/usr/local/lib/vm/**"].map(|library| format!("{library} mr,")));
    lines.extend(READABLE.iter().map(|file| format!("{file} r,")));
    lines.push(format!("{} rw,", fixture::WRITABLE));
    lines.extend(CHANGEABLE.iter().map(|directory| format!("{directory}/** rwl,")));
    let filler = rules.saturating_sub(lines.len());
    lines.extend((0..filler).map(|index| format!("{} r,", fixture::filler(index))));
    let mut text = format!("profile {PROFILE} {{\n");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("}\n");
    text
}
