//! Reads the body of a request, within limits of size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use super::problem::{Kind, Problem};
use crate::doors::http::connection::Account;
use crate::seams::clock;

/// A client that sends nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(10);
/// The slowest that a body may arrive in all. 16 MiB take that long at 4 Mbit/s.
const WHOLE_BODY: Duration = Duration::from_secs(40);

/// What a body says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// JSON, also where nothing is said.
    Json,
    /// A value as it is.
    Bytes,
}

impl Media {
    /// What a request says of its body. What curl says of whatever it is given with `-d` says
    /// nothing.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Json) };
        let text = given.to_str().unwrap_or_default();
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" | "application/x-www-form-urlencoded" => Ok(Self::Json),
            "application/octet-stream" => Ok(Self::Bytes),
            other if other.starts_with("application/") && other.ends_with("+json") => Ok(Self::Json),
            other => {
                let detail =
                    format!("{other:?} is not read here: send application/json or application/octet-stream");
                Err(Problem::new(Kind::UnsupportedMediaType, detail))
            }
        }
    }

    /// The same where only JSON is read.
    pub fn must_be_json(headers: &HeaderMap) -> Result<(), Problem> {
        match Self::of(headers)? {
            Self::Json => Ok(()),
            Self::Bytes => {
                Err(Problem::new(Kind::UnsupportedMediaType, "only application/json is read here"))
            }
        }
    }
}

/// Reads a body of at most so many bytes. What it holds is counted for its connection.
pub async fn read(parts: &Parts, body: Body, most: usize) -> Result<Bytes, Problem> {
    read_patiently(parts, body, most, SILENCE).await
}

async fn read_patiently(
    parts: &Parts,
    mut body: Body,
    most: usize,
    silence: Duration,
) -> Result<Bytes, Problem> {
    let too_large = || Problem::over_limit(Kind::BodyTooLarge, "length of the body in bytes", most as u64);
    let too_slow = || Problem::new(Kind::BodyTooSlow, "the body did not arrive in time");
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let account = parts.extensions.get::<Account>();
    let whole = clock::now() + WHOLE_BODY;
    let mut read = BytesMut::new();
    loop {
        let patience = silence.min(whole.saturating_duration_since(clock::now()));
        let Some(frame) = tokio::time::timeout(patience, body.frame()).await.map_err(|_| too_slow())? else {
            return Ok(read.freeze());
        };
        let frame =
            frame.map_err(|error| Problem::invalid(format!("the body ends in the middle: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > most {
            return Err(too_large());
        }
        if let Some(account) = account {
            account.hold(read.len() + data.len()).map_err(|error| overloaded(&error))?;
        }
        read.extend_from_slice(&data);
    }
}

/// The refusal where connections hold too much together.
pub fn overloaded(error: &crate::doors::connections::TooMuchHeld) -> Problem {
    Problem::new(Kind::Overloaded, error.to_string()).after(1_000)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use futures::stream;

    use super::*;

    async fn read_within(body: Body, most: usize) -> Result<Bytes, Kind> {
        let (parts, body) = Request::put("/").body(body).unwrap().into_parts();
        let silence = Duration::from_millis(50);
        read_patiently(&parts, body, most, silence).await.map_err(|problem| problem.kind)
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(read_within(Body::from("1234"), 4).await, Ok("1234".into()));
        assert_eq!(read_within(Body::from("12345"), 4).await, Err(Kind::BodyTooLarge));
        let pieces = stream::iter(["12", "34", "56"].map(|piece| Ok::<_, std::io::Error>(piece.to_owned())));
        assert_eq!(read_within(Body::from_stream(pieces), 5).await, Err(Kind::BodyTooLarge));
    }

    #[tokio::test]
    async fn a_client_that_falls_silent_is_given_up() {
        let silent = stream::pending::<Result<String, std::io::Error>>();
        assert_eq!(read_within(Body::from_stream(silent), 5).await, Err(Kind::BodyTooSlow));
    }

    #[test]
    fn what_a_body_is_must_be_known() {
        let media = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, given.parse().unwrap());
            Media::of(&headers).map_err(|problem| problem.kind)
        };
        assert_eq!(media("application/json; charset=utf-8"), Ok(Media::Json));
        assert_eq!(media("Application/Octet-Stream"), Ok(Media::Bytes));
        assert_eq!(media("application/x-www-form-urlencoded"), Ok(Media::Json));
        assert_eq!(media("text/plain"), Err(Kind::UnsupportedMediaType));
        assert_eq!(Media::of(&HeaderMap::new()), Ok(Media::Json));
    }
}
