//! `enforcer-oci-hook`: has the daemon bind a container before its first program starts, or keeps it from starting.
//!
//! For Podman, runc and crun as a `createRuntime` hook: reads the container's state from standard input, asks the daemon,
//! and ends with status 0 only if the daemon has bound the container's cgroup. Whatever else happens is a refusal: no
//! daemon, one that hangs, no policy.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "runc shows a hook's standard error to whoever starts the container")]

use std::{
    error::Error,
    io::{self, Read as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use enforcer_containers::{
    oci::State,
    wire::{self, Reply, Request},
};

const USAGE: &str = "usage: enforcer-oci-hook [--socket PATH] [--timeout SECONDS] < STATE";

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest state. It has no more than the container's annotations.
const MAX_STATE: u64 = 4 << 20;

struct Options {
    socket: PathBuf,
    patience: Duration,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    match bind(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("enforcer: the container must not start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { socket: wire::SOCKET.into(), patience: PATIENCE };
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        match argument.as_str() {
            "--socket" => options.socket = value.into(),
            "--timeout" => {
                options.patience = Duration::from_secs(value.parse().ok().filter(|seconds| *seconds > 0)?);
            }
            _ => return None,
        }
    }
    Some(options)
}

fn bind(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut state = Vec::new();
    io::stdin().lock().take(MAX_STATE).read_to_end(&mut state)?;
    let request = Request::Bind(State::parse(&state)?.request()?);
    match wire::ask(&options.socket, &request, options.patience)? {
        Reply::Bound { .. } => Ok(()),
        Reply::Refused { message } => Err(message.into()),
        Reply::Admissible => Err("the daemon answered another question; is it of another version?".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_understood_or_refused() {
        let parse = |words: &[&str]| options(words.iter().map(|word| (*word).to_owned()));
        let usual = parse(&[]).unwrap();
        assert_eq!((usual.socket.to_str(), usual.patience), (Some(wire::SOCKET), PATIENCE));
        let other = parse(&["--timeout", "3", "--socket", "/x"]).unwrap();
        assert_eq!((other.socket.to_str(), other.patience), (Some("/x"), Duration::from_secs(3)));
        for bad in
            [&["--timeout"][..], &["--timeout", "0"], &["--timeout", "x"], &["--sockets", "/x"], &["x"]]
        {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
