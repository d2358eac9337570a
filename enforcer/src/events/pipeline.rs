//! The thread between the ring and the sinks.
//!
//! Reading the ring must never wait: a full ring loses events in the kernel. So records go into a bounded queue, and a
//! thread of its own decodes, enriches and writes. What finds the queue full is counted and reported like any loss.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use super::{
    decode::decode,
    enrich::Enricher,
    record::{LostPlace, LostRecord, Record, SCHEMA_VERSION},
    sink::Sink,
    time::rfc3339,
};

/// Records that may wait. At most 6 KiB each.
const QUEUE: usize = 4096;

/// Shortest time between two flushes of the sinks: what comes in between becomes visible together. A lone record is
/// visible at once.
const PAUSE: Duration = Duration::from_millis(10);

/// Longest time between two flushes of a stream that never pauses, and between two looks at what was dropped.
const IDLE: Duration = Duration::from_millis(200);

/// What goes through the queue.
enum Item {
    Raw(Vec<u8>),
    Made(Box<Record>),
    LostInRing(u64),
}

/// The near end of the pipeline.
pub struct Pipeline {
    queue: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Pipeline {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(enricher: Enricher, sinks: Vec<Box<dyn Sink>>) -> std::io::Result<Self> {
        let (queue, items) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            enricher,
            sinks,
            dropped: Arc::clone(&dropped),
            unwritten: false,
            settled: Instant::now(),
            complained: false,
        };
        let thread = std::thread::Builder::new().name("events".into()).spawn(move || worker.run(&items))?;
        Ok(Self { queue, dropped, thread })
    }

    /// Hands over a record from the ring. Never waits.
    pub fn push(&self, record: &[u8]) {
        self.send(Item::Raw(record.to_vec()));
    }

    /// Hands over a record that user space made. Never waits.
    pub fn report(&self, record: Record) {
        self.send(Item::Made(Box::new(record)));
    }

    /// Reports that the kernel lost events.
    pub fn lost_in_ring(&self, count: u64) {
        self.send(Item::LostInRing(count));
    }

    fn send(&self, item: Item) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(item) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything handed over is written.
    pub fn finish(self) {
        drop(self.queue);
        if self.thread.join().is_err() {
            tracing::error!("the event thread has panicked");
        }
    }
}

struct Worker {
    enricher: Enricher,
    sinks: Vec<Box<dyn Sink>>,
    dropped: Arc<AtomicU64>,
    unwritten: bool,
    settled: Instant,
    complained: bool,
}

impl Worker {
    fn run(mut self, items: &Receiver<Item>) {
        loop {
            let patience = if self.unwritten { PAUSE.saturating_sub(self.settled.elapsed()) } else { IDLE };
            match items.recv_timeout(patience) {
                Ok(item) => {
                    self.take(item);
                    // Under a steady stream the queue never runs dry.
                    if self.settled.elapsed() >= IDLE {
                        self.settle();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.settle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.settle();
    }

    fn take(&mut self, item: Item) {
        let record = match item {
            Item::LostInRing(count) => lost(LostPlace::Ring, count),
            Item::Made(record) => *record,
            Item::Raw(bytes) => match decode(&bytes) {
                Ok(event) => self.enricher.record(&event),
                Err(error) => {
                    tracing::error!(%error, "an event cannot be decoded");
                    lost(LostPlace::Decoder, 1)
                }
            },
        };
        self.put(&record);
    }

    /// Reports what was dropped, and makes everything visible.
    fn settle(&mut self) {
        self.settled = Instant::now();
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped != 0 {
            self.put(&lost(LostPlace::Queue, dropped));
        }
        if self.unwritten {
            self.unwritten = false;
            let results: Vec<_> = self.sinks.iter_mut().map(|sink| sink.flush()).collect();
            results.into_iter().for_each(|result| self.judge(result));
        }
    }

    fn put(&mut self, record: &Record) {
        self.unwritten = true;
        let results: Vec<_> = self.sinks.iter_mut().map(|sink| sink.put(record)).collect();
        results.into_iter().for_each(|result| self.judge(result));
    }

    /// Says once that a sink fails, and once that it works again.
    fn judge(&mut self, result: std::io::Result<()>) {
        match result {
            Ok(()) => self.complained = false,
            Err(error) => {
                if !self.complained {
                    tracing::error!(%error, "events cannot be written");
                }
                self.complained = true;
            }
        }
    }
}

fn lost(place: LostPlace, count: u64) -> Record {
    Record::Lost(LostRecord {
        schema_version: SCHEMA_VERSION,
        time: rfc3339(SystemTime::now()),
        place,
        count,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc::channel};

    use super::*;
    use crate::{events::decode::tests as samples, kernel::state::StateFile};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<Record>>>);

    impl Sink for Memory {
        fn put(&mut self, record: &Record) -> std::io::Result<()> {
            self.0.lock().unwrap().push(record.clone());
            Ok(())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Waits for permission before the first record.
    struct Slow(Receiver<()>, Memory);

    impl Sink for Slow {
        fn put(&mut self, record: &Record) -> std::io::Result<()> {
            let _ = self.0.recv();
            self.1.put(record)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn enricher() -> Enricher {
        Enricher::new(StateFile::in_directory(std::path::Path::new("/nonexistent")), None)
    }

    #[test]
    fn records_losses_and_garbage_all_arrive() {
        let memory = Memory::default();
        let pipeline = Pipeline::start(enricher(), vec![Box::new(memory.clone())]).unwrap();
        pipeline.push(&samples::record(&samples::header(), b"/usr/bin/cat", b"/etc/shadow"));
        pipeline.push(b"garbage");
        pipeline.lost_in_ring(3);
        pipeline.finish();
        let records = memory.0.lock().unwrap();
        assert!(matches!(&records[0], Record::Decision(_)));
        assert!(matches!(&records[1], Record::Lost(lost) if lost.place == LostPlace::Decoder));
        assert!(
            matches!(&records[2], Record::Lost(lost) if lost.place == LostPlace::Ring && lost.count == 3)
        );
    }

    /// Says when it was flushed, and how much it held then; waits for permission before each record.
    struct Flushed(Receiver<()>, usize, std::sync::mpsc::Sender<usize>);

    impl Sink for Flushed {
        fn put(&mut self, _: &Record) -> std::io::Result<()> {
            let _ = self.0.recv();
            self.1 += 1;
            Ok(())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            let _ = self.2.send(self.1);
            Ok(())
        }
    }

    #[test]
    fn a_lone_record_is_flushed_and_a_stream_is_not_flushed_for_each() {
        const STREAM: usize = 100;
        let (permit, wait) = channel();
        let (flushed, flushes) = channel();
        let pipeline = Pipeline::start(enricher(), vec![Box::new(Flushed(wait, 0, flushed))]).unwrap();
        permit.send(()).unwrap();
        pipeline.lost_in_ring(1);
        // Nothing follows it.
        assert_eq!(flushes.recv_timeout(Duration::from_secs(60)), Ok(1));
        for _ in 0..STREAM {
            pipeline.lost_in_ring(1);
        }
        // All of them wait by now.
        drop(permit);
        pipeline.finish();
        let flushes: Vec<_> = flushes.iter().collect();
        assert_eq!(flushes.last(), Some(&(1 + STREAM)));
        assert!(flushes.len() < STREAM / 2, "{flushes:?}");
    }

    #[test]
    fn a_slow_sink_does_not_block_and_what_is_dropped_is_told() {
        let (permit, wait) = channel();
        let memory = Memory::default();
        let pipeline = Pipeline::start(enricher(), vec![Box::new(Slow(wait, memory.clone()))]).unwrap();
        for _ in 0..QUEUE + 100 {
            pipeline.lost_in_ring(1);
        }
        drop(permit);
        pipeline.finish();
        let records = memory.0.lock().unwrap();
        let dropped: u64 = records
            .iter()
            .map(|record| match record {
                Record::Lost(lost) if lost.place == LostPlace::Queue => lost.count,
                _ => 0,
            })
            .sum();
        assert!(dropped >= 99, "{dropped}");
        let told = u64::try_from(records.len()).unwrap() + dropped;
        assert!(told > u64::try_from(QUEUE + 100).unwrap(), "{told}");
    }
}
