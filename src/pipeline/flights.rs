//! Which compiles are under way: one action is compiled once, however many ask (NET-03).
//!
//! Whoever comes first leads; the others follow, hold no thread and poll nothing. A leader
//! that is gone, by whatever path, has landed: its guard sees to that, and the first follower
//! to look again leads in its place.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// How a leader's flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// Its result is in the store.
    Stored,
    /// It ran, and there is nothing to be had of it. Followers need not queue for the same.
    NotStored,
    /// It never came to an end: another one may lead.
    Gone,
}

type Signal = watch::Receiver<Option<Landing>>;

/// The flights, by key.
#[derive(Debug)]
pub(super) struct Flights<K: Eq + Hash> {
    table: Arc<Mutex<HashMap<K, Signal>>>,
}

/// What a call is to do about a key.
#[derive(Debug)]
pub(super) enum Boarding<K: Eq + Hash> {
    /// Compile.
    Lead(Lead<K>),
    /// Wait for the one who does.
    Follow(Follower),
}

/// The right and the duty to compile. Dropping it lands as [`Landing::Gone`].
#[derive(Debug)]
pub(super) struct Lead<K: Eq + Hash> {
    key: Option<K>,
    table: Arc<Mutex<HashMap<K, Signal>>>,
    landed: watch::Sender<Option<Landing>>,
}

/// Somebody who waits.
#[derive(Debug)]
pub struct Follower(Signal);

impl<K: Eq + Hash> Default for Flights<K> {
    fn default() -> Self {
        Flights { table: Arc::default() }
    }
}

impl<K: Clone + Eq + Hash> Flights<K> {
    /// Leads if nobody does.
    pub(super) fn board(&self, key: &K) -> Boarding<K> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signal) = table.get(key) {
            return Boarding::Follow(Follower(signal.clone()));
        }
        let (landed, signal) = watch::channel(None);
        table.insert(key.clone(), signal);
        Boarding::Lead(Lead { key: Some(key.clone()), table: Arc::clone(&self.table), landed })
    }

    /// Follows whoever leads, if anybody does.
    pub(super) fn follow(&self, key: &K) -> Option<Follower> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(key).map(|signal| Follower(signal.clone()))
    }
}

impl<K: Eq + Hash> Lead<K> {
    /// It is over.
    pub(super) fn land(mut self, landing: Landing) {
        self.leave(landing);
    }

    /// Out of the table first: a follower that wakes and looks again must not find this one.
    fn leave(&mut self, landing: Landing) {
        if let Some(key) = self.key.take() {
            self.table.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            self.landed.send_replace(Some(landing));
        }
    }
}

impl<K: Eq + Hash> Drop for Lead<K> {
    fn drop(&mut self) {
        self.leave(Landing::Gone);
    }
}

impl Follower {
    /// How it ended, as soon as it has.
    pub async fn landed(mut self) -> Landing {
        match self.0.wait_for(Option::is_some).await {
            Ok(landing) => landing.unwrap_or(Landing::Gone),
            Err(_) => Landing::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(flights: &Flights<u8>, key: u8) -> Lead<u8> {
        match flights.board(&key) {
            Boarding::Lead(lead) => lead,
            Boarding::Follow(_) => panic!("somebody leads"),
        }
    }

    fn follow(flights: &Flights<u8>, key: u8) -> Follower {
        match flights.board(&key) {
            Boarding::Follow(follower) => follower,
            Boarding::Lead(_) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn net_03_one_leads_and_the_others_follow() {
        let flights = Flights::default();
        let first = lead(&flights, 1);
        let others = [follow(&flights, 1), follow(&flights, 1)];
        let _another_key = lead(&flights, 2);
        first.land(Landing::Stored);
        for other in others {
            assert_eq!(other.landed().await, Landing::Stored);
        }
        lead(&flights, 1).land(Landing::NotStored);
    }

    #[tokio::test]
    async fn net_03_a_leader_that_is_gone_is_replaced() {
        let flights = Flights::default();
        let first = lead(&flights, 1);
        let (second, third) = (follow(&flights, 1), follow(&flights, 1));
        drop(first);
        assert_eq!(second.landed().await, Landing::Gone);
        let heir = lead(&flights, 1);
        assert_eq!(third.landed().await, Landing::Gone, "it looks again and finds the heir");
        let third = follow(&flights, 1);
        heir.land(Landing::Stored);
        assert_eq!(third.landed().await, Landing::Stored);
    }
}
