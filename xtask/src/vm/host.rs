//! What every boot on this machine has in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::accel::{self, Accel, QemuVersion};
use super::{Ending, Guest, Program, Sink, Tier, session};
use crate::paths::Cache;
use crate::provision::kernel::Kernel;
use crate::provision::lock::Lock;
use crate::provision::{apt, busybox, rootfs};
use crate::ui;

/// A machine that can boot guests. Holding one means QEMU and the initramfs user space are there.
pub(crate) struct Host {
    pub(super) cache: Cache,
    pub(super) busybox: PathBuf,
    pub(super) qemu: QemuVersion,
    pub(super) accel: Accel,
    /// Replaces the usual limit, for the KVM probe.
    pub(super) boot_limit: Option<Duration>,
    lock: Lock,
}

impl Host {
    /// Makes the machine able to boot guests and finds out how fast it can. `agent` is the built `vm-guest`.
    pub(crate) fn prepare(cache: &Cache, agent: &Program) -> Result<Self> {
        apt::ensure(&[apt::Purpose::Setup, apt::Purpose::Vm])?;
        let lock = Lock::read()?;
        let mut host = Self {
            cache: cache.clone(),
            busybox: busybox::ensure(cache, &lock.busybox)?,
            qemu: accel::qemu_version()?,
            accel: Accel::Tcg,
            boot_limit: None,
            lock,
        };
        host.accel = host.choose_accel(agent)?;
        Ok(host)
    }

    /// The kernels meant by these names, or all when there are none, ready to boot.
    pub(crate) fn kernels(&self, names: &[String]) -> Result<Vec<Kernel>> {
        self.lock.select(names)?.into_iter().map(|locked| Kernel::ensure(&self.cache, locked)).collect()
    }

    /// What is pinned.
    pub(crate) const fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The root disk image of systemd guests.
    pub(crate) fn rootfs(&self) -> Result<PathBuf> {
        rootfs::ensure(&self.cache)
    }

    fn choose_accel(&mut self, agent: &Program) -> Result<Accel> {
        if let Some(accel) = accel::from_environment()? {
            return Ok(accel);
        }
        if !accel::kvm_device_exists() {
            return Ok(Accel::Tcg);
        }
        let key = accel::probe_key(&self.qemu);
        let cache = self.cache.clone();
        let result = cache.get_or_make(&key, |file| {
            let works = self.probe_kvm(agent)?;
            std::fs::write(file, if works { "works" } else { "does not work" })
                .context("storing the probe's result")
        })?;
        let works = std::fs::read_to_string(&result).is_ok_and(|text| text == "works");
        Ok(if works { Accel::Kvm } else { Accel::Tcg })
    }

    /// Boots a guest with KVM. The device alone proves nothing: nested hosts offer it and then hang early in boot.
    fn probe_kvm(&mut self, agent: &Program) -> Result<bool> {
        let step = ui::step("probing whether KVM runs a guest");
        let kernel = self.kernels(&["6.12".to_owned()])?.remove(0);
        let guest = Guest {
            kernel: &kernel,
            tier: Tier::Initramfs,
            argv: vec!["true".to_owned()],
            env: BTreeMap::new(),
            programs: std::slice::from_ref(agent),
            timeout: accel::PROBE_LIMIT,
            memory_mib: None,
            disk: None,
            share: None,
            net: false,
            tpm: None,
            uefi: false,
            interactive: false,
            kernel_parameters: String::new(),
            counting: None,
        };
        (self.accel, self.boot_limit) = (Accel::Kvm, Some(accel::PROBE_LIMIT));
        let report = session::run(self, &guest, &mut Silent);
        (self.accel, self.boot_limit) = (Accel::Tcg, None);
        step.done();
        let works = report.is_ok_and(|report| report.ending == Ending::Exited(0));
        ui::note(if works { "KVM works" } else { "KVM does not run guests here: using the TCG emulator" });
        Ok(works)
    }
}

struct Silent;

impl Sink for Silent {
    fn stdout(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn stderr(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}
