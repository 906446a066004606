//! What a table demands of its values, and whether reads keep its items alive, as the meta group
//! takes it. That a schema is one was seen by who proposed it: programs of different versions may
//! not agree on that, and must agree on what is applied.

use proto::v1::value_settings::Demand;
use proto::v1::{CreateTable, TableEntry, TableSettings, ValueSettings};

use super::refusal::Refusal;
use crate::json::schema::MOST_BYTES;

/// The longest that a read gives an item: 100 years.
const LONGEST_TOUCH_MS: u64 = 100 * 365 * 24 * 3_600_000;

/// Settings with another demand and another touch, and the next version where they are others.
pub fn with_values(
    settings: TableSettings,
    values: Option<&ValueSettings>,
    touch_on_read_ms: Option<u64>,
) -> Result<TableSettings, Refusal> {
    let mut wanted = settings.clone();
    if let Some(values) = values {
        check(values)?;
        if settings.values.clone().unwrap_or_default() != *values {
            wanted.values = Some(values.clone());
        }
    }
    if let Some(touch) = touch_on_read_ms {
        if touch > LONGEST_TOUCH_MS {
            return Err(Refusal::Invalid("a read gives an item 100 years at most".to_owned()));
        }
        wanted.touch_on_read_ms = touch;
    }
    if wanted != settings {
        wanted.version = settings.version + 1;
    }
    Ok(wanted)
}

/// In what a table that is asked for again differs from the one that there is.
pub fn difference(create: &CreateTable, entry: &TableEntry) -> Option<&'static str> {
    let settings = entry.settings.clone().unwrap_or_default();
    if create.values.clone().unwrap_or_default() != settings.values.unwrap_or_default() {
        return Some(", with another demand on values");
    }
    (create.touch_on_read_ms != settings.touch_on_read_ms).then_some(", with another touch on read")
}

fn check(values: &ValueSettings) -> Result<(), Refusal> {
    let invalid = |why: String| Err(Refusal::Invalid(why));
    match Demand::try_from(values.demand) {
        Err(_) => invalid(format!("{} is no demand on values that this cluster knows", values.demand)),
        Ok(Demand::Any) if !values.schema.is_empty() => {
            invalid("a schema goes with a table that demands JSON".to_owned())
        }
        Ok(Demand::JsonOnly) if values.schema.len() > MOST_BYTES => {
            invalid(format!("the schema has {} bytes; the limit is {MOST_BYTES}", values.schema.len()))
        }
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_only(schema: &'static [u8]) -> ValueSettings {
        ValueSettings { demand: Demand::JsonOnly.into(), schema: schema.into() }
    }

    #[test]
    fn settings_have_the_next_version_only_where_they_change() {
        let first = with_values(TableSettings::default(), Some(&json_only(b"{}")), Some(500)).unwrap();
        assert_eq!((first.version, first.touch_on_read_ms), (1, 500));
        assert_eq!(with_values(first.clone(), Some(&json_only(b"{}")), Some(500)).unwrap(), first);
        assert_eq!(with_values(first.clone(), None, None).unwrap(), first);
        let second = with_values(first, Some(&ValueSettings::default()), None).unwrap();
        assert_eq!((second.version, second.touch_on_read_ms), (2, 500));
        let none = with_values(TableSettings::default(), Some(&ValueSettings::default()), Some(0)).unwrap();
        assert_eq!(none, TableSettings::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused =
            |values: ValueSettings| with_values(TableSettings::default(), Some(&values), None).is_err();
        assert!(refused(ValueSettings { demand: 7, ..ValueSettings::default() }));
        assert!(refused(ValueSettings { schema: "{}".into(), ..ValueSettings::default() }));
        assert!(refused(ValueSettings { schema: vec![b' '; MOST_BYTES + 1].into(), ..json_only(b"") }));
        assert!(with_values(TableSettings::default(), None, Some(LONGEST_TOUCH_MS + 1)).is_err());
    }
}
