//! What this machine has of what enforcement needs, and what to do about what is missing.
#![forbid(unsafe_code)]

use std::{fs, path::Path};

use enforcer_common::hook::Hook;
use serde::Serialize;

use super::{
    btf::{BtfError, KernelTypes},
    load::{self, LoadError, SetUp},
    maps::Sizes,
    pin::BPFFS,
    preemption,
    support::{self, Verity},
    symbols::Symbols,
};
use crate::cgroups::mount_point;

/// Oldest kernel that the programs are verified on.
pub const OLDEST: (u32, u32) = (6, 1);

/// Where things are looked up, so that tests can bring their own.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a>(pub &'a Path);

impl Root<'_> {
    pub(super) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path.trim_start_matches('/'))).ok().map(|text| text.trim().to_owned())
    }

    fn exists(&self, path: &str) -> bool {
        self.0.join(path.trim_start_matches('/')).exists()
    }
}

/// How a finding counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// For information.
    Info,
    /// Something works less well.
    Warning,
    /// Enforcement cannot work.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub name: String,
    /// How it counts.
    pub grade: Grade,
    /// What was found.
    pub detail: String,
    /// What to do, or what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn new(name: &str, grade: Grade, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), grade, detail: detail.into(), advice: None }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether enforcement can work.
    pub supported: bool,
    /// The findings, most basic first.
    pub findings: Vec<Finding>,
    /// Every hook and whether the kernel has it.
    pub hooks: Vec<HookFinding>,
}

/// One hook.
#[derive(Clone, Debug, Serialize)]
pub struct HookFinding {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// What follows if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consequence: Option<String>,
}

/// Looks at the running machine. Loads nothing.
#[must_use]
pub fn probe(root: Root<'_>, types: &Result<KernelTypes, BtfError>) -> Report {
    let mut findings = vec![kernel(root), lsm(root)];
    let mut hooks = Vec::new();
    match types {
        Ok(types) => {
            findings.push(Finding::new("btf", Grade::Ok, "the kernel describes its types"));
            findings.push(match types.field_offsets() {
                Ok(offsets) => Finding::new("fields", Grade::Ok, format!("all {} found", offsets.len())),
                Err(error) => Finding::new("fields", Grade::Failure, error.to_string())
                    .advise("use a supported kernel, or report this one"),
            });
            hooks = hook_findings(types);
            findings.push(hook_summary(&hooks));
            findings.push(content_pins(types, root));
            findings.push(verity_pins(types));
        }
        Err(error) => findings.push(
            Finding::new("btf", Grade::Failure, error.to_string())
                .advise("use a kernel built with CONFIG_DEBUG_INFO_BTF=y; every current distribution's is"),
        ),
    }
    findings.extend([
        symbols(),
        task_storage(root),
        mounted(root, "cgroup2", "cgroup2", "/sys/fs/cgroup"),
        mounted(root, "bpffs", "bpf", BPFFS),
        privileges(),
        lockdown(root),
        preemption(root),
        tpm(root),
    ]);
    let supported = findings.iter().all(|finding| finding.grade != Grade::Failure);
    Report { supported, findings, hooks }
}

/// Loads every program, attaches none, and forgets them: asks the verifier itself.
#[must_use]
pub fn try_load(types: &KernelTypes) -> Finding {
    let sizes = Sizes {
        exact: 1024,
        pins: 1024,
        arena: 1024,
        prefixes: 1024,
        ports: 1024,
        bindings: 1024,
        events_bytes: 1 << 20,
    };
    let started = std::time::Instant::now();
    let result = load::available_hooks(types).and_then(|hooks| {
        let mut object = load::prepare(types, &SetUp { sizes, remembers: true }, None)?;
        object.load_programs(&hooks)?;
        Ok((hooks.len(), object.largest()))
    });
    match result {
        Ok((count, largest)) => {
            let took = started.elapsed().as_secs_f32();
            let largest = largest.map_or_else(String::new, |(hook, instructions)| {
                format!("; {hook} has most paths, {instructions} of 1000000 instructions")
            });
            let text = format!("accepts all {count} programs ({took:.1} s{largest})");
            Finding::new("verifier", Grade::Ok, text)
        }
        Err(error @ LoadError::Refused { .. }) => Finding::new("verifier", Grade::Failure, error.to_string())
            .advise("report this kernel together with the whole log"),
        Err(error) => Finding::new("verifier", Grade::Failure, error.to_string()),
    }
}

fn kernel(root: Root<'_>) -> Finding {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    match version(&release) {
        Some(version) if version >= OLDEST => Finding::new("kernel", Grade::Ok, release),
        Some(_) => Finding::new("kernel", Grade::Failure, format!("{release} is too old"))
            .advise(format!("use Linux {}.{} or newer", OLDEST.0, OLDEST.1)),
        None => Finding::new("kernel", Grade::Warning, format!("release {release:?} is not understood")),
    }
}

/// Major and minor number of a release.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = numbers(release);
    Some((numbers.next()?, numbers.next()?))
}

/// The numbers that a release begins with.
pub(super) fn numbers(release: &str) -> impl Iterator<Item = u32> + '_ {
    release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok())
}

fn lsm(root: Root<'_>) -> Finding {
    const LIST: &str = "/sys/kernel/security/lsm";
    let Some(active) = root.read(LIST) else {
        let finding = Finding::new("lsm", Grade::Failure, format!("{LIST} cannot be read"));
        return finding.advise("mount it: `mount -t securityfs securityfs /sys/kernel/security`");
    };
    if active.split(',').any(|name| name == "bpf") {
        return Finding::new("lsm", Grade::Ok, format!("bpf is active ({active})"));
    }
    // `capability` is always on and not named in the parameter.
    let listed: Vec<&str> = active.split(',').filter(|name| *name != "capability").chain(["bpf"]).collect();
    Finding::new("lsm", Grade::Failure, format!("bpf is not among the active security modules ({active})"))
        .advise(format!(
            "boot with the kernel parameter `lsm={}`; with GRUB: append it to GRUB_CMDLINE_LINUX in \
             /etc/default/grub, run update-grub, reboot",
            listed.join(",")
        ))
}

fn hook_findings(types: &KernelTypes) -> Vec<HookFinding> {
    let finding = |hook: &Hook| {
        let present = support::offers(types, *hook).unwrap_or(false);
        let consequence = (!present).then(|| match support::optional(*hook) {
            Some(optional) if optional.is_missed(types) => {
                format!("enforcement works without, but {optional}: {}", optional.why)
            }
            Some(optional) => format!("enforcement works without: {}", optional.why),
            None => match support::may_miss(*hook) {
                Some(why) => format!("enforcement works without: {why}"),
                None => "enforcement refuses to start: what this hook guards would be open".to_owned(),
            },
        });
        HookFinding { name: hook.name(), present, consequence }
    };
    Hook::ALL.iter().map(finding).collect()
}

fn hook_summary(hooks: &[HookFinding]) -> Finding {
    let absent: Vec<&HookFinding> = hooks.iter().filter(|hook| !hook.present).collect();
    let names: Vec<&str> = absent.iter().map(|hook| hook.name).collect();
    let any = |is: fn(Hook) -> bool| absent.iter().any(|hook| Hook::from_name(hook.name).is_some_and(is));
    let needed = any(|hook| support::may_miss(hook).is_none());
    let guards = any(|hook| support::optional(hook).is_some());
    if names.is_empty() {
        Finding::new("hooks", Grade::Ok, format!("all {} found", hooks.len()))
    } else if !needed && !guards {
        let detail = format!("all found but those whose work others do here: {}", names.join(", "));
        Finding::new("hooks", Grade::Ok, detail)
    } else if needed {
        Finding::new("hooks", Grade::Failure, format!("missing: {}", names.join(", ")))
            .advise("the kernel needs CONFIG_BPF_LSM, CONFIG_SECURITY_NETWORK and CONFIG_SECURITY_PATH")
    } else {
        Finding::new("hooks", Grade::Warning, format!("missing, and not needed: {}", names.join(", ")))
    }
}

/// The programs check with the locks that a path did not change while it was read, and find the host's first process.
fn symbols() -> Finding {
    match Symbols::of_running_kernel() {
        Ok(_) => Finding::new("symbols", Grade::Ok, format!("{} found", Symbols::NAMES.join(", "))),
        // Without root the kernel hides addresses; what follows for `run` as root is not known then.
        Err(error) if !crate::sys::is_root() => Finding::new("symbols", Grade::Warning, error.to_string()),
        Err(error) => Finding::new("symbols", Grade::Failure, error.to_string())
            .advise("use a kernel built with CONFIG_KALLSYMS_ALL=y; every current distribution's is"),
    }
}

fn content_pins(types: &KernelTypes, root: Root<'_>) -> Finding {
    const NAME: &str = "content-pins";
    match support::content(types, root) {
        Ok(()) if support::has_ima_policy(root) => Finding::new(
            NAME,
            Grade::Warning,
            "IMA has a policy of its own, and answers with hashes it remembers",
        )
        .advise(
            "it forgets them when a file's last writer closes it; docs/kernel-support.md says what is left",
        ),
        Ok(()) => Finding::new(NAME, Grade::Ok, "the kernel computes SHA-256 of programs (IMA)"),
        Err(why) => Finding::new(NAME, Grade::Warning, why.to_string())
            .advise("policies with `sha256` are refused here; all others work"),
    }
}

fn verity_pins(types: &KernelTypes) -> Finding {
    const NAME: &str = "verity-pins";
    match support::verity(types) {
        Ok(Verity::Asked) => Finding::new(NAME, Grade::Ok, "the kernel tells fs-verity digests of programs"),
        Ok(Verity::Read) => {
            Finding::new(NAME, Grade::Ok, "fs-verity digests of programs are read from the kernel's memory")
        }
        Err(why) => Finding::new(NAME, Grade::Warning, why.to_string())
            .advise("policies with `fsverity` are refused here; all others work"),
    }
}

/// Since 6.19 or so local storage is allocated without locks, which takes a 16-byte compare-and-exchange.
fn task_storage(root: Root<'_>) -> Finding {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = root.read("/proc/cpuinfo").unwrap_or_default();
    let lacks = cfg!(target_arch = "x86_64") && !cpus.split_ascii_whitespace().any(|flag| flag == "cx16");
    match (lacks, version(&release)) {
        (true, Some(version)) if version >= (7, 0) => Finding::new(
            "task-storage",
            Grade::Failure,
            "the processor lacks cmpxchg16b, without which this kernel has no task storage",
        )
        .advise("give the virtual machine a processor model with cx16"),
        _ => Finding::new("task-storage", Grade::Ok, "usable"),
    }
}

fn mounted(root: Root<'_>, name: &str, fs_type: &str, at: &str) -> Finding {
    let mounts = root.read("/proc/self/mountinfo").unwrap_or_default();
    match mount_point(&mounts, fs_type) {
        Some(path) => Finding::new(name, Grade::Ok, format!("mounted at {path}")),
        None => Finding::new(name, Grade::Failure, "not mounted")
            .advise(format!("mount it: `mount -t {fs_type} {fs_type} {at}`")),
    }
}

fn privileges() -> Finding {
    if crate::sys::is_root() {
        Finding::new("privileges", Grade::Ok, "running as root")
    } else {
        Finding::new("privileges", Grade::Warning, "not running as root: `enforcer run` and `apply` need it")
    }
}

fn lockdown_mode(root: Root<'_>) -> String {
    let mode = root.read("/sys/kernel/security/lockdown").unwrap_or_default();
    mode.split(['[', ']']).nth(1).unwrap_or("none").to_owned()
}

/// Whether root is kept from loading other code into the kernel: without that no seal holds against root.
#[must_use]
pub fn is_locked_down(root: Root<'_>) -> bool {
    lockdown_mode(root) != "none"
}

fn lockdown(root: Root<'_>) -> Finding {
    let active = lockdown_mode(root);
    match active.as_str() {
        "none" => Finding::new("lockdown", Grade::Info, active)
            .advise("machines that are to be sealed boot with `lockdown=integrity`: root could change the kernel else"),
        "confidentiality" => {
            Finding::new("lockdown", Grade::Failure, "confidentiality: programs may not read kernel memory")
                .advise("boot with `lockdown=integrity` or without the parameter")
        }
        _ => Finding::new("lockdown", Grade::Info, active),
    }
}

fn preemption(root: Root<'_>) -> Finding {
    match preemption::refusal(root) {
        None => Finding::new("preemption", Grade::Info, preemption::Model::of(root).to_string()),
        Some(why) => Finding::new("preemption", Grade::Failure, why)
            .advise("boot with the kernel parameter `preempt=voluntary`"),
    }
}

fn tpm(root: Root<'_>) -> Finding {
    if root.exists("/dev/tpmrm0") {
        Finding::new("tpm", Grade::Ok, "/dev/tpmrm0 is there")
    } else {
        Finding::new(
            "tpm",
            Grade::Info,
            "no TPM 2.0 (/dev/tpmrm0): policies cannot be bound to measured boot",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{btf::tests::Writer, testing::machine};

    fn grade(report: &Report, name: &str) -> Grade {
        report.findings.iter().find(|finding| finding.name == name).unwrap().grade
    }

    #[test]
    fn versions() {
        let table =
            [("6.12.107+deb13-amd64", Some((6, 12))), ("7.3-rc1", Some((7, 3))), ("x", None), ("6", None)];
        for (release, expected) in table {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn the_parameter_that_turns_bpf_on_is_spelt_out() {
        let root = machine(&[("sys/kernel/security/lsm", "lockdown,capability,yama,apparmor\n")]);
        let finding = lsm(Root(root.path()));
        assert_eq!(finding.grade, Grade::Failure);
        assert!(finding.advice.unwrap().contains("`lsm=lockdown,yama,apparmor,bpf`"));
        let root = machine(&[("sys/kernel/security/lsm", "capability,bpf")]);
        assert_eq!(lsm(Root(root.path())).grade, Grade::Ok);
    }

    #[test]
    fn a_machine_with_nothing_is_told_everything() {
        let root = machine(&[("proc/sys/kernel/osrelease", "5.10.0\n")]);
        let types = KernelTypes::parse(Writer::new().finish());
        let report = probe(Root(root.path()), &types);
        assert!(!report.supported);
        for name in ["kernel", "lsm", "fields", "hooks", "cgroup2", "bpffs"] {
            assert_eq!(grade(&report, name), Grade::Failure, "{name}");
        }
        assert!(
            report
                .findings
                .iter()
                .filter(|finding| finding.grade == Grade::Failure)
                .all(|finding| finding.advice.is_some())
        );
        assert_eq!(report.hooks.len(), Hook::ALL.len());
    }
}
