//! `io_uring`, one entry at a time.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

use super::Run;
use super::syscall::{Number, Room, syscall};

const SETUP_SQPOLL: u32 = 1 << 1;
const SETUP_ATTACH_WQ: u32 = 1 << 5;
const ENTER_GETEVENTS: i64 = 1;
const REGISTER_PERSONALITY: i64 = 9;
const OFFSET_SQES: i64 = 0x1000_0000;
const OP_URING_CMD: u8 = 46;
/// More than the rings of one entry take.
const RINGS: usize = 4096;

/// `struct io_uring_params` as words: what is read of it.
mod parameter {
    pub(super) const FLAGS: usize = 2;
    pub(super) const WQ_FD: usize = 6;
    pub(super) const SQ_TAIL: usize = 11;
    pub(super) const SQ_ARRAY: usize = 16;
    pub(super) const CQ_HEAD: usize = 20;
    pub(super) const CQ_TAIL: usize = 21;
    pub(super) const CQ_MASK: usize = 22;
    pub(super) const CQES: usize = 25;
    pub(super) const COUNT: usize = 30;
}

type Parameters = [u32; parameter::COUNT];

fn set_up(parameters: &mut Parameters) -> nix::Result<OwnedFd> {
    let mut bytes = [0; parameter::COUNT * 4];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(*parameters) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let ring = syscall(libc::SYS_io_uring_setup, [Number(1), Room(&mut bytes)])?;
    for (bytes, word) in bytes.chunks_exact(4).zip(parameters) {
        *word = bytes.try_into().map_or(0, u32::from_ne_bytes);
    }
    let ring = i32::try_from(ring).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(ring) })
}

/// A ring of one entry. Its mappings stay until the process ends.
struct Ring {
    fd: OwnedFd,
    rings: NonNull<u8>,
    parameters: Parameters,
}

impl Ring {
    /// `entry` is what is submitted each time.
    fn new(entry: impl FnOnce(&OwnedFd) -> Result<[u8; 64]>) -> Result<Self> {
        let mut parameters = [0; parameter::COUNT];
        let fd = set_up(&mut parameters).context("io_uring_setup")?;
        let map = |length: usize, offset: i64| {
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let length = length.try_into().context("a mapping is not empty")?;
            // SAFETY: at an address of the kernel's choice; nothing else refers to it.
            let mapped = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd.as_fd(), offset) };
            mapped.context("mapping a ring").map(NonNull::cast::<u8>)
        };
        let (rings, entries) = (map(RINGS, 0)?, map(64, OFFSET_SQES)?);
        let entry = entry(&fd)?;
        // SAFETY: the mapping has room for one entry, and the kernel reads none before the tail moves.
        unsafe { entries.cast::<[u8; 64]>().write(entry) };
        Ok(Self { fd, rings, parameters })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel said that an aligned word is there, and the mapping lives as long as the process. The
        // kernel writes to it, too, hence atomic.
        unsafe { AtomicU32::from_ptr(self.rings.as_ptr().add(offset as usize).cast()) }
    }

    /// Submits the entry and waits for its result.
    fn submit(&self) -> Result<i32> {
        let at = |index: usize| self.word(self.parameters[index]);
        at(parameter::SQ_ARRAY).store(0, Ordering::Relaxed);
        at(parameter::SQ_TAIL).fetch_add(1, Ordering::Release);
        let ring = Number(self.fd.as_raw_fd().into());
        let done = syscall(
            libc::SYS_io_uring_enter,
            [ring, Number(1), Number(1), Number(ENTER_GETEVENTS), Number(0), Number(0)],
        )?;
        let head = at(parameter::CQ_HEAD).load(Ordering::Relaxed);
        ensure!(done == 1 && at(parameter::CQ_TAIL).load(Ordering::Acquire) != head, "no completion");
        let slot = head & at(parameter::CQ_MASK).load(Ordering::Relaxed);
        // A completion has 16 bytes, the result behind the user's eight.
        let result = self.word(self.parameters[parameter::CQES] + slot * 16 + 8).load(Ordering::Relaxed);
        at(parameter::CQ_HEAD).store(head.wrapping_add(1), Ordering::Release);
        Ok(result.cast_signed())
    }
}

fn submitting(entry: impl FnOnce(&OwnedFd) -> Result<[u8; 64]>) -> Result<Run> {
    let ring = Ring::new(entry)?;
    Ok(Box::new(move || {
        let result = ring.submit()?;
        ensure!(result == 0, "the entry ended with {result}");
        Ok(())
    }))
}

/// A command that the device takes and ignores.
pub(super) fn command(_: u32) -> Result<Run> {
    let device = File::open("/dev/null").context("opening the device")?;
    let number = device.as_raw_fd();
    // It stays open as long as the process.
    std::mem::forget(device);
    submitting(|_| {
        let mut entry = [0; 64];
        entry[0] = OP_URING_CMD;
        entry[4..8].copy_from_slice(&number.to_ne_bytes());
        Ok(entry)
    })
}

/// Nothing, with registered credentials: our own.
pub(super) fn override_credentials(_: u32) -> Result<Run> {
    submitting(|ring| {
        let register = [Number(ring.as_raw_fd().into()), Number(REGISTER_PERSONALITY), Number(0), Number(0)];
        let personality = u16::try_from(syscall(libc::SYS_io_uring_register, register)?)?;
        let mut entry = [0; 64];
        entry[42..44].copy_from_slice(&personality.to_ne_bytes());
        Ok(entry)
    })
}

/// A ring whose kernel thread is to be that of a ring that does not exist: the kernel asks before it looks for it.
pub(super) fn submission_thread(_: u32) -> Result<Run> {
    Ok(Box::new(|| {
        let mut parameters = [0; parameter::COUNT];
        parameters[parameter::FLAGS] = SETUP_SQPOLL | SETUP_ATTACH_WQ;
        parameters[parameter::WQ_FD] = u32::MAX;
        let result = set_up(&mut parameters).map(drop);
        ensure!(result == Err(Errno::ENXIO), "gave {result:?}");
        Ok(())
    }))
}
