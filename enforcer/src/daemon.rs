//! `enforcer run`: turns enforcement on, keeps policies current, reports events. Reads like a story.
//!
//! Enforcement does not depend on this process: programs and maps are pinned, and stay when it ends, however it ends.
#![forbid(unsafe_code)]

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd as _, OwnedFd},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use enforcer_common::abi::Counter;
use sd_notify::NotifyState;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{SignalKind, signal},
    sync::mpsc::unbounded_channel,
    task::{JoinError, JoinHandle},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    admission::{RecordError, Refusal},
    bundle::verify::{Candidate, Trust},
    cgroups::Hierarchy,
    containers::{
        control::{Control, Desk},
        strays::Strays,
    },
    custody::{self, Finding, Sealer},
    events::{
        admission::Consequence,
        container::ContainerRecord,
        enrich::Enricher,
        pipeline::Pipeline,
        record::Record,
        sink::{JsonLines, LogFile, Sink},
    },
    heartbeat::Heartbeat,
    intake::{Intake, Taken},
    kernel::{
        attach::{self, Attached, Takeover},
        btf::KernelTypes,
        load::{Object, SetUp},
        maps::{BpfMaps, Maps as _, open_events},
        own::{self, Place},
        pin::Pins,
        state::StateFile,
    },
    projected::Projected,
    session::{DaemonLock, Lock, Put, Session, SessionError},
    succession, sys,
};

/// How to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where policies come from and who vouches for them.
    pub intake: Intake,
    /// Whether policies are taken again when their directory is replaced.
    pub watch: bool,
    /// How often it is checked that the platform still is what they were admitted for.
    pub recheck: Duration,
    /// Launchers, resolved.
    pub launchers: Vec<String>,
    /// What is settled when the object is loaded.
    pub set_up: SetUp,
    /// Where events are logged.
    pub event_log: Option<PathBuf>,
    /// Whether events go to standard output.
    pub print_events: bool,
    /// Where locks and state live.
    pub runtime: PathBuf,
    /// Where BPF objects are pinned.
    pub pins: Pins,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Before enforcement is on, when it cannot be turned on; afterwards only when the event loop itself fails.
pub fn run(config: &Config) -> Result<()> {
    let successor = succession::prepare(&config.pins, &config.intake.anchors, &config.settings())?;
    let _only = DaemonLock::acquire(&config.runtime)?;
    // While sealed nothing can be written until this process is the daemon.
    successor.succeed(&config.pins)?;
    // Before anything that can be refused: refusals are events.
    let pipeline = pipeline(config)?;
    // Before the policies are read, so that no later version of them is missed.
    let projected = Projected::of(if config.watch { &config.intake.policies } else { &[] });
    let started = start(config, &pipeline);
    let attached = match started {
        Ok(attached) => attached,
        Err(error) => {
            pipeline.finish();
            return Err(error);
        }
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(config, attached, pipeline, projected))
}

/// Policies first: what is wrong with them must not leave a host with half a start.
fn start(config: &Config, pipeline: &Pipeline) -> Result<Attached> {
    let lock = Lock::acquire(&config.runtime)?;
    let types = KernelTypes::of_running_kernel()?;
    let report = |record| pipeline.report(record);
    let fits = |candidates: &[Candidate]| {
        custody::fits_at_start(
            candidates,
            &config.launchers,
            &config.set_up.sizes,
            &config.pins,
            &config.runtime,
            &types,
        )
    };
    let holds_policies = BpfMaps::open(&config.pins.maps())
        .is_ok_and(|maps| maps.control().is_ok_and(|control| control.generation != 0));
    let taken = custody::take_at_start(&config.intake, &report, fits, holds_policies)?;
    let attached = attach::start(&types, &config.set_up, &config.pins)
        .context("enforcement cannot be turned on; `enforcer probe` tells what this machine lacks")?;
    own::protect(&config.pins, &places(config)).context("what is the enforcer's own cannot be protected")?;
    announce(&attached);
    let mut session = Session::open(lock, &config.runtime, &config.pins)?;
    if let Some(taken) = taken {
        warn(&taken);
        let put = put(config, &mut session, &taken, "start", &report)?;
        log_put(&taken, &put);
    }
    Ok(attached)
}

fn put(
    config: &Config,
    session: &mut Session,
    taken: &Taken,
    occasion: &str,
    report: custody::Report<'_>,
) -> Result<Put, SessionError> {
    let places = places(config);
    let sealer = Sealer { pins: &config.pins, places: &places, settings: config.settings() };
    custody::put_and_seal(session, &config.intake, taken, &config.launchers, occasion, &sealer, report)
}

impl Config {
    /// SHA-256 of all that somebody who starts a daemon could have it do otherwise.
    fn settings(&self) -> [u8; 32] {
        let Self { intake, watch, recheck, launchers, set_up, event_log, print_events: _, runtime, pins } =
            self;
        // Where paths start that do not start at the root.
        let here = std::env::current_dir().ok();
        let said = format!(
            "{intake:?} {watch} {recheck:?} {launchers:?} {set_up:?} {event_log:?} {runtime:?} {pins:?} {here:?}"
        );
        Sha256::digest(said).into()
    }
}

/// What no workload gets at, whatever its policy says, besides pins and the daemon itself.
fn places(config: &Config) -> Vec<Place> {
    let Intake { anchors, places, .. } = &config.intake;
    let secrets = [own::CONFIGURATION.into(), anchors.clone(), places.state.clone()];
    let closed = [places.runtime.clone(), config.runtime.clone()];
    let mut ours: Vec<_> =
        secrets.into_iter().map(Place::secret).chain(closed.into_iter().map(Place::closed)).collect();
    // Where signed policies are delivered.
    let is_ours = |path: &&PathBuf| path.is_dir() && path.starts_with(own::CONFIGURATION);
    ours.extend(config.intake.policies.iter().filter(is_ours).cloned().map(Place::offered));
    ours.extend(std::env::current_exe().ok().map(Place::record));
    // Of logs the directory, as they are rotated, if it is ours alone. Whoever ships them reads them.
    ours.extend(config.event_log.as_deref().map(|log| {
        let directory = default_event_log().parent().filter(|directory| log.starts_with(directory));
        Place::record(directory.unwrap_or(log).to_owned())
    }));
    ours
}

async fn serve(
    config: &Config,
    mut attached: Attached,
    pipeline: Pipeline,
    mut projected: Projected,
) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut recheck = tokio::time::interval_at(Instant::now() + config.recheck, config.recheck);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checking: Option<JoinHandle<Finding>> = None;

    let maps = BpfMaps::open(&config.pins.maps())?;
    let mut ring = open_events(&config.pins.maps())?;
    let filled = sys::readiness(ring.as_fd())?;
    let mut messages = messages(&mut attached.object)?;
    let mut losses =
        Losses { seen: maps.counter(Counter::EventsLost)?, unbound: maps.counter(Counter::BindFailed)? };

    let (reporter, mut containers) = unbounded_channel();
    let report = move |record| {
        // The daemon is ending when nobody takes it.
        let _ = reporter.send(record);
    };
    let desk = Desk { runtime: config.runtime.clone(), pins: config.pins.clone() };
    let _control = Control::start(desk, report)?;
    let (mut strays, mut looking) = (Strays::default(), None);
    strays.are_due(Instant::now().into(), maps.control()?.generation);
    report_strays(&mut strays, look_for_strays(&config.runtime, &config.pins), &pipeline);
    let heartbeat = Heartbeat::start(&config.runtime)
        .with_context(|| format!("cannot write into {}", config.runtime.display()))?;

    notify(&[
        NotifyState::Ready,
        NotifyState::Status(&format!("enforcing with {} programs", attached.hooks.len())),
    ]);
    tracing::info!(programs = attached.hooks.len(), "enforcement is on");
    loop {
        tokio::select! {
            ready = filled.readable() => {
                // Cleared first: what arrives while draining wakes this up again.
                ready?.clear_ready();
                drain(&mut ring, &pipeline);
            }
            () = print_messages(&mut messages) => {}
            _ = tick.tick() => {
                // A wake-up that got lost costs a second, not the events.
                drain(&mut ring, &pipeline);
                losses.report(&maps, &pipeline);
                if losses.has_missed_bindings(&maps) {
                    rebind(config);
                }
                if looking.is_none()
                    && maps.control().is_ok_and(|control| strays.are_due(Instant::now().into(), control.generation))
                {
                    let (runtime, pins) = (config.runtime.clone(), config.pins.clone());
                    looking = Some(tokio::task::spawn_blocking(move || look_for_strays(&runtime, &pins)));
                }
                if projected.has_changed() {
                    tracing::info!("the policies' directory was replaced");
                    reload(config, &pipeline);
                }
                if let Err(error) = heartbeat.beat() {
                    tracing::error!(%error, "`enforcer status --live` will take this daemon for dead");
                }
                notify(&[NotifyState::Watchdog]);
            }
            _ = recheck.tick(), if checking.is_none() => {
                // A TPM may take its time, and must not keep events waiting.
                let intake = config.intake.clone();
                checking = Some(tokio::task::spawn_blocking(move || custody::check(&intake)));
            }
            Some(record) = containers.recv() => pipeline.report(Record::Container(Box::new(record))),
            found = finished(&mut checking) => {
                checking = None;
                let found = found.unwrap_or_else(|error| {
                    Finding::Changed(Box::new(Refusal::Records(RecordError::Check(error.to_string()))))
                });
                follow(config, found, &pipeline);
            }
            found = finished(&mut looking) => {
                looking = None;
                match found {
                    Ok(found) => report_strays(&mut strays, found, &pipeline),
                    Err(error) => tracing::error!(%error, "a look for unadmitted containers broke off"),
                }
            }
            _ = hangup.recv() => reload(config, &pipeline),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    notify(&[NotifyState::Stopping]);
    while let Ok(record) = containers.try_recv() {
        pipeline.report(Record::Container(Box::new(record)));
    }
    drain(&mut ring, &pipeline);
    losses.report(&maps, &pipeline);
    pipeline.finish();
    tracing::info!("the daemon ends; enforcement stays on (`enforcer unload --yes` turns it off)");
    Ok(())
}

/// The result of the work that is under way, once there is one.
async fn finished<T>(work: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match work {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}

/// Does what the anchors say about a platform that is not what it was.
fn follow(config: &Config, found: Finding, pipeline: &Pipeline) {
    match found {
        Finding::Unsigned => {}
        Finding::Well => custody::all_clear(&config.intake),
        Finding::Expired(standing) if standing.is_break_glass() => {
            tracing::warn!("the break-glass policy has expired: back to the usual policies");
            config.intake.end_break_glass();
            reload(config, pipeline);
        }
        Finding::Expired(standing) => {
            let message =
                format!("{} version {} has expired; sign a new version", standing.policy, standing.version);
            alarm(config, "expired", &message, pipeline);
        }
        Finding::Changed(refusal) => alarm(config, refusal.reason(), &refusal.to_string(), pipeline),
    }
}

fn alarm(config: &Config, reason: &'static str, message: &str, pipeline: &Pipeline) {
    let report = |record| pipeline.report(record);
    let consequence = custody::consequence(&config.intake);
    let is_new = custody::raise(&config.intake, reason, message, consequence, &report);
    if consequence == Consequence::DenyAll && is_new {
        deny_all(config, reason);
    }
}

/// Puts policies in force that allow nothing.
fn deny_all(config: &Config, reason: &'static str) {
    let denied = config.intake.deny_all();
    let result = Lock::acquire(&config.runtime)
        .and_then(|lock| Session::open(lock, &config.runtime, &config.pins))
        .and_then(|mut session| session.put(&denied.policies, &config.launchers));
    match result {
        Ok(put) => tracing::error!(generation = put.installed.generation, "nothing is allowed any more"),
        Err(error) => tracing::error!(%error, "what is in force cannot be taken back"),
    }
    custody::measure_denial(&config.intake, reason);
}

fn warn(taken: &Taken) {
    for warnings in taken.policies.iter().filter_map(|policy| policy.compiled().warnings.as_ref()) {
        tracing::warn!("{}", warnings.trim_end());
    }
}

/// Takes the policies as they are on disk now. If they are refused, what the anchors say about refusals is done.
fn reload(config: &Config, pipeline: &Pipeline) {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    notify(&states);
    let status = match try_reload(config, pipeline) {
        Ok(generation) => format!("generation {generation} in force"),
        Err(error) => {
            tracing::error!("the policies are refused, and those in force stay in force: {error:#}");
            "the last reload was refused; see the log".to_owned()
        }
    };
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

fn try_reload(config: &Config, pipeline: &Pipeline) -> Result<u64> {
    let report = |record| pipeline.report(record);
    let lock = Lock::acquire(&config.runtime)?;
    let mut session = Session::open(lock, &config.runtime, &config.pins)?;
    let fits = |candidates: &[Candidate]| {
        session.rehearse(candidates, &config.launchers).map_err(|error| error.to_string())
    };
    let intake = config.intake.break_glass().unwrap_or_else(|| config.intake.clone());
    let taken = match intake.take(fits) {
        Ok(taken) => taken,
        Err(error) => {
            drop(session);
            let consequence = custody::consequence(&config.intake);
            custody::refused(&report, "reload", &error, consequence);
            if consequence == Consequence::DenyAll {
                deny_all(config, error.reason());
            }
            return Err(error.into());
        }
    };
    warn(&taken);
    let put = put(config, &mut session, &taken, "reload", &report)?;
    log_put(&taken, &put);
    Ok(put.installed.generation)
}

fn announce(attached: &Attached) {
    match &attached.takeover {
        Takeover::Started => tracing::info!("programs loaded and attached"),
        Takeover::Adopted => tracing::info!("the same programs were running already and were left alone"),
        Takeover::Replaced { retired } => {
            tracing::info!(
                ?retired,
                "programs attached beside those that were running, which are retired now"
            );
        }
    }
}

/// Says what an installation changed. Loudly, where somebody is less protected now.
fn log_put(taken: &Taken, put: &Put) {
    let (policies, installed) = (&taken.policies, &put.installed);
    tracing::info!(
        generation = installed.generation,
        policies = policies.len(),
        added = ?installed.added,
        changed = ?installed.changed,
        cgroups_bound = put.rebound.bound,
        cgroups_unbound = put.rebound.unbound,
        "policies are in force"
    );
    for name in &installed.removed {
        tracing::warn!(
            policy = name,
            "REMOVED: tasks that were under this policy are the host's now, and unrestricted"
        );
    }
    if let Some(report) = &taken.report {
        tracing::info!(trust = %report.trust, measured = ?report.measured, "the policies were admitted");
        if let (Trust::BreakGlass(_), Some(end)) = (&report.trust, report.not_after) {
            tracing::warn!(until = %humantime::format_rfc3339_seconds(end), "BREAK-GLASS is in force");
        }
    }
    for bundle in policies.iter().filter(|bundle| *bundle.trust() == Trust::Unsigned) {
        tracing::warn!(
            policy = bundle.name(),
            "UNSIGNED: whoever can write the policy file decides what it allows"
        );
    }
    if let Some(reason) = &installed.untidy {
        tracing::warn!(reason, "left-overs of the old generation remain; the next installation removes them");
    }
}

fn pipeline(config: &Config) -> Result<Pipeline> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if config.print_events {
        sinks.push(Box::new(JsonLines::new(io::stdout())));
    }
    if let Some(path) = &config.event_log {
        let log =
            LogFile::open(path).with_context(|| format!("cannot open the event log {}", path.display()))?;
        sinks.push(Box::new(log));
    }
    let enricher = Enricher::new(StateFile::in_directory(&config.runtime), Hierarchy::find().ok());
    Ok(Pipeline::start(enricher, sinks)?)
}

fn drain(ring: &mut RingBuf<MapData>, pipeline: &Pipeline) {
    while let Some(record) = ring.next() {
        pipeline.push(&record);
    }
}

/// What the programs say for people, through `aya-log`.
struct Messages {
    logger: EbpfLogger<&'static dyn log::Log>,
    arrived: AsyncFd<OwnedFd>,
}

/// `None` if this object says nothing.
fn messages(object: &mut Object) -> Result<Option<Messages>> {
    match EbpfLogger::init(object.ebpf()) {
        Ok(logger) => Ok(Some(Messages { arrived: sys::readiness(logger.as_fd())?, logger })),
        Err(error) => {
            tracing::debug!(%error, "the programs have no log");
            Ok(None)
        }
    }
}

async fn print_messages(messages: &mut Option<Messages>) {
    let Some(messages) = messages else { return std::future::pending().await };
    match messages.arrived.readable().await {
        Ok(mut ready) => {
            ready.clear_ready();
            messages.logger.flush();
        }
        Err(error) => {
            tracing::error!(%error, "the programs' log cannot be read");
            std::future::pending().await
        }
    }
}

/// Binds what the programs could not bind when it was made.
fn rebind(config: &Config) {
    let result = Lock::acquire(&config.runtime)
        .and_then(|lock| Session::open(lock, &config.runtime, &config.pins))
        .and_then(|mut session| session.rebind());
    match result {
        Ok(rebound) => tracing::warn!(bound = rebound.bound, "cgroups were bound late"),
        Err(error) => tracing::error!(%error, "cgroups that the programs could not bind stay unbound"),
    }
}

/// Which containers run that nobody has asked for: their runtime has no hook, or they were there before it had.
fn look_for_strays(runtime: &Path, pins: &Pins) -> Result<Vec<Vec<u8>>, SessionError> {
    Session::open(Lock::acquire(runtime)?, runtime, pins)?.unadmitted()
}

/// Says which of them have not been there before.
fn report_strays(strays: &mut Strays, found: Result<Vec<Vec<u8>>, SessionError>, pipeline: &Pipeline) {
    match found {
        Ok(found) => {
            for cgroup in strays.news(found) {
                let record = ContainerRecord::unadmitted(&cgroup);
                tracing::warn!(cgroup = record.cgroup, "UNBOUND: nobody has admitted this container");
                pipeline.report(Record::Container(Box::new(record)));
            }
        }
        Err(error) => tracing::error!(%error, "it cannot be told which containers nobody has admitted"),
    }
}

/// What the programs could not do, by their own count.
struct Losses {
    /// Events that found the ring full.
    seen: u64,
    /// New cgroups that could not be bound.
    unbound: u64,
}

impl Losses {
    fn report(&mut self, maps: &BpfMaps, pipeline: &Pipeline) {
        match maps.counter(Counter::EventsLost) {
            Ok(count) => {
                let new = count.saturating_sub(self.seen);
                if new != 0 {
                    tracing::warn!(count = new, "events were lost: the ring was full");
                    pipeline.lost_in_ring(new);
                }
                self.seen = count;
            }
            Err(error) => tracing::error!(%error, "the counters cannot be read"),
        }
    }

    /// Whether cgroups were made since the last time that could not be bound.
    fn has_missed_bindings(&mut self, maps: &BpfMaps) -> bool {
        let count = maps.counter(Counter::BindFailed).unwrap_or(self.unbound);
        std::mem::replace(&mut self.unbound, count) < count
    }
}

/// Tells the service manager, if there is one. Never waits: a manager that does not read must not stop the events.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = try_notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn try_notify(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// The usual place of the event log.
#[must_use]
pub fn default_event_log() -> &'static Path {
    Path::new("/var/log/enforcer/events.jsonl")
}
