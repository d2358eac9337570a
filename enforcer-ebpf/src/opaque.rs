//! Keeps the compiler from turning what the verifier follows into what it does not.

/// The same value, of which the compiler knows nothing: what is compared afterwards is what is used, in one register,
/// as the verifier needs it to follow a bound.
#[inline(always)]
pub fn opaque(value: u64) -> u64 {
    let mut value = value;
    // SAFETY: moves a register to itself. (An empty block would leave two line records at one instruction, which the
    // kernel refuses.)
    unsafe { core::arch::asm!("{value} = {value}", value = inout(reg) value, options(pure, nomem, nostack)) };
    value
}
