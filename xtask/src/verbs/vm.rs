//! `cargo xtask vm`

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::build::{self, Profile};
use crate::paths::Cache;
use crate::provision::apt;
use crate::ui;
use crate::vm::{self, Ending, Guest, Host, Program, Report, Sink, Tier, TpmDevice, TpmInterface};

/// Boot a VM, run a command in it as root, print its output, exit with its status.
///
/// `enforcer`, the programs of tests/vm and tests/bypass and the test suites (as `suite-NAME`) are on the command's PATH. The
/// command's standard output and error arrive separately and unchanged; the kernel's console goes to a log file,
/// shown when the guest dies. Files the command leaves in /var/log/vm-artifacts are printed when it fails.
///
/// In the environment: ENFORCER_VM=1, ENFORCER_VM_KERNEL (uname -r), ENFORCER_VM_TIER (initramfs or systemd),
/// ENFORCER_VM_TPM (crb or tis, with a TPM).
/// Exit status 124: time limit; 125: the guest died or did not come up.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernel to boot: 6.12, 6.12.107 or a full release.
    #[arg(long, value_name = "V", default_value = "6.12")]
    kernel: String,
    /// Attach a TPM 2.0 (/dev/tpm0, /dev/tpmrm0), with fresh state unless --tpm-state is given.
    #[arg(long, value_name = "INTERFACE", num_args = 0..=1, require_equals = true, default_missing_value = "crb")]
    tpm: Option<TpmInterface>,
    /// Keep what the TPM remembers without power in DIR, so that the next boot has the same TPM.
    ///
    /// The guest works on a copy, which comes back when the command has ended.
    #[arg(long, value_name = "DIR", requires = "tpm")]
    tpm_state: Option<PathBuf>,
    /// Boot through UEFI firmware (OVMF), which measures itself, the kernel, its command line and the initramfs into the
    /// TPM's PCRs 0 to 9 and writes /sys/kernel/security/tpm0/binary_bios_measurements.
    #[arg(long)]
    uefi: bool,
    /// Boot Debian with systemd and servers instead of a bare initramfs with busybox.
    #[arg(long)]
    systemd: bool,
    /// Show DIR at /share.
    ///
    /// The guest works on a copy. After the command, changed and new files are copied back to DIR; deletions and
    /// changes of mode alone are not.
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// Attach a user-mode network: guest 10.0.2.15, host 10.0.2.2.
    #[arg(long)]
    net: bool,
    /// Memory in MiB.
    #[arg(long, value_name = "MiB")]
    mem: Option<u32>,
    /// Seconds the command may take.
    #[arg(long, value_name = "S", default_value_t = 300)]
    timeout: u64,
    /// Build with optimisation.
    #[arg(long)]
    release: bool,
    /// Set a variable in the command's environment.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Append to the kernel's command line.
    #[arg(long, value_name = "PARAMETERS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Program and arguments; none on a terminal means a shell.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Args {
    /// Debian with systemd and a TPM behind measuring firmware, running one command.
    pub(super) fn demo(kernel: &str, command: &str, timeout_s: u64, share: &Path) -> Self {
        Self {
            tpm: Some(TpmInterface::Crb),
            uefi: true,
            systemd: true,
            share: Some(share.to_owned()),
            ..Self::running(kernel, &[command], timeout_s)
        }
    }

    /// The small guest, running one command.
    pub(super) fn running(kernel: &str, command: &[&str], timeout_s: u64) -> Self {
        Self {
            kernel: kernel.to_owned(),
            tpm: None,
            tpm_state: None,
            uefi: false,
            systemd: false,
            share: None,
            net: false,
            mem: None,
            timeout: timeout_s,
            release: false,
            env: Vec::new(),
            append: String::new(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    /// With this directory at `/share`.
    pub(super) fn sharing(mut self, directory: PathBuf) -> Self {
        self.share = Some(directory);
        self
    }

    /// With this much memory.
    pub(super) fn memory_mib(mut self, mib: u32) -> Self {
        self.mem = Some(mib);
        self
    }
}

/// In a session of its own with the console as terminal, for job control.
const INTERACTIVE: [&str; 4] = ["setsid", "-c", "sh", "-l"];

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let interactive = args.command.is_empty();
    if interactive && !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        bail!("no command given, and this is no terminal to run a shell on: cargo xtask vm -- CMD");
    }
    let cache = Cache::open()?;
    if args.tpm.is_some() {
        apt::ensure(&[apt::Purpose::Tpm])?;
    }
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    let programs = everything_built(&cache, profile)?;
    let host = Host::prepare(&cache, agent(&programs)?)?;
    let kernel = host.kernels(std::slice::from_ref(&args.kernel))?.remove(0);
    let guest = Guest {
        kernel: &kernel,
        tier: if args.systemd { Tier::Systemd } else { Tier::Initramfs },
        argv: if interactive { INTERACTIVE.map(str::to_owned).to_vec() } else { args.command },
        env: environment(&args.env)?,
        programs: &programs,
        timeout: Duration::from_secs(args.timeout),
        memory_mib: args.mem,
        disk: None,
        share: args.share,
        net: args.net,
        tpm: args.tpm.map(|interface| TpmDevice { interface, state: args.tpm_state }),
        uefi: args.uefi,
        interactive,
        kernel_parameters: args.append,
        counting: None,
    };
    if std::io::stderr().is_terminal() {
        ui::note(&format!("booting {}", kernel.release));
    }
    let report = vm::run(&host, &guest, &mut Unchanged);
    if interactive {
        // QEMU was killed and could not take its raw mode off the terminal.
        let _ = std::process::Command::new("stty").arg("sane").status();
    }
    let report = report?;
    Ok(ExitCode::from(explain(&report)))
}

/// All programs a guest can use, the suites under names of their own.
pub(super) fn everything_built(cache: &Cache, profile: Profile) -> Result<Vec<Program>> {
    let mut programs = build::programs(cache, profile)?;
    for suite in build::suites(cache, profile)? {
        programs.push(Program { name: format!("suite-{}", suite.name), file: suite.file });
    }
    Ok(programs)
}

/// The guest's own end of the conversation, among the built programs.
pub(super) fn agent(programs: &[Program]) -> Result<&Program> {
    programs.iter().find(|program| program.name == "vm-guest").context("vm-guest was not built")
}

fn environment(settings: &[String]) -> Result<BTreeMap<String, String>> {
    let split = |setting: &String| match setting.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => bail!("--env {setting}: expected NAME=VALUE"),
    };
    settings.iter().map(split).collect()
}

/// Says what went wrong, if anything, and chooses our exit status.
fn explain(report: &Report) -> u8 {
    let status = match &report.ending {
        // Statuses are a byte by convention of the shell; larger ones do not occur.
        Ending::Exited(status) => u8::try_from(*status).unwrap_or(u8::MAX),
        Ending::TimedOut(what) => {
            show_console(report);
            ui::error(what);
            124
        }
        Ending::Died(how) => {
            show_console(report);
            ui::error(&format!("the guest died: {how}"));
            125
        }
    };
    if status != 0 {
        for (name, text) in report.artifacts() {
            ui::note(&format!("--- {name} ---\n{text}"));
        }
        ui::note(&format!("exit status {status}; logs in {}", report.logs.display()));
    }
    if let Some(boot) = report.boot.filter(|_| std::env::var_os("ENFORCER_VM_TIMES").is_some()) {
        ui::note(&format!("boot {:.1} s, total {:.1} s", boot.as_secs_f64(), report.total.as_secs_f64()));
    }
    status
}

fn show_console(report: &Report) {
    ui::note(&format!("--- end of the console ---\n{}", report.console_tail(60)));
}

/// Passes the command's bytes through.
struct Unchanged;

impl Sink for Unchanged {
    fn stdout(&mut self, data: &[u8]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(data).and_then(|()| out.flush()).context("writing to standard output")
    }

    fn stderr(&mut self, data: &[u8]) -> Result<()> {
        std::io::stderr().lock().write_all(data).context("writing to standard error")
    }
}
