//! People edit, recall and react in a world, and rename groups; and the checker of what is told of that: a change is told
//! when it is durable and once, what was recalled is gone, and in the end everybody shows each message as it is.

use std::fmt::Write as _;

use hongyan_client::Change;
use hongyan_client::view::{ChangeKind, Message, Status};
use hongyan_client::{Answer, ChatError, Command};
use hongyan_protocol::wire::{self, Content, MessageChangeKind};
use hongyan_protocol::{Code, ConversationId, ConversationKind, Time, UserId};

use crate::chance::Chance;
use crate::device::Asked;
use crate::faults::Fault;
use crate::truth;
use crate::world::World;

/// Short enough that people are too late now and then.
pub(crate) const CHANGE_WITHIN_MS: u64 = 30_000;
const REACTIONS: &[&str] = &["+", "-", "heart"];
/// A device that lacks more changes may be told a gap instead.
const CHANGES_EVENTS_MAX: u64 = 200;
const TITLES: &[&str] = &["Geese", "Swans", "Ducks"];

/// As an application hears of a change.
pub(crate) struct AppChange {
    pub(crate) kind: ChangeKind,
    pub(crate) by: UserId,
    pub(crate) time: Time,
    pub(crate) reaction: Option<String>,
    pub(crate) message: Message,
}

/// What people see of a message as it is.
pub(crate) fn shown(message: &wire::Message) -> String {
    let reactions = message.reactions.iter().map(|it| (it.reaction.as_str(), it.users.join("+")));
    words(&truth::text(message), message.edited > 0, message.recalled > 0, reactions)
}

/// What people see of a message on a device.
pub(crate) fn seen(message: &Message) -> String {
    let names = |users: &[UserId]| users.iter().map(UserId::as_str).collect::<Vec<_>>().join("+");
    let reactions = message.reactions.iter().map(|it| (it.reaction.as_str(), names(&it.users)));
    words(&message.content.text, message.edited.is_some(), message.recalled.is_some(), reactions)
}

fn words<'a>(
    text: &str,
    edited: bool,
    recalled: bool,
    reactions: impl Iterator<Item = (&'a str, String)>,
) -> String {
    let mut words = text.to_owned();
    for (is, word) in [(edited, " (edited)"), (recalled, " (recalled)")] {
        words.push_str(if is { word } else { "" });
    }
    for (reaction, users) in reactions {
        let _ = write!(words, " {reaction}:{users}");
    }
    words
}

impl World {
    /// Beside what else happens in a step.
    pub(crate) fn change_step(&mut self, step: u32) {
        if !self.scenario.changes {
            return;
        }
        let mut chance = Chance::new(self.scenario.seed, 3_000_000 + u64::from(step));
        if !chance.percent(30) {
            return;
        }
        let index = chance.index(self.devices.len());
        if chance.percent(6) {
            return self.rename(index, &mut chance);
        }
        for _ in 0..chance.weighted(&[(4, 1), (1, 3)]) {
            self.change_message(index, &mut chance);
        }
    }

    fn rename(&mut self, index: usize, chance: &mut Chance) {
        if self.groups.is_empty() || self.devices[index].user.as_str() == "erin" {
            return;
        }
        let (group, title) = (chance.pick(&self.groups).clone(), (*chance.pick(TITLES)).to_owned());
        self.note(|| format!("device {index} gives {group} the title {title}"));
        self.ask(index, Command::RenameGroup(group, title), Asked::Other);
    }

    /// One of the newest messages that the device shows is changed: one's own in any way, others' by a reaction.
    fn change_message(&mut self, index: usize, chance: &mut Chance) {
        let conversation = self.conversation(index, chance);
        if self.devices[index].user.as_str() == "erin" && conversation.kind() == ConversationKind::Group {
            return;
        }
        self.devices[index].answer = None;
        let page = Command::History { conversation, before: None, after: None, limit: 12 };
        if self.ask(index, page, Asked::Call).is_none() {
            return;
        }
        self.pass(15);
        let Some(Ok(Answer::History(page))) = self.devices[index].answer.take() else { return };
        let page: Vec<_> = page.into_iter().filter(|message| message.status == Status::Sent).collect();
        if page.is_empty() {
            return;
        }
        let message = chance.pick(&page).clone();
        let Some(seq) = message.seq else { return };
        let own = message.from == self.devices[index].user;
        let reaction = (*chance.pick(REACTIONS)).to_owned();
        let change = match chance.below(if own { 10 } else { 4 }) {
            0..3 => Change::React(reaction),
            3 => Change::Unreact(reaction),
            4..8 => {
                // Its name, by which the checker knows it, stays in it.
                let name = message.content.text.split_inclusive('.').next().unwrap_or_default();
                let text = format!("{name}e{}", chance.below(1_000));
                Change::Edit(Content { text, ..Content::default() })
            }
            _ => Change::Recall,
        };
        self.note(|| {
            let what = match &change {
                Change::React(reaction) => format!("reacts with {reaction} to"),
                Change::Unreact(reaction) => format!("takes {reaction} back from"),
                Change::Edit(content) => format!("edits, {},", content.text),
                Change::Recall => "recalls".into(),
            };
            format!("device {index} {what} {seq} of {}", message.conversation)
        });
        let conversation = message.conversation;
        self.ask(index, Command::Change { conversation, seq, key: None, change }, Asked::Change);
    }

    pub(crate) fn change_answered(&mut self, index: usize, answer: Result<Answer, ChatError>) {
        match answer {
            Ok(Answer::Message(message)) => {
                let (id, seq) = (message.conversation.as_str(), message.seq.map_or(0, |seq| seq.0));
                let is_so = |tables: &crate::disk::Tables| {
                    truth::states(tables, id, seq).any(|state| shown(&state) == seen(&message))
                };
                if !self.relay.store.look(is_so) && !self.archive.values().any(is_so) {
                    self.broke(
                        "R4",
                        format!("a change that is answered to device {index} is durable at {seq} of {id}"),
                        format!("it never was {}", seen(&message)),
                    );
                }
            }
            Ok(_) => self.broke("R6", "a change is answered with the message", "it is answered otherwise"),
            Err(error) if error.code == Code::NOT_PERMITTED => self.mattered(Fault::ChangeRefused),
            Err(_) => {}
        }
    }

    /// The relay tells of changes that are durable, to who may read the conversation.
    pub(crate) fn watch_told_changes(
        &mut self,
        user: &str,
        conversation: &str,
        changes: &[wire::MessageChange],
        is_page: bool,
    ) {
        let is_group = ConversationId::new(conversation).is_ok_and(|id| id.kind() == ConversationKind::Group);
        if is_group && !self.relay.store.look(|tables| truth::is_member(tables, conversation, user)) {
            return self.broke(
                "R8",
                format!("only members of {conversation} are told of its changes"),
                format!("{user} was"),
            );
        }
        for change in changes {
            self.watch_told_change(user, conversation, change, is_page);
        }
    }

    /// `is_now`: it is told with the message as it is now.
    fn watch_told_change(
        &mut self,
        user: &str,
        conversation: &str,
        change: &wire::MessageChange,
        is_now: bool,
    ) {
        let Some(message) = &change.message else {
            return self.broke("R9", "a change is told with its message", "there is none");
        };
        let is_durable = self.relay.store.look(|tables| {
            let record =
                truth::changes(tables, conversation, change.number.saturating_sub(1)).into_iter().next();
            let is_record = record.is_some_and(|(number, record)| {
                let told = (change.number, change.kind, change.by.as_str(), change.time);
                (number, record.kind, record.by.as_str(), record.time) == told
                    && record.reaction == change.reaction
                    && record.seq == message.seq
            });
            // Later changes may be in it already.
            let is_state = truth::states_since(tables, conversation, message.seq, change.number)
                .any(|state| state == *message);
            is_record && is_state
        });
        if !is_durable || (is_now && !self.is_as_now(message)) {
            return self.broke(
                "R4",
                format!("a change of a message of {conversation} that is told to {user} is durable"),
                format!("change {} of {} is not: {}", change.number, message.seq, shown(message)),
            );
        }
        self.watch_recalled(user, message);
    }

    /// Entries of a queue: messages are told as they are now, changes with a state that is durable.
    pub(crate) fn watch_told_entries(&mut self, user: &str, batch: &wire::Batch) {
        for entry in &batch.entries {
            match &entry.change {
                Some(wire::entry::Change::Message(message)) => {
                    if !self.is_as_now(message) {
                        let (id, seq) = (&message.conversation, message.seq);
                        return self.broke(
                            "R4",
                            format!("{user} is told message {seq} of {id} as it is now"),
                            shown(message),
                        );
                    }
                    if message.edited > 0 || message.recalled > 0 {
                        self.mattered(Fault::ToldChanged);
                    }
                    self.watch_recalled(user, message);
                }
                Some(wire::entry::Change::MessageChange(change)) => {
                    let of = change.message.as_ref().map(|message| message.conversation.clone());
                    self.watch_told_change(user, &of.unwrap_or_default(), change, false);
                }
                _ => {}
            }
        }
    }

    /// The message is as the log has it. What a commit under way makes of it may be on the disk before the relay knows.
    pub(crate) fn is_as_now(&self, message: &wire::Message) -> bool {
        let (id, seq) = (&message.conversation, message.seq);
        let commits = !self.relay.is_quiet();
        self.relay.store.look(|tables| {
            truth::message(tables, id, seq).as_ref() == Some(message)
                || (commits && truth::states(tables, id, seq).any(|state| state == *message))
        })
    }

    /// What was recalled is gone; what was changed after somebody had left is nothing to her.
    fn watch_recalled(&mut self, user: &str, message: &wire::Message) {
        let (id, seq) = (&message.conversation, message.seq);
        let is_newer = self.relay.store.look(|tables| {
            let left = truth::left_at(tables, id, user);
            left.is_some_and(|left| truth::states_until(tables, id, seq, left).all(|state| state != *message))
        });
        if is_newer {
            let expected = format!("{user}, who left {id}, is told nothing newer");
            return self.broke("R8", expected, format!("message {seq} is {}", shown(message)));
        }
        let is_gone =
            message.content.is_empty() && message.mentions.is_empty() && message.reactions.is_empty();
        if message.recalled > 0 && !is_gone {
            let (id, seq) = (&message.conversation, message.seq);
            self.broke("recall", format!("what was recalled at {seq} of {id} is gone"), shown(message));
        }
    }

    /// An application hears of a change: each once, and in their order.
    pub(crate) fn watch_change(&mut self, index: usize, change: &AppChange) {
        self.mattered(Fault::Changed);
        let message = &change.message;
        let (id, seq) = (message.conversation.as_str().to_owned(), message.seq.map_or(0, |seq| seq.0));
        let kind = match change.kind {
            ChangeKind::Edited => MessageChangeKind::Edited,
            ChangeKind::Recalled => MessageChangeKind::Recalled,
            ChangeKind::Reacted => MessageChangeKind::Reacted,
            ChangeKind::Unreacted => MessageChangeKind::Unreacted,
        };
        let before = self.devices[index].told.changes.get(&id).copied();
        let told = truth::ChangeRecord {
            seq,
            kind: kind.into(),
            by: change.by.as_str().into(),
            time: change.time.0,
            reaction: change.reaction.clone().unwrap_or_default(),
        };
        let user = self.devices[index].user.as_str().to_owned();
        let look = |tables: &crate::disk::Tables| {
            let mut later = truth::changes(tables, &id, before.unwrap_or(0));
            // Later changes may be in it already.
            later.retain(|(number, record)| {
                let mut states = truth::states_since(tables, &id, seq, *number);
                *record == told && states.any(|state| shown(&state) == seen(message))
            });
            // Who has left is not told of what was changed again afterwards.
            let missed = |number| {
                let next = truth::next_change(tables, &id, &user, before.unwrap_or(0), number);
                (next..number).find(|at| !truth::is_change_withheld(tables, &id, *at, &user))
            };
            let mut later = later.into_iter().map(|(number, _)| (number, missed(number)));
            let first = later.next()?;
            Some(core::iter::once(first).chain(later).find(|(_, missed)| missed.is_none()).unwrap_or(first))
        };
        let found = self.relay.store.look(look).or_else(|| self.archive.values().find_map(look));
        let Some((number, missed)) = found else {
            return self.broke(
                "R2",
                format!("after change {before:?} of {id} device {index} is told a later one"),
                format!("of {seq}, {}", seen(message)),
            );
        };
        if let Some(missed) = missed.filter(|_| before.is_some()) {
            return self.broke(
                "R2",
                format!("after change {before:?} of {id} device {index} of {user} is told {missed}"),
                format!("it is told {number}"),
            );
        }
        self.devices[index].told.changes.insert(id, number);
    }

    /// Changes are not told one by one to who lacks very many, nor to who left, and came again when there were others.
    pub(crate) fn watch_changes_gap(&mut self, index: usize, conversation: &str) {
        let device = &mut self.devices[index];
        let told = device.told.changes.remove(conversation);
        let (user, epoch) = (device.user.as_str().to_owned(), device.cache().meta().epoch);
        let may_be = self.with_tables(&epoch, |tables| {
            let absences = truth::absences(tables, conversation, &user);
            let mut returns = absences.iter().filter_map(|absence| absence.until);
            let lacks = truth::changes(tables, conversation, told.unwrap_or(0)).len() as u64;
            returns.any(|at| told.is_none_or(|told| at > told)) || lacks > CHANGES_EVENTS_MAX
        });
        if may_be == Some(false) {
            self.broke(
                "R2",
                format!("device {index} of {user} is told each change of {conversation} after {told:?}"),
                "it is told a gap",
            );
        }
    }

    /// A device has been told all changes of messages in the conversations that its user is in.
    pub(crate) fn changes_are_told(&self, index: usize) -> bool {
        let device = &self.devices[index];
        let told = device.cache().changes();
        self.relay.store.look(|tables| {
            let memberships = truth::memberships(tables, device.user.as_str());
            memberships.iter().filter(|(_, membership)| membership.left == 0).all(|(id, _)| {
                let last = truth::changes(tables, id, 0).last().map_or(0, |(number, _)| *number);
                told.get(id).copied().unwrap_or(0) == last
            })
        })
    }

    /// Every message that a device has kept of a conversation that its user is in is as it is.
    pub(crate) fn judge_cached(&mut self, index: usize) {
        let device = &self.devices[index];
        let stale = self.relay.store.look(|tables| {
            let memberships = truth::memberships(tables, device.user.as_str());
            device.cache().messages().find_map(|(id, seq, kept)| {
                let is_in = memberships.get(id.as_str()).is_some_and(|membership| membership.left == 0);
                let now = truth::message(tables, id.as_str(), seq.0);
                (is_in && now.as_ref() != Some(&kept))
                    .then(|| (format!("{seq} of {id}: {:?}", now.as_ref().map(shown)), shown(&kept)))
            })
        });
        if let Some((now, kept)) = stale {
            self.broke("R3", format!("device {index} keeps messages as they are, {now}"), kept);
        }
    }
}
