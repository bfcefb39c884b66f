//! One thing that was looked at: how it is, and what to do about it.

use crate::cli::output;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It will bite some day.
    Warn,
    /// It does not work, or is open to strangers.
    Error,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A finding. Ids are stable: scripts lean on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Where it belongs and what it is, such as `api.key`.
    pub(super) id: &'static str,
    /// How bad it is.
    pub(super) severity: Severity,
    /// What was looked at: an address, a key. Never a secret.
    pub(super) looked_at: String,
    /// What was found there.
    pub(super) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Finding {
    fn new(
        id: &'static str,
        severity: Severity,
        looked_at: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            id,
            severity,
            looked_at: looked_at.into(),
            found: found.into(),
            fix: None,
        }
    }

    /// As it should be.
    pub(super) fn ok(
        id: &'static str,
        looked_at: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::new(id, Severity::Ok, looked_at, found)
    }

    /// Worth knowing.
    pub(super) fn note(
        id: &'static str,
        looked_at: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::new(id, Severity::Note, looked_at, found)
    }

    /// Will bite.
    pub(super) fn warn(
        id: &'static str,
        looked_at: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(id, Severity::Warn, looked_at, found).fix(fix)
    }

    /// Does not work.
    pub(super) fn error(
        id: &'static str,
        looked_at: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(id, Severity::Error, looked_at, found).fix(fix)
    }

    /// What to do about it.
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Everything that was found, on stdout.
pub(super) fn say(findings: &[Finding], as_json: bool) {
    if as_json {
        output::say_json(&json!(findings));
    } else {
        output::say(&checklist(findings));
    }
}

/// A line for each finding, with its fix below, and how many there are of each kind at the end.
fn checklist(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding {
            id,
            severity,
            looked_at,
            found,
            fix,
        } = finding;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<5}  {id:<22}  {looked_at}: {found}",
            severity.name()
        );
        if let Some(fix) = fix {
            let _ = writeln!(text, "       fix: {fix}");
        }
    }
    let count = |severity| findings.iter().filter(|it| it.severity == severity).count();
    let some = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    };
    let _ = write!(
        text,
        "{} looked at: {}, {}, {}",
        some(findings.len(), "thing"),
        some(count(Severity::Error), "error"),
        some(count(Severity::Warn), "warning"),
        some(count(Severity::Note), "note"),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checklist_has_a_line_for_each_finding_and_the_fix_below() {
        let findings = [
            Finding::ok("a.b", "here", "fine"),
            Finding::error("c.d", "there", "broken", "mend it"),
        ];
        let text = checklist(&findings);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("ok     a.b") && lines[0].ends_with("here: fine"));
        assert_eq!(lines[2], "       fix: mend it");
        assert_eq!(lines[3], "2 things looked at: 1 error, 0 warnings, 0 notes");
    }
}
