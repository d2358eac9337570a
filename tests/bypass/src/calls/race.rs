//! One thread changes what another one uses.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use enforcer_vm_tests::report::{Failure, Outcome};

/// Attempts before an attacker gives up. Enough to win every race that can be won when nothing is enforced.
const ATTEMPTS: u32 = 200;

/// Tries `attempt` many times while another thread runs `disturb` without a pause. Success is one successful attempt;
/// otherwise the last failure counts that has `EPERM`, or any.
pub(crate) fn against(disturb: impl Fn() + Sync, mut attempt: impl FnMut() -> Outcome) -> Outcome {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                disturb();
                std::thread::yield_now();
            }
        });
        let mut last: Option<Failure> = None;
        let mut outcome = None;
        for _ in 0..ATTEMPTS {
            match attempt() {
                Ok(detail) => {
                    outcome = Some(detail);
                    break;
                }
                Err(failure) => {
                    if last.as_ref().is_none_or(|last| last.errno != libc::EPERM) {
                        last = Some(failure);
                    }
                }
            }
            std::thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        let lost = || last.unwrap_or_else(|| Failure { step: "no attempt".into(), errno: libc::EINVAL });
        outcome.ok_or_else(lost)
    })
}

/// Bytes that one thread changes while a system call reads them.
pub(crate) struct Unsteady {
    bytes: Vec<AtomicU8>,
    /// The byte that changes, and its two values.
    at: usize,
    values: [u8; 2],
}

impl Unsteady {
    /// Two byte strings that differ in one place.
    pub(crate) fn between(one: &[u8], other: &[u8]) -> Option<Self> {
        let mut different = (0..one.len()).filter(|&at| one[at] != other[at]);
        let at = different.next()?;
        if one.len() != other.len() || different.next().is_some() {
            return None;
        }
        let bytes = one.iter().map(|&byte| AtomicU8::new(byte)).collect();
        Some(Self { bytes, at, values: [one[at], other[at]] })
    }

    /// Changes from one to the other and back.
    pub(crate) fn flip(&self) {
        for value in self.values {
            self.bytes[self.at].store(value, Ordering::Relaxed);
            std::thread::yield_now();
        }
    }

    /// Where they are. Whoever reads them reads either of the two.
    pub(crate) fn address(&self) -> *const u8 {
        self.bytes.as_ptr().cast()
    }
}
