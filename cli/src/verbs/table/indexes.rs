//! A table's indexes, as arguments and as columns.

use std::str::FromStr;

use clap::Args;
use proto::v1::{IndexSettings, IndexStatus, IndexType, index_status::State};
use serde_json::{Value, json};

use crate::columns::Columns;

/// Indexes that a table gets.
#[derive(Debug, Clone, Args)]
pub struct Indexes {
    /// An index: what it is called, where its values are and of what type they are (string, number,
    /// bool or timestamp), such as city=$.address.city:string. With `,unique` no two keys of one {tag}
    /// have the same value; with `,sparse` items without a value are not in it.
    #[arg(long = "index", value_name = "NAME=PATH:TYPE", value_parser = Index::from_str)]
    index: Vec<Index>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
struct Index(IndexSettings);

impl Indexes {
    /// As the cluster takes them.
    pub fn settings(self) -> Vec<IndexSettings> {
        self.index.into_iter().map(|index| index.0).collect()
    }

    /// Whether there are any.
    pub fn are_given(&self) -> bool {
        !self.index.is_empty()
    }
}

impl FromStr for Index {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} should be NAME=PATH:TYPE, such as city=$.address.city:string");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (path, words) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let mut words = words.split(',');
        let kind = match words.next().unwrap_or_default() {
            "string" => IndexType::String,
            "number" => IndexType::Number,
            "bool" => IndexType::Bool,
            "timestamp" => IndexType::Timestamp,
            other => return Err(format!("{other:?} is no type: string, number, bool or timestamp")),
        };
        let (mut unique, mut sparse) = (false, false);
        for word in words {
            match word {
                "unique" => unique = true,
                "sparse" => sparse = true,
                other => return Err(format!("{other:?} is neither unique nor sparse")),
            }
        }
        let (name, path) = (name.to_owned(), path.to_owned());
        Ok(Self(IndexSettings { id: 0, name, path, r#type: kind.into(), unique, sparse }))
    }
}

/// An index as its argument is written.
pub fn written(index: &IndexSettings) -> String {
    let kind = match index.r#type() {
        IndexType::String => "string",
        IndexType::Number => "number",
        IndexType::Bool => "bool",
        IndexType::Timestamp => "timestamp",
    };
    let unique = if index.unique { ",unique" } else { "" };
    let sparse = if index.sparse { ",sparse" } else { "" };
    format!("{}={}:{kind}{unique}{sparse}", index.name, index.path)
}

/// How far the table is with each.
pub fn columns(indexes: &[IndexStatus]) -> Columns {
    let mut columns = Columns::new(["INDEX", "STATE"]);
    for status in indexes {
        columns.row([written(&status.index.clone().unwrap_or_default()), state(status)]);
    }
    columns
}

fn state(status: &IndexStatus) -> String {
    match status.state() {
        State::Ready => "ready".to_owned(),
        State::Building => format!("being built, {} %", status.percent),
        State::Failed => format!("failed: {}", status.failure),
    }
}

/// The same as JSON.
pub fn as_json(indexes: &[IndexStatus]) -> Value {
    let one = |status: &IndexStatus| {
        let index = status.index.clone().unwrap_or_default();
        let state = match status.state() {
            State::Ready => "ready",
            State::Building => "building",
            State::Failed => "failed",
        };
        json!({
            "name": index.name,
            "definition": written(&index),
            "state": state,
            "percent": status.percent,
            "failure": (!status.failure.is_empty()).then_some(&status.failure),
        })
    };
    Value::Array(indexes.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_as_it_is_written() {
        for text in
            ["city=$.address.city:string", "mail=$['e:mail']:string,unique,sparse", "at=$[0]:timestamp"]
        {
            assert_eq!(written(&Index::from_str(text).unwrap().0), text);
        }
        for (text, why) in [
            ("city", "NAME=PATH:TYPE"),
            ("city=$.a", "NAME=PATH:TYPE"),
            ("city=$.a:text", "\"text\" is no type"),
            ("city=$.a:string,uniq", "neither"),
        ] {
            let error = Index::from_str(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
