//! `bpf(2)` commands that aya 0.14 does not offer: batches, task storage, and waiting for programs.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{check, raw};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const OBJ_GET: libc::c_int = 7;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const MAP_DELETE_BATCH: libc::c_int = 27;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// `ENOTSUPP`: the kernel's own "this map type has no such command", which libc does not name.
const ENOTSUPP: i32 = 524;

/// How far a batch got.
#[derive(Debug)]
pub struct BatchError {
    /// Elements done before the failure.
    pub done: usize,
    /// Why it stopped.
    pub source: io::Error,
}

impl BatchError {
    /// Whether the kernel does not know batches for this map, so that single commands are the way.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.done == 0 && matches!(self.source.raw_os_error(), Some(libc::EINVAL | ENOTSUPP))
    }
}

/// The part of `union bpf_attr` that batches use.
#[derive(Default)]
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The part that element commands use.
#[derive(Default)]
#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part that opening a pin uses.
#[derive(Default)]
#[repr(C)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Opens the map that is pinned at a path, for reading alone.
///
/// # Errors
/// Those of `bpf(2)`.
pub fn open_to_read(path: &Path) -> io::Result<OwnedFd> {
    const BPF_F_RDONLY: u32 = 1 << 3;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr =
        ObjectAttr { pathname: address(path.as_bytes_with_nul()), bpf_fd: 0, file_flags: BPF_F_RDONLY };
    // SAFETY: the path ends with a zero byte and lives for the call.
    let fd = unsafe { bpf(OBJ_GET, &mut attr) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The part that map creation uses here.
#[derive(Default)]
#[repr(C)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

/// Stores all `values` under the `keys` at the same index.
///
/// # Errors
/// Says how many were stored before the failure.
pub fn update_batch<K, V>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> Result<(), BatchError>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    assert_eq!(keys.len(), values.len(), "a batch pairs keys with values");
    batch(MAP_UPDATE_BATCH, map, keys.len(), address(keys.as_bytes()), address(values.as_bytes()))
}

/// Removes all `keys`.
///
/// # Errors
/// Says how many were removed before the failure; a key that is not there is one.
pub fn delete_batch<K>(map: BorrowedFd<'_>, keys: &[K]) -> Result<(), BatchError>
where
    K: IntoBytes + Immutable,
{
    batch(MAP_DELETE_BATCH, map, keys.len(), address(keys.as_bytes()), 0)
}

fn batch(
    command: libc::c_int,
    map: BorrowedFd<'_>,
    len: usize,
    keys: u64,
    values: u64,
) -> Result<(), BatchError> {
    if len == 0 {
        return Ok(());
    }
    let count =
        u32::try_from(len).map_err(|error| BatchError { done: 0, source: io::Error::other(error) })?;
    let mut attr = BatchAttr { keys, values, count, map_fd: raw(&map), ..BatchAttr::default() };
    // SAFETY: `keys` and `values` are the starts of slices of `count` elements that the callers borrow for the whole
    // call. That the element sizes are the map's is the callers' part: `kernel::maps` checks them when it opens a map.
    match unsafe { bpf(command, &mut attr) } {
        Ok(_) => Ok(()),
        Err(source) => {
            // The kernel writes the count back on failure, too; untouched means it did not come that far.
            let done = if attr.count == count { 0 } else { usize::try_from(attr.count).unwrap_or(0) };
            Err(BatchError { done, source })
        }
    }
}

/// Every entry of an array from index `first` on, as many as `values` holds.
///
/// # Errors
/// From the kernel; [`BatchError::is_unsupported`] tells whether to go one by one.
pub fn read_array<V>(map: BorrowedFd<'_>, first: u32, values: &mut [V]) -> Result<(), BatchError>
where
    V: FromBytes + IntoBytes + Immutable,
{
    if values.is_empty() {
        return Ok(());
    }
    let mut keys = vec![0u32; values.len()];
    let mut next = [0u32; 1];
    // The batch starts after this key.
    let before = first.checked_sub(1).map(|before| [before]);
    let count = u32::try_from(values.len())
        .map_err(|error| BatchError { done: 0, source: io::Error::other(error) })?;
    let mut attr = BatchAttr {
        in_batch: before.as_ref().map_or(0, |before| address(before.as_bytes())),
        out_batch: address_mut(next.as_mut_bytes()),
        keys: address_mut(keys.as_mut_bytes()),
        values: address_mut(values.as_mut_bytes()),
        count,
        map_fd: raw(&map),
        ..BatchAttr::default()
    };
    // SAFETY: every address is the start of a buffer of ours that lives for the call and has room for `count`
    // elements; any bytes are valid elements (`FromBytes`).
    let result = unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) };
    match result {
        Ok(_) => Ok(()),
        // The end of the map, reached with everything delivered.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) && attr.count == count => Ok(()),
        Err(source) => Err(BatchError { done: 0, source }),
    }
}

/// Every entry of a hash, in no order. What is added or removed meanwhile may be missed.
///
/// # Errors
/// From the kernel; [`BatchError::is_unsupported`] tells whether to go one by one.
pub fn read_hash<K, V>(map: BorrowedFd<'_>) -> Result<Vec<(K, V)>, BatchError>
where
    K: FromBytes + IntoBytes + Immutable + Copy,
    V: FromBytes + IntoBytes + Immutable + Copy,
{
    /// Far more than a bucket ever holds, of which the kernel delivers all entries or none.
    const PORTION: u32 = 4096;
    let (mut keys, mut values) =
        (vec![K::new_zeroed(); PORTION as usize], vec![V::new_zeroed(); PORTION as usize]);
    let mut found = Vec::new();
    let mut bucket = [0u32; 1];
    let mut begun = false;
    loop {
        let mut next = [0u32; 1];
        let mut attr = BatchAttr {
            in_batch: if begun { address(bucket.as_bytes()) } else { 0 },
            out_batch: address_mut(next.as_mut_bytes()),
            keys: address_mut(keys.as_mut_bytes()),
            values: address_mut(values.as_mut_bytes()),
            count: PORTION,
            map_fd: raw(&map),
            ..BatchAttr::default()
        };
        // SAFETY: every address is the start of a buffer of ours that lives for the call and has room for `count`
        // elements, or for the word that a hash counts its buckets in; any bytes are valid elements (`FromBytes`). That
        // the element sizes are the map's is the callers' part: `kernel::maps` checks them when it opens a map.
        let is_last = match unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) } {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(source) => return Err(BatchError { done: found.len(), source }),
        };
        let count = usize::try_from(attr.count.min(PORTION)).unwrap_or(0);
        found.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
        if is_last {
            return Ok(found);
        }
        (bucket, begun) = (next, true);
    }
}

/// The value that a task storage map holds for a process.
///
/// # Errors
/// From the kernel, except that nothing stored is `Ok(None)`.
pub fn task_storage<V>(map: BorrowedFd<'_>, process: BorrowedFd<'_>) -> io::Result<Option<V>>
where
    V: FromBytes + IntoBytes + Immutable,
{
    let key = [raw(&process)];
    let mut value = V::new_zeroed();
    let mut attr = ElemAttr {
        map_fd: raw(&map),
        key: address(key.as_bytes()),
        value: address_mut(value.as_mut_bytes()),
        ..ElemAttr::default()
    };
    // SAFETY: key and value live for the call; the caller opened `map` through `kernel::maps`, which checks that its
    // value has the size of `V`, and any bytes are a valid `V`.
    match unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) } {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until every non-sleepable program that was running when this was called has returned, by updating a map of
/// maps, after which the kernel promises just that (`maybe_wait_bpf_programs` in `kernel/bpf/syscall.c`).
///
/// Not `membarrier(MEMBARRIER_CMD_GLOBAL)`: on a machine with one processor it returns at once, while a preempted
/// program is still at work there (6.18 and 7.x preempt programs by default).
///
/// # Errors
/// From the kernel.
pub fn wait_for_programs() -> io::Result<()> {
    let inner = create(CreateAttr {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        ..CreateAttr::default()
    })?;
    let outer = create(CreateAttr {
        map_type: MAP_TYPE_ARRAY_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        inner_map_fd: raw(&inner),
        ..CreateAttr::default()
    })?;
    let key = [0u32];
    let value = [raw(&inner)];
    let mut attr = ElemAttr {
        map_fd: raw(&outer),
        key: address(key.as_bytes()),
        value: address(value.as_bytes()),
        ..ElemAttr::default()
    };
    // SAFETY: key and value have the sizes that the map was just created with and live for the call.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }?;
    Ok(())
}

fn create(mut attr: CreateAttr) -> io::Result<OwnedFd> {
    // SAFETY: the attribute holds no pointers.
    let fd = unsafe { bpf(MAP_CREATE, &mut attr) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// Every pointer in `attr` must be good for what `command` reads or writes through it.
unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` of the size given, and its pointers are the caller's promise.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) })
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

fn address_mut(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr().expose_provenance() as u64
}
