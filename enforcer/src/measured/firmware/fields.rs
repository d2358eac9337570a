//! Structures inside of events' data. They only make words: what cannot be read gives `None`, and the event has fewer.

use super::reader::Reader;

/// `UEFI_VARIABLE_DATA`.
pub(super) struct Variable<'a> {
    /// Its name.
    pub(super) name: String,
    /// What it holds.
    pub(super) content: &'a [u8],
}

impl<'a> Variable<'a> {
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::at(0, data);
        reader.take(16, "the vendor").ok()?;
        let characters = length(&mut reader)?;
        let content = length(&mut reader)?;
        let name = reader.take(characters.checked_mul(2)?, "the name").ok()?;
        let content = reader.take(content, "the content").ok()?;
        reader.is_empty().then(|| Self { name: utf16(name), content })
    }
}

/// `EFI_LOAD_OPTION`, the content of a variable `Boot0000`.
pub(super) struct BootEntry {
    /// What a menu calls it.
    pub(super) title: String,
}

impl BootEntry {
    pub(super) fn read(content: &[u8]) -> Option<Self> {
        // Attributes, and the length of the device path behind the title.
        Some(Self { title: utf16(content.get(6..)?) })
    }
}

/// `UEFI_IMAGE_LOAD_EVENT`.
pub(super) struct Image {
    /// The file's path, as far as the device path has one.
    pub(super) path: String,
}

impl Image {
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let mut reader = Reader::at(0, data);
        reader.take(24, "address, length and link address").ok()?;
        let len = length(&mut reader)?;
        let nodes = Reader::at(0, reader.take(len, "the device path").ok()?);
        Some(Self { path: file_path(nodes)? })
    }
}

/// All file names in a device path. `None`: it is none.
fn file_path(mut nodes: Reader<'_>) -> Option<String> {
    const MEDIA: u8 = 4;
    const FILE: u8 = 4;
    const HEADER: usize = 4;
    let mut path = String::new();
    while !nodes.is_empty() {
        let (kind, subtype) = (nodes.u8("a node's type").ok()?, nodes.u8("its subtype").ok()?);
        let len = usize::from(nodes.u16("its length").ok()?).checked_sub(HEADER)?;
        let content = nodes.take(len, "its content").ok()?;
        if (kind, subtype) == (MEDIA, FILE) {
            path.push_str(&utf16(content));
        }
    }
    Some(path)
}

/// `TCG_PCClientTaggedEvent`.
pub(super) struct Tagged<'a> {
    /// What it is.
    pub(super) tag: u32,
    /// Anything.
    pub(super) data: &'a [u8],
}

impl<'a> Tagged<'a> {
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::at(0, data);
        let tag = reader.u32("the tag").ok()?;
        let data = reader.sized("the tagged data").ok()?.bytes();
        Some(Self { tag, data })
    }
}

/// A length of 64 bits.
fn length(reader: &mut Reader<'_>) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(reader.array("a length").ok()?)).ok()
}

/// A text up to its NUL, in UTF-16 if it looks like that, else in UTF-8.
pub(super) fn text_of(data: &[u8]) -> String {
    let (pairs, odd) = data.as_chunks::<2>();
    // What boot loaders say is in Latin script: its second byte is NUL, and a C string has none so early.
    if odd.is_empty() && matches!(pairs.first(), Some([first, 0]) if *first != 0) {
        return utf16(data);
    }
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    String::from_utf8_lossy(data.get(..end).unwrap_or_default()).into_owned()
}

/// UTF-16 up to its NUL.
fn utf16(bytes: &[u8]) -> String {
    let units =
        bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
