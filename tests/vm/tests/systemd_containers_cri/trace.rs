//! What the kernel itself says was started: the tracepoint at which a program has replaced another.

use std::fs;
use std::path::PathBuf;

const TRACEFS: &str = "/sys/kernel/tracing";
const EVENT: &str = "events/sched/sched_process_exec/enable";

/// A trace of its own, gone when this is dropped.
pub(crate) struct Trace(PathBuf);

impl Trace {
    /// Begins.
    pub(crate) fn begin() -> Self {
        let instance = PathBuf::from(TRACEFS).join("instances/enforcer-test");
        let _ = fs::remove_dir(&instance);
        fs::create_dir(&instance).unwrap();
        let trace = Self(instance);
        fs::write(trace.0.join("buffer_size_kb"), "8192").unwrap();
        fs::write(trace.0.join(EVENT), "1").unwrap();
        trace
    }

    /// The names of all programs that were started, as they were asked for. None may have been lost.
    pub(crate) fn programs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("trace")).unwrap();
        let lost = fs::read_to_string(self.0.join("per_cpu/cpu0/stats")).unwrap();
        let lost = lost.lines().find_map(|line| line.strip_prefix("overrun: "));
        assert_eq!(lost, Some("0"), "the trace is not whole");
        text.lines()
            .filter_map(|line| line.split_once("sched_process_exec: filename=")?.1.split(' ').next())
            .map(ToOwned::to_owned)
            .collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join(EVENT), "0");
        let _ = fs::remove_dir(&self.0);
    }
}
