//! The chart lets the operator do exactly what it does. The templates are read as they are, so that this
//! holds where there is no Helm as well.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;
use operator::access::{CRDS_APPLY, RUN, Rule, Scope};

const RULES: &str = include_str!("../../charts/trilith/templates/_rules.tpl");
const ROLES: &str = include_str!("../../charts/trilith/templates/rbac.yaml");
const CRDS: &str = include_str!("../../charts/trilith/templates/crds-upgrade.yaml");

/// Group, resource and verb.
type Permission = (String, String, String);

/// The rules that begin after a line of a template, as far as they are indented alike.
fn rules_after(template: &str, line: &str) -> Vec<PolicyRule> {
    let (_, rest) = template.split_once(line).unwrap_or_else(|| panic!("the template has no {line:?}"));
    let plain = |line: &&str| !line.trim_start().starts_with("{{") && !line.trim_start().starts_with('#');
    let is_rule = |line: &&str| {
        let line = line.trim_start();
        ["- apiGroups:", "resources:", "resourceNames:", "verbs:"].iter().any(|start| line.starts_with(start))
    };
    // What begins the next rules ends these.
    let ended =
        |line: &&str| line.contains("define \"") || line.starts_with("---") || line.starts_with("roleRef");
    let lines: Vec<&str> =
        rest.lines().skip(1).take_while(|line| !ended(line)).filter(plain).filter(is_rule).collect();
    serde_yaml::from_str(&lines.join("\n")).expect("rules")
}

fn permissions(rules: &[PolicyRule]) -> BTreeSet<Permission> {
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                all.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    all
}

fn needed<'a>(rules: impl Iterator<Item = &'a Rule>) -> BTreeSet<Permission> {
    rules
        .flat_map(|rule| {
            let verbs = rule.verbs.iter();
            verbs.map(|verb| (rule.group.to_owned(), rule.resource.to_owned(), (*verb).to_owned()))
        })
        .collect()
}

fn in_scope(scope: Scope) -> BTreeSet<Permission> {
    needed(RUN.iter().filter(|rule| rule.scope == scope))
}

#[test]
fn the_chart_allows_what_the_operator_does_and_nothing_else() {
    let watched = rules_after(RULES, "define \"trilith.rules.watched\"");
    assert_eq!(permissions(&watched), in_scope(Scope::Watched));
    let cluster = rules_after(RULES, "define \"trilith.rules.cluster\"");
    assert_eq!(permissions(&cluster), in_scope(Scope::Cluster));
    let own = rules_after(ROLES, "name: {{ include \"trilith.name\" . }}-leader");
    assert_eq!(permissions(&own), in_scope(Scope::Own));
}

#[test]
fn the_chart_allows_what_bringing_definitions_up_to_date_takes() {
    let rules = rules_after(CRDS, "kind: ClusterRole\n");
    assert_eq!(permissions(&rules), needed(CRDS_APPLY.iter()));
}
