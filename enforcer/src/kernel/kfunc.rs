//! The kernel's own functions that programs call: puts their type ids where the object has markers.
//!
//! aya resolves no such calls. What the object holds in their place, and what becomes of a call of a function that the
//! kernel lacks, is said in [`enforcer_common::kfunc`].
#![forbid(unsafe_code)]

use enforcer_common::kfunc::{self, Kfunc};

use super::{btf::KernelTypes, code::Code};

/// A function that the object never calls: this binary was put together wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the embedded object has no call of {}", .0.name)]
pub struct NoCall(pub Kfunc);

/// Resolves the calls of an object.
///
/// # Errors
/// [`NoCall`].
pub fn resolve(code: &mut Code, types: &KernelTypes) -> Result<(), NoCall> {
    for function in kfunc::ALL {
        let marked = u64::from_ne_bytes(instruction(kfunc::CALL, function.marker.to_le_bytes()));
        let call = match types.function(function.name) {
            Some(id) => instruction(kfunc::CALL, id.to_le_bytes()),
            None => instruction(kfunc::MOVE, kfunc::MISSING.to_le_bytes()),
        };
        let mut calls = code.words().filter(|word| **word == marked).peekable();
        if calls.peek().is_none() {
            return Err(NoCall(*function));
        }
        calls.for_each(|word| *word = u64::from_ne_bytes(call));
    }
    Ok(())
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
        let mut resolved = Code::of(&object());
        resolve(&mut resolved, &kernel).unwrap();
        assert_eq!(resolved.bytes().len(), object().len());
        assert_eq!(resolved.bytes()[16..24], instruction(kfunc::CALL, id.to_le_bytes()));
        let end = 16 + 8 * kfunc::ALL.len();
        assert_eq!((&resolved.bytes()[..16], &resolved.bytes()[end..]), (&[1; 16][..], &[2; 5][..]));
    }

    #[test]
    fn without_the_function_the_call_is_a_result() {
        let mut resolved = Code::of(&object());
        resolve(&mut resolved, &types(&[])).unwrap();
        assert_eq!(resolved.bytes()[16..24], [0xb7, 0, 0, 0, 0xda, 0xff, 0xff, 0xff], "r0 = -38");
    }

    #[test]
    fn an_object_without_the_call_is_none_of_ours() {
        let error = resolve(&mut Code::of(&[1; 64]), &types(&[])).unwrap_err();
        assert!(error.to_string().contains("bpf_get_fsverity_digest"), "{error}");
    }
}
