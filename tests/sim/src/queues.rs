//! Queues in a world: in most worlds they keep little, so that entries are moved, dropped and missed all the time, and
//! the checker that holds what is kept, and every reset, against what the devices had and the retention allows.

use std::collections::BTreeMap;

use hongyan_protocol::wire::{self, ResetCause};
use hongyan_relay::core::queue::QueueConfig;
use hongyan_relay::core::{ConnectionId, CoreConfig};
use hongyan_relay::store::{Batch, Table};

use crate::chance::Chance;
use crate::faults::Fault;
use crate::truth;
use crate::world::World;

/// Longer than a world lives.
const FOR_EVER_MS: u64 = 90 * 24 * 3_600_000;

/// More than a world's queue ever has.
const MANY_BYTES: u64 = 1_000_000;

/// How much this world's queues keep.
pub(crate) struct QueueShape(QueueConfig);

/// A commit that tends queues.
pub(crate) struct Tended {
    /// Whose, up to where each was dropped before, and which devices there were, each when last seen: others came when it
    /// was decided.
    users: BTreeMap<String, (u64, BTreeMap<String, u64>)>,
    /// The latest that the relay's clock said while it was made.
    time: u64,
}

impl QueueShape {
    /// In most worlds it is little.
    pub(crate) fn of(seed: u64) -> Option<Self> {
        let mut chance = Chance::new(seed, 4);
        chance.percent(70).then(|| {
            Self(QueueConfig {
                capacity: *chance.pick(&[1, 3, 8]),
                segment_entries: *chance.pick(&[1, 2, 5, 8]),
                retention_ms: chance.weighted(&[(3, FOR_EVER_MS), (1, 60_000)]),
                retention_entries_max: chance.weighted(&[(3, 1_000_000), (1, 25), (1, 8)]),
                retention_bytes_max: chance.weighted(&[(3, MANY_BYTES), (1, 800)]),
                device_expiry_ms: chance.weighted(&[(1, FOR_EVER_MS), (1, 120_000), (1, 20_000)]),
                sweep_interval_ms: *chance.pick(&[1_000, 10_000, 60_000]),
            })
        })
    }

    pub(crate) fn configure(&self, config: &mut CoreConfig) {
        config.queue = self.0.clone();
    }
}

impl World {
    /// The relay gives a commit away.
    pub(crate) fn watch_tending(&mut self, batch: &Batch) {
        let mut users = BTreeMap::new();
        for (table, key, value) in &batch.changes {
            let is_moved = *table == Table::Overflow && value.is_some();
            if is_moved {
                self.mattered(Fault::Overflow);
            }
            if is_moved || (matches!(table, Table::Queue | Table::Overflow) && value.is_none()) {
                let user = key.split(|byte| *byte == 0).next().unwrap_or_default();
                let user = String::from_utf8_lossy(user).into_owned();
                let before = self.relay.store.look(|tables| {
                    let devices =
                        truth::cursors(tables, &user).into_iter().map(|(device, _, seen)| (device, seen));
                    (truth::first_kept(tables, &user).saturating_sub(1), devices.collect())
                });
                users.insert(user, before);
            }
        }
        for (user, told) in std::mem::take(&mut self.relay.resets) {
            if !users.contains_key(&user) {
                return self.broke("R3", told, "a reset, and nothing of it is dropped");
            }
        }
        let time = std::mem::take(&mut self.relay.latest);
        self.relay.tended = Some(Tended { users, time }).filter(|tended| !tended.users.is_empty());
    }

    /// Such a commit is durable, maybe after the relay was killed: the queues hold what they held, without what may be
    /// dropped.
    pub(crate) fn judge_tended(&mut self) {
        let Some(Tended { users, time }) = self.relay.tended.take() else { return };
        for (user, before) in users {
            let (kept, brought) = self.relay.store.look(|tables| {
                let kept = truth::kept(tables, &user);
                let after = kept.first().map_or(0, |entry| entry.pos.saturating_sub(1));
                (kept, truth::queue(tables, &user, after).collect::<Vec<_>>())
            });
            if kept != brought {
                let at = kept.iter().zip(&brought).position(|(one, other)| one != other);
                let at = at.unwrap_or(kept.len().min(brought.len()));
                return self.broke(
                    "R2",
                    format!("{user}'s queue keeps what commits brought: {:?}", brought.get(at)),
                    format!("{:?} in {} entries", kept.get(at), kept.len()),
                );
            }
            self.judge_dropped(&user, &before, time);
        }
    }

    /// What an active device lacks is dropped only when the retention ends.
    fn judge_dropped(&mut self, user: &str, before: &(u64, BTreeMap<String, u64>), time: u64) {
        let queue = self.relay.config.queue.clone();
        let (dropped, head, cursors, made) = self.relay.store.look(|tables| {
            let dropped = truth::first_kept(tables, user).saturating_sub(1);
            let cursors: Vec<_> = truth::cursors(tables, user)
                .into_iter()
                .map(|(device, cursor, _)| (device, cursor))
                .collect();
            (dropped, truth::head(tables, user), cursors, truth::made_at(tables, user, dropped))
        });
        if dropped <= before.0 {
            return;
        }
        self.mattered(Fault::Trimmed);
        let is_active = |seen: u64| seen.saturating_add(queue.device_expiry_ms) > time;
        let mut holders = cursors.into_iter().filter_map(|(device, cursor)| {
            let seen = before.1.get(&device).copied().filter(|seen| is_active(*seen))?;
            (cursor < dropped).then_some((cursor, seen))
        });
        let holder = holders.next();
        let is_over = made.saturating_add(queue.retention_ms) <= time
            || head.saturating_sub(dropped) >= queue.retention_entries_max
            // How many bytes they were nobody knows any more.
            || queue.retention_bytes_max < MANY_BYTES;
        if let Some((cursor, seen)) = holder.filter(|_| !is_over) {
            self.broke(
                "R3",
                format!("{user}'s queue keeps what an active device (at {cursor}, seen at {seen}) lacks"),
                format!("at {time} it is dropped up to {dropped} of {head}"),
            );
        }
    }

    /// The relay tells a device that its queue can't be continued.
    pub(crate) fn watch_reset(&mut self, id: ConnectionId, user: &str, reset: &wire::Reset) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (sent, cursor) = link.window;
        link.window = (reset.pos, reset.pos);
        let (first, head) =
            self.relay.store.look(|tables| (truth::first_kept(tables, user), truth::head(tables, user)));
        let is_dropped = cursor + 1 < first;
        let is_right = match reset.cause() {
            ResetCause::CursorExpired => {
                self.mattered(Fault::Expired);
                // What was sent to a new device need not be acknowledged yet.
                is_dropped && sent > 0
            }
            ResetCause::NewDevice => {
                self.mattered(Fault::NewDevice);
                cursor == 0 && (is_dropped || head > self.relay.config.queue.capacity)
            }
            _ => true,
        };
        if is_right || self.relay.tended.as_ref().is_some_and(|tended| tended.users.contains_key(user)) {
            return;
        }
        // Then the commit that gathers drops it.
        let told = format!("{user} at {cursor} is told the queue, which is kept from {first} to {head}");
        self.relay.resets.push((user.to_owned(), told));
    }
}
