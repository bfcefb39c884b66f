//! Patterns over the names that routes match: channels and rpc methods.
//!
//! | Written | Matches |
//! |---|---|
//! | `{x}` | one or more characters in which the namespace boundary does not occur |
//! | `{x...}` | the rest: one or more characters of any kind; only at the end |
//! | `*` | zero or more characters of any kind; only at the end |
//! | `{{`, `}}` | the brace itself; a `}` that closes nothing stands for itself too |
//! | anything else | itself |
//!
//! Where a name can be divided in several ways, the leftmost capture is the shortest that lets the
//! rest match, then the second, and so on: `{a}-{b}` takes `x-y-z` as `x` and `y-z`. Matching takes
//! time linear in the name (times the number of captures), whatever the name.

mod automaton;
mod matching;
#[cfg(test)]
mod tests;

use std::fmt;

pub use matching::{Captures, Mismatch};

/// How many captures a pattern may have.
pub const MAX_CAPTURES: usize = 8;

/// How many bytes a pattern may have.
pub const MAX_PATTERN_BYTES: usize = 1024;

/// Names of more bytes than this match no pattern with captures. Channels are far shorter; an rpc
/// method of such a length is refused by any route that looks into it.
pub const MAX_CAPTURED_NAME_BYTES: usize = u16::MAX as usize;

/// A parsed pattern; prints as it is written (a lone `}` prints as `}}`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// What stands before the first capture; the whole pattern if there is none.
    head: Box<str>,
    captures: Box<[Capture]>,
    tail: Tail,
    /// Empty: captures may hold anything.
    boundary: Box<str>,
}

/// A capture and the literal text behind it (empty only for the last).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Capture {
    name: Box<str>,
    after: Box<str>,
}

/// How a pattern ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tail {
    /// With the last literal or bounded capture.
    End,
    /// With `*`.
    Anything,
    /// The last capture is `{x...}`.
    Rest,
}

/// Which of two patterns takes a name that both match: the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Specificity {
    /// Matches every name.
    Everything,
    /// Has captures or a `*`, and this many literal characters.
    Literals(usize),
    /// Matches one name.
    Exact,
}

impl fmt::Display for Specificity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Literals(1) => f.write_str("1 literal character"),
            Self::Literals(count) => write!(f, "{count} literal characters"),
            Self::Exact => f.write_str("exact"),
        }
    }
}

/// A pattern that is not one: which, where, against which rule, and how to write it instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern `{pattern}`, character {position}: {rule}")]
pub struct PatternError {
    /// As it was written.
    pub pattern: String,
    /// The character that the rule is about, counted from 1.
    pub position: usize,
    /// The rule and the fix.
    pub rule: PatternRule,
}

/// The rules of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternRule {
    /// Nothing at all.
    #[error("an empty pattern matches nothing; leave it out, or write `*`, to match everything")]
    Empty,
    /// Over [`MAX_PATTERN_BYTES`].
    #[error("a pattern has at most {MAX_PATTERN_BYTES} bytes; end it early with `*`")]
    TooLong,
    /// `{` without `}`.
    #[error("this brace is never closed; close it with `}}`, or write `{{{{` for the brace itself")]
    Unclosed,
    /// `{}` or `{...}`.
    #[error("a capture needs a name; write for example `{{id}}`, or `{{{{` for the brace itself")]
    NoName,
    /// A name that is no identifier.
    #[error(
        "`{0}` cannot name a capture; use letters, digits and `_`, not a digit first \
         (`{{{{` stands for the brace itself)"
    )]
    InvalidName(String),
    /// One name twice.
    #[error("the name `{0}` is taken by an earlier capture; give this one a name of its own")]
    DuplicateName(String),
    /// Two captures, or a capture and `*`, without text between them.
    #[error("nothing stands between this and the capture before it; put text there, or join them")]
    Touching,
    /// `{x...}` before the end.
    #[error(
        "`{{{0}...}}` takes the rest and must be last; write `{{{0}}}`, or end the pattern here"
    )]
    RestNotLast(String),
    /// `*` before the end.
    #[error("`*` must be last; write a capture such as `{{any}}` here")]
    StarNotLast,
    /// Over [`MAX_CAPTURES`].
    #[error("a pattern has at most {MAX_CAPTURES} captures; take the rest with `{{rest...}}`")]
    TooManyCaptures,
}

impl Pattern {
    /// Parses a pattern. `boundary` is the namespace boundary that `{x}` stops at, `:` unless
    /// Centrifugo is configured otherwise; where it is empty `{x}` stops at nothing.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str, boundary: &str) -> Result<Self, PatternError> {
        Parser::new(text)
            .parse(boundary)
            .map_err(|(at, rule)| PatternError {
                pattern: text.to_owned(),
                position: text.get(..at).map_or(0, |before| before.chars().count()) + 1,
                rule,
            })
    }

    /// The pattern `*`.
    pub fn everything() -> Self {
        let captures = Box::default();
        Self {
            head: "".into(),
            captures,
            tail: Tail::Anything,
            boundary: "".into(),
        }
    }

    /// The pattern of all names but the empty one.
    pub(super) fn not_empty() -> Self {
        let captures = Box::new([Capture {
            name: "name".into(),
            after: "".into(),
        }]);
        Self {
            head: "".into(),
            captures,
            tail: Tail::Rest,
            boundary: "".into(),
        }
    }

    /// The only name that it matches, if there is but one.
    pub fn exact(&self) -> Option<&str> {
        (self.captures.is_empty() && self.tail == Tail::End).then_some(&*self.head)
    }

    /// The names of the captures, in the order of [`Captures`].
    pub fn capture_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.captures.iter().map(|capture| &*capture.name)
    }

    /// Whether a capture has this name.
    pub fn has_capture(&self, name: &str) -> bool {
        self.capture_names().any(|known| known == name)
    }

    /// The text that the capture called `param` took from `name`; `None` if there is none of that
    /// name, or if `captures` are not those of this pattern and name.
    pub fn param<'n>(&self, param: &str, captures: &Captures, name: &'n str) -> Option<&'n str> {
        let index = self.capture_names().position(|known| known == param)?;
        name.get(captures.get(index)?)
    }

    /// How specific it is, for the choice between several that match.
    pub fn specificity(&self) -> Specificity {
        let literals = self.literals().map(|text| text.chars().count()).sum();
        match (self.captures.is_empty(), self.tail) {
            (true, Tail::End) => Specificity::Exact,
            (true, Tail::Anything) if literals == 0 => Specificity::Everything,
            _ => Specificity::Literals(literals),
        }
    }

    /// The bytes of the shortest name that it could match.
    pub fn min_bytes(&self) -> usize {
        self.literals().map(str::len).sum::<usize>() + self.captures.len()
    }

    fn literals(&self) -> impl Iterator<Item = &str> {
        let after = self.captures.iter().map(|capture| &*capture.after);
        std::iter::once(&*self.head).chain(after)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_literal(f, &self.head)?;
        for (index, Capture { name, after }) in self.captures.iter().enumerate() {
            let rest = self.tail == Tail::Rest && index + 1 == self.captures.len();
            write!(f, "{{{name}{}}}", if rest { "..." } else { "" })?;
            write_literal(f, after)?;
        }
        if self.tail == Tail::Anything {
            f.write_str("*")
        } else {
            Ok(())
        }
    }
}

/// Literal text with its braces doubled.
pub(super) fn write_literal(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| match c {
        '{' => f.write_str("{{"),
        '}' => f.write_str("}}"),
        _ => fmt::Write::write_char(f, c),
    })
}

/// A step of a text with `{…}` in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A literal character, braces already undoubled.
    Char(char),
    /// What stands between the braces.
    Braced(&'a str),
    /// A `{` that is never closed.
    Unclosed,
}

/// The first token of `text` and how many bytes it has; `None` at the end.
pub(crate) fn next_token(text: &str) -> Option<(Token<'_>, usize)> {
    let first = text.chars().next()?;
    if text.starts_with("{{") || text.starts_with("}}") {
        return Some((Token::Char(first), 2));
    }
    let Some(inside) = text.strip_prefix('{') else {
        return Some((Token::Char(first), first.len_utf8()));
    };
    Some(match inside.split_once('}') {
        Some((braced, _)) => (Token::Braced(braced), braced.len() + 2),
        None => (Token::Unclosed, 1),
    })
}

type Broken = (usize, PatternRule);

struct Parser<'a> {
    text: &'a str,
    at: usize,
    head: String,
    captures: Vec<(&'a str, String)>,
    tail: Tail,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            head: String::new(),
            captures: Vec::new(),
            tail: Tail::End,
        }
    }

    fn parse(mut self, boundary: &str) -> Result<Pattern, Broken> {
        if self.text.is_empty() {
            return Err((0, PatternRule::Empty));
        }
        if self.text.len() > MAX_PATTERN_BYTES {
            return Err((0, PatternRule::TooLong));
        }
        while let Some((token, bytes)) = self.text.get(self.at..).and_then(next_token) {
            let last = self.at + bytes == self.text.len();
            self.take(token, last).map_err(|rule| (self.at, rule))?;
            self.at += bytes;
        }
        let capture = |(name, after): (&str, String)| Capture {
            name: name.into(),
            after: after.into(),
        };
        Ok(Pattern {
            head: self.head.into(),
            captures: self.captures.into_iter().map(capture).collect(),
            tail: self.tail,
            boundary: boundary.into(),
        })
    }

    fn take(&mut self, token: Token<'a>, last: bool) -> Result<(), PatternRule> {
        match token {
            Token::Unclosed => Err(PatternRule::Unclosed),
            Token::Braced(inside) => self.capture(inside, last),
            Token::Char('*') if !last => Err(PatternRule::StarNotLast),
            Token::Char('*') if self.touches() => Err(PatternRule::Touching),
            Token::Char('*') => {
                self.tail = Tail::Anything;
                Ok(())
            }
            Token::Char(c) => {
                self.captures
                    .last_mut()
                    .map_or(&mut self.head, |(_, after)| after)
                    .push(c);
                Ok(())
            }
        }
    }

    fn capture(&mut self, inside: &'a str, last: bool) -> Result<(), PatternRule> {
        let name = inside.strip_suffix("...").unwrap_or(inside);
        let rest = name.len() < inside.len();
        if name.is_empty() {
            return Err(PatternRule::NoName);
        }
        if !is_identifier(name) {
            return Err(PatternRule::InvalidName(name.to_owned()));
        }
        if self.captures.iter().any(|(known, _)| *known == name) {
            return Err(PatternRule::DuplicateName(name.to_owned()));
        }
        if self.touches() {
            return Err(PatternRule::Touching);
        }
        if rest && !last {
            return Err(PatternRule::RestNotLast(name.to_owned()));
        }
        if self.captures.len() == MAX_CAPTURES {
            return Err(PatternRule::TooManyCaptures);
        }
        self.captures.push((name, String::new()));
        if rest {
            self.tail = Tail::Rest;
        }
        Ok(())
    }

    /// Whether a capture ends right here.
    fn touches(&self) -> bool {
        self.captures
            .last()
            .is_some_and(|(_, after)| after.is_empty())
    }
}

fn is_identifier(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}
