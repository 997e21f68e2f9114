//! Asks remotes in their order, and the next one as well where one is slow.

use std::sync::Arc;

use tokio::task::{Id, JoinError, JoinSet};

use crate::remote::AskedRemote;

/// Asks remotes in their order until one of them has the result, and returns whether one has. The next one is asked
/// when the one before it has no usable result, and also when a request to it takes longer than a healthy one does.
/// Then both go on, and the first usable result wins; the requests to the others are given up.
pub(super) async fn ask_in_order<F>(
    remotes: &[Arc<AskedRemote>],
    fetch: impl Fn(&Arc<AskedRemote>) -> F,
) -> bool
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut running = JoinSet::new();
    for remote in remotes {
        let newest = running.spawn(fetch(remote)).id();
        loop {
            tokio::select! {
                biased;
                Some(ended) = running.join_next_with_id() => match outcome(ended) {
                    (_, true) => return true,
                    (id, false) if id == newest => break,
                    // It was slow, and the next one is asked already.
                    (_, false) => {}
                },
                () = remote.slow() => break,
            }
        }
    }
    while let Some(ended) = running.join_next_with_id().await {
        if outcome(ended).1 {
            return true;
        }
    }
    false
}

fn outcome(ended: Result<(Id, bool), JoinError>) -> (Id, bool) {
    ended.unwrap_or_else(|error| (error.id(), false))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kache_cas::DigestFunction;
    use kache_remote::memory::MemoryRemote;
    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;
    use crate::remote::{AnswerLimits, RemoteConnections, RemoteHandle, RemoteUses};

    /// What a remote does: it answers after this time, and has the result or not.
    type Behaviour = (u64, bool);

    /// Asks remotes of these behaviours. Returns the outcome, the time that it took, and the remotes that were
    /// asked with the times.
    async fn ask(behaviours: &[Behaviour]) -> (bool, u64, Vec<(String, u64)>) {
        let session = Arc::default();
        let remotes: Vec<_> = (0..behaviours.len())
            .map(|index| {
                let memory = Arc::new(MemoryRemote::new(DigestFunction::Sha256));
                let connections = RemoteConnections { reader: memory.clone(), writer: memory };
                let limits = AnswerLimits::default();
                let handle =
                    RemoteHandle::new(connections, index.to_string(), RemoteUses::READ_WRITE, limits);
                Arc::new(AskedRemote::new(&handle, &session))
            })
            .collect();
        let begun = Instant::now();
        let ms = move || u64::try_from(begun.elapsed().as_millis()).unwrap();
        let asked = Arc::<Mutex<Vec<(String, u64)>>>::default();
        let outcome = ask_in_order(&remotes, |remote| {
            let name = remote.handle().name.clone();
            let (time, has) = behaviours[name.parse::<usize>().unwrap()];
            asked.lock().push((name, ms()));
            let remote = Arc::clone(remote);
            async move {
                let answer = async {
                    tokio::time::sleep(Duration::from_millis(time)).await;
                    Ok(has)
                };
                remote.lookup(answer).await.unwrap_or(false)
            }
        });
        let outcome = outcome.await;
        let asked = asked.lock().clone();
        (outcome, ms(), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_remote_is_asked_when_one_has_nothing_or_is_slow() {
        let at = |index: usize, ms: u64| (index.to_string(), ms);
        assert_eq!(ask(&[]).await, (false, 0, vec![]));
        assert_eq!(ask(&[(20, true), (20, true)]).await, (true, 20, vec![at(0, 0)]));
        let one_after_the_other = vec![at(0, 0), at(1, 20)];
        assert_eq!(ask(&[(20, false), (30, true)]).await, (true, 50, one_after_the_other.clone()));
        assert_eq!(ask(&[(20, false), (30, false)]).await, (false, 50, one_after_the_other));
        // The first one hangs. The others do not wait for its time limit of 250 ms.
        let slow = vec![at(0, 0), at(1, 125), at(2, 145)];
        assert_eq!(ask(&[(9000, true), (20, false), (30, true)]).await, (true, 175, slow));
        // The slow one wins after all.
        assert_eq!(ask(&[(130, true), (20, true)]).await, (true, 130, vec![at(0, 0), at(1, 125)]));
        // The slow one has nothing, which does not hurry the second one.
        let patient = vec![at(0, 0), at(1, 125), at(2, 225)];
        assert_eq!(ask(&[(150, false), (100, false), (1, true)]).await, (true, 226, patient));
    }
}
