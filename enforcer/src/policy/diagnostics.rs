//! What is wrong with a policy, said so that its author can mend it.
//!
//! Every stage adds to one list; nothing here decides what is wrong. Text is drawn by `annotate-snippets`, JSON has
//! one object per diagnostic with stable codes.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::source::{Source, Span};

/// Whether a policy can be used in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy is usable, but hardly meant so.
    Warning,
}

macro_rules! diagnostic_codes {
    ($($(#[$meta:meta])* $variant:ident => $name:literal,)+) => {
        /// The kind of a diagnostic. Names are stable: programs may match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$meta])* $variant,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

diagnostic_codes! {
    /// Not TOML.
    Syntax => "syntax",
    /// A table or key that no policy has.
    UnknownKey => "unknown-key",
    /// A key that every policy must have.
    MissingKey => "missing-key",
    /// A value of another type.
    WrongType => "wrong-type",
    /// The policy's name.
    BadName => "bad-name",
    /// A selector of workloads.
    BadSelector => "bad-selector",
    /// A word that is not in the list of what can stand there.
    UnknownValue => "unknown-value",
    /// A path or pattern.
    BadPattern => "bad-pattern",
    /// A network rule.
    BadAddress => "bad-address",
    /// A digest.
    BadDigest => "bad-digest",
    /// More than the automaton may grow to.
    TooComplex => "too-complex",
    /// More than there is room for.
    TooLarge => "too-large",
    /// The same rule twice.
    Duplicate => "duplicate",
    /// A rule or policy that can have no effect.
    NoEffect => "no-effect",
    /// A rule that gives away nearly everything.
    Broad => "broad",
    /// A program that runs whatever code it reads.
    Interpreter => "interpreter",
}

/// A place and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub span: Span,
    /// What; may be empty.
    pub label: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the policy from being used.
    pub severity: Severity,
    /// Its kind.
    pub code: Code,
    /// What is wrong, in a line.
    pub message: String,
    /// Where, unless the whole file is meant.
    pub primary: Option<Note>,
    /// Other places that explain it.
    pub related: Vec<Note>,
    /// What to write instead.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error about the whole file.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            primary: None,
            related: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning about the whole file.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Points at a place.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.primary = Some(Note { span, label: label.into() });
        self
    }

    /// Points at one more place.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Note { span, label: label.into() });
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// Everything that was found in one file, as far as anyone would read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    /// Found, kept or not.
    errors: usize,
    /// Found, kept or not.
    warnings: usize,
}

/// How text is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For files and pipes.
    Plain,
    /// With terminal colours.
    Coloured,
}

impl Diagnostics {
    /// How many are drawn as text; a generated file may have thousands.
    pub const SHOWN: usize = 100;
    /// How many of each severity are kept; the rest is only counted.
    pub const KEPT: usize = 1000;

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let count = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= Self::KEPT {
            self.kept.push(diagnostic);
        }
    }

    /// Whether further errors are only counted, so that they need no explanation.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.errors >= Self::KEPT
    }

    /// Whether the policy is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors == 0 && self.warnings == 0
    }

    /// How many there are of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        match severity {
            Severity::Error => self.errors,
            Severity::Warning => self.warnings,
        }
    }

    /// Those that were kept.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.kept.iter()
    }

    /// Puts them in the order of the file; those without a place come first.
    pub fn sort(&mut self) {
        self.kept.sort_by_key(|diagnostic| {
            (diagnostic.primary.as_ref().map(|note| note.span), diagnostic.severity, diagnostic.code)
        });
    }

    /// Draws them for people. Empty when there are none.
    #[must_use]
    pub fn render(&self, source: &Source, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        let mut text = String::new();
        for diagnostic in self.kept.iter().take(Self::SHOWN) {
            text.push_str(&draw(diagnostic, source, &renderer));
            text.push_str("\n\n");
        }
        let rest = (self.errors + self.warnings).saturating_sub(Self::SHOWN);
        if rest > 0 {
            text.push_str(&format!("… and {rest} more in {}\n", source.name()));
        }
        text
    }

    /// As JSON: an array of objects.
    #[must_use]
    pub fn to_json(&self, source: &Source) -> Value {
        self.kept.iter().map(|diagnostic| object(diagnostic, source)).collect()
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(diagnostics: I) -> Self {
        let mut all = Self::default();
        diagnostics.into_iter().for_each(|diagnostic| all.push(diagnostic));
        all.sort();
        all
    }
}

fn draw(diagnostic: &Diagnostic, source: &Source, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(printable(&diagnostic.message)).id(diagnostic.code.name());
    let notes: Vec<&Note> = diagnostic.primary.iter().chain(&diagnostic.related).collect();
    let mut group = match snippet(diagnostic, &notes, source) {
        Some(snippet) => title.element(snippet),
        None => Group::with_title(title),
    };
    if notes.is_empty() {
        group = group.element(annotate_snippets::Origin::path(source.name()));
    }
    group = group.elements(diagnostic.help.iter().map(|help| Level::HELP.message(printable(help))));
    renderer.render(&[group])
}

/// Only the lines that are concerned go to the renderer: it walks all it is given, for each diagnostic.
fn snippet<'a>(
    diagnostic: &Diagnostic,
    notes: &[&Note],
    source: &'a Source,
) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let start = notes.iter().map(|note| note.span.start).min()?;
    let end = notes.iter().map(|note| note.span.end).max()?;
    let (lines, first) = source.lines_around(Span { start, end });
    let mut snippet =
        Snippet::source(source.text().get(lines.clone())?).line_start(first).path(source.name());
    for note in notes {
        let is_primary = diagnostic.primary.as_ref() == Some(*note);
        let kind = if is_primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        let range =
            note.span.start - lines.start..note.span.end.min(lines.end).max(note.span.start) - lines.start;
        snippet = snippet.annotation(kind.span(range).label(printable(&note.label)));
    }
    Some(snippet)
}

/// Messages quote what the author wrote; control characters in it must not reach a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn object(diagnostic: &Diagnostic, source: &Source) -> Value {
    let place = |note: &Note| {
        let (from, to) = (source.position(note.span.start), source.position(note.span.end));
        json!({
            "line": from.line,
            "column": from.column,
            "end_line": to.line,
            "end_column": to.column,
            "label": note.label,
        })
    };
    json!({
        "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "code": diagnostic.code.name(),
        "message": diagnostic.message,
        "file": source.name(),
        "place": diagnostic.primary.as_ref().map(place),
        "related": diagnostic.related.iter().map(place).collect::<Vec<_>>(),
        "help": diagnostic.help,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_kept() {
        let source = Source::new("x.toml", "a\n").unwrap();
        let span = Span { start: 0, end: 1 };
        let mut all = Diagnostics::default();
        (0..5000).for_each(|_| all.push(Diagnostic::warning(Code::Duplicate, "again").at(span, "")));
        all.push(Diagnostic::error(Code::BadName, "bad").at(span, ""));
        all.sort();
        assert!(all.has_errors());
        assert_eq!((all.count(Severity::Warning), all.iter().count()), (5000, Diagnostics::KEPT + 1));
        assert!(all.render(&source, Style::Plain).ends_with("… and 4901 more in x.toml\n"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let source = Source::new("x.toml", "a\u{1b}[2Jb\n").unwrap();
        let span = Span { start: 0, end: 6 };
        let all: Diagnostics =
            [Diagnostic::error(Code::BadName, "it is \u{1b}[2J").at(span, "")].into_iter().collect();
        assert!(!all.render(&source, Style::Plain).contains('\u{1b}'));
    }
}
