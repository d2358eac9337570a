//! What the person at the terminal sees. Remarks go to standard error: standard output is for what a verb is
//! asked to produce, such as the output of a VM's command or test results.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "this module is xtask's only door to the terminal"
)]

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A long step: a spinner on a terminal, two plain lines elsewhere.
pub(crate) struct Step {
    message: String,
    started: Instant,
    spinner: Option<ProgressBar>,
    finished: bool,
}

/// Announces a long step.
pub(crate) fn step(message: impl Into<String>) -> Step {
    let message = message.into();
    let spinner = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner().with_message(message.clone());
        // The template has no colours, so there is nothing for NO_COLOR to switch off.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    });
    if spinner.is_none() {
        eprintln!("xtask: {message} ...");
    }
    Step { message, started: Instant::now(), spinner, finished: false }
}

impl Step {
    /// Reports the step as done, with the time it took.
    pub(crate) fn done(mut self) {
        self.finished = true;
        self.clear();
        eprintln!("xtask: {}: done in {:.1} s", self.message, self.started.elapsed().as_secs_f64());
    }

    fn clear(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.clear();
            eprintln!("xtask: {}: failed after {:.1} s", self.message, self.started.elapsed().as_secs_f64());
        }
    }
}

/// One line of a verb's result, on standard output.
pub(crate) fn out(line: &str) {
    println!("{line}");
}

/// One line of information.
pub(crate) fn note(message: &str) {
    eprintln!("xtask: {message}");
}

/// Something the reader should not overlook.
pub(crate) fn warn(message: &str) {
    eprintln!("xtask: {} {message}", emphasised("WARNING:", "33"));
}

/// The reason why a verb failed.
pub(crate) fn error(message: &str) {
    eprintln!("xtask: {} {message}", emphasised("error:", "31"));
}

fn emphasised(text: &str, colour: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !std::io::stderr().is_terminal() {
        return text.to_owned();
    }
    format!("\x1b[1;{colour}m{text}\x1b[0m")
}
