//! How QEMU runs guest code: KVM where it proves to work, else the TCG emulator with a CPU model per kernel.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

/// The QEMU program's version, as far as it decides anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QemuVersion {
    major: u32,
    text: String,
}

/// How guest code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Emulation.
    Tcg,
}

/// How long the probe guest has. A working KVM needs one or two seconds, a broken one hangs for ever.
pub(crate) const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Reads `qemu-system-x86_64 --version`.
pub(crate) fn qemu_version() -> Result<QemuVersion> {
    parse_version(&process::text(process::command("qemu-system-x86_64").arg("--version"))?)
}

fn parse_version(text: &str) -> Result<QemuVersion> {
    let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
    let version = version.with_context(|| format!("no version in {text:?}"))?;
    let major = version.split('.').next().and_then(|major| major.parse().ok());
    Ok(QemuVersion {
        major: major.with_context(|| format!("odd version {version}"))?,
        text: version.to_owned(),
    })
}

/// `$ENFORCER_ACCEL` (`kvm` or `tcg`) if set.
pub(crate) fn from_environment() -> Result<Option<Accel>> {
    match std::env::var("ENFORCER_ACCEL").as_deref() {
        Ok("kvm") => Ok(Some(Accel::Kvm)),
        Ok("tcg") => Ok(Some(Accel::Tcg)),
        Ok("") | Err(_) => Ok(None),
        Ok(other) => bail!("ENFORCER_ACCEL is {other:?}; it can be kvm or tcg"),
    }
}

/// Whether a probe is worth it at all.
pub(crate) fn kvm_device_exists() -> bool {
    Path::new("/dev/kvm").exists()
}

/// Name under which a probe's result holds: as long as host kernel, boot and QEMU stay the same.
pub(crate) fn probe_key(qemu: &QemuVersion) -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let (boot, release) = (read("/proc/sys/kernel/random/boot_id"), read("/proc/sys/kernel/osrelease"));
    format!("kvm-probe/{release}-{}-{boot}", qemu.text)
}

impl Accel {
    /// QEMU's options for a kernel, by its short name.
    pub(crate) fn options(self, qemu: &QemuVersion, kernel: &str) -> Vec<String> {
        let (accel, cpu) = match self {
            Self::Kvm => ("kvm", "host"),
            // One thread: with several, 7.2 corrupts flags around text patching.
            Self::Tcg => ("tcg,thread=single", tcg_cpu(qemu.major, kernel)),
        };
        ["-smp", "1", "-accel", accel, "-cpu", cpu].map(str::to_owned).to_vec()
    }
}

/// Options with which QEMU 10 makes the guest's clocks count its instructions: one tick of the time stamp counter and
/// one nanosecond each. `root` is where it was unpacked.
///
/// An idle guest's clock jumps to its next timer. Without `erms` and `fsrm` the kernel copies and clears memory in
/// loops of its own, where QEMU would count every byte of a string instruction.
pub(super) fn counting(root: &Path) -> Vec<String> {
    let mut options: Vec<String> =
        ["-smp", "1", "-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm,-fsrs,-fzrm"]
            .map(str::to_owned)
            .to_vec();
    options.extend(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm", "-seed", "1"].map(str::to_owned));
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        options.extend(["-L".to_owned(), root.join(firmware).display().to_string()]);
    }
    options
}

/// QEMU before 10 emulates `cmpxchg16b` wrongly now and then, which 6.12 uses a lot and dies of. 7.x cannot do
/// without the instruction: BPF local storage then returns NULL. Without `erms` and `fsrm` the kernel copies and clears
/// memory eight bytes at a time, where it would use string instructions that QEMU emulates byte by byte: a tenth less time
/// for a boot and some hundred processes (6.12 on QEMU 7.2).
fn tcg_cpu(qemu_major: u32, kernel: &str) -> &'static str {
    if qemu_major < 10 && kernel == "6.12" { "max,-erms,-fsrm,cx16=off" } else { "max,-erms,-fsrm" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let version = parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright").unwrap();
        assert_eq!((version.major, version.text.as_str()), (7, "7.2.22"));
        assert!(parse_version("nonsense").is_err());
    }

    #[test]
    fn only_6_12_on_old_qemu_goes_without_cx16() {
        for (qemu, kernel, expected) in
            [(7, "6.1", true), (7, "6.12", false), (7, "7.3", true), (10, "6.12", true)]
        {
            assert_eq!(!tcg_cpu(qemu, kernel).contains("cx16=off"), expected, "QEMU {qemu}, kernel {kernel}");
        }
    }
}
