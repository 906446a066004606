//! Which key is asked for next.

use bytes::{BufMut, Bytes, BytesMut};
use rand::{RngExt, rngs::SmallRng};
use thiserror::Error;

/// YCSB's skew: with it about two thirds of all requests go to 1 % of a million keys.
const ZIPF_THETA: f64 = 0.99;

/// How requests spread over the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Every key is as likely as any other.
    Uniform,
    /// A few keys are asked for most of the time. Which ones is scattered over the key
    /// space, so that they do not all fall into one partition.
    Zipf,
    /// One key after the other, over all clients together, and round again.
    Sequential,
}

impl std::str::FromStr for Distribution {
    type Err = UnknownDistribution;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "uniform" => Ok(Self::Uniform),
            "zipf" => Ok(Self::Zipf),
            "sequential" => Ok(Self::Sequential),
            _ => Err(UnknownDistribution(name.to_owned())),
        }
    }
}

/// There is no distribution of that name.
#[derive(Debug, Error)]
#[error("{0:?} is no distribution: uniform, zipf and sequential are")]
pub struct UnknownDistribution(String);

/// A key space and the way requests spread over it.
#[derive(Debug, Clone)]
pub struct Keys {
    count: u64,
    size: usize,
    distribution: Distribution,
    zipf: Zipf,
}

impl Keys {
    /// `count` keys of `size` bytes. A size too small for that many different keys is
    /// raised to what they need.
    pub fn new(count: u64, size: usize, distribution: Distribution) -> Self {
        let count = count.max(1);
        let digits = (count - 1).max(1).ilog10() as usize + 1;
        let zipf = match distribution {
            Distribution::Zipf => Zipf::new(count),
            Distribution::Uniform | Distribution::Sequential => Zipf::new(1),
        };
        Self { count, size: size.max(digits), distribution, zipf }
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number of the key for the `turn`th operation of the whole load.
    pub fn pick(&self, turn: u64, random: &mut SmallRng) -> u64 {
        match self.distribution {
            Distribution::Uniform => random.random_range(0..self.count),
            Distribution::Zipf => scatter(self.zipf.rank(random.random())) % self.count,
            Distribution::Sequential => turn % self.count,
        }
    }

    /// The bytes of a key: its number in decimal, with zeros before it up to the size.
    pub fn bytes(&self, number: u64) -> Bytes {
        let mut key = BytesMut::with_capacity(self.size);
        let mut digits = [b'0'; 20];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        key.put_bytes(b'0', self.size.saturating_sub(digits.len()));
        let skipped = digits.len().saturating_sub(self.size);
        key.extend(digits.iter().skip(skipped));
        key.freeze()
    }
}

/// Ranks by Zipf's law, by the method of Gray et al. ("Quickly generating billion-record
/// synthetic databases"): one pass over the ranks when it is made, constant time per draw.
#[derive(Debug, Clone)]
struct Zipf {
    count: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64) -> Self {
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-ZIPF_THETA)).sum();
        let zeta_two = 1.0 + 2f64.powf(-ZIPF_THETA);
        let count = count as f64;
        Self {
            count,
            alpha: 1.0 / (1.0 - ZIPF_THETA),
            zeta,
            eta: (1.0 - (2.0 / count).powf(1.0 - ZIPF_THETA)) / (1.0 - zeta_two / zeta),
        }
    }

    /// The rank, from 0, that a uniform draw from `[0, 1)` stands for.
    fn rank(&self, uniform: f64) -> u64 {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            0
        } else if scaled < 1.0 + 0.5f64.powf(ZIPF_THETA) {
            1
        } else {
            let rank = self.count * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
            (rank as u64).min(self.count as u64 - 1)
        }
    }
}

/// Spreads neighbouring ranks over the key space (the finaliser of `SplitMix64`).
fn scatter(rank: u64) -> u64 {
    let mut mixed = rank.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::SeedableRng;

    use super::*;

    fn draw(keys: &Keys, draws: u64) -> HashMap<u64, u64> {
        let mut random = SmallRng::seed_from_u64(7);
        let mut seen = HashMap::new();
        for turn in 0..draws {
            *seen.entry(keys.pick(turn, &mut random)).or_default() += 1;
        }
        seen
    }

    #[test]
    fn uniform_reaches_every_key_about_equally_often() {
        let seen = draw(&Keys::new(100, 16, Distribution::Uniform), 100_000);
        assert_eq!(seen.len(), 100);
        assert!(seen.values().all(|times| (800..1200).contains(times)), "{seen:?}");
    }

    #[test]
    fn zipf_follows_its_law() {
        let zipf = Zipf::new(1_000);
        let mut random = SmallRng::seed_from_u64(7);
        let mut times = vec![0u64; 1_000];
        for _ in 0..1_000_000 {
            let rank = zipf.rank(random.random()) as usize;
            times[rank] += 1;
        }
        // Rank r is drawn in proportion to 1/(r+1)^theta. The method is exact for the first
        // two ranks and an approximation after them.
        let expected = |rank: usize| 1e6 / ((rank + 1) as f64).powf(ZIPF_THETA) / zipf.zeta;
        for (rank, tolerance) in [(0, 0.02), (1, 0.02), (9, 0.2), (99, 0.2)] {
            let ratio = times[rank] as f64 / expected(rank);
            assert!((ratio - 1.0).abs() < tolerance, "rank {rank}: {ratio}");
        }
    }

    #[test]
    fn zipf_scatters_its_hot_keys() {
        let seen = draw(&Keys::new(1_000, 16, Distribution::Zipf), 100_000);
        let mut hottest: Vec<_> = seen.into_iter().collect();
        hottest.sort_by_key(|&(_, times)| std::cmp::Reverse(times));
        let numbers: Vec<u64> = hottest.iter().take(4).map(|&(number, _)| number).collect();
        assert!(numbers.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1), "{numbers:?}");
    }

    #[test]
    fn zipf_of_one_or_two_keys_stays_inside() {
        for count in [1, 2] {
            let seen = draw(&Keys::new(count, 16, Distribution::Zipf), 1_000);
            assert!(seen.keys().all(|&number| number < count));
        }
    }

    #[test]
    fn sequential_goes_round() {
        let keys = Keys::new(3, 16, Distribution::Sequential);
        let mut random = SmallRng::seed_from_u64(7);
        let picked: Vec<u64> = (0..5).map(|turn| keys.pick(turn, &mut random)).collect();
        assert_eq!(picked, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn keys_have_the_size_that_was_asked_for() {
        let long = Keys::new(1_000, 24, Distribution::Uniform);
        assert_eq!(long.bytes(42), "000000000000000000000042".as_bytes());
        let short = Keys::new(1_000, 1, Distribution::Uniform);
        assert_eq!(short.bytes(999), "999".as_bytes());
        assert_eq!(short.bytes(7), "007".as_bytes());
    }
}
