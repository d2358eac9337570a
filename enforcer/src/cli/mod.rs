//! The command line: one file per verb. Printing and exit codes live here and nowhere else.

pub mod check;
pub mod explain;
