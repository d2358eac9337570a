//! Puts the offsets of kernel fields where the object has markers: [`enforcer_common::field`].
#![forbid(unsafe_code)]

use enforcer_common::field::{ABSENT, Entry, marker};

use super::{
    btf::FieldOffsets,
    code::{Code, INSTRUCTION_LEN},
};

/// An object that cannot be given the offsets.
#[derive(Debug, thiserror::Error)]
pub enum Misfit {
    /// It is none of ours.
    #[error("the embedded object is damaged: {0}")]
    Damaged(#[from] object::Error),
    /// It reads no fields: this binary was put together wrongly.
    #[error("the embedded object reads no field of the kernel's structs")]
    NoLoad,
    /// It does not use a map: this binary was put together wrongly.
    #[error("the embedded object does not use the map {0}")]
    NoUse(&'static str),
    /// A load cannot reach that far.
    #[error("{}.{} lies too far from the start of its struct ({} bytes)", .0.structure(), .0.path(), .1)]
    TooFar(Entry, u32),
}

/// Puts each field's offset into the instructions that use it.
///
/// # Errors
/// [`Misfit`].
pub fn resolve(code: &mut Code, offsets: &FieldOffsets) -> Result<(), Misfit> {
    let mut loads = 0_usize;
    for instruction in code.instructions()? {
        loads += usize::from(place(instruction, offsets)?);
    }
    if loads == 0 { Err(Misfit::NoLoad) } else { Ok(()) }
}

/// Whether the instruction is a load that had a marker.
fn place(instruction: &mut [u8; INSTRUCTION_LEN], offsets: &FieldOffsets) -> Result<bool, Misfit> {
    let [code, _, low, high, a, b, c, d] = *instruction;
    if marker::IMMEDIATE_CODES.contains(&code)
        && let Some((_, offset)) =
            marked(i32::from_le_bytes([a, b, c, d]).wrapping_sub(marker::IMMEDIATE), offsets)
    {
        instruction[4..].copy_from_slice(&offset.to_le_bytes());
    }
    if !marker::LOAD_CODES.contains(&code) {
        return Ok(false);
    }
    let displacement = i16::from_le_bytes([low, high]);
    let Some((entry, offset)) = marked(i32::from(displacement) - i32::from(marker::DISPLACEMENT), offsets)
    else {
        return Ok(false);
    };
    let displacement = match i16::try_from(offset) {
        Ok(offset) if offset != marker::NOWHERE => offset,
        // Programs ask before they go there; the verifier sees that they do.
        _ if offset == ABSENT => marker::NOWHERE,
        _ => return Err(Misfit::TooFar(entry, offset)),
    };
    instruction[2..4].copy_from_slice(&displacement.to_le_bytes());
    Ok(true)
}

/// The field that a marker stands for, by its distance from the first marker, and its offset.
fn marked(distance: i32, offsets: &FieldOffsets) -> Option<(Entry, u32)> {
    let index = usize::try_from(distance).ok()?;
    Some((*Entry::ALL.get(index)?, *offsets.get(index)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets() -> FieldOffsets {
        let mut offsets = [0; Entry::COUNT];
        for (index, offset) in (0_u32..).zip(&mut offsets) {
            *offset = 8 * index;
        }
        offsets[Entry::InodeChangedNanos as usize] = ABSENT;
        offsets[Entry::BprmIsCheck as usize] = ABSENT;
        offsets[Entry::TaskMm as usize] = 0x7fff;
        offsets[Entry::TaskFiles as usize] = 0x7ffe;
        offsets
    }

    fn load(code: u8, displacement: i16) -> [u8; 8] {
        let [low, high] = displacement.to_le_bytes();
        [code, 0x10, low, high, 0, 0, 0, 0]
    }

    fn immediate(code: u8, immediate: i32) -> [u8; 8] {
        let [a, b, c, d] = immediate.to_le_bytes();
        [code, 0x02, 0, 0, a, b, c, d]
    }

    #[test]
    fn an_offset_takes_the_markers_place() {
        for code in marker::LOAD_CODES {
            let mut instruction = load(code, Entry::FileFlags.displacement());
            assert!(place(&mut instruction, &offsets()).unwrap());
            assert_eq!(instruction, load(code, 8 * Entry::FileFlags as i16));
        }
        for code in marker::IMMEDIATE_CODES {
            let mut instruction = immediate(code, Entry::FileFlags.immediate());
            assert!(!place(&mut instruction, &offsets()).unwrap());
            assert_eq!(instruction, immediate(code, 8 * Entry::FileFlags as i32));
        }
    }

    #[test]
    fn an_absent_field_is_all_ones_or_nowhere() {
        let mut instruction = immediate(0xb7, Entry::BprmIsCheck.immediate());
        place(&mut instruction, &offsets()).unwrap();
        assert_eq!(instruction, immediate(0xb7, -1));
        let mut instruction = load(0x61, Entry::InodeChangedNanos.displacement());
        assert!(place(&mut instruction, &offsets()).unwrap());
        assert_eq!(instruction, load(0x61, marker::NOWHERE));
    }

    #[test]
    fn what_a_load_cannot_reach_is_an_error() {
        let mut far = load(0x79, Entry::TaskMm.displacement());
        let error = place(&mut far, &offsets()).unwrap_err();
        assert!(error.to_string().contains("task_struct.mm"), "{error}");
        assert_eq!(far, load(0x79, Entry::TaskMm.displacement()));
        let mut near = load(0x79, Entry::TaskFiles.displacement());
        assert!(place(&mut near, &offsets()).unwrap());
        assert_eq!(near, load(0x79, 0x7ffe));
    }

    #[test]
    fn other_instructions_stay_as_they_are() {
        let first = marker::DISPLACEMENT;
        let past = i16::try_from(Entry::COUNT).unwrap();
        for instruction in [
            load(0x79, first - 1),
            load(0x79, first + past),
            load(0x79, -8),
            load(0x7b, first),
            immediate(0xb7, marker::IMMEDIATE - 1),
            immediate(0xb7, marker::IMMEDIATE + i32::from(past)),
            immediate(0xb7, i32::MIN),
            immediate(0x85, marker::IMMEDIATE),
        ] {
            let mut placed = instruction;
            assert!(!place(&mut placed, &offsets()).unwrap());
            assert_eq!(placed, instruction);
        }
    }

    #[test]
    fn an_object_that_reads_nothing_is_none_of_ours() {
        assert!(matches!(resolve(&mut Code::of(&[0; 64]), &offsets()), Err(Misfit::Damaged(_))));
    }
}
