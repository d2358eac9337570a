//! Unified kernel images: PCR 11 as systemd-stub and systemd's boot phases make it.
//!
//! systemd-stub measures, for each section it knows and in an order of its own, first the name with a NUL, then the
//! content; systemd's `systemd-pcrextend` then measures a word whenever the boot has come further. See systemd's
//! `docs/TPM2_PCR_MEASUREMENTS.md` and `src/fundamental/uki.h`.

use super::pe::{Image, ImageError};
use crate::measured::pcr::{PcrIndex, PcrValue, extend};

/// The sections that are measured, in this order. `.pcrsig` is not: it signs the result.
const MEASURED: &[&str] =
    &[".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"];

/// Sections that make the stub choose among others at boot.
const CHOOSING: &[&str] = &[".profile", ".dtbauto", ".hwids", ".efifw"];

/// How far a boot has come, as systemd measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The initrd began.
    EnterInitrd,
    /// The initrd ended.
    LeaveInitrd,
    /// Local file systems are there.
    Sysinit,
    /// Services run.
    Ready,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::EnterInitrd, Self::LeaveInitrd, Self::Sysinit, Self::Ready];

    /// The word that is measured.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::EnterInitrd => "enter-initrd",
            Self::LeaveInitrd => "leave-initrd",
            Self::Sysinit => "sysinit",
            Self::Ready => "ready",
        }
    }
}

/// A unified kernel image, of which it is certain what is measured.
#[derive(Clone, Debug)]
pub struct Uki<'a> {
    image: Image<'a>,
    sections: Vec<(&'static str, &'a [u8])>,
}

/// Why PCR 11 cannot be predicted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// No program at all.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Another kind of program.
    #[error("this EFI program is no unified kernel image: it has no section .linux")]
    NoKernel,
    /// Two sections of one name.
    #[error("this unified kernel image has two sections {0}, and which one is measured depends on the stub")]
    Twice(&'static str),
    /// The stub decides at boot.
    #[error(
        "this unified kernel image has a section {0}: what is measured is chosen at boot. Boot the machine with it once and \
         take PCR 11 from there"
    )]
    Choosing(&'static str),
}

impl<'a> Uki<'a> {
    /// Reads a unified kernel image.
    ///
    /// # Errors
    /// [`UkiError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UkiError> {
        let image = Image::parse(bytes)?;
        let named = |name: &'static str| image.sections().iter().filter(move |it| it.name == name.as_bytes());
        if let Some(name) = CHOOSING.iter().find(|name| named(name).next().is_some()) {
            return Err(UkiError::Choosing(name));
        }
        let mut sections = Vec::new();
        for name in MEASURED {
            let mut same = named(name);
            if let Some(section) = same.next() {
                sections.push((*name, section.content()?));
            }
            if same.next().is_some() {
                return Err(UkiError::Twice(name));
            }
        }
        match sections.first() {
            Some((".linux", _)) => Ok(Self { image, sections }),
            _ => Err(UkiError::NoKernel),
        }
    }

    /// The image itself, which the firmware measures into PCR 4.
    #[must_use]
    pub const fn image(&self) -> &Image<'a> {
        &self.image
    }

    /// The kernel inside, which the firmware measures into PCR 4 as well, when the stub starts it.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn kernel(&self) -> Result<Image<'a>, ImageError> {
        self.section(".linux").map_or(Err(ImageError::Damaged("no section .linux")), Image::parse)
    }

    /// A section that is measured.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.sections.iter().find(|(known, _)| *known == name).map(|(_, content)| *content)
    }

    /// What is measured into PCR 11 before the kernel starts: a name and a content in turn.
    pub fn measurements(&self) -> impl Iterator<Item = PcrValue> {
        self.sections.iter().flat_map(|(name, content)| {
            let name_with_nul = [name.as_bytes(), b"\0"].concat();
            [PcrValue::digest_of(&name_with_nul), PcrValue::digest_of(content)]
        })
    }

    /// PCR 11 once these phases have been reached. None: when the kernel starts.
    #[must_use]
    pub fn pcr_11(&self, phases: &[Phase]) -> PcrValue {
        let words = phases.iter().map(|phase| PcrValue::digest_of(phase.word().as_bytes()));
        self.measurements().chain(words).fold(PcrIndex::UNIFIED_KERNEL.start(), extend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::predict::testing::Program;

    const ALL: &[(&[u8], &[u8])] = &[
        // Not in the order in which they are measured, as in real images.
        (b".text", b"stub"),
        (b".sbat", b"sbat,1\n"),
        (b".osrel", b"ID=test\nVERSION_ID=1\n"),
        (b".cmdline", b"quiet lockdown=integrity"),
        (b".uname", b"6.12.107"),
        (b".pcrpkey", b"key"),
        (b".pcrsig", b"{}"),
        (b".dtb", b"tree"),
        (b".splash", b"BM"),
        (b".linux", b"this is the kernel"),
        (b".ucode", b"microcode"),
        (b".initrd", b"this is the initrd"),
    ];
    const SOME: &[(&[u8], &[u8])] = &[
        (b".linux", b"this is the kernel"),
        (b".cmdline", b"quiet lockdown=integrity"),
        (b".initrd", b"this is the initrd"),
    ];

    fn predicted(sections: &[(&[u8], &[u8])], phases: &[Phase]) -> String {
        Uki::parse(&Program::new(sections).build()).unwrap().pcr_11(phases).to_string()
    }

    /// From systemd-measure 257 (`calculate --bank=sha256 --linux=linux …`), each section's content in a file.
    #[test]
    fn pcr_11_is_what_systemd_measure_says() {
        let all = [
            "958e475a1941b350297a0f7bf88351dc53bec879510b56134ede17a187724e6b",
            "6cfebaf2debdce10d755225770cf2c10dd8b951dd495095f55c469a553c616da",
            "6cfa3e78038996269051327d61ed9d83e3820fc2fe878a8d1a41e5c27bc023d3",
            "044cdeaaef1792f34dcb6a652737a1dc6bfe8eaebd4c2c9981f255fba0a9ff10",
            "01db902dd5c931e54d239900ef37e0660d719458c8000625ac7e64733bd58552",
        ];
        for (reached, expected) in all.iter().enumerate() {
            assert_eq!(predicted(ALL, &Phase::ALL[..reached]), *expected, "after {reached} phases");
        }
        assert_eq!(predicted(SOME, &[]), "e050b051979ffdd7381b81ad7e737b2061b103d2f90f2fa8f05c118e7431c77f");
        assert_eq!(
            predicted(SOME, &Phase::ALL),
            "640adf805fda1634c1130ae8dcea9bc7e14e7527fc01a68e0d67c33c71ddcfaf"
        );
    }

    #[test]
    fn what_is_not_certain_is_refused() {
        let image = |sections: &[(&[u8], &[u8])]| {
            Uki::parse(&Program::new(sections).build()).map(|_| ()).unwrap_err()
        };
        assert_eq!(image(&[(b".text", b"x")]), UkiError::NoKernel);
        assert_eq!(image(&[(b".osrel", b"x"), (b".text", b"x")]), UkiError::NoKernel);
        assert_eq!(image(&[SOME, SOME].concat()), UkiError::Twice(".linux"));
        for name in CHOOSING {
            assert_eq!(image(&[SOME, &[(name.as_bytes(), b"x")]].concat()), UkiError::Choosing(name));
        }
        assert!(matches!(Uki::parse(b"MZ"), Err(UkiError::Image(_))));
    }

    #[test]
    fn the_kernel_inside_is_a_program_of_its_own() {
        let kernel = Program::new(&[(b".text", b"kernel")]).build();
        let bytes = Program::new(&[(b".linux", &kernel)]).build();
        let uki = Uki::parse(&bytes).unwrap();
        assert_eq!(uki.kernel().unwrap().authenticode(), Image::parse(&kernel).unwrap().authenticode());
        assert_ne!(uki.image().authenticode(), uki.kernel().unwrap().authenticode());
        let none = Program::new(SOME).build();
        assert!(Uki::parse(&none).unwrap().kernel().is_err());
    }
}
