//! Many items at once, and how many of them an index finds.

use anyhow::{Context as _, ensure};
use client::{Client, Error, Operation, PutOptions, QueryOptions, Table, Wanted};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

/// Written by one call, and calls at a time.
const BATCH: u64 = 500;
const AT_ONCE: usize = 8;
/// People live in so many cities, and are as old as this at most.
const CITIES: u64 = 50;
const AGES: u64 = 100;

/// What is to be written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// Into this table.
    pub table: String,
    /// So many items.
    pub items: u64,
}

/// What is asked of an index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// Of this table.
    pub table: String,
    /// `city` or `age`.
    pub index: String,
    /// Items with this value.
    pub value: u64,
    /// So many items were loaded.
    pub loaded: u64,
}

/// What an index found, and what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What it counted.
    pub counted: u64,
    /// What was loaded.
    pub loaded: u64,
}

/// Writes items; each is written once more where it is not known to be there.
pub async fn load(client: &Client, load: &Load) -> anyhow::Result<()> {
    let table = client.table(&load.table);
    let batches = (0..load.items).step_by(BATCH as usize);
    let writes = batches.map(|first| write(&table, first, load.items.min(first + BATCH)));
    stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await
}

async fn write(table: &Table, first: u64, end: u64) -> anyhow::Result<()> {
    for _ in 0..20 {
        let puts = (first..end).map(|number| {
            let value = format!(
                r#"{{"name":"person {number}","city":"city-{}","age":{}}}"#,
                number % CITIES,
                number % AGES
            );
            Operation::put(format!("person-{number:09}"), value, PutOptions::default())
        });
        let outcome = table.batch(puts.collect()).await;
        let failed = outcome.results.into_iter().find_map(Result::err);
        match failed {
            None => return Ok(()),
            Some(Error::OutcomeUnknown(_) | Error::Unavailable(_) | Error::DeadlineExceeded(_)) => {}
            Some(error) => return Err(error).context("a load"),
        }
    }
    ensure!(first == end, "items {first} to {end} were not written in twenty attempts");
    Ok(())
}

/// How many items an index finds.
pub async fn find(client: &Client, question: &Question) -> anyhow::Result<Found> {
    let (value, of) = match question.index.as_str() {
        "city" => (format!("city-{}", question.value), CITIES),
        _ => (question.value.to_string(), AGES),
    };
    let options = QueryOptions { wanted: Wanted::Equals(value), ..QueryOptions::default() };
    let (counted, _) = client.table(&question.table).query_count(&question.index, &options).await?;
    let loaded = (0..question.loaded).filter(|number| number % of == question.value).count() as u64;
    Ok(Found { counted, loaded })
}
