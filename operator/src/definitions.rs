//! The custom resource definitions, put in place before anything that needs them.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};

use crate::runtime::objects::MANAGER;

/// How long Kubernetes may take until it serves a definition.
const PATIENCE: Duration = Duration::from_secs(60);

/// A definition is not in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was refused.
    #[error("{name} was refused: {source}")]
    Refused {
        /// Its name.
        name: String,
        /// What the API server said.
        #[source]
        source: kube::Error,
    },
    /// It is not served.
    #[error("{name} is not served after {} s: look at its conditions", PATIENCE.as_secs())]
    NotServed {
        /// Its name.
        name: String,
    },
}

/// All definitions as YAML.
pub fn print() -> Result<String, serde_yaml::Error> {
    let all = crds::definitions::all().iter().map(serde_yaml::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(all.join("---\n"))
}

/// Applies all definitions, and returns once Kubernetes serves them.
pub async fn apply(client: &Client) -> Result<(), Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crds::definitions::all() {
        let name = definition.name_any();
        let how = PatchParams::apply(MANAGER).force();
        let applied = api.patch(&name, &how, &Patch::Apply(&definition)).await;
        applied.map_err(|source| Error::Refused { name: name.clone(), source })?;
        let served = await_condition(api.clone(), &name, conditions::is_crd_established());
        match tokio::time::timeout(PATIENCE, served).await {
            Ok(Ok(_)) => tracing::info!(name, "in place"),
            Ok(Err(_)) | Err(_) => return Err(Error::NotServed { name }),
        }
    }
    Ok(())
}
