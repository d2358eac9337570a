//! The bridge between the ABI's types and aya's maps.

use aya::Pod;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A value as it lies in a map.
///
/// aya asks for its own marker, which a foreign type cannot be given, hence the wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Wire<T>(pub T);

// SAFETY: `Pod` means "any bytes are a value, and a value is only its bytes". `FromBytes` proves the first and
// `IntoBytes` the second (no padding), both derived and checked by zerocopy; `repr(transparent)` passes them on.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> Pod for Wire<T> {}
