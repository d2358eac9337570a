//! In place of the connection, in programs that are built without TPM support: there can be none.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, time::Instant};

use super::{
    Digest, Identity, NvIndex, Pins, Rehearsal, SignedQuote, Slot, SlotWrite, Tcti, TpmError, TpmInfo,
};
use crate::measured::pcr::{PcrIndex, PcrValues};

/// A connection that cannot be opened, so nothing but opening is ever asked of it.
pub(super) struct Connection;

impl Connection {
    pub(super) fn new(_: Tcti, _: Instant, _: Option<Pins>) -> Self {
        Self
    }

    pub(super) fn open(&mut self) -> Result<&mut Self, TpmError> {
        Err(TpmError::NotBuilt)
    }

    pub(super) fn close(&mut self) {}
}

/// Each request fails as opening does.
macro_rules! refuse {
    ($($name:ident($($argument:ty),*) -> $result:ty;)*) => {
        impl Connection {
            $(pub(super) fn $name(&mut self, $(_: $argument),*) -> Result<$result, TpmError> {
                Err(TpmError::NotBuilt)
            })*
        }
    };
}

refuse! {
    read_pcrs(&BTreeSet<PcrIndex>) -> PcrValues;
    identity() -> Identity;
    prove_identity() -> ();
    quote(&Digest, &BTreeSet<PcrIndex>) -> SignedQuote;
    extend(PcrIndex, &Digest) -> ();
    slot(NvIndex) -> Option<Slot>;
    define_slot(NvIndex, &Digest) -> ();
    write_slot(&SlotWrite) -> ();
    rehearse(&SlotWrite) -> Rehearsal;
    undefine_slot(NvIndex) -> ();
    info() -> TpmInfo;
}

#[cfg(test)]
mod tests {
    use crate::tpm::{DEADLINE, Tcti, Tpm, TpmError};

    #[test]
    fn no_tpm_can_be_opened() {
        assert!(matches!(Tpm::open(&Tcti::first_device(), DEADLINE), Err(TpmError::NotBuilt)));
    }
}
