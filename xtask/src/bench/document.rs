//! The tables in docs/performance.md, which are made from the results that are kept.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::results::Results;
use super::table;
use crate::paths;

/// The kernel whose tables are in the document.
pub(crate) const KERNEL: &str = "6.12";

/// Puts the tables of these results into the document.
pub(crate) fn update(results: &Results) -> Result<()> {
    change(|text| with_tables(text, results))
}

/// Puts a table with this name into the document.
pub(crate) fn update_table(name: &str, table: &str) -> Result<()> {
    change(|text| replaced(text, name, table))
}

fn change(to: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let file = file();
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    fs::write(&file, to(&text)?).with_context(|| format!("writing {}", file.display()))
}

fn file() -> PathBuf {
    paths::workspace().join("docs/performance.md")
}

fn with_tables(text: &str, results: &Results) -> Result<String> {
    let text = replaced(text, "operations", &table::operations(results))?;
    replaced(&text, "hooks", &table::hooks(results))
}

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`.
fn replaced(text: &str, name: &str, table: &str) -> Result<String> {
    let missing = || format!("docs/performance.md has no place for the table {name}");
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&start).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{start}\n{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::parts::{self, Part};
    use crate::bench::results::tests::results;

    #[test]
    fn tables_stand_between_their_marks() {
        let text = "a\n<!-- operations -->\nold\n<!-- /operations -->\nb\n<!-- hooks -->\n<!-- /hooks -->\n";
        let results = results(&[("base", &[("open", 5)])]);
        let once = with_tables(text, &results).unwrap();
        assert!(once.contains("| open      |    5 |\n\n<!-- /operations -->\nb\n"), "{once}");
        assert!(!once.contains("old"));
        assert_eq!(with_tables(&once, &results).unwrap(), once);
        assert!(with_tables("nothing", &results).is_err());
    }

    #[test]
    fn the_document_shows_what_is_kept() {
        let results = Results::read(&Results::file(KERNEL)).unwrap().unwrap();
        let text = fs::read_to_string(file()).unwrap();
        assert_eq!(with_tables(&text, &results).unwrap(), text, "cargo xtask bench --kernel {KERNEL} --save");
    }

    #[test]
    fn the_document_shows_what_is_kept_of_the_parts() {
        let text = fs::read_to_string(file()).unwrap();
        for part in Part::ALL {
            let Some(table) = parts::kept_table(part).unwrap() else { continue };
            let filter = part.name();
            let expected = replaced(&text, filter, &table).unwrap();
            assert_eq!(expected, text, "cargo xtask bench --filter {filter} --save");
        }
    }
}
