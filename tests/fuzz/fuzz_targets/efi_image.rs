//! Images to predict measurements from come from a build somewhere: whatever they are, they are measured or refused.
#![no_main]

use enforcer::measured::predict::{
    pe::Image,
    uki::{Phase, Uki},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(image) = Image::parse(data) else { return };
    let digest = image.authenticode();
    for section in image.sections() {
        assert!(section.content().map_or(0, <[u8]>::len) <= data.len());
    }
    let Ok(uki) = Uki::parse(data) else { return };
    assert_eq!(uki.image().authenticode(), digest);
    assert_ne!(uki.pcr_11(&[]), uki.pcr_11(&Phase::ALL));
    let _ = uki.kernel().map(|kernel| kernel.authenticode());
});
