//! What a decision takes on a real processor, beside a bare hash look-up.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData};
use aya::programs::SocketFilter;
use aya::{Pod, TestRun as _, TestRunOptions};
use enforcer_bench::large::{self, Large};
use enforcer_bench::question::{QUESTIONS, Question, Round, WORDS};
use enforcer_common::abi::{Control, ExactKey, Head, SLOT_FIRST_POLICY};
use enforcer_common::hash::{Key, hash_of, word_of};
use enforcer_common::maps::{HEADS, head_index};
use enforcer_common::net::v4_mapped;
use serde::Serialize;

use crate::maps::{Loaded, compile};
use crate::median_and_least;

/// The object's maps of questions, and of the round.
const QUESTIONS_MAP: &str = "QUESTIONS";
const ROUND_MAP: &str = "ROUND";
/// Where the policy's files are.
const ROOT: &str = "/srv/app";
/// Sizes of the policy.
const RULES: [usize; 3] = [20, 1_000, 100_000];
/// Rounds of a test run, and how many test runs. A run is short enough to be through before somebody else has the
/// processor.
const ROUNDS: u32 = 1 << 12;
const RUNS: usize = 501;

/// What came out.
#[derive(Serialize)]
pub(crate) struct Cpu {
    rows: Vec<Row>,
}

/// One kind of question to a policy of one size. Times are of one round, in nanoseconds; those of look-up and decision are
/// without the choice of a question.
#[derive(Serialize)]
struct Row {
    rules: usize,
    question: &'static str,
    questions: usize,
    choice: Time,
    look_up: Option<Time>,
    decision: Time,
}

#[derive(Clone, Copy, Serialize)]
struct Time {
    median_ns: f64,
    least_ns: f64,
}

impl Time {
    fn without(self, other: Self) -> Self {
        Self {
            median_ns: round(self.median_ns - other.median_ns),
            least_ns: round(self.least_ns - other.least_ns),
        }
    }
}

fn round(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

pub(crate) fn measure(object: &Path) -> Result<Cpu> {
    let mut bench = Bench { loaded: Loaded::new(object)? };
    for program in ["choose", "look_up", "decide_name", "decide_address"] {
        bench.program(program)?.load().with_context(|| format!("loading {program}"))?;
    }
    let mut rows = Vec::new();
    for rules in RULES {
        let policy = Large { name: "large", cgroup: "/large", root: ROOT, rules, version: 0 };
        bench.loaded.install(&compile(&policy.to_toml())?)?;
        let of = |wanted: fn(usize) -> bool| (0..rules).filter(move |rule| wanted(*rule));
        let names = |names: Vec<String>| names.iter().map(|name| name_question(name)).collect();
        let kinds: [(&str, Vec<Question>, bool); 4] = [
            (
                "a listed name",
                names(of(large::is_name).map(|rule| large::file(ROOT, rule, 0)).collect()),
                true,
            ),
            (
                "a name that a pattern allows",
                names(of(large::is_pattern).map(|rule| large::matching(ROOT, rule)).collect()),
                true,
            ),
            (
                "a name that nothing allows",
                names(of(large::is_name).map(|rule| large::unlisted(ROOT, rule)).collect()),
                false,
            ),
            (
                "an address",
                of(large::is_network).map(|rule| address_question(large::network(rule))).collect(),
                true,
            ),
        ];
        for (question, questions, allowed) in kinds {
            rows.push(bench.row(rules, question, questions, allowed)?);
        }
    }
    Ok(Cpu { rows })
}

struct Bench {
    loaded: Loaded,
}

impl Bench {
    fn program(&mut self, name: &str) -> Result<&mut SocketFilter> {
        let program = self.loaded.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }

    fn row(
        &mut self,
        rules: usize,
        question: &'static str,
        asked: Vec<Question>,
        allowed: bool,
    ) -> Result<Row> {
        let is_address = asked.first().is_some_and(|first| first.len == 0);
        let questions = self.ask(asked)?;
        let choice = self.time("choose", !is_address)?;
        let look_up = match question {
            "a listed name" => Some(self.time("look_up", true)?.without(choice)),
            "a name that nothing allows" => Some(self.time("look_up", false)?.without(choice)),
            _ => None,
        };
        let decide = if is_address { "decide_address" } else { "decide_name" };
        let decision = self.time(decide, allowed)?.without(choice);
        Ok(Row { rules, question, questions, choice, look_up, decision })
    }

    /// Makes these the questions, a power of two of them in an order that no cache foresees; returns how many.
    fn ask(&mut self, asked: Vec<Question>) -> Result<usize> {
        let most = usize::try_from(QUESTIONS)?;
        let count = most.min(asked.len().next_power_of_two());
        let Control { generation, hash_key, .. } = self.loaded.control()?;
        let head = self.array::<Head>(HEADS)?.get(&head_index(generation, SLOT_FIRST_POLICY), 0)?.0;
        let mut map = self.array::<Question>(QUESTIONS_MAP)?;
        let mut at = 0;
        for index in 0..u32::try_from(count)? {
            let mut question = asked[at];
            question.key = key_of(&question, Key(hash_key), head.table);
            map.set(index, Plain(question), 0).context("writing a question")?;
            // A stride that shares no factor with any of the counts goes through all.
            at = (at + 7919) % asked.len();
        }
        let round = Round { next: 0, mask: u64::try_from(count)? - 1, hits: 0 };
        self.array::<Round>(ROUND_MAP)?.set(0, Plain(round), 0).context("starting anew")?;
        Ok(count)
    }

    /// The time of one round, if each round ended as it must.
    fn time(&mut self, program: &str, hits: bool) -> Result<Time> {
        let before = self.hits()?;
        let program = self.program(program)?;
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let started = Instant::now();
            let options = TestRunOptions { data_in: Some(&[0; 64]), repeat: ROUNDS, ..TestRunOptions::new() };
            let result = program.test_run(options).context("running a program")?;
            times.push(started.elapsed());
            ensure!(result.return_value == u32::from(hits), "a round ended in {}", result.return_value);
        }
        let expected = if hits { u64::from(ROUNDS) * RUNS as u64 } else { 0 };
        let found = self.hits()? - before;
        ensure!(found == expected, "{found} of {} rounds said yes", u64::from(ROUNDS) * RUNS as u64);
        let (median, least) = median_and_least(times);
        Ok(Time { median_ns: per_round(median), least_ns: per_round(least) })
    }

    fn hits(&mut self) -> Result<u64> {
        Ok(self.array::<Round>(ROUND_MAP)?.get(&0, 0)?.0.hits)
    }

    fn array<T>(&mut self, name: &str) -> Result<Array<&mut MapData, Plain<T>>>
    where
        Plain<T>: Pod,
    {
        let map = self.loaded.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        Ok(map.try_into()?)
    }
}

fn per_round(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1e9 / f64::from(ROUNDS))
}

const NOTHING: Question = Question {
    len: 0,
    port: 0,
    words: [0; WORDS],
    key: ExactKey { table: 0, len: 0, hash: [0; 2] },
    address: [0; 16],
};

fn name_question(name: &str) -> Question {
    let mut question = Question { len: u32::try_from(name.len()).unwrap_or(u32::MAX), ..NOTHING };
    for (index, word) in (0..).zip(&mut question.words) {
        *word = word_of(name.as_bytes(), index);
    }
    question
}

fn address_question(address: [u8; 4]) -> Question {
    Question { port: 443, address: v4_mapped(address), ..NOTHING }
}

fn key_of(question: &Question, key: Key, table: u32) -> ExactKey {
    let bytes: Vec<u8> = question.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let name = &bytes[..usize::try_from(question.len).unwrap_or(0)];
    ExactKey { table, len: question.len, hash: hash_of(key, name) }
}

/// A value as it lies in a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: integers without padding, which `question.rs` asserts.
unsafe impl Pod for Plain<Question> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Round> {}
// SAFETY: integers; the ABI's derives prove that there is no padding.
unsafe impl Pod for Plain<Head> {}
