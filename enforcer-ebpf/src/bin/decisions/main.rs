//! The decision alone, as socket filters that nobody attaches: `BPF_PROG_TEST_RUN` runs them on a real processor, where
//! BPF-LSM programs cannot be run without enforcing something.
//!
//! The decision core and the maps' look-up are those of the LSM programs, the same source; the maps are filled by the same
//! installer. Each round takes the next question. `choose` does only that, so what the others take longer is the
//! decision, or the bare look-up in the same map that it is compared with.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(clippy::cast_possible_truncation, reason = "what is narrowed has a bound beside the cast")]
#![allow(unreachable_pub, reason = "a BPF object has no API: `pub` marks what a module offers its siblings")]

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::{map, socket_filter},
    maps::{Array, HashMap, RingBuf},
    programs::SkBuffContext,
};
use enforcer_common::{
    abi::{Binding, Label, SLOT_FIRST_POLICY},
    decide::{Request, Text, decide},
    net::Flow,
    rights::Rights,
    verdict::{Decision, Verdict},
};

mod maps {
    pub use crate::policy_maps::{ARENA, CONTROL, COUNTERS, EXACT, HEADS, PINS, PORTS, PREFIXES, PrefixData};
}
#[path = "../../opaque.rs"]
mod opaque;
#[path = "../../policy_maps.rs"]
mod policy_maps;
mod question;
#[expect(dead_code, reason = "shared with the LSM programs, which use the rest")]
#[path = "../../tables.rs"]
mod tables;

use question::{QUESTIONS as QUESTION_SLOTS, Question, Round, WORDS};
use tables::Maps;

#[map]
static QUESTIONS: Array<Question> = Array::with_max_entries(QUESTION_SLOTS, 0);
#[map]
static ROUND: Array<Round> = Array::with_max_entries(1, 0);

// What the installer opens, too, and nothing here reads.
#[map]
static BINDINGS: HashMap<u64, Binding> = HashMap::with_max_entries(16, BPF_F_NO_PREALLOC);
#[map]
static LABELS: HashMap<u32, Label> = HashMap::with_max_entries(16, BPF_F_NO_PREALLOC);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Chooses a question and leaves it at that.
#[socket_filter]
fn choose(_: SkBuffContext) -> i64 {
    round(|question| question.words[0] != 0)
}

/// Looks the name's key up: one hash look-up of 24 bytes, and nothing else.
#[socket_filter]
fn look_up(_: SkBuffContext) -> i64 {
    // SAFETY: the value is not kept.
    round(|question| unsafe { maps::EXACT.get(question.key) }.is_some())
}

/// Decides whether a file may be read.
#[socket_filter]
fn decide_name(_: SkBuffContext) -> i64 {
    round(|question| {
        let request = Request::Object { name: &Asked(question), needed: Rights::READ };
        is_allowed(&request)
    })
}

/// Decides whether an address may be connected to.
#[socket_filter]
fn decide_address(_: SkBuffContext) -> i64 {
    round(|question| {
        let request: Request<'_, Asked> = Request::Address {
            address: question.address,
            port: question.port as u16,
            flow: Flow::TCP_CONNECT,
        };
        is_allowed(&request)
    })
}

/// One round: 1 if `answer` says yes.
#[inline(always)]
fn round(answer: impl FnOnce(&'static Question) -> bool) -> i64 {
    let Some(round) = ROUND.get_ptr_mut(0) else { return -1 };
    // SAFETY: a live map value. Rounds of one test run come one after the other.
    let (next, mask) = unsafe { ((*round).next, (*round).mask) };
    let Some(question) = QUESTIONS.get((next & mask) as u32) else { return -1 };
    let hit = answer(question);
    // SAFETY: as above.
    unsafe {
        (*round).next = next + 1;
        (*round).hits += u64::from(hit);
    }
    i64::from(hit)
}

#[inline(always)]
fn is_allowed(request: &Request<'_, Asked>) -> bool {
    let tables = Maps::in_force();
    let Some(head) = tables.head(SLOT_FIRST_POLICY) else { return false };
    let decision: Decision = decide(request, head, &tables);
    matches!(decision.verdict, Verdict::Allow)
}

/// The name in a question.
struct Asked(&'static Question);

impl Text for Asked {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.0.len
    }

    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        let index = index as usize;
        if index >= WORDS {
            return None;
        }
        // SAFETY: `index` lies within `words`, just checked. Volatile, so that the check is not moved behind the load.
        Some(unsafe { ptr::read_volatile((&raw const self.0.words).cast::<u64>().add(index)) })
    }

    #[inline(always)]
    fn tail(&self) -> Option<u64> {
        // Only what interpreters read is judged by it, and none is asked about.
        None
    }

    #[inline(always)]
    fn first(&self, _: u32) -> Self {
        // Only what interpreters are started with is cut, and none is asked about.
        Self(self.0)
    }
}

/// Test runs of socket filters need no helper that is for GPL-compatible programs only, but the code is what it is.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked in, as in the LSM programs.
    loop {}
}
