//! A device: the real client core, its cache, its application, and the platform that ends both at any moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hongyan_client as client;
use hongyan_client::tabs::{TabInput, next_term};
use hongyan_client::view::SessionStatus;
use hongyan_client::{
    Answer, ChatError, Client, Command, Config, Event, Generation, HostEvent, RequestId, Storage, Ticket,
    Write,
};
use hongyan_protocol::wire::DeviceKind;
use hongyan_protocol::{Code, ConversationId, Time, UserId};

use crate::cache::Cache;
use crate::clock::{BEGIN_MS, Clock};
use crate::faults::Fault;
use crate::presence::App;
use crate::tabs::{Browser, OF_TABS, is_of_a_save};
use crate::world::{Happening, Life, World};

/// What an application waits for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// A send, by its text.
    Send(String),
    CreateGroup,
    /// Something that must be refused: the one who asks is no member.
    Outsider,
    /// A page of this conversation.
    Page(ConversationId),
    /// A change of a message.
    Change,
    /// A change of what the user shows of herself.
    Profile,
    /// What others show.
    Profiles,
    /// To watch users.
    Watch,
    /// The devices of its user, of which these had been signed out, in this epoch.
    Devices(String, BTreeSet<String>),
    /// The answer is kept for the step that asked.
    Call,
    Other,
}

/// A transaction under way.
pub(crate) struct Saving {
    ticket: Ticket,
    pub(crate) writes: Vec<Write>,
    pub(crate) durable: bool,
    /// Of the tab that leads: its number, and what its end will tell.
    pub(crate) number: u64,
    pub(crate) tells: Vec<(u64, Event)>,
}

impl Saving {
    pub(crate) fn new(ticket: Ticket, writes: Vec<Write>, number: u64, tells: Vec<(u64, Event)>) -> Self {
        Self { ticket, writes, durable: false, number, tells }
    }
}

/// A reset: the queue goes on after this position.
#[derive(Clone)]
pub(crate) struct Gap {
    pub(crate) epoch: String,
    pub(crate) pos: u64,
    /// The device may have had nothing before: then its application hears of no gap.
    pub(crate) may_be_quiet: bool,
    /// The queue is the same one: what was told before the gap is of this epoch, too.
    pub(crate) is_same_queue: bool,
}

/// What a device's application was told of its queue, as the checker follows it.
#[derive(Default)]
pub(crate) struct Told {
    /// Up to here everything was in the cache at the start, or was told since.
    pub(crate) epoch: String,
    pub(crate) pos: u64,
    /// Epochs that may have begun while the position was 0.
    pub(crate) begun: Vec<String>,
    /// Resets whose snapshot has come, and which the application will hear of as a gap.
    pub(crate) gaps: VecDeque<Gap>,
    /// The reset with which the device began, and of which its application hears nothing.
    pub(crate) began: Option<Gap>,
    /// The last position that came.
    pub(crate) received: u64,
    /// Of which epoch the conversation list in memory is.
    pub(crate) list_epoch: String,
    /// The last message told of each group, in worlds where groups may come by their logs.
    pub(crate) logs: BTreeMap<String, u64>,
    /// The last change told of each conversation's messages.
    pub(crate) changes: BTreeMap<String, u64>,
    /// The last version told of each profile.
    pub(crate) profiles: BTreeMap<String, u64>,
    /// The read marks as they were told last.
    pub(crate) reads: BTreeMap<String, u64>,
    /// What waits in the outbox, as the application knows it.
    pub(crate) sending: BTreeSet<String>,
    /// The conversation list as events told it: unread, read mark, head.
    pub(crate) lines: BTreeMap<String, (u64, u64, u64)>,
}

impl Told {
    /// Of which epochs the next message may be. What is told is durable, so the cache says of which; `None` when that is
    /// gone with a logout.
    pub(crate) fn epochs(&self, cache: Option<String>) -> Vec<String> {
        match cache {
            _ if self.pos > 0 => {
                // What was sent again may be at the same position of two epochs.
                let others = self.begun.iter().rev().filter(|epoch| cache.is_none() && **epoch != self.epoch);
                core::iter::once(&self.epoch).chain(others).cloned().collect()
            }
            Some(epoch) if self.gaps.is_empty() => vec![epoch],
            // What is told before a gap is older.
            _ => {
                let may_be = |gap: &Gap, epoch: &String| gap.epoch != *epoch || gap.is_same_queue;
                let is_older = |epoch: &&String| self.gaps.iter().all(|gap| may_be(gap, epoch));
                // After a gap to the beginning of an epoch it is known which one that is.
                let known = self.begun.iter().filter(|epoch| **epoch == self.epoch);
                let others = self.begun.iter().filter(|epoch| **epoch != self.epoch);
                known.chain(others).filter(is_older).cloned().collect()
            }
        }
    }
}

/// A device, over all its lives.
pub(crate) struct Device {
    pub(crate) index: usize,
    pub(crate) user: UserId,
    pub(crate) kind: DeviceKind,
    /// Names the page where tabs don't share a connection.
    pub(crate) tab: String,
    pub(crate) app: App,
    /// `None` between an end and the next start.
    pub(crate) client: Option<Client>,
    /// Counts the starts and the ends: what was under way for an older one is void.
    pub(crate) life: u32,
    pub(crate) clock: Clock,
    /// On the device's disk.
    pub(crate) disk: Cache,
    /// What the host keeps since a transaction failed.
    pub(crate) memory: Option<Cache>,
    pub(crate) saving: Option<Saving>,
    pub(crate) socket: Option<Generation>,
    requests: u64,
    pub(crate) asked: BTreeMap<RequestId, Asked>,
    pub(crate) answer: Option<Result<Answer, ChatError>>,
    pub(crate) told: Told,
    /// Deadlines come no earlier than this.
    pub(crate) throttled_until: u64,
    /// The process ends after so many outputs of the next input.
    pub(crate) crash_after: Option<u64>,
    /// How long its caches were unused before they were thrown away: of this no time passes in the world.
    pub(crate) unused_ms: u64,
    /// The next transaction fails.
    pub(crate) save_fails: bool,
    pub(crate) provider_fails: u32,
    pub(crate) texts: u32,
    /// Highest cursor that was told, and its epoch.
    pub(crate) cursor_told: (String, u64),
    /// It came back with an older cache, an empty one, or as another device …
    pub(crate) was_stale: bool,
    /// … and does so at its next start.
    pub(crate) goes_back: bool,
    /// What the application discarded after it was refused.
    pub(crate) discarded: BTreeSet<String>,
    pub(crate) logging_out: bool,
    /// Its tabs, where they share it.
    pub(crate) browser: Option<Browser>,
    /// What the transaction that is about to begin will tell.
    pub(crate) preparing: Vec<(u64, Event)>,
}

impl Device {
    pub(crate) fn new(index: usize, user: UserId, clock: Clock) -> Self {
        Self {
            index,
            user,
            kind: DeviceKind::Web,
            tab: String::new(),
            app: App::default(),
            client: None,
            life: 0,
            clock,
            disk: Cache::default(),
            memory: None,
            saving: None,
            socket: None,
            requests: 0,
            asked: BTreeMap::new(),
            answer: None,
            told: Told::default(),
            throttled_until: 0,
            crash_after: None,
            unused_ms: 0,
            save_fails: false,
            provider_fails: 0,
            texts: 0,
            cursor_told: (String::new(), 0),
            was_stale: false,
            goes_back: false,
            discarded: BTreeSet::new(),
            logging_out: false,
            browser: None,
            preparing: Vec::new(),
        }
    }

    /// The cache that the core writes to.
    pub(crate) fn cache(&self) -> &Cache {
        self.memory.as_ref().unwrap_or(&self.disk)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let at = self.client.as_ref()?.next_deadline()?;
        Some(self.clock.when(at.0).max(self.throttled_until))
    }

    /// Connected, and nothing from before is outstanding.
    pub(crate) fn is_online(&self) -> bool {
        self.client.as_ref().is_some_and(|client| {
            let state = client.state();
            state.status == SessionStatus::Online && state.caught_up
        })
    }

    /// It logs out, or was logged out: by another tab, or by the goodbye of an earlier life that was on its way for long.
    pub(crate) fn is_logged_out(&self) -> bool {
        let reason = self.client.as_ref().and_then(|client| client.state().reason);
        self.logging_out || reason.is_some_and(|reason| reason.code == Code::LOGGED_OUT)
    }

    /// Somebody can write something.
    pub(crate) fn can_write(&self) -> bool {
        self.browser.as_ref().map_or(self.client.is_some(), Browser::is_awake)
    }

    /// Nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.browser.as_ref().is_none_or(Browser::is_quiet)
            && self.is_online()
            && self.asked.is_empty()
            && self.saving.is_none()
            && self.told.sending.is_empty()
    }
}

impl World {
    pub(crate) fn device_starts(&mut self, index: usize) {
        if self.devices[index].browser.is_some() {
            self.tabs_start(index);
        } else {
            self.takes_cache(index);
            self.core_starts(index);
        }
    }

    /// Somebody takes the cache over, and has the next term of it.
    pub(crate) fn takes_cache(&mut self, index: usize) -> u64 {
        if self.devices[index].client.is_none() {
            let time = Time(BEGIN_MS + self.now + self.devices[index].unused_ms);
            let disk = &mut self.devices[index].disk;
            disk.term = next_term(disk.term, time);
        }
        self.devices[index].disk.term
    }

    pub(crate) fn core_starts(&mut self, index: usize) {
        if self.devices[index].client.is_some() {
            return;
        }
        let seed = self.chance.seed();
        let mut clock = self.new_clock();
        clock.offset_ms = self.devices[index].clock.offset_ms;
        let device = &mut self.devices[index];
        device.life += 1;
        device.clock = clock;
        device.client = Some(Client::new(Config {
            user: device.user.clone(),
            device_kind: device.kind,
            agent: "sim".into(),
            tab: device.tab.clone(),
            shared: device.browser.is_some(),
            storage: Storage::IndexedDb,
            // None, or more or fewer than a relay's window in a small world.
            gathered_entries: u64::from(seed[0] % 4) * 4,
            seed,
        }));
        let restored = device.disk.restored();
        self.watch_start(index);
        self.app_begins(index);
        self.note(|| format!("device {index} starts"));
        self.device_input(index, client::Input::Restored(restored));
        self.app_starts(index);
    }

    /// The process ends in the middle of whatever it did, or in good order.
    pub(crate) fn device_ends(&mut self, index: usize, tells: bool) {
        if self.devices[index].browser.is_some() {
            self.tabs_die(index, tells);
        } else {
            self.core_ends(index, tells);
        }
    }

    pub(crate) fn core_ends(&mut self, index: usize, tells: bool) {
        let device = &mut self.devices[index];
        if device.client.take().is_none() {
            return;
        }
        let busy = device.saving.is_some() || !device.asked.is_empty();
        match &device.saving {
            Some(Saving { durable: true, .. }) => self.coverage.mattered(Fault::SaveUnreported),
            Some(_) => self.coverage.mattered(Fault::SaveLost),
            None => {}
        }
        if busy {
            self.coverage.mattered(Fault::DeviceCrash);
        }
        self.device_end_goes(index, tells);
        self.app_ends(index);
        let device = &mut self.devices[index];
        device.life += 1;
        device.saving = None;
        device.preparing.clear();
        device.socket = None;
        device.asked.clear();
        device.answer = None;
        device.throttled_until = 0;
        device.crash_after = None;
        if device.memory.take().is_some() {
            (device.was_stale, device.goes_back) = (true, true);
            self.mattered(Fault::CacheStale);
        }
        self.note(|| format!("device {index} ends"));
        self.watch_end(index);
    }

    /// It ends, and comes back after a while.
    pub(crate) fn device_crashes(&mut self, index: usize, low: u64, high: u64) {
        if self.devices[index].client.is_none() {
            return;
        }
        let tells = self.fate(Fault::DeviceCrash).percent(70);
        if let Some(leader) = self.devices[index].browser.as_ref().and_then(Browser::leader) {
            return self.tab_crashes(index, leader, tells);
        }
        self.device_ends(index, tells);
        let at = self.now + self.fate(Fault::DeviceCrash).between(low, high);
        self.schedule(at, Happening::DeviceStarts(index));
    }

    pub(crate) fn device_input(&mut self, index: usize, input: client::Input) {
        if let client::Input::Host(event) = &input {
            self.app_host(index, *event);
        }
        let now = self.now;
        let device = &mut self.devices[index];
        let Some(core) = &mut device.client else { return };
        let clock = device.clock;
        let is_saved = matches!(input, client::Input::Saved(_));
        let is_late = matches!(input, client::Input::Tick)
            && core.next_deadline().is_some_and(|at| clock.when(at.0) + 100 < now);
        core.handle(
            client::Now { moment: client::Moment(clock.moment(now)), time: Time(clock.time(now)) },
            input,
        );
        let outputs: Vec<_> = std::iter::from_fn(|| core.poll()).collect();
        let life = (index, device.life);
        let crash_after = device.crash_after.take();
        if is_late {
            self.mattered(Fault::TimersLate);
        }
        let count = outputs.len() as u64;
        for (done, output) in (0..).zip(outputs) {
            if self.breach.is_some() {
                return;
            }
            if crash_after.is_some_and(|after| done >= after) {
                self.mattered(Fault::CrashBetweenOutputs);
                self.note(|| format!("device {index} crashes after {done} of {count} outputs"));
                return self.device_crashes(index, 10, 4_000);
            }
            self.device_output(life, output, is_saved);
        }
        // Nothing came out: the crash waits for an input with outputs.
        if count == 0 {
            self.devices[index].crash_after = crash_after;
        }
    }

    /// `is_saved`: it follows the end of a transaction.
    fn device_output(&mut self, life: Life, output: client::Output, is_saved: bool) {
        let index = life.0;
        let has_tabs = self.devices[index].browser.is_some();
        match output {
            client::Output::NeedToken => self.token_wanted(life),
            client::Output::Dial(generation) => {
                self.devices[index].socket = Some(generation);
                self.dial(life, generation);
            }
            client::Output::Transmit(generation, bytes) => {
                if self.devices[index].socket != Some(generation) {
                    return self.broke("R9", "frames go to the open socket", "one went to another");
                }
                self.watch_sent(index, &bytes);
                if let Some(link) = self.link_of(index) {
                    self.hello_is_late(life, link);
                    self.send_up(link, Happening::Up(link, bytes));
                }
            }
            client::Output::Hangup { .. } => {
                self.device_end_goes(index, true);
                self.devices[index].socket = None;
            }
            client::Output::Save(ticket, writes) => self.save(life, ticket, writes),
            client::Output::Load { ticket, conversation, from, to } => {
                self.soon(0, 10, Happening::Load(life, ticket, conversation, from, to));
            }
            client::Output::Beacon(bytes) => self.beacon(index, bytes),
            client::Output::Prepare(events) => self.tab_prepares(index, events),
            // It was told as it was prepared.
            client::Output::Event(event) if has_tabs && is_saved && is_of_a_save(&event) => {}
            client::Output::Event(event) => {
                if has_tabs {
                    self.tab_moment(index);
                }
                self.watch_event(index, event);
            }
            client::Output::Reply(request, answer) if request.0 > OF_TABS => {
                self.tab_performed(index, request.0 - OF_TABS, answer);
            }
            client::Output::Reply(request, answer) => self.answered(index, request, answer),
        }
    }

    fn answered(&mut self, index: usize, request: RequestId, answer: Result<Answer, ChatError>) {
        let device = &mut self.devices[index];
        match device.asked.remove(&request) {
            None => {
                self.broke("R6", "each request is answered once", format!("{request:?} twice, or unasked"));
            }
            Some(Asked::Send(text)) => self.watch_send_answered(index, &text, answer),
            Some(Asked::CreateGroup) => {
                if let Ok(Answer::Group(id)) = answer {
                    self.groups.push(id);
                }
            }
            Some(Asked::Outsider) => match answer {
                Err(ChatError { code: Code::NOT_A_MEMBER, .. }) => self.mattered(Fault::Outsider),
                Err(_) => {}
                Ok(Answer::History(page)) if page.is_empty() => {}
                Ok(_) => {
                    self.broke("R8", "who is no member reads nothing of a group", "a request was answered");
                }
            },
            Some(Asked::Page(conversation)) => {
                if let Ok(Answer::History(page)) = answer {
                    self.watch_page(index, &conversation, &page);
                }
            }
            Some(Asked::Watch) => {
                if let Ok(Answer::Presences(presences)) = answer {
                    self.app_answered(index, presences);
                }
            }
            Some(Asked::Profile) => self.profile_answered(index, answer),
            Some(Asked::Profiles) => self.profiles_answered(index, answer),
            Some(Asked::Change) => self.change_answered(index, answer),
            Some(Asked::Devices(epoch, signed_out)) => {
                if let Ok(Answer::Devices(list)) = answer {
                    self.ends_listed(&epoch, &signed_out, &list);
                }
            }
            Some(Asked::Call) => device.answer = Some(answer),
            Some(Asked::Other) => {}
        }
    }

    // ------------------------------------------------------------ the cache

    fn save(&mut self, life: Life, ticket: Ticket, writes: Vec<Write>) {
        let has_tabs = self.devices[life.0].browser.is_some();
        let number = if has_tabs { self.tab_save(life.0) } else { 0 };
        let device = &mut self.devices[life.0];
        if device.saving.is_some() {
            return self.broke("R9", "one transaction is under way at most", "a second one began");
        }
        let fails = std::mem::take(&mut device.save_fails) && device.memory.is_none();
        let tells = std::mem::take(&mut device.preparing);
        device.saving = Some(Saving::new(ticket, writes, number, tells));
        if fails {
            self.mattered(Fault::SaveFailed);
            return self.soon(0, 30, Happening::SaveEnds(life, Some("the database is broken".into())));
        }
        let slow = if self.chance.percent(5) { 300 } else { 15 };
        let durable = self.now + self.chance.between(0, slow);
        let ends = durable + self.chance.between(0, 10);
        self.schedule(durable, Happening::SaveDurable(life));
        self.schedule(ends, Happening::SaveEnds(life, None));
    }

    pub(crate) fn save_durable(&mut self, life: Life) {
        let device = &mut self.devices[life.0];
        if device.life != life.1 {
            return;
        }
        let Some(Saving { writes, durable, .. }) = &mut device.saving else { return };
        if std::mem::replace(durable, true) {
            return;
        }
        let begins_anew = writes.iter().any(|write| matches!(write, Write::Clear));
        let before = device.memory.as_ref().unwrap_or(&device.disk).outbox();
        match &mut device.memory {
            Some(memory) => memory.save(writes),
            None => device.disk.save(writes),
        }
        self.watch_saved(life.0, &before, begins_anew);
        if self.devices[life.0].browser.is_some() {
            self.tab_saved(life.0);
        }
    }

    pub(crate) fn save_ends(&mut self, life: Life, error: Option<String>) {
        let device = &mut self.devices[life.0];
        if device.life != life.1 {
            return;
        }
        let Some(Saving { ticket, tells, .. }) = device.saving.take() else { return };
        match error {
            None => {
                if let Some(leader) = device.browser.as_ref().and_then(Browser::leader) {
                    self.tab_input(life.0, leader, TabInput::Saved);
                }
                self.device_input(life.0, client::Input::Saved(ticket));
            }
            Some(words) => {
                // What failed is saved again as it is.
                device.preparing = tells;
                device.memory = Some(device.disk.clone());
                self.device_input(life.0, client::Input::SaveFailed(ticket, words));
            }
        }
    }

    // ------------------------------------------------------------ the token provider

    fn token_wanted(&mut self, life: Life) {
        let lasts = self.chance.weighted(&[(3, 6_000), (3, 30_000), (4, 3_600_000)]);
        let ends = BEGIN_MS + self.now + lasts;
        let token = Ok(self.token(&self.devices[life.0].user, ends));
        let fails = &mut self.devices[life.0].provider_fails;
        if *fails > 0 {
            *fails -= 1;
            self.mattered(Fault::ProviderFailed);
            return if self.fate(Fault::ProviderFailed).percent(50) {
                self.soon(1, 500, Happening::Token(life, Err("the app's server is down".into())));
            } else {
                self.soon(28_000, 40_000, Happening::Token(life, token));
            };
        }
        self.soon(1, 100, Happening::Token(life, token));
    }

    // ------------------------------------------------------------ the application

    /// An application asks; `None` when its device is down.
    pub(crate) fn ask(&mut self, index: usize, command: Command, asked: Asked) -> Option<RequestId> {
        if let Asked::Send(text) = &asked
            && self.devices[index].browser.is_some()
        {
            return self.tab_asks(index, command, &text.clone()).then_some(RequestId(0));
        }
        let device = &mut self.devices[index];
        device.client.as_ref()?;
        device.requests += 1;
        let request = RequestId(device.requests);
        device.asked.insert(request, asked);
        self.device_input(index, client::Input::Command(request, command));
        Some(request)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn call(&mut self, index: usize, command: Command) -> Option<Result<Answer, ChatError>> {
        self.devices[index].answer = None;
        self.ask(index, command, Asked::Call)?;
        for _ in 0..2_000 {
            if let Some(answer) = self.devices[index].answer.take() {
                return Some(answer);
            }
            if self.breach.is_some() {
                return None;
            }
            self.pass(20);
        }
        None
    }

    pub(crate) fn host(&mut self, index: usize, event: HostEvent) {
        self.device_input(index, client::Input::Host(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checker once took a position of one epoch for that of another, in which the same message had been sent again.
    #[test]
    fn what_a_signed_out_device_was_told_may_be_of_either_epoch() {
        let begun = vec!["old".to_owned(), "new".to_owned()];
        let told = Told { epoch: "old".into(), pos: 3, begun, ..Told::default() };
        assert_eq!(told.epochs(None), ["old", "new"]);
        assert_eq!(told.epochs(Some("new".into())), ["old"], "the position is of this epoch");
        let told = Told { pos: 0, ..told };
        assert_eq!(told.epochs(Some("new".into())), ["new"]);
        let gap = Gap { epoch: "new".into(), pos: 9, may_be_quiet: false, is_same_queue: false };
        let told = Told { gaps: VecDeque::from([gap]), ..told };
        assert_eq!(told.epochs(Some("new".into())), ["old"], "it comes before the gap");
    }
}
