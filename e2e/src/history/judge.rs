//! Whether what was seen of one key is explained by what was attempted.

use std::collections::HashMap;
use std::fmt;

use super::{Attempt, KeyHistory, Outcome, Seen, What};

/// Something that nothing explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Of which key.
    pub key: String,
    /// What is wrong, for people.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

/// The acknowledged writes of a key, ordered by when they began, so that it is quick to say
/// whether one of them lies between two times.
struct Acknowledged {
    began: Vec<u64>,
    /// The earliest end of this one and all that began later.
    earliest_end: Vec<u64>,
}

impl Acknowledged {
    fn of(attempts: &[Attempt]) -> Self {
        let done = attempts.iter().filter(|attempt| matches!(attempt.outcome, Outcome::Acknowledged(_)));
        let mut times: Vec<_> =
            done.map(|attempt| (attempt.began, attempt.ended.unwrap_or(u64::MAX))).collect();
        times.sort_unstable();
        let mut earliest_end: Vec<u64> = times.iter().map(|(_, ended)| *ended).collect();
        let mut earliest = u64::MAX;
        for end in earliest_end.iter_mut().rev() {
            earliest = earliest.min(*end);
            *end = earliest;
        }
        Self { began: times.into_iter().map(|(began, _)| began).collect(), earliest_end }
    }

    /// Whether one began after the first time and had ended before the second.
    fn between(&self, after: u64, before: u64) -> bool {
        let first = self.began.partition_point(|began| *began <= after);
        self.earliest_end.get(first).is_some_and(|end| *end < before)
    }
}

/// Everything about a key that nothing explains.
pub(super) fn judge(key: &str, history: &KeyHistory) -> Vec<Violation> {
    let acknowledged = Acknowledged::of(&history.attempts);
    let mut puts = HashMap::new();
    let mut deletes = Vec::new();
    for attempt in &history.attempts {
        match &attempt.what {
            What::Put(value, _) => {
                puts.insert(value.as_str(), attempt);
            }
            What::Delete => deletes.push(attempt),
        }
    }
    let wrong_looks = history.seen.iter().filter_map(|seen| match &seen.item {
        Some((value, version)) => match puts.get(value.as_str()) {
            None => Some(format!("{value:?} was seen, which nobody ever wrote")),
            Some(put) => explain(put, seen, &acknowledged)
                .or_else(|| wrong_version(put, *version))
                .map(|why| format!("{value:?} (version {version}) was seen, {why}: {put:?} {seen:?}")),
        },
        None => {
            let never = !acknowledged.between(0, seen.began);
            let deleted = deletes.iter().any(|delete| explain(delete, seen, &acknowledged).is_none());
            (!never && !deleted).then(|| format!("an acknowledged write is lost: {seen:?}"))
        }
    });
    let wrong = wrong_looks.chain(versions(&history.attempts)).chain(conditions(&history.attempts));
    wrong.map(|what| Violation { key: key.to_owned(), what }).collect()
}

/// Why an attempt does not explain what was seen; none: it does.
fn explain(attempt: &Attempt, seen: &Seen, acknowledged: &Acknowledged) -> Option<String> {
    match attempt.outcome {
        Outcome::NotDone => Some("whose writer was told that it was not done".to_owned()),
        _ if attempt.began > seen.ended => Some("before it was written".to_owned()),
        Outcome::Unknown => None,
        Outcome::Acknowledged(_) => acknowledged
            .between(attempt.ended.unwrap_or(u64::MAX), seen.began)
            .then(|| "which a later acknowledged write had replaced".to_owned()),
    }
}

fn wrong_version(put: &Attempt, version: u64) -> Option<String> {
    match put.outcome {
        Outcome::Acknowledged(Some(told)) if told != version => {
            Some(format!("whose writer was told version {told}"))
        }
        _ => None,
    }
}

/// Versions grow in the order in which writes were acknowledged.
fn versions(attempts: &[Attempt]) -> Option<String> {
    let mut made: Vec<_> = attempts
        .iter()
        .filter_map(|attempt| match attempt.outcome {
            Outcome::Acknowledged(Some(version)) => Some((version, attempt)),
            _ => None,
        })
        .collect();
    made.sort_unstable_by_key(|(version, _)| *version);
    let mut latest_begin = 0;
    let mut before: Option<u64> = None;
    for (version, attempt) in made {
        if before == Some(version) {
            return Some(format!("version {version} was given twice, the second time to {attempt:?}"));
        }
        if attempt.ended.is_some_and(|ended| ended < latest_begin) {
            return Some(format!("{attempt:?} was over before one with a lower version began"));
        }
        (before, latest_begin) = (Some(version), latest_begin.max(attempt.began));
    }
    None
}

/// Of the puts over one version, one at most is done.
fn conditions(attempts: &[Attempt]) -> Option<String> {
    let mut over = HashMap::new();
    attempts.iter().find_map(|attempt| match (&attempt.what, attempt.outcome) {
        (What::Put(_, Some(version)), Outcome::Acknowledged(_)) => over
            .insert(version, attempt)
            .map(|first| format!("two puts over version {version} were done: {first:?} and {attempt:?}")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &str, began: u64, ended: u64, outcome: Outcome) -> Attempt {
        let ended = (outcome != Outcome::Unknown).then_some(ended);
        Attempt { what: What::Put(value.to_owned(), None), began, ended, outcome }
    }

    fn done(version: u64) -> Outcome {
        Outcome::Acknowledged(Some(version))
    }

    fn saw(began: u64, ended: u64, item: Option<(&str, u64)>) -> Seen {
        Seen { began, ended, item: item.map(|(value, version)| (value.to_owned(), version)) }
    }

    fn wrong(attempts: &[Attempt], seen: Seen) -> bool {
        !judge("k", &KeyHistory { attempts: attempts.to_vec(), seen: vec![seen] }).is_empty()
    }

    #[test]
    fn an_acknowledged_write_is_seen_until_another_replaces_it() {
        let one_then_two = [put("a", 10, 20, done(1)), put("b", 30, 40, done(2))];
        assert!(!wrong(&one_then_two, saw(50, 60, Some(("b", 2)))));
        assert!(wrong(&one_then_two, saw(50, 60, Some(("a", 1)))), "stale");
        assert!(!wrong(&one_then_two, saw(35, 60, Some(("a", 1)))), "concurrent with the second");
        assert!(wrong(&one_then_two, saw(50, 60, None)), "lost");
        assert!(wrong(&one_then_two, saw(50, 60, Some(("c", 3)))), "never written");
        assert!(wrong(&one_then_two, saw(50, 60, Some(("b", 9)))), "another version");
        assert!(wrong(&one_then_two, saw(1, 5, Some(("a", 1)))), "from the future");
        assert!(!wrong(&one_then_two, saw(1, 5, None)));
    }

    #[test]
    fn what_is_unknown_may_come_late_and_what_failed_never() {
        let doubt = [put("a", 10, 0, Outcome::Unknown), put("b", 30, 40, done(2))];
        assert!(!wrong(&doubt, saw(50, 60, Some(("a", 3)))));
        let failed = [put("a", 10, 20, Outcome::NotDone)];
        assert!(wrong(&failed, saw(50, 60, Some(("a", 1)))));
        assert!(!wrong(&failed, saw(50, 60, None)));
    }

    #[test]
    fn a_delete_explains_that_nothing_is_there() {
        let delete = |began, ended, outcome| Attempt { what: What::Delete, began, ended, outcome };
        let before = [delete(1, Some(5), Outcome::Acknowledged(None)), put("a", 10, 20, done(1))];
        assert!(wrong(&before, saw(50, 60, None)));
        let after = [put("a", 10, 20, done(1)), delete(30, Some(35), Outcome::Acknowledged(None))];
        assert!(!wrong(&after, saw(50, 60, None)));
        let doubt = [put("a", 10, 20, done(1)), delete(5, None, Outcome::Unknown)];
        assert!(!wrong(&doubt, saw(50, 60, None)));
    }

    #[test]
    fn versions_grow_and_conditions_hold_once() {
        let back = [put("a", 10, 20, done(2)), put("b", 30, 40, done(1))];
        assert!(wrong(&back, saw(35, 60, Some(("a", 2)))));
        let over = |value: &str, began| Attempt {
            what: What::Put(value.to_owned(), Some(7)),
            ..put(value, began, began + 5, done(began))
        };
        assert!(wrong(&[over("a", 10), over("b", 20)], saw(1, 5, None)));
    }
}
