//! What TAB offers: commands and flags from the grammar, tables and keys from the cluster.

use std::time::Duration;

use bytes::Bytes;
use client::ScanOptions;
use proto::v1::ListTablesRequest;

use super::grammar::{self, ELSEWHERE, OWN};
use crate::arguments::Global;

/// How long somebody who pressed TAB waits for the cluster.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most keys that are offered; there may be millions.
const MOST_KEYS: u64 = 50;
/// Verbs whose first words are keys.
const TAKE_KEYS: [&str; 6] = ["get", "put", "patch", "delete", "exists", "scan"];

/// Knows what may come next on a line.
pub struct Completion {
    global: Global,
    grammar: clap::Command,
}

/// What a word can be.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these.
    Of(Vec<String>),
    /// The name of a table.
    Table,
    /// A key of this table.
    Key(Option<String>),
}

impl Completion {
    /// With what the session says.
    pub fn new(global: &Global) -> Self {
        let mut grammar = grammar::command();
        grammar.build();
        Self { global: global.clone(), grammar }
    }

    /// From where on a line can be replaced, and by what: each as it is shown and as it is typed.
    pub async fn of(&self, typed: &str) -> (usize, Vec<(String, String)>) {
        let from = typed.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (before, begun) = typed.split_at_checked(from).unwrap_or((typed, ""));
        // Inside quotes nothing is offered, and a key that needs them is not found by its beginning.
        let Some(words) = shlex::split(before) else { return (typed.len(), Vec::new()) };
        let found = match self.wanted(&words, begun) {
            Wanted::Of(names) => names,
            Wanted::Table => self.tables().await,
            Wanted::Key(table) => self.keys(table.as_deref(), begun).await,
        };
        let offered = found.into_iter().filter(|name| name.starts_with(begun)).filter_map(|name| {
            let quoted = shlex::try_quote(&name).ok()?.into_owned();
            Some((name, quoted + " "))
        });
        (from, offered.collect())
    }

    fn wanted(&self, words: &[String], begun: &str) -> Wanted {
        let last = words.last().map(String::as_str);
        if matches!(last, Some("-t" | "--table" | "--of")) || (words.len() == 1 && last == Some("use")) {
            return Wanted::Table;
        }
        let (mut command, mut plain, mut of_flag) = (&self.grammar, 0, false);
        for word in words {
            if std::mem::replace(&mut of_flag, takes_value(command, word)) {
                continue;
            }
            match command.find_subcommand(word) {
                Some(found) => command = found,
                None => plain += usize::from(!word.starts_with('-')),
            }
        }
        if of_flag {
            return Wanted::Of(Vec::new());
        }
        if begun.starts_with('-') {
            let flags = command.get_arguments().filter_map(|arg| arg.get_long());
            return Wanted::Of(flags.map(|name| format!("--{name}")).collect());
        }
        let names = |command: &clap::Command| -> Vec<String> {
            let verbs = command.get_subcommands().map(|verb| verb.get_name().to_owned());
            verbs.filter(|name| !ELSEWHERE.contains(&name.as_str())).collect()
        };
        match words.first().map(String::as_str) {
            None => {
                let mut all = names(&self.grammar);
                all.extend(OWN.map(|(name, _)| name.to_owned()));
                Wanted::Of(all)
            }
            Some("help") if words.len() == 1 => Wanted::Of(names(&self.grammar)),
            _ if command.has_subcommands() => Wanted::Of(names(command)),
            Some("table") if plain == 0 && matches!(command.get_name(), "describe" | "alter" | "drop") => {
                Wanted::Table
            }
            Some(verb) if TAKE_KEYS.contains(&verb) && (plain == 0 || (verb == "scan" && plain == 1)) => {
                let mut flags = words.windows(2).filter_map(|pair| match pair {
                    [flag, name] if flag == "-t" || flag == "--table" => Some(name.clone()),
                    _ => None,
                });
                Wanted::Key(flags.next_back())
            }
            _ => Wanted::Of(Vec::new()),
        }
    }

    async fn tables(&self) -> Vec<String> {
        let ask = async {
            let admin = self.global.connect().await?.admin();
            admin.list_tables(ListTablesRequest {}).await
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Ok(found)) => found.tables.into_iter().map(|table| table.name).collect(),
            _ => Vec::new(),
        }
    }

    /// Keys that can be typed; others there may be as well.
    async fn keys(&self, table: Option<&str>, begun: &str) -> Vec<String> {
        let options = ScanOptions {
            prefix: Bytes::copy_from_slice(begun.as_bytes()),
            limit: Some(MOST_KEYS),
            keys_only: true,
            stale: true,
            ..ScanOptions::default()
        };
        let ask = async {
            let client = self.global.connect().await?;
            let mut scan = client.table(table.unwrap_or(&self.global.table)).scan(options);
            scan.next_page().await.transpose()
        };
        let Ok(Ok(Some(page))) = tokio::time::timeout(PATIENCE, ask).await else { return Vec::new() };
        let typed = page.items.into_iter().filter_map(|item| String::from_utf8(item.key.to_vec()).ok());
        typed.filter(|key| !key.chars().any(char::is_control)).collect()
    }
}

/// Whether a word is a flag that the next word belongs to.
fn takes_value(command: &clap::Command, word: &str) -> bool {
    command.get_arguments().any(|arg| {
        let long = arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
        let short = arg.get_short().is_some_and(|short| word.strip_prefix('-') == Some(&short.to_string()));
        (long || short) && arg.get_action().takes_values()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::Arguments;

    fn wanted(line: &str) -> Wanted {
        let global = Arguments::try_parse_from(["trilith", "ping"]).unwrap().global;
        let from = line.rfind(' ').map_or(0, |at| at + 1);
        let words = shlex::split(&line[..from]).unwrap();
        Completion::new(&global).wanted(&words, &line[from..])
    }

    fn names(line: &str) -> Vec<String> {
        match wanted(line) {
            Wanted::Of(names) => names,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn each_place_has_its_words() {
        let first = names("");
        assert!(
            ["put", "scan", "use", "help", "exit"].iter().all(|name| first.contains(&(*name).to_owned()))
        );
        assert!(!first.contains(&"shell".to_owned()) && !first.contains(&"dev".to_owned()));
        assert!(names("table ").contains(&"create".to_owned()));
        assert!(names("help ").contains(&"put".to_owned()));
        assert!(names("put --").contains(&"--if-absent".to_owned()));
        assert_eq!(names("put k "), Vec::<String>::new());
        for line in ["use ", "get -t ", "table drop ", "table describe o", "cluster partitions --of "] {
            assert_eq!(wanted(line), Wanted::Table, "{line}");
        }
        for line in ["get ", "put u", "scan a ", "delete "] {
            assert_eq!(wanted(line), Wanted::Key(None), "{line}");
        }
        assert_eq!(names("get -o "), Vec::<String>::new());
        assert_eq!(wanted("get -t orders o"), Wanted::Key(Some("orders".to_owned())));
    }
}
