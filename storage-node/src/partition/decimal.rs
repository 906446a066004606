//! Decimal numbers as Redis adds them: with the 64 bits of precision that its machines' long
//! double has, and shown with up to 17 places.
//!
//! It is done on whole numbers, because every replica must come to the same digits whatever
//! machine it runs on.

use num_bigint::{BigInt, BigUint, Sign};

const PRECISION: u64 = 64;
/// Numbers are below two to this power.
const LARGEST_EXPONENT: i64 = 16_384;
/// Numbers nearer to zero than two to this power are none.
const SMALLEST_EXPONENT: i64 = -16_445;
const PLACES: u32 = 17;
/// A longer text is no number.
const LONGEST_TEXT: usize = 5 * 1024 - 1;

/// A number: `mantissa` times two to the `exponent`, with at most 64 bits of mantissa.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decimal {
    /// One that can be calculated with.
    Finite {
        /// Its digits, with its sign.
        mantissa: BigInt,
        /// The power of two that they are multiplied by.
        exponent: i64,
    },
    /// Beyond all numbers.
    Infinite,
}

impl Decimal {
    /// The number that a text holds, and nothing else in it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > LONGEST_TEXT {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, text.get(1..)?),
            b'+' => (false, text.get(1..)?),
            _ => (false, text),
        };
        if digits.eq_ignore_ascii_case("inf") || digits.eq_ignore_ascii_case("infinity") {
            return Some(Self::Infinite);
        }
        if let Some(digits) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            return hexadecimal(digits, negative);
        }
        let (mantissa, power) = match digits.find(['e', 'E']) {
            Some(at) => (digits.get(..at)?, digits.get(at + 1..)?.parse::<i64>().ok()?),
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: String = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = BigUint::parse_bytes(all.as_bytes(), 10)?;
        if number.bits() == 0 {
            return Some(Self::Finite { mantissa: BigInt::ZERO, exponent: 0 });
        }
        let power = power.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        // Beyond these no digits could bring it back into range.
        if !(-6_000..=6_000).contains(&power) {
            return None;
        }
        let ten = BigUint::from(10_u8).pow(u32::try_from(power.unsigned_abs()).ok()?);
        let (mantissa, exponent) = if power >= 0 {
            (number * ten, 0)
        } else {
            // Enough bits that what is left out decides nothing but a tie.
            let shift = ten.bits() + PRECISION + 2;
            let shifted = number << shift;
            let quotient = &shifted / &ten;
            let sticky = u8::from(&quotient * &ten != shifted);
            ((quotient << 1_u8) | BigUint::from(sticky), -i64::try_from(shift).ok()? - 1)
        };
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        match rounded(BigInt::from_biguint(sign, mantissa), exponent) {
            // As a text such a number is none; only a sum may be infinite.
            Some(Self::Infinite) | None => None,
            finite => finite,
        }
    }

    /// The sum; none where it is not finite.
    pub fn add(&self, other: &Self) -> Option<Self> {
        let (Self::Finite { mantissa: a, exponent: p }, Self::Finite { mantissa: b, exponent: q }) =
            (self, other)
        else {
            return None;
        };
        let least = *p.min(q);
        let aligned = |mantissa: &BigInt, exponent: i64| mantissa << (exponent - least).unsigned_abs();
        match rounded(aligned(a, *p) + aligned(b, *q), least) {
            Some(Self::Infinite) => None,
            None => Some(Self::Finite { mantissa: BigInt::ZERO, exponent: 0 }),
            sum => sum,
        }
    }

    /// The number as people write it.
    pub fn show(&self) -> String {
        let Self::Finite { mantissa, exponent } = self else { return "inf".to_owned() };
        let scaled = mantissa.magnitude() * BigUint::from(10_u8).pow(PLACES);
        let units = if *exponent >= 0 {
            scaled << exponent.unsigned_abs()
        } else {
            half_even(&scaled, exponent.unsigned_abs())
        };
        let digits = format!("{:0>width$}", units.to_string(), width = PLACES as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - PLACES as usize);
        let fraction = fraction.trim_end_matches('0');
        let shown = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
        let negative = mantissa.sign() == Sign::Minus && shown != "0";
        if negative { format!("-{shown}") } else { shown }
    }
}

/// A number in hexadecimal digits, with a power of two after a `p`.
fn hexadecimal(digits: &str, negative: bool) -> Option<Decimal> {
    let (mantissa, power) = match digits.find(['p', 'P']) {
        Some(at) => (digits.get(..at)?, digits.get(at + 1..)?.parse::<i64>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_hexdigit()) || power.abs() > 20_000 {
        return None;
    }
    let number = BigUint::parse_bytes(all.as_bytes(), 16)?;
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    let exponent = power - 4 * i64::try_from(fraction.len()).ok()?;
    match rounded(BigInt::from_biguint(sign, number), exponent) {
        Some(Decimal::Infinite) | None => None,
        finite => finite,
    }
}

/// The nearest number of 64 bits; none where it is too near to zero.
fn rounded(mantissa: BigInt, exponent: i64) -> Option<Decimal> {
    let bits = mantissa.bits();
    let (mantissa, exponent) = if bits > PRECISION {
        let over = bits - PRECISION;
        let kept = BigInt::from_biguint(mantissa.sign(), half_even(mantissa.magnitude(), over));
        (kept, exponent + i64::try_from(over).ok()?)
    } else {
        (mantissa, exponent)
    };
    let top = exponent + i64::try_from(mantissa.bits()).ok()?;
    if mantissa.sign() == Sign::NoSign {
        return Some(Decimal::Finite { mantissa, exponent: 0 });
    }
    if top > LARGEST_EXPONENT {
        return Some(Decimal::Infinite);
    }
    (top >= SMALLEST_EXPONENT).then_some(Decimal::Finite { mantissa, exponent })
}

/// A number without its last bits, rounded to the nearest, and to the even one of two.
fn half_even(number: &BigUint, bits: u64) -> BigUint {
    if bits == 0 {
        return number.clone();
    }
    let kept = number >> bits;
    let half_set = number.bit(bits - 1);
    let more = number.trailing_zeros().is_some_and(|zeros| zeros < bits - 1);
    if half_set && (more || kept.bit(0)) { kept + 1_u8 } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(one: &str, other: &str) -> String {
        Decimal::parse(one.as_bytes())
            .unwrap()
            .add(&Decimal::parse(other.as_bytes()).unwrap())
            .unwrap()
            .show()
    }

    #[test]
    fn sums_are_those_of_a_long_double() {
        // As Redis 7 answers them.
        assert_eq!(sum("10.50", "0.1"), "10.6");
        assert_eq!(sum("10.6", "-5"), "5.6");
        assert_eq!(sum("5.0e3", "2.0e2"), "5200");
        assert_eq!(sum("3", "1.1"), "4.1");
        assert_eq!(sum("0", "1e-17"), "0.00000000000000001");
        assert_eq!(sum("0", "1e-18"), "0");
        assert_eq!(sum("-0.1", "0.1"), "0");
        assert_eq!(sum("18446744073709551615", "1"), "18446744073709551616");
        assert_eq!(sum("18446744073709551616", "1"), "18446744073709551616");
        assert_eq!(sum("1e20", "1"), "100000000000000000000");
        assert_eq!(sum("-1.5", "0"), "-1.5");
        assert_eq!(sum("0x10", "+1.5"), "17.5");
        assert_eq!(sum("-0X1.8p1", "0"), "-3");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in ["", " 1", "1 ", "abc", "1.2.3", "--1", "1e", "e5", ".", "nan", "1e5000", "1_0"] {
            assert_eq!(Decimal::parse(bad.as_bytes()), None, "{bad:?}");
        }
        for good in ["1", "-1", "+1", ".5", "5.", "1e3", "1E-3", "0"] {
            assert!(Decimal::parse(good.as_bytes()).is_some(), "{good:?}");
        }
        assert_eq!(Decimal::parse(b"-inf"), Some(Decimal::Infinite));
    }

    #[test]
    fn a_sum_beyond_all_numbers_is_none() {
        let large = Decimal::parse(b"1e4932").unwrap();
        let mut sum = large.clone();
        for _ in 0..20 {
            match sum.add(&large) {
                Some(more) => sum = more,
                None => return,
            }
        }
        panic!("{}", sum.show().len());
    }
}
