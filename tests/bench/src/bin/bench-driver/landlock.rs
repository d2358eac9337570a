//! Landlock with the benchmark's rules.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;

use anyhow::{Context, Result};
use enforcer_bench::fixture::{self, CHANGEABLE, PORT, READABLE};
use enforcer_bench::operations::Measured;
use nix::errno::Errno;

use crate::ops::Ops;

const CREATE_RULESET: libc::c_long = 444;
const ADD_RULE: libc::c_long = 445;
const RESTRICT_SELF: libc::c_long = 446;
const VERSION: u64 = 1;
const PATH_BENEATH: u64 = 1;
const NET_PORT: u64 = 2;

const EXECUTE: u64 = 1;
const WRITE: u64 = 1 << 1;
const READ: u64 = 1 << 2;
/// Everything there is to do with files in version 1, but for starting them.
const CHANGE: u64 = (1 << 13) - 1 - EXECUTE;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const BIND_AND_CONNECT_TCP: u64 = 3;

pub(crate) fn measure(ops: &Ops, rules: usize) -> Result<Measured> {
    let ruleset = Ruleset::new()?;
    let mut left = rules;
    let mut allow = |path: &str, access: u64| {
        left = left.saturating_sub(1);
        ruleset.allow(path, access).with_context(|| format!("a rule for {path}"))
    };
    for program in
        [fixture::program().to_string_lossy().as_ref(), fixture::STATIC_PROGRAM, fixture::DYNAMIC_PROGRAM]
    {
        allow(program, EXECUTE | READ)?;
    }
    for libraries in [fixture::LIBRARY, "/usr/local/lib/vm"] {
        allow(libraries, EXECUTE | READ)?;
    }
    for file in READABLE {
        allow(file, READ)?;
    }
    allow(fixture::WRITABLE, READ | WRITE)?;
    for directory in CHANGEABLE {
        allow(directory, CHANGE)?;
    }
    allow("/proc", READ)?;
    ruleset.allow_port()?;
    for index in 0..left.saturating_sub(1) {
        let file = fixture::filler(index);
        fs::write(&file, "").with_context(|| format!("writing {file}"))?;
        ruleset.allow(&file, READ).with_context(|| format!("a rule for {file}"))?;
    }
    let mut command = ops.command();
    // Port rules came with version 4.
    command.args([
        "--common",
        "--refused",
        if ruleset.version >= 4 { "open,exec,connect" } else { "open,exec" },
    ]);
    let descriptor = ruleset.descriptor.as_raw_fd();
    let restrict = move || {
        // SAFETY: takes numbers only.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        // SAFETY: takes numbers only; the descriptor is inherited.
        Errno::result(unsafe { libc::syscall(RESTRICT_SELF, descriptor, 0) })?;
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(restrict) };
    ops.measure(command)
}

struct Ruleset {
    descriptor: OwnedFd,
    version: i64,
}

impl Ruleset {
    fn new() -> Result<Self> {
        // SAFETY: without attributes it answers with the version.
        let version = unsafe { libc::syscall(CREATE_RULESET, 0, 0, VERSION) };
        let version = Errno::result(version).context("this kernel has no Landlock, or does not use it")?;
        let mut files = CHANGE | EXECUTE;
        if version >= 2 {
            files |= REFER;
        }
        if version >= 3 {
            files |= TRUNCATE;
        }
        let handled = [files, BIND_AND_CONNECT_TCP];
        let size = if version >= 4 { 16 } else { 8 };
        // SAFETY: `handled` is as long as said.
        let descriptor = Errno::result(unsafe { libc::syscall(CREATE_RULESET, handled.as_ptr(), size, 0) })?;
        // SAFETY: the kernel has just made it, and nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor)?) };
        Ok(Self { descriptor, version })
    }

    fn allow(&self, path: &str, access: u64) -> Result<()> {
        let object = File::open(path)?;
        let mut rule = [0; 12];
        // Files have no rights of directories.
        let access = if object.metadata()?.is_dir() { access } else { access & (EXECUTE | READ | WRITE) };
        rule[..8].copy_from_slice(&access.to_ne_bytes());
        rule[8..].copy_from_slice(&object.as_raw_fd().to_ne_bytes());
        self.add(PATH_BENEATH, &rule)
    }

    fn allow_port(&self) -> Result<()> {
        if self.version < 4 {
            return Ok(());
        }
        let mut rule = [0; 16];
        rule[..8].copy_from_slice(&BIND_AND_CONNECT_TCP.to_ne_bytes());
        rule[8..].copy_from_slice(&u64::from(PORT).to_ne_bytes());
        self.add(NET_PORT, &rule)
    }

    fn add(&self, kind: u64, rule: &[u8]) -> Result<()> {
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: `rule` is as long as rules of this kind are, and is only read.
        Errno::result(unsafe { libc::syscall(ADD_RULE, descriptor, kind, rule.as_ptr(), 0) })?;
        Ok(())
    }
}
