//! Patterns for names: their syntax, and what they mean.
//!
//! A [`Glob`] exists only for a pattern that can match some name. It stands for a set of names, which are byte
//! strings: paths (`/` or `/component/…/component`) or abstract unix sockets (`@` and any bytes). The meaning is
//! written down twice: here as a slow, obvious matcher over expanded alternatives ([`Glob::matches_naively`]), and in
//! [`super::automaton`] as what the kernel runs. Tests hold them against each other.

use std::{fmt, ops::Range};

use enforcer_common::{
    abi::{NAME_MAX, PATH_MAX},
    environment,
};

/// A valid pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    text: Box<str>,
    kind: Kind,
    nodes: Vec<Node>,
}

/// What a pattern is a pattern of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Paths.
    Path,
    /// Abstract unix sockets: the name follows an `@`.
    Abstract,
    /// Options of programs, and variables of their environment. Never a pattern.
    Option,
}

/// One element of a pattern. Neighbouring literals are one node, so a pattern without wildcards is at most one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// These bytes.
    Literal(Box<[u8]>),
    /// `?`: one byte other than `/`.
    AnyByte,
    /// `*`: any bytes other than `/`.
    AnyRun,
    /// `**`, a whole component: any bytes; in the middle of a pattern also nothing, together with its `/`.
    AnyDepth,
    /// `[…]`: one of these bytes, of which none is `/`.
    Class(ByteSet),
    /// `{…,…}`: one of these.
    Either(Vec<Vec<Self>>),
}

/// A set of byte values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct ByteSet([u64; 4]);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobError {
    /// Where in the text, in bytes.
    pub at: Range<usize>,
    /// What is wrong.
    pub problem: Problem,
    /// What to write instead.
    pub help: String,
}

/// What can be wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing there.
    #[error("a pattern must not be empty")]
    Empty,
    /// Does not start at the root.
    #[error("a path must be absolute")]
    Relative,
    /// Where only paths can stand.
    #[error("an abstract socket name cannot stand here")]
    Abstract,
    /// `//`.
    #[error("a path has no empty components")]
    EmptyComponent,
    /// `/a/`.
    #[error("a path does not end in `/`")]
    TrailingSlash,
    /// `.` or `..`.
    #[error("the kernel's names have no `.` and `..` components")]
    DotComponent,
    /// `a**`, `**a`, `***`.
    #[error("`**` must be a whole component")]
    GluedDepth,
    /// `[` without `]`.
    #[error("`[` without `]`")]
    OpenClass,
    /// `]` without `[`.
    #[error("`]` without `[`")]
    StrayClassEnd,
    /// `{` without `}`.
    #[error("`{{` without `}}`")]
    OpenBrace,
    /// `}` without `{`.
    #[error("`}}` without `{{`")]
    StrayBraceEnd,
    /// `{}`.
    #[error("`{{}}` has no alternatives")]
    EmptyBraces,
    /// Deeper than anyone writes.
    #[error("braces are nested too deeply")]
    NestedTooDeep,
    /// `[]`, or one that excludes everything.
    #[error("this class matches nothing")]
    EmptyClass,
    /// `[z-a]`.
    #[error("this range runs backwards")]
    BackwardRange,
    /// `[a/b]`.
    #[error("a class never matches `/`")]
    SlashInClass,
    /// `[é]`, `[[:alpha:]]`.
    #[error("a class lists single bytes")]
    WideClass,
    /// `\` at the end.
    #[error("`\\` at the end escapes nothing")]
    TrailingEscape,
    /// A byte that ends names.
    #[error("no name contains a NUL byte")]
    Nul,
    /// Longer than the kernel allows.
    #[error("a component is longer than {NAME_MAX} bytes")]
    LongComponent,
    /// Longer than the kernel allows.
    #[error("a path is longer than {PATH_MAX} bytes")]
    LongPath,
    /// Longer than the kernel allows.
    #[error("an abstract socket name is longer than {ABSTRACT_MAX} bytes")]
    LongAbstract,
    /// Something else than an option.
    #[error("this is not an option")]
    NoOption,
    /// Longer than the kernel side compares.
    #[error("the option is longer than {} bytes", Glob::MAX_OPTION)]
    LongOption,
    /// Something else than a variable.
    #[error("this is not the name of an environment variable")]
    NoVariable,
    /// Longer than the kernel side compares.
    #[error("the variable is longer than {} bytes", Glob::MAX_VARIABLE)]
    LongVariable,
    /// Longer than anyone writes.
    #[error("the pattern is longer than {} bytes", Glob::MAX_TEXT)]
    LongText,
}

/// Longest abstract name, without the `@` that stands for its leading NUL (`sizeof(sun_path)` less one).
const ABSTRACT_MAX: u32 = 107;
/// Bounds the recursion over a pattern.
const MAX_NESTING: usize = 16;

impl Glob {
    /// Longest pattern text, in bytes. With alternatives it may be longer than any name it matches.
    pub const MAX_TEXT: usize = 1 << 16;

    /// Parses a pattern of paths.
    ///
    /// # Errors
    /// [`GlobError`] with the place and what to write instead.
    pub fn path(text: &str) -> Result<Self, GlobError> {
        if text.starts_with('@') {
            let help =
                "abstract names belong to `unix @name` in [network]; a path starts with `/`".to_owned();
            return Err(GlobError { at: 0..1, problem: Problem::Abstract, help });
        }
        Self::parse(text, Kind::Path)
    }

    /// Parses a pattern of socket names: paths, or `@name` for abstract ones.
    ///
    /// # Errors
    /// Like [`Self::path`].
    pub fn socket(text: &str) -> Result<Self, GlobError> {
        let kind = if text.starts_with('@') { Kind::Abstract } else { Kind::Path };
        Self::parse(text, kind).map_err(|error| match error.problem {
            Problem::Relative if !error.help.contains('~') => {
                GlobError { help: format!("{}; an abstract name starts with `@`", error.help), ..error }
            }
            _ => error,
        })
    }

    /// Longest option, in bytes: what the kernel side compares.
    pub const MAX_OPTION: usize = 64;

    /// Takes a program's option as it is.
    ///
    /// # Errors
    /// Like [`Self::path`].
    pub fn option(text: &str) -> Result<Self, GlobError> {
        let fail = |problem, help: &str| Err(GlobError { at: 0..text.len(), problem, help: help.to_owned() });
        if !text.starts_with('-') {
            return fail(Problem::NoOption, "options start with `-`; scripts belong in `code`");
        }
        if text.len() > Self::MAX_OPTION {
            return fail(Problem::LongOption, "only options of up to 64 bytes can be listed");
        }
        if let Some(at) = text.find('\0') {
            let help = "no program can be given such an option".to_owned();
            return Err(GlobError { at: at..at + 1, problem: Problem::Nul, help });
        }
        Ok(Self { text: text.into(), kind: Kind::Option, nodes: vec![Node::Literal(text.as_bytes().into())] })
    }

    /// Longest variable, with its value if it has one, in bytes: what the kernel side compares.
    pub const MAX_VARIABLE: usize = environment::VARIABLE_MAX as usize - 1;

    /// Takes an environment variable as it is: a name, or a name and a value with `=` between them.
    ///
    /// # Errors
    /// Like [`Self::path`].
    pub fn variable(text: &str) -> Result<Self, GlobError> {
        let fail = |at, problem, help: String| Err(GlobError { at, problem, help });
        let name = text.split('=').next().unwrap_or_default();
        if let Some(bare) = text.strip_prefix('$') {
            return fail(0..1, Problem::NoVariable, format!("write its name alone: \"{bare}\""));
        }
        if name.is_empty() {
            let help = "write a name, e.g. \"PYTHONPATH\", or a name and a value, \"PYTHONPATH=/opt/app\"";
            return fail(0..text.len(), Problem::NoVariable, help.to_owned());
        }
        if name.contains(['*', '?', '[', '{']) {
            let help = "variables are listed one by one, without wildcards".to_owned();
            return fail(0..name.len(), Problem::NoVariable, help);
        }
        if text.len() > Self::MAX_VARIABLE || name.len() >= environment::NAME_MAX as usize {
            let help = "list it without its value; a name of its own has fewer than 256 bytes";
            return fail(0..text.len(), Problem::LongVariable, help.to_owned());
        }
        if let Some(at) = text.find('\0') {
            return fail(at..at + 1, Problem::Nul, "no variable contains one".to_owned());
        }
        let text = format!("{}{text}", char::from(environment::SIGN));
        let nodes = vec![Node::Literal(text.as_bytes().into())];
        Ok(Self { text: text.into(), kind: Kind::Option, nodes })
    }

    fn parse(text: &str, kind: Kind) -> Result<Self, GlobError> {
        let fail = |problem, help: &str| Err(GlobError { at: 0..text.len(), problem, help: help.to_owned() });
        if text.is_empty() {
            return fail(Problem::Empty, "write an absolute path, e.g. \"/usr/bin/env\"");
        }
        if text.len() > Self::MAX_TEXT {
            return fail(Problem::LongText, "write several rules");
        }
        if is_plain_path(text.as_bytes()) {
            return Ok(Self { text: text.into(), kind, nodes: vec![Node::Literal(text.as_bytes().into())] });
        }
        let mut parser = Parser { text: text.as_bytes(), at: 0, kind, depth: 0 };
        let (nodes, shape) = parser.sequence(Shape::start())?;
        match parser.peek() {
            Some(b'}') => {
                return Err(parser.error(
                    parser.at..parser.at + 1,
                    Problem::StrayBraceEnd,
                    "for the character itself write `\\}`",
                ));
            }
            _ => parser.end(&shape)?,
        }
        Ok(Self { text: text.into(), kind, nodes })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it is a pattern of.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The one name it matches, if it has no wildcards.
    #[must_use]
    pub fn literal(&self) -> Option<&[u8]> {
        match self.nodes.as_slice() {
            [Node::Literal(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// How much of a name it fixes. Of two patterns that match a name, the greater is the more specific.
    #[must_use]
    pub fn specificity(&self) -> Specificity {
        let prefix = match self.nodes.first() {
            Some(Node::Literal(bytes)) => bytes.len(),
            _ => 0,
        };
        Specificity { prefix, bytes: literal_bytes(&self.nodes) }
    }

    /// Whether the pattern matches `name`: the definition, for tests and small jobs. `None` when the pattern has more
    /// than a few thousand expansions.
    #[must_use]
    pub fn matches_naively(&self, name: &[u8]) -> Option<bool> {
        let expansions = reference::expand(&self.nodes)?;
        Some(expansions.iter().any(|atoms| reference::matches(atoms, name, self.kind)))
    }

    /// The text of a pattern that matches exactly `name`. Bytes that TOML cannot hold become `?`.
    #[must_use]
    pub fn escape(name: &[u8]) -> String {
        let mut text = String::with_capacity(name.len());
        for chunk in name.utf8_chunks() {
            for c in chunk.valid().chars() {
                if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
                    text.push('\\');
                }
                text.push(c);
            }
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
        text
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.text)
    }
}

/// See [`Glob::specificity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    /// Literal bytes before the first wildcard.
    pub prefix: usize,
    /// Literal bytes that every match has.
    pub bytes: usize,
}

fn literal_bytes(nodes: &[Node]) -> usize {
    nodes
        .iter()
        .map(|node| match node {
            Node::Literal(bytes) => bytes.len(),
            Node::Either(branches) => branches.iter().map(|branch| literal_bytes(branch)).min().unwrap_or(0),
            _ => 0,
        })
        .sum()
}

/// Whether a text is a valid path without any special character: most of a large policy is, and this is much faster
/// than the parser.
fn is_plain_path(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| !matches!(byte, b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'\\' | 0);
    let Some((b'/', rest)) = text.split_first() else { return false };
    let is_component = |name: &[u8]| {
        !matches!(name, b"" | b"." | b"..") && name.len() <= NAME_MAX as usize && name.iter().all(is_plain)
    };
    text.len() <= PATH_MAX as usize && rest.split(|byte| *byte == b'/').all(is_component)
}

/// Reads a pattern and, in the same pass, follows where in a path each of its expansions stands.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    kind: Kind,
    depth: usize,
}

type Parsed<T> = Result<T, GlobError>;

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn error(&self, at: Range<usize>, problem: Problem, help: &str) -> GlobError {
        // Spans go to people: keep them on character boundaries.
        let boundary = |index: usize| index >= self.text.len() || self.text[index] & 0xc0 != 0x80;
        let mut at = at.start..at.end.min(self.text.len());
        while !boundary(at.start) {
            at.start -= 1;
        }
        while !boundary(at.end) {
            at.end += 1;
        }
        GlobError { at, problem, help: help.to_owned() }
    }

    /// Elements up to the end of the text, or to a `,` or `}` that ends an alternative.
    fn sequence(&mut self, mut shape: Shape) -> Parsed<(Vec<Node>, Shape)> {
        let mut nodes = Vec::new();
        let mut literal = Vec::new();
        while let Some(byte) = self.peek() {
            let start = self.at;
            let node = match byte {
                b'}' => break,
                b',' if self.depth > 0 => break,
                b'*' | b'?' | b'[' | b'{' => self.wildcard(byte)?,
                b']' => {
                    return Err(self.error(
                        start..start + 1,
                        Problem::StrayClassEnd,
                        "for the character itself write `\\]`",
                    ));
                }
                _ => {
                    let byte = self.literal_byte()?;
                    shape = self.step(&shape, Element::Byte(byte), start)?;
                    literal.push(byte);
                    continue;
                }
            };
            if !literal.is_empty() {
                nodes.push(Node::Literal(std::mem::take(&mut literal).into()));
            }
            let node = match node {
                Wildcard::Braces => {
                    let (branches, after) = self.branches(&shape, start)?;
                    shape = after;
                    Node::Either(branches)
                }
                Wildcard::Node(node) => {
                    let element = match node {
                        Node::AnyDepth => Element::Depth,
                        Node::AnyRun => Element::Run,
                        _ => Element::Other,
                    };
                    shape = self.step(&shape, element, start)?;
                    node
                }
            };
            nodes.push(node);
        }
        if !literal.is_empty() {
            nodes.push(Node::Literal(literal.into()));
        }
        Ok((nodes, shape))
    }

    fn literal_byte(&mut self) -> Parsed<u8> {
        let start = self.at;
        let mut byte = self.text[start];
        self.at += 1;
        if byte == b'\\' {
            let Some(escaped) = self.peek() else {
                return Err(self.error(
                    start..start + 1,
                    Problem::TrailingEscape,
                    "for the character itself write `\\\\`",
                ));
            };
            byte = escaped;
            self.at += 1;
        }
        if byte == 0 {
            return Err(self.error(start..self.at, Problem::Nul, "remove it"));
        }
        Ok(byte)
    }

    fn wildcard(&mut self, byte: u8) -> Parsed<Wildcard> {
        self.at += 1;
        Ok(match byte {
            b'*' if self.peek() == Some(b'*') => {
                self.at += 1;
                Wildcard::Node(Node::AnyDepth)
            }
            b'*' => Wildcard::Node(Node::AnyRun),
            b'?' => Wildcard::Node(Node::AnyByte),
            b'{' => Wildcard::Braces,
            _ => Wildcard::Node(Node::Class(self.class()?)),
        })
    }

    fn branches(&mut self, before: &Shape, start: usize) -> Parsed<(Vec<Vec<Node>>, Shape)> {
        if self.depth == MAX_NESTING {
            return Err(self.error(start..start + 1, Problem::NestedTooDeep, "write several rules"));
        }
        self.depth += 1;
        let mut branches = Vec::new();
        let mut after = Shape::none();
        loop {
            let (branch, shape) = self.sequence(before.clone())?;
            branches.push(branch);
            after.join(&shape);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(_) => break,
                None => {
                    return Err(self.error(
                        start..start + 1,
                        Problem::OpenBrace,
                        "close it, or for the character itself write `\\{`",
                    ));
                }
            }
        }
        self.at += 1;
        self.depth -= 1;
        if let [only] = branches.as_slice()
            && only.is_empty()
        {
            return Err(self.error(
                start..self.at,
                Problem::EmptyBraces,
                "for the characters themselves write `\\{\\}`",
            ));
        }
        Ok((branches, after))
    }

    /// The rest of a class, after `[`. A `]` or `-` that comes first stands for itself.
    fn class(&mut self) -> Parsed<ByteSet> {
        let open = self.at - 1;
        let negated = matches!(self.peek(), Some(b'!' | b'^'));
        self.at += usize::from(negated);
        let first = self.at;
        let mut set = ByteSet::default();
        loop {
            match self.peek() {
                None => {
                    let help = "close it, or for the character itself write `\\[`";
                    return Err(self.error(open..open + 1, Problem::OpenClass, help));
                }
                Some(b']') if self.at > first => break,
                Some(b'[') if matches!(self.text.get(self.at + 1), Some(b':' | b'=' | b'.')) => {
                    let help = "write the bytes, e.g. `[a-zA-Z0-9]`; for `[` itself write `\\[`";
                    return Err(self.error(self.at..self.at + 2, Problem::WideClass, help));
                }
                Some(_) => {}
            }
            let start = self.at;
            let low = self.class_byte()?;
            let is_range =
                self.peek() == Some(b'-') && !matches!(self.text.get(self.at + 1), None | Some(b']'));
            let high = if is_range {
                self.at += 1;
                self.class_byte()?
            } else {
                low
            };
            if low > high {
                let help = format!("write `{}-{}`", char::from(high), char::from(low));
                return Err(self.error(start..self.at, Problem::BackwardRange, &help));
            }
            set.insert_range(low, high);
        }
        self.at += 1;
        if negated {
            set = set.complement();
        }
        set = set.without(b'/');
        if set.is_empty() {
            return Err(self.error(open..self.at, Problem::EmptyClass, "for any byte but `/` write `?`"));
        }
        Ok(set)
    }

    fn class_byte(&mut self) -> Parsed<u8> {
        let start = self.at;
        if self.peek().is_none() {
            return Err(self.error(start..start, Problem::OpenClass, "close it with `]`"));
        }
        let byte = self.literal_byte()?;
        match byte {
            b'/' => Err(self.error(
                start..self.at,
                Problem::SlashInClass,
                "for alternatives that hold a `/` write `{a,/b}`",
            )),
            0x80.. => {
                let help = "a character outside ASCII is several bytes: write alternatives, e.g. `{é,è}`";
                Err(self.error(start..self.at, Problem::WideClass, help))
            }
            _ => Ok(byte),
        }
    }

    fn step(&self, shape: &Shape, element: Element, start: usize) -> Parsed<Shape> {
        let at = start..self.at;
        let next = match self.kind {
            Kind::Path => shape.path_step(element),
            Kind::Abstract | Kind::Option => shape.abstract_step(element),
        };
        let next = next.map_err(|problem| self.error(at.clone(), problem, &self.advice(problem, &at)))?;
        let longest = next.longest();
        let (limit, problem) = match self.kind {
            Kind::Path => (PATH_MAX, Problem::LongPath),
            Kind::Abstract | Kind::Option => (ABSTRACT_MAX + 1, Problem::LongAbstract),
        };
        if longest.total > limit {
            return Err(self.error(at, problem, "the kernel has no such name; shorten it"));
        }
        if longest.component > NAME_MAX && self.kind == Kind::Path {
            return Err(self.error(at, Problem::LongComponent, "no file system has such a name; shorten it"));
        }
        Ok(next)
    }

    fn end(&self, shape: &Shape) -> Parsed<()> {
        if self.kind != Kind::Path {
            return Ok(());
        }
        let at = self.text.len().saturating_sub(1)..self.text.len();
        shape.path_end().map_err(|problem| self.error(at.clone(), problem, &self.advice(problem, &at)))
    }

    /// What to write instead. Without alternatives and escapes the corrected path can be spelled out.
    fn advice(&self, problem: Problem, at: &Range<usize>) -> String {
        let text = String::from_utf8_lossy(self.text);
        let plain = !text.contains(['{', '\\', '[']);
        match problem {
            Problem::Relative if text.starts_with('~') => {
                "write the home directory out: `~` belongs to shells".into()
            }
            Problem::Relative if text.starts_with('$') => {
                "write the value out: policies have no variables".into()
            }
            Problem::Relative if plain => format!("write \"/{text}\", or \"/**/{text}\" for any directory"),
            Problem::EmptyComponent | Problem::TrailingSlash | Problem::DotComponent if plain => {
                let clean = normalised(&text);
                if problem == Problem::TrailingSlash {
                    let below = if clean == "/" { "/**".to_owned() } else { format!("{clean}/**") };
                    format!("write \"{clean}\" for the directory itself, \"{below}\" for everything below it")
                } else {
                    format!("write \"{clean}\"")
                }
            }
            Problem::GluedDepth if plain => {
                let (before, after) = text.split_at_checked(at.start).unwrap_or((&text, ""));
                let start = before.rsplit('/').next().unwrap_or_default();
                let end = after.split('/').next().unwrap_or_default();
                let single = collapse_stars(&format!("{start}{end}"));
                format!("write `{single}` within one component, or `**/{single}` at any depth")
            }
            _ => "write one path as the kernel shows it, from the root".into(),
        }
    }
}

fn collapse_stars(component: &str) -> String {
    let mut text = component.to_owned();
    while text.contains("**") {
        text = text.replace("**", "*");
    }
    text
}

/// A path without empty, `.` and `..` components.
fn normalised(text: &str) -> String {
    let mut components = Vec::new();
    for component in text.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    format!("/{}", components.join("/"))
}

enum Wildcard {
    Node(Node),
    Braces,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Byte(u8),
    /// `*`, which may stand for nothing.
    Run,
    /// `?` or a class.
    Other,
    Depth,
}

/// Where in a path the reader may stand after the part of the pattern read so far: one entry for each standing that
/// some expansion reaches, with the shortest name that leads there in the longest of those expansions.
#[derive(Clone)]
struct Shape([Option<Extent>; STANDINGS]);

const STANDINGS: usize = 7;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Standing {
    /// Nothing read.
    Start = 0,
    /// After the slash of the root.
    Root = 1,
    /// After another slash.
    Slash = 2,
    /// The component so far is `.`.
    Dot = 3,
    /// The component so far is `..`.
    DotDot = 4,
    /// Inside any other component.
    Inside = 5,
    /// After `**`.
    Depth = 6,
}

impl Standing {
    const ALL: [Self; STANDINGS] =
        [Self::Start, Self::Root, Self::Slash, Self::Dot, Self::DotDot, Self::Inside, Self::Depth];
}

/// Lengths in bytes.
#[derive(Clone, Copy, Default)]
struct Extent {
    component: u32,
    total: u32,
}

impl Shape {
    const fn none() -> Self {
        Self([None; STANDINGS])
    }

    fn start() -> Self {
        let mut shape = Self::none();
        shape.0[Standing::Start as usize] = Some(Extent::default());
        shape
    }

    fn join(&mut self, other: &Self) {
        for (standing, extent) in Standing::ALL.into_iter().zip(other.0) {
            if let Some(extent) = extent {
                self.add(standing, extent);
            }
        }
    }

    fn add(&mut self, standing: Standing, extent: Extent) {
        let held = self.0[standing as usize].get_or_insert(extent);
        held.component = held.component.max(extent.component);
        held.total = held.total.max(extent.total);
    }

    fn reached(&self) -> impl Iterator<Item = (Standing, Extent)> {
        Standing::ALL.into_iter().zip(self.0).filter_map(|(standing, extent)| Some((standing, extent?)))
    }

    fn longest(&self) -> Extent {
        self.reached().fold(Extent::default(), |longest, (_, extent)| Extent {
            component: longest.component.max(extent.component),
            total: longest.total.max(extent.total),
        })
    }

    fn path_step(&self, element: Element) -> Result<Self, Problem> {
        let mut next = Self::none();
        for (standing, extent) in self.reached() {
            let to = match (standing, element) {
                (Standing::Start, Element::Byte(b'/')) => Standing::Root,
                (Standing::Start, _) => return Err(Problem::Relative),
                (Standing::Root | Standing::Slash, Element::Byte(b'/')) => {
                    return Err(Problem::EmptyComponent);
                }
                (Standing::Dot | Standing::DotDot, Element::Byte(b'/')) => return Err(Problem::DotComponent),
                (_, Element::Byte(b'/')) => Standing::Slash,
                (Standing::Root | Standing::Slash, Element::Depth) => Standing::Depth,
                (Standing::Depth, _) | (_, Element::Depth) => return Err(Problem::GluedDepth),
                (Standing::Root | Standing::Slash, Element::Byte(b'.')) => Standing::Dot,
                (Standing::Dot, Element::Byte(b'.')) => Standing::DotDot,
                _ => Standing::Inside,
            };
            let length = u32::from(!matches!(element, Element::Run | Element::Depth));
            let component = if to == Standing::Slash { 0 } else { extent.component + length };
            next.add(to, Extent { component, total: extent.total + length });
        }
        Ok(next)
    }

    fn path_end(&self) -> Result<(), Problem> {
        for (standing, _) in self.reached() {
            match standing {
                Standing::Start => return Err(Problem::Empty),
                Standing::Slash => return Err(Problem::TrailingSlash),
                Standing::Dot | Standing::DotDot => return Err(Problem::DotComponent),
                Standing::Root | Standing::Inside | Standing::Depth => {}
            }
        }
        Ok(())
    }

    /// Abstract names are any bytes; only `**` is bound to stand between slashes.
    fn abstract_step(&self, element: Element) -> Result<Self, Problem> {
        let mut next = Self::none();
        for (standing, extent) in self.reached() {
            let to = match (standing, element) {
                // The `@` is a component's start, like a slash.
                (Standing::Start, _) | (_, Element::Byte(b'/')) => Standing::Slash,
                (Standing::Slash, Element::Depth) => Standing::Depth,
                (Standing::Depth, _) | (_, Element::Depth) => return Err(Problem::GluedDepth),
                _ => Standing::Inside,
            };
            let length = u32::from(!matches!(element, Element::Run | Element::Depth));
            next.add(to, Extent { component: 0, total: extent.total + length });
        }
        Ok(next)
    }
}

impl ByteSet {
    pub(super) const ALL: Self = Self([u64::MAX; 4]);

    pub(super) const fn contains(self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] >> (byte & 63) & 1 != 0
    }

    pub(super) const fn without(mut self, byte: u8) -> Self {
        self.0[(byte >> 6) as usize] &= !(1 << (byte & 63));
        self
    }

    fn insert_range(&mut self, low: u8, high: u8) {
        for byte in low..=high {
            self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
    }

    fn complement(self) -> Self {
        Self(self.0.map(|word| !word))
    }

    fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }
}

impl fmt::Debug for ByteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..=255).filter(|byte| self.contains(*byte)).map(char::from)).finish()
    }
}

/// The meaning of patterns, as plainly as it can be put: expand alternatives, split at slashes, match component by
/// component. Takes exponential time on hostile patterns.
mod reference {
    use super::{ByteSet, Kind, Node};

    const MAX_EXPANSIONS: usize = 4096;

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) enum Atom {
        Byte(u8),
        AnyByte,
        AnyRun,
        AnyDepth,
        Class(ByteSet),
    }

    pub(super) fn expand(nodes: &[Node]) -> Option<Vec<Vec<Atom>>> {
        let mut all = vec![Vec::new()];
        for node in nodes {
            let mut append = |atoms: &[Atom]| all.iter_mut().for_each(|one| one.extend_from_slice(atoms));
            match node {
                Node::Literal(bytes) => {
                    append(&bytes.iter().map(|byte| Atom::Byte(*byte)).collect::<Vec<_>>())
                }
                Node::AnyByte => append(&[Atom::AnyByte]),
                Node::AnyRun => append(&[Atom::AnyRun]),
                Node::AnyDepth => append(&[Atom::AnyDepth]),
                Node::Class(set) => append(&[Atom::Class(*set)]),
                Node::Either(branches) => {
                    let mut product = Vec::new();
                    for tail in
                        branches.iter().map(|branch| expand(branch)).collect::<Option<Vec<_>>>()?.concat()
                    {
                        product.extend(all.iter().map(|head| [head.as_slice(), &tail].concat()));
                        if product.len() > MAX_EXPANSIONS {
                            return None;
                        }
                    }
                    all = product;
                }
            }
        }
        Some(all)
    }

    pub(super) fn matches(pattern: &[Atom], name: &[u8], kind: Kind) -> bool {
        let Some((first, rest)) = name.split_first() else { return false };
        let Some((Atom::Byte(sigil), pattern)) = pattern.split_first() else { return false };
        if first != sigil {
            return false;
        }
        let wanted: Vec<&[Atom]> = pattern.split(|atom| *atom == Atom::Byte(b'/')).collect();
        let components: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
        match kind {
            Kind::Abstract | Kind::Option => tree(&wanted, &components),
            Kind::Path if rest.is_empty() => {
                pattern.is_empty() || wanted.iter().all(|component| *component == [Atom::AnyDepth])
            }
            Kind::Path => {
                !components.iter().any(|component| component.is_empty()) && tree(&wanted, &components)
            }
        }
    }

    fn tree(wanted: &[&[Atom]], components: &[&[u8]]) -> bool {
        match wanted {
            [] => components.is_empty(),
            [last] if *last == [Atom::AnyDepth] => !components.is_empty(),
            [first, rest @ ..] if *first == [Atom::AnyDepth] => {
                (0..=components.len()).any(|skip| tree(rest, &components[skip..]))
            }
            [first, rest @ ..] => components
                .split_first()
                .is_some_and(|(component, others)| within(first, component) && tree(rest, others)),
        }
    }

    fn within(wanted: &[Atom], bytes: &[u8]) -> bool {
        let Some((atom, rest)) = wanted.split_first() else { return bytes.is_empty() };
        if *atom == Atom::AnyRun {
            return (0..=bytes.len()).any(|skip| within(rest, &bytes[skip..]));
        }
        bytes.split_first().is_some_and(|(byte, others)| {
            let hit = match atom {
                Atom::Byte(wanted) => wanted == byte,
                Atom::Class(set) => set.contains(*byte),
                _ => true,
            };
            hit && within(rest, others)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_patterns() {
        let deep_but_fine = format!("/{}", vec!["a"; 2000].join("/"));
        for text in [
            "/",
            "/a",
            "/a/b",
            "/**",
            "/a/**",
            "/a/**/b",
            "/a/*",
            "/*",
            "/a*b?c",
            "/[a-z]",
            "/[!a]",
            "/[^a]",
            "/[]]",
            "/[a-]",
            "/[-a]",
            "/[a\\]]",
            "/{a,b}",
            "/{a,}",
            "/var/www{,/**}",
            "/{,**}",
            "{/a,/b}/c",
            "{/usr,}/bin",
            "/a{/b,/c{/d,}}",
            "/\\*",
            "/\\\\",
            "/a,b",
            "/.hidden",
            "/..a",
            "/...",
            "/a/.*",
            "/é",
            "/a b",
            "/a/{**,b}/c",
            "/a/**{,/b}",
            "/a@b",
            &deep_but_fine,
        ] {
            assert!(Glob::path(text).is_ok(), "{text}: {:?}", Glob::path(text));
        }
        for text in [
            "@",
            "@a",
            "@**",
            "@/tmp/.X11-unix/X0",
            "@a//b",
            "@a/../b",
            "@a*",
            "@{a,b}",
            "@**/x",
            "/run/x.sock",
        ] {
            assert!(Glob::socket(text).is_ok(), "{text}: {:?}", Glob::socket(text));
        }
    }

    #[test]
    fn invalid_patterns() {
        let long_component = format!("/a/{}", "x".repeat(256));
        let long_path = format!("/{}", vec!["abcdefgh"; 460].join("/"));
        let table: &[(&str, Problem, Range<usize>)] = &[
            ("", Problem::Empty, 0..0),
            ("a", Problem::Relative, 0..1),
            ("*", Problem::Relative, 0..1),
            ("{a,/b}", Problem::Relative, 1..2),
            ("é/a", Problem::Relative, 0..2),
            ("@a", Problem::Abstract, 0..1),
            ("//a", Problem::EmptyComponent, 1..2),
            ("/a//b", Problem::EmptyComponent, 3..4),
            ("/a{/,}/b", Problem::EmptyComponent, 6..7),
            ("/a/", Problem::TrailingSlash, 2..3),
            ("/a/{b,}", Problem::TrailingSlash, 6..7),
            ("/a/./b", Problem::DotComponent, 4..5),
            ("/a/../b", Problem::DotComponent, 5..6),
            ("/a/..", Problem::DotComponent, 4..5),
            ("/.{.,a}", Problem::DotComponent, 6..7),
            ("/a**", Problem::GluedDepth, 2..4),
            ("/**a", Problem::GluedDepth, 3..4),
            ("/***", Problem::GluedDepth, 3..4),
            ("/a/**{b,/c}", Problem::GluedDepth, 6..7),
            ("/[a", Problem::OpenClass, 1..2),
            ("/[]", Problem::OpenClass, 1..2),
            ("/a]", Problem::StrayClassEnd, 2..3),
            ("/{a,b", Problem::OpenBrace, 1..2),
            ("/a}", Problem::StrayBraceEnd, 2..3),
            ("/{}", Problem::EmptyBraces, 1..3),
            ("/{{{{{{{{{{{{{{{{{a", Problem::NestedTooDeep, 17..18),
            ("/[z-a]", Problem::BackwardRange, 2..5),
            ("/[a/b]", Problem::SlashInClass, 3..4),
            ("/[é]", Problem::WideClass, 2..4),
            ("/[[:alpha:]]", Problem::WideClass, 2..4),
            ("/a\\", Problem::TrailingEscape, 2..3),
            ("/a\0b", Problem::Nul, 2..3),
            (&long_component, Problem::LongComponent, 258..259),
            (&long_path, Problem::LongPath, 4096..4097),
        ];
        for (text, problem, at) in table {
            let error = Glob::path(text).expect_err(text);
            assert_eq!((error.problem, &error.at), (*problem, at), "{text}");
            assert!(!error.help.is_empty() && text.get(error.at.clone()).is_some(), "{text}");
        }
        assert_eq!(
            Glob::socket(&format!("@{}", "x".repeat(107))).map(|glob| glob.kind()),
            Ok(Kind::Abstract)
        );
        assert_eq!(
            Glob::socket(&format!("@{}", "x".repeat(108))).unwrap_err().problem,
            Problem::LongAbstract
        );
        assert_eq!(Glob::path(&"/{a,b}".repeat(20_000)).unwrap_err().problem, Problem::LongText);
    }

    #[test]
    fn help_spells_the_correction_out() {
        let table = [
            ("etc/passwd", "write \"/etc/passwd\", or \"/**/etc/passwd\" for any directory"),
            ("~/x", "write the home directory out: `~` belongs to shells"),
            ("$HOME/x", "write the value out: policies have no variables"),
            ("/a//b", "write \"/a/b\""),
            ("/a/../b", "write \"/b\""),
            ("/a/b/", "write \"/a/b\" for the directory itself, \"/a/b/**\" for everything below it"),
            ("/lib/**.so", "write `*.so` within one component, or `**/*.so` at any depth"),
            ("/lib/lib**.so/x", "write `lib*.so` within one component, or `**/lib*.so` at any depth"),
        ];
        for (text, help) in table {
            assert_eq!(Glob::path(text).unwrap_err().help, help, "{text}");
        }
    }

    #[test]
    fn literals() {
        assert_eq!(Glob::path("/a/b").unwrap().literal(), Some(&b"/a/b"[..]));
        assert_eq!(Glob::path("/a\\*\\[").unwrap().literal(), Some(&b"/a*["[..]));
        assert_eq!(Glob::path("/a*").unwrap().literal(), None);
        assert_eq!(Glob::escape(b"/a*[\\]{}?\xff\xc3\xa9"), "/a\\*\\[\\\\\\]\\{\\}\\??\u{e9}");
    }

    #[test]
    fn specificity() {
        let of = |text| {
            let Specificity { prefix, bytes } = Glob::path(text).unwrap().specificity();
            (prefix, bytes)
        };
        assert_eq!(of("/a/*/b"), (3, 5));
        assert_eq!(of("/**/nginx.service"), (1, 15));
        assert_eq!(of("/a{bc,d}e"), (2, 4));
        assert!(Glob::path("/a/b*").unwrap().specificity() > Glob::path("/a/*bcdef").unwrap().specificity());
    }
}
