//! The kernel's own functions that programs call, where the kernel has them.
//!
//! Unlike helpers they have no fixed numbers: a call names the type id of the function in the kernel's BTF. The programs
//! hold a marker in its place. The loader puts the id there; where the kernel lacks the function, it puts a move in place
//! of the call, so that the program sees [`MISSING`] as the result.

/// One such function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kfunc {
    /// What the kernel calls it.
    pub name: &'static str,
    /// Stands for its type id. The bytes of a call with it occur nowhere else in the object, which the loader checks.
    pub marker: u32,
}

/// `int bpf_get_fsverity_digest(struct file *, struct bpf_dynptr *)`, since 6.8.
pub const FSVERITY_DIGEST: Kfunc = Kfunc { name: "bpf_get_fsverity_digest", marker: 0x7ead_be01 };

/// `void *bpf_rdonly_cast(const void *, u32 type)`, since 6.2: the same pointer, to the verifier one to that struct. The
/// verifier replaces the call by a move. Programs ask [`crate::maps::WORDS_TYPE`] whether it is there.
pub const RDONLY_CAST: Kfunc = Kfunc { name: "bpf_rdonly_cast", marker: 0x7ead_be02 };

/// All of them.
pub const ALL: &[Kfunc] = &[FSVERITY_DIGEST, RDONLY_CAST];

/// The instruction of a call without the id: `BPF_JMP | BPF_CALL` with the source register `BPF_PSEUDO_KFUNC_CALL`.
pub const CALL: [u8; 4] = [0x85, 0x20, 0, 0];
/// `r0 = …` without the value: `BPF_ALU64 | BPF_MOV | BPF_K`.
pub const MOVE: [u8; 4] = [0xb7, 0, 0, 0];
/// `-ENOSYS`: what a function returns that is not there. None of [`ALL`] returns it by itself.
pub const MISSING: i32 = -38;
