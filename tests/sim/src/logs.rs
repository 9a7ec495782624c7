//! Groups that come by their logs in a world: in most worlds few members are enough for that, so that groups change over
//! all the time, both ways; and the checker of what devices are told of them.
//!
//! Here a group's messages may come two ways, so they are held against the group's log instead of the queue: each
//! message that was written while the user was a member is told once and in the log's order.

use hongyan_client::view::Message;
use hongyan_protocol::wire;
use hongyan_protocol::{ConversationId, ConversationKind};
use hongyan_relay::core::queries::{GroupQuery, Query, QueryId};
use hongyan_relay::core::queue::Diffusion;
use hongyan_relay::core::{ConnectionId, CoreConfig, Input};
use hongyan_relay::store::Table;

use crate::chance::Chance;
use crate::faults::Fault;
use crate::truth;
use crate::world::World;

/// How many members make a group come by its log, and whether a push often finds no room.
pub(crate) struct LogShape {
    members: usize,
    tight: bool,
}

impl LogShape {
    /// In most worlds they are few.
    pub(crate) fn of(seed: u64) -> Option<Self> {
        let mut chance = Chance::new(seed, 5);
        chance.percent(60).then(|| Self { members: *chance.pick(&[1, 2, 3, 4]), tight: chance.percent(40) })
    }

    pub(crate) fn configure(&self, config: &mut CoreConfig) {
        config.diffusion.log_members = self.members;
        if self.tight {
            config.outgoing_bytes_target = 200;
        }
    }
}

impl World {
    /// In this world a group's messages may come by its log.
    pub(crate) fn is_by_logs(&self, conversation: &str) -> bool {
        self.shape.logs.is_some()
            && ConversationId::new(conversation).is_ok_and(|id| id.kind() == ConversationKind::Group)
    }

    /// The app's server says how a group's messages travel from now on.
    pub(crate) fn change_way(&mut self, group: ConversationId, chance: &mut Chance) {
        let way = *chance.pick(&[Diffusion::Auto, Diffusion::Copy, Diffusion::Reference, Diffusion::Log]);
        self.note(|| format!("{group} is to travel by {way:?}"));
        let query = Query::Group(group, GroupQuery::SetMode(way));
        self.connections += 1;
        self.relay_input(Input::Query(QueryId(self.connections), query));
    }

    /// The relay pushes messages of a group: they are durable, and for somebody who was or is a member.
    pub(crate) fn watch_told_log(&mut self, id: ConnectionId, user: &str, messages: &[wire::Message]) {
        for message in messages {
            let (id, seq, link) = (&message.conversation, message.seq, id);
            let told = self.links.get(&link).and_then(|link| link.changes.get(id)).copied().unwrap_or(0);
            let (is_stored, members, is_member) = self.relay.store.look(|tables| {
                let changes = truth::group_changes(tables, id);
                let is_member = truth::is_member(tables, id, user);
                // It goes as it was written, though it waits its turn and may be changed meanwhile: that is pushed after it.
                let is_stored = truth::states_since(tables, id, seq, told).next().as_ref() == Some(message)
                    && truth::states(tables, id, seq).next().as_ref() == Some(message);
                (is_stored, truth::members_at(&changes, seq), is_member)
            });
            if !is_stored {
                let happened = format!("{user} was told {seq}, {}", truth::text(message));
                return self.broke(
                    "R4",
                    format!("what is pushed of a log is durable, as it was written, before change {told}"),
                    happened,
                );
            }
            // Who joins may read the whole log.
            if !members.contains(user) && !is_member {
                return self.broke(
                    "R8",
                    format!("only members of {id} are told its message {seq}: {members:?}"),
                    format!("{user} was"),
                );
            }
        }
    }

    /// A push has come to a device.
    pub(crate) fn watch_log_came(&mut self, index: usize, messages: &[wire::Message]) {
        let Some(first) = messages.first() else { return };
        let told = ConversationId::new(&first.conversation).ok();
        let told = told.and_then(|id| self.devices[index].cache().log(&id));
        if told.is_some_and(|told| told + 1 < first.seq) {
            self.mattered(Fault::LogPushLost);
        }
    }

    /// A page of history has come to a device.
    pub(crate) fn watch_page_came(&mut self, index: usize, page: &wire::HistoryPage) {
        let told = ConversationId::new(&page.conversation).ok();
        let told = told.and_then(|id| self.devices[index].cache().log(&id));
        if page.messages.first().is_some_and(|first| told == Some(first.seq - 1)) {
            self.mattered(Fault::LogPulled);
        }
    }

    /// Promises R2 and R5 for a group: the next message of its log, and no other.
    pub(crate) fn watch_group_message(&mut self, index: usize, message: &Message) {
        let (id, seq) = (message.conversation.as_str().to_owned(), message.seq.map_or(0, |seq| seq.0));
        let text = &message.content.text;
        let is_there = |tables: &crate::disk::Tables| truth::said(tables, &id, seq, text);
        if !self.relay.store.look(is_there) && !self.archive.values().any(is_there) {
            return self.broke(
                "R4",
                format!("device {index} is told message {seq} of {id} as its log has it"),
                format!("it is told {text}"),
            );
        }
        let user = self.devices[index].user.as_str().to_owned();
        let before = self.devices[index].told.logs.insert(id.clone(), seq);
        let Some(before) = before else { return };
        if seq <= before {
            return self.broke(
                "R2",
                format!("after message {before} of {id} device {index} of {user} is told a later one"),
                format!("it is told {seq}"),
            );
        }
        // Who left a group and came again has nothing of the time between, nor what she had not pulled when she left.
        let epoch = self.devices[index].cache().meta().epoch;
        let missed = self.with_tables(&epoch, |tables| {
            let changes = truth::group_changes(tables, &id);
            let left = changes.iter().any(|change| {
                let gone =
                    [wire::GroupChangeKind::Removed, wire::GroupChangeKind::Left].contains(&change.kind());
                gone && change.users.contains(&user) && (before..seq).contains(&change.last_seq)
            });
            (before + 1..seq).find(|at| {
                !left
                    && truth::members_at(&changes, *at).contains(&user)
                    && !truth::is_withheld(tables, &id, *at, &user)
            })
        });
        if let Some(Some(missed)) = missed {
            self.broke(
                "R2",
                format!("after message {before} of {id} device {index} of {user} is told {missed}"),
                format!("it is told {seq}"),
            );
        }
    }

    /// An application is told that some messages are not told one by one: only to who has left, so few there are here.
    pub(crate) fn watch_log_gap(&mut self, index: usize, conversation: &str, after: u64, before: u64) {
        let device = &mut self.devices[index];
        device.told.logs.remove(conversation);
        let (user, epoch) = (device.user.as_str().to_owned(), device.cache().meta().epoch);
        let has_left = self.with_tables(&epoch, |tables| {
            truth::left_after(tables, conversation, &user, before.saturating_sub(1))
        });
        if has_left == Some(false) {
            self.broke(
                "R2",
                format!("device {index} is told each message of {conversation}"),
                format!("those between {after} and {before} are left out"),
            );
        }
    }

    /// A device has been told all of the groups that come by their logs to it.
    pub(crate) fn logs_are_told(&self, index: usize) -> bool {
        let device = &self.devices[index];
        self.relay.store.look(|tables| {
            let memberships = truth::memberships(tables, device.user.as_str());
            memberships.iter().filter(|(_, membership)| membership.left == 0).all(|(id, _)| {
                let known = ConversationId::new(id).ok().and_then(|id| device.cache().log(&id));
                let is_by_log =
                    tables.get(&Table::Logs).is_some_and(|rows| rows.contains_key(&truth::prefix(id)[..]));
                match known {
                    Some(told) => told == truth::log_head(tables, id),
                    None => !is_by_log,
                }
            })
        })
    }
}
