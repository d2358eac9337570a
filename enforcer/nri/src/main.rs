//! `enforcer-nri`: a plugin for containerd and CRI-O that has the daemon admit every container, or keeps it from starting.
//!
//! Connects to the runtime again whenever the connection ends: the runtime was started anew, or has dropped a plugin that
//! took too long. While there is no connection, containers start under the base policy.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "how it is called is said where it was called")]

use std::{
    io::IsTerminal as _, os::unix::net::UnixStream, path::PathBuf, process::ExitCode, thread, time::Duration,
};

use enforcer_containers::wire;
use enforcer_nri::plugin::{Surroundings, USUAL_TIMEOUT, serve};
use sd_notify::NotifyState;

const USAGE: &str = "usage: enforcer-nri [--nri PATH] [--cri PATH] [--control PATH] [--timeout SECONDS]";

/// Where runtimes listen for plugins.
const NRI: &str = "/var/run/nri/nri.sock";

/// Where containerd listens for CRI.
const CRI: &str = "/run/containerd/containerd.sock";

/// The first wait before another attempt to connect. Each that fails doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait. For that long after the runtime's start, its containers cannot do anything.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Options {
    nri: PathBuf,
    /// How long the runtime waits for an answer, if it does not say so itself.
    timeout: Duration,
    surroundings: Surroundings,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    // The journal has times of its own.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).without_time();
    log.with_ansi(std::io::stderr().is_terminal()).init();
    notify(&[NotifyState::Ready]);
    let mut wait = FIRST_WAIT;
    let mut said = String::new();
    loop {
        let outcome = converse(&options, || wait = FIRST_WAIT);
        // Once is enough while it stays the same.
        if outcome != said || wait == FIRST_WAIT {
            tracing::warn!("no runtime asks: {outcome}");
            notify(&[NotifyState::Status(&format!("waiting for a runtime: {outcome}"))]);
        }
        said = outcome;
        thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Talks to the runtime as long as that goes well; says why it does not any more.
fn converse(options: &Options, mut connected: impl FnMut()) -> String {
    let socket = match UnixStream::connect(&options.nri) {
        Ok(socket) => socket,
        Err(error) => {
            return format!("cannot connect to {}: {error}; is NRI enabled in it?", options.nri.display());
        }
    };
    let taken_in = |runtime: &str| {
        connected();
        tracing::info!("connected to {runtime}");
        notify(&[NotifyState::Status(&format!("connected to {runtime}"))]);
    };
    match serve(socket, &options.surroundings, options.timeout, taken_in) {
        Ok(()) => "it has hung up".into(),
        Err(error) => error.to_string(),
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd was not told how it goes");
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let surroundings = Surroundings { control: wire::SOCKET.into(), cri: CRI.into(), proc: "/proc".into() };
    let mut options = Options { nri: NRI.into(), timeout: USUAL_TIMEOUT, surroundings };
    while let Some(argument) = arguments.next() {
        let value = arguments.next()?;
        match argument.as_str() {
            "--nri" => options.nri = value.into(),
            "--cri" => options.surroundings.cri = value.into(),
            "--control" => options.surroundings.control = value.into(),
            "--timeout" => {
                options.timeout = Duration::from_secs(value.parse().ok().filter(|seconds| *seconds > 0)?);
            }
            _ => return None,
        }
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn options_are_understood_or_refused() {
        let parse = |words: &[&str]| options(words.iter().map(|word| (*word).to_owned()));
        let usual = parse(&[]).unwrap();
        assert_eq!((usual.nri.as_path(), usual.surroundings.cri.as_path()), (Path::new(NRI), Path::new(CRI)));
        assert_eq!(usual.surroundings.control, Path::new(wire::SOCKET));
        let other = ["--nri", "/n", "--control", "/d", "--cri", "/c", "--timeout", "9"];
        let other = parse(&other).unwrap();
        assert_eq!((usual.timeout, other.timeout), (USUAL_TIMEOUT, Duration::from_secs(9)));
        let surroundings = other.surroundings;
        assert_eq!(
            (other.nri, surroundings.cri, surroundings.control),
            ("/n".into(), "/c".into(), "/d".into())
        );
        for bad in [&["--nri"][..], &["--crio", "/c"], &["/n"], &["--timeout", "0"], &["--timeout", "x"]] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn why_there_is_no_conversation() {
        let directory = tempfile::tempdir().unwrap();
        let nri = directory.path().join("nri.sock");
        let options = parse_with(&nri);
        let nobody = converse(&options, || panic!("nobody is there"));
        assert!(nobody.contains("cannot connect") && nobody.contains("NRI enabled"), "{nobody}");
        let listener = std::os::unix::net::UnixListener::bind(&nri).unwrap();
        let hangs_up = thread::spawn(move || drop(listener.accept().unwrap()));
        let hung_up = converse(&options, || panic!("it was not taken in"));
        assert!(hung_up.contains("hung up") || hung_up.contains("broke"), "{hung_up}");
        hangs_up.join().unwrap();
    }

    fn parse_with(nri: &Path) -> Options {
        options(["--nri".to_owned(), nri.to_string_lossy().into_owned()].into_iter()).unwrap()
    }
}
