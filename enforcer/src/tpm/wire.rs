//! TPM structures as bytes (TCG TPM 2.0 Library, Part 2: Structures): the few that are judged without a TPM.
//!
//! Readers accept one encoding only and nothing after it. What they read may come from an attacker.
#![forbid(unsafe_code)]

/// `TPM_ALG_SHA256`, `TPM_ALG_NULL`, `TPM_ALG_ECC`, `TPM_ALG_ECDSA`.
pub(super) const SHA256: u16 = 0x000b;
pub(super) const NULL: u16 = 0x0010;
pub(super) const ECC: u16 = 0x0023;
pub(super) const ECDSA: u16 = 0x0018;
/// `TPM_ECC_NIST_P256`.
pub(super) const NIST_P256: u16 = 0x0003;

/// `TPMA_OBJECT`: it lives in this TPM only, and so does what it is made from; the TPM itself made the secret.
pub(super) const FIXED: u32 = 1 << 1 | 1 << 4 | 1 << 5;
/// `TPMA_OBJECT`: signs, or decrypts, nothing but what the TPM itself made.
pub(super) const RESTRICTED: u32 = 1 << 16;
/// `TPMA_OBJECT`: usable with its (empty) authorization value, without counting failures.
const USER_WITH_AUTH: u32 = 1 << 6;
const NO_DA: u32 = 1 << 10;
const SIGN: u32 = 1 << 18;

/// Reads big-endian fields, never past the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'b>(&'b [u8]);

/// The bytes end, or go on, where they must not; or a field is not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `TPM2B`: its size, then that many bytes.
    pub(super) fn sized(&mut self) -> Result<&'b [u8], Malformed> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// Exactly these fields.
    pub(super) fn expect(&mut self, fields: &[u16]) -> Result<(), Malformed> {
        fields.iter().try_for_each(|field| if self.u16()? == *field { Ok(()) } else { Err(Malformed) })
    }

    /// A number of 256 bits; TPMs may leave zeros in front out.
    fn coordinate(&mut self) -> Result<[u8; 32], Malformed> {
        let bytes = self.sized()?;
        let mut padded = [0; 32];
        let start = padded.len().checked_sub(bytes.len()).ok_or(Malformed)?;
        padded[start..].copy_from_slice(bytes);
        Ok(padded)
    }
}

/// A point on P-256 by its coordinates, which says nothing about whether it is on the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Big-endian.
    pub x: [u8; 32],
    /// Big-endian.
    pub y: [u8; 32],
}

impl Point {
    /// Uncompressed, as SEC 1 writes it.
    pub(super) fn to_sec1(self) -> [u8; 65] {
        let mut bytes = [4; 65];
        bytes[1..33].copy_from_slice(&self.x);
        bytes[33..].copy_from_slice(&self.y);
        bytes
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { x: reader.coordinate()?, y: reader.coordinate()? })
    }
}

impl From<([u8; 32], [u8; 32])> for Point {
    fn from((x, y): ([u8; 32], [u8; 32])) -> Self {
        Self { x, y }
    }
}

/// The point of an attestation key, from its `TPMT_PUBLIC`: P-256, ECDSA with SHA-256, restricted to what the TPM itself
/// made, fixed to its TPM, usable without a secret.
pub(super) fn attestation_key(public: &[u8]) -> Result<Point, Malformed> {
    let mut reader = Reader::new(public);
    reader.expect(&[ECC, SHA256])?;
    if reader.u32()? != FIXED | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN {
        return Err(Malformed);
    }
    // No policy; no symmetric algorithm; scheme, curve, no derivation.
    reader.expect(&[0, NULL, ECDSA, SHA256, NIST_P256, NULL])?;
    let point = Point::read(&mut reader)?;
    reader.end()?;
    Ok(point)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The public area of an attestation key.
    pub(in crate::tpm) fn attestation_public(point: Point) -> Vec<u8> {
        let mut public = Vec::new();
        public.extend([0, 0x23, 0, 0x0b, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10]);
        for coordinate in [point.x, point.y] {
            public.extend([0, 32]);
            public.extend(coordinate);
        }
        public
    }

    #[test]
    fn an_attestation_key_is_read_from_one_template_only() {
        let point = Point { x: [1; 32], y: [2; 32] };
        let public = attestation_public(point);
        assert_eq!(attestation_key(&public), Ok(point));
        for len in 0..public.len() {
            assert_eq!(attestation_key(&public[..len]), Err(Malformed), "{len} bytes");
        }
        assert_eq!(attestation_key(&[&public[..], &[0]].concat()), Err(Malformed), "a byte too many");
        // Every bit before the point is part of the template.
        for bit in 0..20 * 8 {
            let mut other = public.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(attestation_key(&other), Err(Malformed), "bit {bit}");
        }
    }

    #[test]
    fn short_coordinates_are_padded_and_long_ones_refused() {
        let mut public = attestation_public(Point { x: [1; 32], y: [2; 32] });
        public.truncate(20);
        let head = public.clone();
        public.extend([0, 1, 7, 0, 0]);
        let mut x = [0; 32];
        x[31] = 7;
        assert_eq!(attestation_key(&public), Ok(Point { x, y: [0; 32] }));
        let long = [&head[..], &[0, 33], &[0; 33], &[0, 0]].concat();
        assert_eq!(attestation_key(&long), Err(Malformed));
    }
}
