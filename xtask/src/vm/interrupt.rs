//! Ctrl-C and SIGTERM: stop guests the orderly way, so that their temporary files go, too.
//!
//! QEMU also dies with us when we have no chance to clean up, see [`super::qemu`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static GUESTS: AtomicUsize = AtomicUsize::new(0);

/// Installs the handler. Without a running guest, an interrupt ends xtask at once.
pub(crate) fn on_interrupt_stop_guests() -> Result<()> {
    ctrlc::set_handler(|| {
        let again = INTERRUPTED.swap(true, Ordering::SeqCst);
        if again || GUESTS.load(Ordering::SeqCst) == 0 {
            std::process::exit(130);
        }
    })
    .context("installing the interrupt handler")
}

/// Whether the user wants out.
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// While one exists, an interrupt waits for whoever polls [`interrupted`].
pub(super) struct GuestRunning(());

impl GuestRunning {
    pub(super) fn begin() -> Self {
        GUESTS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for GuestRunning {
    fn drop(&mut self) {
        GUESTS.fetch_sub(1, Ordering::SeqCst);
    }
}
