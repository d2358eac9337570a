//! Bundles, statements and evidence come from anywhere: they are read whole, or refused with a reason.
#![no_main]

use enforcer::{
    bundle::{anchors::Anchors, signed::SignedFile, statement::Statement},
    evidence::Evidence,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match Statement::parse(data) {
        // What can be read can be signed again, and means the same.
        Ok(statement) => {
            let payload = statement.to_payload().expect("a statement that was read can be written");
            assert_eq!(Statement::parse(&payload).expect("what was written can be read"), statement);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match SignedFile::parse(data) {
        Ok(file) => {
            let json = file.to_json().expect("a bundle that was read can be written");
            assert_eq!(SignedFile::parse(json.as_bytes()).expect("what was written can be read"), file);
            // Nobody is trusted, so nothing opens.
            assert!(file.dsse_envelope.open(&[], 0).is_err());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(evidence) = Evidence::parse(data) {
        let anchors = Anchors::parse("", "anchors.toml".as_ref()).expect("empty anchors are anchors");
        assert!(
            evidence.verify(&[0; 34], &[0; 32], &anchors, &Default::default()).is_err(),
            "nobody has this key"
        );
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Err(error) = Anchors::parse(text, "anchors.toml".as_ref()) {
            assert!(!error.to_string().is_empty());
        }
    }
});
