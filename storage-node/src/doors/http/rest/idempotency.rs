//! Requests that may come again: `Idempotency-Key`.
//!
//! Key and request together name a client of the state machine that writes once, so the
//! partition itself sees to it that a repetition is applied once and answered as before,
//! whichever node it comes to. That another request came under the same key only this node can
//! tell, and only while it remembers.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderName, header};
use parking_lot::Mutex;
use proto::v1::Retry;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::problem::{Kind, Problem};
use crate::seams::clock;

/// The header.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const LONGEST: usize = 255;
/// As long as the state machine remembers an answer.
const REMEMBERED: Duration = Duration::from_secs(600);
const MOST: usize = 10_000;
/// How far back a repetition is safe even where so many keys are in use that sessions are
/// dropped for want of room: whatever was dropped since then is answered as unknown.
const SAFE_FOR_MS: u64 = 60_000;

type Digest = [u8; 32];

/// The keys that came to this node of late, and what came with them.
#[derive(Debug, Default)]
pub struct Seen {
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    requests: HashMap<Digest, Digest>,
    by_age: VecDeque<(Instant, Digest)>,
}

impl Seen {
    /// The retry that a write carries, where its request has an idempotency key.
    pub fn retry(&self, parts: &Parts, body: &[u8]) -> Result<Option<Retry>, Problem> {
        let Some(key) = parts.headers.get(HEADER) else { return Ok(None) };
        let good = (1..=LONGEST).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
        if !good {
            let detail = format!("an Idempotency-Key is 1 to {LONGEST} visible characters of ASCII");
            return Err(Problem::invalid(detail));
        }
        let (key, request) = (digest(&[key.as_bytes()]), fingerprint(parts, body));
        self.note(key, request, clock::now())?;
        let client = digest(&[&key, &request]);
        Ok(Some(Retry {
            client: client.first_chunk::<16>().map(|client| client.to_vec().into()).unwrap_or_default(),
            sequence: 1,
            // Any request may be a repetition, so each is judged as one.
            attempt: 1,
            age_ms: SAFE_FOR_MS,
            ..Retry::default()
        }))
    }

    fn note(&self, key: Digest, request: Digest, now: Instant) -> Result<(), Problem> {
        let mut keys = self.keys.lock();
        while let Some((since, oldest)) = keys.by_age.front().copied() {
            let fresh = now.saturating_duration_since(since) < REMEMBERED;
            if fresh && keys.by_age.len() < MOST {
                break;
            }
            keys.by_age.pop_front();
            keys.requests.remove(&oldest);
        }
        match keys.requests.get(&key) {
            Some(known) if *known == request => Ok(()),
            Some(_) => Err(Problem::new(
                Kind::IdempotencyKeyReused,
                "this Idempotency-Key came with another request before: a new request takes a new key",
            )),
            None => {
                keys.requests.insert(key, request);
                keys.by_age.push_back((now, key));
                Ok(())
            }
        }
    }
}

/// What makes a request another one.
fn fingerprint(parts: &Parts, body: &[u8]) -> Digest {
    let header = |name: HeaderName| parts.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    digest(&[
        parts.method.as_str().as_bytes(),
        super::address::path_of(parts).as_bytes(),
        parts.uri.query().unwrap_or_default().as_bytes(),
        header(header::CONTENT_TYPE),
        header(header::IF_MATCH),
        header(header::IF_NONE_MATCH),
        body,
    ])
}

/// Lengths are part of it, so that nothing can move from one part into the next.
fn digest(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn retry(seen: &Seen, key: &str, path: &str, body: &str) -> Result<Retry, Kind> {
        let request = Request::put(path).header(HEADER, key).body(()).unwrap();
        let retry = seen.retry(&request.into_parts().0, body.as_bytes());
        retry.map(|retry| retry.unwrap()).map_err(|problem| problem.kind)
    }

    #[test]
    fn the_same_request_is_the_same_write_on_every_node() {
        let (one, two) = (Seen::default(), Seen::default());
        let first = retry(&one, "k1", "/api/v1/kv/a", "1").unwrap();
        assert_eq!(first.client.len(), 16);
        assert_eq!(retry(&one, "k1", "/api/v1/kv/a", "1"), Ok(first.clone()));
        assert_eq!(retry(&two, "k1", "/api/v1/kv/a", "1"), Ok(first.clone()));
        assert_ne!(retry(&one, "k2", "/api/v1/kv/a", "1").unwrap().client, first.client);
    }

    #[test]
    fn another_request_under_the_same_key_is_refused() {
        let seen = Seen::default();
        retry(&seen, "k1", "/api/v1/kv/a", "1").unwrap();
        assert_eq!(retry(&seen, "k1", "/api/v1/kv/a", "2"), Err(Kind::IdempotencyKeyReused));
        assert_eq!(retry(&seen, "k1", "/api/v1/kv/b", "1"), Err(Kind::IdempotencyKeyReused));
        assert_eq!(retry(&seen, "", "/api/v1/kv/b", "1"), Err(Kind::InvalidRequest));
        assert_eq!(retry(&seen, &"k".repeat(256), "/api/v1/kv/b", "1"), Err(Kind::InvalidRequest));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (seen, now) = (Seen::default(), clock::now());
        for at in 0..2 * MOST {
            seen.note(digest(&[&at.to_be_bytes()]), [0; 32], now).unwrap();
        }
        assert_eq!(seen.keys.lock().requests.len(), MOST);
        seen.note([1; 32], [0; 32], now + REMEMBERED).unwrap();
        let keys = seen.keys.lock();
        assert_eq!((keys.requests.len(), keys.by_age.len()), (1, 1));
    }
}
