//! A part of a whole.

use std::fmt;
use std::str::FromStr;

use super::written;

const WHOLE: u32 = 1_000_000;

/// From 0, none, to 1, all, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    millionths: u32,
}

/// A text that is no such part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a part of a whole: write a number from 0 to 1, such as 0.01, in steps of a millionth")]
pub struct BadRatio(String);

impl Ratio {
    /// That many of a hundred.
    pub const fn percent(percent: u32) -> Self {
        Self { millionths: percent * (WHOLE / 100) }
    }

    /// Whether something with that random number is not among the part.
    pub fn misses(self, random: u64) -> bool {
        random % u64::from(WHOLE) >= u64::from(self.millionths)
    }
}

impl FromStr for Ratio {
    type Err = BadRatio;

    fn from_str(text: &str) -> Result<Self, BadRatio> {
        let bad = || BadRatio(text.to_owned());
        let number: f64 = text.trim().parse().map_err(|_| bad())?;
        let millionths = (number * f64::from(WHOLE)).round();
        if !(0.0..=1.0).contains(&number) || (number > 0.0 && millionths < 1.0) {
            return Err(bad());
        }
        // It is from 0 to a million.
        Ok(Self { millionths: millionths as u32 })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f64::from(self.millionths) / f64::from(WHOLE)).fmt(f)
    }
}

written::as_text!(Ratio);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_from_none_to_all() {
        for text in ["0", "0.000001", "0.01", "0.5", "1"] {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), text);
            let ratio: Ratio = serde_yaml::from_str(text).unwrap();
            assert_eq!(ratio.to_string(), text);
        }
        for text in ["", "-0.1", "1.1", "0.0000001", "NaN", "1%"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }

    #[test]
    fn none_misses_all_and_all_misses_none() {
        let numbers = || (0..10_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let hit = |ratio: Ratio| numbers().filter(|number| !ratio.misses(*number)).count();
        assert_eq!(hit(Ratio::percent(0)), 0);
        assert_eq!(hit(Ratio::percent(100)), 10_000);
        assert!((4_500..5_500).contains(&hit(Ratio::percent(50))));
    }
}
