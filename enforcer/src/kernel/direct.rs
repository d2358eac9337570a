//! Maps whose one value the programs address directly: [`enforcer_common::maps::DIRECT`].
//!
//! aya offers that for sections of data only, which it overwrites whenever an object is loaded. So these maps are made here,
//! and their descriptors put where the object has markers.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::{MapData, MapError};
use aya_obj::{Map, generated::bpf_map_type::BPF_MAP_TYPE_ARRAY};
use enforcer_common::maps::{DIRECT, Direct};

use super::{
    code::{Code, INSTRUCTION_LEN},
    fields::Misfit,
    pin::Pins,
};

/// `BPF_LD | BPF_IMM | BPF_DW`: takes two places.
const LOAD_WIDE: u8 = 0x18;
/// As the source register of [`LOAD_WIDE`]: the first value of the map whose descriptor comes first, and so many bytes on.
const PSEUDO_MAP_VALUE: u8 = 2;

/// Bytes of an array's key.
const KEY_LEN: u32 = 4;

/// The maps, which are there as long as this, or a program that uses them, or their pins.
pub struct DirectMaps(Vec<(&'static Direct, MapData)>);

impl DirectMaps {
    /// Makes and pins the maps, or opens those that are pinned. Without `pins` they are nobody else's.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open(pins: Option<&Pins>) -> Result<Self, MapError> {
        let open = |direct: &'static Direct| Ok((direct, one(direct, pins)?));
        DIRECT.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Has the object refer to these maps.
    ///
    /// # Errors
    /// [`Misfit`].
    pub fn resolve(&self, code: &mut Code) -> Result<(), Misfit> {
        for (direct, map) in &self.0 {
            let descriptor = map.fd().as_fd().as_raw_fd();
            if place(code.instructions()?, direct, descriptor) == 0 {
                return Err(Misfit::NoUse(direct.name));
            }
        }
        Ok(())
    }
}

fn one(direct: &Direct, pins: Option<&Pins>) -> Result<MapData, MapError> {
    let path = pins.map(|pins| pins.map(direct.name));
    if let Some(path) = path.as_deref().filter(|path| path.exists()) {
        return MapData::from_pin(path);
    }
    let size = u32::try_from(direct.size).unwrap_or(u32::MAX);
    let layout = Map::new_from_params(BPF_MAP_TYPE_ARRAY as u32, KEY_LEN, size, 1, 0);
    let map = MapData::create(layout, direct.name, None)?;
    if let Some(path) = path {
        map.pin(path).map_err(|error| MapError::PinError { name: Some(direct.name.into()), error })?;
    }
    Ok(map)
}

/// Puts a descriptor into the instructions that load the address of the map's value; how many there are.
fn place<'a>(
    instructions: impl Iterator<Item = &'a mut [u8; INSTRUCTION_LEN]>,
    direct: &Direct,
    descriptor: i32,
) -> usize {
    let mut instructions = instructions.peekable();
    let [low, high] = direct.marker_halves();
    let mut placed = 0;
    while let Some(first) = instructions.next() {
        let [code, registers, _, _, a, b, c, d] = *first;
        if code != LOAD_WIDE || registers >> 4 != 0 || [a, b, c, d] != low.to_le_bytes() {
            continue;
        }
        if let Some(second) =
            instructions.next_if(|second| second[..4] == [0; 4] && second[4..] == high.to_le_bytes())
        {
            first[1] = registers | PSEUDO_MAP_VALUE << 4;
            first[4..].copy_from_slice(&descriptor.to_le_bytes());
            second[4..].copy_from_slice(&0_u32.to_le_bytes());
            placed += 1;
        }
    }
    placed
}

#[cfg(test)]
mod tests {
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
        let half = wide(7, direct.marker ^ 1 << 40);
        let mut code = [other, wide(3, direct.marker), half, wide(9, direct.marker)].concat();
        assert_eq!(place(code.iter_mut(), direct, 12), 2);
        assert_eq!(code, [other, wide(0x23, 12), half, wide(0x29, 12)].concat());
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
