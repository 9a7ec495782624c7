//! The checker at the end: the faults have stopped, everybody came back, and the promises must hold for all that
//! anybody can see.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_client::HostEvent;
use hongyan_client::view::SessionStatus;
use hongyan_protocol::{Code, ConversationId, ConversationKind, wire};

use crate::device::Device;
use crate::ends::ENDS;
use crate::network::Link;
use crate::tabs::Browser;
use crate::truth;
use crate::world::World;

/// Longer than any back-off, silence bound and time-out together.
const QUIET_MS_MAX: u64 = 240_000;

impl World {
    /// Faults stop; everything that is down starts; everybody may reach everybody.
    pub(crate) fn heal(&mut self) {
        self.faulty = false;
        self.note(|| "the faults stop".into());
        self.relay.store.heal();
        (self.relay.commit_fails, self.relay.commit_takes_ms, self.relay.disk_full_until) = (false, 0, 0);
        self.relay.clock.offset_ms = 0;
        self.relay.clock.set_rate(self.now, 1_000);
        self.lift_policy();
        if !self.relay.is_up() {
            self.relay_starts();
        }
        for index in 0..self.devices.len() {
            let now = self.now;
            let device = &mut self.devices[index];
            device.clock.offset_ms = 0;
            device.clock.set_rate(now, 1_000);
            (device.crash_after, device.save_fails, device.provider_fails) = (None, false, 0);
            device.throttled_until = 0;
            if self.devices[index].browser.is_some() {
                self.tabs_heal(index);
            }
            self.device_starts(index);
            self.host(index, HostEvent::Network(true));
            self.host(index, HostEvent::Visible(true));
            self.app_heals(index);
        }
    }

    /// Waits for rest, then looks at everything.
    pub(crate) fn judge(&mut self) {
        let end = self.now + QUIET_MS_MAX;
        while self.breach.is_none() && !self.is_quiet() {
            if self.now > end {
                let restless = self.restless();
                return self.broke(
                    "R3",
                    "when faults stop, everybody comes to the head of his queue",
                    restless,
                );
            }
            self.pass(250);
            self.restart_the_stopped();
        }
        self.pass(1_500);
        self.look_around();
        self.look_at_ends();
        self.judge_presence();
        self.judge_tabs();
        let logs = self.relay.store.look(truth::logs);
        self.judge_queues(&logs);
        self.judge_sends(&logs);
        for index in 0..self.devices.len() {
            if self.breach.is_some() {
                return;
            }
            self.judge_told(index);
            self.judge_cached(index);
            self.judge_profiles(index);
            self.judge_lists(index, &logs);
        }
        self.judge_cold(&logs);
    }

    /// Without a relay every device opens with the list as it was, and with the newest messages, from its cache.
    fn judge_cold(&mut self, logs: &BTreeMap<String, Vec<wire::Message>>) {
        self.relay.stopped = true;
        self.crash_relay();
        self.pass(1_000);
        for index in 0..self.devices.len() {
            // What was kept in memory is gone, and the application was told so.
            if self.devices[index].memory.is_some() {
                continue;
            }
            let before = self.list(index);
            self.device_ends(index, true);
            self.device_starts(index);
            if self.devices[index].browser.is_some() {
                // A tab has to lead first.
                self.pass(200);
            }
            let lines = self.list(index);
            if self.breach.is_none() && lines != before {
                return self.broke(
                    "cache",
                    format!("device {index} opens with its list {before:?}"),
                    format!("{lines:?}"),
                );
            }
            for (id, ..) in lines {
                let Ok(id) = ConversationId::new(&id) else { continue };
                let (Some(log), ConversationKind::Direct) = (logs.get(id.as_str()), id.kind()) else {
                    continue;
                };
                let Some(page) = self.page(index, &id, None) else { return };
                let shown: Vec<_> = page.into_iter().filter_map(|message| Some(message.seq?.0)).collect();
                // After a reset the cache begins with the last message.
                let begins_late = self.devices[index].disk.from.1 > 0;
                let (head, most) = (log.len() as u64, log.len().min(50) as u64);
                let least = if begins_late { 1 } else { most };
                let count = shown.len() as u64;
                if count < least || shown != (head + 1 - count.min(head)..=head).collect::<Vec<_>>() {
                    return self.broke(
                        "cache",
                        format!("device {index} opens {id} with the newest {most} of {head}"),
                        format!("{shown:?}"),
                    );
                }
            }
        }
    }

    fn is_quiet(&self) -> bool {
        // A frame of a connection that is gone may still come in, and change something.
        let is_calm = |link: &Link| link.up.under_way == 0 || link.up.dead.is_some();
        self.relay.is_quiet()
            && self.all_profiles_are_told()
            && self.ends.is_quiet()
            && self.links.values().all(is_calm)
            && self.devices.iter().all(|device| {
                let head = self.relay.store.look(|tables| truth::head(tables, device.user.as_str()));
                let meta = device.cache().meta();
                let link = self.link_of(device.index).and_then(|id| self.links.get(&id));
                device.is_quiet()
                    && self.logs_are_told(device.index)
                    && self.changes_are_told(device.index)
                    && (meta.epoch.as_str(), meta.cursor) == (self.relay.epoch.as_str(), head)
                    && link.is_some_and(|link| link.at_relay == Some(self.relay.life) && link.is_alive())
                    && self.marks_are_told(device)
            })
    }

    /// The relay has every read mark that the device shows.
    fn marks_are_told(&self, device: &Device) -> bool {
        let memberships = self.relay.store.look(|tables| truth::memberships(tables, device.user.as_str()));
        device.told.lines.iter().all(|(id, (_, read, _))| {
            memberships.get(id).is_none_or(|membership| membership.left > 0 || membership.read_seq >= *read)
        })
    }

    fn restless(&self) -> String {
        let mut words = Vec::new();
        for device in &self.devices {
            let head = self.relay.store.look(|tables| truth::head(tables, device.user.as_str()));
            let cursor = device.cache().meta().cursor;
            if !device.is_quiet() || cursor != head {
                let state = device.client.as_ref().map(hongyan_client::Client::state);
                words.push(format!(
                    "device {} of {} is at {cursor} of {head}, {state:?}, asked {:?}, sending {:?}, {}",
                    device.index,
                    device.user,
                    device.asked,
                    device.told.sending,
                    device.browser.as_ref().map(Browser::waits).unwrap_or_default()
                ));
            }
        }
        for index in 0..self.devices.len() {
            if !self.logs_are_told(index) {
                let logs = self.devices[index].cache().logs();
                words.push(format!("device {index} is not told all of its groups' logs: {logs:?}"));
            }
        }
        for index in 0..self.devices.len() {
            if !self.changes_are_told(index) {
                let changes = self.devices[index].cache().changes();
                words.push(format!("device {index} is not told all changes of messages: {changes:?}"));
            }
        }
        if !self.all_profiles_are_told() {
            words.push("some are still to be told of a profile".into());
        }
        if !self.relay.is_quiet() {
            words.push("the relay is down or commits".into());
        }
        words.join("; ")
    }

    /// A client that was closed or logged out, or whose session was ended, is started again by its user. Nothing else
    /// may stop one.
    fn restart_the_stopped(&mut self) {
        for index in 0..self.devices.len() {
            let Some(client) = &self.devices[index].client else { continue };
            let state = client.state();
            if state.status == SessionStatus::Stopped && self.devices[index].saving.is_none() {
                let reason = state.reason.map(|error| error.code);
                let is_ended = self.shape.ends.is_some() && reason.is_some_and(|code| ENDS.contains(&code));
                if !is_ended && !matches!(reason, Some(Code::CLOSED | Code::LOGGED_OUT)) {
                    return self.broke(
                        "R3",
                        format!("device {index} goes on, because its user is in good standing"),
                        format!("it stopped for good: {reason:?}"),
                    );
                }
                self.device_ends(index, true);
                self.device_starts(index);
            }
        }
    }

    /// R2, R5, R8: each queue has each message of its user's conversations once and in the log's order, those of a
    /// group while he was in it and no others.
    fn judge_queues(&mut self, logs: &BTreeMap<String, Vec<wire::Message>>) {
        let mut expected: BTreeMap<String, BTreeMap<String, Vec<u64>>> = BTreeMap::new();
        for (conversation, log) in logs {
            if log.windows(2).any(|pair| pair[1].time < pair[0].time) {
                self.mattered(crate::faults::Fault::RelayClock);
            }
            let numbers: Vec<_> = log.iter().map(|message| message.seq).collect();
            if numbers != (1..=log.len() as u64).collect::<Vec<_>>() {
                return self.broke(
                    "R5",
                    format!("the log of {conversation} has no gaps"),
                    format!("{numbers:?}"),
                );
            }
            let direct = ConversationId::new(conversation).ok().and_then(|id| id.users());
            let changes = self.relay.store.look(|tables| truth::group_changes(tables, conversation));
            for message in log {
                let mut users = match &direct {
                    Some((one, other)) => BTreeSet::from([one.to_string(), other.to_string()]),
                    None => truth::members_at(&changes, message.seq),
                };
                // Of a group that comes by its log, only who is called has it in her queue.
                let is_called = |user: &String| message.mentions.contains(user);
                if direct.is_none() && !is_called(&message.from) && !self.has_queued(message) {
                    users.retain(is_called);
                }
                for user in users {
                    let queue = expected.entry(user).or_default();
                    queue.entry(conversation.clone()).or_default().push(message.seq);
                }
            }
        }
        for user in self.users() {
            let mut queued: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            let entries: Vec<_> =
                self.relay.store.look(|tables| truth::queue(tables, user.as_str(), 0).collect());
            for entry in entries {
                if let Some(seq) = entry.message {
                    queued.entry(entry.conversation).or_default().push(seq);
                }
            }
            let expected = expected.remove(user.as_str()).unwrap_or_default();
            if queued != expected {
                return self.broke(
                    "R8",
                    format!("{user}'s queue has the messages of {user}'s conversations: {expected:?}"),
                    format!("{queued:?}"),
                );
            }
        }
    }

    /// The sender has the message in her own queue.
    pub(crate) fn has_queued(&self, message: &wire::Message) -> bool {
        self.relay.store.look(|tables| {
            truth::queue(tables, &message.from, 0)
                .any(|entry| entry.conversation == message.conversation && entry.message == Some(message.seq))
        })
    }

    /// R4, R5, R6: what became of everything that anybody wrote.
    fn judge_sends(&mut self, logs: &BTreeMap<String, Vec<wire::Message>>) {
        let mut places: BTreeMap<String, (String, u64)> = BTreeMap::new();
        for (conversation, log) in logs {
            for message in log {
                let place = (conversation.clone(), message.seq);
                if let Some(other) = places.insert(truth::text(message), place.clone()) {
                    let text = truth::text(message);
                    return self.broke(
                        "R4",
                        format!("{text} is in the logs once"),
                        format!("at {other:?} and {place:?}"),
                    );
                }
            }
        }
        let mut last: BTreeMap<(usize, u64, String), (u32, u64)> = BTreeMap::new();
        let mut sends: Vec<_> = self.watch.sends.clone().into_iter().collect();
        sends.sort_by_key(|(_, sending)| (sending.device, sending.order));
        for (text, sending) in sends {
            let was_stale = self.devices[sending.device].was_stale;
            let Some((conversation, seq)) = places.get(&text) else {
                if sending.acknowledged && !sending.lost {
                    return self.broke("R4", format!("{text}, acknowledged, is in the log"), "it is in none");
                }
                if !sending.refused && !sending.unsure && !sending.lost {
                    return self.broke(
                        "R6",
                        format!("{text} is in the log or refused"),
                        format!("{sending:?}"),
                    );
                }
                continue;
            };
            if *conversation != sending.conversation {
                return self.broke(
                    "R4",
                    format!("{text} is in {}", sending.conversation),
                    conversation.as_str(),
                );
            }
            if sending.refused && !was_stale {
                return self.broke("R6", format!("{text}, refused, is in no log"), format!("it is at {seq}"));
            }
            if sending.lost || was_stale {
                continue;
            }
            let place = (sending.device, sending.tab, conversation.clone());
            if let Some((order, before)) = last.insert(place, (sending.order, *seq))
                && before > *seq
            {
                return self.broke(
                    "R5",
                    format!(
                        "{text} comes after what device {} wrote before it (its {order}th, at {before})",
                        sending.device
                    ),
                    format!("it is at {seq}"),
                );
            }
        }
    }

    /// R2, R3: the application was told all of its queue.
    fn judge_told(&mut self, index: usize) {
        self.watch_cache(index);
        let device = &self.devices[index];
        let (user, told) = (device.user.as_str(), (device.told.epoch.clone(), device.told.pos));
        let pos = if told.0 == self.relay.epoch { told.1 } else { 0 };
        let rest = self.relay.store.look(|tables| {
            let is_told = |entry: &truth::Entry| {
                let Some(seq) = entry.message else { return false };
                !self.is_by_logs(&entry.conversation)
                    && !truth::is_withheld(tables, &entry.conversation, seq, user)
            };
            truth::queue(tables, user, pos).find(is_told)
        });
        if let Some(entry) = rest {
            self.broke(
                "R2",
                format!("device {index} of {user} is told its whole queue"),
                format!("from {told:?} on it was not: {entry:?}"),
            );
        }
    }
}
