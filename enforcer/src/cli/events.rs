//! `enforcer events`.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader, Write, stdout},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::{
    Outcome,
    output::{Colour, paint, printable},
};
use crate::events::{
    admission::AdmissionResult,
    container::ContainerResult,
    record::{Record, VerdictName, compact},
};

/// Shows what the daemon logged: one line for each operation that was denied, or would have been.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with events as they come
    #[arg(long, short)]
    follow: bool,
    /// How many of the last events to show [default: all; with --follow 10]
    #[arg(short, value_name = "N")]
    number: Option<usize>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: EventFormat,
    /// Only events of this policy
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The daemon's event log
    #[arg(long, value_name = "FILE", default_value = "/var/log/enforcer/events.jsonl")]
    event_log: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum EventFormat {
    /// One line for people
    #[default]
    Compact,
    /// The line as logged
    Json,
}

pub(super) fn run(args: &Args) -> Result<Outcome> {
    let mut log = Log::open(&args.event_log)?;
    let number = args.number.unwrap_or(if args.follow { 10 } else { usize::MAX });
    let mut last: VecDeque<String> = VecDeque::new();
    while let Some(line) = log.next_line()? {
        if let Some(text) = show(args, &line) {
            last.push_back(text);
            if last.len() > number {
                last.pop_front();
            }
        }
    }
    let mut out = stdout().lock();
    for text in last {
        writeln!(out, "{text}")?;
    }
    if args.follow {
        follow(args, &mut log, &mut out)?;
    }
    Ok(Outcome::Well)
}

/// Goes on until nobody reads any more.
fn follow(args: &Args, log: &mut Log, out: &mut impl Write) -> Result<()> {
    loop {
        out.flush()?;
        std::thread::sleep(Duration::from_millis(200));
        while let Some(line) = log.next_line()? {
            if let Some(text) = show(args, &line) {
                writeln!(out, "{text}")?;
            }
        }
        log.follow_rotation(&args.event_log);
    }
}

/// A log that is being written.
struct Log {
    reader: BufReader<File>,
    /// The beginning of a line that is not all there yet.
    partial: Vec<u8>,
}

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| {
            format!(
                "cannot read the event log {}; it is written by `enforcer run`, and `--event-log` says where",
                path.display()
            )
        })?;
        Ok(Self { reader: BufReader::new(file), partial: Vec::new() })
    }

    fn next_line(&mut self) -> Result<Option<String>> {
        self.reader.read_until(b'\n', &mut self.partial)?;
        if self.partial.pop_if(|byte| *byte == b'\n').is_none() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.partial);
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// Goes on with the new file once the log was moved away.
    fn follow_rotation(&mut self, path: &Path) {
        let Ok(file) = File::open(path) else { return };
        let inode = |file: &File| file.metadata().map(|metadata| metadata.ino()).ok();
        if inode(&file) != inode(self.reader.get_ref()) {
            *self = Self { reader: BufReader::new(file), partial: Vec::new() };
        }
    }
}

/// What to print for a line of the log. Lines of other versions are shown as they are.
fn show(args: &Args, line: &str) -> Option<String> {
    let record = serde_json::from_str::<Record>(line).ok();
    let policy = match &record {
        Some(Record::Decision(decision)) => decision.policy.as_deref(),
        Some(Record::Container(container)) => container.policy.as_deref(),
        _ => None,
    };
    if args.policy.is_some() && args.policy.as_deref() != policy {
        return None;
    }
    match (args.format, record) {
        (EventFormat::Json, _) | (_, None) => Some(printable(line)),
        (EventFormat::Compact, Some(record)) => Some(coloured(&record)),
    }
}

fn coloured(record: &Record) -> String {
    let text = printable(&compact(record));
    let (word, colour) = match record {
        Record::Decision(decision) if decision.verdict == VerdictName::Denied => ("denied", Colour::Red),
        Record::Decision(_) => ("audited", Colour::Yellow),
        Record::Lost(_) => ("lost", Colour::Red),
        Record::Admission(admission) => match admission.result {
            AdmissionResult::Admitted => ("admitted", Colour::Green),
            AdmissionResult::Refused => ("refused", Colour::Red),
            AdmissionResult::Alarm => ("ALARM", Colour::Red),
        },
        Record::Container(container) => match container.result {
            ContainerResult::Bound => ("bound", Colour::Green),
            ContainerResult::Refused => ("refused", Colour::Red),
            ContainerResult::Unadmitted => ("UNBOUND", Colour::Red),
        },
    };
    text.replacen(word, &paint(&stdout(), colour, word), 1)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_line_counts_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut file = File::create(&path).unwrap();
        let mut log = Log::open(&path).unwrap();
        assert_eq!(log.next_line().unwrap(), None);
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(log.next_line().unwrap().as_deref(), Some("one"));
        assert_eq!(log.next_line().unwrap(), None);
        file.write_all(b"o\n").unwrap();
        assert_eq!(log.next_line().unwrap().as_deref(), Some("two"));
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        std::fs::write(&path, "three\n").unwrap();
        log.follow_rotation(&path);
        assert_eq!(log.next_line().unwrap().as_deref(), Some("three"));
    }
}
