//! Replies, as bytes of RESP2 or RESP3.

use bytes::{BufMut, Bytes, BytesMut};

/// Which of the two a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// What every client understands.
    #[default]
    Resp2,
    /// With maps, sets and its own null; asked for by `HELLO 3`.
    Resp3,
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A word that says how it went, such as `OK`.
    Status(&'static str),
    /// An error; its first word is its kind.
    Error(String),
    /// An error that quotes bytes which may be no text.
    RawError(Bytes),
    /// A whole number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Text for people, which RESP3 marks as such.
    Text(String),
    /// Nothing.
    Null,
    /// An array that is nothing, which RESP2 tells from a string that is.
    NullArray,
    /// Several.
    Array(Vec<Reply>),
    /// Pairs; in RESP2 an array of twice as many.
    Map(Vec<(Reply, Reply)>),
    /// Several different ones; in RESP2 an array.
    Set(Vec<Reply>),
    /// What nobody asked for just now; in RESP2 an array.
    Push(Vec<Reply>),
    /// One after the other, each a reply of its own.
    Each(Vec<Reply>),
}

impl Reply {
    /// It was done.
    pub const OK: Self = Self::Status("OK");

    /// An error of the common kind.
    pub fn err(message: impl AsRef<str>) -> Self {
        Self::Error(format!("ERR {}", message.as_ref()))
    }

    /// A string.
    pub fn bulk(text: impl Into<Bytes>) -> Self {
        Self::Bulk(text.into())
    }

    /// A length or a count.
    pub fn count(count: usize) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Writes the reply.
    pub fn write(&self, version: Version, out: &mut BytesMut) {
        let resp3 = version == Version::Resp3;
        match self {
            Self::Status(word) => line(out, b'+', word.as_bytes()),
            // Whatever it quotes, an error is one line.
            Self::Error(message) => line(out, b'-', message.replace(['\r', '\n'], " ").as_bytes()),
            Self::RawError(message) => {
                let plain = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
                line(out, b'-', &message.iter().map(plain).collect::<Vec<u8>>());
            }
            Self::Integer(number) => {
                out.put_u8(b':');
                digits(out, *number);
                out.put_slice(b"\r\n");
            }
            Self::Bulk(bytes) => string(out, bytes),
            Self::Text(text) if resp3 => {
                out.put_u8(b'=');
                digits(out, text.len() as i64 + 4);
                out.put_slice(b"\r\ntxt:");
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Text(text) => string(out, text.as_bytes()),
            Self::Null | Self::NullArray if resp3 => out.put_slice(b"_\r\n"),
            Self::Null => out.put_slice(b"$-1\r\n"),
            Self::NullArray => out.put_slice(b"*-1\r\n"),
            Self::Array(replies) => {
                header(out, b'*', replies.len());
                replies.iter().for_each(|reply| reply.write(version, out));
            }
            Self::Map(pairs) => {
                if resp3 {
                    header(out, b'%', pairs.len());
                } else {
                    header(out, b'*', pairs.len() * 2);
                }
                for (name, value) in pairs {
                    name.write(version, out);
                    value.write(version, out);
                }
            }
            Self::Push(replies) => {
                header(out, if resp3 { b'>' } else { b'*' }, replies.len());
                replies.iter().for_each(|reply| reply.write(version, out));
            }
            Self::Each(replies) => replies.iter().for_each(|reply| reply.write(version, out)),
            Self::Set(replies) => {
                header(out, if resp3 { b'~' } else { b'*' }, replies.len());
                replies.iter().for_each(|reply| reply.write(version, out));
            }
        }
    }
}

fn line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

fn header(out: &mut BytesMut, kind: u8, count: usize) {
    out.put_u8(kind);
    digits(out, count as i64);
    out.put_slice(b"\r\n");
}

fn string(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len() + 24);
    header(out, b'$', bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn digits(out: &mut BytesMut, number: i64) {
    let mut text = [0_u8; 20];
    let mut at = text.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        if let Some(digit) = text.get_mut(at) {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(text.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reply: &Reply, version: Version) -> String {
        let mut out = BytesMut::new();
        reply.write(version, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn both_versions_are_written() {
        let pairs = Reply::Map(vec![(Reply::bulk("a"), Reply::Integer(i64::MIN))]);
        assert_eq!(shown(&pairs, Version::Resp2), "*2\r\n$1\r\na\r\n:-9223372036854775808\r\n");
        assert_eq!(shown(&pairs, Version::Resp3), "%1\r\n$1\r\na\r\n:-9223372036854775808\r\n");
        assert_eq!(shown(&Reply::Null, Version::Resp2), "$-1\r\n");
        assert_eq!(shown(&Reply::NullArray, Version::Resp2), "*-1\r\n");
        assert_eq!(shown(&Reply::NullArray, Version::Resp3), "_\r\n");
        assert_eq!(shown(&Reply::Text("hi".into()), Version::Resp3), "=6\r\ntxt:hi\r\n");
        assert_eq!(shown(&Reply::err("a\r\n+OK"), Version::Resp2), "-ERR a  +OK\r\n");
        assert_eq!(shown(&Reply::count(0), Version::Resp2), ":0\r\n");
    }
}
