//! One measurement, and what the firmware says it was.

use std::fmt;

use crate::measured::pcr::{PcrIndex, PcrValue};

/// One measurement.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// Where in the log it starts.
    pub offset: usize,
    /// Into which register.
    pub pcr: PcrIndex,
    /// What the log says it was. Not hashed: whoever writes the log can write another one.
    pub kind: EventKind,
    /// What the register was extended with. The only part that the register vouches for.
    pub digest: PcrValue,
    /// What the log says about it. Only some types hash it.
    pub data: Vec<u8>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} `{}`", self.pcr, self.kind, self.digest, self.data.escape_ascii())
    }
}

/// The type of an event, as the TCG numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKind(pub u32);

impl EventKind {
    /// Code that ran after power-on.
    pub const POST_CODE: Self = Self(0x1);
    /// A remark, not a measurement.
    pub const NO_ACTION: Self = Self(0x3);
    /// The end of the firmware's own measurements.
    pub const SEPARATOR: Self = Self(0x4);
    /// A text.
    pub const ACTION: Self = Self(0x5);
    /// Something with a number that says what it is; the EFI stubs of Linux and systemd write them.
    pub const EVENT_TAG: Self = Self(0x6);
    /// The first code.
    pub const S_CRTM_CONTENTS: Self = Self(0x7);
    /// The first code's version.
    pub const S_CRTM_VERSION: Self = Self(0x8);
    /// Whatever a boot loader measured; GRUB, shim, systemd-boot and systemd-stub write them.
    pub const IPL: Self = Self(0xd);
    /// A variable that configures Secure Boot.
    pub const EFI_VARIABLE_DRIVER_CONFIG: Self = Self(0x8000_0001);
    /// A boot variable, of which only the content is hashed.
    pub const EFI_VARIABLE_BOOT: Self = Self(0x8000_0002);
    /// A program that the firmware started.
    pub const EFI_BOOT_SERVICES_APPLICATION: Self = Self(0x8000_0003);
    /// A driver.
    pub const EFI_BOOT_SERVICES_DRIVER: Self = Self(0x8000_0004);
    /// A driver that stays.
    pub const EFI_RUNTIME_SERVICES_DRIVER: Self = Self(0x8000_0005);
    /// The partition table.
    pub const EFI_GPT_EVENT: Self = Self(0x8000_0006);
    /// A text.
    pub const EFI_ACTION: Self = Self(0x8000_0007);
    /// A part of the firmware.
    pub const EFI_PLATFORM_FIRMWARE_BLOB: Self = Self(0x8000_0008);
    /// Tables such as SMBIOS.
    pub const EFI_HANDOFF_TABLES: Self = Self(0x8000_0009);
    /// A part of the firmware, with its name.
    pub const EFI_PLATFORM_FIRMWARE_BLOB2: Self = Self(0x8000_000a);
    /// Tables such as SMBIOS, with their name.
    pub const EFI_HANDOFF_TABLES2: Self = Self(0x8000_000b);
    /// A boot variable, hashed whole.
    pub const EFI_VARIABLE_BOOT2: Self = Self(0x8000_000c);
    /// The partition table, with its name.
    pub const EFI_GPT_EVENT2: Self = Self(0x8000_000d);
    /// What the processor measured.
    pub const EFI_HCRTM_EVENT: Self = Self(0x8000_0010);
    /// The key or hash that vouched for a program.
    pub const EFI_VARIABLE_AUTHORITY: Self = Self(0x8000_00e0);

    /// Types and what the TCG calls them.
    const NAMES: &[(Self, &str)] = &[
        (Self::POST_CODE, "EV_POST_CODE"),
        (Self::NO_ACTION, "EV_NO_ACTION"),
        (Self::SEPARATOR, "EV_SEPARATOR"),
        (Self::ACTION, "EV_ACTION"),
        (Self::EVENT_TAG, "EV_EVENT_TAG"),
        (Self::S_CRTM_CONTENTS, "EV_S_CRTM_CONTENTS"),
        (Self::S_CRTM_VERSION, "EV_S_CRTM_VERSION"),
        (Self::IPL, "EV_IPL"),
        (Self::EFI_VARIABLE_DRIVER_CONFIG, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
        (Self::EFI_VARIABLE_BOOT, "EV_EFI_VARIABLE_BOOT"),
        (Self::EFI_BOOT_SERVICES_APPLICATION, "EV_EFI_BOOT_SERVICES_APPLICATION"),
        (Self::EFI_BOOT_SERVICES_DRIVER, "EV_EFI_BOOT_SERVICES_DRIVER"),
        (Self::EFI_RUNTIME_SERVICES_DRIVER, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
        (Self::EFI_GPT_EVENT, "EV_EFI_GPT_EVENT"),
        (Self::EFI_ACTION, "EV_EFI_ACTION"),
        (Self::EFI_PLATFORM_FIRMWARE_BLOB, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
        (Self::EFI_HANDOFF_TABLES, "EV_EFI_HANDOFF_TABLES"),
        (Self::EFI_PLATFORM_FIRMWARE_BLOB2, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
        (Self::EFI_HANDOFF_TABLES2, "EV_EFI_HANDOFF_TABLES2"),
        (Self::EFI_VARIABLE_BOOT2, "EV_EFI_VARIABLE_BOOT2"),
        (Self::EFI_GPT_EVENT2, "EV_EFI_GPT_EVENT2"),
        (Self::EFI_HCRTM_EVENT, "EV_EFI_HCRTM_EVENT"),
        (Self::EFI_VARIABLE_AUTHORITY, "EV_EFI_VARIABLE_AUTHORITY"),
    ];
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(kind, _)| kind == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "event type {:#x}", self.0),
        }
    }
}
