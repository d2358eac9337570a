//! The running kernel's type information: where fields lie, which hooks and tracepoints exist.
//!
//! Owns a reader for the part of the BTF format that this takes. It never follows a reference it has not checked, so
//! a damaged file is an error. A crate was considered: the only maintained reader is LGPL, which does not go with a
//! static binary under our licences, and aya's keeps its types to itself.

use std::{collections::HashMap, fs, io, path::PathBuf};

use enforcer_common::{
    field::{ABSENT, Entry, Shape},
    hook::{Attach, Hook},
    kfunc::{FSVERITY_DIGEST, RDONLY_CAST},
};

/// Where a field lies in its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bits from the start of the struct.
    bits: u32,
    /// Width of a bitfield in bits; 0 for an ordinary field.
    width: u32,
}

impl Place {
    /// The offset in bytes, unless it is a bitfield.
    #[must_use]
    pub fn bytes(self) -> Option<u32> {
        (self.width == 0 && self.bits.is_multiple_of(8)).then_some(self.bits / 8)
    }

    /// The offset in bits, if it is a bitfield of one bit.
    #[must_use]
    pub fn bit(self) -> Option<u32> {
        (self.width == 1).then_some(self.bits)
    }
}

/// Where the kernel shows its own type information.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// What can be wrong with type information.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// It cannot be read.
    #[error("cannot read {}: {source}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what the format says.
    #[error("the kernel's type information is damaged at byte {at}: {what}")]
    Damaged {
        /// Offset of the problem.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The kernel lacks fields that the programs read, or has them in another shape.
    #[error("this kernel lacks fields that the programs read: {}; it is not supported", .0.join(", "))]
    MissingFields(Vec<String>),
}

/// Offsets of all fields in the units of their [`Shape`], indexed by [`Entry`]. Holding one proves that this kernel has
/// every field that is not optional.
pub type FieldOffsets = [u32; Entry::COUNT];

/// Parsed type information.
#[derive(Debug)]
pub struct KernelTypes {
    data: Vec<u8>,
    strings: usize,
    /// Offset of each type's record, by type id. Id 0 is `void`.
    records: Vec<usize>,
    /// Complete structs and unions by name. A name may occur more than once.
    structures: HashMap<String, Vec<u32>>,
    /// Kinds and type ids of the functions and typedefs in [`FUNCTIONS`] or with the prefixes of [`PREFIXES`].
    symbols: HashMap<String, (u32, u32)>,
}

const LSM_PREFIX: &str = "bpf_lsm_";
const TRACEPOINT_PREFIX: &str = "btf_trace_";
const PREFIXES: [&str; 2] = [LSM_PREFIX, TRACEPOINT_PREFIX];
/// Functions that tell whether the kernel was built with something, or that programs call. Not static, so they are there
/// under their own name.
const FUNCTIONS: [&str; 6] = [
    super::support::IMA,
    super::support::IO_URING,
    super::support::KEYS,
    super::support::PERF,
    FSVERITY_DIGEST.name,
    RDONLY_CAST.name,
];

const MAGIC: u16 = 0xeb9f;

/// `BTF_KIND_*`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Sizes of the records of kinds, from the header's layout section that newer kernels may have.
type Layout = Vec<(usize, usize)>;

impl KernelTypes {
    /// Reads those of the running kernel.
    ///
    /// # Errors
    /// [`BtfError`].
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        let data = fs::read(VMLINUX).map_err(|source| BtfError::Read { path: VMLINUX.into(), source })?;
        Self::parse(data)
    }

    /// Parses raw BTF.
    ///
    /// # Errors
    /// [`BtfError::Damaged`].
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let magic = u16::from_le_bytes(bytes(&data, 0)?);
        if magic != MAGIC {
            return Err(damaged(0, "not BTF, or of the other byte order"));
        }
        let header = offset(&data, 4)?;
        let types = header.saturating_add(offset(&data, 8)?);
        let types_end = types.saturating_add(offset(&data, 12)?);
        let strings = header.saturating_add(offset(&data, 16)?);
        let strings_end = strings.saturating_add(offset(&data, 20)?);
        if types_end > data.len() || strings_end > data.len() {
            return Err(damaged(8, "a section ends past the file"));
        }
        let layout = layout(&data, header)?;
        let mut parsed =
            Self { strings, records: vec![types], structures: HashMap::new(), symbols: HashMap::new(), data };
        let mut at = types;
        while at < types_end {
            let id = u32::try_from(parsed.records.len()).map_err(|_| damaged(at, "too many types"))?;
            parsed.records.push(at);
            parsed.index(id, at)?;
            at += parsed.record_len(at, &layout)?;
        }
        Ok(parsed)
    }

    /// Offsets of every field that the programs read.
    ///
    /// # Errors
    /// [`BtfError::MissingFields`] names all that are missing, [`BtfError::Damaged`] if the file is.
    pub fn field_offsets(&self) -> Result<FieldOffsets, BtfError> {
        let mut offsets = [0; Entry::COUNT];
        let mut missing = Vec::new();
        for (slot, field) in offsets.iter_mut().zip(Entry::ALL) {
            let place = self.field_place(field.structure(), field.path())?;
            let offset = match field.shape() {
                Shape::Bytes | Shape::OptionalBytes => place.map(Place::bytes),
                Shape::OptionalBit => place.map(Place::bit),
            };
            *slot = match (offset, field.shape()) {
                (Some(Some(offset)), _) => offset,
                (None, Shape::OptionalBytes | Shape::OptionalBit) => ABSENT,
                (None, Shape::Bytes) => {
                    missing.push(format!("{}.{}", field.structure(), field.path()));
                    ABSENT
                }
                // Not absent: something would be read, or be left unread, that means what we think it means.
                (Some(None), shape) => {
                    let not = if shape == Shape::OptionalBit { "no bit" } else { "no whole bytes" };
                    missing.push(format!("{}.{} (which has {not})", field.structure(), field.path()));
                    ABSENT
                }
            };
        }
        if missing.is_empty() { Ok(offsets) } else { Err(BtfError::MissingFields(missing)) }
    }

    /// Where a field lies: `path` is dotted and does not name anonymous members. `None` if there is none.
    ///
    /// # Errors
    /// [`BtfError::Damaged`].
    pub fn field_place(&self, structure: &str, path: &str) -> Result<Option<Place>, BtfError> {
        Ok(self.holder(structure, path)?.map(|(_, place)| place))
    }

    /// The first of the structs of this name that has the field, and where.
    fn holder(&self, structure: &str, path: &str) -> Result<Option<(u32, Place)>, BtfError> {
        for id in self.structures.get(structure).into_iter().flatten() {
            if let Some(place) = self.descend(*id, path, 0)? {
                return Ok(Some((*id, place)));
            }
        }
        Ok(None)
    }

    /// Whether a program for this hook can be attached.
    #[must_use]
    pub fn has_hook(&self, hook: Hook) -> bool {
        let (prefix, kind) = match hook.attach() {
            Attach::Lsm | Attach::LsmSleepable => (LSM_PREFIX, kind::FUNC),
            Attach::Tracepoint => (TRACEPOINT_PREFIX, kind::TYPEDEF),
        };
        let symbol = self.symbols.get(&format!("{prefix}{}", hook.target()));
        symbol.is_some_and(|(found, _)| *found == kind)
    }

    /// Whether the kernel has this function. Only those in `FUNCTIONS` can be asked for.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.function(name).is_some()
    }

    /// The type id of this function. Only those in `FUNCTIONS` can be asked for.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<u32> {
        self.symbols.get(name).filter(|(kind, _)| *kind == kind::FUNC).map(|(_, id)| *id)
    }

    /// The type id of the struct that holds a field.
    ///
    /// # Errors
    /// [`BtfError::Damaged`].
    pub fn structure_with(&self, field: Entry) -> Result<Option<u32>, BtfError> {
        Ok(self.holder(field.structure(), field.path())?.map(|(id, _)| id))
    }

    fn index(&mut self, id: u32, at: usize) -> Result<(), BtfError> {
        let info = word(&self.data, at + 4)?;
        match kind_of(info) {
            kind @ (kind::STRUCT | kind::UNION) => {
                let name = self.name(at)?.to_owned();
                if !name.is_empty() && kind == kind::STRUCT {
                    self.structures.entry(name).or_default().push(id);
                }
            }
            kind @ (kind::FUNC | kind::TYPEDEF) => {
                let name = self.name(at)?;
                if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || FUNCTIONS.contains(&name) {
                    let name = name.to_owned();
                    self.symbols.insert(name, (kind, id));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn record_len(&self, at: usize, layout: &Layout) -> Result<usize, BtfError> {
        const HEAD: usize = 12;
        let info = word(&self.data, at + 4)?;
        let count = count_of(info);
        let rest = match kind_of(info) {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => count * 12,
            kind::ENUM | kind::FUNC_PROTO => count * 8,
            // Pointers, forward declarations, typedefs, qualifiers, functions, floats, type tags.
            2 | 7 | kind::TYPEDEF..=kind::FUNC | 16 | kind::TYPE_TAG => 0,
            other => {
                let other = usize::try_from(other).map_err(|_| damaged(at, "impossible kind"))?;
                let (fixed, each) =
                    layout.get(other).ok_or_else(|| damaged(at, "a kind of type newer than this program"))?;
                fixed + count * each
            }
        };
        Ok(HEAD + rest)
    }

    /// Finds the first component of `path` in a struct, also inside its anonymous members, and goes on from there.
    fn descend(&self, id: u32, path: &str, depth: u32) -> Result<Option<Place>, BtfError> {
        // Structs in C nest a few levels deep; the bound is against a file that goes in circles.
        if depth > 32 {
            return Err(damaged(0, "structs that contain themselves"));
        }
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let Some(at) = self.structure_record(id)? else { return Ok(None) };
        let info = word(&self.data, at + 4)?;
        let packed = info >> 31 != 0;
        for index in 0..count_of(info) {
            let member = at + 12 + index * 12;
            let name = self.name(member)?;
            let target = word(&self.data, member + 4)?;
            let place = word(&self.data, member + 8)?;
            // With the kind flag set the top byte is the width of a bitfield, zero for an ordinary member.
            let (bits, width) = if packed { (place & 0x00ff_ffff, place >> 24) } else { (place, 0) };
            let found = if name.is_empty() {
                self.descend(target, path, depth + 1)?
            } else if name == first {
                match rest {
                    Some(rest) => self.descend(target, rest, depth + 1)?,
                    None => Some(Place { bits: 0, width }),
                }
            } else {
                None
            };
            if let Some(inner) = found {
                return Ok(Some(Place { bits: bits.saturating_add(inner.bits), ..inner }));
            }
        }
        Ok(None)
    }

    /// The record of the struct or union behind typedefs and qualifiers.
    fn structure_record(&self, mut id: u32) -> Result<Option<usize>, BtfError> {
        // Chains in C are short; the bound is against a file that goes in circles.
        for _ in 0..32 {
            let index = usize::try_from(id).unwrap_or(usize::MAX);
            let at = *self
                .records
                .get(index)
                .ok_or_else(|| damaged(0, "a reference to a type that is not there"))?;
            if id == 0 {
                return Ok(None);
            }
            match kind_of(word(&self.data, at + 4)?) {
                kind::STRUCT | kind::UNION => return Ok(Some(at)),
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = word(&self.data, at + 8)?;
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The name that the record or member at `at` starts with.
    fn name(&self, at: usize) -> Result<&str, BtfError> {
        let start = self.strings.saturating_add(offset(&self.data, at)?);
        let tail = self.data.get(start..).ok_or_else(|| damaged(at, "a name past the strings"))?;
        let len = tail.iter().position(|byte| *byte == 0).ok_or_else(|| damaged(at, "a name without end"))?;
        std::str::from_utf8(&tail[..len]).map_err(|_| damaged(at, "a name that is not text"))
    }
}

/// Kind and count are wider here than the first version of the format had them; the bits between were zero then.
const fn kind_of(info: u32) -> u32 {
    (info >> 24) & 0x7f
}

const fn count_of(info: u32) -> usize {
    (info & 0x00ff_ffff) as usize
}

/// The optional section that says how long records of kinds are that a reader does not know.
fn layout(data: &[u8], header: usize) -> Result<Layout, BtfError> {
    if header < 32 {
        return Ok(Vec::new());
    }
    let start = header.saturating_add(offset(data, 24)?);
    let len = offset(data, 28)?;
    let section = data
        .get(start..start.saturating_add(len))
        .ok_or_else(|| damaged(24, "a section ends past the file"))?;
    Ok(section.chunks_exact(4).map(|entry| (usize::from(entry[0]), usize::from(entry[1]))).collect())
}

const fn damaged(at: usize, what: &'static str) -> BtfError {
    BtfError::Damaged { at, what }
}

fn bytes<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N], BtfError> {
    data.get(at..at.saturating_add(N))
        .and_then(|slice| slice.try_into().ok())
        .ok_or_else(|| damaged(at, "the file ends early"))
}

fn word(data: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes(data, at).map(u32::from_le_bytes)
}

fn offset(data: &[u8], at: usize) -> Result<usize, BtfError> {
    word(data, at).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The types of a kernel with these functions, and nothing else.
    pub(crate) fn types_with(functions: &[&str]) -> KernelTypes {
        let mut writer = Writer::new();
        functions.iter().for_each(|name| writer.function(name));
        KernelTypes::parse(writer.finish()).unwrap()
    }

    /// Writes BTF.
    #[derive(Default)]
    pub(crate) struct Writer {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Writer {
        pub(crate) fn new() -> Self {
            Self { strings: vec![0], ..Self::default() }
        }

        fn string(&mut self, text: &str) -> u32 {
            if text.is_empty() {
                return 0;
            }
            let at = self.strings.len();
            self.strings.extend_from_slice(text.as_bytes());
            self.strings.push(0);
            u32::try_from(at).unwrap()
        }

        fn push(&mut self, words: &[u32]) {
            self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }

        pub(crate) fn simple(&mut self, kind: u32, name: &str, target: u32) -> u32 {
            let name = self.string(name);
            self.push(&[name, kind << 24, target]);
            if kind == kind::INT {
                self.push(&[32]);
            }
            self.count += 1;
            self.count
        }

        pub(crate) fn function(&mut self, name: &str) {
            self.simple(kind::FUNC, name, 0);
        }

        pub(crate) fn structure(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
            self.composite(kind::STRUCT << 24, name, members)
        }

        pub(crate) fn composite(&mut self, info: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
            let name = self.string(name);
            self.push(&[name, info | u32::try_from(members.len()).unwrap(), 64]);
            for (name, target, bits) in members {
                let name = self.string(name);
                self.push(&[name, *target, *bits]);
            }
            self.count += 1;
            self.count
        }

        pub(crate) fn finish(self) -> Vec<u8> {
            let types = u32::try_from(self.types.len()).unwrap();
            let strings = u32::try_from(self.strings.len()).unwrap();
            let mut data = vec![0x9f, 0xeb, 1, 0];
            for word in [24, 0, types, types, strings] {
                data.extend_from_slice(&word.to_le_bytes());
            }
            data.extend(self.types);
            data.extend(self.strings);
            data
        }
    }

    fn sample() -> KernelTypes {
        let mut writer = Writer::new();
        let int = writer.simple(kind::INT, "int", 4);
        let inner = writer.structure("path", &[("mnt", int, 0), ("dentry", int, 64)]);
        let alias = writer.simple(kind::TYPEDEF, "path_t", inner);
        let constant = writer.simple(kind::CONST, "", alias);
        let anonymous =
            writer.composite(kind::UNION << 24, "", &[("f_path", constant, 0), ("f_other", int, 0)]);
        writer.structure("file", &[("f_inode", int, 0), ("", anonymous, 128)]);
        // Kind flag: the top byte of a member's place is its width.
        writer.composite(
            1 << 31 | kind::STRUCT << 24,
            "flags",
            &[("whole", int, 32), ("bit", int, 1 << 24 | 64)],
        );
        writer.simple(kind::FUNC, "bpf_lsm_file_open", int);
        writer.simple(kind::TYPEDEF, "btf_trace_cgroup_mkdir", int);
        writer.simple(kind::TYPEDEF, "bpf_lsm_path_mknod", int);
        KernelTypes::parse(writer.finish()).unwrap()
    }

    #[test]
    fn fields_are_found_through_names_typedefs_and_anonymous_members() {
        let types = sample();
        let table = [
            ("file", "f_inode", Some(0)),
            ("file", "f_path", Some(16)),
            ("file", "f_path.dentry", Some(24)),
            ("file", "f_other", Some(16)),
            ("file", "f_path.nothing", None),
            ("file", "f_inode.deeper", None),
            ("path", "dentry", Some(8)),
            ("flags", "whole", Some(4)),
            ("flags", "bit", None),
            ("nothing", "at_all", None),
        ];
        for (structure, path, expected) in table {
            let place = types.field_place(structure, path).unwrap();
            assert_eq!(place.and_then(Place::bytes), expected, "{structure}.{path}");
        }
        let bit = types.field_place("flags", "bit").unwrap().unwrap();
        assert_eq!(bit.bit(), Some(64));
        let whole = types.field_place("flags", "whole").unwrap().unwrap();
        assert_eq!(whole.bit(), None);
    }

    #[test]
    fn all_missing_fields_are_named_at_once() {
        let error = sample().field_offsets().unwrap_err();
        let BtfError::MissingFields(missing) = &error else { panic!("{error}") };
        assert!(
            missing.contains(&"file.f_mode".to_owned()) && missing.contains(&"task_struct.mm".to_owned())
        );
        assert!(!missing.contains(&"file.f_inode".to_owned()));
        assert!(error.to_string().contains("task_struct.mm"));
    }

    #[test]
    fn a_field_of_another_shape_is_not_taken_for_absent() {
        let mut writer = Writer::new();
        let int = writer.simple(kind::INT, "int", 4);
        writer.structure("linux_binprm", &[("is_check", int, 64)]);
        let bits = 1 << 31 | kind::STRUCT << 24;
        writer.composite(bits, "inode", &[("i_nlink", int, 3 << 24), ("i_ctime_sec", int, 4 << 24 | 3)]);
        writer.composite(bits, "task_struct", &[("tgid", int, 3)]);
        let error = KernelTypes::parse(writer.finish()).unwrap().field_offsets().unwrap_err();
        let BtfError::MissingFields(missing) = &error else { panic!("{error}") };
        for (field, not) in [
            ("linux_binprm.is_check", "no bit"),
            ("inode.i_nlink", "no whole bytes"),
            ("inode.i_ctime_sec", "no whole bytes"),
            ("task_struct.tgid", "no whole bytes"),
        ] {
            assert!(missing.contains(&format!("{field} (which has {not})")), "{field}: {missing:?}");
        }
        // An optional field that is not there is no reason to refuse a kernel.
        assert!(!error.to_string().contains("i_ctime_nsec"), "{error}");
    }

    #[test]
    fn hooks_are_found_by_the_kind_they_need() {
        let types = sample();
        assert!(types.has_hook(Hook::FileOpen));
        assert!(types.has_hook(Hook::CgroupMkdir));
        assert!(!types.has_hook(Hook::PathMknod), "a typedef is no hook");
        assert!(!types.has_hook(Hook::MmapFile));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_or_parses_without_panic() {
        let mut writer = Writer::new();
        let int = writer.simple(kind::INT, "int", 4);
        writer.structure("file", &[("f_inode", int, 0), ("f_mode", int, 64)]);
        let whole = writer.finish();
        for len in 0..whole.len() {
            assert!(KernelTypes::parse(whole[..len].to_vec()).is_err(), "{len}");
        }
        for at in 24..whole.len() {
            for value in [0, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                if let Ok(types) = KernelTypes::parse(broken) {
                    let _ = types.field_place("file", "f_mode");
                }
            }
        }
    }

    #[test]
    fn the_running_kernel_has_every_field_and_hook() {
        let Ok(types) = KernelTypes::of_running_kernel() else {
            eprintln!("skipped: no {VMLINUX}");
            return;
        };
        let offsets = types.field_offsets().unwrap();
        // Members of one struct must not lie in one place.
        assert_ne!(offsets[Entry::FileInode as usize], offsets[Entry::FileMode as usize]);
        if types.symbols.keys().any(|name| name.starts_with(LSM_PREFIX)) {
            assert!(types.has_hook(Hook::FileOpen));
        }
    }
}
