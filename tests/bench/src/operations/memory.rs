//! Mappings.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};

use super::syscall::{Number, syscall};
use super::{Run, accustomed};
use crate::fixture;

const PAGE: usize = 4096;

fn page() -> Result<NonZeroUsize> {
    NonZeroUsize::new(PAGE).context("a page is not empty")
}

fn unmap(address: NonNull<core::ffi::c_void>) -> Result<()> {
    // SAFETY: callers hand in the page they have just mapped, which nobody looks at.
    Ok(unsafe { munmap(address, PAGE) }?)
}

fn map(file: impl AsFd, protection: ProtFlags) -> Result<NonNull<core::ffi::c_void>> {
    // SAFETY: at an address of the kernel's choice; nothing else refers to it.
    Ok(unsafe { mmap(None, page()?, protection, MapFlags::MAP_PRIVATE, file, 0) }?)
}

pub(super) fn map_code(_: u32) -> Result<Run> {
    let file = File::open(fixture::LIBRARY).context("opening the library")?;
    accustomed(Box::new(move || unmap(map(&file, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC)?)))
}

pub(super) fn map_anonymous(_: u32) -> Result<Run> {
    Ok(Box::new(move || {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as in `map`.
        unmap(unsafe { mmap_anonymous(None, page()?, protection, MapFlags::MAP_PRIVATE) }?)
    }))
}

pub(super) fn protect_code(_: u32) -> Result<Run> {
    let file = File::open(fixture::LIBRARY).context("opening the library")?;
    let address = map(&file, ProtFlags::PROT_READ)?;
    Ok(Box::new(move || {
        for protection in [ProtFlags::PROT_READ | ProtFlags::PROT_EXEC, ProtFlags::PROT_READ] {
            // SAFETY: the page stays mapped and readable, and nobody looks at it.
            unsafe { mprotect(address, PAGE, protection) }?;
        }
        Ok(())
    }))
}

pub(super) fn attach_shared(_: u32) -> Result<Run> {
    let size = i64::try_from(PAGE)?;
    let shared = syscall(
        libc::SYS_shmget,
        [Number(libc::IPC_PRIVATE.into()), Number(size), Number(i64::from(libc::IPC_CREAT | 0o600))],
    )?;
    Ok(Box::new(move || {
        let address = syscall(libc::SYS_shmat, [Number(shared)])?;
        ensure!(address != 0, "an address");
        Ok(syscall(libc::SYS_shmdt, [Number(address)]).map(drop)?)
    }))
}
