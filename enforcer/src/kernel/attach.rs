//! From nothing, or from an older enforcer, to all programs attached and pinned, without a gap.
//!
//! A set of links is put up whole under a temporary name, then named, and only then are other sets removed. LSM
//! refusals add up, so two sets side by side refuse what either refuses.
#![forbid(unsafe_code)]

use enforcer_common::hook::Hook;

use super::{
    btf::KernelTypes,
    load::{self, LoadError, Object, SetUp},
    pin::{PinError, Pins, Presence},
};

/// How enforcement came to be on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// Nothing was there.
    Started,
    /// The same programs were running already and were left alone.
    Adopted,
    /// Other programs were running; ours were put beside them, then they were retired.
    Replaced {
        /// Their sets of links.
        retired: Vec<String>,
    },
}

/// Enforcement that could not be turned on.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Loading failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Pinning failed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map that was just made is not there.
    #[error("the pinned map CONTROL cannot be opened; another process is removing pins")]
    NoControl,
}

/// Enforcement that is on.
pub struct Attached {
    /// How it came about.
    pub takeover: Takeover,
    /// The hooks that programs sit on.
    pub hooks: Vec<Hook>,
    /// The object, for its log.
    pub object: Object,
}

/// Turns enforcement on. The caller holds the installers' lock.
///
/// # Errors
/// [`AttachError`]. What was attached before still is, and nothing half-made stays behind.
pub fn start(types: &KernelTypes, set_up: &SetUp, pins: &Pins) -> Result<Attached, AttachError> {
    let hooks = load::available_hooks(types)?;
    pins.create()?;
    if pins.maps_presence() == Presence::Partial {
        tracing::warn!(
            "some pinned maps are gone: starting with fresh ones, policies have to be installed again"
        );
        pins.remove_maps()?;
    }
    let mut object = load::prepare(types, set_up, Some(pins))?;
    let digest = load::object_digest();
    let ours = pins.link_set(digest, pins.control_id().ok_or(AttachError::NoControl)?);
    let adopted = ours.presence(&hooks) == Presence::Complete;
    if !adopted {
        object.load_programs(&hooks)?;
        let staged = pins.stage(digest)?;
        let put_up = hooks.iter().try_for_each(|hook| {
            let link = object.attach(*hook)?;
            staged.pin(*hook, link).map_err(AttachError::from)
        });
        if let Err(error) = put_up {
            // Best effort: the next start removes it as well.
            let _ = staged.remove();
            return Err(error);
        }
        // An incomplete set of the same name. The staged one is attached already.
        ours.remove()?;
        staged.promote(&ours)?;
    }
    let mut retired = Vec::new();
    for set in pins.link_sets()?.into_iter().filter(|set| *set != ours) {
        set.remove()?;
        retired.push(set.name());
    }
    let takeover = match (adopted, retired.is_empty()) {
        (true, _) => Takeover::Adopted,
        (false, true) => Takeover::Started,
        (false, false) => Takeover::Replaced { retired },
    };
    Ok(Attached { takeover, hooks, object })
}

/// Turns enforcement off and forgets all policies.
///
/// # Errors
/// [`PinError`].
pub fn unload(pins: &Pins) -> Result<(), PinError> {
    pins.remove_all()
}
