//! Endorsement certificates, made by authorities of the test's own for the emulated TPM's real key.

use enforcer::tpm::{
    Identity,
    certificate::{Certificate, CertificateError},
};
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, PKeyRef, Private, Public},
    x509::{
        X509, X509Name, X509NameBuilder,
        extension::{BasicConstraints, KeyUsage},
    },
};

use super::emulator::Emulator;

/// Where the certificate of the P-256 key lies, and that of the RSA key.
const OF_P256: u32 = 0x01c0_000a;
const OF_RSA: u32 = 0x01c0_0002;

/// One who signs certificates.
struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

fn name(text: &str) -> X509Name {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "Maker").unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, text).unwrap();
    name.build()
}

/// A certificate for a key, by this one, until so many days from now. Zero: it has ended already.
fn certificate(
    subject: &str,
    key: &PKeyRef<Public>,
    is_authority: bool,
    by: (&str, &PKeyRef<Private>),
    days: u32,
) -> X509 {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name(subject)).unwrap();
    builder.set_issuer_name(&name(by.0)).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(1_600_000_000).unwrap()).unwrap();
    let end = if days == 0 { Asn1Time::from_unix(1_700_000_000) } else { Asn1Time::days_from_now(days) };
    builder.set_not_after(&end.unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    let mut constraints = BasicConstraints::new();
    constraints.critical();
    let mut usage = KeyUsage::new();
    usage.critical();
    if is_authority {
        constraints.ca();
        usage.key_cert_sign();
    } else {
        usage.key_agreement();
    }
    builder.append_extension(constraints.build().unwrap()).unwrap();
    builder.append_extension(usage.build().unwrap()).unwrap();
    builder.sign(by.1, MessageDigest::sha256()).unwrap();
    builder.build()
}

fn p256() -> EcGroup {
    EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()
}

fn public(key: &PKeyRef<Private>) -> PKey<Public> {
    PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap()
}

impl Authority {
    fn root(subject: &str) -> Self {
        let key = PKey::from_ec_key(EcKey::generate(&p256()).unwrap()).unwrap();
        let certificate = certificate(subject, &public(&key), true, (subject, &key), 365);
        Self { key, certificate }
    }

    fn below(&self, issuer: &str, subject: &str) -> Self {
        let key = PKey::from_ec_key(EcKey::generate(&p256()).unwrap()).unwrap();
        let certificate = certificate(subject, &public(&key), true, (issuer, &self.key), 365);
        Self { key, certificate }
    }

    /// A file with its certificate.
    fn file(&self) -> (String, Vec<u8>) {
        ("ca.pem".into(), self.certificate.to_pem().unwrap())
    }
}

/// The TPM's own endorsement key: the last two fields of its public area are the point.
fn endorsement_key(identity: &Identity) -> PKey<Public> {
    let point = &identity.ek_public[identity.ek_public.len() - 68..];
    let number = |at: usize| BigNum::from_slice(&point[at + 2..at + 34]).unwrap();
    let key = EcKey::from_public_key_affine_coordinates(&p256(), &number(0), &number(34)).unwrap();
    PKey::from_ec_key(key).unwrap()
}

/// A TPM that holds this certificate, made for its key or another one.
fn with(make: impl FnOnce(&PKeyRef<Public>) -> X509) -> (Emulator, Identity, X509) {
    let emulator = Emulator::start();
    let certificate = make(&endorsement_key(&emulator.open().identity().unwrap()));
    // Padded, as some makers do.
    emulator.hold(OF_P256, &[certificate.to_der().unwrap(), vec![0xff; 40]].concat());
    let identity = emulator.open().identity().unwrap();
    (emulator, identity, certificate)
}

#[test]
fn a_certificate_that_leads_to_a_trusted_authority_vouches_for_the_tpm() {
    let root = Authority::root("Root");
    let middle = root.below("Root", "Middle");
    let (_tpm, identity, made) = with(|key| certificate("TPM", key, false, ("Middle", &middle.key), 365));
    let found = Certificate::of(&identity).unwrap();
    assert_eq!(
        found.sha256().unwrap()[..],
        made.digest(MessageDigest::sha256()).unwrap()[..],
        "without the padding"
    );
    assert_eq!(found.issuer(), "O=Maker, CN=Middle");
    found.verify(&[root.file(), middle.file()]).unwrap();
    found.verify(&[middle.file()]).unwrap();
    let both = [root.file().1, middle.file().1].concat();
    found.verify(&[("both.pem".into(), both)]).unwrap();
    found.verify(&[("middle.der".into(), middle.certificate.to_der().unwrap())]).unwrap();
}

fn untrusted(found: &Certificate, authorities: &[(String, Vec<u8>)]) -> String {
    match found.verify(authorities) {
        Err(CertificateError::Untrusted { issuer, reason }) => {
            assert!(issuer.starts_with("O=Maker"), "{issuer}");
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_else_vouches() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let namesake = Authority::root("Root");
    let middle = root.below("Root", "Middle");
    let (_tpm, identity, _) = with(|key| certificate("TPM", key, false, ("Middle", &middle.key), 365));
    let found = Certificate::of(&identity).unwrap();
    for authorities in [&[][..], &[other.file()], &[root.file()], &[namesake.file()]] {
        assert!(untrusted(&found, authorities).contains("unable to get local issuer"), "{authorities:?}");
    }
    // The right name, another key.
    let false_middle = namesake.below("Root", "Middle");
    assert!(untrusted(&found, &[false_middle.file()]).contains("signature"));
    let error = found.verify(&[("empty.pem".into(), b"nothing".to_vec())]).unwrap_err();
    assert!(matches!(&error, CertificateError::Authority { name, .. } if name == "empty.pem"), "{error}");
}

#[test]
fn an_expired_certificate_does_not_vouch() {
    let root = Authority::root("Root");
    let (_tpm, identity, _) = with(|key| certificate("TPM", key, false, ("Root", &root.key), 0));
    let found = Certificate::of(&identity).unwrap();
    assert!(untrusted(&found, &[root.file()]).contains("expired"));
}

#[test]
fn one_who_has_a_certificate_is_not_yet_an_authority() {
    let root = Authority::root("Root");
    let someone = PKey::from_ec_key(EcKey::generate(&p256()).unwrap()).unwrap();
    let theirs = certificate("Someone", &public(&someone), false, ("Root", &root.key), 365);
    let (_tpm, identity, _) = with(|key| certificate("TPM", key, false, ("Someone", &someone), 365));
    let found = Certificate::of(&identity).unwrap();
    let files = [root.file(), ("someone.pem".into(), theirs.to_pem().unwrap())];
    let reason = untrusted(&found, &files);
    assert!(reason.contains("invalid CA certificate"), "{reason}");
}

#[test]
fn another_tpms_certificate_says_nothing() {
    let root = Authority::root("Root");
    let genuine = endorsement_key(&Emulator::start().open().identity().unwrap());
    let (_tpm, identity, _) = with(|_| certificate("TPM", &genuine, false, ("Root", &root.key), 365));
    let error = Certificate::of(&identity).unwrap_err();
    assert!(matches!(error, CertificateError::OtherKey), "{error}");
    let rsa = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let (_tpm, identity, _) = with(|_| certificate("TPM", &public(&rsa), false, ("Root", &root.key), 365));
    let error = Certificate::of(&identity).unwrap_err();
    assert!(matches!(error, CertificateError::OtherKey), "{error}");
}

#[test]
fn a_missing_or_broken_certificate_is_named() {
    let emulator = Emulator::start();
    let error = Certificate::of(&emulator.open().identity().unwrap()).unwrap_err();
    assert!(matches!(error, CertificateError::Missing { rsa: false }), "{error}");
    emulator.hold(OF_RSA, b"for the RSA key");
    let error = Certificate::of(&emulator.open().identity().unwrap()).unwrap_err();
    assert!(matches!(error, CertificateError::Missing { rsa: true }), "{error}");
    emulator.hold(OF_P256, &[0; 700]);
    let error = Certificate::of(&emulator.open().identity().unwrap()).unwrap_err();
    assert!(matches!(error, CertificateError::Unreadable(_)), "{error}");
}
