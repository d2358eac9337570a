//! What a TPM says about itself. Nothing here is proved; it is for people.
#![forbid(unsafe_code)]

use tss_esapi::{
    constants::{CapabilityType, PropertyTag},
    structures::CapabilityData,
};

use super::{TpmError, TpmInfo, connection::Connection};

/// `TPMA_PERMANENT`.
const OWNER_AUTH_SET: u32 = 1 << 0;
const ENDORSEMENT_AUTH_SET: u32 = 1 << 1;
const LOCKOUT_AUTH_SET: u32 = 1 << 2;
const DISABLE_CLEAR: u32 = 1 << 8;
const IN_LOCKOUT: u32 = 1 << 9;

/// The first handle of NV indices.
const NV_FIRST: u32 = 0x0100_0000;

/// More than any TPM has indices for.
const MANY: u32 = 254;

impl Connection {
    pub(super) fn info(&mut self) -> Result<TpmInfo, TpmError> {
        let permanent = self.property(PropertyTag::Permanent)?;
        let vendor = [
            PropertyTag::VendorString1,
            PropertyTag::VendorString2,
            PropertyTag::VendorString3,
            PropertyTag::VendorString4,
        ];
        let mut model = String::new();
        for tag in vendor {
            model += &characters(self.property(tag)?);
        }
        let firmware = [PropertyTag::FirmwareVersion1, PropertyTag::FirmwareVersion2];
        let [high, low] = firmware.map(|tag| self.property(tag));
        Ok(TpmInfo {
            manufacturer: characters(self.property(PropertyTag::Manufacturer)?),
            model: model.trim().to_owned(),
            firmware_version: u64::from(high?) << 32 | u64::from(low?),
            banks: self.banks()?,
            owner_auth_set: permanent & OWNER_AUTH_SET != 0,
            endorsement_auth_set: permanent & ENDORSEMENT_AUTH_SET != 0,
            lockout_auth_set: permanent & LOCKOUT_AUTH_SET != 0,
            clear_disabled: permanent & DISABLE_CLEAR != 0,
            in_lockout: permanent & IN_LOCKOUT != 0,
            nv_indices: self.nv_indices()?,
            nv_index_max_bytes: self.property(PropertyTag::NvIndexMax)?,
        })
    }

    /// A property; those the TPM does not have count as zero.
    fn property(&mut self, tag: PropertyTag) -> Result<u32, TpmError> {
        let data = self.command("TPM2_GetCapability", |context| {
            context.execute_without_session(|context| {
                context.get_capability(CapabilityType::TpmProperties, tag.into(), 1)
            })
        })?;
        match data {
            (CapabilityData::TpmProperties(list), _) => {
                Ok(list.find(tag).map_or(0, tss_esapi::structures::TaggedProperty::value))
            }
            _ => Err(unexpected()),
        }
    }

    /// The hash algorithms for which PCRs are allocated.
    fn banks(&mut self) -> Result<Vec<String>, TpmError> {
        let data = self.command("TPM2_GetCapability", |context| {
            context.execute_without_session(|context| {
                context.get_capability(CapabilityType::AssignedPcr, 0, MANY)
            })
        })?;
        let (CapabilityData::AssignedPcr(list), _) = data else { return Err(unexpected()) };
        let allocated = list.get_selections().iter().filter(|bank| !bank.is_empty());
        Ok(allocated.map(|bank| format!("{:?}", bank.hashing_algorithm()).to_lowercase()).collect())
    }

    fn nv_indices(&mut self) -> Result<usize, TpmError> {
        let data = self.command("TPM2_GetCapability", |context| {
            context.execute_without_session(|context| {
                context.get_capability(CapabilityType::Handles, NV_FIRST, MANY)
            })
        })?;
        match data {
            (CapabilityData::Handles(list), _) => Ok(list.into_inner().len()),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> TpmError {
    TpmError::Malformed { command: "TPM2_GetCapability", reason: "another capability".to_owned() }
}

/// Four characters, as TPMs pack them.
fn characters(property: u32) -> String {
    let printable =
        property.to_be_bytes().into_iter().filter(|byte| byte.is_ascii_graphic() || *byte == b' ');
    printable.map(char::from).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn properties_can_be_words() {
        assert_eq!(super::characters(0x4942_4d00), "IBM");
        assert_eq!(super::characters(0x494e_5443), "INTC");
        assert_eq!(super::characters(0), "");
    }
}
