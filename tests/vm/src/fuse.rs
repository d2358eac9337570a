//! A file system of one file whose content a process makes up: FUSE, by hand, as much of it as reading takes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The mount, until dropped.
#[derive(Debug)]
pub struct Fuse {
    directory: PathBuf,
}

/// The file's name.
pub const NAME: &str = "tool";

// Of `include/uapi/linux/fuse.h`.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const BATCH_FORGET: u32 = 42;
const ROOT: u64 = 1;
const FILE: u64 = 2;
/// Length of `struct fuse_in_header`.
const HEADER: usize = 40;

impl Fuse {
    /// Mounts an executable file with this content below `directory`. `None` where the kernel has no FUSE.
    ///
    /// # Panics
    /// When the mount fails.
    #[must_use]
    pub fn mount(directory: &Path, content: Vec<u8>) -> Option<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        std::fs::create_dir_all(directory).expect("creating the mount point");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("fuse"), directory, Some("fuse"), MsFlags::empty(), Some(options.as_str()))
            .expect("mounting FUSE");
        std::thread::spawn(move || serve(device, &content));
        Some(Self { directory: directory.into() })
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
    }
}

/// Answers until the mount goes.
fn serve(mut device: File, content: &[u8]) {
    let mut request = vec![0; 1 << 20];
    while let Ok(length) = device.read(&mut request) {
        let request = &request[..length];
        let (opcode, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
        let answer = match opcode {
            FORGET | BATCH_FORGET => continue,
            INIT => Ok(init()),
            LOOKUP if request[HEADER..].starts_with(NAME.as_bytes()) => Ok(entry(content)),
            LOOKUP => Err(libc::ENOENT),
            // One second of validity, without nanoseconds.
            GETATTR => Ok([&1u64.to_ne_bytes()[..], &[0; 8], &attributes(node, content)].concat()),
            OPEN => Ok(vec![0; 16]),
            READ => {
                let offset = usize::try_from(u64_at(request, HEADER + 8)).unwrap_or(usize::MAX);
                let size = u32_at(request, HEADER + 16) as usize;
                Ok(content.iter().copied().skip(offset).take(size).collect())
            }
            RELEASE | FLUSH => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).expect("answers are short");
        let reply = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), &body].concat();
        // An interrupted request is not waited for any more.
        let _ = device.write(&reply);
    }
}

/// `struct fuse_init_out`: version 7.31, no features.
fn init() -> Vec<u8> {
    let mut words = [0u32; 16];
    words[0] = 7;
    words[1] = 31;
    // max_readahead, max_write, time_gran.
    words[2] = 1 << 17;
    words[5] = 1 << 17;
    words[6] = 1;
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct fuse_entry_out`.
fn entry(content: &[u8]) -> Vec<u8> {
    let head: Vec<u8> = [FILE, 0, 1, 1, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    [head, attributes(FILE, content)].concat()
}

/// `struct fuse_attr`.
fn attributes(node: u64, content: &[u8]) -> Vec<u8> {
    let (mode, size) = if node == ROOT { (0o40_755, 0) } else { (0o100_755, content.len() as u64) };
    let long = [node, size, size.div_ceil(512), 0, 0, 0];
    // Nanoseconds of three times, mode, links, user, group, device, block size, flags.
    let short = [0, 0, 0, mode, 1u32, 0, 0, 0, 4096, 0];
    let long = long.iter().flat_map(|word| word.to_ne_bytes());
    long.chain(short.iter().flat_map(|word| word.to_ne_bytes())).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_ne_bytes)
}
