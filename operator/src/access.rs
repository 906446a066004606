//! What the operator may do, and needs to be allowed to do. The chart's roles are compared with
//! this list, so that a permission is neither forgotten nor kept.

/// One rule of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The API group; empty: the core group.
    pub group: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// What is done with it.
    pub verbs: &'static [&'static str],
    /// Where.
    pub scope: Scope,
}

/// Where a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace that is watched.
    Watched,
    /// In the operator's own namespace.
    Own,
    /// In the whole cluster, also when only some namespaces are watched: these resources belong
    /// to no namespace.
    Cluster,
}

const READ: &[&str] = &["get", "list", "watch"];
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch"];
const KEEP_AND_DELETE: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// Everything that `trilith-operator run` does.
pub const RUN: &[Rule] = &[
    rule("kv.trilith.dev", "kvclusters", &["get", "list", "watch", "patch"], Scope::Watched),
    rule("kv.trilith.dev", "kvclusters/status", &["patch"], Scope::Watched),
    rule("kv.trilith.dev", "kvclusters/finalizers", &["update"], Scope::Watched),
    rule("kv.trilith.dev", "kvtables", &["get", "list", "watch", "patch"], Scope::Watched),
    rule("kv.trilith.dev", "kvtables/status", &["patch"], Scope::Watched),
    rule("apps", "statefulsets", KEEP_AND_DELETE, Scope::Watched),
    rule("", "pods", &["get", "list", "watch", "delete"], Scope::Watched),
    rule("", "persistentvolumeclaims", KEEP_AND_DELETE, Scope::Watched),
    rule("", "services", KEEP, Scope::Watched),
    rule("", "configmaps", KEEP_AND_DELETE, Scope::Watched),
    rule("", "serviceaccounts", KEEP, Scope::Watched),
    rule("policy", "poddisruptionbudgets", KEEP_AND_DELETE, Scope::Watched),
    rule("networking.k8s.io", "networkpolicies", KEEP_AND_DELETE, Scope::Watched),
    rule("monitoring.coreos.com", "servicemonitors", &["get", "create", "patch", "delete"], Scope::Watched),
    rule("events.k8s.io", "events", &["create", "patch"], Scope::Watched),
    rule("", "nodes", READ, Scope::Cluster),
    rule("storage.k8s.io", "storageclasses", READ, Scope::Cluster),
    rule("coordination.k8s.io", "leases", &["get", "create", "update"], Scope::Own),
];

/// Everything that `trilith-operator crds apply` does. It waits by a watch until they are served.
pub const CRDS_APPLY: &[Rule] = &[rule(
    "apiextensions.k8s.io",
    "customresourcedefinitions",
    &["list", "watch", "create", "patch"],
    Scope::Cluster,
)];

const fn rule(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    scope: Scope,
) -> Rule {
    Rule { group, resource, verbs, scope }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_by_wildcard_and_no_rule_is_there_twice() {
        let all: Vec<&Rule> = RUN.iter().chain(CRDS_APPLY).collect();
        for rule in &all {
            assert!(!rule.verbs.contains(&"*") && rule.resource != "*" && rule.group != "*");
            let same =
                all.iter().filter(|other| (other.group, other.resource) == (rule.group, rule.resource));
            assert_eq!(same.count(), 1, "{}", rule.resource);
        }
    }
}
