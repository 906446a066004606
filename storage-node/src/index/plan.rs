//! A query in words, for those who ask how it is done.

use proto::v1::{IndexSettings, IndexType, QueryRequest, query_request::Which};

/// So many values are named; of the rest only how many there are.
const NAMED: usize = 8;

/// The runs of values that are walked, in their order.
pub fn describe(index: &IndexSettings, request: &QueryRequest) -> Vec<String> {
    let quote = |text: &str| match index.r#type() {
        IndexType::Number | IndexType::Bool => text.to_owned(),
        IndexType::String | IndexType::Timestamp => format!("{text:?}"),
    };
    let mut runs = match &request.which {
        None => vec!["everything".to_owned()],
        Some(Which::Missing(_)) => vec!["without a value".to_owned()],
        Some(Which::Equals(text)) => vec![format!("= {}", quote(text))],
        Some(Which::Prefix(text)) => vec![format!("begins with {}", quote(text))],
        Some(Which::Range(range)) => {
            let from = range.from.as_deref().map(|from| format!(">= {}", quote(from)));
            let to = range.to.as_deref().map(|to| format!("< {}", quote(to)));
            let both: Vec<String> = from.into_iter().chain(to).collect();
            vec![if both.is_empty() { "any value".to_owned() } else { both.join(" and ") }]
        }
        Some(Which::In(many)) => {
            let mut named: Vec<String> =
                many.values.iter().take(NAMED).map(|text| format!("= {}", quote(text))).collect();
            if many.values.len() > NAMED {
                named.push(format!("and {} more", many.values.len() - NAMED));
            }
            named
        }
    };
    if request.reverse {
        runs.push("from the greatest to the least".to_owned());
    }
    runs
}

#[cfg(test)]
mod tests {
    use proto::v1::{IndexRange, IndexValues};

    use super::*;

    #[test]
    fn a_query_is_told_in_words() {
        let told = |kind: IndexType, which: Option<Which>| {
            let index = IndexSettings { r#type: kind.into(), ..IndexSettings::default() };
            describe(&index, &QueryRequest { which, ..QueryRequest::default() }).join("; ")
        };
        let range = IndexRange { from: Some("3".to_owned()), to: Some("7".to_owned()) };
        assert_eq!(told(IndexType::Number, Some(Which::Range(range))), ">= 3 and < 7");
        assert_eq!(told(IndexType::String, Some(Which::Prefix("Be".to_owned()))), "begins with \"Be\"");
        let many = IndexValues { values: (0..10).map(|number| number.to_string()).collect() };
        assert!(told(IndexType::Number, Some(Which::In(many))).ends_with("= 7; and 2 more"));
        assert_eq!(told(IndexType::Bool, None), "everything");
    }
}
