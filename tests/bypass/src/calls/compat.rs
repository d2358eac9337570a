//! Calls by the 32-bit ABI, which 64-bit programs may make as well. All that they point to lies below 4 GiB.

use std::cell::Cell;
use std::io;

use super::memory::{MAP_PRIVATE, PAGE, PROT_READ, PROT_WRITE, Page};

/// A page at an address that 32 bits can hold, filled from its start.
pub(crate) struct Low {
    page: Page,
    filled: Cell<usize>,
}

impl Low {
    pub(crate) fn new() -> io::Result<Self> {
        let page = Page::anonymous(PROT_READ | PROT_WRITE, MAP_PRIVATE | libc::MAP_32BIT)?;
        Ok(Self { page, filled: Cell::new(0) })
    }

    /// Writes words behind what is there, and tells where.
    pub(crate) fn put(&self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.put_bytes(&bytes)
    }

    /// The same of bytes.
    pub(crate) fn put_bytes(&self, bytes: &[u8]) -> u32 {
        let at = self.filled.get();
        assert!(at + bytes.len() <= PAGE, "a page is enough");
        self.filled.set((at + bytes.len()).next_multiple_of(4));
        let address = self.page.address().wrapping_byte_add(at);
        // SAFETY: the page is writable and nothing in Rust refers to it; the bytes fit, as just checked.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), address.cast::<u8>(), bytes.len()) };
        u32::try_from(address.addr()).expect("MAP_32BIT is below 2 GiB")
    }
}

/// A length, as 32-bit programs say it.
pub(crate) fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("it fits in a page")
}

/// Makes a call by the number that it has there. The callers know that it writes to what they hand over only.
pub(crate) fn call(number: u32, [first, second, third, fourth]: [u32; 4]) -> io::Result<i64> {
    let result: i32;
    // SAFETY: enters the kernel, which keeps all registers but these; LLVM keeps rbx for itself.
    unsafe {
        core::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) u64::from(first) => _,
            inlateout("eax") number => result,
            in("ecx") second,
            in("edx") third,
            in("esi") fourth,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result.into()) }
}
