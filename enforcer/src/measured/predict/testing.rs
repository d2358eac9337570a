//! EFI programs, as small as they get.

/// Where sections start: the headers fill what is before.
pub(crate) const ALIGNMENT: usize = 0x400;

/// A program under construction.
#[derive(Clone, Default)]
pub(crate) struct Program {
    sections: Vec<(Vec<u8>, Vec<u8>)>,
    trailing: Vec<u8>,
    signature: Vec<u8>,
    reversed: bool,
}

impl Program {
    /// A program with these sections.
    pub(crate) fn new(sections: &[(&[u8], &[u8])]) -> Self {
        let sections = sections.iter().map(|(name, content)| (name.to_vec(), content.to_vec())).collect();
        Self { sections, ..Self::default() }
    }

    /// With something behind its sections.
    pub(crate) fn trailing(mut self, bytes: &[u8]) -> Self {
        self.trailing = bytes.to_vec();
        self
    }

    /// With a signature.
    pub(crate) fn signed(mut self, signature: &[u8]) -> Self {
        self.signature = signature.to_vec();
        self
    }

    /// With the last section's header first.
    pub(crate) fn headers_reversed(mut self) -> Self {
        self.reversed = true;
        self
    }

    /// The file: DOS header, PE headers at 0x40, sections at multiples of [`ALIGNMENT`].
    pub(crate) fn build(&self) -> Vec<u8> {
        let number = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
        let mut table = Vec::new();
        let mut contents = Vec::new();
        for (name, content) in &self.sections {
            let mut padded_name = name.clone();
            padded_name.resize(8, 0);
            let place = ALIGNMENT + contents.len();
            contents.extend(content);
            contents.resize(contents.len().next_multiple_of(ALIGNMENT), 0);
            let raw_size = ALIGNMENT + contents.len() - place;
            let sizes = [number(content.len()), number(place), number(raw_size), number(place)].concat();
            table.push([padded_name, sizes, vec![0; 16]].concat());
        }
        if self.reversed {
            table.reverse();
        }
        let mut file = b"MZ".to_vec();
        file.resize(0x3c, 0);
        file.extend(number(0x40));
        file.extend(b"PE\0\0");
        // x86-64, number of sections, no symbols, size of the optional header, executable.
        file.extend([0x64, 0x86]);
        file.extend(u16::try_from(table.len()).unwrap().to_le_bytes());
        file.extend([&[0; 12][..], &240_u16.to_le_bytes(), &[0x02, 0]].concat());
        let optional = file.len();
        file.extend([0x0b, 0x02]);
        file.resize(optional + 32, 0);
        file.extend([number(ALIGNMENT), number(ALIGNMENT)].concat());
        file.resize(optional + 60, 0);
        file.extend([number(ALIGNMENT), [0; 4]].concat());
        file.resize(optional + 108, 0);
        file.extend(number(16));
        let end = ALIGNMENT + contents.len() + self.trailing.len();
        let mut directories = vec![0; 16 * 8];
        if !self.signature.is_empty() {
            directories[4 * 8..5 * 8].copy_from_slice(&[number(end), number(self.signature.len())].concat());
        }
        file.extend(directories);
        file.extend(table.concat());
        file.resize(ALIGNMENT, 0);
        [file, contents, self.trailing.clone(), self.signature.clone()].concat()
    }
}
