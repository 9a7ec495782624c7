//! Users in memory: the heads of their queues, who of them is connected, and what they used of their rates.
//!
//! A queue has two heads. `assigned` is the last position given out; `durable` the last whose commit has ended, and
//! the only one that anybody is told. They differ only while a commit is gathering or under way, and a user with
//! such a commit is never evicted: so what is read from the store for an unknown user is durable.

use std::collections::BTreeSet;

use hongyan_protocol::{Pos, UserId};

use super::commit::{Commits, Mark};
use super::hot::Hot;
use super::io::ConnectionId;
use super::limits::{EVICTION_STEPS, IDLE_USERS_MAX};
use super::queue::read::end_row;
use super::rate::Usage;
use super::records::{number_of, prefix, prefix_end};
use crate::store::{Order, Store, StoreError, Table};

pub(super) struct User {
    pub(super) durable: Pos,
    pub(super) assigned: Pos,
    /// Where its hot part begins, or before that.
    pub(super) hot_first: Pos,
    /// Bytes of all rows that were ever written there.
    pub(super) hot_bytes: u64,
    /// The last commit with an entry of this queue.
    pub(super) commit: Mark,
    pub(super) connections: BTreeSet<ConnectionId>,
    pub(super) sends: Usage,
    pub(super) requests: Usage,
    pub(super) profiles: Usage,
}

pub(super) struct Users {
    hot: Hot<UserId, User>,
    /// How many of them are connected.
    connected: usize,
}

impl Users {
    pub(super) fn new() -> Self {
        Self { hot: Hot::new(), connected: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.hot.len()
    }

    pub(super) fn get(&self, user: &UserId) -> Option<&User> {
        self.hot.get(user)
    }

    pub(super) fn get_mut(&mut self, user: &UserId) -> Option<&mut User> {
        self.hot.get_mut(user)
    }

    /// The user, read from the store when not in memory.
    pub(super) fn load(&mut self, store: &impl Store, user: &UserId) -> Result<(), StoreError> {
        if self.hot.get_mut(user).is_some() {
            return Ok(());
        }
        let newest = end_row(store, Table::Queue, user, Order::Descending)?;
        let (head, hot, hot_bytes) =
            newest.map_or((Pos::ZERO, 0, 0), |(row, len)| (row.last, row.hot, row.bytes.saturating_add(len)));
        let loaded = User {
            durable: head,
            assigned: head,
            hot_first: Pos(head.0.saturating_sub(hot)).next(),
            hot_bytes,
            commit: Mark::NONE,
            connections: BTreeSet::new(),
            sends: Usage::default(),
            requests: Usage::default(),
            profiles: Usage::default(),
        };
        self.hot.insert(user.clone(), 1, loaded);
        Ok(())
    }

    pub(super) fn connect(&mut self, user: &UserId, connection: ConnectionId) {
        if let Some(user) = self.hot.get_mut(user)
            && user.connections.insert(connection)
            && user.connections.len() == 1
        {
            self.connected += 1;
        }
    }

    pub(super) fn disconnect(&mut self, user: &UserId, connection: ConnectionId) {
        if let Some(user) = self.hot.get_mut(user)
            && user.connections.remove(&connection)
            && user.connections.is_empty()
        {
            self.connected -= 1;
        }
    }

    pub(super) fn evict(&mut self, commits: &Commits) {
        let len_max = IDLE_USERS_MAX + self.connected;
        self.hot.evict(
            EVICTION_STEPS,
            |len, _| len > len_max,
            |user| !user.connections.is_empty() || !commits.is_durable(user.commit),
        );
    }
}

/// The number of the last key that begins with this id, 0 when there is none.
pub(super) fn last_number(store: &impl Store, table: Table, id: &str) -> Result<u64, StoreError> {
    let mut last = Ok(0);
    store.scan(table, &prefix(id), &prefix_end(id), Order::Descending, &mut |key, _| {
        last = number_of(key);
        false
    })?;
    last
}
