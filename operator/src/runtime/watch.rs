//! One watch: what it tells is kept in a cache, and said to whoever acts on it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{StreamExt, TryStreamExt};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

/// What a watch tells of an object.
pub enum News<K> {
    /// It is there, or changed.
    There(K),
    /// It is gone.
    Gone(K),
    /// All that are there are told anew.
    Anew,
}

/// What mattered of each object when it was last seen, as a hash.
pub struct Seen<T>(Mutex<HashMap<T, u64>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Eq + Hash> Seen<T> {
    /// The name of an object that came, went, or of which something that matters is other than before.
    pub fn turned<K, H: Hash>(
        &self,
        news: &News<K>,
        name: impl Fn(&K) -> T,
        matters: impl Fn(&K) -> H,
    ) -> Option<T> {
        let mut seen = self.0.lock();
        match news {
            News::There(object) => {
                let mut hasher = DefaultHasher::new();
                matters(object).hash(&mut hasher);
                let (name, now) = (name(object), hasher.finish());
                (seen.insert(name.clone(), now) != Some(now)).then_some(name)
            }
            News::Gone(object) => {
                let name = name(object);
                seen.remove(&name);
                Some(name)
            }
            // Those that went meanwhile are not told, and must not be kept for ever.
            News::Anew => {
                seen.clear();
                None
            }
        }
    }
}

/// Watches a kind, in a task that should not end. `slim` takes away what nobody reads; `each` is told the news.
pub fn keep_each<K, F>(
    tasks: &mut JoinSet<()>,
    api: Api<K>,
    config: watcher::Config,
    slim: fn(&mut K),
    each: impl Fn(News<K>) -> F + Send + Sync + 'static,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let (store, writer) = reflector::store();
    let objects = watcher(api, config)
        .default_backoff()
        .modify(move |object| {
            object.managed_fields_mut().clear();
            slim(object);
        })
        .reflect(writer);
    tasks.spawn(async move {
        objects
            .inspect_err(|error| tracing::warn!(%error, kind = %K::kind(&()), "a watch was interrupted"))
            .for_each(async |event| match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    each(News::There(object)).await;
                }
                Ok(watcher::Event::Delete(object)) => each(News::Gone(object)).await,
                Ok(watcher::Event::Init) => each(News::Anew).await,
                Ok(watcher::Event::InitDone) | Err(_) => {}
            })
            .await;
    });
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(seen: &Seen<&'static str>, news: &News<(&'static str, u8)>) -> bool {
        seen.turned(news, |object| object.0, |object| object.1).is_some()
    }

    #[test]
    fn what_matters_is_told_once_and_nothing_is_kept_of_what_is_gone() {
        let seen = Seen::default();
        assert!(turned(&seen, &News::There(("a", 1))), "it came");
        assert!(!turned(&seen, &News::There(("a", 1))));
        assert!(turned(&seen, &News::There(("a", 2))));
        assert!(turned(&seen, &News::Gone(("a", 2))));
        assert!(seen.0.lock().is_empty());
        turned(&seen, &News::There(("b", 1)));
        // It may go while the watch is interrupted, and is never told of then.
        assert!(!turned(&seen, &News::Anew));
        assert!(seen.0.lock().is_empty());
    }
}
