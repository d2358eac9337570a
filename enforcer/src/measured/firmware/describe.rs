//! What an event was, in words, and whether its digest proves them.
//!
//! A log's words are worth what its digests say: where an event's type defines that the data itself is hashed, the
//! digest is computed anew. What is hashed instead of the data (a kernel image, an initrd) can only be *said* to be that.

use std::fmt;

use super::{
    FirmwareLog,
    event::{Event, EventKind},
    fields::{BootEntry, Image, Tagged, Variable, text_of},
};
use crate::measured::pcr::{PcrIndex, PcrValue};

/// The component of a program without a file: a kernel that a unified image or a boot loader brought along.
pub(crate) const OUT_OF_MEMORY: &str = "boot application out of memory";

/// One event, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The register.
    pub pcr: PcrIndex,
    /// What part of the boot it was: `kernel command line`, `initrd`, `Secure Boot policy: db`.
    pub component: String,
    /// What the log tells about it; may be empty. Free of control characters, and short.
    pub text: String,
    /// Whether the register vouches for the words.
    pub grounds: Grounds,
}

/// Why a description can be believed, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// The words themselves were measured.
    Measured,
    /// Something else was measured, and the log says that it was this.
    Claimed,
    /// The words should have been measured, but others were: someone changed the log.
    Contradicted,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PCR {}: {}", self.pcr, self.component)?;
        if !self.text.is_empty() {
            write!(f, " `{}`", self.text)?;
        }
        match self.grounds {
            Grounds::Measured => Ok(()),
            Grounds::Claimed => f.write_str(" (as the log says)"),
            Grounds::Contradicted => f.write_str(" (the log says so, but something else was measured)"),
        }
    }
}

impl FirmwareLog {
    /// All events in words.
    pub fn describe(&self) -> impl Iterator<Item = Description> {
        self.events.iter().map(describe)
    }
}

/// An event in words.
#[must_use]
pub fn describe(event: &Event) -> Description {
    let (component, text) = words(event);
    Description { pcr: event.pcr, component, text: shown(&text), grounds: grounds(event) }
}

/// Whether the event's digest is that of its data, in one of the ways its type knows.
fn grounds(event: &Event) -> Grounds {
    let (hashed, defined) = preimages(event);
    if hashed.iter().any(|bytes| PcrValue::digest_of(bytes) == event.digest) {
        Grounds::Measured
    } else if defined {
        Grounds::Contradicted
    } else {
        Grounds::Claimed
    }
}

/// What may have been hashed for this event as far as its data tells, and whether it must have been one of that.
fn preimages(event: &Event) -> (Vec<Vec<u8>>, bool) {
    let whole = event.data.clone();
    match event.kind {
        // After a failure the firmware measures the number one, and puts into the data what failed.
        EventKind::SEPARATOR => (vec![whole, 1_u32.to_le_bytes().to_vec()], true),
        EventKind::ACTION
        | EventKind::EFI_ACTION
        | EventKind::S_CRTM_VERSION
        | EventKind::EFI_GPT_EVENT
        | EventKind::EFI_VARIABLE_DRIVER_CONFIG
        | EventKind::EFI_VARIABLE_AUTHORITY
        | EventKind::EFI_VARIABLE_BOOT2 => (vec![whole], true),
        EventKind::EFI_VARIABLE_BOOT => {
            let content = Variable::read(&event.data).map(|variable| variable.content.to_vec());
            (content.into_iter().chain([whole]).collect(), true)
        }
        EventKind::EVENT_TAG => {
            let tagged = Tagged::read(&event.data).map(|tagged| tagged.data.to_vec());
            (tagged.into_iter().chain([whole]).collect(), false)
        }
        EventKind::IPL => (boot_loader_preimages(event), false),
        _ => (vec![whole], false),
    }
}

/// GRUB hashes a command without the words that it puts before it; systemd-stub measures a section's name as a C string,
/// then the section, and writes the name in UTF-16 both times.
fn boot_loader_preimages(event: &Event) -> Vec<Vec<u8>> {
    let text = text_of(&event.data);
    let mut hashed = vec![event.data.clone(), text.clone().into_bytes()];
    if let Some((_, command)) = GRUB.iter().find_map(|(prefix, _)| Some((prefix, text.strip_prefix(prefix)?)))
    {
        hashed.push(command.as_bytes().to_vec());
    }
    if event.pcr == PcrIndex::UNIFIED_KERNEL {
        hashed.push([text.as_bytes(), b"\0"].concat());
    }
    hashed
}

/// How GRUB's texts begin, and what they are about.
const GRUB: &[(&str, &str)] = &[
    ("grub_cmd: ", "GRUB command"),
    ("kernel_cmdline: ", "kernel command line"),
    ("module_cmdline: ", "kernel module's command line"),
];

/// Numbers in tagged events, as Linux (`drivers/firmware/efi/libstub`) and systemd (`src/fundamental/tpm-pcr.h`) choose
/// them.
const TAGS: &[(u32, &str)] = &[
    (0x8f3b_22ec, "initrd"),
    (0x8f3b_22ed, "kernel command line"),
    (0xf5bc_582a, "systemd-boot configuration"),
    (0x6c46_f751, "device tree add-on"),
    (0x49df_fe0f, "initrd add-on"),
    (0xdac0_8e1a, "microcode add-on"),
    (0x13ae_d6db, "unified kernel profile"),
];

fn words(event: &Event) -> (String, String) {
    let data = &event.data;
    match event.kind {
        EventKind::SEPARATOR => separator(data),
        EventKind::ACTION | EventKind::EFI_ACTION => ("firmware action".into(), text_of(data)),
        EventKind::POST_CODE => ("firmware code".into(), text_of(data)),
        EventKind::S_CRTM_CONTENTS => ("first firmware code".into(), text_of(data)),
        EventKind::S_CRTM_VERSION => ("firmware version".into(), text_of(data)),
        EventKind::EFI_HCRTM_EVENT => ("first firmware code, by the processor".into(), text_of(data)),
        EventKind::EFI_PLATFORM_FIRMWARE_BLOB => ("firmware volume".into(), String::new()),
        EventKind::EFI_PLATFORM_FIRMWARE_BLOB2 => ("firmware volume".into(), short_name(data)),
        EventKind::EFI_HANDOFF_TABLES => ("firmware tables".into(), String::new()),
        EventKind::EFI_HANDOFF_TABLES2 => ("firmware tables".into(), short_name(data)),
        EventKind::EFI_GPT_EVENT | EventKind::EFI_GPT_EVENT2 => ("partition table".into(), String::new()),
        EventKind::EFI_BOOT_SERVICES_APPLICATION => application(data),
        EventKind::EFI_BOOT_SERVICES_DRIVER | EventKind::EFI_RUNTIME_SERVICES_DRIVER => {
            ("EFI driver".into(), Image::read(data).map(|image| image.path).unwrap_or_default())
        }
        EventKind::EFI_VARIABLE_DRIVER_CONFIG => secure_boot_variable(data),
        EventKind::EFI_VARIABLE_AUTHORITY => {
            ("Secure Boot authority".into(), Variable::read(data).map(|it| it.name).unwrap_or_default())
        }
        EventKind::EFI_VARIABLE_BOOT | EventKind::EFI_VARIABLE_BOOT2 => boot_variable(data),
        EventKind::EVENT_TAG => tagged(data),
        EventKind::IPL => boot_loader(event),
        kind => (kind.to_string(), String::new()),
    }
}

fn separator(data: &[u8]) -> (String, String) {
    let clean = matches!(data, [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff]);
    (
        "end of the firmware's measurements".into(),
        if clean { "" } else { "after an error of the firmware" }.into(),
    )
}

/// An eight-bit length, and a name.
fn short_name(data: &[u8]) -> String {
    let name = data.split_first().and_then(|(len, rest)| rest.get(..usize::from(*len)));
    name.map(text_of).unwrap_or_default()
}

/// A program that the firmware started, by the file that the log names.
fn application(data: &[u8]) -> (String, String) {
    let Some(image) = Image::read(data) else { return ("boot application".into(), String::new()) };
    let file = image.path.rsplit(['\\', '/']).next().unwrap_or_default().to_lowercase();
    let component = match file.as_str() {
        name if name.starts_with("shim") => "shim",
        name if name.starts_with("grub") => "GRUB",
        name if name.starts_with("systemd-boot") => "systemd-boot",
        // What QEMU calls what its `-kernel` option names.
        name if name == "kernel" || name.starts_with("vmlinuz") || name.starts_with("linux") => {
            "kernel image"
        }
        _ if image.path.to_lowercase().contains("\\efi\\linux\\") => "unified kernel image",
        name if name.starts_with("boot") => "default boot loader",
        // Its place in memory is all the log has.
        "" => OUT_OF_MEMORY,
        _ => "boot application",
    };
    (component.into(), image.path)
}

fn secure_boot_variable(data: &[u8]) -> (String, String) {
    let Some(variable) = Variable::read(data) else { return ("firmware variable".into(), String::new()) };
    match variable.name.as_str() {
        "SecureBoot" => {
            let state = match variable.content {
                [1] => "on",
                [0] | [] => "off",
                _ => "unknown",
            };
            ("Secure Boot state".into(), state.into())
        }
        "PK" | "KEK" | "db" | "dbx" | "dbt" | "dbr" => {
            let size = match variable.content.len() {
                0 => "empty".into(),
                len => format!("{len} bytes"),
            };
            (format!("Secure Boot policy: {}", variable.name), size)
        }
        _ => ("firmware variable".into(), variable.name),
    }
}

fn boot_variable(data: &[u8]) -> (String, String) {
    let Some(variable) = Variable::read(data) else { return ("boot variable".into(), String::new()) };
    if variable.name == "BootOrder" {
        let order =
            variable.content.as_chunks().0.iter().map(|it| format!("{:04X}", u16::from_le_bytes(*it)));
        return ("boot order".into(), order.collect::<Vec<_>>().join(","));
    }
    let title = BootEntry::read(variable.content).map(|entry| entry.title).unwrap_or_default();
    ("boot entry".into(), format!("{} {title}", variable.name).trim_end().to_owned())
}

fn tagged(data: &[u8]) -> (String, String) {
    let Some(tagged) = Tagged::read(data) else { return ("tagged event".into(), String::new()) };
    match TAGS.iter().find(|(tag, _)| *tag == tagged.tag) {
        Some((_, component)) => ((*component).into(), text_of(tagged.data)),
        None => (format!("event with tag {:#x}", tagged.tag), text_of(tagged.data)),
    }
}

/// By register, since boot loaders share one type and tell nothing else.
fn boot_loader(event: &Event) -> (String, String) {
    let text = text_of(&event.data);
    if let Some((component, rest)) =
        GRUB.iter().find_map(|(prefix, component)| Some((component, text.strip_prefix(prefix)?)))
    {
        return ((*component).into(), rest.to_owned());
    }
    let component = match event.pcr.number() {
        8 => "GRUB command",
        9 => return (grub_file(&text).into(), text),
        11 => return (format!("unified kernel section {}", shown(&text)), String::new()),
        12 if grounds(event) == Grounds::Measured => "kernel command line",
        12 => "systemd-stub input",
        13 => "system extension",
        14 => "machine owner keys",
        _ => "boot loader input",
    };
    (component.into(), text)
}

/// What GRUB read, by its name.
fn grub_file(path: &str) -> &'static str {
    let name = path.rsplit(['/', ' ']).next().unwrap_or_default().to_lowercase();
    match name.as_str() {
        name if name.starts_with("vmlinuz") || name == "kernel" => "kernel image",
        name if name.starts_with("initr") => "initrd",
        _ => "file that GRUB read",
    }
}

/// Longer texts are cut: they go into one line of a refusal.
const MAX_SHOWN: usize = 160;

/// Text from a log, fit for a terminal and a line.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(printable).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn printable(c: char) -> impl Iterator<Item = char> {
    // `escape_debug` knows what does not print; it would also escape these, which do.
    let escaped = if matches!(c, '"' | '\'' | '\\') { None } else { Some(c.escape_debug()) };
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::firmware::testing::{event, utf16, variable};

    fn tag(tag: u32, text: &[u8]) -> Vec<u8> {
        let len = u32::try_from(text.len()).unwrap();
        [tag.to_le_bytes().as_slice(), &len.to_le_bytes(), text].concat()
    }

    /// PCR, type, data, what was hashed, and the description.
    type Case = (u8, EventKind, Vec<u8>, Vec<u8>, &'static str);

    fn cases() -> Vec<Case> {
        let state = variable("SecureBoot", &[1]);
        let db = variable("db", &[5; 1000]);
        let order = variable("BootOrder", &[2, 0, 0x1f, 0]);
        let entry = variable("Boot0002", &[&[1, 0, 0, 0, 0, 0][..], &utf16("Debian\0"), b"path"].concat());
        let cmdline = utf16("root=/dev/vda1 quiet\0");
        vec![
            (0, EventKind::SEPARATOR, vec![0; 4], vec![0; 4], "PCR 0: end of the firmware's measurements"),
            (
                7,
                EventKind::SEPARATOR,
                b"no key".to_vec(),
                vec![1, 0, 0, 0],
                "PCR 7: end of the firmware's measurements `after an error of the firmware`",
            ),
            (
                4,
                EventKind::EFI_ACTION,
                b"Calling EFI Application from Boot Option".to_vec(),
                b"Calling EFI Application from Boot Option".to_vec(),
                "PCR 4: firmware action `Calling EFI Application from Boot Option`",
            ),
            (
                4,
                EventKind::EFI_ACTION,
                b"nothing happened".to_vec(),
                b"Booting to fallback".to_vec(),
                "PCR 4: firmware action `nothing happened` (the log says so, but something else was measured)",
            ),
            (7, EventKind::EFI_VARIABLE_DRIVER_CONFIG, state.clone(), state, "PCR 7: Secure Boot state `on`"),
            (
                7,
                EventKind::EFI_VARIABLE_DRIVER_CONFIG,
                db.clone(),
                db,
                "PCR 7: Secure Boot policy: db `1000 bytes`",
            ),
            (
                1,
                EventKind::EFI_VARIABLE_BOOT,
                order.clone(),
                vec![2, 0, 0x1f, 0],
                "PCR 1: boot order `0002,001F`",
            ),
            (1, EventKind::EFI_VARIABLE_BOOT2, order.clone(), order, "PCR 1: boot order `0002,001F`"),
            (1, EventKind::EFI_VARIABLE_BOOT2, entry.clone(), entry, "PCR 1: boot entry `Boot0002 Debian`"),
            (
                9,
                EventKind::EVENT_TAG,
                tag(0x8f3b_22ec, b"Linux initrd\0"),
                b"contents".to_vec(),
                "PCR 9: initrd `Linux initrd` (as the log says)",
            ),
            (
                8,
                EventKind::IPL,
                b"grub_cmd: set pager=1\0".to_vec(),
                b"set pager=1".to_vec(),
                "PCR 8: GRUB command `set pager=1`",
            ),
            (
                8,
                EventKind::IPL,
                b"kernel_cmdline: /vmlinuz ro\0".to_vec(),
                b"/vmlinuz ro".to_vec(),
                "PCR 8: kernel command line `/vmlinuz ro`",
            ),
            (
                9,
                EventKind::IPL,
                b"(hd0,gpt2)/initrd.img\0".to_vec(),
                b"contents".to_vec(),
                "PCR 9: initrd `(hd0,gpt2)/initrd.img` (as the log says)",
            ),
            (
                11,
                EventKind::IPL,
                utf16(".linux\0"),
                b".linux\0".to_vec(),
                "PCR 11: unified kernel section .linux",
            ),
            (
                11,
                EventKind::IPL,
                utf16(".linux\0"),
                b"contents".to_vec(),
                "PCR 11: unified kernel section .linux (as the log says)",
            ),
            (
                12,
                EventKind::IPL,
                cmdline.clone(),
                cmdline,
                "PCR 12: kernel command line `root=/dev/vda1 quiet`",
            ),
            (
                5,
                EventKind(0x77),
                b"anything".to_vec(),
                b"x".to_vec(),
                "PCR 5: event type 0x77 (as the log says)",
            ),
        ]
    }

    #[test]
    fn events_in_words() {
        for (pcr, kind, data, hashed, expected) in cases() {
            let described = describe(&event(pcr, kind, &data, &hashed)).to_string();
            assert_eq!(described, expected);
        }
    }

    #[test]
    fn one_bit_of_measured_data_changed_is_never_proven() {
        for (pcr, kind, data, hashed, words) in cases() {
            let mut event = event(pcr, kind, &data, &hashed);
            if describe(&event).grounds != Grounds::Measured || hashed == [1, 0, 0, 0] {
                continue;
            }
            event.digest.0[31] ^= 1;
            assert_ne!(describe(&event).grounds, Grounds::Measured, "{words}");
        }
    }

    #[test]
    fn images_are_named_by_their_path() {
        let table = [
            ("\\EFI\\debian\\shimx64.efi", "shim"),
            ("\\EFI\\debian\\grubx64.efi", "GRUB"),
            ("\\EFI\\systemd\\systemd-bootx64.efi", "systemd-boot"),
            ("\\EFI\\Linux\\debian-6.12.efi", "unified kernel image"),
            ("\\EFI\\BOOT\\BOOTX64.EFI", "default boot loader"),
            ("kernel", "kernel image"),
            ("\\tools\\memtest.efi", "boot application"),
        ];
        for (path, component) in table {
            let name = utf16(&format!("{path}\0"));
            let len = u16::try_from(4 + name.len()).unwrap();
            let path_bytes = [&[4, 4][..], &len.to_le_bytes(), &name, &[0x7f, 0xff, 4, 0]].concat();
            let path_len = u64::try_from(path_bytes.len()).unwrap();
            let data = [vec![0; 24], path_len.to_le_bytes().to_vec(), path_bytes].concat();
            let description = describe(&event(4, EventKind::EFI_BOOT_SERVICES_APPLICATION, &data, b"image"));
            assert_eq!((description.component.as_str(), description.text.as_str()), (component, path));
            assert_eq!(description.grounds, Grounds::Claimed);
        }
    }

    #[test]
    fn a_log_cannot_write_to_the_terminal() {
        let hostile = b"grub_cmd: \x1b[2J\nPCR 9: all is well \"\xe2\x80\xae\0".to_vec();
        let description = describe(&event(8, EventKind::IPL, &hostile, b"")).to_string();
        assert!(description.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{description}");
        let long = vec![b'a'; 5000];
        assert!(describe(&event(8, EventKind::IPL, &long, b"")).to_string().len() < 250);
    }
}
