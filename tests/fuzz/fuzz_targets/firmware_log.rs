//! A firmware's event log may come from anyone who wants a refusal to read well: whatever it is, it ends as values or an
//! error, in bounded memory, and what it says can be printed.
#![no_main]

use enforcer::measured::{
    firmware::{FirmwareLog, describe::describe, difference::explain_difference},
    pcr::{PcrIndex, extend},
    predict::exchange::{Exchange, exchange},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let log = match FirmwareLog::parse(data) {
        Ok(log) => log,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let values = log.replay();
    assert_eq!(values.len(), usize::from(PcrIndex::COUNT));
    for event in &log.events {
        assert!(event.offset < data.len() && event.data.len() <= data.len());
        let words = describe(event).to_string();
        assert!(!words.chars().any(char::is_control), "{words:?}");
    }
    let mut longer = log.clone();
    for pcr in PcrIndex::all() {
        assert_eq!(explain_difference(&log, &log, pcr), None);
        let Some(last) = log.events_of(pcr).last().cloned() else { continue };
        assert_eq!(values.get(pcr), Some(log.replay_of(pcr)));
        longer.events.push(last.clone());
        assert_eq!(longer.replay_of(pcr), extend(log.replay_of(pcr), last.digest));
        let difference = explain_difference(&log, &longer, pcr).expect("one more event");
        assert!(!difference.to_string().chars().any(char::is_control));
    }
    if let Ok(predicted) = exchange(&log, &Exchange::CommandLine("quiet")) {
        assert_eq!(predicted.events.len(), log.events.len());
    }
});
