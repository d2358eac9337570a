//! `cargo xtask setup`

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};

use crate::debian::Mirror;
use crate::paths::Cache;
use crate::provision::kernel::{self, Kernel};
use crate::provision::lock::Lock;
use crate::provision::{self, apt, busybox, cargo_tool, python, rootfs, tool};
use crate::ui;

/// Make this machine ready: packages, rust-src, bpf-linker, kernels, root file system.
///
/// Does nothing, quickly, when everything is there; the other verbs do the part they need by themselves.
/// Downloads are kept in $ENFORCER_CACHE (default ~/.cache/enforcer); afterwards everything works offline.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pin the newest kernel of each series in xtask/kernels.lock, then set up.
    #[arg(long)]
    update_kernels: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    if args.update_kernels {
        update_lock(&cache)?;
    }
    everything(&cache)?;
    ui::note("this machine is ready");
    Ok(ExitCode::SUCCESS)
}

/// What every verb of this tree needs.
pub(super) fn everything(cache: &Cache) -> Result<()> {
    // First, because all others use these programs.
    use apt::Purpose::{Build, Manifests, Package, Rootfs, Setup, Tpm, Uefi, Vm};
    apt::ensure(&[Setup, Build, Vm, Rootfs, Tpm, Uefi, Package, Manifests])?;
    // The root file system mostly waits for dpkg, the kernels for the network, bpf-linker for the compiler.
    together([&|| for_host(cache), &|| for_guests(cache)])
}

/// What is compiled here, and what that takes.
fn for_host(cache: &Cache) -> Result<()> {
    provision::for_build(cache)?;
    cargo_tool::CARGO_DEB.ensure(cache).map(drop)?;
    cargo_tool::CARGO_GENERATE_RPM.ensure(cache).map(drop)?;
    python::ensure(cache).map(drop)?;
    tool::KUBECTL.ensure(cache, &Lock::read()?).map(drop)
}

/// What guests of both tiers and all kernels need.
pub(super) fn for_guests(cache: &Cache) -> Result<()> {
    apt::ensure(&[apt::Purpose::Setup, apt::Purpose::Vm, apt::Purpose::Rootfs])?;
    together([&|| rootfs::ensure(cache).map(drop), &|| for_matrix(cache)])
}

/// Runs both and reports the first failure.
fn together(steps: [&(dyn Fn() -> Result<()> + Sync); 2]) -> Result<()> {
    std::thread::scope(|scope| {
        let threads = steps.map(|step| scope.spawn(step));
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a set-up step panicked")))
        };
        threads.map(join).into_iter().collect()
    })
}

fn for_matrix(cache: &Cache) -> Result<()> {
    let lock = Lock::read()?;
    busybox::ensure(cache, &lock.busybox)?;
    lock.kernels.iter().try_for_each(|kernel| Kernel::ensure(cache, kernel).map(drop))
}

fn update_lock(cache: &Cache) -> Result<()> {
    apt::ensure(&[apt::Purpose::Setup])?;
    let mirror = Mirror::discover()?;
    let kernels = kernel::SERIES.iter().map(|(series, suite)| kernel::newest(cache, &mirror, series, suite));
    let tools = tool::TOOLS.iter().map(|tool| tool.newest(cache, &mirror));
    let lock = Lock {
        kernels: kernels.collect::<Result<_>>()?,
        busybox: busybox::newest(cache, &mirror)?,
        tools: tools.collect::<Result<_>>()?,
    };
    for kernel in &lock.kernels {
        ui::note(&format!("{} → {}", kernel.series, kernel.release));
    }
    lock.write().context("pinning kernels")
}
