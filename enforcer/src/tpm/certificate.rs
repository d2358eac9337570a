//! What the maker of a TPM says about its endorsement key: an X.509 certificate, which lies in the TPM.
//!
//! A [`Certificate`] is about the very key that is pinned: compared by the key, so whoever shows another TPM's certificate
//! shows nothing. That the maker said so, [`Certificate::verify`] tells, with the certificates of the makers' authorities
//! that the operator trusts. That the TPM has the key's secret half, `Tpm::prove_identity` tells.
//!
//! OpenSSL reads and verifies: its library is in the process already, as libtss2 needs it.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use openssl::{
    bn::{BigNum, BigNumContext},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    stack::Stack,
    x509::{X509, X509StoreContext, store::X509StoreBuilder, verify::X509VerifyFlags},
};

use super::{Digest, Identity, Point, credential};

/// Where the certificate of the endorsement key that is used here lies (TCG EK Credential Profile, 2.2.1.4).
const OF_P256: u32 = 0x01c0_000a;

/// A certificate for the endorsement key that is used.
#[derive(Clone, Debug)]
pub struct Certificate(X509);

/// Why a certificate says nothing about this TPM.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// There is none for this key.
    #[error("the TPM holds no certificate for its P-256 endorsement key{}", rsa_alone(*rsa))]
    Missing {
        /// Whether there is one for the RSA key.
        rsa: bool,
    },
    /// No certificate.
    #[error("the TPM's endorsement certificate cannot be read: {0}")]
    Unreadable(ErrorStack),
    /// Of another key.
    #[error(
        "the endorsement certificate in this TPM is for another key than the TPM has: it was copied there, or this TPM \
         makes its endorsement key from a template of its own"
    )]
    OtherKey,
    /// An authority's certificate that cannot be read.
    #[error("{name} holds no certificate in PEM or DER: {source}")]
    Authority {
        /// Its file.
        name: String,
        /// Why.
        source: ErrorStack,
    },
    /// Not by an authority that is trusted.
    #[error("the endorsement certificate (issuer {issuer}) does not lead to a trusted authority: {reason}")]
    Untrusted {
        /// Who it says issued it.
        issuer: String,
        /// Why not.
        reason: String,
    },
}

const fn rsa_alone(rsa: bool) -> &'static str {
    if rsa { "; the one for its RSA key does not count, as that key is not used" } else { "" }
}

impl Certificate {
    /// The certificate in a TPM, if it is for its endorsement key.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn of(identity: &Identity) -> Result<Self, CertificateError> {
        let found = identity.ek_certificate.as_ref();
        let found = found
            .filter(|found| found.index == OF_P256)
            .ok_or(CertificateError::Missing { rsa: found.is_some() })?;
        // Some makers pad it; what follows the certificate is left out.
        let certificate = X509::from_der(&found.der).map_err(CertificateError::Unreadable)?;
        let point =
            credential::endorsement_key(&identity.ek_public).map_err(|_| CertificateError::OtherKey)?;
        match coordinates(&certificate) {
            Ok(Some(found)) if found == point => Ok(Self(certificate)),
            Ok(_) => Err(CertificateError::OtherKey),
            Err(error) => Err(CertificateError::Unreadable(error)),
        }
    }

    /// SHA-256 of the certificate.
    ///
    /// # Errors
    /// [`CertificateError::Unreadable`], never for one that was read.
    pub fn sha256(&self) -> Result<Digest, CertificateError> {
        let digest = self.0.digest(MessageDigest::sha256()).map_err(CertificateError::Unreadable)?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&digest);
        Ok(sha256)
    }

    /// Who issued it, in its own words.
    #[must_use]
    pub fn issuer(&self) -> String {
        let mut issuer = String::new();
        for entry in self.0.issuer_name().entries() {
            let kind = entry.object().nid().short_name().unwrap_or("?");
            let value = entry.data().to_string().unwrap_or_default();
            let between = if issuer.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(issuer, "{between}{kind}={value}");
        }
        issuer
    }

    /// Whether it leads to one of these authorities: files in PEM or DER, with their names. Each certificate in them is
    /// trusted by itself, so one in the middle of a chain will do.
    ///
    /// # Errors
    /// [`CertificateError::Untrusted`], [`CertificateError::Authority`].
    pub fn verify(&self, authorities: &[(String, Vec<u8>)]) -> Result<(), CertificateError> {
        let untrusted = |reason: String| CertificateError::Untrusted { issuer: self.issuer(), reason };
        let failed = |error: ErrorStack| untrusted(error.to_string());
        let mut store = X509StoreBuilder::new().map_err(failed)?;
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN).map_err(failed)?;
        for (name, bytes) in authorities {
            let read = |source| CertificateError::Authority { name: name.clone(), source };
            for certificate in certificates(bytes).map_err(read)? {
                store.add_cert(certificate).map_err(failed)?;
            }
        }
        let mut context = X509StoreContext::new().map_err(failed)?;
        let untrusted_others = Stack::new().map_err(failed)?;
        let verified = context.init(&store.build(), &self.0, &untrusted_others, |context| {
            let verified = context.verify_cert()?;
            Ok((verified, context.error()))
        });
        match verified.map_err(failed)? {
            (true, _) => Ok(()),
            (false, error) => Err(untrusted(error.error_string().to_owned())),
        }
    }
}

/// One certificate in DER, or some in PEM; never none.
fn certificates(bytes: &[u8]) -> Result<Vec<X509>, ErrorStack> {
    match X509::stack_from_pem(bytes) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => X509::from_der(bytes).map(|certificate| vec![certificate]),
    }
}

/// The coordinates of a certificate's key; none if that is no key on P-256.
fn coordinates(certificate: &X509) -> Result<Option<Point>, ErrorStack> {
    let key = certificate.public_key()?;
    let Ok(key) = key.ec_key() else { return Ok(None) };
    if key.group().curve_name() != Some(Nid::X9_62_PRIME256V1) {
        return Ok(None);
    }
    let (mut x, mut y, mut context) = (BigNum::new()?, BigNum::new()?, BigNumContext::new()?);
    key.public_key().affine_coordinates(key.group(), &mut x, &mut y, &mut context)?;
    let padded = |number: &BigNum| number.to_vec_padded(32).ok()?.try_into().ok();
    Ok(padded(&x).zip(padded(&y)).map(|(x, y)| Point { x, y }))
}
