//! The `StatefulSet` of a pool, with what is noted on it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use placement::ClusterId;

use super::marks::{FAILED_INPUTS, GOOD_INPUTS, GOOD_TEMPLATE};
use super::objects::stateful_set::{Standing, stateful_set};
use super::plan::{SetPlan, Template};
use super::validate::{ValidCluster, ValidPool};

/// What is noted on a `StatefulSet` anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Nothing: what is noted stays.
    Nothing,
    /// Its present template is good.
    Good(String),
    /// These inputs failed.
    Failed(String),
}

/// The `StatefulSet` as it should be. None where the template to go back to is not there any more, so
/// that nothing is put in its place.
pub fn build(
    cluster: &ValidCluster,
    pool: &ValidPool,
    cluster_id: ClusterId,
    plan: &SetPlan,
    present: Option<&StatefulSet>,
    note: &Note,
) -> Option<StatefulSet> {
    let now = present.and_then(|set| set.spec.as_ref()).map(|spec| spec.template.clone());
    let template = match plan.template {
        Template::Declared => None,
        Template::Present => Some(now.clone()?),
        Template::LastGood => Some(good_template(present?)?),
    };
    let claim_size = present.and_then(claim_size);
    let standing = Standing { cluster_id, replicas: plan.replicas, claim_size, template };
    let mut set = stateful_set(cluster, pool, &standing);
    let mut notes: BTreeMap<String, String> = BTreeMap::new();
    for name in [GOOD_INPUTS, GOOD_TEMPLATE, FAILED_INPUTS] {
        notes.extend(
            present
                .and_then(|set| set.annotations().get(name).cloned())
                .map(|value| (name.to_owned(), value)),
        );
    }
    match note {
        Note::Nothing => {}
        Note::Good(inputs) => {
            notes.insert(GOOD_INPUTS.to_owned(), inputs.clone());
            notes.insert(GOOD_TEMPLATE.to_owned(), serde_json::to_string(&now?).ok()?);
        }
        Note::Failed(inputs) => {
            notes.insert(FAILED_INPUTS.to_owned(), inputs.clone());
        }
    }
    set.metadata.annotations.get_or_insert_default().extend(notes);
    Some(set)
}

/// The template to go back to.
pub fn good_template(set: &StatefulSet) -> Option<PodTemplateSpec> {
    serde_json::from_str(set.annotations().get(GOOD_TEMPLATE)?).ok()
}

/// The size in the template of a `StatefulSet`'s claims, which can never change.
fn claim_size(set: &StatefulSet) -> Option<Quantity> {
    let claims = set.spec.as_ref()?.volume_claim_templates.as_ref()?;
    let requests = claims.first()?.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").cloned()
}
