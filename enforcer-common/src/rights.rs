//! What a rule grants on a named object.

/// A set of rights on one object name (a path, or `@name` for an abstract unix socket).
///
/// A request is allowed when the union of what all matching rules grant contains every right it needs. What a rule
/// implies (`exec` implies `library`, `library` implies `code`, `code` implies `read`, `create` implies `write`) is
/// added at compile time, so the kernel only tests bits. `exec-pinned` implies `read` and no more: a file that may start
/// because of what it holds must not be mapped, or interpreted, as code by a program that nobody asks what it holds. `probe`
/// implies no more either: a file that may start because of who starts it must not be mapped by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Rights(pub u16);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Start the file as a program, or as the interpreter of a script.
    pub const EXEC: Self = Self(1 << 0);
    /// Map the file into memory as executable code.
    pub const LIBRARY: Self = Self(1 << 1);
    /// Open the file or list the directory.
    pub const READ: Self = Self(1 << 2);
    /// Change the object or its metadata, rename or unlink it.
    pub const WRITE: Self = Self(1 << 3);
    /// Bring the name into being.
    pub const CREATE: Self = Self(1 << 4);
    /// Connect or send to the unix socket with this name.
    pub const UNIX_CONNECT: Self = Self(1 << 5);
    /// Bind a unix socket to this name.
    pub const UNIX_BIND: Self = Self(1 << 6);
    /// Start the file as a program, if it holds one of the contents that the policy lists for it.
    pub const EXEC_PINNED: Self = Self(1 << 7);

    /// Read the file as code, as an interpreter does.
    pub const CODE: Self = Self(1 << 8);
    /// The program is an interpreter: what it reads as code must be listed.
    pub const INTERPRETER: Self = Self(1 << 9);

    /// Start the file as a program from outside of the workload.
    pub const PROBE: Self = Self(1 << 10);

    /// Every right with its name, lowest bit first.
    pub const NAMES: &'static [(Self, &'static str)] = &[
        (Self::EXEC, "exec"),
        (Self::LIBRARY, "library"),
        (Self::READ, "read"),
        (Self::WRITE, "write"),
        (Self::CREATE, "create"),
        (Self::UNIX_CONNECT, "unix-connect"),
        (Self::UNIX_BIND, "unix-bind"),
        (Self::EXEC_PINNED, "exec-pinned"),
        (Self::CODE, "code"),
        (Self::INTERPRETER, "interpreter"),
        (Self::PROBE, "probe"),
    ];

    /// Both sets together.
    #[inline(always)]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every right of `needed` is in this set.
    #[inline(always)]
    #[must_use]
    pub const fn contains(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// The rights of `self` that `held` lacks.
    #[inline(always)]
    #[must_use]
    pub const fn missing_from(self, held: Self) -> Self {
        Self(self.0 & !held.0)
    }

    /// Whether the set is empty.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set with everything it implies. Applied once, by the policy compiler.
    #[must_use]
    pub const fn with_implied(self) -> Self {
        let mut bits = self.0;
        if bits & Self::EXEC.0 != 0 {
            bits |= Self::LIBRARY.0;
        }
        if bits & Self::LIBRARY.0 != 0 {
            bits |= Self::CODE.0;
        }
        if bits & (Self::CODE.0 | Self::EXEC_PINNED.0 | Self::PROBE.0) != 0 {
            bits |= Self::READ.0;
        }
        if bits & Self::CREATE.0 != 0 {
            bits |= Self::WRITE.0;
        }
        Self(bits)
    }

    /// This set, and what who enters from outside may start: all that the workload itself may.
    #[inline(always)]
    #[must_use]
    pub const fn with_probe(self) -> Self {
        if self.contains(Self::EXEC) { self.union(Self::PROBE) } else { self }
    }

    /// Names of the rights in the set, lowest bit first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().filter(move |(right, _)| self.contains(*right)).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::Rights;

    #[test]
    fn implications() {
        let all = [
            (Rights::EXEC, Rights(0b1_0000_0111)),
            (Rights::LIBRARY, Rights(0b1_0000_0110)),
            (Rights::CODE, Rights(0b1_0000_0100)),
            (Rights::INTERPRETER, Rights::INTERPRETER),
            (Rights::READ, Rights(0b00100)),
            (Rights::WRITE, Rights(0b01000)),
            (Rights::CREATE, Rights(0b11000)),
            (Rights::UNIX_CONNECT, Rights::UNIX_CONNECT),
            (Rights::EXEC_PINNED, Rights::EXEC_PINNED.union(Rights::READ)),
            (Rights::PROBE, Rights::PROBE.union(Rights::READ)),
        ];
        for (given, expected) in all {
            assert_eq!(given.with_implied(), expected, "{given:?}");
        }
    }
}
