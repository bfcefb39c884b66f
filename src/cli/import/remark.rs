//! What is told beside an imported file.

use serde::Serialize;

/// How much a remark matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Weight {
    /// Something works otherwise, or was written out.
    Note,
    /// Something is a mistake or a danger.
    Warning,
    /// A key that the new file does not have.
    Left,
}

/// One remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Remark {
    /// How much it matters.
    pub(super) weight: Weight,
    /// The key of the file that was read.
    pub(super) key: String,
    /// In words, with the cure where one is needed.
    pub(super) text: String,
}

/// All remarks, in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    pub(super) list: Vec<Remark>,
}

impl Remarks {
    /// Something to know.
    pub(super) fn note(&mut self, key: &str, text: impl Into<String>) {
        self.add(Weight::Note, key, text.into());
    }

    /// Something to mend.
    pub(super) fn warn(&mut self, key: &str, text: impl Into<String>) {
        self.add(Weight::Warning, key, text.into());
    }

    /// Something that was not taken over.
    pub(super) fn left(&mut self, key: &str, text: impl Into<String>) {
        self.add(Weight::Left, key, text.into());
    }

    fn add(&mut self, weight: Weight, key: &str, text: String) {
        let key = key.to_owned();
        let remark = Remark { weight, key, text };
        if !self.list.contains(&remark) {
            self.list.push(remark);
        }
    }

    /// Everything on stderr, a line each.
    pub(super) fn say(&self) {
        for remark in &self.list {
            let start = match remark.weight {
                Weight::Note => "note",
                Weight::Warning => "warning",
                Weight::Left => "not taken over",
            };
            eprintln!("{start}: {}: {}", remark.key, remark.text);
        }
    }
}
