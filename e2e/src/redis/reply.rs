//! Replies of RESP2.

use std::fmt;

use anyhow::{Context as _, bail};

/// More of a reply than this is not shown.
const SHOWN_BYTES: usize = 400;

/// A reply of RESP2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`
    Error(String),
    /// `:1`
    Integer(i64),
    /// Bytes; none is the null.
    Bulk(Option<Vec<u8>>),
    /// Several; none is the null, as of an EXEC that a watched key has stopped.
    Array(Option<Vec<Reply>>),
}

impl Reply {
    /// The reply that these bytes begin with and its length; none where they end too early.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Self, usize)>> {
        let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = bytes.get(1..end).unwrap_or_default();
        let after = end + 2;
        let text = || String::from_utf8_lossy(line).into_owned();
        let number = || {
            let number: Option<i64> = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
            number.with_context(|| format!("{:?} should be a number", text()))
        };
        let reply = match bytes.first() {
            Some(b'+') => Self::Simple(text()),
            Some(b'-') => Self::Error(text()),
            Some(b':') => Self::Integer(number()?),
            Some(b'$') => return Self::bulk(bytes, after, number()?),
            Some(b'*') => return Self::array(bytes, after, number()?),
            _ => bail!("no reply of RESP2 begins like {}", shown(bytes)),
        };
        Ok(Some((reply, after)))
    }

    /// The bytes of a bulk.
    pub fn bytes(&self) -> anyhow::Result<&[u8]> {
        match self {
            Self::Bulk(Some(bytes)) => Ok(bytes),
            other => bail!("{other:?} are no bytes"),
        }
    }

    /// A number.
    pub fn integer(&self) -> anyhow::Result<i64> {
        match self {
            Self::Integer(number) => Ok(*number),
            other => bail!("{other:?} is no number"),
        }
    }

    /// The parts of an array.
    pub fn array_items(self) -> anyhow::Result<Vec<Self>> {
        match self {
            Self::Array(Some(items)) => Ok(items),
            other => bail!("{other:?} is no array"),
        }
    }

    fn bulk(bytes: &[u8], begin: usize, length: i64) -> anyhow::Result<Option<(Self, usize)>> {
        let Ok(length) = usize::try_from(length) else { return Ok(Some((Self::Bulk(None), begin))) };
        let end = begin + length;
        let Some(tail) = bytes.get(end..end + 2) else { return Ok(None) };
        anyhow::ensure!(tail == b"\r\n", "a bulk of {length} bytes ends with {tail:?}");
        let body = bytes.get(begin..end).unwrap_or_default().to_vec();
        Ok(Some((Self::Bulk(Some(body)), end + 2)))
    }

    fn array(bytes: &[u8], begin: usize, length: i64) -> anyhow::Result<Option<(Self, usize)>> {
        let Ok(length) = usize::try_from(length) else { return Ok(Some((Self::Array(None), begin))) };
        let (mut items, mut at) = (Vec::new(), begin);
        for _ in 0..length {
            let Some((item, size)) = Self::parse(bytes.get(at..).unwrap_or_default())? else {
                return Ok(None);
            };
            items.push(item);
            at += size;
        }
        Ok(Some((Self::Array(Some(items)), at)))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(text) | Self::Error(text) => out.write_str(text),
            Self::Integer(number) => write!(out, "{number}"),
            Self::Bulk(bytes) => out.write_str(&bytes.as_deref().map_or("(nil)".to_owned(), shown)),
            Self::Array(None) => out.write_str("(nil array)"),
            Self::Array(Some(items)) => write!(out, "{items:?}"),
        }
    }
}

/// Bytes as text that can be read and typed.
pub fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    let more = if bytes.len() > cut.len() { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{more}", cut.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_only_whole() {
        let whole = b"*3\r\n$2\r\n\r\n\r\n:-4\r\n*1\r\n$-1\r\n+next\r\n";
        let length = whole.len() - 7;
        for cut in 0..length {
            assert_eq!(Reply::parse(&whole[..cut]).unwrap(), None, "{cut} of {length} bytes");
        }
        let nothing = Reply::Array(Some(vec![Reply::Bulk(None)]));
        let parts = vec![Reply::Bulk(Some(b"\r\n".to_vec())), Reply::Integer(-4), nothing];
        assert_eq!(Reply::parse(whole).unwrap(), Some((Reply::Array(Some(parts)), length)));
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for junk in ["HTTP/1.1 400\r\n", ":four\r\n", "$1\r\nxyz"] {
            assert!(Reply::parse(junk.as_bytes()).is_err(), "{junk:?}");
        }
    }
}
