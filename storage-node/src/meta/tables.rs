//! Tables: creating, altering and dropping them.

use std::collections::BTreeSet;

use placement::{
    BucketCount, Epoch, NodeId, Partition, PartitionId, Replica, Role, Table, TableId, TableName,
};
use proto::convert;
use proto::v1::history_settings::Keep;
use proto::v1::meta_answer::Outcome;
use proto::v1::{
    AlterTable, CreateTable, DropTable, HistorySettings, MetaDone, MoveStage, TableEntry, TableSettings,
};

use super::indexes::{has_those, with_indexes};
use super::records::RecordKey;
use super::refusal::Refusal;
use super::splits::{check_policy, named_policy};
use super::state::{Answer, Birth, MetaState, MoveId, TableDetails};
use super::values;

/// How many tables a cluster may have.
pub const MOST_TABLES: usize = 4_096;
/// How many partitions a cluster may have.
pub const MOST_PARTITIONS: usize = 65_536;
/// How many replicas a table may ask for.
const REPLICA_COUNTS: [u32; 4] = [1, 3, 5, 7];
/// How long a table's changes may be kept.
const HISTORY_MS: std::ops::RangeInclusive<u64> = 1_000..=30 * 24 * 3_600_000;
/// How many bytes of them in each partition.
const HISTORY_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 30;
/// The longest owner.
const LONGEST_OWNER: usize = 253;

impl MetaState {
    pub(super) fn create_table(&mut self, create: &CreateTable) -> Result<Answer, Refusal> {
        let invalid = |why: String| Refusal::Invalid(why);
        let name = TableName::parse(&create.name).map_err(|bad| invalid(bad.to_string()))?;
        if create.owner.len() > LONGEST_OWNER {
            return Err(invalid(format!("a table's owner has at most {LONGEST_OWNER} bytes")));
        }
        if let Some(entry) = self.map.table_named(&name).and_then(|table| self.table_entry(table.id)) {
            return same_table(create, name, entry);
        }
        let buckets = BucketCount::new(create.buckets).map_err(|bad| invalid(bad.to_string()))?;
        let replicas = self.check_replicas(create.replicas)?;
        let partitions = u16::try_from(create.partitions.len()).unwrap_or(u16::MAX);
        let ranges = buckets.split(partitions);
        if partitions == 0 || ranges.len() != create.partitions.len() {
            return Err(invalid(format!(
                "a table of {} buckets has 1 to {} partitions, not {}",
                create.buckets,
                create.buckets,
                create.partitions.len()
            )));
        }
        let settings = first_settings(create)?;
        let split = check_policy(create.split, create.buckets)?;
        bounded("tables", MOST_TABLES, self.map.tables.len() + 1)?;
        bounded("partitions", MOST_PARTITIONS, self.map.partitions.len() + ranges.len())?;
        let places = create
            .partitions
            .iter()
            .map(|list| self.check_places(&list.nodes, replicas))
            .collect::<Result<Vec<_>, _>>()?;

        let id = TableId(self.counters.table);
        self.counters.table += 1;
        let table = Table { id, name, buckets, replicas, default_ttl_ms: create.default_ttl_ms };
        self.map.tables.insert(id, table);
        self.tables.insert(
            id,
            TableDetails {
                owner: create.owner.clone(),
                partitions: u32::from(partitions),
                wanted_partitions: 0,
                split,
                settings,
            },
        );
        self.touch(RecordKey::Table(id));
        for (range, nodes) in ranges.into_iter().zip(places) {
            let partition = PartitionId(self.counters.partition);
            self.counters.partition += 1;
            let replicas: Vec<Replica> = nodes
                .into_iter()
                .map(|node| Replica { id: self.next_replica(), node, role: Role::Voter })
                .collect();
            let birth = Birth {
                table: id,
                buckets: range,
                replicas: replicas.clone(),
                epoch: Epoch(1),
                since: 0,
                by_split: false,
                split: None,
            };
            self.births.insert(partition, birth);
            let entry = Partition { id: partition, table: id, buckets: range, epoch: Epoch(1), replicas };
            self.map.partitions.insert(partition, entry);
            self.touch(RecordKey::Partition(partition));
        }
        let entry = self.table_entry(id).unwrap_or_default();
        Ok(Answer::new(Outcome::Table(entry)))
    }

    /// Where the replicas of one partition go: that many different nodes, which all serve.
    fn check_places(&self, nodes: &[bytes::Bytes], replicas: u8) -> Result<Vec<NodeId>, Refusal> {
        let nodes = nodes.iter().map(|node| convert::node_id(node)).collect::<Result<Vec<_>, _>>()?;
        let different: BTreeSet<_> = nodes.iter().collect();
        if nodes.len() != usize::from(replicas) || different.len() != nodes.len() {
            return Err(Refusal::Invalid(format!("each partition needs {replicas} different nodes")));
        }
        match nodes.iter().find(|node| !self.serves(**node)) {
            Some(node) => Err(Refusal::MapChanged(format!("{} does not serve", self.name_of(*node)))),
            None => Ok(nodes),
        }
    }

    fn check_replicas(&self, replicas: u32) -> Result<u8, Refusal> {
        if !REPLICA_COUNTS.contains(&replicas) {
            return Err(Refusal::Invalid(format!("{replicas} replicas are not possible: use 1, 3, 5 or 7")));
        }
        let serving = self.serving_nodes().count() as u32;
        if replicas > serving {
            return Err(Refusal::TooFewNodes { wanted: replicas, serving });
        }
        u8::try_from(replicas).map_err(|_| Refusal::Invalid(format!("{replicas} replicas are not possible")))
    }

    pub(super) fn alter_table(&mut self, alter: &AlterTable) -> Result<Answer, Refusal> {
        let id = self.table_id(&alter.name)?;
        let current = self.map.tables.get(&id).map(|table| (table.replicas, table.default_ttl_ms));
        let (had_replicas, had_ttl) = current.unwrap_or_default();
        let had = self.tables.get(&id).and_then(|details| details.settings.clone()).unwrap_or_default();
        let settings = match &alter.history {
            Some(history) => with_history(had.clone(), history)?,
            None => had.clone(),
        };
        let settings = values::with_values(settings, alter.values.as_ref(), alter.touch_on_read_ms)?;
        let settings = with_indexes(settings, &alter.drop_indexes, &alter.add_indexes)?;
        let replicas = match alter.replicas {
            Some(wanted) if wanted != u32::from(had_replicas) => self.check_replicas(wanted)?,
            _ => had_replicas,
        };
        let wanted = match alter.partitions {
            Some(partitions) => Some(self.check_partitions(id, partitions)?),
            None => None,
        };
        let default_ttl_ms = alter.default_ttl_ms.unwrap_or(had_ttl);
        let had_wanted = self.tables.get(&id).map(|details| details.wanted_partitions);
        let cut = wanted.is_none() || wanted == had_wanted;
        let buckets = self.map.tables.get(&id).map_or(0, |table| table.buckets.get().into());
        let had_split = self.tables.get(&id).and_then(|details| details.split);
        let split = match alter.split {
            Some(policy) => check_policy(Some(policy), buckets)?,
            None => had_split,
        };
        let settled = settings == had;
        let same =
            settled && cut && split == had_split && (replicas, default_ttl_ms) == (had_replicas, had_ttl);
        if !same {
            if let Some(table) = self.map.tables.get_mut(&id) {
                table.replicas = replicas;
                table.default_ttl_ms = default_ttl_ms;
            }
            if let Some(details) = self.tables.get_mut(&id) {
                if !settled {
                    details.settings = Some(settings);
                }
                details.wanted_partitions = wanted.unwrap_or(details.wanted_partitions);
                details.split = split;
            }
            self.touch(RecordKey::Table(id));
        }
        Ok(Answer { outcome: Outcome::Table(self.table_entry(id).unwrap_or_default()), already: same })
    }

    pub(super) fn drop_table(&mut self, drop: &DropTable) -> Result<Answer, Refusal> {
        let id = self.table_id(&drop.name)?;
        let doomed: BTreeSet<PartitionId> =
            self.map.partitions_of(id).into_iter().map(|partition| partition.id).collect();
        let stopped: Vec<MoveId> = self
            .moves_under_way()
            .filter(|record| doomed.contains(&record.partition()))
            .map(|record| record.id)
            .collect();
        for order in stopped {
            self.end_move(order, MoveStage::Cancelled, "the table was dropped");
        }
        for partition in doomed {
            self.map.partitions.remove(&partition);
            self.births.remove(&partition);
            self.touch(RecordKey::Partition(partition));
        }
        self.map.tables.remove(&id);
        self.tables.remove(&id);
        self.touch(RecordKey::Table(id));
        Ok(Answer::new(Outcome::Done(MetaDone {})))
    }

    fn table_id(&self, name: &str) -> Result<TableId, Refusal> {
        let name = TableName::parse(name).map_err(|bad| Refusal::Invalid(bad.to_string()))?;
        self.map.table_named(&name).map(|table| table.id).ok_or(Refusal::UnknownTable(name))
    }
}

fn first_settings(create: &CreateTable) -> Result<Option<TableSettings>, Refusal> {
    let nothing_said = create.history.is_none()
        && create.values.is_none()
        && create.touch_on_read_ms == 0
        && create.indexes.is_empty();
    if nothing_said {
        return Ok(None);
    }
    let settings = match &create.history {
        Some(history) => with_history(TableSettings::default(), history)?,
        None => TableSettings::default(),
    };
    let settings = values::with_values(settings, create.values.as_ref(), Some(create.touch_on_read_ms))?;
    with_indexes(settings, &[], &create.indexes).map(Some)
}

/// Settings with another history, and the next version where it is another.
fn with_history(settings: TableSettings, history: &HistorySettings) -> Result<TableSettings, Refusal> {
    check_history(history)?;
    if settings.history.as_ref().unwrap_or(&HistorySettings::default()) == history {
        return Ok(settings);
    }
    Ok(TableSettings { version: settings.version + 1, history: Some(*history), ..settings })
}

fn check_history(history: &HistorySettings) -> Result<(), Refusal> {
    let invalid = |why: String| Err(Refusal::Invalid(why));
    match Keep::try_from(history.keep) {
        Err(_) => invalid(format!("{} is no way to keep history that this cluster knows", history.keep)),
        Ok(Keep::Default | Keep::Off) if (history.keep_ms, history.keep_bytes) != (0, 0) => {
            invalid("a table whose history is not bounded says nothing of time and bytes".to_owned())
        }
        Ok(Keep::Bounded) if !HISTORY_MS.contains(&history.keep_ms) => {
            invalid("a table keeps its history for one second to 30 days".to_owned())
        }
        Ok(Keep::Bounded) if !HISTORY_BYTES.contains(&history.keep_bytes) => {
            invalid("a table keeps 1 MiB to 64 GiB of history in each partition".to_owned())
        }
        Ok(_) => Ok(()),
    }
}

/// There is a table of that name. Its owner may ask for it again, in the same shape.
fn same_table(create: &CreateTable, name: TableName, entry: TableEntry) -> Result<Answer, Refusal> {
    if create.owner != entry.owner && !create.owner.is_empty() {
        let owner = if entry.owner.is_empty() { "nobody in particular".to_owned() } else { entry.owner };
        return Err(Refusal::NameTaken { name, owner });
    }
    let shapes = [
        ("buckets", u64::from(create.buckets), u64::from(entry.buckets)),
        // A table that is being split has them soon.
        (
            "partitions",
            create.partitions.len() as u64,
            u64::from(entry.partitions.max(entry.wanted_partitions)),
        ),
        ("replicas", u64::from(create.replicas), u64::from(entry.replicas)),
        ("milliseconds to live", create.default_ttl_ms, entry.default_ttl_ms),
    ];
    let differs = shapes.into_iter().find(|(_, wanted, actual)| wanted != actual);
    let history =
        |settings: Option<&TableSettings>| settings.and_then(|settings| settings.history).unwrap_or_default();
    let wanted = create.history.unwrap_or_default();
    if differs.is_none() && wanted != history(entry.settings.as_ref()) {
        return Err(Refusal::TableExists { name, difference: ", with another history".to_owned() });
    }
    if let Some(difference) = values::difference(create, &entry).filter(|_| differs.is_none()) {
        return Err(Refusal::TableExists { name, difference: difference.to_owned() });
    }
    if differs.is_none() && create.split.is_some_and(|split| named_policy(split) != entry.split) {
        return Err(Refusal::TableExists { name, difference: ", split by another policy".to_owned() });
    }
    if differs.is_none() && !has_those(&entry, create) {
        return Err(Refusal::TableExists { name, difference: ", with other indexes".to_owned() });
    }
    if differs.is_none() && create.owner == entry.owner && !create.owner.is_empty() {
        return Ok(Answer::already(Outcome::Table(entry)));
    }
    let difference = differs
        .map(|(what, wanted, actual)| format!(", with {actual} {what} instead of {wanted}"))
        .unwrap_or_default();
    Err(Refusal::TableExists { name, difference })
}

fn bounded(what: &'static str, limit: usize, actual: usize) -> Result<(), Refusal> {
    if actual > limit {
        return Err(Refusal::OverBound { what, limit: limit as u64, actual: actual as u64 });
    }
    Ok(())
}
