//! Records come out of the kernel's ring, which programs fill with what attackers named: the decoder must take any bytes.
#![no_main]

use enforcer::events::{
    decode::decode,
    record::{Context, Record, compact},
    suggest::suggest,
    text,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    assert_eq!(text::to_bytes(&text::from_bytes(data)).as_deref(), Some(data), "names come back");
    let Ok(event) = decode(data) else { return };
    let context = Context { suggestion: suggest(&event), ..Context::default() };
    let record = Record::of(&event, context);
    let line = serde_json::to_string(&record).expect("a record is JSON");
    assert_eq!(serde_json::from_str::<Record>(&line).expect("and can be read again"), record);
    assert!(!compact(&record).is_empty());
});
