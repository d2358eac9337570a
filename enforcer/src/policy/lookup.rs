//! The kernel's decision function, run over an image in user space.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
};

use enforcer_common::{
    abi::{ExactKey, Grant, Head, Pin, PinKey, PortRange, PortSpan, PrefixKey},
    decide::{Request, Step, Tables, Text, decide},
    hash::Key,
    verdict::Decision,
};

use super::{
    image::PolicyImage,
    place::{self, Placement},
};

/// Everything the maps hold for one image, and its head.
#[derive(Clone, Debug)]
pub struct ImageTables {
    head: Head,
    exact: HashMap<(u32, u32, [u64; 2]), Grant>,
    pins: HashMap<PinKey, Pin>,
    cells: Vec<u16>,
    prefixes: HashMap<(u8, [u8; 16]), PortSpan>,
    /// Prefix lengths that occur.
    lengths: BTreeSet<u8>,
    ports: Vec<PortRange>,
}

/// Any key will do: nobody can choose names against this process.
const KEY: Key = Key([0x656e_666f_7263_6572, 0x6578_706c_6169_6e21]);

impl ImageTables {
    /// Places an image at the beginning of tables of its own.
    #[must_use]
    pub fn new(image: &PolicyImage) -> Self {
        let placement = Placement::at_origin(image);
        let exact =
            place::exact(image, &placement, KEY).map(|(key, grant)| ((key.table, key.len, key.hash), grant));
        let prefixes: HashMap<_, _> = place::prefixes(image, &placement)
            .filter_map(|(key, span)| {
                let length = u8::try_from(key.prefix_len - PrefixKey::TABLE_BITS).ok()?;
                Some(((length, key.address), span))
            })
            .collect();
        Self {
            head: place::head(image, &placement),
            exact: exact.collect(),
            pins: place::pins(image, &placement, KEY).collect(),
            cells: place::transitions(image).chain(place::accepts(image)).collect(),
            lengths: prefixes.keys().map(|(length, _)| *length).collect(),
            prefixes,
            ports: place::ports(image),
        }
    }

    /// The head.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Decides as the kernel does.
    pub fn decide<T: Text>(&self, request: &Request<'_, T>) -> Decision {
        decide(request, &self.head, self)
    }
}

impl Tables for ImageTables {
    fn exact(&self, key: &ExactKey) -> Option<Grant> {
        self.exact.get(&(key.table, key.len, key.hash)).copied()
    }

    fn pin(&self, key: &PinKey) -> Option<Pin> {
        self.pins.get(key).copied()
    }

    fn cell(&self, index: u64) -> Option<u16> {
        self.cells.get(usize::try_from(index).ok()?).copied()
    }

    fn prefix(&self, key: &PrefixKey) -> Option<PortSpan> {
        if key.table != self.head.table {
            return None;
        }
        let address = u128::from_be_bytes(key.address);
        self.lengths.iter().rev().find_map(|length| {
            let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
            self.prefixes.get(&(*length, (address & mask).to_be_bytes())).copied()
        })
    }

    fn port(&self, index: u32) -> Option<PortRange> {
        self.ports.get(index as usize).copied()
    }

    fn hash_key(&self) -> Key {
        KEY
    }

    fn repeat<S: Step>(&self, times: u32, step: &mut S) {
        for index in 0..times {
            if let ControlFlow::Break(()) = step.step(index) {
                return;
            }
        }
    }
}
