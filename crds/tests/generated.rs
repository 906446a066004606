//! The generated files are what the types say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const HEAD: &str =
    "# Generated from the types in crds/src: UPDATE_CRDS=1 cargo test -p crds --test generated\n";

fn is_generated(definition: &CustomResourceDefinition, file: &str) {
    let yaml = format!("{HEAD}{}", serde_yaml::to_string(definition).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_CRDS").is_some() {
        std::fs::write(&path, &yaml).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == yaml,
        "crds/{file} is not what the types say; run: UPDATE_CRDS=1 cargo test -p crds --test generated"
    );
}

#[test]
fn kvclusters_yaml_is_what_the_types_say() {
    is_generated(&crds::definitions::kvclusters(), "kvclusters.yaml");
}

#[test]
fn kvtables_yaml_is_what_the_types_say() {
    is_generated(&crds::definitions::kvtables(), "kvtables.yaml");
}
