//! Attributes that stages set, on their way to the node that runs the event.
//!
//! Only types that a router has registered cross, by their names. An event that carries another one
//! and has to be forwarded fails with INTERNAL and a log line that names the type: dropped silently, a
//! handler would see less on one node than on another.

use crate::forward::message::Entry;
use bytes::Bytes;
use http::Extensions;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{TypeId, type_name};
use std::fmt;
use std::sync::Arc;

/// A type of attributes: what the cluster needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeType {
    pub(crate) id: TypeId,
    pub(crate) type_name: &'static str,
}

impl AttributeType {
    /// The type `T`.
    pub fn of<T: Clone + Send + Sync + 'static>() -> Self {
        Self {
            id: TypeId::of::<T>(),
            type_name: type_name::<T>(),
        }
    }
}

type Write = fn(&Extensions) -> Option<Result<Vec<u8>, serde_json::Error>>;
type Read = fn(&mut Extensions, &[u8]) -> Result<(), serde_json::Error>;

#[derive(Clone, Copy)]
struct Codec {
    of: AttributeType,
    write: Write,
    read: Read,
}

/// Types of attributes that cross between nodes, by name.
#[derive(Clone, Default)]
pub(crate) struct Attributes {
    types: Vec<(Arc<str>, Codec)>,
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .types
            .iter()
            .map(|(name, codec)| (name, codec.of.type_name));
        f.debug_map().entries(names).finish()
    }
}

fn write<T: Serialize + Clone + Send + Sync + 'static>(
    from: &Extensions,
) -> Option<Result<Vec<u8>, serde_json::Error>> {
    from.get::<T>().map(serde_json::to_vec)
}

fn read<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    to: &mut Extensions,
    json: &[u8],
) -> Result<(), serde_json::Error> {
    to.insert(serde_json::from_slice::<T>(json)?);
    Ok(())
}

impl Attributes {
    /// Registers a type under a name.
    pub(crate) fn register<T>(&mut self, name: String)
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        let codec = Codec {
            of: AttributeType::of::<T>(),
            write: write::<T>,
            read: read::<T>,
        };
        self.types.push((name.into(), codec));
    }

    /// Takes those of another router too.
    pub(crate) fn merge(&mut self, other: Self) {
        self.types.extend(other.types);
    }

    /// Whether a type crosses.
    pub(crate) fn has(&self, of: AttributeType) -> bool {
        self.types.iter().any(|(_, codec)| codec.of == of)
    }

    /// What is wrong: two types of one name, or two names of one type.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (at, (name, codec)) in self.types.iter().enumerate() {
            for (before, other) in &self.types[..at] {
                let (this, that) = (codec.of.type_name, other.of.type_name);
                if name == before && codec.of != other.of {
                    problems.push(format!(
                        "the attributes `{this}` and `{that}` are both called `{name}`; give each \
                         type a name of its own"
                    ));
                } else if name != before && codec.of == other.of {
                    problems.push(format!(
                        "the attribute `{this}` is called both `{before}` and `{name}`; register it \
                         once"
                    ));
                }
            }
        }
        problems
    }

    /// The attributes of these types as they cross.
    pub(super) fn encode(
        &self,
        set: &[AttributeType],
        from: &Extensions,
    ) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::with_capacity(set.len());
        for of in set {
            let registered = self.types.iter().find(|(_, codec)| codec.of == *of);
            let Some((name, codec)) = registered else {
                return Err(format!(
                    "the attribute `{}` does not cross between nodes; register it with \
                     Router::attribute",
                    of.type_name
                ));
            };
            match (codec.write)(from) {
                Some(Ok(json)) => entries.push(Entry {
                    name: Bytes::copy_from_slice(name.as_bytes()),
                    value: json.into(),
                }),
                Some(Err(why)) => return Err(format!("the attribute `{name}` has no JSON: {why}")),
                None => {}
            }
        }
        Ok(entries)
    }

    /// Puts an attribute in that has crossed; answers its type.
    pub(super) fn decode(
        &self,
        name: &[u8],
        json: &Bytes,
        to: &mut Extensions,
    ) -> Result<AttributeType, String> {
        let registered = self
            .types
            .iter()
            .find(|(known, _)| known.as_bytes() == name);
        let Some((name, codec)) = registered else {
            let name = String::from_utf8_lossy(name);
            return Err(format!(
                "the attribute `{name}` is not registered on this node"
            ));
        };
        (codec.read)(to, json).map_err(|why| format!("the attribute `{name}`: {why}"))?;
        Ok(codec.of)
    }
}
