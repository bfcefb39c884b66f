//! What can be wrong with a configuration: each problem with key, value, rule, fix and origin.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "lowercase")]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a configuration file.
    File {
        /// The file, as it was named.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// The line, from 1; 0 stands for the file as a whole.
        line: usize,
    },
    /// A variable of the environment.
    Env {
        /// Its name.
        name: String,
    },
    /// A `--set KEY=VALUE` of the command line.
    Set {
        /// The key; the value may be a secret and is not kept.
        key: String,
    },
}

/// A path that is not UTF-8 has a JSON form too.
fn lossy<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env { name } => f.write_str(name),
            Self::Set { key } => write!(f, "--set {key}"),
        }
    }
}

/// One thing that is wrong, or, among the warnings, unwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The dotted key (`limits.timeout`, `route.0.handler`; entries count from 0), empty where the
    /// problem is with the whole origin.
    pub key: String,
    /// The offending value as TOML, shortened; a secret is redacted, what came by `${NAME}` or
    /// `file:PATH` stands as it was written. Absent where there is none or it may be a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The rule that it breaks.
    pub rule: String,
    /// What to do about it.
    pub fix: String,
    /// Where it stands.
    pub origin: Origin,
}

impl Problem {
    /// Two lines, `error: …` and `help: …`, without a line end after the second.
    pub fn as_error(&self) -> String {
        format!("error: {self}\nhelp: {}", self.fix)
    }

    /// Two lines, `warning: …` and `help: …`, without a line end after the second.
    pub fn as_warning(&self) -> String {
        format!("warning: {self}\nhelp: {}", self.fix)
    }
}

/// `key = value (origin): rule`, on one line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.origin, self.rule);
        }
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match &self.origin {
            Origin::Set { key } if *key == self.key => f.write_str(" (--set)")?,
            origin => write!(f, " ({origin})")?,
        }
        write!(f, ": {}", self.rule)
    }
}

/// A configuration that does not start a node, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct ConfigError {
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
    /// What would have been warned of besides.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}", problem.as_error())?;
        }
        Ok(())
    }
}

/// A rule that a value breaks and what to do about it; a [`Problem`] once key and origin are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The part of a list or template that breaks it; not shown where it may be a secret.
    part: Option<String>,
    rule: String,
    /// What to do; never repeats the value.
    pub(super) fix: String,
}

impl Fault {
    pub(super) fn new(rule: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            part: None,
            rule: rule.into(),
            fix: fix.into(),
        }
    }

    /// `rule` is about `part` of the value alone and continues a sentence that begins with it.
    pub(super) fn of_part(part: &str, rule: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            part: Some(part.to_owned()),
            rule: rule.into(),
            fix: fix.into(),
        }
    }

    /// The rule as a sentence; `discreet` leaves out what the value holds.
    pub(super) fn rule(&self, discreet: bool) -> String {
        match &self.part {
            None => self.rule.clone(),
            Some(_) if discreet => format!("a part of it {}", self.rule),
            Some(part) => format!("`{part}` {}", self.rule),
        }
    }
}

/// The candidate nearest to `word`, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = word.chars().count();
    if length > 40 {
        return None;
    }
    let allowed = (length / 3).clamp(1, 3);
    let rated = candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate));
    rated
        .filter(|(far, _)| *far <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?` if something is near, else the list of what there is.
pub(super) fn one_of<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest(word, candidates.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let all: Vec<_> = candidates
                .into_iter()
                .map(|name| format!("`{name}`"))
                .collect();
            format!("there are {}", all.join(", "))
        }
    }
}

/// Letters to insert, drop, replace or swap with a neighbour to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let names = ["timeout", "streams", "in_flight"];
        assert_eq!(nearest("timeuot", names), Some("timeout"));
        assert_eq!(nearest("stream", names), Some("streams"));
        assert_eq!(nearest("inflight", names), Some("in_flight"));
        assert_eq!(nearest("header", names), None);
        assert_eq!(
            one_of("x", ["a-long-one", "b-long-one"]),
            "there are `a-long-one`, `b-long-one`"
        );
    }

    #[test]
    fn distance_counts_single_edits_and_swaps() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("acb", "abc"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
