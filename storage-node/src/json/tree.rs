//! A value of JSON that is being changed. Only the containers on the way to a change are opened;
//! everything else stays the text that it was, and is written again byte by byte.
//!
//! An opened container is written without blanks between its parts, its members in the order in
//! which they stood; a member that is new comes last. Of a name that stood twice the last value
//! stays, where the first one stood.

use std::borrow::Cow;
use std::collections::HashMap;

use super::equal::equal;
use super::text::{Json, Kind};

/// A value, opened or as it was.
#[derive(Debug, Clone)]
pub enum Tree<'a> {
    /// As it is written.
    Text(Json<'a>),
    /// An array that was opened.
    Array(Vec<Tree<'a>>),
    /// An object that was opened.
    Object(Box<Object<'a>>),
}

/// The members of an object that was opened.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    /// In their order; none where one was removed.
    members: Vec<Option<Member<'a>>>,
    places: HashMap<Cow<'a, str>, usize>,
}

#[derive(Debug, Clone)]
struct Member<'a> {
    /// As it is written, with its quotes.
    name: Cow<'a, str>,
    value: Tree<'a>,
}

/// How much a value takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Its bytes, as it would be written.
    pub bytes: usize,
    /// Its levels.
    pub depth: usize,
}

impl Tree<'_> {
    /// An object with nothing in it.
    pub fn empty_object() -> Self {
        Self::Object(Box::default())
    }

    /// Opens a container; a value that is none stays as it is.
    pub fn open(&mut self) {
        let Self::Text(json) = *self else { return };
        match json.kind() {
            Kind::Array => *self = Self::Array(json.elements().map(Self::Text).collect()),
            Kind::Object => {
                let mut object = Object::default();
                for (name, value) in json.members() {
                    object.set_written(name, Self::Text(value));
                }
                *self = Self::Object(Box::new(object));
            }
            _ => {}
        }
    }

    /// How many bytes opening it would read.
    pub fn bytes_to_open(&self) -> usize {
        match self {
            Self::Text(json) => json.text().len(),
            Self::Array(_) | Self::Object(_) => 0,
        }
    }

    /// How much it takes.
    pub fn extent(&self) -> Extent {
        let around = |inner: Extent, part: Extent, more: usize| Extent {
            bytes: inner.bytes + part.bytes + more,
            depth: inner.depth.max(part.depth),
        };
        let inner = match self {
            Self::Text(json) => return Extent { bytes: json.text().len(), depth: json.depth() },
            Self::Array(elements) => {
                elements.iter().fold(Extent::default(), |all, element| around(all, element.extent(), 1))
            }
            Self::Object(object) => object.members.iter().flatten().fold(Extent::default(), |all, member| {
                around(all, member.value.extent(), member.name.len() + 2)
            }),
        };
        // Brackets, less the comma that the last part lacks.
        let comma = usize::from(inner.bytes > 0);
        Extent { bytes: inner.bytes + 2 - comma, depth: inner.depth + 1 }
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(json) => out.extend_from_slice(json.text().as_bytes()),
            Self::Array(elements) => {
                out.push(b'[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    element.write(out);
                }
                out.push(b']');
            }
            Self::Object(object) => {
                out.push(b'{');
                for (at, member) in object.members.iter().flatten().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(member.name.as_bytes());
                    out.push(b':');
                    member.value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// Whether it is the same as a value that is written.
    pub fn is(&self, other: Json<'_>) -> bool {
        match self {
            Self::Text(json) => equal(*json, other),
            Self::Array(elements) => {
                let mut others = other.elements();
                other.kind() == Kind::Array
                    && elements.iter().all(|element| others.next().is_some_and(|other| element.is(other)))
                    && others.next().is_none()
            }
            Self::Object(object) => {
                let others: HashMap<_, _> = other
                    .members()
                    .map(|(name, value)| (name.as_string().unwrap_or_default(), value))
                    .collect();
                other.kind() == Kind::Object
                    && others.len() == object.places.len()
                    && others
                        .iter()
                        .all(|(name, other)| object.get(name).is_some_and(|value| value.is(*other)))
            }
        }
    }
}

impl<'a> Object<'a> {
    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&Tree<'a>> {
        let place = *self.places.get(name)?;
        self.members.get(place)?.as_ref().map(|member| &member.value)
    }

    /// The value of a member, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tree<'a>> {
        let place = *self.places.get(name)?;
        self.members.get_mut(place)?.as_mut().map(|member| &mut member.value)
    }

    /// Gives a member another value, or makes it.
    pub fn set(&mut self, name: &str, value: Tree<'a>) {
        match self.get_mut(name) {
            Some(old) => *old = value,
            None => self.push(Cow::Owned(name.to_owned()), Cow::Owned(quoted(name)), value),
        }
    }

    /// The same with a name as it is written.
    pub fn set_written(&mut self, name: Json<'a>, value: Tree<'a>) {
        let said = name.as_string().unwrap_or_default();
        match self.get_mut(&said) {
            Some(old) => *old = value,
            None => self.push(said, Cow::Borrowed(name.text()), value),
        }
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) -> Option<Tree<'a>> {
        let place = self.places.remove(name)?;
        self.members.get_mut(place)?.take().map(|member| member.value)
    }

    fn push(&mut self, said: Cow<'a, str>, name: Cow<'a, str>, value: Tree<'a>) {
        self.places.insert(said, self.members.len());
        self.members.push(Some(Member { name, value }));
    }
}

/// A name as JSON writes it.
pub fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}
