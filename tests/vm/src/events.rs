//! The enforcer's event log, as its readers see it.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use enforcer_common::verdict::{Family, Reason};
use serde_json::Value;

/// One event: a line of the log.
#[derive(Clone, Debug)]
pub struct Event(pub Value);

impl Event {
    /// A text field; empty if it is absent.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number field.
    #[must_use]
    pub fn number(&self, field: &str) -> Option<u64> {
        self.0.get(field).and_then(Value::as_u64)
    }

    /// A text field of the object.
    #[must_use]
    pub fn object(&self, field: &str) -> &str {
        self.0.get("object").and_then(|object| object.get(field)).and_then(Value::as_str).unwrap_or_default()
    }

    /// What it was about, whatever the kind, as one string: a path, an address with port, a family or a privilege.
    #[must_use]
    pub fn about(&self) -> String {
        self.0.get("object").map(ToString::to_string).unwrap_or_default()
    }

    /// The rights that were needed.
    #[must_use]
    pub fn needed(&self) -> Vec<&str> {
        let list = self.0.get("needed").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The suggested rule, as text.
    #[must_use]
    pub fn suggestion(&self) -> String {
        match self.0.get("suggestion") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an event must say. `None` and empty: anything.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The name of the hook that refused.
    pub hook: &'static str,
    /// Its family.
    pub family: Family,
    /// The reason given.
    pub reason: Reason,
    /// Rights that must be among those needed.
    pub needed: Vec<String>,
    /// Text that the object must contain.
    pub object: String,
}

impl Expected {
    /// Everything in which the event differs from what was expected; empty if nothing.
    #[must_use]
    pub fn differences(&self, event: &Event, verdict: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut compare = |field: &str, got: &str, wanted: &str| {
            if got != wanted {
                wrong.push(format!("{field} is {got:?}, not {wanted:?}"));
            }
        };
        compare("hook", event.text("hook"), self.hook);
        compare("family", event.text("family"), self.family.name());
        compare("reason", event.text("reason"), self.reason.name());
        compare("verdict", event.text("verdict"), verdict);
        for right in &self.needed {
            if !event.needed().contains(&right.as_str()) {
                wrong.push(format!("needed is {:?} without {right:?}", event.needed()));
            }
        }
        // Socket addresses come as separate fields: look for each part.
        for part in self.object.split_whitespace() {
            if !event.about().contains(part) {
                wrong.push(format!("object is {}, without {part:?}", event.about()));
            }
        }
        for field in ["time", "workload", "cgroup", "comm", "exe", "operation", "mode", "policy"] {
            if event.text(field).is_empty() {
                wrong.push(format!("{field} is empty"));
            }
        }
        for field in ["pid", "tid", "uid", "generation"] {
            if event.number(field).is_none() {
                wrong.push(format!("{field} is missing"));
            }
        }
        wrong
    }
}

/// The log file.
#[derive(Clone, Debug)]
pub struct EventLog {
    path: PathBuf,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// Before everything.
    pub const START: Self = Self(0);
}

impl EventLog {
    /// The log in this file.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// The end of the log now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len()))
    }

    /// All decisions after the mark.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn since(&self, mark: Mark) -> Vec<Event> {
        self.lines_since(mark).into_iter().filter(|event| event.text("kind") == "decision").collect()
    }

    /// All records about the policies themselves after the mark.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn admissions_since(&self, mark: Mark) -> Vec<Event> {
        self.lines_since(mark).into_iter().filter(|event| event.text("kind") == "admission").collect()
    }

    /// All records about containers after the mark.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn containers_since(&self, mark: Mark) -> Vec<Event> {
        self.lines_since(mark).into_iter().filter(|event| event.text("kind") == "container").collect()
    }

    /// How many events the log says are missing after the mark.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn lost_since(&self, mark: Mark) -> u64 {
        let lines = self.lines_since(mark);
        lines
            .iter()
            .filter(|event| event.text("kind") == "lost")
            .filter_map(|event| event.number("count"))
            .sum()
    }

    fn is_line_start(&self, mark: Mark) -> bool {
        let mut byte = [0];
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(mark.0 - 1))?;
            file.read_exact(&mut byte)
        });
        read.is_ok() && byte == *b"\n"
    }

    /// All complete lines after the mark.
    fn lines_since(&self, mark: Mark) -> Vec<Event> {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            file.seek(SeekFrom::Start(mark.0))
                .and_then(|_| file.read_to_end(&mut text))
                .expect("reading the event log");
        }
        // A mark taken while a line was being written lies inside that line, which belongs to the time before.
        if mark.0 > 0 && !self.is_line_start(mark) {
            let rest = text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |end| end + 1);
            text.drain(..rest);
        }
        let complete = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        text[..complete]
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let value = serde_json::from_slice(line);
                Event(
                    value
                        .unwrap_or_else(|error| panic!("{error} in event {}", String::from_utf8_lossy(line))),
                )
            })
            .collect()
    }
}
