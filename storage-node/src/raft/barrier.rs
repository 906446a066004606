//! Reads that wait together: one barrier serves all that were waiting when it began, and
//! none that came later.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Runs one check at a time for many that wait for it.
pub struct SharedBarrier<E> {
    state: Arc<Mutex<State<E>>>,
}

struct State<E> {
    waiting: Vec<oneshot::Sender<Result<(), E>>>,
    running: bool,
}

impl<E> Default for SharedBarrier<E> {
    fn default() -> Self {
        Self { state: Arc::new(Mutex::new(State { waiting: Vec::new(), running: false })) }
    }
}

impl<E: Clone + Send + 'static> SharedBarrier<E> {
    /// Waits for a check that begins after this call. None: the check never came to an end.
    pub async fn pass<F>(&self, check: impl Fn() -> F + Send + 'static) -> Option<Result<(), E>>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (passed, answer) = oneshot::channel();
        let begin = {
            let mut state = self.state.lock();
            state.waiting.push(passed);
            !std::mem::replace(&mut state.running, true)
        };
        if begin {
            // On a task of its own: whoever began it may give up, and others wait for it.
            tokio::spawn(run(Arc::clone(&self.state), check));
        }
        answer.await.ok()
    }
}

async fn run<E: Clone, F: Future<Output = Result<(), E>>>(
    state: Arc<Mutex<State<E>>>,
    check: impl Fn() -> F,
) {
    loop {
        let waiting = {
            let mut state = state.lock();
            if state.waiting.is_empty() {
                state.running = false;
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        let outcome = check().await;
        for passed in waiting {
            let _ = passed.send(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_share_a_check_that_began_after_they_came() {
        let barrier = Arc::new(SharedBarrier::<()>::default());
        let checks = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let pass = || {
            let (barrier, checks, gate) = (Arc::clone(&barrier), Arc::clone(&checks), Arc::clone(&gate));
            tokio::spawn(async move {
                let check = move || {
                    let (checks, gate) = (Arc::clone(&checks), Arc::clone(&gate));
                    async move {
                        checks.fetch_add(1, Ordering::SeqCst);
                        gate.acquire().await.unwrap().forget();
                        Ok(())
                    }
                };
                barrier.pass(check).await
            })
        };
        let first = pass();
        while checks.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (0..10).map(|_| pass()).collect();
        while barrier.state.lock().waiting.len() < 10 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        assert_eq!(first.await.unwrap(), Some(Ok(())));
        assert!(later.iter().all(|waiting| !waiting.is_finished()));
        gate.add_permits(1);
        for waiting in later {
            assert_eq!(waiting.await.unwrap(), Some(Ok(())));
        }
        assert_eq!(checks.load(Ordering::SeqCst), 2);
    }
}
