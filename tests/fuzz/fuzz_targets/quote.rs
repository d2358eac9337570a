//! Quotes come from whoever claims to be the TPM: they have one encoding, nothing is left out and nothing comes after it.
#![no_main]

use enforcer::tpm::is_quote;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if is_quote(data) {
        for end in 0..data.len() {
            assert!(!is_quote(&data[..end]), "the first {end} bytes are enough");
        }
        assert!(!is_quote(&[data, &[0]].concat()), "a byte may follow");
    }
});
