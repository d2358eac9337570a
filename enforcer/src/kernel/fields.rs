//! Puts the offsets of kernel fields where the object has markers: [`enforcer_common::field`].
//!
//! Every marker is replaced, or the object is refused: an instruction that held one still would read something else than
//! it means.
#![forbid(unsafe_code)]

use enforcer_common::field::{ABSENT, Entry, Shape, marker};

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
    /// It has a marker where none belongs: this binary was put together wrongly.
    #[error("the embedded object has a marker for {of} in an instruction that takes none ({code:#04x})")]
    Misplaced {
        /// What the marker stands for.
        of: String,
        /// The instruction's code.
        code: u8,
    },
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

/// The instructions that access memory, which have displacements: `BPF_LDX`, `BPF_ST` and `BPF_STX`.
const ACCESS_CLASSES: [u8; 3] = [1, 2, 3];
const CLASS: u8 = 7;

/// Whether the instruction is a load that had a marker.
fn place(instruction: &mut [u8; INSTRUCTION_LEN], offsets: &FieldOffsets) -> Result<bool, Misfit> {
    let [code, _, low, high, a, b, c, d] = *instruction;
    let immediate = i32::from_le_bytes([a, b, c, d]).wrapping_sub(marker::IMMEDIATE);
    if let Some((entry, offset)) = marked(immediate, offsets) {
        // What is absent may be asked for, but nothing can be calculated with it.
        let fits = code == marker::MOVE || marker::IMMEDIATE_CODES.contains(&code) && offset != ABSENT;
        if !fits {
            return Err(misplaced(entry, code));
        }
        instruction[4..].copy_from_slice(&offset.to_le_bytes());
    }
    let displacement = i32::from(i16::from_le_bytes([low, high])) - i32::from(marker::DISPLACEMENT);
    let Some((entry, offset)) =
        marked(displacement, offsets).filter(|_| ACCESS_CLASSES.contains(&(code & CLASS)))
    else {
        return Ok(false);
    };
    if !marker::LOAD_CODES.contains(&code) || entry.shape() == Shape::OptionalBit {
        return Err(misplaced(entry, code));
    }
    let displacement = match i16::try_from(offset) {
        Ok(offset) if offset != marker::NOWHERE => offset,
        // Programs ask before they go there; the verifier sees that they do.
        _ if offset == ABSENT => marker::NOWHERE,
        _ => return Err(Misfit::TooFar(entry, offset)),
    };
    instruction[2..4].copy_from_slice(&displacement.to_le_bytes());
    Ok(true)
}

fn misplaced(entry: Entry, code: u8) -> Misfit {
    Misfit::Misplaced { of: format!("{}.{}", entry.structure(), entry.path()), code }
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
            // A jump over that many instructions.
            load(0x05, first),
            immediate(0xb7, marker::IMMEDIATE - 1),
            immediate(0xb7, marker::IMMEDIATE + i32::from(past)),
            immediate(0xb7, i32::MIN),
        ] {
            let mut placed = instruction;
            assert!(!place(&mut placed, &offsets()).unwrap());
            assert_eq!(placed, instruction);
        }
    }

    #[test]
    fn a_marker_in_another_instruction_is_an_error() {
        let marked = [
            // Stores of a register and of a number, an atomic addition, a load with its sign (all of 64 bits).
            load(0x7b, Entry::FileFlags.displacement()),
            load(0x7a, Entry::FileFlags.displacement()),
            load(0xdb, Entry::FileFlags.displacement()),
            load(0x99, Entry::FileFlags.displacement()),
            // A move of 32 bits, a product, a comparison, a call, and both halves of a wide number.
            immediate(0xb4, Entry::FileFlags.immediate()),
            immediate(0x27, Entry::FileFlags.immediate()),
            immediate(0x15, Entry::FileFlags.immediate()),
            immediate(0x85, Entry::FileFlags.immediate()),
            immediate(0x18, Entry::FileFlags.immediate()),
            immediate(0x00, Entry::FileFlags.immediate()),
        ];
        for instruction in marked {
            let mut placed = instruction;
            let error = place(&mut placed, &offsets()).unwrap_err();
            assert!(matches!(&error, Misfit::Misplaced { code, .. } if *code == instruction[0]), "{error}");
            assert!(error.to_string().contains("file.f_flags"), "{error}");
            assert_eq!(placed, instruction);
        }
    }

    #[test]
    fn what_is_absent_is_not_calculated_with() {
        for code in [0x07, 0x17] {
            let mut sum = immediate(code, Entry::InodeChangedNanos.immediate());
            assert!(matches!(place(&mut sum, &offsets()), Err(Misfit::Misplaced { .. })));
        }
    }

    #[test]
    fn a_bit_is_not_loaded_like_bytes() {
        for offset in [ABSENT, 64] {
            let mut offsets = offsets();
            offsets[Entry::BprmIsCheck as usize] = offset;
            let mut byte = load(0x71, Entry::BprmIsCheck.displacement());
            assert!(matches!(place(&mut byte, &offsets), Err(Misfit::Misplaced { .. })));
        }
    }

    #[test]
    fn an_object_that_reads_nothing_is_none_of_ours() {
        assert!(matches!(resolve(&mut Code::of(&[0; 64]), &offsets()), Err(Misfit::Damaged(_))));
    }
}
