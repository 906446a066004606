//! The indexes that tables declare.

use proto::v1::{CreateTable, IndexSettings, TableEntry, TableSettings};

use super::refusal::Refusal;
use crate::index::Definition;
use crate::index::definition::MOST_INDEXES;

/// Settings without some indexes and then with others, and the next version where they differ. What
/// is there already as it is described stays as it is.
pub fn with_indexes(
    settings: TableSettings,
    drop: &[String],
    add: &[IndexSettings],
) -> Result<TableSettings, Refusal> {
    let invalid = |why: String| Err(Refusal::Invalid(why));
    let mut changed = settings.clone();
    for name in drop {
        let before = changed.indexes.len();
        changed.indexes.retain(|index| index.name != *name);
        if changed.indexes.len() == before {
            return invalid(format!("the table has no index {name:?}"));
        }
    }
    for wanted in add {
        Definition::parse(wanted).map_err(Refusal::Invalid)?;
        match changed.indexes.iter().find(|known| known.name == wanted.name) {
            Some(known) if same(known, wanted) => {}
            Some(known) => {
                return invalid(format!(
                    "the table has an index {} already, over {}: drop it first, or take another name",
                    known.name, known.path
                ));
            }
            None => {
                changed.last_index += 1;
                changed.indexes.push(IndexSettings { id: changed.last_index, ..wanted.clone() });
            }
        }
    }
    if changed.indexes.len() > MOST_INDEXES {
        let (limit, actual) = (MOST_INDEXES as u64, changed.indexes.len() as u64);
        return Err(Refusal::OverBound { what: "indexes of a table", limit, actual });
    }
    if changed != settings {
        changed.version += 1;
    }
    Ok(changed)
}

/// Whether a table has the indexes with which it is asked for again, and no others.
pub fn has_those(entry: &TableEntry, create: &CreateTable) -> bool {
    let known = entry.settings.as_ref().map(|settings| settings.indexes.as_slice()).unwrap_or_default();
    let alike = |wanted: &IndexSettings| known.iter().any(|known| same(known, wanted));
    known.len() == create.indexes.len() && create.indexes.iter().all(alike)
}

/// Whether two descriptions are of one index, whatever its id and however its path is written.
fn same(one: &IndexSettings, other: &IndexSettings) -> bool {
    let parsed =
        |settings: &IndexSettings| Definition::parse(&IndexSettings { id: 0, ..settings.clone() }).ok();
    parsed(one).is_some() && parsed(one) == parsed(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str, path: &str) -> IndexSettings {
        IndexSettings { name: name.to_owned(), path: path.to_owned(), ..IndexSettings::default() }
    }

    #[test]
    fn an_id_is_never_used_again() {
        let first =
            with_indexes(TableSettings::default(), &[], &[index("a", "$.a"), index("b", "$.b")]).unwrap();
        let ids = |settings: &TableSettings| {
            settings.indexes.iter().map(|index| (index.name.clone(), index.id)).collect::<Vec<_>>()
        };
        assert_eq!(ids(&first), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let again = with_indexes(first.clone(), &["b".to_owned()], &[index("b", "$.b")]).unwrap();
        assert_eq!(ids(&again), [("a".to_owned(), 1), ("b".to_owned(), 3)]);
        assert_eq!((first.version, again.version), (1, 2));
    }

    #[test]
    fn what_is_there_already_changes_nothing() {
        let first = with_indexes(TableSettings::default(), &[], &[index("a", "$['a']")]).unwrap();
        assert_eq!(with_indexes(first.clone(), &[], &[index("a", "$ [\"a\"]")]).unwrap(), first);
        let other = with_indexes(first.clone(), &[], &[index("a", "$.b")]).unwrap_err();
        assert!(other.to_string().contains("drop it first"), "{other}");
        let unknown = with_indexes(first, &["b".to_owned()], &[]).unwrap_err();
        assert!(unknown.to_string().contains("no index \"b\""), "{unknown}");
    }

    #[test]
    fn a_table_has_so_many_and_no_more() {
        let many: Vec<_> = (0..=MOST_INDEXES).map(|number| index(&format!("i{number}"), "$.a")).collect();
        with_indexes(TableSettings::default(), &[], &many[1..]).unwrap();
        let refused = with_indexes(TableSettings::default(), &[], &many).unwrap_err();
        assert!(matches!(refused, Refusal::OverBound { .. }));
    }
}
