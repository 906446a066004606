//! What to do about a table next. Pure.
//!
//! A table belongs to the resource whose UID the meta group has recorded, as long as that resource
//! is there. A table that nobody living owns was retained, or made by hand: the oldest resource
//! that claims it gets it. Every other claimant is told that the name is taken.

use std::fmt;

use crds::conditions::Reason;
use proto::v1::{HistorySettings, SplitPolicy, ValueSettings};

use super::indexes::{Difference, difference};
use super::observe::{Cluster, Observed};
use super::validate::ValidTable;
use crate::dataplane::TableView;

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The table is created.
    Create(ValidTable),
    /// The table is changed. What is none stays.
    Alter {
        /// Its name.
        name: String,
        /// How many partitions it is to be split into.
        partitions: Option<u32>,
        /// How many copies from now on.
        replicas: Option<u32>,
        /// After how many milliseconds items go from now on.
        default_ttl_ms: Option<u64>,
        /// How long it keeps its changes from now on.
        history: Option<HistorySettings>,
        /// What it demands of values from now on.
        values: Option<ValueSettings>,
        /// How many milliseconds a read gives an item from now on.
        touch_on_read_ms: Option<u64>,
        /// Which indexes go and come.
        indexes: Option<Difference>,
        /// When its partitions are split by themselves from now on.
        split: Option<SplitPolicy>,
    },
    /// The table goes, and all that is in it.
    Drop {
        /// Its name.
        name: String,
    },
    /// The resource is held until its table is dropped.
    Hold,
    /// The resource may go.
    Release,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The effects, in order.
    pub steps: Vec<Step>,
    /// What stands in the way, in a word and a sentence.
    pub problem: Option<(Reason, String)>,
}

/// What to do about a table that is declared. `held` is whether the resource carries the finalizer.
pub fn plan(table: &ValidTable, observed: &Observed, cluster: &str, held: bool) -> Plan {
    if observed.paused {
        return paused();
    }
    let mut plan = Plan::default();
    // A cluster that is gone can drop nothing, so holding the resource for it would be for ever.
    let hold = table.drops && matches!(observed.cluster, Cluster::Answers | Cluster::Silent(_));
    match (hold, held) {
        (true, false) => plan.steps.push(Step::Hold),
        (false, true) => plan.steps.push(Step::Release),
        _ => {}
    }
    plan.problem = match &observed.cluster {
        Cluster::Missing => {
            Some((Reason::ClusterNotFound, format!("there is no KVCluster {cluster} in this namespace")))
        }
        Cluster::Going => Some((Reason::ClusterNotReady, format!("KVCluster {cluster} is being deleted"))),
        Cluster::Silent(why) => {
            Some((Reason::ClusterNotReady, format!("KVCluster {cluster} does not answer: {why}")))
        }
        Cluster::Answers => None,
    };
    if plan.problem.is_some() {
        return plan;
    }
    let Some(present) = &observed.table else {
        match rival(table, observed, "") {
            Some(rival) => plan.problem = Some(taken(table, &rival)),
            None => plan.steps.push(Step::Create(table.clone())),
        }
        return plan;
    };
    if let Some(rival) = rival(table, observed, &present.owner) {
        plan.problem = Some(taken(table, &rival));
        return plan;
    }
    if let Some(why) = cannot_become(table, present) {
        plan.problem = Some((Reason::Refused, why));
    }
    let replicas = (table.replicas != present.replicas).then_some(table.replicas);
    let default_ttl_ms = (table.default_ttl_ms != present.default_ttl_ms).then_some(table.default_ttl_ms);
    let history = (table.history != present.history).then_some(table.history);
    let values = (table.values != present.values).then(|| table.values.clone());
    let touch_on_read_ms =
        (table.touch_on_read_ms != present.touch_on_read_ms).then_some(table.touch_on_read_ms);
    let indexes = difference(&table.indexes, &present.indexes);
    // Those that it has and those that it is getting.
    let coming = present.partitions.max(present.wanted_partitions);
    let partitions = (table.partitions > coming).then_some(table.partitions);
    let shape = partitions.is_some() || replicas.is_some() || default_ttl_ms.is_some();
    let settings = history.is_some() || values.is_some() || touch_on_read_ms.is_some();
    let split = (table.split != present.split).then_some(table.split);
    if shape || settings || indexes.is_some() || split.is_some() {
        let name = table.name.to_string();
        plan.steps.push(Step::Alter {
            name,
            partitions,
            replicas,
            default_ttl_ms,
            history,
            values,
            touch_on_read_ms,
            indexes,
            split,
        });
    }
    plan
}

/// What to do about a table whose resource is being deleted.
pub fn plan_deletion(table: &ValidTable, observed: &Observed) -> Plan {
    if observed.paused {
        return paused();
    }
    let release = Plan { steps: vec![Step::Release], problem: None };
    let drop =
        Plan { steps: vec![Step::Drop { name: table.name.to_string() }, Step::Release], problem: None };
    match (&observed.cluster, &observed.table) {
        _ if !table.drops => release,
        // Its data goes with the cluster, or went with it.
        (Cluster::Missing | Cluster::Going, _) | (Cluster::Answers, None) => release,
        (Cluster::Answers, Some(present)) => match rival(table, observed, &present.owner) {
            Some(_) => release,
            None => drop,
        },
        (Cluster::Silent(why), _) => Plan {
            steps: Vec::new(),
            problem: Some((
                Reason::ClusterNotReady,
                format!("the table is not dropped yet, because its cluster does not answer: {why}"),
            )),
        },
    }
}

fn paused() -> Plan {
    let why =
        "the annotation kv.trilith.dev/paused on the table or its cluster keeps the operator's hands off";
    Plan { steps: Vec::new(), problem: Some((Reason::Paused, why.to_owned())) }
}

/// Who has the table instead; none: it is this resource's.
fn rival(table: &ValidTable, observed: &Observed, owner: &str) -> Option<String> {
    let owner_lives = observed.claimants.iter().any(|claimant| claimant == owner);
    let holder = if owner_lives { Some(owner) } else { observed.claimants.first().map(String::as_str) };
    holder.filter(|holder| *holder != table.owner).map(str::to_owned)
}

fn taken(table: &ValidTable, rival: &str) -> (Reason, String) {
    let message = format!(
        "table {} belongs to another KVTable of this namespace, with UID {rival}: give this one another spec.name, or \
         delete one of them",
        table.name
    );
    (Reason::NameTaken, message)
}

fn cannot_become(table: &ValidTable, present: &TableView) -> Option<String> {
    if table.buckets != present.buckets {
        return Some(format!(
            "table {} has {} buckets and can never have {}: its keys are stored by them",
            table.name, present.buckets, table.buckets
        ));
    }
    let coming = present.partitions.max(present.wanted_partitions);
    // Those that came by themselves are as they should be.
    let by_itself = table.split != SplitPolicy::default();
    (table.partitions < coming && !by_itself).then(|| {
        format!(
            "table {} has {} partitions and cannot have {}: partitions are split and not joined",
            table.name, coming, table.partitions
        )
    })
}

impl Step {
    /// The step's name, by which tests make the operator end at it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create-table",
            Self::Alter { .. } => "alter-table",
            Self::Drop { .. } => "drop-table",
            Self::Hold => "hold-table",
            Self::Release => "release-table",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(table) => write!(
                f,
                "create table {} with {} partitions of {} replicas",
                table.name, table.partitions, table.replicas
            ),
            Self::Alter {
                name,
                partitions,
                replicas,
                default_ttl_ms,
                history,
                values,
                touch_on_read_ms,
                indexes,
                split,
            } => {
                write!(f, "alter table {name}")?;
                if let Some(partitions) = partitions {
                    write!(f, ", {partitions} partitions")?;
                }
                if let Some(replicas) = replicas {
                    write!(f, ", {replicas} replicas")?;
                }
                match default_ttl_ms {
                    Some(0) => write!(f, ", no default TTL")?,
                    Some(ttl) => write!(f, ", default TTL {ttl} ms")?,
                    None => {}
                }
                if history.is_some() {
                    write!(f, ", another history")?;
                }
                if values.is_some() {
                    write!(f, ", another demand on values")?;
                }
                match touch_on_read_ms {
                    Some(0) => write!(f, ", no touch on read")?,
                    Some(touch) => write!(f, ", a touch on read of {touch} ms")?,
                    None => {}
                }
                if split.is_some() {
                    write!(f, ", split by another policy")?;
                }
                let Some(Difference { drop, add }) = indexes else { return Ok(()) };
                drop.iter().try_for_each(|name| write!(f, ", without index {name}"))?;
                add.iter().try_for_each(|index| write!(f, ", with index {} over {}", index.name, index.path))
            }
            Self::Drop { name } => write!(f, "drop table {name}"),
            Self::Hold => write!(f, "hold the resource until its table is dropped"),
            Self::Release => write!(f, "let the resource go"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "  - {step}")?;
        }
        if let Some((reason, message)) = &self.problem {
            writeln!(f, "  ! {reason}: {message}")?;
        }
        if self.steps.is_empty() && self.problem.is_none() {
            writeln!(f, "  nothing to do")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use placement::TableName;
    use proto::v1::value_settings;

    use super::*;

    fn declared() -> ValidTable {
        ValidTable {
            name: TableName::parse("orders").unwrap(),
            owner: "uid-1".to_owned(),
            partitions: 8,
            buckets: 64,
            replicas: 3,
            default_ttl_ms: 0,
            history: HistorySettings::default(),
            values: ValueSettings::default(),
            touch_on_read_ms: 0,
            indexes: Vec::new(),
            split: SplitPolicy::default(),
            drops: false,
        }
    }

    fn present(owner: &str) -> TableView {
        TableView {
            id: 7,
            name: "orders".to_owned(),
            replicas: 3,
            partitions: 8,
            wanted_partitions: 0,
            buckets: 64,
            default_ttl_ms: 0,
            history: HistorySettings::default(),
            values: ValueSettings::default(),
            touch_on_read_ms: 0,
            indexes: Vec::new(),
            split: SplitPolicy::default(),
            owner: owner.to_owned(),
        }
    }

    fn observed(table: Option<TableView>) -> Observed {
        Observed {
            cluster: Cluster::Answers,
            table,
            claimants: vec!["uid-1".to_owned()],
            ..Observed::default()
        }
    }

    #[test]
    fn tables_become_what_is_declared() {
        let mut told = String::new();
        let mut tell = |case: &str, plan: &Plan| write!(told, "{case}\n{plan}").unwrap();
        tell(
            "no cluster",
            &plan(&declared(), &Observed { cluster: Cluster::Missing, ..observed(None) }, "kv", true),
        );
        let silent = Cluster::Silent("no node is ready".to_owned());
        tell(
            "a silent cluster",
            &plan(&declared(), &Observed { cluster: silent, ..observed(None) }, "kv", false),
        );
        tell("no table", &plan(&ValidTable { drops: true, ..declared() }, &observed(None), "kv", false));
        tell("as declared", &plan(&declared(), &observed(Some(present("uid-1"))), "kv", false));
        let changed = ValidTable { replicas: 5, default_ttl_ms: 1000, ..declared() };
        let demanding =
            ValueSettings { demand: value_settings::Demand::JsonOnly.into(), ..ValueSettings::default() };
        let demands = ValidTable { values: demanding, touch_on_read_ms: 60_000, ..declared() };
        tell("demanding", &plan(&demands, &observed(Some(present("uid-1"))), "kv", false));
        tell("changed", &plan(&changed, &observed(Some(present("uid-1"))), "kv", false));
        let split = ValidTable { partitions: 16, ..declared() };
        tell("split", &plan(&split, &observed(Some(present("uid-1"))), "kv", false));
        let splitting = TableView { partitions: 11, wanted_partitions: 16, ..present("uid-1") };
        tell("being split", &plan(&split, &observed(Some(splitting)), "kv", false));
        let fewer = ValidTable { partitions: 4, ..declared() };
        tell("fewer", &plan(&fewer, &observed(Some(present("uid-1"))), "kv", false));
        let policy = SplitPolicy { bytes: 1 << 30, ..SplitPolicy::default() };
        let by_itself = ValidTable { split: policy, ..fewer };
        tell("by itself", &plan(&by_itself, &observed(Some(present("uid-1"))), "kv", false));
        let grown = TableView { split: policy, ..present("uid-1") };
        tell("grown by itself", &plan(&by_itself, &observed(Some(grown)), "kv", false));
        tell("paused", &plan(&changed, &Observed { paused: true, ..observed(None) }, "kv", false));
        insta::assert_snapshot!(told);
    }

    #[test]
    fn indexes_go_and_come() {
        let index = |name: &str, path: &str| crate::table::indexes::Index {
            name: name.to_owned(),
            path: path.to_owned(),
            kind: proto::v1::IndexType::String,
            unique: false,
            sparse: false,
        };
        let table = ValidTable { indexes: vec![index("city", "$.city")], ..declared() };
        let has = TableView { indexes: vec![index("age", "$.age")], ..present("uid-1") };
        let told = plan(&table, &observed(Some(has)), "kv", false).to_string();
        assert_eq!(told, "  - alter table orders, without index age, with index city over $.city\n");
        let has = TableView { indexes: vec![index("city", "$.city")], ..present("uid-1") };
        assert!(plan(&table, &observed(Some(has)), "kv", false).steps.is_empty());
    }

    #[test]
    fn a_name_is_had_by_one() {
        let mut told = String::new();
        let mut tell = |case: &str, plan: &Plan| write!(told, "{case}\n{plan}").unwrap();
        let two =
            |table| Observed { claimants: vec!["uid-0".to_owned(), "uid-1".to_owned()], ..observed(table) };
        tell("neither has it: the older gets it", &plan(&declared(), &two(None), "kv", false));
        tell("the other has it", &plan(&declared(), &two(Some(present("uid-0"))), "kv", false));
        tell("this one has it", &plan(&declared(), &two(Some(present("uid-1"))), "kv", false));
        tell(
            "it was retained by one that is gone",
            &plan(&declared(), &observed(Some(present("uid-9"))), "kv", false),
        );
        insta::assert_snapshot!(told);
    }

    #[test]
    fn tables_go_as_the_policy_says() {
        let mut told = String::new();
        let mut tell = |case: &str, plan: &Plan| write!(told, "{case}\n{plan}").unwrap();
        let there = || observed(Some(present("uid-1")));
        let drops = ValidTable { drops: true, ..declared() };
        tell("retain", &plan_deletion(&declared(), &there()));
        tell("delete", &plan_deletion(&drops, &there()));
        tell(
            "the cluster is going",
            &plan_deletion(&drops, &Observed { cluster: Cluster::Going, ..there() }),
        );
        let silent = Cluster::Silent("no node is ready".to_owned());
        tell("the cluster is silent", &plan_deletion(&drops, &Observed { cluster: silent, ..there() }));
        tell("paused", &plan_deletion(&drops, &Observed { paused: true, ..there() }));
        let other = Observed { claimants: vec!["uid-0".to_owned()], ..observed(Some(present("uid-0"))) };
        tell("it is another's", &plan_deletion(&drops, &other));
        insta::assert_snapshot!(told);
    }
}
