//! systemd's measurement log comes from the machine that is doubted.
#![no_main]

use enforcer::measured::{
    pcr::PcrValue,
    systemd::{MAX_BYTES, parse},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let records = match parse(data) {
        Ok(records) => records,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(data.len() <= MAX_BYTES);
    // No record without a line of its own.
    assert!(records.len() <= data.iter().filter(|byte| **byte == b'\x1e').count());
    for record in records {
        assert_eq!(record.is_proved, record.digest == PcrValue::digest_of(record.text.as_bytes()));
    }
});
