//! The worker's side: one connection to a TPM, with the two keys it has loaded there.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io,
    path::Path,
    str::FromStr as _,
    thread,
    time::{Duration, Instant},
};

use tss_esapi::{
    Context, TctiNameConf,
    attributes::SessionAttributesBuilder,
    constants::SessionType,
    handles::SessionHandle,
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::SymmetricDefinition,
};

use super::{
    Pins, Tcti, TpmError,
    code::{Meaning, Refusal},
    keys::LoadedKey,
};

/// How often a TPM may say "later". With the pauses below that is about three seconds.
const ATTEMPTS: u32 = 8;
/// Before the second attempt; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// A connection to one TPM. What it loads there, it flushes.
pub(super) struct Connection {
    tcti: Tcti,
    until: Instant,
    pub(super) pins: Option<Pins>,
    /// Absent while the raw connection has the TPM to itself.
    context: Option<Context>,
    /// Of `context`, salted to its endorsement key.
    session: Option<AuthSession>,
    pub(super) endorsement: Option<LoadedKey>,
    pub(super) attestation: Option<LoadedKey>,
}

impl Connection {
    pub(super) fn new(tcti: Tcti, until: Instant, pins: Option<Pins>) -> Self {
        Self { tcti, until, pins, context: None, session: None, endorsement: None, attestation: None }
    }

    /// Opens the connection unless it is open.
    pub(super) fn open(&mut self) -> Result<&mut Context, TpmError> {
        if self.context.is_none() {
            look_for(&self.tcti, self.until)?;
            let name = TctiNameConf::from_str(&self.tcti.to_string()).map_err(Refusal::from);
            let context = name.and_then(|name| Context::new(name).map_err(Refusal::from));
            let context = context.map_err(|refusal| match (&self.tcti, refusal.meaning()) {
                (Tcti::Swtpm { .. }, _) | (_, Meaning::Disconnected) => {
                    TpmError::Absent { tcti: self.tcti.clone(), reason: refusal.to_string() }
                }
                _ => protocol("opening the connection", refusal),
            })?;
            self.context = Some(context);
        }
        self.context.as_mut().ok_or(TpmError::Failed { reason: "the connection is closed".to_owned() })
    }

    /// Flushes what was loaded and closes the connection.
    pub(super) fn close(&mut self) {
        self.session = None;
        self.endorsement = None;
        self.attestation = None;
        // The context flushes what it loaded. Where that fails, the TPM is gone.
        self.context = None;
    }

    /// Gives one command, again while the TPM asks for that.
    pub(super) fn command<T>(
        &mut self,
        command: &'static str,
        mut give: impl FnMut(&mut Context) -> Result<T, tss_esapi::Error>,
    ) -> Result<T, TpmError> {
        self.attempt(command, |context| give(context).map_err(Refusal::from))
            .map_err(|refused| refused.describe(command))
    }

    /// The same, for commands whose refusal the caller understands.
    pub(super) fn attempt<T>(
        &mut self,
        command: &'static str,
        mut give: impl FnMut(&mut Context) -> Result<T, Refusal>,
    ) -> Result<T, Refused> {
        let (until, tcti) = (self.until, self.tcti.clone());
        let context = self.open().map_err(Refused::Known)?;
        let started = Instant::now();
        let result = retry(command, until, &tcti, || give(context));
        tracing::debug!(command, took = ?started.elapsed(), "the TPM answered");
        if let Err(Refused::Known(TpmError::Disconnected { .. })) = result {
            // The library takes no more commands then. The next request connects anew, and compares the keys again.
            self.close();
        }
        result
    }

    /// The deadline and the TPM's place, for the raw connection.
    pub(super) fn for_raw(&self) -> (Instant, &Tcti) {
        (self.until, &self.tcti)
    }

    /// Gives commands within a session that only the TPM with our endorsement key can follow: it is salted to that
    /// key, both sides prove each message with it, and what can be encrypted in it is.
    ///
    /// Commands that fail with something else than "later" end it all, and the session; after others it stays for the
    /// next.
    pub(super) fn in_session<T>(
        &mut self,
        command: &'static str,
        mut give: impl FnMut(&mut Context) -> Result<T, Refusal>,
    ) -> Result<T, Refused> {
        let session = self.session()?;
        let result = self
            .attempt(command, |context| context.execute_with_session(Some(session), |context| give(context)));
        if result.is_err() && self.session.take().is_some() {
            return self.flush_session(session, result);
        }
        result
    }

    fn session(&mut self) -> Result<AuthSession, Refused> {
        if let Some(session) = self.session {
            return Ok(session);
        }
        let key = self.endorsement_key().map_err(Refused::Known)?.handle;
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_decrypt(true)
            .with_encrypt(true)
            .with_continue_session(true)
            .build();
        let session = self.attempt("TPM2_StartAuthSession", |context| {
            let session = context.start_auth_session(
                Some(key),
                None,
                None,
                SessionType::Hmac,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )?;
            let session = session.ok_or(Refusal::Wrapper(tss_esapi::WrapperErrorKind::WrongValueFromTpm))?;
            context.tr_sess_set_attributes(session, attributes, mask)?;
            Ok(session)
        })?;
        self.session = Some(session);
        Ok(session)
    }

    /// Flushes a session. A failure counts unless something failed before.
    pub(super) fn flush_session<T>(
        &mut self,
        session: AuthSession,
        result: Result<T, Refused>,
    ) -> Result<T, Refused> {
        let flushed = self.attempt("TPM2_FlushContext", |context| {
            context.clear_sessions();
            Ok(context.flush_context(SessionHandle::from(session).into())?)
        });
        result.and_then(|value| flushed.map(|()| value))
    }
}

/// A command failed.
#[derive(Debug)]
pub(super) enum Refused {
    /// In a way that says enough.
    Known(TpmError),
    /// With an answer that the caller may understand.
    Answer(Refusal),
}

impl Refused {
    /// As an error, when the caller knows no better.
    pub(super) fn describe(self, command: &'static str) -> TpmError {
        match self {
            Self::Known(error) => error,
            Self::Answer(refusal) => protocol(command, refusal),
        }
    }

    /// The error if this is its meaning, else the general one.
    pub(super) fn meaning(&self) -> Meaning {
        match self {
            Self::Known(_) => Meaning::Other,
            Self::Answer(refusal) => refusal.meaning(),
        }
    }
}

impl From<TpmError> for Refused {
    fn from(error: TpmError) -> Self {
        Self::Known(error)
    }
}

fn protocol(command: &'static str, refusal: Refusal) -> TpmError {
    let reason = refusal.to_string();
    match refusal {
        Refusal::Wrapper(_) => TpmError::Malformed { command, reason },
        Refusal::Code(_) if refusal.meaning() == Meaning::Failed => TpmError::Failed { reason },
        Refusal::Code(_) => TpmError::Protocol { command, reason },
    }
}

/// Gives a command until the TPM does something else than asking for patience.
pub(super) fn retry<T>(
    command: &'static str,
    until: Instant,
    tcti: &Tcti,
    mut give: impl FnMut() -> Result<T, Refusal>,
) -> Result<T, Refused> {
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let refusal = match give() {
            Ok(value) => return Ok(value),
            Err(refusal) => refusal,
        };
        let reason = refusal.to_string();
        match refusal.meaning() {
            Meaning::Later if attempt < ATTEMPTS && Instant::now() + pause < until => {}
            Meaning::Later => return Err(TpmError::Busy { command, attempts: attempt, reason }.into()),
            Meaning::Disconnected => {
                return Err(TpmError::Disconnected { tcti: tcti.clone(), command, reason }.into());
            }
            _ => return Err(Refused::Answer(refusal)),
        }
        thread::sleep(pause);
        pause *= 2;
    }
    unreachable!("an attempt before the last one returns or continues, the last one returns")
}

/// Says why a device cannot be opened, which the TPM stack does not. One that is in use (`/dev/tpm0` has one user at a
/// time) is waited for like a busy TPM.
fn look_for(tcti: &Tcti, until: Instant) -> Result<(), TpmError> {
    let Tcti::Device(path) = tcti else { return Ok(()) };
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let Err(error) = touch(path) else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::EBUSY) if attempt < ATTEMPTS && Instant::now() + pause < until => {}
            Some(libc::EBUSY) => {
                let reason = error.to_string();
                return Err(TpmError::Busy { command: "opening the device", attempts: attempt, reason });
            }
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR) => {
                return Err(TpmError::Absent { tcti: tcti.clone(), reason: error.to_string() });
            }
            Some(libc::EACCES | libc::EPERM) => return Err(TpmError::Denied { tcti: tcti.clone() }),
            _ => return Err(TpmError::System { what: "opening the device", source: error }),
        }
        thread::sleep(pause);
        pause *= 2;
    }
    Ok(())
}

fn touch(path: &Path) -> io::Result<()> {
    File::options().read(true).write(true).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{super::code::Code, *};

    fn asked(answers: &mut Vec<u32>, until: Instant) -> Result<(), Refused> {
        retry("TPM2_Test", until, &Tcti::first_device(), || match answers.pop() {
            None | Some(0) => Ok(()),
            Some(code) => Err(Refusal::Code(Code::new(code))),
        })
    }

    #[test]
    fn a_tpm_that_asks_for_patience_gets_it() {
        let later = Instant::now() + Duration::from_secs(60);
        let mut answers = vec![0, 0x90a, 0x908, 0x922];
        assert!(asked(&mut answers, later).is_ok());
        assert!(answers.is_empty(), "asked once per answer");
    }

    #[test]
    fn patience_ends() {
        let mut answers = vec![0x922; 100];
        let soon = Instant::now() + FIRST_PAUSE * 4;
        let error = asked(&mut answers, soon).unwrap_err();
        assert!(matches!(error, Refused::Known(TpmError::Busy { attempts: 1..=3, .. })), "{error:?}");
        assert!(Instant::now() < soon, "it does not wait longer than there is time");
    }

    #[test]
    fn other_answers_are_final() {
        let later = Instant::now() + Duration::from_secs(60);
        for (code, meaning) in [(0x126, Meaning::Other), (0x14b, Meaning::NvFull), (0x921, Meaning::Other)] {
            let mut answers = vec![0, code];
            let error = asked(&mut answers, later).unwrap_err();
            assert_eq!(error.meaning(), meaning);
            assert_eq!(answers.len(), 1, "asked once");
        }
        let mut answers = vec![0, 0xa_000a];
        let error = asked(&mut answers, later).unwrap_err();
        assert!(matches!(error, Refused::Known(TpmError::Disconnected { .. })), "{error:?}");
    }

    #[test]
    fn a_missing_device_is_told_from_a_foreign_one() {
        let later = Instant::now() + Duration::from_secs(60);
        let error = look_for(&Tcti::Device("/nonexistent/tpmrm0".into()), later).unwrap_err();
        assert!(matches!(error, TpmError::Absent { .. }), "{error:?}");
        let error = look_for(&Tcti::Device("/dev/null/tpmrm0".into()), later).unwrap_err();
        assert!(matches!(error, TpmError::Absent { .. }), "{error:?}");
        let error = look_for(&Tcti::Device("/".into()), later).unwrap_err();
        assert!(matches!(error, TpmError::System { .. }), "{error:?}");
    }
}
