//! What the enforcer has pinned, read through `bpf(2)`: evidence that does not go through the code under test.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use enforcer_common::{
    abi::{ABI_VERSION, Control, Counter, Label},
    maps,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

const BPF_MAP_CREATE: i64 = 0;
const BPF_MAP_LOOKUP_ELEM: i64 = 1;
const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_MAP_GET_NEXT_KEY: i64 = 4;
const BPF_PROG_LOAD: i64 = 5;
const BPF_OBJ_PIN: i64 = 6;
const BPF_OBJ_GET: i64 = 7;
const BPF_PROG_GET_NEXT_ID: i64 = 11;
const BPF_MAP_GET_NEXT_ID: i64 = 12;
const BPF_MAP_GET_FD_BY_ID: i64 = 14;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_MAP_LOOKUP_BATCH: i64 = 24;
const BPF_LINK_GET_NEXT_ID: i64 = 31;

/// Elements per batch.
const BATCH: u32 = 4096;

/// Where the pins are.
#[must_use]
pub fn directory() -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/enforcer/v{ABI_VERSION}"))
}

/// Maps that user space alone writes, and only when a policy is installed.
pub const POLICY_MAPS: &[&str] =
    &[maps::CONTROL, maps::HEADS, maps::EXACT, maps::ARENA, maps::PREFIXES, maps::PORTS, maps::BINDINGS];

/// The contents of one map: keys and values as bytes.
pub type Dump = BTreeMap<Vec<u8>, Vec<u8>>;

/// Dumps the maps that hold policy.
///
/// # Panics
/// When one cannot be read.
#[must_use]
pub fn policy_maps() -> BTreeMap<&'static str, Dump> {
    let read = |name: &&'static str| {
        (*name, map(name).unwrap_or_else(|error| panic!("reading map {name}: {error}")))
    };
    POLICY_MAPS.iter().map(read).collect()
}

/// Dumps one map.
///
/// # Errors
/// Those of `bpf(2)`.
pub fn map(name: &str) -> io::Result<Dump> {
    let fd = open(&directory().join("maps").join(name))?;
    let info = MapInfo::of(&fd)?;
    match info.dump_in_batches(&fd) {
        // Not every map type of every kernel has batches.
        Err(error)
            if error.raw_os_error() == Some(libc::ENOTSUP) || error.raw_os_error() == Some(libc::EINVAL) =>
        {
            info.dump_one_by_one(&fd)
        }
        other => other,
    }
}

/// How many elements a map has room for; bytes, for the ring buffer.
///
/// # Panics
/// When it cannot be opened.
#[must_use]
pub fn capacity(name: &str) -> u32 {
    let fd = open(&directory().join("maps").join(name))
        .unwrap_or_else(|error| panic!("opening map {name}: {error}"));
    MapInfo::of(&fd).unwrap_or_else(|error| panic!("asking about map {name}: {error}")).max_entries
}

/// One of the programs' counters.
///
/// # Panics
/// When the map cannot be read.
#[must_use]
pub fn counter(counter: Counter) -> u64 {
    let dump = map(maps::COUNTERS).unwrap_or_else(|error| panic!("reading the counters: {error}"));
    let value = dump.get(counter.code().to_ne_bytes().as_slice()).expect("every counter has an element");
    // One word, or one per processor.
    value.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default())).sum()
}

/// The generation that is in force.
///
/// # Panics
/// When the map cannot be read.
#[must_use]
pub fn generation() -> u64 {
    let dump = map(maps::CONTROL).unwrap_or_else(|error| panic!("reading {}: {error}", maps::CONTROL));
    let value = dump.values().next().expect("it has one value");
    Control::read_from_bytes(value).expect("which is of this type").generation
}

/// What sticks to a process. `None` if no hook has met it.
///
/// # Errors
/// Those of `pidfd_open(2)` and `bpf(2)`.
pub fn label(pid: u32) -> io::Result<Option<Label>> {
    let mut value = [0; size_of::<Label>()];
    match with_label(BPF_MAP_LOOKUP_ELEM, pid, &mut value) {
        Ok(()) => Ok(Label::read_from_bytes(&value).ok()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Forges what sticks to a process.
///
/// # Errors
/// As [`label`].
pub fn set_label(pid: u32, label: &Label) -> io::Result<()> {
    let mut value = [0; size_of::<Label>()];
    value.copy_from_slice(label.as_bytes());
    with_label(BPF_MAP_UPDATE_ELEM, pid, &mut value)
}

fn with_label(command: i64, pid: u32, value: &mut [u8; size_of::<Label>()]) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if process < 0 {
        return Err(io::Error::last_os_error());
    }
    let process = i32::try_from(process).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us.
    let process = unsafe { OwnedFd::from_raw_fd(process) };
    let map = open(&directory().join("maps").join(maps::LABELS))?;
    let mut key = [process.as_raw_fd()];
    // map_fd; key; value; flags.
    let mut attributes = [0; 16];
    attributes[0] = fd_word(&map);
    attributes[1] = address(&mut key);
    attributes[2] = address(value);
    bpf(command, &mut attributes).map(drop)
}

/// How many elements hash-like maps hold. Arrays always hold their maximum, so they are left out.
///
/// # Panics
/// When one cannot be read.
#[must_use]
pub fn entries() -> BTreeMap<&'static str, usize> {
    let count =
        |name: &'static str| (name, map(name).unwrap_or_else(|error| panic!("{name}: {error}")).len());
    [maps::EXACT, maps::PREFIXES, maps::BINDINGS].map(count).into_iter().collect()
}

/// Memory that the kernel has charged for a map, in bytes. Of a hash it grows with the entries since 6.4; local storage
/// is not in it.
///
/// # Panics
/// When the map cannot be opened, or the kernel does not say.
#[must_use]
pub fn memory(name: &str) -> u64 {
    let fd = open(&directory().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
    let info = info.unwrap_or_else(|error| panic!("{name}: {error}"));
    let memory = info.lines().find_map(|line| line.strip_prefix("memlock:")).expect("the kernel says");
    memory.trim().parse().expect("a number")
}

/// Ids of the pinned links, by path below the links' directory.
///
/// # Panics
/// When the directory or a link cannot be read.
#[must_use]
pub fn link_ids() -> BTreeMap<String, u32> {
    let mut ids = BTreeMap::new();
    collect_link_ids(&directory().join("links"), &mut ids);
    ids
}

fn collect_link_ids(directory: &Path, ids: &mut BTreeMap<String, u32>) {
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("reading the links' directory").path();
        if path.is_dir() {
            collect_link_ids(&path, ids);
            continue;
        }
        let fd = open(&path).expect("opening a pinned link");
        let mut info = [0_u32; 32];
        object_info(&fd, &mut info).expect("asking for a link's id");
        // struct bpf_link_info: type, id, prog_id, …
        ids.insert(path.to_string_lossy().into_owned(), info[1]);
    }
}

/// Ids of what the enforcer has pinned, and of the programs behind its links.
#[derive(Clone, Debug)]
pub struct OwnObjects {
    /// Maps.
    pub maps: Vec<u32>,
    /// Programs.
    pub programs: Vec<u32>,
    /// Links.
    pub links: Vec<u32>,
}

/// What the enforcer has pinned.
///
/// # Panics
/// When it cannot be opened.
#[must_use]
pub fn own_objects() -> OwnObjects {
    let object = |path: &Path| {
        // Zero: the kernel takes what it finds there for where to write names.
        let mut info = [0_u32; 32];
        let fd = open(path).expect("opening a pin");
        object_info(&fd, &mut info).expect("asking for an id");
        // Both structs start with type and id; that of links goes on with the program's.
        (info[1], info[2])
    };
    let maps = maps::PINNED.iter().map(|name| object(&directory().join("maps").join(name)).0).collect();
    let (links, programs) = link_ids().keys().map(|path| object(Path::new(path))).unzip();
    OwnObjects { maps, programs, links }
}

/// A map and a program that are not the enforcer's.
#[derive(Debug)]
pub struct Foreign {
    map: OwnedFd,
    program: OwnedFd,
}

impl Foreign {
    /// Makes them, and pins the map.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub fn pinned(path: &Path) -> io::Result<Self> {
        // Of an array: map_type, key_size; value_size, max_entries.
        let mut attributes = [0; 16];
        attributes[0] = 2 | 4 << 32;
        attributes[1] = 4 | 1 << 32;
        let map = fresh(bpf(BPF_MAP_CREATE, &mut attributes)?)?;
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut attributes = [0; 16];
        (attributes[0], attributes[1]) = (name.as_ptr() as u64, fd_word(&map));
        bpf(BPF_OBJ_PIN, &mut attributes)?;
        // r0 = 0; exit.
        let mut code = [0xb7_u64, 0x95];
        // A socket filter: prog_type, insn_cnt; insns; license.
        let mut attributes = [0; 16];
        attributes[0] = 1 | 2 << 32;
        (attributes[1], attributes[2]) = (address(&mut code), c"GPL".as_ptr() as u64);
        let program = fresh(bpf(BPF_PROG_LOAD, &mut attributes)?)?;
        Ok(Self { map, program })
    }

    /// The map's id.
    ///
    /// # Panics
    /// When the kernel does not tell.
    #[must_use]
    pub fn map_id(&self) -> u32 {
        id(&self.map)
    }

    /// The program's id.
    ///
    /// # Panics
    /// When the kernel does not tell.
    #[must_use]
    pub fn program_id(&self) -> u32 {
        id(&self.program)
    }
}

fn id(object: &OwnedFd) -> u32 {
    let mut info = [0_u32; 32];
    object_info(object, &mut info).expect("asking for an id");
    info[1]
}

/// How many BPF objects the kernel holds, whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Programs.
    pub programs: usize,
    /// Maps.
    pub maps: usize,
    /// Links.
    pub links: usize,
}

impl Loaded {
    /// Counts them.
    ///
    /// # Panics
    /// When the kernel does not tell.
    #[must_use]
    pub fn now() -> Self {
        let count = |command| {
            let (mut id, mut count) = (0, 0);
            loop {
                // start_id, next_id.
                let mut attributes = [0; 16];
                attributes[0] = id;
                match bpf(command, &mut attributes) {
                    Ok(_) => (id, count) = (attributes[0] >> 32, count + 1),
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return count,
                    Err(error) => panic!("listing BPF objects: {error}"),
                }
            }
        };
        Self {
            programs: count(BPF_PROG_GET_NEXT_ID),
            maps: count(BPF_MAP_GET_NEXT_ID),
            links: count(BPF_LINK_GET_NEXT_ID),
        }
    }
}

/// What happens when root writes the constants of loaded programs back as they are: the result for each of their maps.
///
/// # Panics
/// When the kernel does not tell which maps there are.
#[must_use]
pub fn writes_to_constants() -> Vec<io::Result<()>> {
    let mut results = Vec::new();
    let mut id = 0;
    loop {
        let mut attributes = [0; 16];
        attributes[0] = id;
        match bpf(BPF_MAP_GET_NEXT_ID, &mut attributes) {
            Ok(_) => id = attributes[0] >> 32,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return results,
            Err(error) => panic!("listing maps: {error}"),
        }
        let map = map_by_id(id).unwrap_or_else(|error| panic!("opening map {id}: {error}"));
        let mut info = [0; 32];
        object_info(&map, &mut info).expect("asking about a map");
        // struct bpf_map_info: six words, then sixteen bytes of name.
        let name: Vec<u8> = info[6..10].iter().flat_map(|word| word.to_ne_bytes()).collect();
        if name.starts_with(b".rodata") {
            results.push(write_back(&map, info[3] as usize));
        }
    }
}

fn map_by_id(id: u64) -> io::Result<OwnedFd> {
    let mut attributes = [0; 16];
    attributes[0] = id;
    let fd = i32::try_from(bpf(BPF_MAP_GET_FD_BY_ID, &mut attributes)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads the one element of a map and writes it back.
fn write_back(map: &OwnedFd, value_size: usize) -> io::Result<()> {
    let (mut key, mut value) = ([0_u8; 4], vec![0_u8; value_size]);
    // map_fd; key; value; flags.
    let mut attributes = [0; 16];
    attributes[0] = fd_word(map);
    attributes[1] = address(&mut key);
    attributes[2] = address(&mut value);
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes)?;
    bpf(BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// `bpf(2)`.
fn bpf(command: i64, attributes: &mut [u64; 16]) -> io::Result<i64> {
    // SAFETY: the callers fill `attributes` (128 bytes, zero padded) as the command wants it, with pointers to buffers
    // that outlive the call and are as long as the map's key and value sizes say.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn address<T>(buffer: &mut [T]) -> u64 {
    buffer.as_mut_ptr() as u64
}

fn fd_word(fd: &OwnedFd) -> u64 {
    fd.as_raw_fd().unsigned_abs().into()
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = [0; 16];
    attributes[0] = name.as_ptr() as u64;
    fresh(bpf(BPF_OBJ_GET, &mut attributes)?)
}

fn fresh(fd: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn object_info(fd: &OwnedFd, info: &mut [u32; 32]) -> io::Result<()> {
    let mut attributes = [0; 16];
    let length = size_of_val(info) as u64;
    // bpf_fd, info_len; info.
    attributes[0] = fd_word(fd) | (length << 32);
    attributes[1] = address(info);
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes).map(drop)
}

struct MapInfo {
    key_size: usize,
    value_size: usize,
    max_entries: u32,
}

impl MapInfo {
    fn of(fd: &OwnedFd) -> io::Result<Self> {
        // struct bpf_map_info: type, id, key_size, value_size, max_entries, …
        let mut info = [0; 32];
        object_info(fd, &mut info)?;
        let [kind, _, key_size, value_size, max_entries, ..] = info;
        // Per-CPU arrays and hashes return one value, padded to eight bytes, per possible CPU.
        let per_cpu = matches!(kind, 5 | 6 | 10);
        let value_size = if per_cpu { value_size.next_multiple_of(8) * possible_cpus()? } else { value_size };
        Ok(Self { key_size: key_size as usize, value_size: value_size as usize, max_entries })
    }

    fn dump_in_batches(&self, fd: &OwnedFd) -> io::Result<Dump> {
        let batch = BATCH.min(self.max_entries.max(1));
        let mut keys = vec![0_u8; self.key_size * batch as usize];
        let mut values = vec![0_u8; self.value_size * batch as usize];
        // A position is a key or an index, whichever is larger.
        let (mut position, mut next) = (vec![0_u8; self.key_size.max(8)], vec![0_u8; self.key_size.max(8)]);
        let mut first = true;
        let mut dump = Dump::new();
        loop {
            // in_batch; out_batch; keys; values; count, map_fd; elem_flags; flags.
            let mut attributes = [0; 16];
            attributes[0] = if first { 0 } else { address(&mut position) };
            attributes[1] = address(&mut next);
            attributes[2] = address(&mut keys);
            attributes[3] = address(&mut values);
            attributes[4] = u64::from(batch) | (fd_word(fd) << 32);
            let end = match bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error),
            };
            let count = usize::try_from(attributes[4] & u64::from(u32::MAX)).map_err(io::Error::other)?;
            let pairs = keys.chunks_exact(self.key_size).zip(values.chunks_exact(self.value_size));
            dump.extend(pairs.take(count).map(|(key, value)| (key.to_vec(), value.to_vec())));
            if end {
                return Ok(dump);
            }
            std::mem::swap(&mut position, &mut next);
            first = false;
        }
    }

    fn dump_one_by_one(&self, fd: &OwnedFd) -> io::Result<Dump> {
        let mut dump = Dump::new();
        let mut key: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0_u8; self.key_size];
            // map_fd; key; next_key.
            let mut attributes = [0; 16];
            attributes[0] = fd_word(fd);
            attributes[1] = key.as_mut().map_or(0, |key| address(key));
            attributes[2] = address(&mut next);
            match bpf(BPF_MAP_GET_NEXT_KEY, &mut attributes) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(dump),
                Err(error) => return Err(error),
            }
            let mut value = vec![0_u8; self.value_size];
            let mut attributes = [0; 16];
            attributes[0] = fd_word(fd);
            attributes[1] = address(&mut next);
            attributes[2] = address(&mut value);
            bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes)?;
            dump.insert(next.clone(), value);
            key = Some(next);
        }
    }
}

/// From `0-3` or `0`.
fn possible_cpus() -> io::Result<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit(['-', ',']).next().unwrap_or("0");
    last.parse::<u32>().map(|last| last + 1).map_err(io::Error::other)
}
