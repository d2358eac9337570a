//! Maps whose one value the programs address directly: [`enforcer_common::maps::DIRECT`].
//!
//! aya offers that for sections of data only, which it overwrites whenever an object is loaded. So these maps are made here,
//! and their descriptors put where the object has markers.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapError, MapInfo, MapType};
use aya_obj::{Map, generated::bpf_map_type::BPF_MAP_TYPE_ARRAY};
use enforcer_common::maps::Direct;

use super::{
    chain,
    code::{Code, INSTRUCTION_LEN},
    fields::Misfit,
};

/// `BPF_LD | BPF_IMM | BPF_DW`: takes two places.
const LOAD_WIDE: u8 = 0x18;
/// As the source register of [`LOAD_WIDE`]: the first value of the map whose descriptor comes first, and so many bytes on.
const PSEUDO_MAP_VALUE: u8 = 2;

/// A map that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// The kernel refuses to make or to open it.
    #[error("cannot make or open the map {name}: {}", chain(.source))]
    Refused {
        /// Its name.
        name: &'static str,
        /// Why.
        source: MapError,
    },
    /// What is pinned in its place is another map: the programs would take its bytes for something else.
    #[error("the map that is pinned at {} is no array of one value of {size} bytes", path.display())]
    Layout {
        /// The pin.
        path: PathBuf,
        /// Bytes of the value that it should have.
        size: usize,
    },
}

/// The maps, which are there as long as this, or a program that uses them, or their pins.
pub struct DirectMaps(Vec<(&'static Direct, MapData)>);

impl DirectMaps {
    /// Makes the maps and pins them in a directory, or opens those that are pinned there. Without one they are nobody else's.
    ///
    /// # Errors
    /// [`DirectError`].
    pub fn open(maps: &'static [Direct], pins: Option<&Path>) -> Result<Self, DirectError> {
        let open = |direct: &'static Direct| Ok((direct, one(direct, pins)?));
        maps.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Has the object refer to these maps.
    ///
    /// # Errors
    /// [`Misfit`].
    pub fn resolve(&self, code: &mut Code) -> Result<(), Misfit> {
        for (direct, map) in &self.0 {
            let descriptor = map.fd().as_fd().as_raw_fd();
            if place(code.instructions()?, direct, descriptor)? == 0 {
                return Err(Misfit::NoUse(direct.name));
            }
        }
        Ok(())
    }
}

fn one(direct: &'static Direct, pins: Option<&Path>) -> Result<MapData, DirectError> {
    let refused = |source| DirectError::Refused { name: direct.name, source };
    let path = pins.map(|directory| directory.join(direct.name));
    if let Some(path) = path.as_deref().filter(|path| path.exists()) {
        let map = MapData::from_pin(path).map_err(refused)?;
        let layout = map.info().and_then(|info| Layout::of(&info)).map_err(refused)?;
        layout.check(direct, path)?;
        return Ok(map);
    }
    let Layout { kind: _, key_len, value_len, values } = Layout::expected(direct);
    let layout = Map::new_from_params(BPF_MAP_TYPE_ARRAY as u32, key_len, value_len, values, 0);
    let map = MapData::create(layout, direct.name, None).map_err(refused)?;
    if let Some(path) = path {
        map.pin(path)
            .map_err(|error| refused(MapError::PinError { name: Some(direct.name.into()), error }))?;
    }
    Ok(map)
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    kind: MapType,
    key_len: u32,
    value_len: u32,
    values: u32,
}

impl Layout {
    fn of(info: &MapInfo) -> Result<Self, MapError> {
        Ok(Self {
            kind: info.map_type()?,
            key_len: info.key_size(),
            value_len: info.value_size(),
            values: info.max_entries(),
        })
    }

    fn expected(direct: &Direct) -> Self {
        let value_len = u32::try_from(direct.size).unwrap_or(u32::MAX);
        Self { kind: MapType::Array, key_len: 4, value_len, values: 1 }
    }

    fn check(self, direct: &Direct, path: &Path) -> Result<(), DirectError> {
        if self == Self::expected(direct) {
            return Ok(());
        }
        Err(DirectError::Layout { path: path.to_owned(), size: direct.size })
    }
}

/// Puts a descriptor into the instructions that load the address of the map's value; how many there are.
///
/// A marker, or the half of one that tells maps apart, in any other instruction is an error.
fn place<'a>(
    instructions: impl Iterator<Item = &'a mut [u8; INSTRUCTION_LEN]>,
    direct: &Direct,
    descriptor: i32,
) -> Result<usize, Misfit> {
    let mut instructions = instructions.peekable();
    let [low, high] = direct.marker_halves();
    let mut placed = 0;
    while let Some(first) = instructions.next() {
        let [code, registers, _, _, a, b, c, d] = *first;
        if [a, b, c, d] != low.to_le_bytes() {
            continue;
        }
        let second = instructions
            .next_if(|second| second[..4] == [0; 4] && second[4..] == high.to_le_bytes())
            .filter(|_| code == LOAD_WIDE && registers >> 4 == 0);
        let Some(second) = second else {
            return Err(Misfit::Misplaced { of: format!("the map {}", direct.name), code });
        };
        first[1] = registers | PSEUDO_MAP_VALUE << 4;
        first[4..].copy_from_slice(&descriptor.to_le_bytes());
        second[4..].copy_from_slice(&0_u32.to_le_bytes());
        placed += 1;
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use enforcer_common::maps::DIRECT;

    use super::*;

    fn wide(registers: u8, value: u64) -> [[u8; 8]; 2] {
        let bytes = value.to_le_bytes();
        let mut halves = [[LOAD_WIDE, registers, 0, 0, 0, 0, 0, 0], [0; 8]];
        halves[0][4..].copy_from_slice(&bytes[..4]);
        halves[1][4..].copy_from_slice(&bytes[4..]);
        halves
    }

    #[test]
    fn the_descriptor_takes_the_markers_place() {
        let direct = &DIRECT[0];
        let other = wide(7, direct.marker ^ 1);
        let mut code = [other, wide(3, direct.marker), wide(9, direct.marker)].concat();
        assert_eq!(place(code.iter_mut(), direct, 12).unwrap(), 2);
        assert_eq!(code, [other, wide(0x23, 12), wide(0x29, 12)].concat());
    }

    #[test]
    fn a_marker_in_another_instruction_is_an_error() {
        let direct = &DIRECT[0];
        let [first, second] = wide(3, direct.marker);
        let another = wide(3, direct.marker ^ 1 << 40);
        let mut moved = first;
        moved[0] = 0xb7;
        let mut from_a_register = first;
        from_a_register[1] |= 1 << 4;
        for code in [
            another.to_vec(),
            vec![first],
            vec![first, first, second],
            vec![moved, second],
            vec![from_a_register, second],
        ] {
            let mut placed = code.clone();
            let error = place(placed.iter_mut(), direct, 12).unwrap_err();
            assert!(error.to_string().contains(direct.name), "{error}");
            assert_eq!(placed, code);
        }
    }

    #[test]
    fn another_map_in_its_place_is_refused() {
        let path = Path::new("/pins/CONTROL");
        let control = &DIRECT[0];
        let size = u32::try_from(size_of::<enforcer_common::abi::Control>()).unwrap();
        let right = Layout { kind: MapType::Array, key_len: 4, value_len: size, values: 1 };
        right.check(control, path).unwrap();
        for other in [
            Layout { kind: MapType::Hash, ..right },
            Layout { key_len: 8, ..right },
            Layout { value_len: size - 8, ..right },
            Layout { value_len: size + 8, ..right },
            Layout { values: 2, ..right },
        ] {
            let error = other.check(control, path).unwrap_err();
            assert!(error.to_string().contains("/pins/CONTROL"), "{error}");
        }
    }

    #[test]
    fn markers_are_told_apart() {
        for (index, direct) in DIRECT.iter().enumerate() {
            for other in &DIRECT[index + 1..] {
                assert_ne!(direct.marker_halves()[0], other.marker_halves()[0]);
            }
        }
    }
}
