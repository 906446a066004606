//! The definitions as they are applied: what kube derives, made fit for people and the API server.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    JSONSchemaPropsOrStringArray, ValidationRule,
};
use kube::CustomResourceExt;

use crate::cluster::{KVCluster, LONGEST_CLUSTER_NAME};
use crate::table::KVTable;

/// Both definitions, in the order in which they are applied.
pub fn all() -> [CustomResourceDefinition; 2] {
    [kvclusters(), kvtables()]
}

/// What a `KVCluster` is.
pub fn kvclusters() -> CustomResourceDefinition {
    let mut definition = KVCluster::crd();
    for schema in schemas(&mut definition) {
        // The names of all that a cluster owns begin with its own.
        let name = JSONSchemaProps {
            type_: Some("string".to_owned()),
            max_length: i64::try_from(LONGEST_CLUSTER_NAME).ok(),
            pattern: Some("^[a-z]([-a-z0-9]*[a-z0-9])?$".to_owned()),
            ..JSONSchemaProps::default()
        };
        let metadata = JSONSchemaProps {
            type_: Some("object".to_owned()),
            properties: Some([("name".to_owned(), name)].into()),
            ..JSONSchemaProps::default()
        };
        schema.properties.get_or_insert_default().insert("metadata".to_owned(), metadata);
        schema.x_kubernetes_validations = Some(vec![
            rule(
                "self.spec.pools.all(p, size(self.metadata.name) + size(p.name) <= 45)",
                "the name of the cluster and that of each pool have together at most 45 characters",
            ),
            rule(
                "!self.metadata.name.endsWith('-nodes')",
                "the name of a cluster does not end in -nodes: that is how the Service of its nodes is called",
            ),
        ]);
    }
    definition
}

/// What a `KVTable` is.
pub fn kvtables() -> CustomResourceDefinition {
    let mut definition = KVTable::crd();
    schemas(&mut definition).for_each(drop);
    definition
}

fn rule(rule: &str, message: &str) -> ValidationRule {
    ValidationRule { rule: rule.to_owned(), message: Some(message.to_owned()), ..ValidationRule::default() }
}

fn schemas(definition: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    definition.spec.versions.iter_mut().filter_map(|version| {
        let schema = version.schema.as_mut()?.open_api_v3_schema.as_mut()?;
        made_fit(schema);
        Some(schema)
    })
}

/// Takes away, in a schema and all within it:
/// - `nullable`: without it the API server drops a null, and a rule that asks `has(self.zone)` finds none;
/// - the bounds and formats of Rust's integers, some of which the API server does not know;
/// - line breaks of comments, which were made for the width of a source file.
fn made_fit(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(format) = &schema.format
        && format.starts_with("uint")
    {
        schema.format = None;
    }
    if let Some(description) = &mut schema.description {
        *description = unwrapped(description);
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(made_fit);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => made_fit(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(made_fit),
        None => {}
    }
    match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => made_fit(values),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => {}
    }
    for dependency in schema.dependencies.iter_mut().flat_map(|all| all.values_mut()) {
        if let JSONSchemaPropsOrStringArray::Schema(inner) = dependency {
            made_fit(inner);
        }
    }
}

/// Joins the lines of a paragraph; paragraphs stay apart.
fn unwrapped(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).collect();
        lines.join(" ")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
