//! The checker at the end, of what each device shows: its conversation list, and every conversation as its log.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_client::view::{Conversation, Message, Status};
use hongyan_client::{Answer, Command};
use hongyan_protocol::{ConversationId, Seq, wire};

use crate::changes::shown;
use crate::truth;
use crate::world::World;

impl World {
    /// What a device lists: id, unread, read mark, head and whether it was left.
    pub(crate) fn list(&mut self, index: usize) -> Vec<(String, u64, u64, u64, bool)> {
        match self.call(index, Command::Conversations { limit: 1_000, before: None }) {
            Some(Ok(Answer::Conversations(list))) => list
                .into_iter()
                .map(|line| (line.id.to_string(), line.unread, line.read_seq.0, line.last_seq.0, line.left))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// R3, R5: every conversation of every device reads as its log, with the marks that the relay has.
    pub(crate) fn judge_lists(&mut self, index: usize, logs: &BTreeMap<String, Vec<wire::Message>>) {
        let user = self.devices[index].user.clone();
        let memberships = self.relay.store.look(|tables| truth::memberships(tables, user.as_str()));
        let Some(Ok(Answer::Conversations(list))) =
            self.call(index, Command::Conversations { limit: 1_000, before: None })
        else {
            return self.broke("R3", format!("device {index} gives its conversation list"), "it does not");
        };
        let listed: BTreeSet<String> = list.iter().map(|line| line.id.as_str().to_owned()).collect();
        if let Some(missing) = memberships.keys().find(|id| !listed.contains(*id)) {
            return self.broke("R3", format!("device {index} of {user} lists {missing}"), "it does not");
        }
        for line in list {
            if self.breach.is_some() {
                return;
            }
            let id = line.id.as_str().to_owned();
            let told = self.devices[index].told.lines.get(&id).copied();
            if told.is_some_and(|told| told != (line.unread, line.read_seq.0, line.last_seq.0)) {
                let shown = (line.unread, line.read_seq.0, line.last_seq.0);
                return self.broke(
                    "R3",
                    format!("device {index} was told of {id} what its list shows, {shown:?}"),
                    format!("{told:?}"),
                );
            }
            let empty = Vec::new();
            let log = logs.get(&id).unwrap_or(&empty);
            let Some(membership) = memberships.get(&id) else {
                // It only has messages that were refused here.
                if line.last_seq != Seq::ZERO {
                    return self.broke(
                        "R8",
                        format!("{user} knows nothing of {id}"),
                        format!("a log up to {}", line.last_seq),
                    );
                }
                continue;
            };
            if line.left != (membership.left > 0) {
                return self.broke(
                    "R3",
                    format!("device {index}: {id} left: {}", membership.left > 0),
                    format!("{}", line.left),
                );
            }
            if !line.left {
                self.judge_line(index, &line, membership.read_seq, log);
            }
        }
    }

    fn judge_line(&mut self, index: usize, line: &Conversation, read: u64, log: &[wire::Message]) {
        let (user, id) = (self.devices[index].user.clone(), line.id.as_str().to_owned());
        let head = log.len() as u64;
        let whose = format!("device {index} of {user}: {id}");
        if line.last_seq.0 != head {
            return self.broke("R3", format!("{whose}: the head is {head}"), format!("{}", line.last_seq));
        }
        if line.read_seq.0 != read {
            return self.broke(
                "R3",
                format!("{whose}: the read mark is {read}"),
                format!("{}", line.read_seq),
            );
        }
        let unread =
            log.iter().filter(|message| message.seq > read && message.from != user.as_str()).count() as u64;
        if line.unread != unread {
            return self.broke(
                "unread",
                format!("{whose}: {unread} of {head} are unread above {read}"),
                format!("{}", line.unread),
            );
        }
        let marked = self.marked(&id, user.as_str());
        if read > marked {
            return self.broke(
                "unread",
                format!("{whose}: nothing above {marked} was read by anybody"),
                format!("{read} is marked"),
            );
        }
        if let Some(group) = &line.group {
            let last =
                self.relay.store.look(|tables| truth::group_changes(tables, &id)).pop().unwrap_or_default();
            let shown = (group.owner.to_string(), group.member_count, group.version.0);
            let is = (last.owner.clone(), last.member_count, last.version);
            // Of a large group others' coming and going is told with its next message.
            let may_be_older = self.is_by_logs(&id) && group.version.0 < last.version;
            if shown != is && !may_be_older {
                return self.broke(
                    "R3",
                    format!("{whose}: owner, members, version {is:?}"),
                    format!("{shown:?}"),
                );
            }
        }
        let expected: Vec<_> = log
            .iter()
            .filter_map(|message| self.relay.store.look(|tables| truth::message(tables, &id, message.seq)))
            .map(|message| (message.seq, message.from.clone(), shown(&message)))
            .collect();
        let Some(mut history) = self.history(index, &line.id) else { return };
        for _ in 0..5 {
            if history == expected || self.devices[index].is_online() {
                break;
            }
            // Its connection ended meanwhile (a token did): an offline device shows what its cache has.
            self.pass(3_000);
            let Some(again) = self.history(index, &line.id) else { return };
            history = again;
        }
        if history != expected {
            let at = history.iter().zip(&expected).position(|(one, other)| one != other);
            let at = at.unwrap_or(history.len().min(expected.len()));
            self.broke(
                "R5",
                format!("{whose} reads as its log of {head}: {:?}", expected.get(at)),
                format!("{:?} in a history of {}", history.get(at), history.len()),
            );
        }
    }

    /// How far anybody, or his joining, may have moved a user's read mark.
    fn marked(&self, id: &str, user: &str) -> u64 {
        let place = (self.relay.epoch.clone(), user.to_owned(), id.to_owned());
        let marked = self.watch.marked.get(&place).copied().unwrap_or(0);
        let changes = self.relay.store.look(|tables| truth::group_changes(tables, id));
        let joins = changes.iter().filter(|change| change.users.iter().any(|joined| joined == user));
        joins.map(|change| change.last_seq).max().unwrap_or(0).max(marked)
    }

    /// One page. A relay that lets few requests through is asked again.
    pub(crate) fn page(
        &mut self,
        index: usize,
        of: &ConversationId,
        before: Option<Seq>,
    ) -> Option<Vec<Message>> {
        let mut last = String::new();
        for _ in 0..5 {
            let command = Command::History { conversation: of.clone(), before, after: None, limit: 50 };
            match self.call(index, command)? {
                Ok(Answer::History(page)) => return Some(page),
                Ok(_) => return None,
                Err(error) => last = format!("{error:?}"),
            }
            self.pass(3_000);
        }
        self.broke("R5", format!("device {index} shows a page of {of}"), last);
        None
    }

    /// The whole history as a device shows it, page by page.
    fn history(&mut self, index: usize, of: &ConversationId) -> Option<Vec<(u64, String, String)>> {
        let mut log = Vec::new();
        let mut before = None;
        loop {
            let page = self.page(index, of, before)?;
            if let Some(waiting) = page.iter().find(|message| message.status == Status::Sending) {
                self.broke(
                    "R6",
                    format!("nothing of {of} waits on device {index}"),
                    waiting.content.text.clone(),
                );
                return None;
            }
            let mut page: Vec<_> = page
                .into_iter()
                .filter_map(|message| {
                    Some((message.seq?.0, message.from.to_string(), crate::changes::seen(&message)))
                })
                .collect();
            let Some((first, ..)) = page.first() else { return Some(log) };
            let first = *first;
            page.append(&mut log);
            log = page;
            if first <= 1 {
                return Some(log);
            }
            before = Some(Seq(first));
        }
    }
}
