//! How the runs of buckets of a table are cut, so that there are as many as there should be.
//!
//! Runs are only ever cut, so where the cuts of the past do not suit, the runs come out as even as
//! those allow: each present run is divided evenly into as many pieces as its length deserves.

use crate::bucket::{Bucket, BucketRange};

/// A run that is to be cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Which of the runs.
    pub run: usize,
    /// Where the upper part begins.
    pub at: Bucket,
}

/// The cuts that can be made now, one at most in each run; more follow until there are `wanted`
/// runs. None where there are as many already, or no run can be cut.
pub fn cuts(runs: &[BucketRange], wanted: usize) -> Vec<Cut> {
    let pieces = pieces(runs, wanted);
    let cut = |(run, pieces): (usize, u32)| {
        let range = runs.get(run)?;
        let lower = pieces / 2;
        (lower > 0).then(|| {
            let offset = u32::from(length(*range)) * lower / pieces;
            Cut { run, at: Bucket(range.first.0 + offset as u16) }
        })
    };
    pieces.into_iter().enumerate().filter_map(cut).collect()
}

/// Into how many pieces each run goes: the longest piece is halved, as it were, again and again.
fn pieces(runs: &[BucketRange], wanted: usize) -> Vec<u32> {
    let mut pieces = vec![1_u32; runs.len()];
    for _ in runs.len()..wanted {
        let divisible = runs.iter().zip(&pieces).enumerate();
        let divisible = divisible.filter(|(_, (run, pieces))| u32::from(length(**run)) > **pieces);
        // By the length of a piece, without fractions: a/b > c/d as a·d > c·b.
        let longest = divisible.reduce(|best, next| {
            let (best_run, next_run) = (u32::from(length(*best.1.0)), u32::from(length(*next.1.0)));
            if next_run * *best.1.1 > best_run * *next.1.1 { next } else { best }
        });
        let Some((at, _)) = longest else { break };
        if let Some(pieces) = pieces.get_mut(at) {
            *pieces += 1;
        }
    }
    pieces
}

fn length(run: BucketRange) -> u16 {
    run.last.0 - run.first.0 + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::BucketCount;

    /// Cuts until nothing is left to cut.
    fn divide(mut runs: Vec<BucketRange>, wanted: usize) -> Vec<BucketRange> {
        loop {
            let cuts = cuts(&runs, wanted);
            if cuts.is_empty() {
                return runs;
            }
            for cut in cuts.iter().rev() {
                let whole = runs[cut.run];
                assert!(whole.first < cut.at && cut.at <= whole.last, "{whole} at {}", cut.at.0);
                runs[cut.run].last = Bucket(cut.at.0 - 1);
                runs.insert(cut.run + 1, BucketRange { first: cut.at, last: whole.last });
            }
        }
    }

    fn lengths(runs: &[BucketRange]) -> Vec<u16> {
        runs.iter().map(|run| length(*run)).collect()
    }

    #[test]
    fn runs_are_divided_evenly_as_far_as_earlier_cuts_allow() {
        let of = |buckets: u32, from: u16, wanted| {
            lengths(&divide(BucketCount::new(buckets).unwrap().split(from), wanted))
        };
        assert_eq!(of(64, 2, 16), [4; 16]);
        assert_eq!(of(64, 1, 3), [21, 21, 22]);
        assert_eq!(of(64, 2, 5), [10, 11, 11, 16, 16]);
        assert_eq!(of(4, 2, 4), [1; 4]);
        assert_eq!(of(4, 2, 9), [1; 4], "there are no more buckets");
        assert_eq!(of(64, 8, 8), [8; 8]);
        assert_eq!(of(64, 8, 3), [8; 8], "runs are not joined");
    }

    proptest! {
        #[test]
        fn there_come_to_be_as_many_as_were_wanted_and_none_is_far_longer(
            power in 0_u32..=10, from in 1_u16..100, wanted in 1_usize..1100,
        ) {
            let buckets = BucketCount::new(1 << power).unwrap();
            let before = buckets.split(from);
            let after = divide(before.clone(), wanted);
            let expected = wanted.min(usize::from(buckets.get())).max(before.len());
            prop_assert_eq!(after.len(), expected);
            let all: Vec<u16> = after.iter().flat_map(|run| run.iter()).map(|bucket| bucket.0).collect();
            prop_assert_eq!(all, (0..buckets.get()).collect::<Vec<_>>());
            let (longest, shortest) = (*lengths(&after).iter().max().unwrap(), *lengths(&after).iter().min().unwrap());
            prop_assert!(longest <= 2 * shortest + 1, "{:?}", lengths(&after));
        }

        #[test]
        fn every_cut_is_one_that_the_next_look_would_not_regret(from in 1_u16..20, wanted in 1_usize..64) {
            let runs = BucketCount::DEFAULT.split(from);
            for cut in cuts(&runs, wanted) {
                let mut cut_once = runs.clone();
                let whole = cut_once[cut.run];
                cut_once[cut.run].last = Bucket(cut.at.0 - 1);
                cut_once.insert(cut.run + 1, BucketRange { first: cut.at, last: whole.last });
                prop_assert_eq!(divide(cut_once, wanted).len(), wanted.max(runs.len()));
            }
        }
    }
}
