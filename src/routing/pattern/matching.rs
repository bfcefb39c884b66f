//! Whether a name matches, what its captures took, and why it does not.
//!
//! First greedily: each capture ends where the text behind it first occurs. If that succeeds it is
//! the answer, since every capture is then the shortest there is. It can fail where a longer earlier
//! capture would have kept the boundary out of a later one (a boundary of several characters beside
//! text that holds part of it); then a table over all positions decides.

use std::ops::Range;

use super::{Capture, MAX_CAPTURED_NAME_BYTES, MAX_CAPTURES, Pattern, Tail};

/// What the captures of a pattern took of a name, as byte ranges into it, in the pattern's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captures {
    ranges: [(u16, u16); MAX_CAPTURES],
    count: u8,
}

impl Captures {
    /// How many there are: as many as the pattern has.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether the pattern has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes of the name that the capture with this index took.
    pub fn get(&self, index: usize) -> Option<Range<usize>> {
        let (start, end) = *self.ranges.get(..self.len())?.get(index)?;
        Some(usize::from(start)..usize::from(end))
    }

    fn push(&mut self, start: usize, end: usize) -> Option<()> {
        let range = (u16::try_from(start).ok()?, u16::try_from(end).ok()?);
        let free = self.ranges.get_mut(usize::from(self.count))?;
        *free = range;
        self.count += 1;
        Some(())
    }
}

/// Why a name does not match a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The pattern is exact.
    #[error("is another name")]
    Other,
    /// It begins otherwise.
    #[error("does not begin with `{0}`")]
    Begin(String),
    /// It ends otherwise.
    #[error("does not end with `{0}`")]
    End(String),
    /// The texts between the captures do not all occur in order, or leave nothing for a capture.
    #[error("leaves a capture empty, or lacks text that stands between captures")]
    Between,
    /// It would match if a capture could hold the boundary.
    #[error("has the namespace boundary `{0}` where a capture may not hold it")]
    Boundary(String),
    /// Over [`MAX_CAPTURED_NAME_BYTES`].
    #[error("has over {MAX_CAPTURED_NAME_BYTES} bytes, too long for a pattern with captures")]
    TooLong,
}

/// How the greedy way through a name ended.
enum Greedy {
    Matched(Captures),
    /// The texts are there, but a capture holds the boundary; the table may know better.
    Boundary {
        settled: bool,
    },
    Failed,
}

impl Pattern {
    /// Whether `name` matches, and what the captures took.
    pub fn matches(&self, name: &str) -> Option<Captures> {
        let rest = name.strip_prefix(&*self.head)?;
        if self.captures.is_empty() {
            return (rest.is_empty() || self.tail == Tail::Anything).then(Captures::default);
        }
        match self.greedy(name) {
            Greedy::Matched(captures) => Some(captures),
            Greedy::Boundary { settled: false } => self.exhaustive(name),
            Greedy::Boundary { settled: true } | Greedy::Failed => None,
        }
    }

    /// Why `name` does not match; `None` if it does.
    pub fn mismatch(&self, name: &str) -> Option<Mismatch> {
        if self.matches(name).is_some() {
            return None;
        }
        if self.exact().is_some() {
            return Some(Mismatch::Other);
        }
        if !name.starts_with(&*self.head) {
            return Some(Mismatch::Begin(self.head.to_string()));
        }
        let end = self.captures.last().filter(|_| self.tail == Tail::End);
        if let Some(last) = end.filter(|last| !name.ends_with(&*last.after)) {
            return Some(Mismatch::End(last.after.to_string()));
        }
        Some(match self.greedy(name) {
            _ if name.len() > MAX_CAPTURED_NAME_BYTES => Mismatch::TooLong,
            Greedy::Boundary { .. } => Mismatch::Boundary(self.boundary.to_string()),
            Greedy::Matched(_) | Greedy::Failed => Mismatch::Between,
        })
    }

    /// Ends each capture at the first place that the text behind it allows.
    fn greedy(&self, name: &str) -> Greedy {
        if name.len() > MAX_CAPTURED_NAME_BYTES {
            return Greedy::Failed;
        }
        let mut captures = Captures::default();
        let mut start = self.head.len();
        let mut offender = None;
        for index in 0..self.captures.len() {
            let Some(end) = self.first_end(name, index, start) else {
                return Greedy::Failed;
            };
            let inside = name.get(start..end).unwrap_or_default();
            if offender.is_none() && self.is_bounded(index) && self.has_boundary(inside) {
                offender = Some(index);
            }
            if captures.push(start, end).is_none() {
                return Greedy::Failed;
            }
            start = end + self.captures[index].after.len();
        }
        match offender {
            None => Greedy::Matched(captures),
            // The first capture begins at one place only: a longer one holds the boundary as well.
            Some(index) => Greedy::Boundary {
                settled: index == 0,
            },
        }
    }

    /// Where a capture that begins at `start` ends at the earliest, boundary or not.
    fn first_end(&self, name: &str, index: usize, start: usize) -> Option<usize> {
        let rest = name.get(start..)?;
        let first = rest.chars().next()?.len_utf8();
        let after = &*self.captures[index].after;
        if index + 1 < self.captures.len() || self.tail == Tail::Anything {
            return rest
                .get(first..)?
                .find(after)
                .map(|found| start + first + found);
        }
        let kept = rest.strip_suffix(after)?.len();
        (kept >= first).then_some(start + kept)
    }

    /// Decides by a table: for every capture and every place where it may begin, the first place to
    /// end at which all that follows matches.
    fn exhaustive(&self, name: &str) -> Option<Captures> {
        let mut rows: Vec<Vec<Option<u16>>> = Vec::with_capacity(self.captures.len());
        for index in (0..self.captures.len()).rev() {
            let row = self.row(name.as_bytes(), index, rows.last().map(Vec::as_slice));
            rows.push(row);
        }
        let mut captures = Captures::default();
        let mut start = self.head.len();
        for (row, capture) in rows.iter().rev().zip(&self.captures) {
            let end = usize::from((*row.get(start)?)?);
            captures.push(start, end)?;
            start = end + capture.after.len();
        }
        Some(captures)
    }

    /// For every start of one capture its first good end, given the table of the next capture.
    fn row(&self, name: &[u8], index: usize, next: Option<&[Option<u16>]>) -> Vec<Option<u16>> {
        let Capture { after, .. } = &self.captures[index];
        let (after, boundary) = (after.as_bytes(), self.boundary.as_bytes());
        let good = |end: usize| {
            let behind = end + after.len();
            name.get(end..).is_some_and(|rest| rest.starts_with(after))
                && match next {
                    Some(row) => row.get(behind).is_some_and(Option::is_some),
                    None => self.tail == Tail::Anything || behind == name.len(),
                }
        };
        let mut row = vec![None; name.len() + 1];
        let mut first_good = None;
        let mut first_boundary_end = usize::MAX;
        for start in (0..name.len()).rev() {
            if good(start + 1) {
                first_good = Some(start + 1);
            }
            if self.is_bounded(index) && !boundary.is_empty() && name[start..].starts_with(boundary)
            {
                first_boundary_end = start + boundary.len();
            }
            let end = first_good.filter(|end| *end < first_boundary_end);
            row[start] = end.and_then(|end| u16::try_from(end).ok());
        }
        row
    }

    fn is_bounded(&self, index: usize) -> bool {
        self.tail != Tail::Rest || index + 1 < self.captures.len()
    }

    fn has_boundary(&self, inside: &str) -> bool {
        !self.boundary.is_empty() && inside.contains(&*self.boundary)
    }
}
