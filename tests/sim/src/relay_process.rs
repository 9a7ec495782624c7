//! The relay as a process on a machine: the real core over the simulated disk, its commits, its ends and starts.

use std::collections::VecDeque;

use hongyan_protocol::{Code, Time, UserId};
use hongyan_relay::core as relay;
use hongyan_relay::core::io::{Identity, Verifier};
use hongyan_relay::core::queue::Diffusion;
use hongyan_relay::core::{ConnectionId, CoreConfig, Relay, Ticket};
use hongyan_relay::store::StoreError;

use crate::chance::Chance;
use crate::changes::CHANGE_WITHIN_MS;
use crate::clock::Clock;
use crate::disk::{Left, SimStore, Tables};
use crate::faults::Fault;
use crate::queues::Tended;
use crate::truth;
use crate::world::{Happening, World};

/// Knows a token `user@end` or `user@end@issued`; everything else is forged.
pub(crate) struct OpenVerifier;

impl Verifier for OpenVerifier {
    fn verify(&self, token: &str) -> Result<Identity, String> {
        let (user, ends) = token.split_once('@').ok_or("The token has no end.")?;
        let user = UserId::new(user).map_err(|error| error.to_string())?;
        let expires = ends.split('@').next().unwrap_or_default();
        let expires = Time(expires.parse().map_err(|_| "The token's end is no number.")?);
        let issued = Some(issued(token)).filter(|issued| *issued > 0).map(Time);
        Ok(Identity { user, expires, issued })
    }
}

/// When a token was issued; 0 when it does not say.
pub(crate) fn issued(token: &str) -> u64 {
    token.split('@').nth(2).and_then(|issued| issued.parse().ok()).unwrap_or(0)
}

/// The machine and the process.
pub(crate) struct RelayProcess {
    core: Option<Relay<SimStore, OpenVerifier>>,
    /// Counts the starts.
    pub(crate) life: u32,
    pub(crate) store: SimStore,
    pub(crate) epoch: String,
    pub(crate) clock: Clock,
    committing: Option<Ticket>,
    synced: bool,
    /// The commit under way, if it tends queues.
    pub(crate) tended: Option<Tended>,
    /// The latest that its clock said since the last commit began.
    pub(crate) latest: u64,
    /// Resets for what the next commit has to drop: whose, and what was expected.
    pub(crate) resets: Vec<(String, String)>,
    /// The next commit fails.
    pub(crate) commit_fails: bool,
    /// The next commit takes so long.
    pub(crate) commit_takes_ms: u64,
    pub(crate) disk_full_until: u64,
    pub(crate) backup: Option<Tables>,
    pub(crate) config: CoreConfig,
    starting: bool,
    /// Nobody starts it any more.
    pub(crate) stopped: bool,
}

impl RelayProcess {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            core: None,
            life: 0,
            store: SimStore::new(),
            epoch: String::new(),
            clock,
            committing: None,
            synced: false,
            tended: None,
            latest: 0,
            resets: Vec::new(),
            commit_fails: false,
            commit_takes_ms: 0,
            disk_full_until: 0,
            backup: None,
            config: CoreConfig::default(),
            starting: false,
            stopped: false,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    /// Nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.core.is_some() && self.committing.is_none()
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.core.as_ref()?.next_deadline().map(|at| self.clock.when(at.0))
    }
}

impl World {
    fn relay_config(&self) -> CoreConfig {
        let mut config = CoreConfig::default();
        if self.shape.small {
            config.unacknowledged_max = 6;
            config.outgoing_bytes_target = 2_000;
            config.outgoing_bytes_max = 24_000;
            config.stalled_ms = 3_000;
            config.uncommitted_bytes_max = 20_000;
        }
        if self.shape.strict && self.faulty && !self.scenario.without.contains(&Fault::RateLimited) {
            (config.sends_per_second, config.sends_burst) = (2, 4);
            (config.requests_per_second, config.requests_burst) = (4, 12);
        }
        if self.scenario.changes {
            config.change_within_ms = CHANGE_WITHIN_MS;
        }
        // Each start may take another way, and nobody may notice.
        let mut chance = Chance::new(self.scenario.seed, 1_000 + u64::from(self.relay.life));
        config.diffusion.mode = *chance.pick(&[Diffusion::Auto, Diffusion::Copy, Diffusion::Reference]);
        if let Some(shape) = self.shape.presence {
            shape.configure(&mut config);
        }
        if let Some(shape) = &self.shape.queue {
            shape.configure(&mut config);
        }
        if let Some(shape) = &self.shape.logs {
            shape.configure(&mut config);
        }
        if let Some(shape) = &self.shape.ends
            && self.faulty
            && !self.scenario.without.contains(&Fault::Superseded)
        {
            shape.configure(&mut config);
        }
        config
    }

    pub(crate) fn relay_starts(&mut self) {
        self.relay.starting = false;
        if self.relay.core.is_some() {
            return;
        }
        let (seed, config) = (self.chance.seed(), self.relay_config());
        self.relay.config = config.clone();
        match Relay::open(config.clone(), self.relay.store.clone(), OpenVerifier, seed) {
            Ok(core) => {
                self.relay.life += 1;
                self.relay.epoch = core.epoch().as_str().to_owned();
                self.relay.core = Some(core);
                self.presence_starts(&config);
                self.ends_start();
                if !self.all_profiles_are_told() {
                    self.mattered(Fault::ProfileResumed);
                }
                let life = self.relay.life;
                self.note(|| format!("the relay starts, life {life}"));
            }
            // A disk that can't be read at the start: the operator starts it again.
            Err(_) => self.relay_comes_back(200, 1_000),
        }
        self.count_reads();
    }

    fn relay_comes_back(&mut self, low: u64, high: u64) {
        if !self.relay.starting && !self.relay.stopped {
            self.relay.starting = true;
            self.soon(low, high, Happening::RelayStarts);
        }
    }

    pub(crate) fn relay_input(&mut self, input: relay::Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let clock = self.relay.clock;
            let now = relay::Now {
                moment: relay::Moment(clock.moment(self.now)),
                time: Time(clock.time(self.now)),
            };
            self.relay.latest = self.relay.latest.max(clock.time(self.now));
            if self.relay.core.is_some() {
                self.presence_input(&input);
                self.ends_input(&input);
            }
            let has_committed = matches!(input, relay::Input::Committed(_, Ok(())));
            let Some(core) = &mut self.relay.core else { return };
            core.handle(now, input);
            let outputs: Vec<_> = std::iter::from_fn(|| core.poll()).collect();
            core.take_fault();
            self.count_reads();
            for output in outputs {
                if self.breach.is_some() {
                    return;
                }
                match output {
                    relay::Output::Transmit(link, bytes) => {
                        self.watch_told(link, &bytes);
                        if let Some(link) = self.links.get_mut(&link) {
                            link.telling.backlog += bytes.len();
                        }
                        self.send_down(link, Happening::Down(link, bytes));
                    }
                    relay::Output::Close(link, code) => {
                        self.presence_closed(link, code);
                        self.ends_closed(link, code);
                        self.relay_closes(link, code);
                        inputs.push_back(relay::Input::Closed(link));
                    }
                    relay::Output::Commit(ticket, batch) => self.commit(ticket, &batch),
                    relay::Output::Answer(id, answer) => self.ends_answered(id, answer),
                    relay::Output::Drained => {
                        self.note(|| "the relay has drained".into());
                        self.relay_ends(Code::GOING_AWAY);
                        self.relay_comes_back(100, 3_000);
                        return;
                    }
                    relay::Output::Failed(sentence) => {
                        self.note(|| format!("the relay fails: {sentence}"));
                        self.mattered(Fault::CommitFailed);
                        self.relay_ends(Code::GOING_AWAY);
                        self.relay_comes_back(100, 3_000);
                        return;
                    }
                }
            }
            self.presence_settles(has_committed);
            self.ends_settle(has_committed);
        }
    }

    fn relay_closes(&mut self, id: ConnectionId, code: Code) {
        match code {
            Code::SLOW_READER => self.mattered(Fault::SlowReader),
            Code::TOKEN_EXPIRED => self.mattered(Fault::TokenExpired),
            _ => {}
        }
        self.note(|| format!("the relay closes connection {}: {code}", id.0));
        self.send_down(id, Happening::DownClosed(id, code));
        if let Some(link) = self.links.get_mut(&id) {
            link.at_relay = None;
        }
    }

    fn count_reads(&mut self) {
        let (faults, early) = self.relay.store.take_counts();
        for _ in 0..faults {
            self.mattered(Fault::ReadFailed);
            self.presence_read_failed();
        }
        for _ in 0..early {
            self.mattered(Fault::SeenEarly);
        }
    }

    // ------------------------------------------------------------ commits

    fn commit(&mut self, ticket: Ticket, batch: &hongyan_relay::store::Batch) {
        if self.relay.committing.replace(ticket).is_some() {
            return self.broke("R4", "one commit is under way at most", "a second one began");
        }
        let life = self.relay.life;
        self.relay.store.write(batch);
        self.presence_commit(batch);
        self.ends_commit(batch);
        self.watch_tending(batch);
        self.relay.synced = false;
        let full = self.now < self.relay.disk_full_until;
        if full || std::mem::take(&mut self.relay.commit_fails) {
            if full {
                self.mattered(Fault::DiskFull);
            }
            let words = if full { "no room on the disk" } else { "the disk did not write" };
            return self.soon(0, 40, Happening::CommitEnds(life, Some(words.into())));
        }
        let late = std::mem::take(&mut self.relay.commit_takes_ms);
        if late > 0 {
            self.mattered(Fault::CommitLate);
        }
        let (shown, synced) = (self.chance.between(0, 10), late + self.chance.between(1, 30));
        let ends = synced + self.chance.between(0, 15);
        self.schedule(self.now + shown, Happening::CommitShown(life));
        self.schedule(self.now + synced, Happening::CommitSynced(life));
        self.schedule(self.now + ends, Happening::CommitEnds(life, None));
    }

    pub(crate) fn commit_shown(&mut self, life: u32) {
        if life == self.relay.life && self.relay.committing.is_some() && !self.relay.synced {
            self.relay.store.show();
        }
    }

    pub(crate) fn commit_synced(&mut self, life: u32) {
        if life == self.relay.life && self.relay.committing.is_some() {
            self.relay.store.sync();
            self.relay.synced = true;
            self.judge_tended();
        }
    }

    pub(crate) fn commit_ends(&mut self, life: u32, error: Option<String>) {
        if life == self.relay.life
            && let Some(ticket) = self.relay.committing.take()
        {
            let result = error.map_or(Ok(()), |words| Err(StoreError::Engine(words)));
            self.relay_input(relay::Input::Committed(ticket, result));
        }
    }

    // ------------------------------------------------------------ ends

    /// The process is gone. The connections end with `code`, after what was sent on them.
    fn relay_ends(&mut self, code: Code) {
        self.relay.core = None;
        self.relay.life += 1;
        let committing = self.relay.committing.take().is_some();
        let synced = std::mem::take(&mut self.relay.synced);
        let store = self.relay.store.clone();
        let left = store.crash(self.fate(Fault::RelayCrash));
        if left == Left::Kept {
            self.judge_tended();
        }
        self.relay.tended = None;
        self.relay.resets.clear();
        self.ends_stop(left, synced);
        match left {
            Left::Lost => self.mattered(Fault::CommitLost),
            Left::Torn => self.mattered(Fault::CommitTorn),
            Left::Kept => self.mattered(Fault::CommitKept),
            Left::Nothing if committing && synced => self.mattered(Fault::CommitKept),
            Left::Nothing => {}
        }
        let links: Vec<_> =
            self.links.iter().filter(|(_, link)| link.at_relay.is_some()).map(|(id, _)| *id).collect();
        for id in links {
            // A few find out for themselves: the machine is gone without a word.
            if code == Code(1006) && self.fate(Fault::RelayCrash).percent(20) {
                if let Some(link) = self.links.get_mut(&id) {
                    link.at_relay = None;
                    link.down.dead.get_or_insert(Fault::RelayCrash);
                    link.up.dead.get_or_insert(Fault::RelayCrash);
                    if !link.at_device {
                        self.links.remove(&id);
                    }
                }
                continue;
            }
            self.send_down(id, Happening::DownClosed(id, code));
            if let Some(link) = self.links.get_mut(&id) {
                link.at_relay = None;
            }
        }
    }

    /// SIGKILL, or the power.
    pub(crate) fn crash_relay(&mut self) {
        if self.relay.core.is_none() {
            return;
        }
        if self.links.values().any(|link| link.at_relay.is_some() && link.at_device) {
            self.mattered(Fault::RelayCrash);
        }
        self.note(|| "the relay is killed".into());
        self.relay_ends(Code(1006));
        let back = if self.fate(Fault::RelayCrash).percent(70) { 1_000 } else { 12_000 };
        self.relay_comes_back(50, back);
    }

    /// SIGTERM.
    pub(crate) fn drain_relay(&mut self) {
        if self.links.values().any(|link| link.at_relay.is_some() && link.at_device) {
            self.mattered(Fault::Drained);
        }
        self.relay_input(relay::Input::Drain { spread_ms: 2_000 });
    }

    pub(crate) fn take_backup(&mut self) {
        self.relay.backup = Some(self.relay.store.synced());
    }

    /// The relay is stopped, an older state is put in its place, and it starts again.
    pub(crate) fn restore_backup(&mut self) {
        let Some(backup) = self.relay.backup.clone() else { return };
        self.crash_relay();
        let before = self.relay.store.synced();
        let epoch = truth::epoch(&before);
        if epoch.is_empty() {
            return;
        }
        let store = SimStore::from_backup(&backup);
        let seed = self.chance.seed();
        if self.scenario.defect != Some(crate::defects::EPOCH_KEPT)
            && relay::renew_epoch(&store, seed).is_err()
        {
            return self.broke("R9", "a backup can be given a new epoch", "it was refused");
        }
        self.ends_restored();
        self.relay.store = store;
        self.relay.epoch = self.relay.store.look(truth::epoch);
        self.note(|| "a backup is restored".into());
        let lost = self.watch_restored(&before, &backup);
        if lost > 0 {
            self.mattered(Fault::Restored);
        }
        if epoch != self.relay.epoch {
            self.archive.insert(epoch, before);
        }
    }
}
