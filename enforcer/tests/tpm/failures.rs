use std::time::{Duration, Instant};

use enforcer::tpm::{Tcti, Tpm, TpmError};

use super::{
    emulator::{Emulator, PATIENCE, code_of, listening_pair, next_port, pcr, pcrs, reset},
    interposer::Interposer,
};

/// Short, for tests that wait until it is over.
const DEADLINE: Duration = Duration::from_millis(700);
/// What may come on top, on a machine that is busy with something else.
const SLACK: Duration = Duration::from_secs(10);

/// Runs something that has to end with the deadline.
fn in_time<T>(what: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = what();
    let took = started.elapsed();
    assert!(took < DEADLINE + SLACK, "took {took:?}");
    result
}

#[test]
fn nothing_at_all_is_absent() {
    let missing = Tcti::Device("/dev/tpm-that-does-not-exist".into());
    let error = Tpm::open(&missing, PATIENCE).unwrap_err();
    assert!(matches!(&error, TpmError::Absent { tcti, .. } if *tcti == missing), "{error:?}");
    // Nobody listens.
    let error = Tpm::open(&Tcti::Swtpm { port: next_port() }, PATIENCE).unwrap_err();
    assert!(matches!(error, TpmError::Absent { .. }), "{error:?}");
}

#[test]
fn a_tpm_that_never_answers_is_an_error_in_time() {
    // Connections are made, by the kernel; nobody ever reads from them.
    let (port, command, control) = listening_pair();
    let error = in_time(|| Tpm::open(&Tcti::Swtpm { port }, DEADLINE).unwrap_err());
    assert!(matches!(error, TpmError::TimedOut(DEADLINE)), "{error:?}");
    // They were made indeed: it was silence, not a refusal.
    for listener in [command, control] {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok());
    }
}

#[test]
fn a_tpm_that_hangs_in_the_middle_is_an_error_in_time() {
    let emulator = Emulator::start();
    let tpm = Tpm::open(&emulator.tcti(), DEADLINE).unwrap();
    assert_eq!(tpm.read_pcrs(&pcrs(&[7])).unwrap().len(), 1);
    // SAFETY: a signal to a child of ours that was not waited for yet.
    let stopped = unsafe { libc::kill(emulator.pid(), libc::SIGSTOP) };
    assert_eq!(stopped, 0);
    let error = in_time(|| tpm.quote(&[0; 32], &pcrs(&[7])).unwrap_err());
    assert!(matches!(error, TpmError::TimedOut(DEADLINE)), "{error:?}");
    let started = Instant::now();
    let error = tpm.read_pcrs(&pcrs(&[7])).unwrap_err();
    assert!(matches!(error, TpmError::TimedOut(_)), "{error:?}");
    drop(tpm);
    assert!(started.elapsed() < DEADLINE / 2, "later requests fail at once");
}

#[test]
fn a_tpm_that_dies_is_an_error_in_time() {
    let mut emulator = Emulator::start();
    let tpm = Tpm::open(&emulator.tcti(), PATIENCE).unwrap();
    tpm.prove_identity().unwrap();
    emulator.kill();
    let error = in_time(|| tpm.quote(&[0; 32], &pcrs(&[7])).unwrap_err());
    assert!(matches!(error, TpmError::Disconnected { .. }), "{error:?}");
    let error = in_time(|| tpm.extend(pcr(15), &[0; 32]).unwrap_err());
    assert!(matches!(error, TpmError::Absent { .. }), "{error:?}");
    in_time(|| drop(tpm));
}

#[test]
fn a_tpm_that_nobody_started_has_failed() {
    let emulator = Emulator::start();
    emulator.reset_without_startup();
    let tpm = emulator.open();
    let error = tpm.identity().unwrap_err();
    assert!(matches!(error, TpmError::Failed { .. }), "{error:?}");
}

#[test]
fn a_reset_in_the_middle_is_an_error() {
    let emulator = Emulator::start();
    let tpm = emulator.open();
    tpm.extend(pcr(15), &[0; 32]).unwrap();
    drop(tpm);
    let mut armed = false;
    let port = emulator.port();
    let interposer = Interposer::start(&emulator, move |command, tpm| {
        // After the keys were made, before the session is.
        if code_of(command) == 0x176 && !armed {
            armed = true;
            reset(port, |startup| tpm.give(startup));
        }
        tpm.give(command)
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    let error = tpm.extend(pcr(15), &[0; 32]).unwrap_err();
    assert!(matches!(error, TpmError::Protocol { .. } | TpmError::Failed { .. }), "{error:?}");
    drop(tpm);
    drop(interposer);
    assert!(emulator.loaded().is_empty());
}

/// An answer without parameters.
fn answer(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

#[test]
fn a_tpm_that_asks_for_patience_gets_it() {
    let emulator = Emulator::start();
    let mut codes = vec![0x922, 0x908, 0x90a].into_iter();
    let interposer = Interposer::start(&emulator, move |command, tpm| match code_of(command) {
        // TPM_RC_RETRY, TPM_RC_YIELDED, TPM_RC_TESTING.
        0x17e => codes.next().map_or_else(|| tpm.give(command), answer),
        _ => tpm.give(command),
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    assert_eq!(tpm.read_pcrs(&pcrs(&[7])).unwrap().len(), 1);
    assert_eq!(interposer.count(0x17e), 4);
    drop(tpm);
}

#[test]
fn patience_has_an_end() {
    let emulator = Emulator::start();
    let interposer = Interposer::start(&emulator, |command, tpm| match code_of(command) {
        0x17e => answer(0x922),
        _ => tpm.give(command),
    });
    let tpm = Tpm::open(&interposer.tcti(), DEADLINE).unwrap();
    let error = in_time(|| tpm.read_pcrs(&pcrs(&[7])).unwrap_err());
    assert!(matches!(error, TpmError::Busy { command: "TPM2_PCR_Read", .. }), "{error:?}");
    drop(tpm);
    // Other warnings are not asked away: lockout would only get worse.
    let interposer = Interposer::start(&emulator, |command, tpm| match code_of(command) {
        0x17e => answer(0x921),
        _ => tpm.give(command),
    });
    let tpm = Tpm::open(&interposer.tcti(), PATIENCE).unwrap();
    let error = tpm.read_pcrs(&pcrs(&[7])).unwrap_err();
    assert!(matches!(error, TpmError::Protocol { command: "TPM2_PCR_Read", .. }), "{error:?}");
    assert_eq!(interposer.count(0x17e), 1);
    drop(tpm);
}

#[test]
fn nonsense_is_an_error() {
    let emulator = Emulator::start();
    for response in
        [&[][..], &[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0], &[0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 0xff, 0xff]]
    {
        let nonsense = response.to_vec();
        let interposer = Interposer::start(&emulator, move |command, tpm| match code_of(command) {
            0x131 => nonsense.clone(),
            _ => tpm.give(command),
        });
        let tpm = Tpm::open(&interposer.tcti(), DEADLINE).unwrap();
        assert!(in_time(|| tpm.identity()).is_err(), "{response:?}");
        drop(tpm);
    }
}
