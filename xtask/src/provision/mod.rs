//! Makes a machine ready. Each module owns one thing that can be missing, offers `ensure`, and does nothing in
//! a few milliseconds when the thing is there.

pub(crate) mod apt;
pub(crate) mod bpf_linker;
pub(crate) mod busybox;
pub(crate) mod cargo_tool;
pub(crate) mod kernel;
pub(crate) mod lock;
pub(crate) mod ovmf;
pub(crate) mod python;
pub(crate) mod rootfs;
pub(crate) mod rust_src;
pub(crate) mod tool;

use anyhow::Result;

use crate::paths::Cache;

/// What every build needs: a linker, `rust-src` and `bpf-linker`.
pub(crate) fn for_build(cache: &Cache) -> Result<()> {
    apt::ensure(&[apt::Purpose::Setup, apt::Purpose::Build])?;
    rust_src::ensure(cache)?;
    bpf_linker::ensure()
}
