//! [`Tables`] over the maps: how the decision core looks rules up in the kernel.

use core::{
    ffi::{c_long, c_void},
    ops::ControlFlow,
    ptr,
};

use aya_ebpf::{helpers::generated::bpf_loop, maps::lpm_trie::Key as LpmKey};
use enforcer_common::{
    abi::{
        ACCEPT_CELLS, ARENA_CHUNK_CELLS, Counter, ExactKey, Grant, Head, Pin, PinKey, PortRange, PortSpan,
        PrefixKey, Slot,
    },
    decide::{Step, Tables},
    hash::Key,
    maps::head_index,
};

use crate::{
    maps::{ARENA, CONTROL, COUNTERS, EXACT, HEADS, PINS, PORTS, PREFIXES, PrefixData},
    opaque::opaque,
};

/// The tables of the generation that was in force when the hook asked.
#[derive(Clone, Copy)]
pub struct Maps {
    pub generation: u64,
}

impl Maps {
    /// Reads the generation word once; everything else of this decision hangs on that value.
    #[inline(always)]
    pub fn in_force() -> Self {
        // SAFETY: a live map value. Volatile, because user space swaps the word under us.
        let generation = unsafe { (&raw const (*CONTROL.address()).generation).read_volatile() };
        Self { generation }
    }

    /// Whether the generation is in force still, and thus everything that was read of it up to now is whole: the
    /// installer touches nothing of a generation before it has put another in force.
    ///
    /// For programs that may sleep. Others are waited for. (The processor keeps loads in order; `x86_64` only.)
    #[inline(always)]
    pub fn is_in_force(&self) -> bool {
        let now: u64;
        // SAFETY: a live map value. Assembly that may touch any memory, so that no load before it is moved behind it:
        // LLVM has no fence for this target, not even one that only the compiler heeds.
        unsafe {
            core::arch::asm!("{now} = *(u64 *)({word} + 0)", now = out(reg) now, word = in(reg) &raw const (*CONTROL.address()).generation, options(nostack));
        }
        now == self.generation
    }

    /// The head of a slot, if a policy occupies it.
    #[inline(always)]
    pub fn head(&self, slot: Slot) -> Option<&'static Head> {
        let head: &'static Head = HEADS.get(head_index(self.generation, slot))?;
        (head.incarnation != 0).then_some(head)
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn exact(&self, key: &ExactKey) -> Option<Grant> {
        // SAFETY: entries are replaced, never changed in place, and freed after a grace period.
        unsafe { EXACT.get(key) }.copied()
    }

    #[inline(always)]
    fn pin(&self, key: &PinKey) -> Option<Pin> {
        // SAFETY: as in `exact`.
        unsafe { PINS.get(key) }.copied()
    }

    #[inline(always)]
    fn cell(&self, index: u64) -> Option<u16> {
        // No index has 37 bits: states and classes are cells and bytes.
        let chunk = ARENA.get((index / u64::from(ARENA_CHUNK_CELLS)) as u32)?;
        Some(chunk.cells[(index % u64::from(ARENA_CHUNK_CELLS)) as usize])
    }

    #[inline(always)]
    fn accept_row(&self, index: u64) -> Option<[u16; ACCEPT_CELLS as usize]> {
        let within = opaque(index % u64::from(ARENA_CHUNK_CELLS)) as usize;
        if within > (ARENA_CHUNK_CELLS - ACCEPT_CELLS) as usize {
            return Some([
                self.cell(index)?,
                self.cell(index + 1)?,
                self.cell(index + 2)?,
                self.cell(index + 3)?,
            ]);
        }
        let chunk = ARENA.get((index / u64::from(ARENA_CHUNK_CELLS)) as u32)?;
        // SAFETY: the row lies within the chunk, just checked.
        let row = unsafe { chunk.cells.as_ptr().add(within).cast::<[u16; ACCEPT_CELLS as usize]>().read() };
        Some(row)
    }

    #[inline(always)]
    fn prefix(&self, key: &PrefixKey) -> Option<PortSpan> {
        let data = PrefixData { table: key.table, address: key.address };
        PREFIXES.get(LpmKey::new(key.prefix_len, data)).copied()
    }

    #[inline(always)]
    fn port(&self, index: u32) -> Option<PortRange> {
        PORTS.get(index).copied()
    }

    #[inline(always)]
    fn hash_key(&self) -> Key {
        // SAFETY: a live map value. Volatile, because the compiler does not know who writes it: an installation, before it
        // puts any generation in force.
        Key(unsafe { (&raw const (*CONTROL.address()).hash_key).read_volatile() })
    }

    #[inline(always)]
    fn repeat<S: Step>(&self, times: u32, step: &mut S) {
        repeat(times, step);
    }
}

/// Runs `step` through `bpf_loop` (5.17).
#[inline(always)]
pub fn repeat<S: Step>(times: u32, step: &mut S) {
    // SAFETY: the callback gets `step` back, which outlives the call. A result below `times` is a break; an error
    // (more than 2^23 rounds) leaves the step as it was, which no caller takes for success.
    unsafe { bpf_loop(times, callback::<S> as *const () as *mut c_void, ptr::from_mut(step).cast(), 0) };
}

extern "C" fn callback<S: Step>(index: u64, step: *mut c_void) -> c_long {
    // SAFETY: `repeat` passes a live, exclusive `S`.
    let step = unsafe { &mut *step.cast::<S>() };
    // SAFETY: `bpf_loop` counts below the `u32` that it is given.
    unsafe { core::hint::assert_unchecked(index <= u64::from(u32::MAX)) };
    match step.step(index as u32) {
        ControlFlow::Continue(()) => 0,
        ControlFlow::Break(()) => 1,
    }
}

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(cell) = COUNTERS.get_ptr_mut(counter.code()) {
        atomic_add(cell, 1);
    }
}

/// Adds to a `u64` that others add to.
#[inline(always)]
pub fn atomic_add(cell: *mut u64, value: u64) {
    // SAFETY: `cell` points into a map value of eight bytes; the instruction is atomic on every CPU.
    unsafe {
        core::arch::asm!("lock *(u64 *)({cell} + 0) += {value}", cell = in(reg) cell, value = in(reg) value, options(nostack));
    }
}

/// Adds to a `u32` that others add to.
#[inline(always)]
pub fn atomic_add_u32(cell: *mut u32, value: u32) {
    // SAFETY: as in `atomic_add`, for four bytes.
    unsafe {
        core::arch::asm!("lock *(u32 *)({cell} + 0) += {value}", cell = in(reg) cell, value = in(reg) u64::from(value), options(nostack));
    }
}
