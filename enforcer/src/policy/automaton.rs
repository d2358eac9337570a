//! From patterns to the table-driven automaton that the kernel runs.
//!
//! Thompson construction, subset construction on byte classes, then minimisation. The result depends on the patterns'
//! meaning alone: it is the minimal automaton, its states numbered in breadth-first order, its byte classes in the
//! order of their first byte. Patterns may come from anyone, so every growing quantity has a limit, and whoever
//! exceeds one is told which patterns did it.

use std::{collections::HashMap, rc::Rc};

use enforcer_common::environment;

use super::glob::{ByteSet, Glob, Node};

/// How far construction may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// States of the finished automaton, with the dead one. The ABI allows 2^16.
    pub states: u32,
    /// States before minimisation.
    pub subsets: u32,
    /// Transitions before minimisation.
    pub edges: u32,
    /// Steps of construction, which bounds time, and memory with it.
    pub work: u64,
    /// Text of all patterns together, in bytes.
    pub text: u32,
}

impl Default for Limits {
    /// About two seconds and 300 MiB at worst, on one core of an ordinary machine.
    fn default() -> Self {
        Self {
            states: enforcer_common::abi::MAX_STATES,
            subsets: 1 << 17,
            edges: 1 << 23,
            work: 1 << 26,
            text: 1 << 22,
        }
    }
}

impl Limits {
    /// For fuzzing: a few milliseconds.
    #[must_use]
    pub const fn small() -> Self {
        Self { states: 1 << 10, subsets: 1 << 11, edges: 1 << 16, work: 1 << 18, text: 1 << 14 }
    }
}

/// The patterns need more than the limits allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the patterns together need an automaton of more than {limit} {what}")]
pub struct TooComplex {
    /// Which limit, in words.
    pub what: &'static str,
    /// The limit.
    pub limit: u64,
    /// Indices of the patterns that contribute most, worst first.
    pub culprits: Vec<usize>,
}

/// A minimal automaton. State 0 is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dfa<A> {
    /// Byte class of each byte.
    pub class_of: [u8; 256],
    /// Number of classes.
    pub classes: usize,
    /// Start state.
    pub start: u16,
    /// `states × classes` next states, row by row.
    pub transitions: Vec<u16>,
    /// What each state accepts.
    pub accepts: Vec<Option<A>>,
}

impl<A> Dfa<A> {
    /// What the automaton accepts `name` as.
    #[must_use]
    pub fn run(&self, name: &[u8]) -> Option<&A> {
        let mut state = usize::from(self.start);
        for byte in name {
            state = usize::from(
                self.transitions[state * self.classes + usize::from(self.class_of[usize::from(*byte)])],
            );
            if state == 0 {
                return None;
            }
        }
        self.accepts[state].as_ref()
    }
}

/// Patterns as one nondeterministic automaton.
#[derive(Debug)]
pub struct Nfa {
    states: Vec<State>,
    /// Targets of [`State::Split`].
    targets: Vec<u32>,
    sets: Vec<ByteSet>,
    starts: Vec<u32>,
}

/// A state, and where it leads.
#[derive(Clone, Copy, Debug)]
enum State {
    Byte {
        byte: u8,
        next: u32,
    },
    Set {
        set: u32,
        next: u32,
    },
    /// `*`: stays on `set`, or goes on.
    Loop {
        set: u32,
        next: u32,
    },
    /// `**`: some bytes, or none, and then not the slash that follows either.
    Depth {
        rest: u32,
        next: u32,
    },
    /// Inside `**`: stays on any byte, or goes on.
    Rest {
        next: u32,
    },
    /// Any of a range of targets.
    Split {
        first: u32,
        count: u32,
    },
    Accept {
        pattern: u32,
    },
}

/// While the slash after an empty `**` is still to be dropped.
const DROP_SLASH: u32 = 1;

impl Nfa {
    /// The automaton of all `globs` together.
    pub fn of<'a>(globs: impl IntoIterator<Item = &'a Glob>) -> Self {
        let mut nfa = Self { states: Vec::new(), targets: Vec::new(), sets: Vec::new(), starts: Vec::new() };
        let mut sets = HashMap::new();
        for (pattern, glob) in globs.into_iter().enumerate() {
            let accept = nfa.add(State::Accept { pattern: index(pattern) });
            let start = nfa.sequence(glob.nodes(), accept, &mut sets);
            nfa.starts.push(start);
        }
        nfa
    }

    /// The patterns that match `name`, in order.
    #[must_use]
    pub fn matching(&self, name: &[u8]) -> Vec<usize> {
        let mut closure = Closure::new(self);
        let mut current = closure.of(self, &self.starts);
        let mut phase = Phase::Start;
        for byte in name {
            phase = match phase.next(*byte) {
                Some(next) => next,
                None => return Vec::new(),
            };
            let moved: Vec<u32> = current.iter().filter_map(|state| self.step(*state, *byte)).collect();
            current = closure.of(self, &moved);
        }
        self.accepted(phase, &current, &mut closure).iter().map(|pattern| *pattern as usize).collect()
    }

    /// The patterns that a name ending in this phase and these states matches, in order.
    fn accepted(&self, phase: Phase, states: &[u32], closure: &mut Closure) -> Vec<u32> {
        let pattern = |state: &u32| match self.states[*state as usize] {
            State::Accept { pattern } => Some(pattern),
            _ => None,
        };
        let mut patterns: Vec<u32> = match phase {
            Phase::Start | Phase::Slash => Vec::new(),
            // The one name that ends in a slash: a `*` after it would stand for an empty component.
            Phase::Root => {
                let start = closure.of(self, &self.starts);
                let moved: Vec<u32> = start.iter().filter_map(|state| self.step(*state, b'/')).collect();
                closure.without_runs(self, &moved).iter().filter_map(pattern).collect()
            }
            Phase::Inside | Phase::Abstract => states.iter().filter_map(pattern).collect(),
        };
        patterns.sort_unstable();
        patterns
    }

    /// The pattern that each state belongs to: those from its accepting state up to the next pattern's.
    fn owners(&self) -> Vec<u32> {
        let mut current = 0;
        let owner = |state: &State| {
            if let State::Accept { pattern } = state {
                current = *pattern;
            }
            current
        };
        self.states.iter().map(owner).collect()
    }

    fn is_accept(&self, state: u32) -> bool {
        matches!(self.states[state as usize], State::Accept { .. })
    }

    /// Inside a `**` after which nothing comes.
    fn is_final_depth(&self, state: u32) -> bool {
        matches!(self.states[state as usize], State::Rest { next } if self.is_accept(next))
    }

    fn add(&mut self, state: State) -> u32 {
        self.states.push(state);
        index(self.states.len() - 1)
    }

    fn set(&mut self, set: ByteSet, known: &mut HashMap<ByteSet, u32>) -> u32 {
        *known.entry(set).or_insert_with(|| {
            self.sets.push(set);
            index(self.sets.len() - 1)
        })
    }

    /// Builds from the back, so that every state knows its successor.
    fn sequence(&mut self, nodes: &[Node], mut next: u32, sets: &mut HashMap<ByteSet, u32>) -> u32 {
        let segment = ByteSet::ALL.without(b'/');
        for node in nodes.iter().rev() {
            next = match node {
                Node::Literal(bytes) => {
                    bytes.iter().rev().fold(next, |next, byte| self.add(State::Byte { byte: *byte, next }))
                }
                Node::AnyByte => {
                    let set = self.set(segment, sets);
                    self.add(State::Set { set, next })
                }
                Node::AnyRun => {
                    let set = self.set(segment, sets);
                    self.add(State::Loop { set, next })
                }
                Node::Class(class) => {
                    let set = self.set(*class, sets);
                    self.add(State::Set { set, next })
                }
                Node::AnyDepth => {
                    let rest = self.add(State::Rest { next });
                    self.add(State::Depth { rest, next })
                }
                Node::Either(branches) => {
                    let starts: Vec<u32> =
                        branches.iter().map(|branch| self.sequence(branch, next, sets)).collect();
                    let first = index(self.targets.len());
                    self.targets.extend(&starts);
                    self.add(State::Split { first, count: index(starts.len()) })
                }
            };
        }
        next
    }

    fn step(&self, state: u32, byte: u8) -> Option<u32> {
        match self.states[state as usize] {
            State::Byte { byte: wanted, next } => (wanted == byte).then_some(next),
            State::Set { set, next } => self.sets[set as usize].contains(byte).then_some(next),
            State::Loop { set, .. } => self.sets[set as usize].contains(byte).then_some(state),
            State::Rest { .. } => Some(state),
            State::Depth { .. } | State::Split { .. } | State::Accept { .. } => None,
        }
    }
}

/// Follows moves that read nothing.
struct Closure {
    /// Round in which a state, by `2 * state + mode`, was last seen.
    seen: Vec<u32>,
    round: u32,
    stack: Vec<u32>,
    /// States visited over all rounds.
    visits: u64,
}

impl Closure {
    fn new(nfa: &Nfa) -> Self {
        Self { seen: vec![0; nfa.states.len() * 2], round: 0, stack: Vec::new(), visits: 0 }
    }

    /// The states in which something can be read or accepted, sorted.
    fn of(&mut self, nfa: &Nfa, from: &[u32]) -> Vec<u32> {
        self.follow(nfa, from, true)
    }

    /// Those that are reached without letting a `*` stand for nothing.
    fn without_runs(&mut self, nfa: &Nfa, from: &[u32]) -> Vec<u32> {
        self.follow(nfa, from, false)
    }

    fn follow(&mut self, nfa: &Nfa, from: &[u32], skip_runs: bool) -> Vec<u32> {
        self.round += 1;
        self.stack.extend(from.iter().map(|state| state * 2));
        let mut reached = Vec::new();
        while let Some(entry) = self.stack.pop() {
            if std::mem::replace(&mut self.seen[entry as usize], self.round) == self.round {
                continue;
            }
            self.visits += 1;
            let (state, mode) = (entry / 2, entry % 2);
            match nfa.states[state as usize] {
                State::Byte { byte: b'/', next } if mode == DROP_SLASH => self.stack.push(next * 2),
                State::Byte { .. } | State::Set { .. } | State::Accept { .. } if mode == DROP_SLASH => {}
                State::Byte { .. } | State::Set { .. } | State::Accept { .. } => reached.push(state),
                State::Loop { next, .. } => {
                    if mode != DROP_SLASH {
                        reached.push(state);
                    }
                    if skip_runs {
                        self.stack.push(next * 2 + mode);
                    }
                }
                State::Depth { rest, next } => self.stack.extend([rest * 2, next * 2 + DROP_SLASH]),
                State::Rest { next } => {
                    reached.push(state);
                    self.stack.push(next * 2);
                }
                State::Split { first, count } => {
                    let targets = &nfa.targets[first as usize..(first + count) as usize];
                    self.stack.extend(targets.iter().map(|target| target * 2 + mode));
                }
            }
        }
        reached.sort_unstable();
        reached
    }
}

/// Where in a name the automaton stands, so that it accepts only what the kernel calls a path: `/`, or components
/// that are not empty, each after one slash. Abstract names are any bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
enum Phase {
    Start,
    Root,
    Slash,
    Inside,
    Abstract,
}

impl Phase {
    const fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Start, b'/') => Some(Self::Root),
            // Options and environment variables have no structure either.
            (Self::Start, b'@' | b'-' | environment::SIGN) | (Self::Abstract, _) => Some(Self::Abstract),
            (Self::Start, _) | (Self::Root | Self::Slash, b'/') => None,
            (Self::Inside, b'/') => Some(Self::Slash),
            (Self::Root | Self::Slash | Self::Inside, _) => Some(Self::Inside),
        }
    }
}

/// The automaton after subset construction: deterministic, without a dead state, not yet minimal.
#[derive(Debug)]
pub struct Subsets {
    classes: Classes,
    /// Edges sorted by tail.
    edges: Vec<Edge>,
    /// For each state, the patterns it accepts.
    accepts: Vec<Box<[u32]>>,
    /// See [`TooComplex::culprits`].
    culprits: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    tail: u32,
    head: u32,
    class: u8,
}

impl Subsets {
    /// Determinises the patterns. States know all the patterns that match.
    ///
    /// # Errors
    /// [`TooComplex`] beyond the limits.
    pub fn of(globs: &[&Glob], limits: &Limits) -> Result<Self, TooComplex> {
        Self::build(globs, None, limits)
    }

    /// Determinises patterns of which each grants some bits, by index. States know at least patterns that together
    /// grant all that matching patterns do.
    ///
    /// Once a name has run into a final `**`, whatever follows is granted that pattern's bits, so patterns that could
    /// only grant the same are no longer followed. Without that, *n* rules like `/**/name/**` would need 2^*n* states,
    /// to remember which of the names have come by.
    ///
    /// # Errors
    /// [`TooComplex`] beyond the limits.
    pub fn of_grants(globs: &[&Glob], grants: &[u16], limits: &Limits) -> Result<Self, TooComplex> {
        Self::build(globs, Some(grants), limits)
    }

    fn build(globs: &[&Glob], grants: Option<&[u16]>, limits: &Limits) -> Result<Self, TooComplex> {
        let length = |glob: &Glob| glob.text().len();
        if globs.iter().map(|glob| length(glob)).sum::<usize>() > limits.text as usize {
            let longest = (0..globs.len()).max_by_key(|at| length(globs[*at]));
            let culprits = longest.into_iter().collect();
            return Err(TooComplex {
                what: "bytes of pattern text",
                limit: u64::from(limits.text),
                culprits,
            });
        }
        let nfa = Nfa::of(globs.iter().copied());
        let mut builder = Builder::new(&nfa, Classes::of(&nfa), grants, limits);
        let outcome = builder.run();
        let culprits = builder.culprits(globs);
        match outcome {
            Ok(()) => Ok(Self {
                classes: builder.classes,
                edges: builder.edges,
                accepts: builder.accepts,
                culprits,
            }),
            Err((what, limit)) => Err(TooComplex { what, limit, culprits }),
        }
    }

    /// Every accepting state and the patterns that match there.
    pub fn accepting(&self) -> impl Iterator<Item = (u32, &[u32])> {
        (0..)
            .zip(&self.accepts)
            .filter(|(_, patterns)| !patterns.is_empty())
            .map(|(state, patterns)| (state, &**patterns))
    }

    /// A shortest name that leads to `state`.
    #[must_use]
    pub fn example(&self, state: u32) -> Vec<u8> {
        let mut from: Vec<Option<Edge>> = vec![None; self.accepts.len()];
        let mut queue = std::collections::VecDeque::from([0]);
        while let Some(tail) = queue.pop_front() {
            for edge in self.edges_of(tail) {
                if edge.head != 0 && from[edge.head as usize].is_none() {
                    from[edge.head as usize] = Some(*edge);
                    queue.push_back(edge.head);
                }
            }
        }
        let mut name = Vec::new();
        let mut at = state;
        while let Some(edge) = from[at as usize] {
            name.push(self.classes.example(edge.class));
            at = edge.tail;
        }
        name.reverse();
        name
    }

    fn edges_of(&self, tail: u32) -> &[Edge] {
        let first = self.edges.partition_point(|edge| edge.tail < tail);
        let count = self.edges[first..].partition_point(|edge| edge.tail == tail);
        &self.edges[first..first + count]
    }

    /// The minimal automaton in which a state accepts what `label` makes of its patterns.
    ///
    /// # Errors
    /// [`TooComplex`] when it has more states than the limits allow.
    pub fn minimise<A: Clone + Ord>(
        &self,
        limits: &Limits,
        mut label: impl FnMut(&[u32]) -> A,
    ) -> Result<Dfa<A>, TooComplex> {
        let labels: Vec<Option<A>> =
            self.accepts.iter().map(|patterns| (!patterns.is_empty()).then(|| label(patterns))).collect();
        let live = self.live();
        let edges: Vec<Edge> = self.edges.iter().copied().filter(|edge| live[edge.head as usize]).collect();
        let blocks = merge(&ranks(&labels), &edges);
        let dfa = number(&self.classes, &labels, &edges, &blocks);
        if dfa.accepts.len() > limits.states as usize {
            let culprits = self.culprits.clone();
            return Err(TooComplex { what: "states", limit: u64::from(limits.states), culprits });
        }
        Ok(dfa)
    }

    /// Which states can still reach acceptance.
    fn live(&self) -> Vec<bool> {
        let mut live: Vec<bool> = self.accepts.iter().map(|patterns| !patterns.is_empty()).collect();
        let by_head = Grouped::of(self.accepts.len(), self.edges.iter().map(|edge| edge.head));
        let mut stack: Vec<usize> = (0..live.len()).filter(|state| live[*state]).collect();
        while let Some(state) = stack.pop() {
            for edge in by_head.members(state) {
                let tail = self.edges[*edge as usize].tail as usize;
                if !std::mem::replace(&mut live[tail], true) {
                    stack.push(tail);
                }
            }
        }
        live
    }
}

/// Small numbers for labels, equal for equal ones.
fn ranks<A: Ord>(labels: &[Option<A>]) -> Vec<u32> {
    let mut sorted: Vec<&Option<A>> = labels.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    labels.iter().map(|label| index(sorted.partition_point(|other| *other < label))).collect()
}

/// Bytes that no pattern tells apart.
#[derive(Debug)]
struct Classes {
    of: [u8; 256],
    members: Vec<Vec<u8>>,
}

impl Classes {
    fn of(nfa: &Nfa) -> Self {
        let mut named = [false; 256];
        // The phases tell these apart.
        named[usize::from(b'/')] = true;
        named[usize::from(b'@')] = true;
        for state in &nfa.states {
            if let State::Byte { byte, .. } = state {
                named[usize::from(*byte)] = true;
            }
        }
        let mut of = [0; 256];
        let mut members: Vec<Vec<u8>> = Vec::new();
        let mut known = HashMap::new();
        for byte in 0..=255u8 {
            let sets: Vec<bool> = nfa.sets.iter().map(|set| set.contains(byte)).collect();
            let signature = (named[usize::from(byte)].then_some(byte), sets);
            let class = *known.entry(signature).or_insert_with(|| {
                members.push(Vec::new());
                members.len() - 1
            });
            members[class].push(byte);
            of[usize::from(byte)] = small(class);
        }
        Self { of, members }
    }

    /// A byte of the class, a letter if there is one.
    fn example(&self, class: u8) -> u8 {
        let members = &self.members[usize::from(class)];
        let nice = members.iter().find(|byte| byte.is_ascii_lowercase());
        *nice.or_else(|| members.iter().find(|byte| byte.is_ascii_graphic())).unwrap_or(&members[0])
    }
}

/// Subset construction in progress.
struct Builder<'a> {
    nfa: &'a Nfa,
    limits: &'a Limits,
    classes: Classes,
    closure: Closure,
    /// The pattern that each state of the NFA belongs to.
    owners: Vec<u32>,
    /// What each pattern grants, if only that matters.
    grants: Option<&'a [u16]>,
    /// Each state's subset.
    subsets: Vec<Rc<[u32]>>,
    phases: Vec<Phase>,
    known: HashMap<(Phase, Rc<[u32]>), u32>,
    edges: Vec<Edge>,
    accepts: Vec<Box<[u32]>>,
    work: u64,
}

type Exceeded = (&'static str, u64);

impl<'a> Builder<'a> {
    fn new(nfa: &'a Nfa, classes: Classes, grants: Option<&'a [u16]>, limits: &'a Limits) -> Self {
        Self {
            nfa,
            limits,
            classes,
            closure: Closure::new(nfa),
            owners: nfa.owners(),
            grants,
            subsets: Vec::new(),
            phases: Vec::new(),
            known: HashMap::new(),
            edges: Vec::new(),
            accepts: Vec::new(),
            work: 0,
        }
    }

    fn run(&mut self) -> Result<(), Exceeded> {
        let start = self.closure.of(self.nfa, &self.nfa.starts);
        self.intern(Phase::Start, start)?;
        let mut moves = vec![Vec::new(); self.classes.members.len()];
        let mut state = 0;
        while (state as usize) < self.subsets.len() {
            self.collect_moves(state, &mut moves);
            self.connect(state, &mut moves)?;
            state += 1;
        }
        Ok(())
    }

    /// Where the subset's members go, by byte class.
    fn collect_moves(&mut self, state: u32, moves: &mut [Vec<u32>]) {
        for member in self.subsets[state as usize].iter().copied() {
            match self.nfa.states[member as usize] {
                State::Byte { byte, next } => {
                    moves[usize::from(self.classes.of[usize::from(byte)])].push(next);
                    self.work += 1;
                }
                State::Accept { .. } | State::Split { .. } | State::Depth { .. } => {}
                State::Set { .. } | State::Loop { .. } | State::Rest { .. } => {
                    for (class, bytes) in self.classes.members.iter().enumerate() {
                        moves[class].extend(self.nfa.step(member, bytes[0]));
                    }
                    self.work += self.classes.members.len() as u64;
                }
            }
        }
    }

    /// Turns the moves into edges. Many classes share the same move, so closures are computed once for each.
    fn connect(&mut self, state: u32, moves: &mut [Vec<u32>]) -> Result<(), Exceeded> {
        let phase = self.phases[state as usize];
        let mut done: HashMap<(Phase, Vec<u32>), u32> = HashMap::new();
        for (class, targets) in moves.iter_mut().enumerate() {
            if targets.is_empty() {
                continue;
            }
            self.work += targets.len() as u64;
            targets.sort_unstable();
            targets.dedup();
            let targets = std::mem::take(targets);
            let Some(phase) = phase.next(self.classes.members[class][0]) else { continue };
            let head = match done.get(&(phase, targets.clone())) {
                Some(head) => *head,
                None => {
                    let subset = self.closure.of(self.nfa, &targets);
                    let head = self.intern(phase, subset)?;
                    done.insert((phase, targets), head);
                    head
                }
            };
            if self.edges.len() >= self.limits.edges as usize {
                return Err(("transitions", u64::from(self.limits.edges)));
            }
            self.edges.push(Edge { tail: state, head, class: small(class) });
        }
        let work = self.work + self.closure.visits;
        if work > self.limits.work { Err(("steps of construction", self.limits.work)) } else { Ok(()) }
    }

    /// Drops what can only grant bits that a final `**` grants already.
    fn prune(&self, subset: &mut Vec<u32>) {
        let Some(grants) = self.grants else { return };
        let grant = |pattern: u32| grants.get(pattern as usize).copied().unwrap_or(0);
        // Patterns whose `**` holds, without those that another one makes superfluous.
        let mut settled: Vec<u32> = Vec::new();
        let covered = |settled: &[u32], bits: u16| {
            let granted = settled.iter().fold(0, |all, held| all | grant(*held));
            granted & bits == bits
        };
        let owner = |member: u32| self.owners[member as usize];
        for member in subset.iter().filter(|member| self.nfa.is_final_depth(**member)) {
            let pattern = owner(*member);
            if !covered(&settled, grant(pattern)) {
                settled.retain(|held| grant(*held) & grant(pattern) != grant(*held));
                settled.push(pattern);
            }
        }
        if settled.is_empty() {
            return;
        }
        subset.retain(|member| {
            let pattern = owner(*member);
            let is_end = self.nfa.is_final_depth(*member) || self.nfa.is_accept(*member);
            if settled.contains(&pattern) { is_end } else { !covered(&settled, grant(pattern)) }
        });
    }

    fn intern(&mut self, phase: Phase, mut subset: Vec<u32>) -> Result<u32, Exceeded> {
        self.prune(&mut subset);
        let key = (phase, Rc::from(subset));
        if let Some(state) = self.known.get(&key) {
            return Ok(*state);
        }
        let state = index(self.subsets.len());
        if state >= self.limits.subsets {
            return Err(("states before it is minimised", u64::from(self.limits.subsets)));
        }
        let accepted = self.nfa.accepted(phase, &key.1, &mut self.closure);
        self.work += key.1.len() as u64;
        self.subsets.push(Rc::clone(&key.1));
        self.phases.push(phase);
        self.accepts.push(accepted.into());
        self.known.insert(key, state);
        Ok(state)
    }

    /// The patterns whose parts occur in far more subsets than the patterns are long.
    fn culprits(&self, globs: &[&Glob]) -> Vec<usize> {
        let mut occurrences = vec![0u64; globs.len()];
        for element in self.subsets.iter().flat_map(|subset| subset.iter()) {
            occurrences[self.owners[*element as usize] as usize] += 1;
        }
        let excess = |pattern: usize| occurrences[pattern] / (globs[pattern].text().len() as u64 + 1);
        let mut order: Vec<usize> = (0..globs.len()).collect();
        order.sort_by_key(|pattern| (std::cmp::Reverse(excess(*pattern)), *pattern));
        order.truncate(3);
        let worst = order.first().map_or(0, |pattern| excess(*pattern));
        order.retain(|pattern| excess(*pattern) * 4 >= worst);
        order
    }
}

/// Elements grouped by a key, as ranges of one array.
struct Grouped {
    members: Vec<u32>,
    starts: Vec<usize>,
}

impl Grouped {
    fn of(groups: usize, keys: impl Iterator<Item = u32> + Clone) -> Self {
        let mut starts = vec![0; groups + 1];
        for key in keys.clone() {
            starts[key as usize + 1] += 1;
        }
        for group in 0..groups {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut members = vec![0; starts[groups]];
        for (element, key) in keys.enumerate() {
            members[next[key as usize]] = index(element);
            next[key as usize] += 1;
        }
        Self { members, starts }
    }

    fn members(&self, group: usize) -> &[u32] {
        &self.members[self.starts[group]..self.starts[group + 1]]
    }
}

/// A partition that is refined by marking elements and then splitting every block into its marked and unmarked part.
struct Partition {
    elements: Vec<u32>,
    place: Vec<u32>,
    block_of: Vec<u32>,
    first: Vec<u32>,
    past: Vec<u32>,
    marked: Vec<u32>,
    touched: Vec<u32>,
}

impl Partition {
    /// Blocks of equal keys. Keys are dense: 0, 1, …
    fn by_key(keys: &[u32]) -> Self {
        let groups = keys.iter().max().map_or(0, |max| *max as usize + 1);
        let grouped = Grouped::of(groups, keys.iter().copied());
        let mut place = vec![0; keys.len()];
        for (at, element) in grouped.members.iter().enumerate() {
            place[*element as usize] = index(at);
        }
        let bound = |group: usize| index(grouped.starts[group]);
        Self {
            place,
            block_of: keys.to_vec(),
            first: (0..groups).map(bound).collect(),
            past: (1..=groups).map(bound).collect(),
            marked: vec![0; groups],
            touched: Vec::new(),
            elements: grouped.members,
        }
    }

    fn len(&self) -> usize {
        self.first.len()
    }

    fn block(&self, block: usize) -> std::ops::Range<usize> {
        self.first[block] as usize..self.past[block] as usize
    }

    fn mark(&mut self, element: u32) {
        let block = self.block_of[element as usize] as usize;
        let from = self.place[element as usize] as usize;
        let to = (self.first[block] + self.marked[block]) as usize;
        if from < to {
            return;
        }
        self.elements.swap(from, to);
        self.place[self.elements[from] as usize] = index(from);
        self.place[self.elements[to] as usize] = index(to);
        if self.marked[block] == 0 {
            self.touched.push(index(block));
        }
        self.marked[block] += 1;
    }

    /// The smaller part of each block becomes a new block, which is what bounds the whole by `m log m`.
    fn split(&mut self) {
        while let Some(block) = self.touched.pop() {
            let block = block as usize;
            let (first, past) = (self.first[block], self.past[block]);
            let middle = first + std::mem::take(&mut self.marked[block]);
            if middle == past {
                continue;
            }
            let (new_first, new_past) = if middle - first <= past - middle {
                self.first[block] = middle;
                (first, middle)
            } else {
                self.past[block] = middle;
                (middle, past)
            };
            let new = index(self.len());
            self.first.push(new_first);
            self.past.push(new_past);
            self.marked.push(0);
            for at in new_first..new_past {
                self.block_of[self.elements[at as usize] as usize] = new;
            }
        }
    }
}

/// Which states behave alike: Hopcroft's algorithm in Valmari and Lehtinen's form for partial automata, which costs
/// by transitions that exist ("Efficient Minimization of DFAs with Partial Transition Functions", 2008).
fn merge(labels: &[u32], edges: &[Edge]) -> Vec<u32> {
    let mut blocks = Partition::by_key(labels);
    let classes: Vec<u32> = dense(edges.iter().map(|edge| edge.class));
    let mut cords = Partition::by_key(&classes);
    let by_head = Grouped::of(labels.len(), edges.iter().map(|edge| edge.head));
    // One block may stay unused as a splitter: what it would split, the others together with the cords do.
    let (mut next_block, mut next_cord) = (1, 0);
    while next_cord < cords.len() {
        for at in cords.block(next_cord) {
            blocks.mark(edges[cords.elements[at] as usize].tail);
        }
        blocks.split();
        next_cord += 1;
        while next_block < blocks.len() {
            for at in blocks.block(next_block) {
                for edge in by_head.members(blocks.elements[at] as usize) {
                    cords.mark(*edge);
                }
            }
            cords.split();
            next_block += 1;
        }
    }
    blocks.block_of
}

fn dense(keys: impl Iterator<Item = u8>) -> Vec<u32> {
    let mut number = [None; 256];
    let mut count = 0;
    keys.map(|key| {
        *number[usize::from(key)].get_or_insert_with(|| {
            count += 1;
            count - 1
        })
    })
    .collect()
}

/// Writes the merged automaton down in its one canonical numbering.
fn number<A: Clone>(classes: &Classes, labels: &[Option<A>], edges: &[Edge], blocks: &[u32]) -> Dfa<A> {
    // Any member speaks for its block.
    let mut speaker: HashMap<u32, u32> = HashMap::new();
    for (state, block) in blocks.iter().enumerate() {
        speaker.entry(*block).or_insert(index(state));
    }
    let by_tail = Grouped::of(labels.len(), edges.iter().map(|edge| edge.tail));
    let width = classes.members.len();
    let mut numbers: HashMap<u32, usize> = HashMap::from([(blocks[0], 1)]);
    let mut order = vec![blocks[0]];
    // States beyond the limit are refused by the caller, so wide rows are kept until the end.
    let mut rows: Vec<u32> = vec![0; width];
    let mut accepts = vec![None];
    let mut at = 0;
    while at < order.len() {
        let state = speaker[&order[at]];
        let row = rows.len();
        rows.resize(row + width, 0);
        // Edges are in order of class.
        for edge in by_tail.members(state as usize) {
            let edge = edges[*edge as usize];
            let block = blocks[edge.head as usize];
            let next = order.len() + 1;
            let number = *numbers.entry(block).or_insert_with(|| {
                order.push(block);
                next
            });
            rows[row + usize::from(edge.class)] = index(number);
        }
        accepts.push(labels[state as usize].clone());
        at += 1;
    }
    fold_classes(classes, &rows, accepts)
}

/// Merges byte classes that the minimal automaton no longer tells apart.
fn fold_classes<A>(classes: &Classes, rows: &[u32], accepts: Vec<Option<A>>) -> Dfa<A> {
    let width = classes.members.len();
    let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
    let mut kept = Vec::new();
    // Old classes are in the order of their first byte, so the new ones are, too.
    let new_of_old: Vec<usize> = (0..width)
        .map(|old| {
            let column: Vec<u32> = rows.iter().skip(old).step_by(width).copied().collect();
            *known.entry(column).or_insert_with(|| {
                kept.push(old);
                kept.len() - 1
            })
        })
        .collect();
    let class_of = classes.of.map(|old| small(new_of_old[usize::from(old)]));
    let cells = rows.chunks_exact(width).flat_map(|row| kept.iter().map(|old| row[*old]));
    // Only reached with more states than the ABI holds, which the caller refuses.
    let transitions = cells.map(|cell| u16::try_from(cell).unwrap_or(0)).collect();
    Dfa { class_of, classes: kept.len(), start: 1, transitions, accepts }
}

/// Indices of states and edges: the limits keep them far below 2^32, and sources below [`super::source::Source::MAX_BYTES`].
fn index(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Byte classes number at most 256.
fn small(class: usize) -> u8 {
    u8::try_from(class).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| Glob::socket(text).expect(text)).collect()
    }

    fn dfa(texts: &[&str]) -> Dfa<Vec<u32>> {
        let globs = globs(texts);
        let refs: Vec<&Glob> = globs.iter().collect();
        let limits = Limits::default();
        Subsets::of(&refs, &limits).unwrap().minimise(&limits, <[u32]>::to_vec).unwrap()
    }

    #[test]
    fn options_are_matched_as_they_are() {
        let globs = [Glob::option("-e").unwrap(), Glob::option("-/x").unwrap(), Glob::path("/**").unwrap()];
        let nfa = Nfa::of(&globs);
        let table: &[(&str, &[usize])] =
            &[("-e", &[0]), ("-/x", &[1]), ("-ee", &[]), ("-", &[]), ("/-e", &[2]), ("e", &[])];
        for (name, expected) in table {
            assert_eq!(nfa.matching(name.as_bytes()), *expected, "{name}");
        }
    }

    #[test]
    fn variables_are_matched_as_they_are() {
        let texts = ["ENV", "PS4=+ ", "PATH=/usr//bin/"];
        let mut globs = texts.map(|text| Glob::variable(text).unwrap()).to_vec();
        globs.push(Glob::path("/**").unwrap());
        let nfa = Nfa::of(&globs);
        let table: &[(&str, &[usize])] = &[
            ("$ENV", &[0]),
            ("$PS4=+ ", &[1]),
            ("$PATH=/usr//bin/", &[2]),
            ("$ENV=", &[]),
            ("$PS4", &[]),
            ("ENV", &[]),
            ("/$ENV", &[3]),
        ];
        for (name, expected) in table {
            assert_eq!(nfa.matching(name.as_bytes()), *expected, "{name}");
        }
    }

    #[test]
    fn what_patterns_match() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("/", &["/"], &["", "/a", "//", "@"]),
            ("/a", &["/a"], &["/", "/b", "/aa", "/a/", "/a/b", "a", "//a"]),
            ("/*", &["/a", "/.a", "/abc", "/*"], &["/", "/a/b", "//", "/a/"]),
            ("/a*", &["/a", "/ab"], &["/", "/a/b", "/ba"]),
            ("/a/*", &["/a/b", "/a/.b"], &["/a", "/a/", "/a/b/c", "/a//"]),
            ("/?", &["/a", "/."], &["/", "/ab", "//"]),
            ("/[a-c]", &["/a", "/c"], &["/d", "/", "//"]),
            ("/[!a-c]", &["/d", "/\u{1}"], &["/a", "//", "/", "/dd"]),
            ("/[^]]", &["/a"], &["/]"]),
            ("/[a-]", &["/a", "/-"], &["/b"]),
            ("/**", &["/", "/a", "/a/b", "/.a"], &["", "//", "/a/", "/a//b", "@a"]),
            ("/a/**", &["/a/b", "/a/b/c"], &["/a", "/a/", "/ab", "/a//b"]),
            (
                "/a/**/b",
                &["/a/b", "/a/x/b", "/a/x/y/b", "/a/b/b"],
                &["/a", "/ab", "/a/xb", "/a/b/", "/a//b", "/b"],
            ),
            ("/**/b", &["/b", "/a/b", "/b/b"], &["/", "/ab", "/a/bb"]),
            ("/**/b/**", &["/b/c", "/a/b/c"], &["/b", "/a/b"]),
            ("/a/**/**/b", &["/a/b", "/a/x/b"], &["/ab"]),
            ("/var/www{,/**}", &["/var/www", "/var/www/a/b"], &["/var/ww", "/var/wwwa", "/var/www/"]),
            ("/{,**}", &["/", "/a/b"], &["", "/a/"]),
            ("/{a,b{c,d}}e", &["/ae", "/bce", "/bde"], &["/be", "/e", "/ace"]),
            ("{/usr,}/bin/*", &["/bin/a", "/usr/bin/a"], &["/usr/a"]),
            ("/a/**{,/b}", &["/a/b", "/a/c", "/a/c/b"], &["/a"]),
            ("/\\*", &["/*"], &["/a"]),
            ("/caf\u{e9}", &["/caf\u{e9}"], &["/cafe"]),
            ("/??", &["/\u{e9}", "/ab"], &["/a"]),
            ("@a", &["@a"], &["/a", "a"]),
            ("@a*", &["@a", "@ab"], &["@a/b"]),
            ("@**", &["@", "@a", "@/a//b", "@a/"], &["/", "/a"]),
            ("@a/**/b", &["@a/b", "@a/x/b", "@a//b"], &["@ab"]),
        ];
        for (text, hits, misses) in table {
            let glob = &globs(&[text])[0];
            let (dfa, nfa) = (dfa(&[text]), Nfa::of([glob]));
            for (names, expected) in [(hits, true), (misses, false)] {
                for name in *names {
                    let name = name.as_bytes();
                    let shown = name.escape_ascii();
                    assert_eq!(glob.matches_naively(name), Some(expected), "reference: {text} on {shown}");
                    assert_eq!(dfa.run(name).is_some(), expected, "dfa: {text} on {shown}");
                    assert_eq!(!nfa.matching(name).is_empty(), expected, "nfa: {text} on {shown}");
                }
            }
        }
    }

    #[test]
    fn states_know_all_their_patterns() {
        let dfa = dfa(&["/a/**", "/a/*", "/**/b", "/{a,c}/b"]);
        assert_eq!(dfa.run(b"/a/b"), Some(&vec![0, 1, 2, 3]));
        assert_eq!(dfa.run(b"/a/c"), Some(&vec![0, 1]));
        assert_eq!(dfa.run(b"/a/c/d"), Some(&vec![0]));
        assert_eq!(dfa.run(b"/c/b"), Some(&vec![2, 3]));
        assert_eq!(dfa.run(b"/c/c"), None);
    }

    #[test]
    fn the_result_is_minimal_and_canonical() {
        // Dead, start, after the root slash, inside a component, after a slash.
        assert_eq!(dfa(&["/**"]).accepts.len(), 5);
        assert_eq!(dfa(&["/**"]).classes, 2);
        assert_eq!(dfa(&["/{a,b}"]), dfa(&["/[ab]"]));
        assert_eq!(dfa(&["/a/{**,b/c}"]), dfa(&["/a/**"]));
        assert_eq!(dfa(&["/{ab,ac,bb,bc}/x"]).accepts.len(), dfa(&["/ab/x"]).accepts.len());
    }

    #[test]
    fn examples_lead_to_their_state() {
        let globs = globs(&["/a/**/x?", "/[0-9]*"]);
        let refs: Vec<&Glob> = globs.iter().collect();
        let subsets = Subsets::of(&refs, &Limits::default()).unwrap();
        for (state, patterns) in subsets.accepting() {
            let hits: Vec<u32> = Nfa::of(refs.iter().copied())
                .matching(&subsets.example(state))
                .iter()
                .map(|at| index(*at))
                .collect();
            assert_eq!(hits, patterns);
        }
    }

    #[test]
    fn hostile_patterns_are_refused_by_name() {
        // Each `**/a` remembers which of the last components began with `a`: 2^n states.
        let hostile = format!("/**/a{}", "/*".repeat(24));
        let globs = globs(&["/etc/passwd*", &hostile, "/usr/**"]);
        let refs: Vec<&Glob> = globs.iter().collect();
        let error =
            Subsets::of(&refs, &Limits { subsets: 1 << 12, ..Limits::default() }).expect_err("refused");
        assert_eq!(error.culprits.first(), Some(&1), "{error:?}");
        let long = Glob::path(&format!("/{{{}}}*", "a,".repeat(20_000))).unwrap();
        assert!(Subsets::of(&vec![&long; 200], &Limits::default()).is_err());
    }
}
