//! Which compiles are under way: one action is compiled once, however many ask (NET-03).
//!
//! Whoever comes first leads; the others follow, hold no thread and poll nothing. A leader
//! that is gone, by whatever path, has landed: its guard sees to that, and the first follower
//! to look again leads in its place.
//!
//! Several may lead under one key: calls whose arguments are the same and whose sources are
//! not, as far as the leader knows. Whoever comes judges by what each leader says of itself
//! whether to follow it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// One of those under way.
#[derive(Clone, Debug)]
struct Flight<T> {
    /// Counts up: a later one has a higher number.
    number: u64,
    /// What its leader says of itself.
    about: T,
    signal: Signal,
}

#[derive(Debug)]
struct Table<K, T> {
    flights: HashMap<K, Vec<Flight<T>>>,
    last: u64,
}

/// The flights, by key.
#[derive(Debug)]
pub(super) struct Flights<K, T = ()> {
    table: Arc<Mutex<Table<K, T>>>,
}

/// What a call is to do about a key.
#[derive(Debug)]
pub(super) enum Boarding<K: Eq + Hash, T = ()> {
    /// Compile.
    Lead(Lead<K, T>),
    /// Wait for the one who does.
    Follow(Follower),
}

/// The right and the duty to compile. Dropping it lands as [`Landing::Gone`].
#[derive(Debug)]
pub(super) struct Lead<K: Eq + Hash, T = ()> {
    key: Option<K>,
    number: u64,
    table: Arc<Mutex<Table<K, T>>>,
    landed: watch::Sender<Option<Landing>>,
}

/// Somebody who waits.
#[derive(Debug)]
pub struct Follower(Signal);

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Flights { table: Arc::new(Mutex::new(Table { flights: HashMap::new(), last: 0 })) }
    }
}

impl<K: Clone + Eq + Hash> Flights<K> {
    /// Leads if nobody does.
    pub(super) fn board(&self, key: &K) -> Boarding<K> {
        self.board_if(key, (), |()| true)
    }

    /// Follows whoever leads, if anybody does.
    pub(super) fn follow(&self, key: &K) -> Option<Follower> {
        let table = lock(&self.table);
        table.flights.get(key)?.first().map(|flight| Follower(flight.signal.clone()))
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Flights<K, T> {
    /// Follows the first leader that `is_same` recognises, else leads. The judgement may take
    /// its time: nobody waits for it, and whoever has boarded meanwhile is judged as well.
    pub(super) fn board_if(&self, key: &K, about: T, mut is_same: impl FnMut(&T) -> bool) -> Boarding<K, T> {
        let mut judged = 0;
        loop {
            let unjudged: Vec<Flight<T>> = {
                let mut table = lock(&self.table);
                let of_key = table.flights.get(key).into_iter().flatten();
                let unjudged: Vec<_> = of_key.filter(|flight| flight.number > judged).cloned().collect();
                if unjudged.is_empty() {
                    return Boarding::Lead(self.lead(&mut table, key, about));
                }
                unjudged
            };
            for flight in unjudged {
                if is_same(&flight.about) {
                    return Boarding::Follow(Follower(flight.signal));
                }
                judged = flight.number;
            }
        }
    }

    fn lead(&self, table: &mut Table<K, T>, key: &K, about: T) -> Lead<K, T> {
        let (landed, signal) = watch::channel(None);
        table.last += 1;
        let number = table.last;
        table.flights.entry(key.clone()).or_default().push(Flight { number, about, signal });
        Lead { key: Some(key.clone()), number, table: Arc::clone(&self.table), landed }
    }
}

impl<K: Eq + Hash, T> Lead<K, T> {
    /// It is over.
    pub(super) fn land(mut self, landing: Landing) {
        self.leave(landing);
    }

    /// Out of the table first: a follower that wakes and looks again must not find this one.
    fn leave(&mut self, landing: Landing) {
        let Some(key) = self.key.take() else { return };
        {
            let mut table = lock(&self.table);
            if let Some(flights) = table.flights.get_mut(&key) {
                flights.retain(|flight| flight.number != self.number);
                if flights.is_empty() {
                    table.flights.remove(&key);
                }
            }
        }
        self.landed.send_replace(Some(landing));
    }
}

impl<K: Eq + Hash, T> Drop for Lead<K, T> {
    fn drop(&mut self) {
        self.leave(Landing::Gone);
    }
}

/// Entries are whole at any moment; a panic elsewhere does not spoil them.
fn lock<K, T>(table: &Mutex<Table<K, T>>) -> MutexGuard<'_, Table<K, T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn net_03_those_who_differ_from_a_leader_lead_themselves() {
        let flights = Flights::<u8, &str>::default();
        let board = |about: &'static str| flights.board_if(&1, about, |leader| *leader == about);
        let (Boarding::Lead(one), Boarding::Lead(two)) = (board("one"), board("two")) else {
            panic!("nobody waits for something else")
        };
        let (Boarding::Follow(of_one), Boarding::Follow(of_two)) = (board("one"), board("two")) else {
            panic!("somebody leads")
        };
        two.land(Landing::Stored);
        assert_eq!(of_two.landed().await, Landing::Stored);
        let Boarding::Follow(again) = board("one") else { panic!("the first one still leads") };
        drop(one);
        assert_eq!((of_one.landed().await, again.landed().await), (Landing::Gone, Landing::Gone));
        assert!(matches!(board("one"), Boarding::Lead(_)));
    }

    #[test]
    fn net_03_whoever_boards_during_a_judgement_is_judged() {
        let flights = Flights::<u8, &str>::default();
        let _first = flights.board_if(&1, "first", |_| false);
        let mut second = None;
        let boarding = flights.board_if(&1, "third", |leader| {
            second.get_or_insert_with(|| flights.board_if(&1, "second", |_| false));
            *leader == "second"
        });
        assert!(matches!(boarding, Boarding::Follow(_)));
    }
}
