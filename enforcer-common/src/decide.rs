//! The decision: a pure function of a request and the tables of one policy.
//!
//! Objects are named by text (a path from the root of the task's mount namespace, or `@name` for an abstract unix
//! socket) and decided by the union of what the exact name and all matching patterns grant. Addresses are decided by
//! the port ranges of the longest prefix. Everything not granted is refused; there are no deny rules, so order never
//! matters.

use core::ops::ControlFlow;

use crate::{
    abi::{
        ACCEPT_CELLS, Digest, ExactKey, Grant, Head, Measure, PATH_MAX, Pin, PinKey, PortRange, PortSpan,
        PrefixKey, content, switch,
    },
    event::known,
    hash::{Key, Sip},
    hook::Privilege,
    net::{AF_NETLINK, Flow, MPTCP_BIT, is_mptcp},
    rights::Rights,
    verdict::{Decision, Fault, Reason},
};

/// Where rules are looked up: BPF maps in the kernel, a compiled image elsewhere.
pub trait Tables {
    /// The grant of an exact name.
    fn exact(&self, key: &ExactKey) -> Option<Grant>;
    /// A content that a name may have.
    fn pin(&self, key: &PinKey) -> Option<Pin>;
    /// One cell of the arena.
    fn cell(&self, index: u64) -> Option<u16>;
    /// An accept row of the arena.
    #[inline(always)]
    fn accept_row(&self, index: u64) -> Option<[u16; ACCEPT_CELLS as usize]> {
        Some([self.cell(index)?, self.cell(index + 1)?, self.cell(index + 2)?, self.cell(index + 3)?])
    }
    /// The span of the longest prefix that covers the key.
    fn prefix(&self, key: &PrefixKey) -> Option<PortSpan>;
    /// One port range.
    fn port(&self, index: u32) -> Option<PortRange>;
    /// The key of exact names.
    fn hash_key(&self) -> Key;
    /// Runs `step` with 0, 1, … until it breaks or `times` is reached. `bpf_loop` in the kernel, where the verifier
    /// must see a loop body once only.
    fn repeat<S: Step>(&self, times: u32, step: &mut S);
}

/// The body of a bounded loop.
pub trait Step {
    /// One round.
    fn step(&mut self, index: u32) -> ControlFlow<()>;
}

/// A name, read eight bytes at a time.
pub trait Text {
    /// Length in bytes.
    fn len(&self) -> u32;
    /// Whether there is nothing to match.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes `8 * index ..`, little endian, zero padded. `None` past the buffer.
    fn word(&self, index: u32) -> Option<u64>;
    /// The last eight bytes, the last one in the highest byte; zeros before a shorter text.
    fn tail(&self) -> Option<u64>;
    /// Its first `len` bytes, or all of a shorter one.
    #[must_use]
    fn first(&self, len: u32) -> Self;
}

/// Whether a file is code for some interpreter by the look of its name. An interpreter loads such files as modules.
#[inline(always)]
pub fn is_code_name<T: Text>(name: &T) -> bool {
    // What cannot be read is taken for code.
    let Some(tail) = name.tail() else { return true };
    // Spelt out, because a table would lie on the BPF stack.
    ends_with(tail, *b".py")
        || ends_with(tail, *b".pyc")
        || ends_with(tail, *b".pyw")
        || ends_with(tail, *b".pth")
        || ends_with(tail, *b".pl")
        || ends_with(tail, *b".pm")
        || ends_with(tail, *b".rb")
        || ends_with(tail, *b".sh")
        || ends_with(tail, *b".bash")
        || ends_with(tail, *b".js")
        || ends_with(tail, *b".mjs")
        || ends_with(tail, *b".cjs")
        || ends_with(tail, *b".jar")
        || ends_with(tail, *b".class")
        || ends_with(tail, *b".php")
        || ends_with(tail, *b".phar")
        || ends_with(tail, *b".lua")
        || ends_with(tail, *b".tcl")
        || ends_with(tail, *b".awk")
        || ends_with(tail, *b".el")
        || ends_with(tail, *b".gemspec")
}

/// Whether a [`Text::tail`] ends with these bytes, eight at most.
#[inline(always)]
const fn ends_with<const N: usize>(tail: u64, end: [u8; N]) -> bool {
    let mut wanted = 0_u64;
    let mut place = 0;
    while place < N {
        wanted |= (end[place] as u64) << (8 * place);
        place += 1;
    }
    tail >> (64 - 8 * N) == wanted
}

/// The keyed hash of a name.
///
/// # Errors
/// The name cannot be read.
#[inline(always)]
pub fn hash_of_name<T: Text, L: Tables>(name: &T, tables: &L) -> Result<[u64; 2], Fault> {
    let len = name.len();
    let mut pass = HashPass { name, sip: Sip::new(tables.hash_key()), complete: true };
    tables.repeat(len.div_ceil(8), &mut pass);
    if pass.complete { Ok(pass.sip.finish(len)) } else { Err(Fault::KernelRead) }
}

/// A name held in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Text for Bytes<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn word(&self, index: u32) -> Option<u64> {
        Some(crate::hash::word_of(self.0, index))
    }

    fn tail(&self) -> Option<u64> {
        let last = self.0.get(self.0.len().saturating_sub(8)..)?;
        Some(last.iter().fold(0, |tail, byte| tail >> 8 | u64::from(*byte) << 56))
    }

    fn first(&self, len: u32) -> Self {
        Self(usize::try_from(len).ok().and_then(|len| self.0.get(..len)).unwrap_or(self.0))
    }
}

/// What a task wants.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a, T> {
    /// Rights on a named object.
    Object {
        /// The name.
        name: &'a T,
        /// Rights that must all be granted.
        needed: Rights,
    },
    /// Starting a named program whose content is known.
    Content {
        /// The name.
        name: &'a T,
        /// What it holds.
        contents: Contents<'a>,
    },
    /// Rights on a file that no name in the task's mount namespace leads to.
    Unnamed {
        /// What its dentry is called, for people. Never matched.
        name: &'a T,
        /// Why it has no name: [`Reason::Unlinked`] or [`Reason::Unreachable`].
        why: Reason,
        /// Rights that must all be granted.
        needed: Rights,
    },
    /// Executable memory that no file backs.
    AnonymousExec,
    /// A transport address.
    Address {
        /// IPv6 or v4-mapped, network order.
        address: [u8; 16],
        /// Host byte order.
        port: u16,
        /// What is done with it.
        flow: Flow,
    },
    /// `socket(2)`.
    Socket {
        /// `AF_*`.
        family: u32,
        /// `SOCK_RAW` or `SOCK_PACKET`.
        raw: bool,
        /// Protocol within the family. Only those of netlink sockets and MPTCP matter here.
        protocol: u32,
    },
    /// A privileged door.
    Privilege(Privilege),
}

/// What is known of a program's content. One digest that the policy lists for the program is enough.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// [`known`] bits: which of the digests mean anything. References and bits rather than options, because LLVM packs
    /// those into arithmetic on pointers, which the verifier refuses.
    pub known: u32,
    /// SHA-256 of all of it.
    pub sha256: &'a Digest,
    /// Its fs-verity digest.
    pub fsverity: &'a Digest,
}

impl<'a> Contents<'a> {
    /// Of what nothing is known.
    const ZERO: &'static Digest = &[0; 4];

    /// What these digests say.
    #[must_use]
    pub fn of(sha256: Option<&'a Digest>, fsverity: Option<&'a Digest>) -> Self {
        let bit = |digest: Option<_>, bit| if digest.is_some() { bit } else { 0 };
        Self {
            known: bit(sha256, known::SHA256) | bit(fsverity, known::FSVERITY),
            sha256: sha256.unwrap_or(Self::ZERO),
            fsverity: fsverity.unwrap_or(Self::ZERO),
        }
    }
}

/// Decides a request under a policy. Tables that contradict themselves, or a name that cannot be read, give
/// [`Decision::fault`].
#[inline(always)]
pub fn decide<T: Text, L: Tables>(request: &Request<'_, T>, head: &Head, tables: &L) -> Decision {
    match *request {
        Request::Object { name, needed } => object(name, needed, head, tables),
        Request::Content { name, contents } => content(name, &contents, head, tables),
        Request::Unnamed { why, needed, .. } => unnamed(why, needed, head),
        Request::AnonymousExec => {
            switched(head.switches & switch::ANONYMOUS_EXEC != 0, Reason::AnonymousExec)
        }
        Request::Address { address, port, flow } => address_decision(address, port, flow, head, tables),
        Request::Socket { family, raw, protocol } => {
            let listed = if family == AF_NETLINK {
                protocol < 32 && (head.netlink >> (protocol & 31)) & 1 != 0
            } else {
                let consented = !is_mptcp(family, protocol) || head.socket_families & MPTCP_BIT != 0;
                consented && family < 63 && (head.socket_families >> (family & 63)) & 1 != 0
            };
            let type_ok = !raw || head.switches & switch::RAW_SOCKETS != 0;
            switched(listed && type_ok, Reason::SocketFamily)
        }
        Request::Privilege(privilege) => switched(head.privileges & privilege.bit() != 0, Reason::Privilege),
    }
}

#[inline(always)]
const fn switched(on: bool, otherwise: Reason) -> Decision {
    if on { Decision::allow_by_switch() } else { Decision::deny(otherwise) }
}

#[inline(always)]
fn object<T: Text, L: Tables>(name: &T, needed: Rights, head: &Head, tables: &L) -> Decision {
    if name.len() > PATH_MAX {
        return Decision::deny(Reason::PathTooLong);
    }
    let grant = match granted(name, needed, head, tables) {
        Ok(grant) => grant,
        Err(fault) => return Decision::fault(fault),
    };
    let held = grant.rights();
    let missing = needed.missing_from(held.with_probe());
    if missing.is_empty() {
        let as_probe = needed.contains(Rights::PROBE) && !held.contains(Rights::EXEC);
        return if as_probe { Decision::allow_probe(grant.rule) } else { Decision::allow(grant.rule) };
    }
    // Only the content is missing. Whoever does not go on to ask about it refuses.
    let starts = missing.0 == Rights::EXEC.0 || missing.0 == Rights::PROBE.0;
    if starts && held.contains(Rights::EXEC_PINNED) {
        return Decision::deny(Reason::Digest);
    }
    let for_others = missing.0 == Rights::EXEC.0 && held.contains(Rights::PROBE);
    Decision::deny(if for_others { Reason::Probe } else { Reason::NoRule })
}

/// Whether a program may start that holds this. A rule that grants `exec` whatever the content is enough.
#[inline(always)]
fn content<T: Text, L: Tables>(name: &T, contents: &Contents<'_>, head: &Head, tables: &L) -> Decision {
    let by_name = object(name, Rights::EXEC, head, tables);
    if !matches!(by_name.reason, Reason::Digest) {
        return by_name;
    }
    let name = match exact_key(name, head, tables) {
        Ok(name) => name,
        Err(fault) => return Decision::fault(fault),
    };
    if contents.known & known::FSVERITY != 0 && head.content & content::VERITY_PINS != 0 {
        let measure = Measure::FsVerity.code();
        if let Some(pin) = tables.pin(&PinKey { name, digest: *contents.fsverity, measure, reserved: 0 }) {
            return Decision::allow(pin.rule);
        }
    }
    if contents.known & known::SHA256 != 0 && head.content & content::PINS != 0 {
        let measure = Measure::Sha256.code();
        if let Some(pin) = tables.pin(&PinKey { name, digest: *contents.sha256, measure, reserved: 0 }) {
            return Decision::allow(pin.rule);
        }
    }
    by_name
}

#[inline(always)]
const fn unnamed(why: Reason, needed: Rights, head: &Head) -> Decision {
    let code = needed.0 & (Rights::EXEC.0 | Rights::PROBE.0 | Rights::LIBRARY.0 | Rights::CODE.0) != 0;
    let switch = if code { switch::UNLINKED_EXEC } else { switch::UNLINKED_FILES };
    switched(matches!(why, Reason::Unlinked) && head.switches & switch != 0, why)
}

/// The union of what the exact name and the patterns grant. Stops early once `needed` is reached; then the rule is
/// one that completed it.
///
/// # Errors
/// A table ends early, or the name cannot be read.
#[inline(always)]
pub fn granted<T: Text, L: Tables>(
    name: &T,
    needed: Rights,
    head: &Head,
    tables: &L,
) -> Result<Grant, Fault> {
    let mut grant = Grant { rights: 0, min_trust: 0, on_low: 0, rule: Decision::NO_RULE };
    if head.content & content::EXACT != 0
        && let Some(exact) = exact_grant(name, head, tables)?
    {
        grant = exact;
    }
    if !grant.rights().contains(needed) && head.states != 0 {
        let pattern = pattern_grant(name, head, tables)?;
        if !pattern.rights().is_empty() {
            grant = Grant { rights: grant.rights | pattern.rights, ..pattern };
        }
    }
    Ok(grant)
}

#[inline(always)]
fn exact_grant<T: Text, L: Tables>(name: &T, head: &Head, tables: &L) -> Result<Option<Grant>, Fault> {
    Ok(tables.exact(&exact_key(name, head, tables)?))
}

/// Whether this exact text is listed as code: a file, an option, or an environment variable. Patterns do not count.
///
/// # Errors
/// The text cannot be read.
#[inline(always)]
pub fn is_listed_code<T: Text, L: Tables>(text: &T, head: &Head, tables: &L) -> Result<bool, Fault> {
    Ok(exact_grant(text, head, tables)?.is_some_and(|grant| grant.rights().contains(Rights::CODE)))
}

#[inline(always)]
fn exact_key<T: Text, L: Tables>(name: &T, head: &Head, tables: &L) -> Result<ExactKey, Fault> {
    Ok(ExactKey { table: head.table, len: name.len(), hash: hash_of_name(name, tables)? })
}

struct HashPass<'a, T> {
    name: &'a T,
    sip: Sip,
    complete: bool,
}

impl<T: Text> Step for HashPass<'_, T> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        let Some(word) = self.name.word(index) else {
            self.complete = false;
            return ControlFlow::Break(());
        };
        self.sip.word(word);
        ControlFlow::Continue(())
    }
}

/// State 0 of every automaton: nothing that follows can match.
pub const DEAD: u32 = 0;

#[inline(always)]
fn pattern_grant<T: Text, L: Tables>(name: &T, head: &Head, tables: &L) -> Result<Grant, Fault> {
    let len = name.len();
    let mut pass = PatternPass { name, head, tables, len, state: head.start, complete: true };
    tables.repeat(len.div_ceil(8), &mut pass);
    let state = pass.state;
    if !pass.complete || state >= head.states {
        return Err(Fault::Table);
    }
    let row = u64::from(head.accepts) + u64::from(state) * u64::from(ACCEPT_CELLS);
    let [rights, trust, low, high] = tables.accept_row(row).ok_or(Fault::Table)?;
    let [min_trust, on_low] = trust.to_le_bytes();
    Ok(Grant { rights, min_trust, on_low, rule: (low as u32) | ((high as u32) << 16) })
}

struct PatternPass<'a, T, L> {
    name: &'a T,
    head: &'a Head,
    tables: &'a L,
    len: u32,
    state: u32,
    complete: bool,
}

impl<T: Text, L: Tables> Step for PatternPass<'_, T, L> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        let Some(word) = self.name.word(index) else {
            self.complete = false;
            return ControlFlow::Break(());
        };
        // Computed in 64 bits, of which the compiler need not cut anything off on the kernel's machine.
        let (classes, transitions) = (u64::from(self.head.classes), u64::from(self.head.transitions));
        let left = u64::from(self.len).saturating_sub(u64::from(index) * 8);
        let (mut rest, mut state) = (word, u64::from(self.state));
        for position in 0..8 {
            if position >= left {
                break;
            }
            let class = u64::from(self.head.class_of[(rest & 0xff) as usize]);
            rest >>= 8;
            let Some(next) = self.tables.cell(transitions + state * classes + class) else {
                self.complete = false;
                return ControlFlow::Break(());
            };
            state = u64::from(next);
            if state == u64::from(DEAD) {
                self.state = DEAD;
                return ControlFlow::Break(());
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a state is a cell")]
        {
            self.state = state as u32;
        }
        ControlFlow::Continue(())
    }
}

#[inline(always)]
fn address_decision<L: Tables>(
    address: [u8; 16],
    port: u16,
    flow: Flow,
    head: &Head,
    tables: &L,
) -> Decision {
    if head.content & content::PREFIXES == 0 {
        return Decision::deny(Reason::NoRule);
    }
    let key = PrefixKey { prefix_len: PrefixKey::FULL, table: head.table, address };
    let Some(span) = tables.prefix(&key) else {
        return Decision::deny(Reason::NoRule);
    };
    let mut pass =
        PortPass { tables, port, low: 0, high: span.count, first: span.first, found: None, complete: true };
    // Binary search: 2^17 ranges cannot exist for 2^16 ports.
    tables.repeat(17, &mut pass);
    if !pass.complete {
        return Decision::fault(Fault::Table);
    }
    match pass.found {
        Some(range) if range.flows & flow.0 != 0 => Decision::allow(range.rule),
        _ => Decision::deny(Reason::NoRule),
    }
}

struct PortPass<'a, L> {
    tables: &'a L,
    port: u16,
    first: u32,
    low: u32,
    high: u32,
    found: Option<PortRange>,
    complete: bool,
}

impl<L: Tables> Step for PortPass<'_, L> {
    #[inline(always)]
    fn step(&mut self, _: u32) -> ControlFlow<()> {
        if self.low >= self.high {
            return ControlFlow::Break(());
        }
        let middle = self.low + (self.high - self.low) / 2;
        let Some(range) = self.tables.port(self.first + middle) else {
            self.complete = false;
            return ControlFlow::Break(());
        };
        if self.port < range.low {
            self.high = middle;
        } else if self.port > range.high {
            self.low = middle + 1;
        } else {
            self.found = Some(range);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{hash::hash_of, net::v4_mapped, verdict::Verdict};

    type Ask<'a> = Request<'a, Bytes<'a>>;

    /// One exact name, one hand-made automaton for `/a*` and one prefix.
    pub(crate) struct Tiny {
        pub(crate) exact: &'static [u8],
        pub(crate) grant: Grant,
        pub(crate) pin: Option<(Measure, Digest)>,
    }

    const KEY: Key = Key([7, 9]);

    /// States: 0 dead, 1 start, 2 after '/', 3 after "/a" and more. Classes: 0 other, 1 '/', 2 'a'.
    const CELLS: [u16; 28] = [
        0, 0, 0, /* 1 */ 0, 2, 0, /* 2 */ 0, 0, 3, /* 3 */ 3, 0, 3, //
        0, 0, 0, 0, /* 1 */ 0, 0, 0, 0, /* 2 */ 0, 0, 0, 0, /* 3 */ 4, 0, 5, 0,
    ];

    impl Tables for Tiny {
        fn exact(&self, key: &ExactKey) -> Option<Grant> {
            (key.table == 3 && key.len as usize == self.exact.len() && key.hash == hash_of(KEY, self.exact))
                .then_some(self.grant)
        }
        fn pin(&self, key: &PinKey) -> Option<Pin> {
            let known = key.name.table == 3 && key.name.hash == hash_of(KEY, self.exact);
            (known
                && self
                    .pin
                    .is_some_and(|(measure, digest)| (key.measure, key.digest) == (measure.code(), digest)))
            .then_some(Pin { rule: 11, reserved: 0 })
        }
        fn cell(&self, index: u64) -> Option<u16> {
            CELLS.get(usize::try_from(index).ok()?).copied()
        }
        fn prefix(&self, key: &PrefixKey) -> Option<PortSpan> {
            (key.address[..13] == v4_mapped([10, 0, 0, 0])[..13]).then_some(PortSpan { first: 0, count: 3 })
        }
        fn port(&self, index: u32) -> Option<PortRange> {
            [(80, 80, 1), (443, 443, 1), (5000, 6000, 4)]
                .get(index as usize)
                .map(|&(low, high, flows)| PortRange { low, high, flows, rule: index, reserved: 0 })
        }
        fn hash_key(&self) -> Key {
            KEY
        }
        fn repeat<S: Step>(&self, times: u32, step: &mut S) {
            let _ = (0..times).try_for_each(|index| step.step(index));
        }
    }

    pub(crate) fn head() -> Head {
        let mut class_of = [0; 256];
        class_of[b'/' as usize] = 1;
        class_of[b'a' as usize] = 2;
        Head {
            incarnation: 1,
            table: 3,
            transitions: 0,
            accepts: 12,
            states: 4,
            classes: 3,
            start: 1,
            content: content::EXACT | content::PREFIXES,
            class_of,
            ..Head::EMPTY
        }
    }

    pub(crate) fn tiny() -> Tiny {
        let grant = Grant { rights: Rights::EXEC.0, min_trust: 0, on_low: 0, rule: 9 };
        Tiny { exact: b"/bin/ls", grant, pin: None }
    }

    /// `/bin/ls` may start if it holds this.
    const GOOD: Digest = [1, 2, 3, 4];

    fn pinned(more: Rights) -> Tiny {
        let rights = Rights::EXEC_PINNED.union(more).with_implied();
        let grant = Grant { rights: rights.0, min_trust: 0, on_low: 0, rule: 9 };
        Tiny { grant, pin: Some((Measure::Sha256, GOOD)), ..tiny() }
    }

    #[test]
    fn a_pinned_program_starts_with_its_content_only() {
        let head = Head { content: content::EXACT | content::PINS, ..head() };
        let name = Bytes(b"/bin/ls");
        let ask = |tables: &Tiny, head: &Head, digest| {
            let contents = Contents::of(Some(&digest), None);
            decide(&Request::Content { name: &name, contents }, head, tables)
        };
        let by_name = |tables: &Tiny, needed| decide(&Request::Object { name: &name, needed }, &head, tables);
        let strict = pinned(Rights::NONE);
        assert_eq!(ask(&strict, &head, GOOD), Decision::allow(11));
        for near in [[1, 2, 3, 5], [0, 2, 3, 4], [4, 3, 2, 1], [0; 4]] {
            assert_eq!(ask(&strict, &head, near), Decision::deny(Reason::Digest), "{near:?}");
        }
        // Nobody has looked at the content, so the name alone is no permission.
        assert_eq!(by_name(&strict, Rights::EXEC), Decision::deny(Reason::Digest));
        assert_eq!(by_name(&strict, Rights::READ), Decision::allow(9));
        assert_eq!(by_name(&strict, Rights::LIBRARY), Decision::deny(Reason::NoRule));
        assert_eq!(by_name(&strict, Rights::EXEC.union(Rights::WRITE)), Decision::deny(Reason::NoRule));
        // A head that says there are no pins.
        let bare = Head { content: content::EXACT, ..head };
        assert_eq!(ask(&strict, &bare, GOOD), Decision::deny(Reason::Digest));
        // Whatever another rule grants without looking stays granted.
        assert_eq!(ask(&pinned(Rights::EXEC), &head, [0; 4]), Decision::allow(9));
        // Names that are not pinned.
        assert_eq!(ask(&tiny(), &head, [0; 4]), Decision::allow(9));
        let contents = Contents::of(Some(&GOOD), None);
        let other = Request::Content { name: &Bytes(b"/bin/sh"), contents };
        assert_eq!(decide(&other, &head, &strict), Decision::deny(Reason::NoRule));
    }

    #[test]
    fn a_digest_counts_for_what_it_measures() {
        const EVIL: Digest = [0; 4];
        let name = Bytes(b"/bin/ls");
        let both = content::EXACT | content::PINS | content::VERITY_PINS;
        for (measure, only) in [(Measure::Sha256, content::PINS), (Measure::FsVerity, content::VERITY_PINS)] {
            let tables = Tiny { pin: Some((measure, GOOD)), ..pinned(Rights::NONE) };
            let ask = |content, contents| {
                let request = Request::Content { name: &name, contents };
                decide(&request, &Head { content, ..head() }, &tables).reason
            };
            let is_sha256 = measure == Measure::Sha256;
            let (right, wrong) =
                if is_sha256 { (Reason::Rule, Reason::Digest) } else { (Reason::Digest, Reason::Rule) };
            let table = [
                (Some(&GOOD), None, right),
                (None, Some(&GOOD), wrong),
                (Some(&GOOD), Some(&EVIL), right),
                (Some(&EVIL), Some(&GOOD), wrong),
                (Some(&GOOD), Some(&GOOD), Reason::Rule),
                (Some(&EVIL), Some(&EVIL), Reason::Digest),
                (None, None, Reason::Digest),
            ];
            for (sha256, fsverity, expected) in table {
                let contents = Contents::of(sha256, fsverity);
                for content in [both, content::EXACT | only] {
                    assert_eq!(ask(content, contents), expected, "{measure} {sha256:?} {fsverity:?}");
                }
                // A head that says there are no such pins.
                assert_eq!(ask(both & !only, contents), Reason::Digest, "{measure}");
            }
        }
    }

    /// A program that is listed for probes starts for who comes from outside, and is nothing but a file to all others.
    #[test]
    fn who_comes_from_outside_may_start_more() {
        let both = content::EXACT | content::PINS;
        let ask = |tables: &Tiny, needed| {
            decide(
                &Request::Object { name: &Bytes(b"/bin/ls"), needed },
                &Head { content: both, ..head() },
                tables,
            )
        };
        let of = |rights: Rights| Tiny {
            grant: Grant { rights: rights.with_implied().0, ..tiny().grant },
            ..tiny()
        };
        let (probe, exec) = (of(Rights::PROBE), of(Rights::EXEC));
        assert_eq!(ask(&probe, Rights::PROBE), Decision::allow_probe(9));
        assert_eq!(ask(&probe, Rights::EXEC), Decision::deny(Reason::Probe));
        assert_eq!(ask(&probe, Rights::READ), Decision::allow(9));
        for code in [Rights::LIBRARY, Rights::CODE, Rights::EXEC.union(Rights::LIBRARY), Rights::WRITE] {
            assert_eq!(ask(&probe, code), Decision::deny(Reason::NoRule), "{code:?}");
        }
        for needed in [Rights::EXEC, Rights::PROBE] {
            assert_eq!(ask(&exec, needed), Decision::allow(9), "no probe");
            assert_eq!(ask(&of(Rights::EXEC.union(Rights::PROBE)), needed), Decision::allow(9));
            assert_eq!(ask(&of(Rights::READ), needed), Decision::deny(Reason::NoRule));
            assert_eq!(ask(&of(Rights::EXEC_PINNED), needed), Decision::deny(Reason::Digest));
        }
        assert_eq!(
            ask(&of(Rights::EXEC_PINNED.union(Rights::PROBE)), Rights::PROBE),
            Decision::allow_probe(9)
        );
    }

    fn object(name: &[u8], needed: Rights) -> Decision {
        decide(&Request::Object { name: &Bytes(name), needed }, &head(), &tiny())
    }

    #[test]
    fn exact_names_and_patterns() {
        assert_eq!(object(b"/bin/ls", Rights::EXEC), Decision::allow(9));
        assert_eq!(object(b"/bin/l", Rights::EXEC), Decision::deny(Reason::NoRule));
        assert_eq!(object(b"/bin/ls\0", Rights::EXEC), Decision::deny(Reason::NoRule));
        assert_eq!(object(b"/a", Rights::READ), Decision::allow(5));
        assert_eq!(object(b"/abcdefghijklmnopq", Rights::READ), Decision::allow(5));
        assert_eq!(object(b"/abcdefg/ijklmnopq", Rights::READ), Decision::deny(Reason::NoRule));
        assert_eq!(object(b"/a", Rights::READ.union(Rights::WRITE)), Decision::deny(Reason::NoRule));
        assert_eq!(object(b"", Rights::READ), Decision::deny(Reason::NoRule));
    }

    #[test]
    fn a_table_that_ends_early_is_a_fault() {
        let broken = Head { transitions: 1000, ..head() };
        let request = Request::Object { name: &Bytes(b"/a"), needed: Rights::READ };
        assert_eq!(decide(&request, &broken, &tiny()), Decision::fault(Fault::Table));
        let request = Request::Object { name: &Bytes(b"/a"), needed: Rights::READ };
        assert_eq!(decide(&request, &Head { states: 2, ..head() }, &tiny()), Decision::fault(Fault::Table));
    }

    #[test]
    fn addresses() {
        let ask = |address: [u8; 4], port, flow| {
            let request = Ask::Address { address: v4_mapped(address), port, flow };
            decide(&request, &head(), &tiny()).verdict
        };
        let table = [
            ([10, 0, 0, 1], 80, Flow::TCP_CONNECT, Verdict::Allow),
            ([10, 0, 0, 1], 81, Flow::TCP_CONNECT, Verdict::Deny),
            ([10, 0, 0, 1], 443, Flow::TCP_CONNECT, Verdict::Allow),
            ([10, 0, 0, 1], 5500, Flow::UDP_CONNECT, Verdict::Allow),
            ([10, 0, 0, 1], 5500, Flow::TCP_CONNECT, Verdict::Deny),
            ([10, 0, 0, 1], 0, Flow::TCP_CONNECT, Verdict::Deny),
            ([10, 0, 0, 1], 65535, Flow::TCP_CONNECT, Verdict::Deny),
            ([11, 0, 0, 1], 80, Flow::TCP_CONNECT, Verdict::Deny),
        ];
        for (address, port, flow, expected) in table {
            assert_eq!(ask(address, port, flow), expected, "{address:?}:{port} {flow:?}");
        }
    }

    #[test]
    fn switches_open_only_their_own_door() {
        const NAME: Bytes<'_> = Bytes(b"memfd:x");
        let ask =
            |switches, request: Ask<'_>| decide(&request, &Head { switches, ..head() }, &tiny()).verdict;
        let read = Request::Unnamed { name: &NAME, why: Reason::Unlinked, needed: Rights::READ };
        let exec = Request::Unnamed { name: &NAME, why: Reason::Unlinked, needed: Rights::EXEC };
        let foreign = Request::Unnamed { name: &NAME, why: Reason::Unreachable, needed: Rights::READ };
        assert_eq!(ask(0, read), Verdict::Deny);
        assert_eq!(ask(switch::UNLINKED_FILES, read), Verdict::Allow);
        assert_eq!(ask(switch::UNLINKED_FILES, exec), Verdict::Deny);
        assert_eq!(ask(switch::UNLINKED_EXEC, exec), Verdict::Allow);
        assert_eq!(ask(u32::MAX, foreign), Verdict::Deny);
        assert_eq!(ask(!switch::ANONYMOUS_EXEC, Request::AnonymousExec), Verdict::Deny);
        assert_eq!(ask(switch::ANONYMOUS_EXEC, Request::AnonymousExec), Verdict::Allow);
    }

    #[test]
    fn code_is_known_by_its_name() {
        let table: &[(&[u8], bool)] = &[
            (b"/srv/app/main.py", true),
            (b"/a.class", true),
            (b"/gems/a.gemspec", true),
            (b".py", true),
            (b"py", false),
            (b"/x.bashrc", false),
            (b"/srv/data.csv", false),
            (b"/srv/py", false),
            (b"/srv/app.py/data", false),
            (b"", false),
            (b"/srv/app.PY", false),
        ];
        for (name, expected) in table {
            assert_eq!(is_code_name(&Bytes(name)), *expected, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn socket_families_above_the_mask_are_refused() {
        let all = Head { socket_families: u64::MAX, ..head() };
        let ask = |family, raw| decide(&Ask::Socket { family, raw, protocol: 0 }, &all, &tiny()).verdict;
        assert_eq!(ask(2, false), Verdict::Allow);
        assert_eq!(ask(2, true), Verdict::Deny);
        assert_eq!(ask(63, false), Verdict::Deny, "that bit says something else");
        assert_eq!(ask(64, false), Verdict::Deny);
        assert_eq!(ask(66, false), Verdict::Deny);
    }

    #[test]
    fn mptcp_takes_a_word_of_its_own() {
        let ask = |socket_families, family, protocol| {
            let head = Head { socket_families, ..head() };
            decide(&Ask::Socket { family, raw: false, protocol }, &head, &tiny()).verdict
        };
        let inet = 1 << 2 | 1 << 10;
        for family in [2, 10] {
            assert_eq!(ask(inet, family, 262), Verdict::Deny, "{family}");
            assert_eq!(ask(inet | MPTCP_BIT, family, 262), Verdict::Allow, "{family}");
            assert_eq!(ask(MPTCP_BIT, family, 262), Verdict::Deny, "{family} is not listed");
            assert_eq!(ask(inet, family, 6), Verdict::Allow, "{family}");
        }
    }

    #[test]
    fn netlink_is_decided_by_protocol() {
        let route = Head { netlink: 1, ..head() };
        let ask =
            |protocol| decide(&Ask::Socket { family: 16, raw: false, protocol }, &route, &tiny()).verdict;
        assert_eq!(ask(0), Verdict::Allow);
        for refused in [1, 9, 31, 32, u32::MAX] {
            assert_eq!(ask(refused), Verdict::Deny, "{refused}");
        }
    }
}
