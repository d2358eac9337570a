//! What is asked, in the layout that the measuring program and the programs here share: both include this file.

use enforcer_common::abi::ExactKey;

/// How many questions there are at most. A power of two.
pub const QUESTIONS: u32 = 1 << 14;

/// Words of the longest name.
pub const WORDS: usize = 16;

/// A name and its key, or an address.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Question {
    /// Length of the name, in bytes.
    pub len: u32,
    /// Port of the address, host byte order.
    pub port: u32,
    /// The name, zero padded.
    pub words: [u64; WORDS],
    /// What the name is looked up by, for the bare look-up.
    pub key: ExactKey,
    /// The address, IPv6 or v4-mapped, network order.
    pub address: [u8; 16],
}

/// Which question is next, and what came of those before.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Round {
    /// Counts rounds.
    pub next: u64,
    /// Questions in use less one; their number is a power of two.
    pub mask: u64,
    /// Rounds that ended in an allow, or found something.
    pub hits: u64,
}

const _: () = {
    assert!(QUESTIONS.is_power_of_two());
    assert!(size_of::<Question>() == 8 + WORDS * 8 + 24 + 16);
    assert!(size_of::<Round>() == 24);
};
