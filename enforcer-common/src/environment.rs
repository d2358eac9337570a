//! What interpreters take from their environment: code, options, and places where code is looked for.
//!
//! A variable is a text like every other name: `$NAME=value`, whose sign no path, option or abstract socket begins with.
//! A policy lists it by its name, `$NAME`, or together with its value.
//!
//! Files that variables make an interpreter read are judged when they are opened; the variables here hold code
//! themselves, or lead to files that are code without looking like it. Left out is what only leads to libraries
//! (`LD_PRELOAD`, `LD_LIBRARY_PATH`, `GCONV_PATH`, `LUA_CPATH`, …), which have to be listed to be mapped, and what names
//! programs (`PAGER`, `BROWSER`, …), which have to be listed to start.

use core::ops::ControlFlow;

use crate::{
    abi::Head,
    decide::{self, Step, Tables, Text},
    verdict::Fault,
};

/// Stands before the name of every variable.
pub const SIGN: u8 = b'$';
/// Longest variable that can be listed with its value, sign included, in bytes.
pub const VARIABLE_MAX: u32 = 1024;
/// Longest name of a variable, sign included, in bytes. A longer one is cut off, and so is in no policy.
pub const NAME_MAX: u32 = 256;

/// How variables begin from which some interpreter takes code, or is led to some.
const KNOWN: &[Start] = &[
    // Shells. `BASH_ENV` and `ENV` are expanded before they are opened, `PS4` is at every command that is traced, as
    // `SHELLOPTS` can ask for; functions are code, and what `FPATH` leads to has no extension.
    Start::of(b"$BASH_FUNC_"),
    Start::of(b"$BASH_ENV="),
    Start::of(b"$ENV="),
    Start::of(b"$SHELLOPTS="),
    Start::of(b"$BASHOPTS="),
    Start::of(b"$PS4="),
    Start::of(b"$PROMPT_COMMAND="),
    Start::of(b"$FPATH="),
    Start::of(b"$ZDOTDIR="),
    // Python. `PYTHONINSPECT` has standard input read once the script has ended.
    Start::of(b"$PYTHONSTARTUP="),
    Start::of(b"$PYTHONINSPECT="),
    Start::of(b"$PYTHONPATH="),
    Start::of(b"$PYTHONHOME="),
    Start::of(b"$PYTHONUSERBASE="),
    // Perl: `PERL5OPT=-Mstrict;…`, `PERL5DB=…` with `-d`.
    Start::of(b"$PERL5OPT="),
    Start::of(b"$PERL5DB="),
    Start::of(b"$PERL5LIB="),
    Start::of(b"$PERLLIB="),
    // Ruby.
    Start::of(b"$RUBYOPT="),
    Start::of(b"$RUBYLIB="),
    // Node and Bun: `NODE_OPTIONS=--import=data:…`; modules need no extension, and neither has compiled code.
    Start::of(b"$NODE_OPTIONS="),
    Start::of(b"$NODE_PATH="),
    Start::of(b"$NODE_COMPILE_CACHE="),
    Start::of(b"$BUN_OPTIONS="),
    // Lua, for every version: `LUA_INIT_5_4`. Its path is a list of patterns, with any extension.
    Start::of(b"$LUA_INIT"),
    Start::of(b"$LUA_PATH"),
    // PHP: a configuration has it run a file before every other.
    Start::of(b"$PHPRC="),
    Start::of(b"$PHP_INI_SCAN_DIR="),
    // Java.
    Start::of(b"$JAVA_TOOL_OPTIONS="),
    Start::of(b"$JDK_JAVA_OPTIONS="),
    Start::of(b"$_JAVA_OPTIONS="),
    Start::of(b"$OPENJ9_JAVA_OPTIONS="),
    Start::of(b"$IBM_JAVA_OPTIONS="),
    Start::of(b"$CLASSPATH="),
    // Tcl, awk, Guile, Emacs.
    Start::of(b"$TCLLIBPATH="),
    Start::of(b"$TCL_LIBRARY="),
    Start::of(b"$AWKPATH="),
    Start::of(b"$GUILE_LOAD_"),
    Start::of(b"$EMACSLOADPATH="),
];

/// How many there are.
const ENTRIES: u32 = 39;
const _: () = assert!(KNOWN.len() == ENTRIES as usize);

/// Room for [`KNOWN`]: a power of two, because LLVM masks the index into it, and the verifier sees no bound but that.
const ROOM: usize = 64;
/// [`KNOWN`], as it lies in the kernel.
static CODE: [Start; ROOM] = {
    let mut table = [Start::NEVER; ROOM];
    let mut at = 0;
    while at < KNOWN.len() {
        table[at] = KNOWN[at];
        at += 1;
    }
    table
};

/// Whether some interpreter takes code from the variable, or is led to some by it.
#[inline(always)]
pub fn is_code<T: Text, L: Tables>(variable: &T, tables: &L) -> bool {
    let (Some(first), Some(second), Some(third)) = (variable.word(0), variable.word(1), variable.word(2))
    else {
        // What cannot be read is taken for code.
        return true;
    };
    // A loop, because LLVM makes of comparisons in a row a number of paths that no verifier follows to the end.
    let mut pass = StartPass { first, second, third, found: false };
    tables.repeat(ENTRIES, &mut pass);
    pass.found
}

/// The same for the author of a policy, who writes no `$`: a name, or a name and a value.
#[must_use]
pub fn is_worth_listing(entry: &str) -> bool {
    let text = [&[SIGN], entry.as_bytes(), b"="];
    let byte = |at: usize| text.iter().copied().flatten().nth(at).copied().unwrap_or(0);
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|place| byte(at + place)));
    KNOWN.iter().any(|start| start.begins(word(0), word(8), word(16)))
}

struct StartPass {
    first: u64,
    second: u64,
    third: u64,
    found: bool,
}

impl Step for StartPass {
    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        let start = &CODE[index as usize % ROOM];
        if start.begins(self.first, self.second, self.third) {
            self.found = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// How much of a variable names what a policy would have to list, and does not; 0 if an interpreter may start with it.
///
/// # Errors
/// The name cannot be read.
#[inline(always)]
pub fn unlisted<T: Text, L: Tables>(variable: &T, head: &Head, tables: &L) -> Result<u32, Fault> {
    if !is_code(variable, tables) {
        return Ok(0);
    }
    let name = variable.first(name_len(variable, tables)?);
    let by_name = decide::is_listed_code(&name, head, tables)?;
    let with_value = variable.len() <= VARIABLE_MAX && decide::is_listed_code(variable, head, tables)?;
    Ok(if by_name || with_value { 0 } else { name.len() })
}

/// Length of what stands before `=`.
#[inline(always)]
fn name_len<T: Text, L: Tables>(variable: &T, tables: &L) -> Result<u32, Fault> {
    let mut pass = NamePass { variable, len: variable.len().min(NAME_MAX), complete: true };
    tables.repeat(NAME_MAX / 8, &mut pass);
    if pass.complete { Ok(pass.len) } else { Err(Fault::KernelRead) }
}

struct NamePass<'a, T> {
    variable: &'a T,
    len: u32,
    complete: bool,
}

impl<T: Text> Step for NamePass<'_, T> {
    #[inline(always)]
    fn step(&mut self, index: u32) -> ControlFlow<()> {
        let Some(word) = self.variable.word(index) else {
            self.complete = false;
            return ControlFlow::Break(());
        };
        let mut rest = word;
        for place in 0..8 {
            if rest & 0xff == u64::from(b'=') {
                self.len = index * 8 + place;
                return ControlFlow::Break(());
            }
            rest >>= 8;
        }
        ControlFlow::Continue(())
    }
}

/// How a variable begins: at most three words, and which of their bits count.
#[derive(Clone, Copy)]
struct Start {
    first: u64,
    first_mask: u64,
    second: u64,
    second_mask: u64,
    third: u64,
    third_mask: u64,
}

impl Start {
    /// How no variable begins.
    const NEVER: Self = Self { first: 1, first_mask: 0, second: 0, second_mask: 0, third: 0, third_mask: 0 };

    const fn of<const N: usize>(text: &[u8; N]) -> Self {
        const { assert!(N <= 24, "a longer name takes another word") };
        Self {
            first: word(text, 0),
            first_mask: mask(N, 0),
            second: word(text, 8),
            second_mask: mask(N, 8),
            third: word(text, 16),
            third_mask: mask(N, 16),
        }
    }

    /// Whether a variable that starts with these three words begins so.
    #[inline(always)]
    const fn begins(&self, first: u64, second: u64, third: u64) -> bool {
        let differ = (first & self.first_mask ^ self.first)
            | (second & self.second_mask ^ self.second)
            | (third & self.third_mask ^ self.third);
        differ == 0
    }
}

/// Which bits of the eight bytes from `at` on belong to a text of `len` bytes.
const fn mask(len: usize, at: usize) -> u64 {
    match len.saturating_sub(at) {
        0 => 0,
        bytes @ 1..8 => !(u64::MAX << (8 * bytes)),
        _ => u64::MAX,
    }
}

/// The eight bytes from `at` on, zero padded.
const fn word(text: &[u8], at: usize) -> u64 {
    let mut word = 0_u64;
    let mut place = at;
    while place < text.len() && place < at + 8 {
        word |= (text[place] as u64) << (8 * (place - at));
        place += 1;
    }
    word
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{is_code, is_worth_listing, unlisted};
    use crate::{
        abi::Grant,
        decide::{
            Bytes,
            tests::{Tiny, head, tiny},
        },
        rights::Rights,
    };

    #[test]
    fn variables_that_carry_code() {
        let table = [
            ("$BASH_ENV=$(id)", true),
            ("$BASH_FUNC_ls%%=() { :; }", true),
            ("$BASH_VERSION=5", false),
            ("$ENV=production", true),
            ("$ENVIRONMENT=production", false),
            ("$PS4=+ ", true),
            ("$PS4", false),
            ("$PS41=", false),
            ("$PYTHONPATH=", true),
            ("$PYTHONPATHS=/x", false),
            ("$PYTHONUNBUFFERED=1", false),
            ("$pythonpath=/x", false),
            ("$NODE_OPTIONS=--import=data:text/javascript,0", true),
            ("$NODE_ENV=production", false),
            ("$NODE_COMPILE_CACHE=/tmp", true),
            ("$LUA_INIT=os.exit()", true),
            ("$LUA_INIT_5_4=os.exit()", true),
            ("$LUA_CPATH=?.so", false),
            ("$JAVA_TOOL_OPTIONS=-javaagent:/x", true),
            ("$JAVA_TOOL_OPTION=", false),
            ("$JAVA_HOME=/usr/lib/jvm", false),
            ("$_JAVA_OPTIONS=", true),
            ("$OPENJ9_JAVA_OPTIONS=x", true),
            ("$OPENJ9_JAVA_OPTIONZ=x", false),
            ("$PATH=/usr/bin", false),
            ("$LD_PRELOAD=/x.so", false),
            ("PS4=", false),
            ("$", false),
            ("", false),
        ];
        for (variable, expected) in table {
            assert_eq!(is_code(&Bytes(variable.as_bytes()), &tiny()), expected, "{variable}");
        }
        assert!(
            is_worth_listing("PYTHONPATH")
                && is_worth_listing("PYTHONPATH=/x")
                && is_worth_listing("BASH_FUNC_ls%%")
        );
        assert!(!is_worth_listing("PATH") && !is_worth_listing("PYTHONPATHS"));
    }

    #[test]
    fn a_variable_is_listed_by_its_name_or_with_its_value() {
        let grant =
            |rights: Rights| Grant { rights: rights.with_implied().0, min_trust: 0, on_low: 0, rule: 9 };
        let listing = |exact: &'static [u8], rights| Tiny { exact, grant: grant(rights), ..tiny() };
        let ask =
            |tables: &Tiny, variable: &str| unlisted(&Bytes(variable.as_bytes()), &head(), tables).unwrap();
        let by_name = listing(b"$PYTHONPATH", Rights::CODE);
        let with_value = listing(b"$PYTHONPATH=/opt/app", Rights::CODE);
        let unrelated = listing(b"$PYTHONPATH", Rights::READ);
        let len = |name: &str| u32::try_from(name.len()).unwrap();
        let named = len("$PYTHONPATH");
        for (value, by_value) in [("/opt/app", 0), ("/opt/apps", named), ("", named)] {
            let variable = std::format!("$PYTHONPATH={value}");
            assert_eq!(ask(&by_name, &variable), 0, "{variable}");
            assert_eq!(ask(&with_value, &variable), by_value, "{variable}");
            assert_eq!(ask(&unrelated, &variable), named, "{variable}");
        }
        assert_eq!(ask(&by_name, "$PATH=/usr/bin"), 0);
        assert_eq!(ask(&by_name, "$PYTHONHOME=/opt"), len("$PYTHONHOME"));
        // A name without an end is cut off, and in no policy.
        assert_eq!(ask(&by_name, &std::format!("$BASH_FUNC_{}=", "x".repeat(300))), super::NAME_MAX);
    }
}
