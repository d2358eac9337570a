//! The kernel's own functions that programs call: puts their type ids where the object has markers.
//!
//! aya resolves no such calls. What the object holds in their place, and what becomes of a call of a function that the
//! kernel lacks, is said in [`enforcer_common::kfunc`].
#![forbid(unsafe_code)]

use enforcer_common::kfunc::{self, Kfunc};
use zerocopy::IntoBytes as _;

use super::btf::KernelTypes;

/// An object whose calls are those of the running kernel.
pub struct Resolved {
    /// Eight bytes at a time, because the object is read where it lies.
    words: Vec<u64>,
    len: usize,
}

/// A function that the object never calls: this binary was put together wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the embedded object has no call of {}", .0.name)]
pub struct NoCall(pub Kfunc);

impl Resolved {
    /// The object.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.words.as_bytes().get(..self.len).unwrap_or_default()
    }
}

/// Resolves the calls of an object.
///
/// # Errors
/// [`NoCall`].
pub fn resolve(object: &[u8], types: &KernelTypes) -> Result<Resolved, NoCall> {
    let mut words = vec![0_u64; object.len().div_ceil(size_of::<u64>())];
    for (word, bytes) in words.iter_mut().zip(object.chunks(size_of::<u64>())) {
        word.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    }
    for function in kfunc::ALL {
        let marked = u64::from_ne_bytes(instruction(kfunc::CALL, function.marker.to_le_bytes()));
        let call = match types.function(function.name) {
            Some(id) => instruction(kfunc::CALL, id.to_le_bytes()),
            None => instruction(kfunc::MOVE, kfunc::MISSING.to_le_bytes()),
        };
        // Instructions lie at multiples of their size.
        let mut calls = words.iter_mut().filter(|word| **word == marked).peekable();
        if calls.peek().is_none() {
            return Err(NoCall(*function));
        }
        calls.for_each(|word| *word = u64::from_ne_bytes(call));
    }
    Ok(Resolved { words, len: object.len() })
}

fn instruction([a, b, c, d]: [u8; 4], [e, f, g, h]: [u8; 4]) -> [u8; 8] {
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::tests::types_with as types;

    /// Calls with all markers between other bytes, the last ones no whole word.
    fn object() -> Vec<u8> {
        let calls = kfunc::ALL
            .iter()
            .flat_map(|function| instruction(kfunc::CALL, function.marker.to_le_bytes()))
            .collect::<Vec<_>>();
        [&[1; 16], &calls[..], &[2; 5]].concat()
    }

    #[test]
    fn the_id_of_the_function_takes_the_markers_place() {
        let kernel = types(&[super::super::support::IMA, kfunc::FSVERITY_DIGEST.name]);
        let id = kernel.function(kfunc::FSVERITY_DIGEST.name).unwrap();
        let resolved = resolve(&object(), &kernel).unwrap();
        assert_eq!(resolved.bytes().len(), object().len());
        assert_eq!(resolved.bytes()[16..24], instruction(kfunc::CALL, id.to_le_bytes()));
        let end = 16 + 8 * kfunc::ALL.len();
        assert_eq!((&resolved.bytes()[..16], &resolved.bytes()[end..]), (&[1; 16][..], &[2; 5][..]));
    }

    #[test]
    fn without_the_function_the_call_is_a_result() {
        let resolved = resolve(&object(), &types(&[])).unwrap();
        assert_eq!(resolved.bytes()[16..24], [0xb7, 0, 0, 0, 0xda, 0xff, 0xff, 0xff], "r0 = -38");
    }

    #[test]
    fn an_object_without_the_call_is_none_of_ours() {
        let error = resolve(&[1; 64], &types(&[])).map(|resolved| resolved.len).unwrap_err();
        assert!(error.to_string().contains("bpf_get_fsverity_digest"), "{error}");
    }
}
