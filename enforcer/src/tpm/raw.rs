//! Commands that `tss-esapi` 7.7 does not offer, in the order a slot is written: `TPM2_PolicyNV` is missing there, and
//! handles of one ESYS context mean nothing in another, so the whole flow runs over its bindings.
//!
//! The only `unsafe` of the TPM part. Each function gives one command. What a command loads is an [`Object`], which is
//! flushed when it is dropped.
#![expect(unsafe_code, reason = "calls into libtss2-esys, each with its invariant")]

use std::{
    ffi::CString,
    ptr::{null, null_mut},
};

use tss_esapi::{
    constants::tss::{TPM2_ALG_NULL, TPM2_ALG_SHA256, TPM2_EO_UNSIGNED_LT, TPM2_SE_POLICY},
    tss2_esys::{
        ESYS_CONTEXT, ESYS_TR, ESYS_TR_NONE, ESYS_TR_PASSWORD, ESYS_TR_RH_OWNER, Esys_Finalize,
        Esys_FlushContext, Esys_Free, Esys_Initialize, Esys_LoadExternal, Esys_NV_Write,
        Esys_PolicyAuthorize, Esys_PolicyCpHash, Esys_PolicyGetDigest, Esys_PolicyNV, Esys_PolicyPCR,
        Esys_StartAuthSession, Esys_TR_Close, Esys_TR_FromTPMPublic, Esys_TR_GetName, Esys_VerifySignature,
        TPM2B_DIGEST, TPM2B_MAX_NV_BUFFER, TPM2B_NAME, TPM2B_PUBLIC, TPML_PCR_SELECTION, TPMT_SIGNATURE,
        TPMT_SYM_DEF, TPMT_TK_VERIFIED, TSS2_RC, TSS2_TCTI_CONTEXT, Tss2_TctiLdr_Finalize,
        Tss2_TctiLdr_Initialize,
    },
};

use super::{Tcti, code::Code};

const NONE: ESYS_TR = ESYS_TR_NONE;

/// A connection of its own.
///
/// Invariant: `esys` and `tcti` are what the library's constructors returned, alive until this is dropped, and used by
/// one thread at a time, which raw pointers see to: they make this neither `Send` nor `Sync`.
pub(super) struct Esys {
    esys: *mut ESYS_CONTEXT,
    tcti: *mut TSS2_TCTI_CONTEXT,
}

/// Something that this connection gave a handle to.
///
/// Invariant: `handle` is one that `esys` returned and that was not flushed or closed yet.
pub(super) struct Object<'e> {
    esys: &'e Esys,
    handle: ESYS_TR,
    release: Release,
}

enum Release {
    /// It takes room in the TPM.
    Flush,
    /// It lives there on its own.
    Close,
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        // A failure means that the TPM is gone, and the object with it.
        match self.release {
            // SAFETY: by the invariants of `Esys` and `Object`; the handle is not used again.
            Release::Flush => unsafe { Esys_FlushContext(self.esys.esys, self.handle) },
            // SAFETY: likewise; the library writes "none" into our own handle.
            Release::Close => unsafe { Esys_TR_Close(self.esys.esys, &raw mut self.handle) },
        };
    }
}

/// Memory from the library, which holds a `T` that the library has written.
struct Owned<T>(*mut T);

impl<T: Copy> Owned<T> {
    fn new() -> Self {
        Self(null_mut())
    }

    /// What the library put there; nothing if it did not.
    fn value(&self) -> Option<T> {
        // SAFETY: null, or where the library has allocated and written a `T` that is ours until it is freed by `drop`.
        unsafe { self.0.as_ref() }.copied()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: null, which is nothing to free, or memory that the library allocated for us and nobody else frees.
        unsafe { Esys_Free(self.0.cast()) };
    }
}

impl Drop for Esys {
    fn drop(&mut self) {
        // SAFETY: ours since `open`, not used again; objects cannot outlive this, as they borrow it.
        unsafe { Esys_Finalize(&raw mut self.esys) };
        // SAFETY: likewise; nothing uses it any more, as the context that did is gone.
        unsafe { Tss2_TctiLdr_Finalize(&raw mut self.tcti) };
    }
}

impl Esys {
    pub(super) fn open(tcti: &Tcti) -> Result<Self, Code> {
        // No zero byte: `Tcti` allows none.
        let name = CString::new(tcti.to_string()).unwrap_or_default();
        let mut this = Self { esys: null_mut(), tcti: null_mut() };
        // SAFETY: `name` ends with a zero byte and lives for the call, and the library writes to our own pointer.
        check(unsafe { Tss2_TctiLdr_Initialize(name.as_ptr(), &raw mut this.tcti) })?;
        // On failure the pointers stay null, which the library's destructors take.
        // SAFETY: the transport was just made; no version asked for; the library writes to our own pointer.
        check(unsafe { Esys_Initialize(&raw mut this.esys, this.tcti, null_mut()) })?;
        Ok(this)
    }

    /// An NV index that exists.
    pub(super) fn index(&self, number: u32) -> Result<Object<'_>, Code> {
        let mut handle = NONE;
        // SAFETY: by the invariant of `Esys`; no sessions; the library writes to our own handle.
        check(unsafe { Esys_TR_FromTPMPublic(self.esys, number, NONE, NONE, NONE, &raw mut handle) })?;
        Ok(Object { esys: self, handle, release: Release::Close })
    }

    /// Loads a public key. Not into the null hierarchy: what is verified there does not authorize.
    pub(super) fn load_external(&self, public: &TPM2B_PUBLIC) -> Result<Object<'_>, Code> {
        let mut handle = NONE;
        // SAFETY: by the invariant of `Esys`; no private half; `public` lives for the call; the handle is our own.
        check(unsafe {
            Esys_LoadExternal(self.esys, NONE, NONE, NONE, null(), public, ESYS_TR_RH_OWNER, &raw mut handle)
        })?;
        Ok(Object { esys: self, handle, release: Release::Flush })
    }

    /// A policy session.
    pub(super) fn policy_session(&self) -> Result<Object<'_>, Code> {
        let symmetric = TPMT_SYM_DEF { algorithm: TPM2_ALG_NULL, ..Default::default() };
        let mut handle = NONE;
        // SAFETY: by the invariant of `Esys`; neither key nor sessions; no nonce of ours (the library makes one);
        // `symmetric` lives for the call; the handle is our own.
        check(unsafe {
            Esys_StartAuthSession(
                self.esys,
                NONE,
                NONE,
                NONE,
                NONE,
                NONE,
                null(),
                TPM2_SE_POLICY,
                &raw const symmetric,
                TPM2_ALG_SHA256,
                &raw mut handle,
            )
        })?;
        Ok(Object { esys: self, handle, release: Release::Flush })
    }
}

impl<'e> Object<'e> {
    /// An object's Name.
    pub(super) fn name(&self) -> Result<TPM2B_NAME, Code> {
        let mut name = Owned::new();
        // SAFETY: by the invariants; the library allocates the Name and hands it over.
        check(unsafe { Esys_TR_GetName(self.esys.esys, self.handle, &raw mut name.0) })?;
        name.value().ok_or_else(no_value)
    }

    /// Has this key verify a signature; the TPM's word for that.
    pub(super) fn verify(
        &self,
        digest: &TPM2B_DIGEST,
        signature: &TPMT_SIGNATURE,
    ) -> Result<TPMT_TK_VERIFIED, Code> {
        let mut ticket = Owned::new();
        // SAFETY: by the invariants; digest and signature live for the call; the library allocates the ticket and hands
        // it over.
        check(unsafe {
            Esys_VerifySignature(
                self.esys.esys,
                self.handle,
                NONE,
                NONE,
                NONE,
                digest,
                signature,
                &raw mut ticket.0,
            )
        })?;
        ticket.value().ok_or_else(no_value)
    }

    /// What this policy session has come to.
    pub(super) fn policy_digest(&self) -> Result<TPM2B_DIGEST, Code> {
        let mut digest = Owned::new();
        // SAFETY: by the invariants; the library allocates the digest and hands it over.
        check(unsafe {
            Esys_PolicyGetDigest(self.esys.esys, self.handle, NONE, NONE, NONE, &raw mut digest.0)
        })?;
        digest.value().ok_or_else(no_value)
    }

    /// In this policy session: PCRs hold this.
    pub(super) fn policy_pcr(&self, composite: &TPM2B_DIGEST, pcrs: &TPML_PCR_SELECTION) -> Result<(), Code> {
        // SAFETY: by the invariants; both references live for the call.
        check(unsafe { Esys_PolicyPCR(self.esys.esys, self.handle, NONE, NONE, NONE, composite, pcrs) })
    }

    /// In this policy session: what the index starts with is less than this.
    pub(super) fn policy_nv_less(&self, index: &Object<'e>, operand: &TPM2B_DIGEST) -> Result<(), Code> {
        // SAFETY: by the invariants; the operand lives for the call. A handle of another context would be unknown to the
        // library, which says so.
        check(unsafe {
            Esys_PolicyNV(
                self.esys.esys,
                index.handle,
                index.handle,
                self.handle,
                ESYS_TR_PASSWORD,
                NONE,
                NONE,
                operand,
                0,
                TPM2_EO_UNSIGNED_LT,
            )
        })
    }

    /// In this policy session: the command has these parameters.
    pub(super) fn policy_cp_hash(&self, cp_hash: &TPM2B_DIGEST) -> Result<(), Code> {
        // SAFETY: by the invariants; the reference lives for the call.
        check(unsafe { Esys_PolicyCpHash(self.esys.esys, self.handle, NONE, NONE, NONE, cp_hash) })
    }

    /// In this policy session: what was asserted so far is what the key with this Name approved.
    pub(super) fn policy_authorize(
        &self,
        approved: &TPM2B_DIGEST,
        policy_ref: &TPM2B_DIGEST,
        key: &TPM2B_NAME,
        ticket: &TPMT_TK_VERIFIED,
    ) -> Result<(), Code> {
        // SAFETY: by the invariants; all references live for the call.
        check(unsafe {
            Esys_PolicyAuthorize(
                self.esys.esys,
                self.handle,
                NONE,
                NONE,
                NONE,
                approved,
                policy_ref,
                key,
                ticket,
            )
        })
    }

    /// Writes to the start of this index, authorized by a policy session.
    pub(super) fn write(&self, session: &Object<'e>, data: &TPM2B_MAX_NV_BUFFER) -> Result<(), Code> {
        // SAFETY: by the invariants; the data lives for the call.
        check(unsafe {
            Esys_NV_Write(self.esys.esys, self.handle, self.handle, session.handle, NONE, NONE, data, 0)
        })
    }
}

/// `TSS2_ESYS_RC_GENERAL_FAILURE`, for success without a result.
fn no_value() -> Code {
    Code::new(0x7_0001)
}

fn check(code: TSS2_RC) -> Result<(), Code> {
    if code == 0 { Ok(()) } else { Err(Code::new(code)) }
}
