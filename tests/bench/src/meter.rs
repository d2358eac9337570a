//! Counting instructions.
//!
//! Under `-icount shift=0` the time stamp counter advances by one with each instruction of the guest. What is measured
//! is the smallest of several batches: an interrupt or another task can make a batch longer, nothing can make it
//! shorter.

use anyhow::{Context, Result, ensure};

use crate::operations::{Operation, Run};

/// Batches of an operation.
pub const BATCHES: u32 = 31;
/// Batches where a first impression will do.
pub const QUICK_BATCHES: u32 = 7;

/// Rounds of [`spin`] by which the clock is checked.
const SPIN_ROUNDS: u64 = 1_000_000;
/// Instructions of one round.
const SPIN_LENGTH: u64 = 2;

/// The clock.
fn now() -> u64 {
    // SAFETY: reads a counter that every x86-64 processor has and that Linux leaves to user space.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Makes sure that the clock counts instructions.
///
/// # Errors
/// On any other machine the numbers would mean nothing.
pub fn check_clock() -> Result<()> {
    let ticks = (0..3).map(|_| spin()).min().unwrap_or(u64::MAX);
    let expected = SPIN_ROUNDS * SPIN_LENGTH;
    ensure!(
        (expected..expected + expected / 100).contains(&ticks),
        "{expected} instructions took {ticks} ticks: this clock does not count instructions; use `cargo xtask bench`"
    );
    Ok(())
}

/// Ticks of a loop whose instructions are known.
fn spin() -> u64 {
    let start = now();
    // SAFETY: counts a register down to zero.
    unsafe {
        core::arch::asm!("2: dec {rounds}", "jnz 2b", rounds = inout(reg) SPIN_ROUNDS => _, options(nomem, nostack));
    }
    now() - start
}

/// Instructions of one round of an operation.
///
/// # Errors
/// The operation did something else than it was to do.
pub fn measure(operation: &Operation, batches: u32) -> Result<u64> {
    let mut run = (operation.prepare)(batches * operation.rounds)
        .with_context(|| format!("preparing {}", operation.name))?;
    let mut least = u64::MAX;
    for _ in 0..batches {
        least = least.min(batch(&mut run, operation.rounds).with_context(|| operation.name)?);
    }
    Ok(least / u64::from(operation.rounds))
}

fn batch(run: &mut Run, rounds: u32) -> Result<u64> {
    let start = now();
    for _ in 0..rounds {
        run()?;
    }
    Ok(now() - start)
}
