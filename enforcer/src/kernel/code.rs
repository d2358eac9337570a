//! The object's bytes, which are fitted to the running kernel before aya sees them.
#![forbid(unsafe_code)]

use object::{
    LittleEndian, Object as _, ObjectSection as _, SectionFlags, elf::SHF_EXECINSTR, read::elf::ElfFile64,
};
use zerocopy::IntoBytes as _;

/// Bytes of an instruction. Instructions lie at multiples of it.
pub const INSTRUCTION_LEN: usize = 8;

/// An object that may still be changed.
pub struct Code {
    /// Eight bytes at a time, because the object is read where it lies.
    words: Vec<u64>,
    len: usize,
}

impl Code {
    /// A copy of an object.
    #[must_use]
    pub fn of(object: &[u8]) -> Self {
        let mut words = vec![0_u64; object.len().div_ceil(INSTRUCTION_LEN)];
        for (word, bytes) in words.iter_mut().zip(object.chunks(INSTRUCTION_LEN)) {
            word.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        }
        Self { words, len: object.len() }
    }

    /// The object.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.words.as_bytes().get(..self.len).unwrap_or_default()
    }

    /// Everything in it that may be an instruction, and more.
    pub fn words(&mut self) -> impl Iterator<Item = &mut u64> {
        self.words.iter_mut()
    }

    /// The instructions of its programs.
    ///
    /// # Errors
    /// It is no ELF file.
    pub fn instructions(
        &mut self,
    ) -> Result<impl Iterator<Item = &mut [u8; INSTRUCTION_LEN]>, object::Error> {
        let mut places = Vec::new();
        for section in ElfFile64::<LittleEndian>::parse(self.bytes())?.sections() {
            let is_code = matches!(section.flags(), SectionFlags::Elf { sh_flags } if sh_flags & u64::from(SHF_EXECINSTR) != 0);
            if let Some((start, len)) = section.file_range().filter(|_| is_code) {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                places.push(start..start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX)));
            }
        }
        let len = self.len;
        let (instructions, _) = self.words.as_mut_bytes().as_chunks_mut::<INSTRUCTION_LEN>();
        let within = move |at: usize| places.iter().any(|place| place.contains(&at));
        Ok(instructions
            .iter_mut()
            .enumerate()
            .filter(move |(index, _)| {
                let at = index * INSTRUCTION_LEN;
                at + INSTRUCTION_LEN <= len && within(at)
            })
            .map(|(_, instruction)| instruction))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_any_length_is_copied() {
        for len in 0..20_u8 {
            let object: Vec<u8> = (1..=len).collect();
            assert_eq!(Code::of(&object).bytes(), object);
        }
    }

    #[test]
    fn what_is_no_object_has_no_instructions() {
        assert!(Code::of(&[0x79; 64]).instructions().is_err());
    }
}
