//! From paths to policies that may be installed: what `run`, `apply` and the daemon's reload have in common.
//!
//! Files are read once. Signed ones go through admission, unsigned ones need consent twice, of the command line and of the
//! anchors. Nothing here changes what is in force.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{
    admission::{Enrolled, Machine, Places, Refusal, Report, admit},
    bundle::{
        anchors::{Anchors, AnchorsError, OnRefuse},
        signed::{BundleError, BundleFiles, ENDING, SignedSet},
        sources::{self, Sources, SourcesError},
        verify::{Candidate, InsecureUnsigned, VerifiedBundle},
    },
    file,
    kernel::load::object_sha256,
    policy::compile,
    tpm::{DEADLINE, Pins, Tpm},
};

/// Where policies come from and who vouches for them.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Policy files and directories.
    pub policies: Vec<PathBuf>,
    /// What this machine trusts.
    pub anchors: PathBuf,
    /// Whether the command line consents to policies that nobody signed.
    pub insecure_unsigned: bool,
    /// Where the machine keeps its records.
    pub places: Places,
}

/// Policies that may be installed.
#[derive(Clone, Debug)]
pub struct Taken {
    /// They.
    pub policies: Vec<VerifiedBundle>,
    /// On what grounds; none if nobody signed them.
    pub report: Option<Report>,
    /// What was read, if it was a bundle.
    files: Option<BundleFiles>,
}

/// Policies that were not taken.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The anchors.
    #[error(transparent)]
    Anchors(#[from] AnchorsError),
    /// The files.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// No bundle where there has to be one.
    #[error(
        "there is no bundle (*.pcrsig.json) in {}, but the anchors name keys, so there has to be one",
        list(looked)
    )]
    NoBundle {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// The bundle, or the platform's state.
    #[error("{origin} is refused: {refusal}")]
    Refused {
        /// The bundle.
        origin: String,
        /// Why.
        #[source]
        refusal: Box<Refusal>,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    if paths.is_empty() { "no directory".into() } else { paths.join(", ") }
}

impl IntakeError {
    /// For programs: a word that stays.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Anchors(_) => "anchors",
            Self::Sources(SourcesError::Unsigned { .. }) => "unsigned",
            Self::Sources(SourcesError::Mistakes(_)) => "mistakes",
            Self::Sources(_) => "files",
            Self::NoBundle { .. } => "no-bundle",
            Self::Refused { refusal, .. } => refusal.reason(),
        }
    }
}

impl Intake {
    /// Takes the policies as they are now. `fits` tells whether they can be installed.
    ///
    /// # Errors
    /// [`IntakeError`].
    pub fn take(&self, fits: impl FnOnce(&[Candidate]) -> Result<(), String>) -> Result<Taken, IntakeError> {
        match sources::read(&self.policies)? {
            Sources::Unsigned(policies) if policies.is_empty() => {
                // Where signed policies are expected, none is not "nothing to do": somebody removed them.
                if self.anchors.exists() && !Anchors::read(&self.anchors)?.keys.is_empty() {
                    return Err(IntakeError::NoBundle { looked: self.policies.clone() });
                }
                Ok(Taken { policies: Vec::new(), report: None, files: None })
            }
            Sources::Unsigned(policies) => {
                let anchors = Anchors::read(&self.anchors)?;
                let consent = InsecureUnsigned::of(self.insecure_unsigned, anchors.unsigned);
                let policies = sources::accept_unsigned(policies, consent)?;
                Ok(Taken { policies, report: None, files: None })
            }
            Sources::Bundle(files) => self.admit(files, &Anchors::read(&self.anchors)?, fits),
        }
    }

    /// Takes the bundle that was admitted last, from the machine's own copy. It is admitted anew: who could change the copy
    /// could not change what the keys signed and the TPM noted.
    ///
    /// # Errors
    /// [`IntakeError`].
    pub fn take_last_good(
        &self,
        fits: impl FnOnce(&[Candidate]) -> Result<(), String>,
    ) -> Result<Taken, IntakeError> {
        self.copy(&self.last_good()).take(fits)
    }

    /// Takes the break-glass bundle that is in use, if one is.
    #[must_use]
    pub fn break_glass(&self) -> Option<Self> {
        let directory = self.places.state.join("break-glass");
        directory.is_dir().then(|| self.copy(&directory))
    }

    fn last_good(&self) -> PathBuf {
        self.places.state.join("last-good")
    }

    fn copy(&self, directory: &Path) -> Self {
        Self { policies: vec![directory.to_owned()], ..self.clone() }
    }

    /// What to do when what should be in force is refused. `None`: this machine takes no signed policies.
    #[must_use]
    pub fn on_refuse(&self) -> Option<OnRefuse> {
        match Anchors::read(&self.anchors) {
            Ok(anchors) => (!anchors.keys.is_empty()).then_some(anchors.on_refuse),
            // Spoilt anchors leave what is in force alone.
            Err(_) => self.anchors.exists().then_some(OnRefuse::LastGood),
        }
    }

    /// Policies for the same workloads that allow nothing: of the bundle admitted last, else of what is there to be read.
    /// Signatures do not matter, as nothing is granted.
    #[must_use]
    pub fn deny_all(&self) -> Taken {
        let read = |intake: &Self| match sources::read(&intake.policies) {
            Ok(Sources::Bundle(files)) => files.policies.into_values().collect(),
            Ok(Sources::Unsigned(policies)) => policies,
            Err(_) => Vec::new(),
        };
        let denied = |intake: &Self| -> Vec<VerifiedBundle> {
            let candidates: Vec<Candidate> =
                read(intake).into_iter().filter_map(|source| Candidate::compile(source).ok()).collect();
            VerifiedBundle::deny_all(&candidates).unwrap_or_else(|error: compile::CompileError| {
                tracing::error!(?error, "nothing does not fit");
                Vec::new()
            })
        };
        let last_good = denied(&self.copy(&self.last_good()));
        let policies = if last_good.is_empty() { denied(self) } else { last_good };
        Taken { policies, report: None, files: None }
    }

    /// Forgets the break-glass bundle in use.
    pub fn end_break_glass(&self) {
        if let Err(error) = file::remove_directory(&self.places.state.join("break-glass")) {
            tracing::error!(%error, "the break-glass bundle cannot be removed");
        }
    }

    fn admit(
        &self,
        files: BundleFiles,
        anchors: &Anchors,
        fits: impl FnOnce(&[Candidate]) -> Result<(), String>,
    ) -> Result<Taken, IntakeError> {
        let origin = files.origin.clone();
        let refused =
            |refusal: Refusal| IntakeError::Refused { origin: origin.clone(), refusal: Box::new(refusal) };
        let object = object_sha256();
        let set = match SignedSet::open(files.clone(), anchors, &object, SystemTime::now()) {
            Ok(set) => set,
            // Drawn, with their places.
            Err(BundleError::Mistakes(mistakes)) => return Err(SourcesError::Mistakes(mistakes).into()),
            Err(error) => return Err(refused(error.into())),
        };
        tracing::debug!("the signatures hold");
        let machine = Machine { anchors, places: &self.places, object: &object };
        let (admitted, report) = admit(set, &machine, || connect(anchors), fits).map_err(refused)?;
        tracing::debug!("the bundle is admitted");
        let policies = VerifiedBundle::accept_admitted(admitted);
        Ok(Taken { policies, report: Some(report), files: Some(files) })
    }

    /// Keeps a copy of what is in force now, for the next boot and for those that follow a refusal.
    ///
    /// # Errors
    /// From the files; then the copy that was there still is.
    pub fn keep(&self, taken: &Taken) -> io::Result<()> {
        let (Some(files), Some(report)) = (&taken.files, &taken.report) else { return Ok(()) };
        let break_glass = self.places.state.join("break-glass");
        if matches!(report.trust, crate::bundle::verify::Trust::BreakGlass(_)) {
            return keep(files, &break_glass);
        }
        keep(files, &self.last_good())?;
        file::remove_directory(&break_glass)
    }
}

/// The enrolled TPM, and no other.
///
/// # Errors
/// [`Refusal`].
pub fn connect(anchors: &Anchors) -> Result<Enrolled, Refusal> {
    let (Some(ek), Some(ak)) = (&anchors.tpm.ek_sha256, &anchors.tpm.ak_name) else {
        return Err(Refusal::NotEnrolled);
    };
    let (mut ek_sha256, mut ak_name) = ([0; 32], [0; 34]);
    hex::decode_to_slice(ek, &mut ek_sha256)
        .and_then(|()| hex::decode_to_slice(ak, &mut ak_name))
        .map_err(|_| Refusal::NotEnrolled)?;
    let tpm = Tpm::open_pinned(&anchors.tpm.tcti, DEADLINE, &Pins { ek_sha256, ak_name })?;
    Ok(Enrolled::new(tpm, ak_name))
}

/// The signatures of the bundle in force, from the machine's own copy.
#[must_use]
pub fn bundle_in_force(places: &Places) -> Option<Vec<u8>> {
    let name = format!("bundle{ENDING}");
    let copies = ["break-glass", "last-good"].map(|directory| places.state.join(directory).join(&name));
    copies.into_iter().find_map(|path| fs::read(path).ok())
}

fn keep(files: &BundleFiles, directory: &Path) -> io::Result<()> {
    let signatures = format!("bundle{ENDING}");
    let policies = files.policies.iter().map(|(name, source)| (name.as_str(), source.bytes.as_slice()));
    file::replace_directory(
        directory,
        [(signatures.as_str(), files.signatures.as_slice())].into_iter().chain(policies),
    )
}
