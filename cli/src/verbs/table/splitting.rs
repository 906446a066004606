//! When partitions of a table are split by themselves, as arguments and as a column.

use clap::Args;
use proto::v1::SplitPolicy;

use crate::quantity::{parse_bytes, show_bytes};

/// When partitions are split by themselves.
#[derive(Debug, Clone, Args)]
pub struct Splitting {
    /// Split partitions that take about so much on disk, such as 512MiB.
    #[arg(id = "split-at", long = "split-at", value_name = "SIZE", value_parser = parse_bytes)]
    bytes: Option<u64>,
    /// Split partitions that take so many writes a second for half a minute.
    #[arg(id = "split-at-writes", long = "split-at-writes", value_name = "N")]
    writes: Option<u64>,
    /// Never have more partitions than these.
    #[arg(id = "split-up-to", long = "split-up-to", value_name = "N")]
    most: Option<u32>,
}

impl Splitting {
    /// Whether anything is said of it.
    pub fn is_given(&self) -> bool {
        self.bytes.is_some() || self.writes.is_some() || self.most.is_some()
    }

    /// What it comes to for a table that has this policy until now; none: nothing was said.
    pub fn over(&self, known: Option<SplitPolicy>) -> Option<SplitPolicy> {
        let known = known.unwrap_or_default();
        self.is_given().then(|| SplitPolicy {
            bytes: self.bytes.unwrap_or(known.bytes),
            writes_per_second: self.writes.unwrap_or(known.writes_per_second),
            most: self.most.unwrap_or(known.most),
        })
    }
}

/// In a column.
pub fn show(policy: Option<&SplitPolicy>) -> String {
    let Some(policy) = policy else { return "by hand".to_owned() };
    let size = (policy.bytes > 0).then(|| show_bytes(policy.bytes));
    let writes = (policy.writes_per_second > 0).then(|| format!("{} writes/s", policy.writes_per_second));
    let most = (policy.most > 0).then(|| format!("up to {}", policy.most));
    [size, writes, most].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let known = SplitPolicy { bytes: 1 << 30, writes_per_second: 500, most: 16 };
        let nothing = Splitting { bytes: None, writes: None, most: None };
        assert_eq!(nothing.over(Some(known)), None);
        let more = Splitting { writes: Some(900), ..nothing.clone() };
        assert_eq!(more.over(Some(known)), Some(SplitPolicy { writes_per_second: 900, ..known }));
        assert_eq!(more.over(None), Some(SplitPolicy { writes_per_second: 900, ..SplitPolicy::default() }));
        assert_eq!(show(Some(&known)), "1.0 GiB, 500 writes/s, up to 16");
        assert_eq!(show(None), "by hand");
    }
}
