//! The attacker's library: a shared object whose initialiser creates a file.
//!
//! Put together by hand, so that neither the build nor a guest needs a compiler for it, and nothing but these few
//! instructions is ever run.

/// Address and file offset are the same, so one number serves for both.
const CODE: u64 = 0x1000;
const DATA: u64 = 0x2000;

/// An x86-64 ELF shared object that creates `marker` (and nothing else) when it is loaded.
#[must_use]
pub fn creating(marker: &str) -> Vec<u8> {
    let mut data = Data::default();
    // The dynamic linker wants symbol and string tables even when there are no symbols.
    let strings = data.put(b"\0");
    let symbols = data.put(&[0; 24]);
    // One bucket, one chain: the null symbol.
    let hash = data.put(&words(&[1, 1, 0, 0]));
    let name = data.put(&[marker.as_bytes(), b"\0"].concat());
    let dynamic = data.put(&longs(&[
        (12, CODE),   // DT_INIT
        (4, hash),    // DT_HASH
        (5, strings), // DT_STRTAB
        (6, symbols), // DT_SYMTAB
        (10, 1),      // DT_STRSZ
        (11, 24),     // DT_SYMENT
        (0, 0),       // DT_NULL
    ]));
    let dynamic_size = 7 * 16;
    let code = code(name);

    let mut file = header();
    file.extend(segment(1, 5, CODE, code.len() as u64)); // PT_LOAD, R+X
    file.extend(segment(1, 6, DATA, data.bytes.len() as u64)); // PT_LOAD, R+W
    file.extend(segment(2, 6, dynamic, dynamic_size)); // PT_DYNAMIC
    file.extend(segment(0x6474_e551, 6, 0, 0)); // PT_GNU_STACK: not executable
    file.resize(0x1000, 0);
    file.extend(code);
    file.resize(0x2000, 0);
    file.extend(data.bytes);
    file
}

#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
}

impl Data {
    /// Appends, aligned to 8 bytes, and returns the address.
    fn put(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let address = DATA + self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        address
    }
}

/// `open(name, O_WRONLY | O_CREAT, 0644)`, then return.
fn code(name: u64) -> Vec<u8> {
    let mut code = vec![0x48, 0x8d, 0x3d]; // lea rdi, [rip + …]
    let after_lea = CODE + 7;
    code.extend(u32::try_from(name - after_lea).unwrap_or_default().to_le_bytes());
    code.extend([0xbe, 0x41, 0, 0, 0]); // mov esi, O_WRONLY | O_CREAT
    code.extend([0xba, 0xa4, 0x01, 0, 0]); // mov edx, 0644
    code.extend([0xb8, 2, 0, 0, 0]); // mov eax, SYS_open
    code.extend([0x0f, 0x05]); // syscall
    code.push(0xc3); // ret
    code
}

fn header() -> Vec<u8> {
    let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header.extend(3_u16.to_le_bytes()); // ET_DYN
    header.extend(62_u16.to_le_bytes()); // EM_X86_64
    header.extend(1_u32.to_le_bytes());
    header.extend(longs(&[(0, 64)])); // entry, program headers
    header.extend(0_u64.to_le_bytes()); // section headers
    header.extend(0_u32.to_le_bytes()); // flags
    for half in [64_u16, 56, 4, 0, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    header
}

fn segment(kind: u32, flags: u32, at: u64, size: u64) -> Vec<u8> {
    let mut segment = words(&[kind, flags]);
    segment.extend([at, at, at, size, size, 0x1000].iter().flat_map(|long| long.to_le_bytes()));
    segment
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn longs(values: &[(u64, u64)]) -> Vec<u8> {
    values.iter().flat_map(|(one, two)| [one.to_le_bytes(), two.to_le_bytes()].concat()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Loaded into a harmless program on the build machine.
    #[test]
    fn loading_it_creates_the_file() {
        let directory = std::env::temp_dir().join(format!("shared-object-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (library, marker) = (directory.join("evil.so"), directory.join("marker"));
        std::fs::write(&library, super::creating(&marker.to_string_lossy())).unwrap();
        let output = Command::new("/bin/echo").arg("fine").env("LD_PRELOAD", &library).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fine\n", "{output:?}");
        assert!(marker.exists(), "{output:?}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
