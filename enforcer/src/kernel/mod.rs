//! The kernel's side of user space: the only modules that use aya.

pub mod attach;
pub mod bind;
pub mod btf;
pub mod code;
pub mod direct;
pub mod fields;
pub mod install;
pub mod kfunc;
pub mod load;
pub mod maps;
pub mod own;
pub mod pin;
pub mod place;
pub mod pod;
pub mod preemption;
pub mod probe;
pub mod seal;
pub mod state;
pub mod support;
pub mod symbols;
#[cfg(test)]
pub(crate) mod testing;

/// An error and its sources in one line: aya's own messages leave the cause to the source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
