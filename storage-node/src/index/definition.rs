//! An index as it is declared, understood.

use proto::v1::{IndexSettings, IndexType};

use crate::json::path::{Path, Step};

/// The most indexes of a table: each write maintains them all.
pub const MOST_INDEXES: usize = 16;
/// The longest name.
const LONGEST_NAME: usize = 64;

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Never used again in its table.
    pub id: u32,
    /// What it is called.
    pub name: String,
    /// Where its values are.
    pub path: Path,
    /// What they are.
    pub kind: IndexType,
    /// No two keys of one `{tag}` have the same.
    pub unique: bool,
    /// Items without one are not in it.
    pub sparse: bool,
}

impl Definition {
    /// Understands what was declared; else says what is wrong with it.
    pub fn parse(settings: &IndexSettings) -> Result<Self, String> {
        let name = &settings.name;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) || name.starts_with('-') {
            return Err(format!(
                "{name:?} is no name of an index: it has 1 to {LONGEST_NAME} letters, digits, _ and -, and does not \
                 begin with -"
            ));
        }
        let path = Path::parse(&settings.path)
            .map_err(|error| format!("the path {:?} of index {name} is none: {error}", settings.path))?;
        let from_end = |step: &Step| matches!(step, Step::Element(place) if *place < 0);
        if path.steps().iter().any(from_end) {
            return Err(format!("the path of index {name} counts from the end of an array: an index cannot"));
        }
        let kind = IndexType::try_from(settings.r#type)
            .map_err(|_| format!("index {name} is of a type that this cluster does not know"))?;
        let IndexSettings { id, unique, sparse, .. } = *settings;
        Ok(Self { id, name: name.clone(), path, kind, unique, sparse })
    }

    /// All of a table. What does not parse was written by a newer program, which the cluster version
    /// keeps from happening; it is left out.
    pub fn all(settings: &[IndexSettings]) -> Vec<Self> {
        settings.iter().filter_map(|settings| Self::parse(settings).ok()).collect()
    }
}

/// What a type is called where people read and write it.
pub fn type_name(kind: IndexType) -> &'static str {
    match kind {
        IndexType::String => "string",
        IndexType::Number => "number",
        IndexType::Bool => "bool",
        IndexType::Timestamp => "timestamp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, path: &str) -> IndexSettings {
        IndexSettings { name: name.to_owned(), path: path.to_owned(), ..IndexSettings::default() }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let why = |name, path| Definition::parse(&settings(name, path)).unwrap_err();
        assert!(why("", "$.a").contains("no name"));
        assert!(why("-a", "$.a").contains("no name"));
        assert!(why("ä", "$.a").contains("no name"));
        assert!(why("a", "$..a").contains("index a is none: at character 3"));
        assert!(why("a", "$.a[-1]").contains("from the end"));
        let odd = IndexSettings { r#type: 9, ..settings("a", "$.a") };
        assert!(Definition::parse(&odd).unwrap_err().contains("type"));
        assert_eq!(Definition::parse(&settings("by-city_2", "$.a[*]")).unwrap().kind, IndexType::String);
    }
}
