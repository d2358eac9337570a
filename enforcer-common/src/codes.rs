//! One macro for the enums that travel as integer codes.

/// Declares a field-less enum together with its wire code and its stable name.
///
/// Codes are retired, never reused: old logs and old pinned maps outlive the binary that wrote them.
macro_rules! codes {
    ($(#[$meta:meta])* $vis:vis enum $name:ident : $repr:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($repr)]
        $vis enum $name { $($(#[$vmeta])* $variant = $code,)+ }

        impl $name {
            /// Every value, in code order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code that crosses the kernel line.
            #[inline(always)]
            pub const fn code(self) -> $repr {
                self as $repr
            }

            /// The name used in events, policies and command output.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value with this code, if it is one we know.
            #[inline(always)]
            pub const fn from_code(code: $repr) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The value with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use codes;
