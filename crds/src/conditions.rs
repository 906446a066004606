//! What conditions there are, why they hold, and how one takes the place of another.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$each:meta])* $name:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$each])* $name,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it stands in a status.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names! {
    /// What a condition is about. A `KVTable` has `Ready`, `Progressing` and `Degraded`.
    ConditionType {
        /// Everything is as declared: all nodes are ready, all partitions are whole.
        Ready,
        /// All partitions can be written and read linearizably.
        Available,
        /// The operator is on its way to what is declared.
        Progressing,
        /// Something is broken or missing that was there.
        Degraded,
        /// No move would spread replicas and leaders better.
        Balanced,
    }
}

names! {
    /// Why a condition is as it is: one word for programs, beside the message for people.
    Reason {
        /// All is as declared.
        AsDeclared,
        /// Nothing is under way.
        Idle,
        /// Pods have not started yet.
        Starting,
        /// The cluster is about to be created, or its meta group has not all its voters.
        Forming,
        /// Nodes are being added.
        ScalingUp,
        /// Nodes are being emptied and taken away.
        ScalingDown,
        /// Nodes restart one after the other.
        Rolling,
        /// A change was put back, because a node did not become ready with it.
        RolledBack,
        /// Replicas are being rebuilt in place of lost ones.
        Repairing,
        /// Replicas or leaders are being spread anew.
        Rebalancing,
        /// A plan waits to be approved.
        ApprovalNeeded,
        /// Claims are being enlarged.
        GrowingVolumes,
        /// The storage class does not enlarge claims.
        VolumeCannotGrow,
        /// The resource is being created in the data plane.
        Creating,
        /// The resource is being changed in the data plane.
        Altering,
        /// The resource is going, and its data with it.
        Deleting,
        /// The operator was told to keep its hands off.
        Paused,
        /// The cluster was put to sleep, its claims are kept.
        Hibernated,
        /// What is declared cannot be; the message says which field.
        Invalid,
        /// Doing it now would cost a quorum or data; the message says what is in the way.
        Blocked,
        /// What is declared was refused by the data plane.
        Refused,
        /// No node of the cluster answers.
        Unreachable,
        /// Fewer volumes of the cluster are there than a quorum needs.
        VolumesMissing,
        /// Nodes are gone or not ready.
        NodesNotReady,
        /// More than one failure is unexplained, so nothing is repaired.
        SeveralFailures,
        /// Partitions have no leader.
        WithoutLeader,
        /// Partitions have fewer replicas than declared.
        UnderReplicated,
        /// A disk is nearly full, and writes are refused.
        DiskNearlyFull,
        /// An object of this name belongs to somebody else.
        ObjectTaken,
        /// The API server refused an object: a quota, a policy or a permission.
        ObjectRefused,
        /// A pod cannot start: image, scheduling or crash; the message says which.
        PodFailing,
        /// Another `KVTable` owns the table of this name.
        NameTaken,
        /// There is no `KVCluster` of this name.
        ClusterNotFound,
        /// The cluster is there but not ready.
        ClusterNotReady,
        /// It cannot be told.
        Unknown,
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Holds {
    /// As it stands in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as it was found, which is not yet dated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub type_: ConditionType,
    /// Whether it holds.
    pub holds: Holds,
    /// Why, in a word.
    pub reason: Reason,
    /// Why, for a person, naming nodes and partitions.
    pub message: String,
}

/// The longest message that the API server takes.
const LONGEST_MESSAGE: usize = 32_768;

/// Puts findings in the place of the conditions of their types. A condition that holds as before
/// keeps the time since when it does, so that nothing is written where nothing changed. The
/// conditions are sorted by type, so that their order says nothing.
#[must_use]
pub fn merged(before: &[Condition], found: &[Finding], generation: i64, now: Timestamp) -> Vec<Condition> {
    let replaced = |condition: &&Condition| found.iter().all(|f| f.type_.as_str() != condition.type_);
    let mut conditions: Vec<Condition> = before.iter().filter(replaced).cloned().collect();
    for finding in found {
        let since = before
            .iter()
            .find(|old| old.type_ == finding.type_.as_str() && old.status == finding.holds.as_str())
            .map_or_else(|| Time(now), |old| old.last_transition_time.clone());
        conditions.push(Condition {
            type_: finding.type_.to_string(),
            status: finding.holds.as_str().to_owned(),
            reason: finding.reason.to_string(),
            message: finding.message.chars().take(LONGEST_MESSAGE / 4).collect(),
            last_transition_time: since,
            observed_generation: Some(generation),
        });
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(holds: bool, reason: Reason) -> Finding {
        Finding { type_: ConditionType::Ready, holds: holds.into(), reason, message: "node a-0".to_owned() }
    }

    #[test]
    fn a_condition_is_dated_when_it_turns() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = merged(&[], &[finding(false, Reason::Starting)], 1, at(100));
        let same = merged(&first, &[finding(false, Reason::Forming)], 2, at(200));
        assert_eq!(same[0].last_transition_time, Time(at(100)));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("Forming", Some(2)));
        let turned = merged(&same, &[finding(true, Reason::AsDeclared)], 2, at(300));
        assert_eq!(turned[0].last_transition_time, Time(at(300)));
        assert_eq!(merged(&turned, &[finding(true, Reason::AsDeclared)], 2, at(400)), turned);
    }

    #[test]
    fn conditions_of_other_types_stay() {
        let at = Timestamp::from_second(100).unwrap();
        let ready = merged(&[], &[finding(true, Reason::AsDeclared)], 1, at);
        let balanced = Finding { type_: ConditionType::Balanced, ..finding(true, Reason::AsDeclared) };
        let types: Vec<_> = merged(&ready, &[balanced], 1, at).into_iter().map(|c| c.type_).collect();
        assert_eq!(types, ["Balanced", "Ready"]);
    }
}
