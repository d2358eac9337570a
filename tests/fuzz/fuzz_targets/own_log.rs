//! Our own measurement log may be torn by a crash or changed by anyone: it is read as what it is, or not at all.
#![no_main]

use enforcer::measured::{
    own::{parse, replay},
    pcr::{PcrIndex, PcrValue},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = match parse(data) {
        Ok(read) => read,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(read.whole_bytes <= data.len());
    // The whole part stands alone, and each record can be written and read again.
    assert_eq!(parse(&data[..read.whole_bytes]).expect("it is whole"), read);
    let written: Vec<u8> = read.records.iter().flat_map(|record| record.to_bytes()).collect();
    assert_eq!(parse(&written).expect("what was read can be written").records, read.records);
    for record in &read.records {
        assert_eq!(record.digest(), PcrValue::digest_of(record.text().as_bytes()));
    }
    for pcr in PcrIndex::all() {
        let replay = replay(&read.records, pcr);
        assert_eq!(replay.matches(replay.last()), Some(replay.values().len() - 1));
        assert_eq!(replay.pending(replay.last()), Some(&[][..]));
    }
});
