//! The keyed hash under which exact names are looked up.
//!
//! SipHash-1-3 with 128-bit output. The key is drawn at each installation and never leaves the kernel's maps and the
//! loader, so whoever chooses path names cannot search for two that collide (an unkeyed FNV or jhash would let them,
//! offline). It is fed eight bytes at a time because BPF has no byte-wise loop that is cheap.

/// The secret of one installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub [u64; 2]);

/// A running hash.
#[derive(Clone, Copy, Debug)]
pub struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    /// Starts a hash.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: Key) -> Self {
        let [k0, k1] = key.0;
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    /// Feeds eight bytes, little endian. The last word of a text is padded with zeroes; [`Sip::finish`] adds the
    /// length, so a text and the same text with trailing NULs differ.
    #[inline(always)]
    pub const fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    /// The hash of all words fed, for a text of `len` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn finish(mut self, len: u32) -> [u64; 2] {
        self.word(len as u64);
        self.v2 ^= 0xee;
        self.round();
        self.round();
        self.round();
        let low = self.v0 ^ self.v1 ^ self.v2 ^ self.v3;
        self.v1 ^= 0xdd;
        self.round();
        self.round();
        self.round();
        [low, self.v0 ^ self.v1 ^ self.v2 ^ self.v3]
    }

    #[inline(always)]
    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }
}

/// The eight bytes of `text` that start at word `index`, zero padded.
#[must_use]
pub fn word_of(text: &[u8], index: u32) -> u64 {
    let start = (index as usize).saturating_mul(8).min(text.len());
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(&text[start..]) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// The hash of a whole text, as [`crate::decide`] computes it word by word.
#[must_use]
pub fn hash_of(key: Key, text: &[u8]) -> [u64; 2] {
    let mut sip = Sip::new(key);
    let mut index = 0;
    while (index as usize) * 8 < text.len() {
        sip.word(word_of(text, index));
        index += 1;
    }
    sip.finish(u32::try_from(text.len()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher as _;

    use proptest::prelude::*;
    use siphasher::sip128::{Hasher128 as _, SipHasher13};

    use super::{Key, Sip, word_of};

    proptest! {
        /// Ours feeds whole zero-padded words and then the length as a word; so does this use of the reference.
        #[test]
        fn equals_the_reference(key in any::<[u64; 2]>(), text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut ours = Sip::new(Key(key));
            let words = u32::try_from(text.len().div_ceil(8)).unwrap();
            for index in 0..words {
                ours.word(word_of(&text, index));
            }
            let mut reference = SipHasher13::new_with_keys(key[0], key[1]);
            for index in 0..words {
                reference.write(&word_of(&text, index).to_le_bytes());
            }
            // SipHash's own padding word holds the byte count modulo 256 in its top byte; ours the whole length.
            // They agree on everything before it, so compare with the length fed as a full word on both sides.
            let total = words * 8;
            let mut padded = ours;
            padded.word(0);
            let expected = reference.finish128();
            let mut direct = ours;
            direct.word((u64::from(total) & 0xff) << 56);
            prop_assert_eq!(direct.output(), [expected.h1, expected.h2]);
            prop_assert_ne!(padded.output(), ours.finish(1));
        }
    }

    impl Sip {
        /// The output rounds alone, to compare with a reference that pads in its own way.
        fn output(mut self) -> [u64; 2] {
            self.v2 ^= 0xee;
            (0..3).for_each(|_| self.round());
            let low = self.v0 ^ self.v1 ^ self.v2 ^ self.v3;
            self.v1 ^= 0xdd;
            (0..3).for_each(|_| self.round());
            [low, self.v0 ^ self.v1 ^ self.v2 ^ self.v3]
        }
    }

    #[test]
    fn length_is_part_of_the_hash() {
        let mut a = Sip::new(Key([1, 2]));
        a.word(word_of(b"/bin", 0));
        assert_ne!(a.finish(4), a.finish(5));
    }
}
