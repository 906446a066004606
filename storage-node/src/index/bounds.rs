//! What a question asks of an index, as runs of encoded values.

use bytes::Bytes;
use proto::v1::{IndexRange, IndexRun, IndexType, query_request::Which};

use super::definition::{Definition, type_name};
use super::value::{ALL_MISSING, ALL_PRESENT, MOST_STRING_BYTES, Value, string_prefix};

/// The most values of an `in`.
pub const MOST_RUNS: usize = 1000;

/// Values from the first, up to but without the second.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// The first encoding.
    pub start: Bytes,
    /// The first that is no longer wanted.
    pub end: Bytes,
    /// What cut strings are held against, where the encodings do not say enough.
    pub from: Option<Bytes>,
    /// The same; the first no longer wanted.
    pub to: Option<Bytes>,
}

impl Run {
    /// Whether a value is wanted. The encoding alone decides unless it is cut.
    pub fn holds(&self, value: &Value) -> bool {
        let within = self.start <= value.encoded && value.encoded < self.end;
        let whole = value.whole.as_ref();
        within
            && whole.is_none_or(|whole| {
                self.from.as_ref().is_none_or(|from| from <= whole)
                    && self.to.as_ref().is_none_or(|to| whole < to)
            })
    }

    fn between((start, end): (&'static [u8], &'static [u8])) -> Self {
        Self { start: Bytes::from_static(start), end: Bytes::from_static(end), from: None, to: None }
    }
}

impl From<IndexRun> for Run {
    fn from(run: IndexRun) -> Self {
        Self { start: run.start, end: run.end, from: run.from, to: run.to }
    }
}

impl From<Run> for IndexRun {
    fn from(run: Run) -> Self {
        Self { start: run.start, end: run.end, from: run.from, to: run.to }
    }
}

/// The runs that answer a question, in the order of their values, none overlapping; or what is wrong
/// with it.
pub fn runs_of(index: &Definition, which: Option<&Which>) -> Result<Vec<Run>, String> {
    let value = |text: &str| {
        Value::of_text(index.kind, text).map_err(|wanted| {
            format!("index {} is of type {}: {text:?} is not {wanted}", index.name, type_name(index.kind))
        })
    };
    Ok(match which {
        None => vec![Run { start: Run::between(ALL_MISSING).start, ..Run::between(ALL_PRESENT) }],
        Some(Which::Missing(_)) if index.sparse => {
            return Err(format!("index {} is sparse: items without a value are not in it", index.name));
        }
        Some(Which::Missing(_)) => vec![Run::between(ALL_MISSING)],
        Some(Which::Equals(text)) => vec![just(value(text)?)],
        Some(Which::In(many)) => {
            if many.values.len() > MOST_RUNS {
                return Err(format!(
                    "a query asks for at most {MOST_RUNS} values, not {}",
                    many.values.len()
                ));
            }
            let mut values: Vec<Value> =
                many.values.iter().map(|text| value(text)).collect::<Result<_, _>>()?;
            values.sort_unstable();
            values.dedup();
            values.into_iter().map(just).collect()
        }
        Some(Which::Prefix(_)) if index.kind != IndexType::String => {
            let kind = type_name(index.kind);
            return Err(format!("index {} is of type {kind}: only strings have prefixes", index.name));
        }
        Some(Which::Prefix(prefix)) => vec![prefixed(prefix.as_bytes())],
        Some(Which::Range(IndexRange { from, to })) => {
            let from = from.as_deref().map(value).transpose()?;
            let to = to.as_deref().map(value).transpose()?;
            let all = Run::between(ALL_PRESENT);
            let run = Run {
                start: from.as_ref().map_or(all.start, |from| from.encoded.clone()),
                end: match &to {
                    None => all.end,
                    // Of those that are cut like it, some are wanted.
                    Some(to) if to.whole.is_some() => after_prefix(&to.encoded),
                    Some(to) => to.encoded.clone(),
                },
                from: from.and_then(|from| from.whole),
                to: to.and_then(|to| to.whole),
            };
            if run.start < run.end { vec![run] } else { Vec::new() }
        }
    })
}

/// A value and no other.
fn just(value: Value) -> Run {
    let to = value.whole.as_ref().map(|whole| [&whole[..], &[0]].concat().into());
    Run { end: after_prefix(&value.encoded), start: value.encoded, from: value.whole, to }
}

fn prefixed(prefix: &[u8]) -> Run {
    let Some(kept) = prefix.get(..MOST_STRING_BYTES).filter(|kept| kept.len() < prefix.len()) else {
        let start = if prefix.is_empty() { Run::between(ALL_PRESENT).start } else { string_prefix(prefix) };
        return Run { end: after_prefix(&start), start, from: None, to: None };
    };
    // Only cut strings can begin so.
    let start: Bytes = [&string_prefix(kept)[..], &[0, 2]].concat().into();
    let to = Some(after_prefix(prefix)).filter(|to| !to.is_empty());
    Run { end: after_prefix(&start), start, from: Some(Bytes::copy_from_slice(prefix)), to }
}

/// The first bytes that no longer begin so; encodings never consist of 255 alone.
pub fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::v1::{IndexSettings, IndexValues};

    use super::*;

    fn index(kind: IndexType, sparse: bool) -> Definition {
        let settings = IndexSettings {
            name: "i".to_owned(),
            path: "$".to_owned(),
            r#type: kind.into(),
            sparse,
            ..IndexSettings::default()
        };
        Definition::parse(&settings).unwrap()
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let why = |kind, which: Which| runs_of(&index(kind, true), Some(&which)).unwrap_err();
        let number = |text: &str| why(IndexType::Number, Which::Equals(text.to_owned()));
        assert!(number("ten").contains("\"ten\" is not a number"), "{}", number("ten"));
        assert!(why(IndexType::Bool, Which::Prefix("t".to_owned())).contains("only strings"));
        assert!(why(IndexType::Bool, Which::Missing(true)).contains("sparse"));
        let many = IndexValues { values: vec!["1".to_owned(); MOST_RUNS + 1] };
        assert!(why(IndexType::Number, Which::In(many)).contains("at most 1000"));
        let range = IndexRange { from: Some("x".to_owned()), to: None };
        assert!(why(IndexType::Timestamp, Which::Range(range)).contains("RFC 3339"));
    }

    #[test]
    fn all_holds_the_missing_and_a_range_does_not() {
        let all = runs_of(&index(IndexType::Number, false), None).unwrap();
        let open = Which::Range(IndexRange::default());
        let open = runs_of(&index(IndexType::Number, false), Some(&open)).unwrap();
        let missing = runs_of(&index(IndexType::Number, false), Some(&Which::Missing(true))).unwrap();
        let number = Value::of_text(IndexType::Number, "5").unwrap();
        assert!(all[0].holds(&Value::missing()) && all[0].holds(&number));
        assert!(!open[0].holds(&Value::missing()) && open[0].holds(&number));
        assert!(missing[0].holds(&Value::missing()) && !missing[0].holds(&number));
    }

    /// Short strings, and such as differ only behind where they are cut.
    fn any_text() -> impl Strategy<Value = String> {
        let long = (254_usize..259, "[\0ab]{0,2}").prop_map(|(length, end)| "x".repeat(length) + &end);
        prop_oneof!["[\0ab\u{10ffff}]{0,3}", long]
    }

    proptest! {
        #[test]
        fn runs_hold_what_is_asked_for(text in any_text(), one in any_text(), other in any_text()) {
            let index = index(IndexType::String, true);
            let value = Value::of_text(IndexType::String, &text).unwrap();
            let holds = |which: Which| {
                let runs = runs_of(&index, Some(&which)).unwrap();
                runs.iter().any(|run| run.holds(&value))
            };
            prop_assert_eq!(holds(Which::Equals(one.clone())), text == one);
            prop_assert_eq!(holds(Which::Prefix(one.clone())), text.starts_with(&one));
            let many = IndexValues { values: vec![one.clone(), other.clone()] };
            prop_assert_eq!(holds(Which::In(many)), text == one || text == other);
            let range = IndexRange { from: Some(one.clone()), to: Some(other.clone()) };
            prop_assert_eq!(holds(Which::Range(range)), one <= text && text < other);
            let below = IndexRange { from: None, to: Some(other.clone()) };
            prop_assert_eq!(holds(Which::Range(below)), text < other);
        }
    }
}
