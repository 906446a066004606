//! Values as an index orders them: bytes that compare as the values do, none the beginning of
//! another, so that what follows them in a key cannot disturb their order.
//!
//! ```text
//! missing     1
//! string      2 │ its bytes, 0 as 0 255 │ 0 1        at most 256 bytes of it
//!             2 │ its first 256 bytes, likewise │ 0 2        of a longer one
//! number      2 │ nearest f64, so that it sorts │ what is left, i16 + 32768
//! bool        2 │ 0 or 1
//! timestamp   2 │ milliseconds since 1970, i64 + 2^63
//! ```
//!
//! Whole numbers of 64 bits are told apart although an f64 cannot: what rounding left is kept behind
//! it. Others are as near as an f64 comes.

use bytes::{BufMut, Bytes, BytesMut};
use proto::v1::IndexType;
use serde_json::value::RawValue;

use super::timestamp;

/// Longer strings are ordered by so many of their bytes.
pub const MOST_STRING_BYTES: usize = 256;
const MISSING: u8 = 1;
const PRESENT: u8 = 2;
const ESCAPED: u8 = 255;
const WHOLE: u8 = 1;
const CUT: u8 = 2;
const NUMBER_BYTES: usize = 1 + 8 + 2;
const BOOL_BYTES: usize = 1 + 1;
const TIMESTAMP_BYTES: usize = 1 + 8;
/// 2^63: turned over, the sign makes negative numbers sort first.
const SIGN: u64 = 1 << 63;

/// A value of an item, as an index sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// What the index orders by.
    pub encoded: Bytes,
    /// The whole string, where the encoding is cut.
    pub whole: Option<Bytes>,
}

impl Value {
    /// What an item is indexed under that has no value.
    pub fn missing() -> Self {
        Self { encoded: Bytes::from_static(&[MISSING]), whole: None }
    }

    /// Whether it stands for no value.
    pub fn is_missing(&self) -> bool {
        self.encoded.first() == Some(&MISSING)
    }

    /// Of JSON text; none: it is of another type.
    pub fn of_json(kind: IndexType, json: &RawValue) -> Option<Self> {
        let text = json.get();
        match kind {
            IndexType::String => string_in(text).map(|text| string(text.as_bytes())),
            IndexType::Timestamp => timestamp::parse(&string_in(text)?).map(timestamp_at),
            IndexType::Number => number(text),
            IndexType::Bool => match text {
                "true" => Some(boolean(true)),
                "false" => Some(boolean(false)),
                _ => None,
            },
        }
    }

    /// Of the text of a question; the error says what the text should be.
    pub fn of_text(kind: IndexType, text: &str) -> Result<Self, &'static str> {
        match kind {
            IndexType::String => Ok(string(text.as_bytes())),
            IndexType::Number => number(text).ok_or("a number as JSON writes it"),
            IndexType::Bool => match text {
                "true" => Ok(boolean(true)),
                "false" => Ok(boolean(false)),
                _ => Err("true or false"),
            },
            IndexType::Timestamp => timestamp::parse(text)
                .map(timestamp_at)
                .ok_or("a point in time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z"),
        }
    }
}

/// The beginning of the encodings of all strings that begin so.
pub fn string_prefix(prefix: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(prefix.len() + 1);
    out.put_u8(PRESENT);
    escape(prefix, &mut out);
    out.freeze()
}

/// The encodings of all missing values, and of all values: the first, and the first after the last.
pub const ALL_MISSING: (&[u8], &[u8]) = (&[MISSING], &[PRESENT]);
/// The encodings of all values that are there.
pub const ALL_PRESENT: (&[u8], &[u8]) = (&[PRESENT], &[PRESENT + 1]);

/// How many of those bytes, with which an entry begins, are its value; none: they are damaged.
pub fn length_in(kind: IndexType, bytes: &[u8]) -> Option<usize> {
    if bytes.first() == Some(&MISSING) {
        return Some(1);
    }
    let length = match kind {
        IndexType::Number => NUMBER_BYTES,
        IndexType::Bool => BOOL_BYTES,
        IndexType::Timestamp => TIMESTAMP_BYTES,
        IndexType::String => {
            let mut at = 1;
            loop {
                let zero = bytes.get(at..)?.iter().position(|byte| *byte == 0)?;
                at += zero + 2;
                if *bytes.get(at - 1)? != ESCAPED {
                    break at;
                }
            }
        }
    };
    (bytes.len() >= length).then_some(length)
}

fn string(text: &[u8]) -> Value {
    let kept = text.get(..MOST_STRING_BYTES).unwrap_or(text);
    let cut = kept.len() < text.len();
    let mut out = BytesMut::with_capacity(kept.len() + 3);
    out.put_u8(PRESENT);
    escape(kept, &mut out);
    out.put_slice(&[0, if cut { CUT } else { WHOLE }]);
    Value { encoded: out.freeze(), whole: cut.then(|| Bytes::copy_from_slice(text)) }
}

fn escape(text: &[u8], out: &mut BytesMut) {
    for byte in text {
        out.put_u8(*byte);
        if *byte == 0 {
            out.put_u8(ESCAPED);
        }
    }
}

/// A number as JSON writes it. Beyond what an f64 can hold there is none.
fn number(text: &str) -> Option<Value> {
    let first = text.strip_prefix('-').unwrap_or(text).bytes().next()?;
    if !first.is_ascii_digit() {
        return None;
    }
    let (nearest, left) = match text.parse::<i128>() {
        Ok(whole) if (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&whole) => {
            #[expect(clippy::cast_precision_loss, reason = "what is lost is kept behind it")]
            let nearest = whole as f64;
            #[expect(clippy::cast_possible_truncation, reason = "it was a whole number just now")]
            let left = whole - nearest as i128;
            (nearest, i16::try_from(left).ok()?)
        }
        _ => (text.parse::<f64>().ok()?, 0),
    };
    if !nearest.is_finite() {
        return None;
    }
    // Both zeros are one number.
    let bits = (nearest + 0.0).to_bits();
    let mut out = BytesMut::with_capacity(NUMBER_BYTES);
    out.put_u8(PRESENT);
    out.put_u64(if bits & SIGN == 0 { bits | SIGN } else { !bits });
    out.put_u16(left.cast_unsigned() ^ 0x8000);
    Some(Value { encoded: out.freeze(), whole: None })
}

fn boolean(yes: bool) -> Value {
    let encoded = if yes { &[PRESENT, 1] } else { &[PRESENT, 0] };
    Value { encoded: Bytes::from_static(encoded), whole: None }
}

fn timestamp_at(milliseconds: i64) -> Value {
    let mut out = BytesMut::with_capacity(TIMESTAMP_BYTES);
    out.put_u8(PRESENT);
    out.put_u64(milliseconds.cast_unsigned() ^ SIGN);
    Value { encoded: out.freeze(), whole: None }
}

/// The text of a JSON string.
fn string_in(json: &str) -> Option<std::borrow::Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(inner.into()),
        true => serde_json::from_str::<String>(json).ok().map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(kind: IndexType, json: &str) -> Option<Bytes> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        Value::of_json(kind, &raw).map(|value| value.encoded)
    }

    fn encoded_string(text: &str) -> Bytes {
        encoded(IndexType::String, &serde_json::to_string(text).unwrap()).unwrap()
    }

    #[test]
    fn the_bytes_are_pinned() {
        assert_eq!(&encoded_string("a\0b")[..], [2, b'a', 0, 255, b'b', 0, 1]);
        let number = |json| encoded(IndexType::Number, json).unwrap();
        assert_eq!(&number("1")[..], [2, 0xBF, 0xF0, 0, 0, 0, 0, 0, 0, 0x80, 0]);
        assert_eq!(&number("-1")[..], [2, 0x40, 0x0F, 255, 255, 255, 255, 255, 255, 0x80, 0]);
        assert_eq!(&encoded(IndexType::Bool, "true").unwrap()[..], [2, 1]);
        let second = encoded(IndexType::Timestamp, "\"1970-01-01T00:00:01Z\"").unwrap();
        assert_eq!(&second[..], [2, 0x80, 0, 0, 0, 0, 0, 3, 232]);
        assert_eq!(&Value::missing().encoded[..], [1]);
    }

    #[test]
    fn values_of_another_type_are_none() {
        for (kind, json) in [
            (IndexType::String, "1"),
            (IndexType::String, "null"),
            (IndexType::String, "[\"a\"]"),
            (IndexType::Number, "\"1\""),
            (IndexType::Number, "true"),
            (IndexType::Number, "1e999"),
            (IndexType::Bool, "0"),
            (IndexType::Timestamp, "1000"),
            (IndexType::Timestamp, "\"yesterday\""),
        ] {
            assert_eq!(encoded(kind, json), None, "{json}");
        }
        for text in ["", "x", "inf", "nan", "+1", "-", ".5"] {
            assert!(Value::of_text(IndexType::Number, text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_that_are_one_have_one_encoding() {
        let number = |json| encoded(IndexType::Number, json).unwrap();
        assert_eq!(number("0"), number("-0.0"));
        assert_eq!(number("100"), number("1e2"));
        assert_eq!(number("1.50"), number("1.5"));
        let all = [
            "-1e308",
            "-9223372036854775808",
            "-9223372036854775807",
            "-9007199254740993",
            "-9007199254740992",
            "-1",
            "-1e-9",
            "0",
            "5e-324",
            "0.1",
            "1",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994",
            "18446744073709551613",
            "18446744073709551614",
            "18446744073709551615",
            "18446744073709551616",
            "1e20",
            "1e308",
        ];
        assert!(all.is_sorted_by(|one, next| number(one) < number(next)));
    }

    #[test]
    fn a_long_string_is_cut_and_comes_after_the_one_that_fits() {
        let fits = "x".repeat(MOST_STRING_BYTES);
        let longer = format!("{fits}a");
        assert!(encoded_string(&fits) < encoded_string(&longer));
        assert!(encoded_string(&longer) < encoded_string(&format!("{}y", &fits[1..])));
        assert_eq!(encoded_string(&longer), encoded_string(&format!("{fits}b")));
    }

    proptest! {
        #[test]
        fn strings_sort_as_they_are(one in "[\0\u{1}ab\u{ff}ö]{0,6}", other in "[\0\u{1}ab\u{ff}ö]{0,6}") {
            prop_assert_eq!(encoded_string(&one).cmp(&encoded_string(&other)), one.cmp(&other));
            let prefixed = encoded_string(&one).starts_with(&string_prefix(other.as_bytes()));
            prop_assert_eq!(prefixed, one.starts_with(&other));
        }

        #[test]
        fn numbers_sort_as_they_are(one: f64, other: f64, near in -3_i64..3) {
            prop_assume!(one.is_finite() && other.is_finite());
            let number = |it: f64| encoded(IndexType::Number, &format!("{it:e}")).unwrap();
            prop_assert_eq!(number(one).cmp(&number(other)), (one + 0.0).total_cmp(&(other + 0.0)));
            let whole = (1_i64 << 62) + near;
            let next = encoded(IndexType::Number, &(whole + 1).to_string());
            prop_assert!(encoded(IndexType::Number, &whole.to_string()) < next);
        }

        #[test]
        fn whole_numbers_sort_as_they_are(one: i64, other: i64) {
            let number = |it: i64| encoded(IndexType::Number, &it.to_string()).unwrap();
            prop_assert_eq!(number(one).cmp(&number(other)), one.cmp(&other));
        }

        #[test]
        fn a_value_ends_where_its_key_begins(text in "[\0\u{1}a]{0,6}", number: i32, key: Vec<u8>) {
            for (kind, value) in [
                (IndexType::String, encoded_string(&text)),
                (IndexType::Number, encoded(IndexType::Number, &number.to_string()).unwrap()),
                (IndexType::Bool, encoded(IndexType::Bool, "false").unwrap()),
                (IndexType::Timestamp, timestamp_at(i64::from(number)).encoded),
                (IndexType::String, Value::missing().encoded),
            ] {
                let entry = [&value[..], &key[..]].concat();
                prop_assert_eq!(length_in(kind, &entry), Some(value.len()));
            }
        }
    }
}
