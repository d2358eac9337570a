//! What is in force is looked after: how it gets there at start, reload and apply; what happens when it is refused; and
//! whether the platform still is what it was admitted for.
#![forbid(unsafe_code)]

use std::{path::Path, time::SystemTime};

use crate::{
    admission::{
        Alarm, Enrolled, Measured, Measurements, Platform as _, Refusal, Report as Admission, Standing,
        recheck, records,
    },
    bundle::{
        anchors::{Anchors, OnRefuse, TpmMode},
        statement::Seal,
        verify::{Candidate, Trust},
    },
    events::{
        admission::{AdmissionRecord, Consequence},
        record::Record,
    },
    intake::{Intake, IntakeError, Taken, connect},
    kernel::{
        btf::KernelTypes,
        install::{Desired, rehearse, rehearse_first},
        load::available_hooks,
        maps::{BpfMaps, Sizes},
        own::{self, Place},
        pin::Pins,
        probe::{Root, is_locked_down},
        seal::{self, SealError, Terms},
        state::StateFile,
        support,
    },
    session::{Put, Session, SessionError},
};

/// Where records about policies go.
pub type Report<'r> = &'r dyn Fn(Record);

/// Whether candidates could be installed when nothing is attached yet, or what another daemon left is.
///
/// # Errors
/// Why not, for people.
pub fn fits_at_start(
    candidates: &[Candidate],
    launchers: &[String],
    sizes: &Sizes,
    pins: &Pins,
    runtime: &Path,
    types: &KernelTypes,
) -> Result<(), String> {
    let hooks = available_hooks(types).map_err(|error| error.to_string())?;
    support::check(candidates, &hooks, Root(Path::new("/")), || Ok(types))
        .map_err(|error| error.to_string())?;
    let desired = Desired { policies: candidates, launchers };
    match BpfMaps::open(&pins.maps()) {
        Ok(maps) => rehearse(&maps, &StateFile::in_directory(runtime), &desired),
        Err(_) => rehearse_first(*sizes, &desired),
    }
    .map_err(|error| error.to_string())
}

/// Takes what shall be in force when the daemon starts: a break-glass bundle that is in use, else what the directories say.
/// When that is refused, what the anchors say about refusals is done.
///
/// `None`: nothing could be taken, and what the kernel holds from before stays.
///
/// # Errors
/// [`IntakeError`] when there is nothing to fall back to.
pub fn take_at_start(
    intake: &Intake,
    report: Report<'_>,
    fits: impl Fn(&[Candidate]) -> Result<(), String>,
    holds_policies: bool,
) -> Result<Option<Taken>, IntakeError> {
    if let Some(taken) = break_glass_in_use(intake, report, &fits) {
        return Ok(Some(taken));
    }
    let error = match intake.take(&fits) {
        Ok(taken) => return Ok(Some(taken)),
        Err(error) => error,
    };
    let (taken, consequence) = match intake.on_refuse() {
        Some(OnRefuse::LastGood) => match intake.take_last_good(&fits) {
            Ok(taken) => (Some(taken), Consequence::LastGood),
            Err(_) if holds_policies => (None, Consequence::Unchanged),
            Err(_) => (None, Consequence::Nothing),
        },
        Some(OnRefuse::DenyAll) => {
            let taken = intake.deny_all();
            let denies = !taken.policies.is_empty();
            (denies.then_some(taken), if denies { Consequence::DenyAll } else { Consequence::Nothing })
        }
        None => (None, Consequence::Nothing),
    };
    refused(report, "start", &error, consequence);
    if consequence == Consequence::Nothing {
        return Err(error);
    }
    tracing::error!(?consequence, "the policies are refused: {error}");
    if consequence == Consequence::DenyAll {
        measure_denial(intake, error.reason());
    }
    Ok(taken)
}

fn break_glass_in_use(
    intake: &Intake,
    report: Report<'_>,
    fits: &impl Fn(&[Candidate]) -> Result<(), String>,
) -> Option<Taken> {
    match intake.break_glass()?.take(fits) {
        Ok(taken) => Some(taken),
        Err(error) => {
            tracing::warn!("the break-glass policy is not in force any more: {error}");
            refused(report, "start", &error, Consequence::Unchanged);
            intake.end_break_glass();
            None
        }
    }
}

/// What the daemon has, and nobody else, to seal the machine with.
#[derive(Clone, Copy, Debug)]
pub struct Sealer<'a> {
    /// Where BPF objects are pinned.
    pub pins: &'a Pins,
    /// What is the enforcer's own.
    pub places: &'a [Place],
    /// SHA-256 of the daemon's settings.
    pub settings: [u8; 32],
}

/// Puts in force what was taken, keeps a copy, and notes what later checks compare with. Seals the machine or unseals it, if
/// that was signed.
///
/// # Errors
/// [`SessionError`]. After one, what was in force still is.
pub fn put_and_seal(
    session: &mut Session,
    intake: &Intake,
    taken: &Taken,
    launchers: &[String],
    occasion: &str,
    sealer: &Sealer<'_>,
    report: Report<'_>,
) -> Result<Put, SessionError> {
    let denies = taken.policies.iter().any(|policy| *policy.trust() == Trust::DenyAll);
    if taken.report.is_none() && !denies && seal::is_sealed(sealer.pins) {
        return Err(SessionError::Sealed);
    }
    let put = put(session, intake, taken, launchers, occasion, report)?;
    if let Some(admitted) = &taken.report
        && let Err(error) = follow_seal(intake, admitted, sealer)
    {
        let asked = if admitted.seal == Some(Seal::On) { "sealed" } else { "unsealed" };
        tracing::error!("the machine should be {asked}, and is not: {error}");
    }
    Ok(put)
}

/// What keeps the seal from being what was signed.
#[derive(Debug, thiserror::Error)]
enum SealingError {
    #[error(transparent)]
    Platform(#[from] Refusal),
    #[error(transparent)]
    Kernel(#[from] SealError),
}

/// Makes the seal what was signed. That it is there is measured once it is, and that it is no longer before it ends, so that
/// nobody is shown a seal that is not there.
fn follow_seal(intake: &Intake, admitted: &Admission, sealer: &Sealer<'_>) -> Result<(), SealingError> {
    let sealed = seal::is_sealed(sealer.pins);
    let statement = admitted.record.statement;
    match admitted.seal {
        None if sealed => seal::note_version(sealer.pins, admitted.record.version)?,
        None => {}
        Some(Seal::On) if sealed => {
            seal::note_version(sealer.pins, admitted.record.version)?;
            measure(intake, &Measured::Seal(Seal::On, statement))?;
        }
        Some(Seal::On) => {
            // Held open, so that the libraries by which it is reached are mapped.
            let (anchors, tpm) = trusted(intake)?;
            let terms = Terms {
                version: admitted.record.version,
                statement,
                anchors: anchors.digest,
                settings: sealer.settings,
            };
            seal::seal(sealer.pins, sealer.places, &terms)?;
            drop(tpm);
            tracing::warn!("SEALED: nobody but this daemon changes what is Enforcer's");
            if !is_locked_down(Root(Path::new("/"))) {
                tracing::warn!(
                    "the kernel is not locked down, so root can load other code into it; boot with `lockdown=integrity`"
                );
            }
            measure(intake, &Measured::Seal(Seal::On, statement))?;
        }
        Some(Seal::Off) => {
            measure(intake, &Measured::Seal(Seal::Off, statement))?;
            if sealed {
                seal::unseal(sealer.pins)?;
                own::protect(sealer.pins, sealer.places).map_err(SealError::from)?;
                tracing::warn!("UNSEALED: root may change what is Enforcer's");
            }
        }
    }
    Ok(())
}

/// What this machine trusts, and its TPM, if it is to have one.
fn trusted(intake: &Intake) -> Result<(Anchors, Option<Enrolled>), Refusal> {
    let anchors = Anchors::read(&intake.anchors).map_err(|error| Refusal::Anchors(error.to_string()))?;
    let tpm = match anchors.tpm.mode {
        TpmMode::Require => Some(connect(&anchors)?),
        TpmMode::Off => None,
    };
    Ok((anchors, tpm))
}

/// Puts in force what was taken, keeps a copy, and notes what later checks compare with.
///
/// # Errors
/// [`SessionError`]. After one, what was in force still is.
pub fn put(
    session: &mut Session,
    intake: &Intake,
    taken: &Taken,
    launchers: &[String],
    occasion: &str,
    report: Report<'_>,
) -> Result<Put, SessionError> {
    let put = session.put(&taken.policies, launchers)?;
    tracing::debug!("the policies are in force");
    if let Err(error) = intake.keep(taken) {
        tracing::error!(%error, "the bundle in force cannot be kept for the next start");
    }
    let denies = taken.policies.iter().any(|policy| *policy.trust() == Trust::DenyAll);
    if !denies && let Err(error) = records::note_standing(&intake.places, taken.report.as_ref()) {
        tracing::error!(%error, "what is in force cannot be noted; later checks of the platform do not cover it");
    }
    if let Some(admitted) = &taken.report {
        report(Record::Admission(Box::new(AdmissionRecord::admitted(occasion, admitted))));
    }
    Ok(put)
}

/// Says that policies were refused, in the log of events.
pub fn refused(report: Report<'_>, occasion: &str, error: &IntakeError, consequence: Consequence) {
    let record = AdmissionRecord::refused(occasion, error.reason(), error.to_string(), consequence);
    report(Record::Admission(Box::new(record)));
}

/// What a check of the platform found.
#[derive(Debug)]
pub enum Finding {
    /// Nothing that was signed is in force.
    Unsigned,
    /// It is as it was.
    Well,
    /// What is in force has expired.
    Expired(Standing),
    /// The platform changed, or cannot be proved any more.
    Changed(Box<Refusal>),
}

/// Checks the platform. Waits for the TPM, up to its deadline.
#[must_use]
pub fn check(intake: &Intake) -> Finding {
    let standing = match records::standing(&intake.places) {
        Ok(Some(standing)) => standing,
        Ok(None) => return Finding::Unsigned,
        Err(error) => return Finding::Changed(Box::new(error.into())),
    };
    if standing.is_expired(SystemTime::now()) {
        return Finding::Expired(standing);
    }
    if standing.bound.is_empty() {
        return Finding::Well;
    }
    match platform(intake).and_then(|(_, tpm)| recheck(&tpm, &standing, &intake.places)) {
        Ok(()) => Finding::Well,
        Err(refusal) => Finding::Changed(Box::new(refusal)),
    }
}

/// What this machine trusts, and its TPM.
fn platform(intake: &Intake) -> Result<(Anchors, Enrolled), Refusal> {
    let anchors = Anchors::read(&intake.anchors).map_err(|error| Refusal::Anchors(error.to_string()))?;
    let tpm = connect(&anchors)?;
    Ok((anchors, tpm))
}

/// What follows when policies or the platform are refused while others are in force.
#[must_use]
pub fn consequence(intake: &Intake) -> Consequence {
    match intake.on_refuse() {
        Some(OnRefuse::DenyAll) => Consequence::DenyAll,
        Some(OnRefuse::LastGood) | None => Consequence::Unchanged,
    }
}

/// Raises an alarm, unless it stands already. Tells whether it is new.
#[must_use]
pub fn raise(
    intake: &Intake,
    reason: &str,
    message: &str,
    consequence: Consequence,
    report: Report<'_>,
) -> bool {
    let alarm = Alarm { reason: reason.into(), message: message.into() };
    let standing = records::alarm(&intake.places).ok().flatten();
    if standing.is_some_and(|standing| standing.reason == alarm.reason) {
        return false;
    }
    tracing::error!(reason, ?consequence, "ALARM: {message}");
    report(Record::Admission(Box::new(AdmissionRecord::alarm(reason, message.into(), consequence))));
    if let Err(error) = records::note_alarm(&intake.places, Some(&alarm)) {
        tracing::error!(%error, "the alarm cannot be noted");
    }
    true
}

/// Ends the alarm that stands, if one does.
pub fn all_clear(intake: &Intake) {
    if matches!(records::alarm(&intake.places), Ok(Some(_))) {
        tracing::warn!("the alarm is over: the platform is proved again");
        if let Err(error) = records::note_alarm(&intake.places, None) {
            tracing::error!(%error, "the alarm cannot be ended");
        }
    }
}

/// Measures that nothing is allowed any more. Best effort: denying does not wait for a TPM.
pub fn measure_denial(intake: &Intake, reason: &'static str) {
    if let Err(error) = platform(intake)
        .and_then(|(anchors, tpm)| measure_with(intake, &anchors, &tpm, &Measured::DenyAll(reason)))
    {
        tracing::error!(%error, "it cannot be measured that nothing is allowed");
    }
}

/// Measures something, if there is to be a TPM.
fn measure(intake: &Intake, measured: &Measured) -> Result<(), Refusal> {
    let (anchors, tpm) = trusted(intake)?;
    tpm.map_or(Ok(()), |tpm| measure_with(intake, &anchors, &tpm, measured))
}

fn measure_with(
    intake: &Intake,
    anchors: &Anchors,
    tpm: &Enrolled,
    measured: &Measured,
) -> Result<(), Refusal> {
    let measurements = Measurements::open(&intake.places, anchors)?;
    let pcr = measurements.pcr();
    let current = tpm.read_pcrs(&[pcr].into())?;
    measurements.measure(tpm, current.get(pcr), std::slice::from_ref(measured)).map(drop)
}
