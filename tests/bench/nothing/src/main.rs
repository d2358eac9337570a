//! A program that does nothing, for the cost of starting one.
#![no_main]

/// Entry point without Rust's runtime, which would do something.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const i8) -> i32 {
    0
}
