//! The record of the meta group's own replicas. What it should become is decided in
//! [`super::growth`].

use std::collections::BTreeSet;

use placement::{Replica, ReplicaId, Role};
use proto::convert;
use proto::v1::ChangeMeta;
use proto::v1::change_meta::Change;

use super::records::RecordKey;
use super::refusal::Refusal;
use super::state::{Answer, MetaState};

impl MetaState {
    pub(super) fn change_meta(&mut self, change: &ChangeMeta) -> Result<Answer, Refusal> {
        if change.expected_epoch != self.meta.epoch.0 {
            return Err(Refusal::MetaChanged(format!(
                "the meta group's replicas are at epoch {}, not {}: look again",
                self.meta.epoch, change.expected_epoch
            )));
        }
        let mut replicas = self.meta.replicas.clone();
        match &change.change {
            Some(Change::AddLearner(node)) => {
                let node = convert::node_id(node)?;
                if !self.serves(node) || self.meta.replica_on(node).is_some() {
                    return Err(Refusal::MetaChanged(format!(
                        "{} does not serve, or holds a meta replica already",
                        self.name_of(node)
                    )));
                }
                replicas.push(Replica { id: self.next_replica(), node, role: Role::Learner });
            }
            Some(Change::RecordVoters(voters)) => {
                let voters: BTreeSet<_> = voters.replicas.iter().map(|replica| ReplicaId(*replica)).collect();
                let known: BTreeSet<_> = replicas.iter().map(|replica| replica.id).collect();
                if voters.is_empty() || !voters.is_subset(&known) {
                    return Err(Refusal::MetaChanged("those voters are not all known replicas".to_owned()));
                }
                replicas.retain(|replica| voters.contains(&replica.id) || replica.role == Role::Learner);
                for replica in replicas.iter_mut().filter(|replica| voters.contains(&replica.id)) {
                    replica.role = Role::Voter;
                }
            }
            Some(Change::RemoveLearner(replica)) => {
                let replica = ReplicaId(*replica);
                if !replicas.iter().any(|known| known.id == replica && known.role == Role::Learner) {
                    return Err(Refusal::MetaChanged(format!(
                        "replica {replica} is no learner of the meta group"
                    )));
                }
                replicas.retain(|known| known.id != replica);
            }
            None => return Err(Refusal::Invalid("a change of the meta group that is not known".to_owned())),
        }
        if replicas == self.meta.replicas {
            return Ok(Answer { already: true, ..Answer::done() });
        }
        self.meta.replicas = replicas;
        self.meta.epoch.0 += 1;
        self.touch(RecordKey::Meta);
        Ok(Answer::done())
    }
}
