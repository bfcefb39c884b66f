//! Attributes that stages set, on their way to the node that runs the event.
//!
//! Only types that a router has registered cross, by their names. An event that carries another one
//! and has to be forwarded fails with INTERNAL and a log line that names the type: dropped silently, a
//! handler would see less on one node than on another.

use crate::forward::message::Entry;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId, type_name};
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

/// The attributes of an event: at most one value of a type. They are few, so they are looked for one
/// by one, in one piece of memory.
#[derive(Clone, Default)]
pub(crate) struct AttributeSet(Vec<Attribute>);

#[derive(Clone)]
struct Attribute {
    value: Box<dyn Value>,
    /// Whether it is to cross with its event.
    crosses: bool,
}

/// A value of any type that can be an attribute.
trait Value: Any + Send + Sync {
    fn its_type(&self) -> AttributeType;
    fn boxed_clone(&self) -> Box<dyn Value>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Clone + Send + Sync + 'static> Value for T {
    fn its_type(&self) -> AttributeType {
        AttributeType::of::<T>()
    }

    fn boxed_clone(&self) -> Box<dyn Value> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Clone for Box<dyn Value> {
    fn clone(&self) -> Self {
        (**self).boxed_clone()
    }
}

impl fmt::Debug for AttributeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|one| (*one.value).its_type().type_name);
        f.debug_list().entries(names).finish()
    }
}

impl AttributeSet {
    /// The value of this type.
    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        let mut values = self.0.iter().map(|one| (*one.value).as_any());
        values.find_map(<dyn Any>::downcast_ref)
    }

    /// Sets the value of a type, which crosses with its event or stays where it is; gives back what
    /// was there.
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(
        &mut self,
        value: T,
        crosses: bool,
    ) -> Option<T> {
        for one in &mut self.0 {
            if let Some(there) = (*one.value).as_any_mut().downcast_mut::<T>() {
                one.crosses |= crosses;
                return Some(std::mem::replace(there, value));
            }
        }
        let value = Box::new(value);
        self.0.push(Attribute { value, crosses });
        None
    }

    /// The types of those that cross.
    fn crossing(&self) -> impl Iterator<Item = AttributeType> {
        let crossing = self.0.iter().filter(|one| one.crosses);
        crossing.map(|one| (*one.value).its_type())
    }
}

type Write = fn(&AttributeSet) -> Option<Result<Vec<u8>, serde_json::Error>>;
type Read = fn(&mut AttributeSet, &[u8]) -> Result<(), serde_json::Error>;

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
    from: &AttributeSet,
) -> Option<Result<Vec<u8>, serde_json::Error>> {
    from.get::<T>().map(serde_json::to_vec)
}

fn read<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    to: &mut AttributeSet,
    json: &[u8],
) -> Result<(), serde_json::Error> {
    to.insert(serde_json::from_slice::<T>(json)?, true);
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

    /// The attributes as they cross.
    pub(super) fn encode(&self, from: &AttributeSet) -> Result<Vec<Entry>, String> {
        let mut entries = Vec::new();
        for of in from.crossing() {
            let registered = self.types.iter().find(|(_, codec)| codec.of == of);
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

    /// Puts an attribute in that has crossed.
    pub(super) fn decode(
        &self,
        name: &[u8],
        json: &Bytes,
        to: &mut AttributeSet,
    ) -> Result<(), String> {
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
        (codec.read)(to, json).map_err(|why| format!("the attribute `{name}`: {why}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_set_has_one_value_of_a_type_and_what_is_only_kept_does_not_cross() {
        let mut types = Attributes::default();
        types.register::<u32>("number".to_owned());
        let mut set = AttributeSet::default();
        assert_eq!(set.get::<u32>(), None);
        assert_eq!(set.insert(1u32, true), None);
        assert_eq!(set.insert("text", false), None);
        assert_eq!(set.insert(2u32, false), Some(1), "the same type");
        assert_eq!(set.get::<u32>(), Some(&2));
        assert_eq!(set.get::<&str>(), Some(&"text"));

        let crossed = types.encode(&set).unwrap();
        let names: Vec<&[u8]> = crossed.iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, [b"number"], "set once for further in, it crosses");
        let mut there = AttributeSet::default();
        let entry = &crossed[0];
        types.decode(&entry.name, &entry.value, &mut there).unwrap();
        assert_eq!(there.get::<u32>(), Some(&2));
        assert_eq!(there.get::<&str>(), None);

        set.insert("text", true);
        let why = types.encode(&set).unwrap_err();
        assert!(
            why.contains("&str") && why.contains("Router::attribute"),
            "{why}"
        );
        assert_eq!(set.clone().get::<u32>(), Some(&2), "a copy has them too");
    }
}
