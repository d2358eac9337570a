//! Frames come from guests in which attack code runs: whatever they send, the host must only ever say "broken".
#![no_main]

use libfuzzer_sys::fuzz_target;
use vm_guest::frame::Frame;

fuzz_target!(|data: &[u8]| {
    let mut input = data;
    while let Ok(Some(frame)) = Frame::read_from(&mut input) {
        let mut again = Vec::new();
        frame.write_to(&mut again).expect("what was read can be written");
        assert_eq!(Frame::read_from(&mut again.as_slice()).expect("and read again"), Some(frame));
    }
});
