//! A table's indexes, as they are declared and as the cluster has them.

use crds::table::index::{Index as Declared, IndexType as DeclaredType};
use proto::v1::{IndexSettings, IndexType};

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// What queries call it.
    pub name: String,
    /// Where its values are.
    pub path: String,
    /// What they are.
    pub kind: IndexType,
    /// No two keys of one `{tag}` have the same.
    pub unique: bool,
    /// Items without one are not in it.
    pub sparse: bool,
}

/// How a table's indexes become those that are declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Those of these names go.
    pub drop: Vec<String>,
    /// These come.
    pub add: Vec<Index>,
}

impl From<&Declared> for Index {
    fn from(declared: &Declared) -> Self {
        let kind = match declared.kind {
            DeclaredType::String => IndexType::String,
            DeclaredType::Number => IndexType::Number,
            DeclaredType::Bool => IndexType::Bool,
            DeclaredType::Timestamp => IndexType::Timestamp,
        };
        let (name, path) = (declared.name.clone(), declared.path.clone());
        Self { name, path, kind, unique: declared.unique.is_on(), sparse: declared.sparse.is_on() }
    }
}

impl From<IndexSettings> for Index {
    fn from(settings: IndexSettings) -> Self {
        let kind = settings.r#type();
        let IndexSettings { name, path, unique, sparse, .. } = settings;
        Self { name, path, kind, unique, sparse }
    }
}

impl Index {
    /// As the cluster is told of it.
    pub fn settings(&self) -> IndexSettings {
        let (name, path, kind) = (self.name.clone(), self.path.clone(), self.kind.into());
        IndexSettings { id: 0, name, path, r#type: kind, unique: self.unique, sparse: self.sparse }
    }
}

/// What differs; none: nothing.
pub fn difference(declared: &[Index], present: &[Index]) -> Option<Difference> {
    let drop = present.iter().filter(|index| !declared.contains(index)).map(|index| index.name.clone());
    let add = declared.iter().filter(|index| !present.contains(index)).cloned();
    let difference = Difference { drop: drop.collect(), add: add.collect() };
    (difference != Difference::default()).then_some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str, path: &str) -> Index {
        let (name, path) = (name.to_owned(), path.to_owned());
        Index { name, path, kind: IndexType::String, unique: false, sparse: false }
    }

    #[test]
    fn what_differs_goes_and_comes() {
        let (a, b) = (index("a", "$.a"), index("b", "$.b"));
        assert_eq!(difference(&[a.clone(), b.clone()], &[b.clone(), a.clone()]), None);
        let other = index("a", "$.c");
        assert_eq!(
            difference(std::slice::from_ref(&other), &[a, b]),
            Some(Difference { drop: vec!["a".to_owned(), "b".to_owned()], add: vec![other] })
        );
    }
}
