//! The dynamic loader itself, told by its environment or its arguments to load what may only be read.

use std::process::{Command, Stdio};

use crate::prelude::*;

pub(crate) const ATTACK: Attack = Attack {
    name: "preload",
    told: "have the dynamic loader load what I may only read",
    kernels: Kernels::All,
    ordinary: false,
    rows,
    run,
};

/// The one program of the guest that is not static, and where its loader and its libraries lie.
const PROGRAM: &str = "/usr/local/bin/enforcer";
const LIBRARIES: &str = "/usr/local/lib/vm";
const LOADER: &str = "ld-linux-x86-64.so.2";

fn rows() -> Vec<Case> {
    let row = |how: &str, evil: &str| {
        ATTACK
            .row(&[how, evil])
            .prepared(copy)
            .given("exec.allow", PROGRAM)
            .given("exec.allow", &format!("{LIBRARIES}/{LOADER}"))
            .given("memory.libraries", &format!("{LIBRARIES}/*"))
            // What the program's run time looks at.
            .given("file.read", "/proc/self/*")
            .given("file.read", evil)
            .allowed_by("memory.libraries", evil)
            .refused(Hook::MmapFile, Family::Memory, Reason::NoRule)
            .needing("library")
            .about(evil)
    };
    vec![row("LD_PRELOAD", "{dir}/evil.so"), row("LD_AUDIT", "{dir}/evil.so"), row("ld.so", "{dir}/evil.so")]
}

fn run(words: &[&str]) -> Outcome {
    let [how, evil] = arguments(words)?;
    let mut command = if how == "ld.so" {
        let mut command = Command::new(format!("{LIBRARIES}/{LOADER}"));
        command.arg(evil);
        command
    } else {
        let mut command = Command::new(PROGRAM);
        command.env(how, evil);
        command
    };
    // Not the null device, which would take a rule.
    let command =
        command.arg("--version").stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().at("start")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // The loader goes on without what it cannot map, and a copy of a library is none for auditors: only this counts.
    if said.contains("failed to map segment") {
        return Err(failure(&format!("the loader says {said}"), libc::EPERM));
    }
    if !output.status.success() {
        return Err(failure(&format!("{} and {said}", output.status), libc::EREMOTEIO));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The C library, which is a program besides, under a name of which nothing but reading is allowed.
fn copy(directory: &Path) {
    let from = format!("{LIBRARIES}/libc.so.6");
    std::fs::copy(&from, directory.join("evil.so")).unwrap_or_else(|error| panic!("copying {from}: {error}"));
}
