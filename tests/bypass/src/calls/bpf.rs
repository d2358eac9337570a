//! The `bpf` system call.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Makes an array with one four-byte element.
pub(crate) fn array() -> io::Result<OwnedFd> {
    const MAP_CREATE: i32 = 0;
    // map_type, key_size, value_size, max_entries.
    let mut attributes = [0_u32; 32];
    attributes[..4].copy_from_slice(&[2, 4, 4, 1]);
    super::descriptor(call(MAP_CREATE, &attributes))
}

/// Gives an object a name in a BPF file system.
pub(crate) fn pin(object: &OwnedFd, path: &str) -> io::Result<()> {
    const OBJ_PIN: i32 = 6;
    let path = super::c_string(path)?;
    let address = (path.as_ptr() as u64).to_le_bytes();
    let half =
        |at: usize| u32::from_le_bytes([address[at], address[at + 1], address[at + 2], address[at + 3]]);
    // pathname, bpf_fd.
    let mut attributes = [0_u32; 32];
    attributes[..3].copy_from_slice(&[half(0), half(4), object.as_raw_fd().cast_unsigned()]);
    super::check(call(OBJ_PIN, &attributes)).map(drop)
}

fn call(command: i32, attributes: &[u32; 32]) -> i64 {
    // SAFETY: the attributes are 128 bytes, of which the kernel reads as many; what they point to, the callers keep.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) }
}
