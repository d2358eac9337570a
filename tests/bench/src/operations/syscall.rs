//! System calls that `nix` does not offer, or offers with work of its own.

use std::ffi::CStr;

use nix::errno::Errno;

/// An argument.
pub(super) enum Argument<'a> {
    Number(i64),
    Text(&'a CStr),
    /// What the kernel reads.
    Bytes(&'a [u8]),
    /// What the kernel writes. Its length is an argument of its own.
    Room(&'a mut [u8]),
}

pub(super) use Argument::{Bytes, Number, Room, Text};

/// Makes a system call; the rest of its arguments are 0.
///
/// For calls that write through no other argument than [`Room`], and no further than its length.
pub(super) fn syscall<const N: usize>(
    number: libc::c_long,
    arguments: [Argument<'_>; N],
) -> Result<i64, Errno> {
    let mut words = [0_i64; 6];
    for (word, argument) in words.iter_mut().zip(arguments) {
        *word = match argument {
            Number(number) => number,
            Text(text) => text.as_ptr() as i64,
            Bytes(bytes) => bytes.as_ptr() as i64,
            Room(room) => room.as_mut_ptr() as i64,
        };
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: pointers come from references that outlive the call; the callers, all in this directory, choose calls
    // that write into rooms only.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}
