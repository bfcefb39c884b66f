//! What the bench is made of; the cluster bench uses it too.

pub(crate) mod measure;
pub(crate) mod pair;
