//! EFI programs: the digest by which firmware measures them, and their sections.

use object::{
    LittleEndian as LE,
    pe::{IMAGE_DIRECTORY_ENTRY_SECURITY, ImageDosHeader, ImageNtHeaders64},
    read::pe::{ImageNtHeaders as _, ImageOptionalHeader as _},
};
use sha2::{Digest as _, Sha256};

use crate::measured::pcr::PcrValue;

/// A 64-bit EFI program whose headers were found consistent.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    /// The checksum's place: it is not hashed, since signing changes it.
    checksum: usize,
    /// The place where signatures are noted; not hashed for the same reason.
    signature_entry: usize,
    headers_end: usize,
    /// Where signatures are, which end the file.
    signatures_len: usize,
    sections: Vec<Section<'a>>,
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// Its name, without the zeros that fill it.
    pub name: &'a [u8],
    /// What of it is in the file, padding included.
    raw: &'a [u8],
    /// Where that is.
    place: usize,
    /// Its size in memory.
    memory_size: usize,
}

/// Why a file is no program that firmware could measure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No program for this architecture.
    #[error("this is no 64-bit EFI program (PE32+): {0}")]
    Format(String),
    /// Headers point outside of the file, or over each other.
    #[error("this EFI program is damaged: {0}")]
    Damaged(&'static str),
}

/// Where the checksum is behind the signature and the file header, in both PE formats.
const CHECKSUM_OFFSET: usize = 4 + 20 + 64;

/// Where the table of directories is, in PE32+.
const DIRECTORIES_OFFSET: usize = 4 + 20 + 112;

impl<'a> Image<'a> {
    /// Reads a program's headers.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let format = |error: object::read::Error| ImageError::Format(error.to_string());
        let dos = ImageDosHeader::parse(bytes).map_err(format)?;
        let start =
            usize::try_from(dos.nt_headers_offset()).map_err(|_| ImageError::Damaged("header's place"))?;
        let mut offset = dos.nt_headers_offset().into();
        let (headers, directories) = ImageNtHeaders64::parse(bytes, &mut offset).map_err(format)?;
        let table = headers.sections(bytes, offset).map_err(format)?;
        let size = |value: u32, what| usize::try_from(value).map_err(|_| ImageError::Damaged(what));
        let headers_end = size(headers.optional_header().size_of_headers(), "the headers' size")?;
        let signature_entry = start + DIRECTORIES_OFFSET + 8 * IMAGE_DIRECTORY_ENTRY_SECURITY;
        if bytes.len() < headers_end || headers_end < signature_entry + 8 {
            return Err(ImageError::Damaged("its headers do not fit into the file"));
        }
        let signatures_len = match directories.iter().nth(IMAGE_DIRECTORY_ENTRY_SECURITY) {
            None => return Err(ImageError::Damaged("it has no room to note a signature")),
            Some(entry) => signatures_len(entry.virtual_address.get(LE), entry.size.get(LE), bytes)?,
        };
        let mut sections = Vec::new();
        for section in table.iter() {
            let place = size(section.pointer_to_raw_data.get(LE), "a section's place")?;
            let len = size(section.size_of_raw_data.get(LE), "a section's size")?;
            let end = place.checked_add(len).ok_or(ImageError::Damaged("a section's end"))?;
            let raw = if len == 0 { Some(&bytes[..0]) } else { bytes.get(place..end) };
            sections.push(Section {
                name: section.raw_name(),
                raw: raw.ok_or(ImageError::Damaged("a section is outside of the file"))?,
                place,
                memory_size: size(section.virtual_size.get(LE), "a section's size")?,
            });
        }
        let checksum = start + CHECKSUM_OFFSET;
        Ok(Self { bytes, checksum, signature_entry, headers_end, signatures_len, sections })
    }

    /// Its sections, in the order of its headers.
    #[must_use]
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The Authenticode digest: what signatures sign, and what firmware measures into PCR 4 when it starts the program.
    #[must_use]
    pub fn authenticode(&self) -> PcrValue {
        let mut hash = Sha256::new();
        let headers = [
            0..self.checksum,
            self.checksum + 4..self.signature_entry,
            self.signature_entry + 8..self.headers_end,
        ];
        for range in headers {
            // `parse` saw that the headers contain all three.
            hash.update(self.bytes.get(range).unwrap_or_default());
        }
        let mut sections: Vec<&Section<'_>> =
            self.sections.iter().filter(|section| !section.raw.is_empty()).collect();
        sections.sort_by_key(|section| section.place);
        let mut hashed = self.headers_end;
        for section in sections {
            hash.update(section.raw);
            hashed = hashed.saturating_add(section.raw.len());
        }
        // What follows the sections, but for signatures, which are at the end.
        let end = self.bytes.len() - self.signatures_len;
        hash.update(self.bytes.get(hashed..end).unwrap_or_default());
        PcrValue(hash.finalize().into())
    }
}

impl<'a> Section<'a> {
    /// What a loaded program finds there: the file's part without what only fills it up.
    ///
    /// # Errors
    /// [`ImageError::Damaged`] when more is to be loaded than the file has, which only code without data would need.
    pub fn content(&self) -> Result<&'a [u8], ImageError> {
        let content = self.raw.get(..self.memory_size);
        content.ok_or(ImageError::Damaged("a section is larger in memory than in the file"))
    }
}

/// The length of the signatures, which must end the file.
fn signatures_len(place: u32, len: u32, bytes: &[u8]) -> Result<usize, ImageError> {
    let wrong = ImageError::Damaged("its signatures are not at its end");
    let (Ok(place), Ok(len)) = (usize::try_from(place), usize::try_from(len)) else { return Err(wrong) };
    match (len, place.checked_add(len)) {
        (0, _) => Ok(0),
        (_, Some(end)) if end == bytes.len() => Ok(len),
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measured::predict::testing::{ALIGNMENT, Program};

    fn program() -> Program {
        Program::new(&[(b".text", b"code"), (b".data", b"variables")])
    }

    #[test]
    fn what_is_hashed_is_everything_but_checksum_and_signatures() {
        let unsigned = program().build();
        let image = Image::parse(&unsigned).unwrap();
        // Cut by hand: the header's fixed places, see the builder.
        let checksum = 0x40 + CHECKSUM_OFFSET;
        let entry = 0x40 + DIRECTORIES_OFFSET + 8 * 4;
        let hashed = [&unsigned[..checksum], &unsigned[checksum + 4..entry], &unsigned[entry + 8..]].concat();
        assert_eq!(image.authenticode(), PcrValue::digest_of(&hashed));

        let signed = program().signed(b"signature").build();
        assert_eq!(Image::parse(&signed).unwrap().authenticode(), image.authenticode());
        let mut summed = unsigned.clone();
        summed[checksum..checksum + 4].copy_from_slice(b"CRC!");
        assert_eq!(Image::parse(&summed).unwrap().authenticode(), image.authenticode());
    }

    #[test]
    fn any_other_byte_changes_the_digest() {
        let bytes = program().trailing(b"appended").build();
        let original = Image::parse(&bytes).unwrap().authenticode();
        let checksum = 0x40 + CHECKSUM_OFFSET;
        let entry = 0x40 + DIRECTORIES_OFFSET + 8 * 4;
        for at in (0..bytes.len())
            .filter(|at| !(checksum..checksum + 4).contains(at) && !(entry..entry + 8).contains(at))
        {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            if let Ok(image) = Image::parse(&changed) {
                assert_ne!(image.authenticode(), original, "byte {at}");
            }
        }
    }

    #[test]
    fn sections_are_hashed_by_their_place_in_the_file() {
        let bytes = program().build();
        let image = Image::parse(&bytes).unwrap();
        let swapped = program().headers_reversed().build();
        let other = Image::parse(&swapped).unwrap();
        assert_eq!(other.sections()[0].name, b".data");
        let tail = |bytes: &[u8]| bytes[ALIGNMENT..].to_vec();
        assert_eq!(tail(&bytes), tail(&swapped));
        let mut hash = Sha256::new();
        let (checksum, entry) = (0x40 + CHECKSUM_OFFSET, 0x40 + DIRECTORIES_OFFSET + 8 * 4);
        for part in [&swapped[..checksum], &swapped[checksum + 4..entry], &swapped[entry + 8..]] {
            hash.update(part);
        }
        assert_eq!(other.authenticode(), PcrValue(hash.finalize().into()));
        assert_eq!(image.sections()[0].content(), Ok(&b"code"[..]), "without what fills it up");
    }

    #[test]
    fn damaged_programs_are_refused() {
        let good = program().build();
        let directories = 0x40 + DIRECTORIES_OFFSET;
        let sections = directories + 16 * 8;
        let with = |at: usize, value: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        let cases = [
            (vec![], "no 64-bit EFI program"),
            (b"MZ".to_vec(), "no 64-bit EFI program"),
            (with(0x40, 0), "no 64-bit EFI program"),
            (with(0x40 + 24 + 60, 0), "its headers do not fit"),
            (with(0x40 + 24 + 60, 1 << 30), "its headers do not fit"),
            (with(directories + 8 * 4 + 4, 8), "its signatures are not at its end"),
            (with(sections + 16, 1 << 30), "a section is outside of the file"),
            (with(sections + 20, u32::MAX), "a section is outside of the file"),
        ];
        for (bytes, expected) in cases {
            let message = Image::parse(&bytes).unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
        let larger = with(sections + 8, 1 << 30);
        let error = Image::parse(&larger).unwrap().sections()[0].content().unwrap_err();
        assert_eq!(error, ImageError::Damaged("a section is larger in memory than in the file"));
    }

    proptest! {
        #[test]
        fn any_byte_changed_it_is_a_program_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = program().signed(b"signature").build();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(image) = Image::parse(&bytes) {
                let _ = image.authenticode();
                prop_assert!(image.sections().iter().all(|it| it.content().map_or(0, <[u8]>::len) <= bytes.len()));
            }
        }
    }
}
