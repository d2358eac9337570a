//! The smallest program there is: it ends with a status of one's choice.
//!
//! Put together by hand: a few hundred bytes instead of megabytes, which counts when an emulated CPU copies and starts
//! hundreds of them.

/// Where it is loaded.
const BASE: u64 = 0x40_0000;

/// Offset of its first instruction, behind the header and two program headers.
pub const ENTRY: usize = 64 + 2 * 56;

const READABLE: u32 = 4;
const WRITABLE: u32 = 2;
const EXECUTABLE: u32 = 1;

/// A static x86-64 ELF program that ends with `status`. Its code runs wherever it is mapped.
#[must_use]
pub fn exiting(status: u8) -> Vec<u8> {
    let mut code = vec![0xb8, 60, 0, 0, 0]; // mov eax, SYS_exit
    code.extend([0xbf, status, 0, 0, 0]); // mov edi, status
    code.extend([0x0f, 0x05]); // syscall
    program(&code, READABLE | WRITABLE)
}

/// A program of these instructions that asks for an executable stack.
#[must_use]
pub fn with_executable_stack(code: &[u8]) -> Vec<u8> {
    program(code, READABLE | WRITABLE | EXECUTABLE)
}

fn program(code: &[u8], stack: u32) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2_u16.to_le_bytes()); // ET_EXEC
    file.extend(62_u16.to_le_bytes()); // EM_X86_64
    file.extend(1_u32.to_le_bytes());
    for long in [BASE + ENTRY as u64, 64, 0] {
        file.extend(long.to_le_bytes()); // entry, program headers, section headers
    }
    file.extend(0_u32.to_le_bytes()); // flags
    for half in [64_u16, 56, 2, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let size = (ENTRY + code.len()) as u64;
    file.extend(segment(1, READABLE | EXECUTABLE, BASE, size)); // PT_LOAD
    file.extend(segment(0x6474_e551, stack, 0, 0)); // PT_GNU_STACK
    file.extend(code);
    file
}

fn segment(kind: u32, flags: u32, address: u64, size: u64) -> Vec<u8> {
    let mut segment = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    segment.extend([0, address, address, size, size, 0x1000].iter().flat_map(|long| long.to_le_bytes()));
    segment
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        path::Path,
        process::{Command, Stdio},
    };

    /// Writes a program, in a process of its own: another thread that starts something meanwhile would keep the file open for
    /// writing, and it could not be run ("text file busy").
    fn install(program: &[u8], file: &Path) {
        let mut install = Command::new("install");
        install.args(["-m", "755", "/dev/stdin"]).arg(file).stdin(Stdio::piped());
        let mut child = install.spawn().unwrap();
        child.stdin.take().unwrap().write_all(program).unwrap();
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn it_ends_with_its_status() {
        for status in [0, 7] {
            let file = std::env::temp_dir().join(format!("stub-{}-{status}", std::process::id()));
            install(&super::exiting(status), &file);
            let ended = Command::new(&file).status().unwrap();
            assert_eq!(ended.code(), Some(status.into()));
            std::fs::remove_file(&file).unwrap();
        }
    }
}
