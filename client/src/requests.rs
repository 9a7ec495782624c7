//! What the application asks, and the requests that wait for an answer of the relay.
//!
//! *Invariant:* each command is answered exactly once; a request waits at most `REQUEST_MS`, through
//! reconnects, and is asked again on each new connection until it is answered.

use hongyan_protocol::wire::client_frame::Verb;
use hongyan_protocol::wire::{self, relay_frame::Event as Heard};
use hongyan_protocol::{Class, Code, ConversationId, ConversationKind, DeviceId, Key, UserId, limits};

use crate::client::Client;
use crate::conversations;
use crate::history::Job;
use crate::io::{Answer, ChatError, Command, Moment, Now, RequestId};
use crate::limits::{REQUEST_MS, REQUESTS_MAX};
use crate::presence;
use crate::sending::{Draft, later};
use crate::session::Pending;
use crate::sorted::SortedMap;
use crate::timers::Timer;
use crate::view::{Device, Member};

/// What is asked of the relay.
pub(crate) enum What {
    /// A verb that is put on the wire as it is, and may be put there again; `None` while it is being put there.
    Verb(Option<Verb>),
    /// A page of history.
    History(Box<Job>),
    /// That these users were heard of; it is for `presence` to ask.
    Watch(Vec<UserId>),
    /// That something is known of these users' profiles; it is for `profiles` to ask.
    Profiles(Vec<UserId>),
}

impl What {
    /// It waits to hear of users, and is answered with what is known of them if nothing comes.
    fn is_of_users(&self) -> bool {
        matches!(self, What::Watch(_) | What::Profiles(_))
    }
}

/// A request that waits for an answer.
pub(crate) struct Ask {
    pub(crate) request: RequestId,
    pub(crate) what: What,
    deadline: Moment,
    in_flight: bool,
    not_before: Moment,
    times: u32,
}

/// All of them, by a number of their own.
#[derive(Default)]
pub(crate) struct Asks {
    pub(crate) waiting: SortedMap<u64, Ask>,
    count: u64,
}

impl Asks {
    /// Nothing waits for the relay.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Those that wait to hear of users.
    pub(crate) fn watches(&self) -> Vec<u64> {
        let waiting = self.waiting.iter();
        waiting.filter(|(_, ask)| ask.what.is_of_users()).map(|(number, _)| *number).collect()
    }
}

impl Client {
    pub(crate) fn command(&mut self, now: Now, request: RequestId, command: Command) {
        let stopped = self.stopped_by();
        if let Some(error) = &stopped
            && matches!(error.code, Code::CLOSED | Code::LOGGED_OUT)
        {
            let answer = match command {
                Command::Close => {
                    // A peer that ended the session in these words has answered nobody here.
                    self.refuse_senders(error);
                    Ok(Answer::Done)
                }
                Command::Send { .. }
                | Command::Change { .. }
                | Command::Discard(_)
                | Command::History { .. }
                | Command::Conversations { .. }
                | Command::MarkRead { .. }
                | Command::CreateGroup { .. }
                | Command::AddMembers(..)
                | Command::RemoveMembers(..)
                | Command::LeaveGroup(_)
                | Command::RenameGroup(..)
                | Command::Members { .. }
                | Command::Watch { .. }
                | Command::Typing(_)
                | Command::Devices
                | Command::SignOut(_)
                | Command::SetInvisible(_)
                | Command::Profiles(_)
                | Command::SetProfile { .. }
                | Command::Logout { .. } => Err(error.clone()),
            };
            self.reply(request, answer);
            return;
        }
        match command {
            Command::Send { conversation, key, content, reply_to, mentions } => {
                self.send(now, request, Draft { conversation, key, content, reply_to, mentions });
            }
            Command::Change { conversation, seq, key, change } => {
                self.change(now, request, &conversation, seq, key, change);
            }
            Command::Discard(key) => self.discard(request, &key),
            Command::History { conversation, before, after, limit } => {
                self.history(now, request, conversation, before, after, limit);
            }
            Command::Conversations { limit, before } => {
                let list = self.list(limit, before.as_ref());
                self.reply(request, Ok(Answer::Conversations(list)));
            }
            Command::MarkRead { conversation, seq } => self.mark_read(now, request, &conversation, seq),
            Command::CreateGroup { key, title, members } => {
                if title.len() > limits::TITLE_BYTES_MAX || members.len() > limits::GROUP_CHANGE_USERS_MAX {
                    self.reply(request, Err(ChatError::new(Code::BAD_REQUEST)));
                    return;
                }
                let key = self.name_of(key);
                self.ask_verb(
                    now,
                    request,
                    Verb::CreateGroup(wire::CreateGroup { key, title, members: names(&members) }),
                );
            }
            Command::AddMembers(group, users) => {
                let verb = wire::AddMembers { conversation: group.as_str().into(), users: names(&users) };
                self.ask_group(now, request, &group, users.len(), Verb::AddMembers(verb));
            }
            Command::RemoveMembers(group, users) => {
                let verb = wire::RemoveMembers { conversation: group.as_str().into(), users: names(&users) };
                self.ask_group(now, request, &group, users.len(), Verb::RemoveMembers(verb));
            }
            Command::LeaveGroup(group) => {
                let verb = wire::LeaveGroup { conversation: group.as_str().into() };
                self.ask_group(now, request, &group, 0, Verb::LeaveGroup(verb));
            }
            Command::RenameGroup(group, title) => {
                if title.len() > limits::TITLE_BYTES_MAX {
                    return self.reply(request, Err(ChatError::new(Code::BAD_REQUEST)));
                }
                let verb = wire::RenameGroup { conversation: group.as_str().into(), title };
                self.ask_group(now, request, &group, 0, Verb::RenameGroup(verb));
            }
            Command::Members { conversation, after, limit } => {
                let verb = wire::Members {
                    conversation: conversation.as_str().into(),
                    after: after.map(|user| user.as_str().into()).unwrap_or_default(),
                    limit: u32::try_from(limit.clamp(1, limits::MEMBER_PAGE_MAX)).unwrap_or(1),
                };
                self.ask_group(now, request, &conversation, 0, Verb::Members(verb));
            }
            Command::Watch { by, users } => self.watch(now, request, by, users),
            Command::Typing(conversation) => {
                self.tell_typing(now, conversation);
                self.reply(request, Ok(Answer::Done));
            }
            Command::Devices => self.ask_verb(now, request, Verb::Devices(wire::Devices {})),
            Command::SignOut(device) => {
                let verb = wire::SignOut { device: device.as_str().into() };
                self.ask_verb(now, request, Verb::SignOut(verb));
            }
            Command::SetInvisible(invisible) => {
                self.ask_verb(now, request, Verb::SetInvisible(wire::SetInvisible { invisible }));
            }
            Command::Profiles(users) => self.get_profiles(now, request, users),
            Command::SetProfile { key, name, avatar } => self.set_profile(now, request, key, name, avatar),
            Command::Close => self.close(now, request),
            Command::Logout { keep_cache } => self.log_out(now, request, keep_cache),
        }
    }

    fn ask_group(&mut self, now: Now, request: RequestId, group: &ConversationId, users: usize, verb: Verb) {
        if group.kind() != ConversationKind::Group || users > limits::GROUP_CHANGE_USERS_MAX {
            self.reply(request, Err(ChatError::new(Code::BAD_REQUEST)));
            return;
        }
        self.ask_verb(now, request, verb);
    }

    /// An idempotency key, made here where none was given.
    pub(crate) fn name_of(&mut self, key: Option<Key>) -> String {
        key.map_or_else(|| self.random.name(), |key| key.as_str().into())
    }

    pub(crate) fn ask_verb(&mut self, now: Now, request: RequestId, verb: Verb) {
        if let Some(error) = self.stopped_by() {
            self.reply(request, Err(error));
            return;
        }
        self.ask(now, request, What::Verb(Some(verb)));
    }

    /// Takes a request among those that wait; the number is its own.
    pub(crate) fn ask(&mut self, now: Now, request: RequestId, what: What) {
        if self.asks.waiting.len() >= REQUESTS_MAX {
            return self.refuse_busy(request);
        }
        if let What::Profiles(users) = &what {
            self.profiles.wait(users, true);
        }
        self.asks.count += 1;
        let deadline = now.moment.after_ms(REQUEST_MS);
        let ask = Ask { request, what, deadline, in_flight: false, not_before: Moment(0), times: 0 };
        let number = self.asks.count;
        self.asks.waiting.insert(number, ask);
        self.begin_ask(now, number);
        self.asks_deadline();
        self.wanted(now);
    }

    pub(crate) fn refuse_busy(&mut self, request: RequestId) {
        let message = "Too many requests wait for an answer; try again when some are answered.".into();
        self.reply(request, Err(ChatError { code: Code::BUSY, message }));
    }

    fn begin_ask(&mut self, now: Now, number: u64) {
        let history = self.asks.waiting.get(&number).is_some_and(|ask| matches!(ask.what, What::History(_)));
        if history {
            self.begin_history(now, number);
        } else {
            self.pump_asks(now);
        }
    }

    /// Puts on the wire what waits to go there.
    pub(crate) fn pump_asks(&mut self, now: Now) {
        // While a reset is due an answer is of another log than what is known here.
        if !self.session.is_online() || self.queue.is_resetting() {
            return;
        }
        let due: Vec<_> = self
            .asks
            .waiting
            .iter_mut()
            .filter(|(_, ask)| !ask.in_flight && ask.not_before <= now.moment)
            .filter_map(|(number, ask)| {
                let verb = match &mut ask.what {
                    What::Verb(verb) => verb.take(),
                    What::History(job) => job.verb(),
                    What::Watch(_) | What::Profiles(_) => None,
                }?;
                ask.in_flight = true;
                Some((*number, verb))
            })
            .collect();
        for (number, verb) in due {
            let verb = self.request(now, Pending::Ask(number), verb);
            if let Some(What::Verb(kept)) = self.asks.waiting.get_mut(&number).map(|ask| &mut ask.what) {
                *kept = verb;
            }
        }
    }

    /// The relay answered a request.
    pub(crate) fn ask_answered(&mut self, now: Now, number: u64, heard: Heard) {
        let Some(ask) = self.asks.waiting.get_mut(&number) else { return };
        ask.in_flight = false;
        let answer = match (&ask.what, heard) {
            (What::History(_), Heard::HistoryPage(page)) => return self.history_page(now, number, page),
            (What::Verb(Some(Verb::CreateGroup(_))), Heard::GroupDone(done)) => {
                ConversationId::new(&done.conversation).map(Answer::Group).ok()
            }
            (What::Verb(Some(Verb::ChangeMessage(_))), Heard::MessageChanged(changed)) => {
                changed.message.as_ref().and_then(conversations::view).map(Answer::Message)
            }
            (What::Verb(Some(Verb::Members(_))), Heard::MemberPage(page)) => {
                Some(Answer::Members(page.members.iter().filter_map(member).collect(), page.more))
            }
            (What::Verb(Some(Verb::Devices(_))), Heard::DeviceList(list)) => {
                Some(Answer::Devices(list.devices.into_iter().filter_map(device).collect()))
            }
            (What::Verb(Some(Verb::SignOut(_))), Heard::SignedOut(_))
            | (What::Verb(Some(Verb::SetInvisible(_))), Heard::Invisible(_)) => Some(Answer::Done),
            (What::Verb(Some(Verb::SetProfile(_))), Heard::ProfileSet(set)) => self.profile_set(set),
            (What::Verb(_), Heard::GroupDone(_)) => Some(Answer::Done),
            // An answer to something else than was asked.
            (What::Verb(_) | What::History(_) | What::Watch(_) | What::Profiles(_), _) => None,
        };
        let answer = answer.ok_or_else(|| ChatError::new(Code::BAD_FRAME));
        self.end_ask(number, answer);
    }

    pub(crate) fn ask_rejected(&mut self, now: Now, number: u64, error: ChatError, retry_after_ms: u64) {
        let Some(ask) = self.asks.waiting.get_mut(&number) else { return };
        ask.in_flight = false;
        if error.class() != Class::Stop {
            ask.not_before = later(&mut self.random, now, ask.times, retry_after_ms);
            ask.times = ask.times.saturating_add(1);
            self.asks_deadline();
        } else if matches!(ask.what, What::History(_)) {
            self.history_refused(number, error);
        } else {
            self.end_ask(number, Err(error));
        }
    }

    /// Answers and forgets a request.
    pub(crate) fn end_ask(&mut self, number: u64, answer: Result<Answer, ChatError>) {
        if let Some(ask) = self.asks.waiting.remove(&number) {
            if let What::Profiles(users) = &ask.what {
                self.profiles.wait(users, false);
            }
            self.reply(ask.request, answer);
            self.asks_deadline();
        }
    }

    /// Keeps the first moment at which a request wants something.
    fn asks_deadline(&mut self) {
        let next = self
            .asks
            .waiting
            .values()
            .map(|ask| {
                let waits = !ask.in_flight && ask.not_before > Moment(0);
                if waits { ask.deadline.min(ask.not_before) } else { ask.deadline }
            })
            .min();
        self.timers.set_or_clear(Timer::Requests, next);
    }

    pub(crate) fn asks_due(&mut self, now: Now) {
        let late: Vec<_> = self
            .asks
            .waiting
            .iter()
            .filter(|(_, ask)| ask.deadline <= now.moment)
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            self.give_up(number, ChatError::new(Code::TIMED_OUT));
        }
        for ask in self.asks.waiting.values_mut() {
            if ask.not_before <= now.moment {
                ask.not_before = Moment(0);
            }
        }
        self.pump_asks(now);
        self.asks_deadline();
    }

    pub(crate) fn asks_disconnected(&mut self, now: Now) {
        for ask in self.asks.waiting.values_mut() {
            ask.in_flight = false;
            ask.not_before = Moment(0);
        }
        self.asks_deadline();
        self.histories_disconnected(now);
    }

    pub(crate) fn asks_stopped(&mut self, error: &ChatError) {
        let numbers: Vec<_> = self.asks.waiting.iter().map(|(number, _)| *number).collect();
        for number in numbers {
            self.give_up(number, error.clone());
        }
    }

    /// Nothing more comes for this request: it is answered with what is here, or with the error.
    fn give_up(&mut self, number: u64, error: ChatError) {
        let is_of_users = self.asks.waiting.get(&number).is_some_and(|ask| ask.what.is_of_users());
        if is_of_users && error.class() != Class::Stop {
            self.answer_watch(number);
        } else {
            self.history_or_error(number, error);
        }
    }
}

pub(crate) fn names(users: &[UserId]) -> Vec<String> {
    users.iter().map(|user| user.as_str().into()).collect()
}

fn member(member: &wire::Member) -> Option<Member> {
    Some(Member { user: UserId::new(&member.user).ok()?, owner: member.role() == wire::Role::Owner })
}

fn device(device: wire::Device) -> Option<Device> {
    Some(Device {
        device: DeviceId::new(&device.device).ok()?,
        kind: device.kind(),
        status: presence::status(device.status()),
        agent: device.agent,
        seen: presence::time(device.seen),
    })
}
