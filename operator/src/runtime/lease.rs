//! Which of several operators acts: the one that holds a Lease.
//!
//! The holder renews it every few seconds. Whoever sees it unrenewed for its whole length, by its
//! own clock and counted from when it last saw a change, takes it. Whoever cannot renew it in time
//! ends its process, before another one can have taken it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

/// How long a Lease holds after it was renewed.
const LENGTH: Duration = Duration::from_secs(15);
/// How often it is renewed, and how often others look.
const RENEW: Duration = Duration::from_secs(5);
/// How soon renewing is tried again after it failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Unrenewed for this long, the holder ends: before the length is over.
const GIVE_UP: Duration = Duration::from_secs(12);

/// A Lease and who wants it.
#[derive(Clone)]
pub struct Turn {
    api: Api<Lease>,
    name: String,
    identity: String,
}

/// The Lease cannot be held any longer.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another operator holds it.
    #[error("the lease {name} is now held by {holder}")]
    Taken {
        /// The Lease.
        name: String,
        /// Who holds it.
        holder: String,
    },
    /// It could not be renewed in time.
    #[error("the lease {name} could not be renewed for {} s", GIVE_UP.as_secs())]
    Unrenewed {
        /// The Lease.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a Lease says of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Free,
    Mine,
    Other { holder: String, renewed: Option<Timestamp> },
}

impl Turn {
    /// Of this Lease, under this name.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity: identity.to_owned() }
    }

    /// Returns once this operator holds the Lease.
    pub async fn wait(&self) {
        let mut seen: Option<(Held, Instant)> = None;
        loop {
            // What this operator does not learn in time it has not got.
            let tried = tokio::time::timeout(PATIENCE, self.try_take(seen.as_ref())).await;
            match tried.unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into()))) {
                Ok(Held::Mine) => {
                    tracing::info!(
                        lease = self.name,
                        identity = self.identity,
                        "this operator acts from now on"
                    );
                    return;
                }
                // The clock that counts is this one's: other machines' clocks may differ.
                Ok(held) if seen.as_ref().is_none_or(|(before, _)| *before != held) => {
                    if let Held::Other { holder, .. } = &held {
                        tracing::info!(lease = self.name, holder, "another operator acts; waiting");
                    }
                    seen = Some((held, Instant::now()));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, lease = self.name, "the lease cannot be read or taken"),
            }
            sleep(if seen.is_none() { RETRY } else { RENEW }).await;
        }
    }

    /// Renews the Lease until that fails, and says why.
    pub async fn hold(&self) -> Lost {
        let mut renewed = Instant::now();
        let mut pause = RENEW;
        loop {
            sleep(pause).await;
            let began = Instant::now();
            let left = attempt(renewed.elapsed());
            let error: Box<dyn std::error::Error + Send + Sync> =
                match tokio::time::timeout(left, self.renew()).await {
                    Ok(Ok(Held::Other { holder, .. })) => {
                        return Lost::Taken { name: self.name.clone(), holder };
                    }
                    Ok(Ok(_)) => {
                        (renewed, pause) = (began, RENEW);
                        continue;
                    }
                    Ok(Err(error)) => error.into(),
                    Err(elapsed) => elapsed.into(),
                };
            tracing::warn!(%error, lease = self.name, "the lease is not renewed");
            pause = retry(renewed.elapsed());
            if pause.is_zero() {
                return Lost::Unrenewed { name: self.name.clone(), source: error };
            }
        }
    }

    /// Lets the next operator act at once.
    pub async fn release(&self) {
        let released = async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            if self.held(&lease) != Held::Mine {
                return Ok(());
            }
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
                spec.renew_time = None;
            }
            self.api.replace(&self.name, &PostParams::default(), &lease).await.map(drop)
        };
        if let Err(error) = released.await {
            let error: kube::Error = error;
            tracing::warn!(%error, lease = self.name, "the lease was not released; it runs out by itself");
        }
    }

    /// Takes the Lease when it is free or has run out since it was last seen to change.
    async fn try_take(&self, seen: Option<&(Held, Instant)>) -> Result<Held, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let fresh = Lease { metadata, spec: Some(self.spec(None)) };
            return match self.api.create(&PostParams::default(), &fresh).await {
                Ok(_) => Ok(Held::Mine),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Held::Free),
                Err(error) => Err(error),
            };
        };
        let held = self.held(&lease);
        let ran_out = seen.is_some_and(|(before, since)| *before == held && since.elapsed() >= LENGTH);
        match held {
            Held::Other { .. } if !ran_out => Ok(held),
            _ => self.write(lease).await,
        }
    }

    async fn renew(&self) -> Result<Held, kube::Error> {
        let lease = self.api.get(&self.name).await?;
        match self.held(&lease) {
            Held::Mine => self.write(lease).await,
            // Nobody but this operator releases what it holds; so somebody interfered.
            Held::Free => Ok(Held::Other { holder: "nobody".to_owned(), renewed: None }),
            other @ Held::Other { .. } => Ok(other),
        }
    }

    /// Writes this operator as the holder, unless the Lease was changed meanwhile.
    async fn write(&self, mut lease: Lease) -> Result<Held, kube::Error> {
        lease.spec = Some(self.spec(lease.spec.as_ref()));
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(_) => Ok(Held::Mine),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let lease = self.api.get(&self.name).await?;
                Ok(self.held(&lease))
            }
            Err(error) => Err(error),
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = before.is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LENGTH.as_secs() as i32),
            acquire_time: before
                .filter(|_| mine)
                .and_then(|spec| spec.acquire_time.clone())
                .or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions + i32::from(!mine)),
            ..LeaseSpec::default()
        }
    }

    fn held(&self, lease: &Lease) -> Held {
        let spec = lease.spec.as_ref();
        match spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()) {
            None => Held::Free,
            Some(holder) if holder == self.identity => Held::Mine,
            Some(holder) => {
                let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
                Held::Other { holder, renewed }
            }
        }
    }
}

/// How long an attempt to renew may take, so long after the last that succeeded: no attempt lasts until
/// another operator may take the Lease.
fn attempt(since: Duration) -> Duration {
    PATIENCE.min(GIVE_UP.saturating_sub(since))
}

/// How soon to try again after an attempt failed; at once means never.
fn retry(since: Duration) -> Duration {
    RETRY.min(GIVE_UP.saturating_sub(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_cannot_renew_ends_before_another_takes_over() {
        // Whatever part of its time each attempt takes.
        for taken in 1..=10 {
            let mut since = RENEW;
            loop {
                since += attempt(since) * taken / 10;
                let pause = retry(since);
                if pause.is_zero() {
                    break;
                }
                since += pause;
            }
            // The Lease may have been written that long before it was known to be.
            assert!(since >= GIVE_UP && since + PATIENCE <= LENGTH, "{since:?}");
        }
    }
}
