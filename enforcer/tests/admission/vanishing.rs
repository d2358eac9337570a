//! A TPM that is gone, replayed or reconfigured in the middle of an admission.

use enforcer::tpm::{Tcti, Tpm};

use super::world::World;
use crate::tpm::{
    emulator::{PATIENCE, code_of, pcr},
    interposer::Interposer,
};

const CREATE_PRIMARY: u32 = 0x131;
const ACTIVATE_CREDENTIAL: u32 = 0x147;
const START_AUTH_SESSION: u32 = 0x176;
const PCR_READ: u32 = 0x17e;
const QUOTE: u32 = 0x158;
const NV_READ: u32 = 0x14e;
const POLICY_NV: u32 = 0x149;
const POLICY_AUTHORIZE: u32 = 0x16a;
const NV_WRITE: u32 = 0x137;
const PCR_EXTEND: u32 = 0x182;

/// Whether the command that kills it is still carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Lost,
    Done,
}

/// Dies as a process does, without a word.
fn die(pid: libc::pid_t) {
    // SAFETY: a signal to a child of the test's that was not waited for yet.
    let killed = unsafe { libc::kill(pid, libc::SIGKILL) };
    assert_eq!(killed, 0);
}

/// A way to the world's TPM on which it dies at the `nth` command with this code.
fn dying_at(world: &World, code: u32, mut nth: usize, last: Last) -> Interposer {
    let (pid, mut dead) = (world.tpm.pid(), false);
    Interposer::start(&world.tpm, move |command, tpm| {
        if !dead && code_of(command) == code {
            nth -= 1;
            if nth == 0 {
                if last == Last::Done {
                    tpm.give(command);
                }
                die(pid);
                dead = true;
            }
        }
        if dead { tpm.hang_up() } else { tpm.give(command) }
    })
}

#[test]
fn a_tpm_that_is_killed_at_any_step_refuses_and_the_next_boot_goes_on() {
    let mut world = World::new();
    world.admit(1);
    let steps = [
        (CREATE_PRIMARY, 1, Last::Lost),
        (ACTIVATE_CREDENTIAL, 1, Last::Lost),
        (PCR_READ, 1, Last::Lost),
        // Between reading and quoting.
        (QUOTE, 1, Last::Lost),
        (START_AUTH_SESSION, 2, Last::Lost),
        (NV_READ, 1, Last::Lost),
        (POLICY_NV, 1, Last::Lost),
        (POLICY_AUTHORIZE, 1, Last::Lost),
        // The slot holds the new record, or does not.
        (NV_WRITE, 1, Last::Lost),
        (NV_WRITE, 1, Last::Done),
        // Nothing was measured, or a part.
        (PCR_EXTEND, 1, Last::Lost),
        (PCR_EXTEND, 1, Last::Done),
    ];
    for (version, (code, nth, last)) in (2..).zip(steps) {
        let step = format!("killed at {code:#x}, {last:?}");
        world.deliver(&world.sign(&world.statement(version)));
        let interposer = dying_at(&world, code, nth, last);
        world.redirect(&interposer.tcti());
        let reason = world.take().expect_err(&step).reason();
        assert!(["tpm-disconnected", "tpm-absent", "tpm"].contains(&reason), "{step}: {reason}");
        assert!(interposer.count(code) >= nth, "{step}");
        drop(interposer);
        // It has its power back while the system runs on: its PCRs could hold anything.
        world.tpm.start_again();
        world.redirect(&world.tpm.tcti());
        world.boot();
        assert_eq!(world.refused(), "tpm-reset", "{step}");
        // After a reboot the very same bundle is admitted, and what was admitted before it is not any more.
        world.reboot();
        let report = world.take().unwrap().report.unwrap();
        assert_eq!(report.record.version, version, "{step}");
        world.deliver(&world.sign(&world.statement(version - 1)));
        assert_eq!(world.refused(), "rollback", "{step}");
    }
}

#[test]
fn an_old_quote_is_refused() {
    let world = World::new();
    world.deliver(&world.sign(&world.statement(1)));
    // Somebody between us and the TPM repeats what it quoted first, for another nonce.
    let mut recorded: Option<Vec<u8>> = None;
    let interposer = Interposer::start(&world.tpm, move |command, tpm| match code_of(command) {
        QUOTE => recorded.get_or_insert_with(|| tpm.give(command)).clone(),
        _ => tpm.give(command),
    });
    let through = |tcti: Tcti| Tpm::open(&tcti, PATIENCE).unwrap();
    let quoted = through(interposer.tcti()).quote(&[7; 32], &[pcr(4), pcr(7), pcr(9), pcr(15)].into());
    assert!(quoted.is_ok(), "the quote that is repeated");
    world.redirect(&interposer.tcti());
    assert_eq!(world.take().unwrap_err().reason(), "quote");
    assert!(world.complaint().contains("nonce"), "{}", world.complaint());
    drop(interposer);
    world.redirect(&world.tpm.tcti());
    world.take().unwrap();
}

#[test]
fn a_tpm_without_the_bank_is_refused() {
    let world = World::new();
    world.deliver(&world.sign(&world.statement(1)));
    // TPM2_PCR_Allocate by the platform: SHA-1 has all registers, SHA-256 none; from the next start on.
    let allocation = [0, 0, 0, 2, 0, 4, 3, 0xff, 0xff, 0xff, 0, 0x0b, 3, 0, 0, 0];
    world.tpm.authorized(0x12b, &[0x4000_000c], &allocation).unwrap();
    world.tpm.reset();
    let error = world.take().unwrap_err();
    assert_eq!(error.reason(), "bank-missing");
    assert!(error.to_string().contains("PCR 4+7+9+15"), "{error}");
    assert!(world.tpm.loaded().is_empty());
}

#[test]
fn a_tpm_that_never_gets_ready_is_refused_in_time() {
    let world = World::new();
    world.deliver(&world.sign(&world.statement(1)));
    let interposer = Interposer::start(&world.tpm, |command, tpm| match code_of(command) {
        // TPM_RC_RETRY, for ever.
        QUOTE => vec![0x80, 1, 0, 0, 0, 10, 0, 0, 0x09, 0x22],
        _ => tpm.give(command),
    });
    world.redirect(&interposer.tcti());
    let started = std::time::Instant::now();
    assert_eq!(world.take().unwrap_err().reason(), "tpm-busy");
    assert!(started.elapsed() < enforcer::tpm::DEADLINE, "{:?}", started.elapsed());
}
