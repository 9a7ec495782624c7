//! What the relay does about ends of sessions, held against who asked for them and what is durable: after each input no
//! session goes on that must not, and none ended that nobody ended.

use std::collections::{BTreeMap, BTreeSet};

use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, ClientFrame, client_frame::Verb};
use hongyan_relay::core::queries::{Answer, Query, QueryId};
use hongyan_relay::core::{ConnectionId, DevicesMax, Input};
use hongyan_relay::store::Batch;

use super::{Cause, Standing, Wanted, devices_max};
use crate::disk::Left;
use crate::faults::Fault;
use crate::relay_process::issued;
use crate::truth;
use crate::world::{Happening, World};

impl World {
    // ------------------------------------------------------------ the relay's life

    pub(crate) fn ends_start(&mut self) {
        if self.shape.ends.is_none() {
            return;
        }
        self.ends.sessions.clear();
        self.ends_are_durable();
        let lost = self.ends.told_signed_out.difference(&self.ends.signed_out).next().cloned();
        let forgotten = self
            .ends
            .told_revoked
            .iter()
            .find(|(user, until)| self.ends.revoked.get(*user).is_none_or(|revoked| revoked < *until));
        if let Some((user, device)) = lost {
            let expected =
                format!("device {device:?} of {user}, told to be signed out, is so after a restart");
            return self.broke("ends", expected, "it is not");
        }
        if let Some((user, until)) = forgotten {
            let expected = format!("tokens of {user} up to {until} are revoked after a restart");
            self.broke("ends", expected, "they are not");
        }
    }

    /// The relay is gone, and this is left of the commit that was under way.
    pub(crate) fn ends_stop(&mut self, left: Left, was_synced: bool) {
        self.ends.sessions.clear();
        self.ends.signing_out.clear();
        if std::mem::take(&mut self.ends.is_committing) {
            match left {
                Left::Lost | Left::Torn => self.mattered(Fault::EndLost),
                Left::Kept => self.mattered(Fault::EndKept),
                Left::Nothing if was_synced => self.mattered(Fault::EndKept),
                Left::Nothing => {}
            }
        }
    }

    /// An older store took the place of this one: what was told of it is of another epoch.
    pub(crate) fn ends_restored(&mut self) {
        self.ends.told_signed_out.clear();
        self.ends.told_revoked.clear();
        self.ends.signed_out.clear();
        self.ends.revoked.clear();
    }

    pub(crate) fn ends_commit(&mut self, batch: &Batch) {
        if self.shape.ends.is_none() {
            return;
        }
        let (signed_out, revoked) = truth::ends_in(batch);
        self.ends.signing_out = signed_out.difference(&self.ends.signed_out).cloned().collect();
        let grows =
            |(user, until): (&String, &u64)| *until > self.ends.revoked.get(user).copied().unwrap_or(0);
        self.ends.is_committing = !self.ends.signing_out.is_empty() || revoked.iter().any(grows);
    }

    /// What is durable is read anew.
    fn ends_are_durable(&mut self) {
        let users = crate::world::USERS.iter().map(|(user, _)| *user);
        (self.ends.signed_out, self.ends.revoked) = self.relay.store.look(|tables| {
            let mut signed_out = BTreeSet::new();
            let mut revoked = BTreeMap::new();
            for user in users {
                let devices = truth::signed_out(tables, user);
                signed_out.extend(devices.map(|device| (user.to_owned(), device)));
                let until = truth::revoked_before(tables, user);
                if until > 0 {
                    revoked.insert(user.to_owned(), until);
                }
            }
            (signed_out, revoked)
        });
    }

    /// The devices of a user that are signed out.
    pub(super) fn signed_out_of(&self, user: &str) -> BTreeSet<String> {
        let of_user = self.ends.signed_out.iter().filter(|(of, _)| of == user);
        of_user.map(|(_, device)| device.clone()).collect()
    }

    // ------------------------------------------------------------ inputs

    /// What an input may end, before it is given.
    pub(crate) fn ends_input(&mut self, input: &Input) {
        if self.shape.ends.is_none() {
            return;
        }
        self.ends.superseded.clear();
        self.ends.cause = Cause::Other;
        match input {
            Input::Frame(id, bytes) => {
                let Ok(frame) = ClientFrame::from_bytes(bytes.clone()) else { return };
                self.ends.cause = self.cause_of(*id, frame);
            }
            Input::Query(_, Query::Kick(user, device)) => {
                let (user, device) = (user.to_string(), device.as_ref().map(ToString::to_string));
                let count = self.ends.sessions.values().filter(|it| it.is_kicked(&user, device.as_deref()));
                self.ends.cause = Cause::Kick(user.clone(), device.clone(), count.count());
            }
            Input::Closed(id) => drop(self.ends.sessions.remove(id)),
            Input::Committed(_, Ok(())) => {
                self.ends.is_committing = false;
                for (user, device) in std::mem::take(&mut self.ends.signing_out) {
                    self.presence_signed_out(&user, &device);
                }
            }
            _ => {}
        }
    }

    fn cause_of(&mut self, id: ConnectionId, frame: ClientFrame) -> Cause {
        match frame.verb {
            Some(Verb::Hello(hello)) if !self.ends.sessions.contains_key(&id) => {
                let standing = Standing {
                    user: hello.user,
                    device: hello.device,
                    kind: hello.device_kind,
                    issued: issued(&hello.token),
                    since: self.relay.clock.moment(self.now),
                    leaving: false,
                };
                let outnumbered = self.outnumbered_by(&standing);
                Cause::Hello(id, standing, outnumbered)
            }
            Some(Verb::Renew(renew)) => Cause::Renew(id, issued(&renew.token)),
            Some(Verb::Bye(wire::Bye { logout: true, .. })) => {
                self.device_logs_out(id, true);
                Cause::Other
            }
            _ => Cause::Other,
        }
    }

    /// All sessions of its device log out with it, or do not after all.
    fn device_logs_out(&mut self, id: ConnectionId, leaving: bool) {
        let Some(Standing { user, device, .. }) = self.ends.sessions.get(&id).cloned() else { return };
        let of_device = self.ends.sessions.values_mut().filter(|it| it.user == user && it.device == device);
        of_device.for_each(|it| it.leaving = leaving);
    }

    /// The connections of those other devices of its kind that have been connected the longest, as many as are too many.
    fn outnumbered_by(&self, hello: &Standing) -> BTreeSet<ConnectionId> {
        let Some(max) = devices_max(&self.relay.config, hello.kind) else { return BTreeSet::new() };
        let is_other = |it: &Standing| {
            it.user == hello.user && it.kind == hello.kind && it.device != hello.device && !it.leaving
        };
        let others = || self.ends.sessions.iter().filter(|(_, it)| is_other(it));
        let mut since: BTreeMap<&str, (u64, ConnectionId)> = BTreeMap::new();
        for (id, it) in others() {
            let first = since.entry(&it.device).or_insert((it.since, *id));
            *first = (it.since, *id).min(*first);
        }
        let mut devices: Vec<_> = since.into_iter().map(|(device, since)| (since, device)).collect();
        devices.sort_unstable();
        let leave = (devices.len() + 1).saturating_sub(max);
        let leave: BTreeSet<&str> = devices.into_iter().take(leave).map(|(_, device)| device).collect();
        others().filter(|(_, it)| leave.contains(it.device.as_str())).map(|(id, _)| *id).collect()
    }

    // ------------------------------------------------------------ what the relay says

    pub(crate) fn ends_welcome(&mut self, id: ConnectionId) {
        let Cause::Hello(hello, standing, _) = &self.ends.cause else { return };
        if *hello != id {
            return;
        }
        let standing = standing.clone();
        self.ends.is_welcomed = true;
        self.judge_standing("is let in", &standing);
        self.ends.sessions.insert(id, standing);
    }

    pub(crate) fn ends_renewed(&mut self, id: ConnectionId) {
        let Cause::Renew(of, issued) = self.ends.cause else { return };
        let Some(standing) = self.ends.sessions.get_mut(&id).filter(|_| of == id) else { return };
        standing.issued = issued;
        let standing = standing.clone();
        self.judge_standing("renews its token", &standing);
    }

    /// Who is signed out, or has a token that is revoked, has no session.
    fn judge_standing(&mut self, does: &str, standing: &Standing) {
        let Standing { user, device, issued, .. } = standing;
        let of = (user.clone(), device.clone());
        let revoked = [&self.ends.revoked, &self.ends.told_revoked].map(|it| it.get(user).copied());
        let revoked = revoked.into_iter().flatten().max().unwrap_or(0);
        if self.ends.signed_out.contains(&of) || self.ends.told_signed_out.contains(&of) {
            let happened = format!("device {device:?} of {user} {does}");
            return self.broke("ends", "a device that is signed out is refused for good", happened);
        }
        if revoked > 0 && *issued <= revoked {
            let happened = format!("device {device:?} of {user} {does} with one of {issued}");
            self.broke("ends", format!("{user}'s tokens up to {revoked} open nothing"), happened);
        }
    }

    /// The relay refuses something.
    pub(crate) fn ends_rejected(&mut self, id: ConnectionId, code: Code) {
        let (standing, issued) = match &self.ends.cause {
            Cause::Hello(of, standing, _) if *of == id => (Some(standing.clone()), standing.issued),
            Cause::Renew(of, issued) if *of == id => (self.ends.sessions.get(&id).cloned(), *issued),
            _ => (None, 0),
        };
        match (code, standing) {
            (Code::STORAGE_FAILED, _) => self.device_logs_out(id, false),
            (Code::LOGGED_OUT, Some(standing)) => {
                self.mattered(Fault::SignedOutAway);
                self.ends_signed_out(&standing.user, &standing.device);
            }
            (Code::TOKEN_REVOKED, Some(standing)) => {
                self.mattered(Fault::RevokedRefused);
                self.judge_revoked(&standing.user, issued);
            }
            (Code::LOGGED_OUT | Code::TOKEN_REVOKED | Code::KICKED | Code::SUPERSEDED, _) => {
                let happened = format!("another request is refused with {code}");
                self.broke("ends", "only a hello, or a token, is refused so", happened);
            }
            _ => {}
        }
    }

    /// The relay ends a connection.
    pub(crate) fn ends_closed(&mut self, id: ConnectionId, code: Code) {
        let Some(standing) = self.ends.sessions.remove(&id) else { return };
        match code {
            // It, or another page of it, said so.
            Code::LOGGED_OUT if standing.leaving => {}
            Code::LOGGED_OUT => self.ends_signed_out(&standing.user, &standing.device),
            Code::TOKEN_REVOKED => {
                let presented = match self.ends.cause {
                    Cause::Renew(of, issued) if of == id => issued,
                    _ => standing.issued,
                };
                self.judge_revoked(&standing.user, presented);
            }
            Code::KICKED => {
                let is_meant = match &self.ends.cause {
                    Cause::Kick(user, device, _) => standing.is_kicked(user, device.as_deref()),
                    _ => false,
                };
                if !is_meant {
                    let happened = format!("device {:?} of {} was", standing.device, standing.user);
                    self.broke("ends", "only who is kicked is kicked", happened);
                }
            }
            Code::SUPERSEDED => {
                let is_same = match &self.ends.cause {
                    Cause::Hello(_, hello, _) => {
                        hello.user == standing.user && hello.device == standing.device
                    }
                    _ => false,
                };
                if !is_same {
                    self.ends.superseded.insert(id);
                }
            }
            _ => {}
        }
    }

    /// The device, or who signed it out, is told that it is signed out: that must be durable.
    pub(crate) fn ends_signed_out(&mut self, user: &str, device: &str) {
        if self.shape.ends.is_none() {
            return;
        }
        if !self.relay.store.look(|tables| truth::signed_out(tables, user).any(|other| other == device)) {
            let expected = format!("device {device:?} of {user} is signed out when that is durable");
            return self.broke("ends", expected, "nothing on the disk says so");
        }
        self.ends.told_signed_out.insert((user.to_owned(), device.to_owned()));
    }

    /// It is told that its token is revoked: the same.
    fn judge_revoked(&mut self, user: &str, issued: u64) {
        let until = self.relay.store.look(|tables| truth::revoked_before(tables, user));
        if issued > until {
            let expected =
                format!("{user}'s token of {issued} is refused when a later revocation is durable");
            self.broke("ends", expected, format!("the disk has one up to {until}"));
        }
    }

    /// The relay answers the app's server.
    pub(crate) fn ends_answered(&mut self, id: QueryId, answer: Answer) {
        let Some(wanted) = self.ends.orders.remove(&id) else { return };
        match (wanted, answer) {
            (Wanted::SignOut(user, device), Answer::SignedOut) => {
                self.ends_signed_out(user.as_str(), device.as_str());
            }
            (Wanted::SignOut(..), Answer::NoSuchDevice) => {}
            (Wanted::Kick(..), Answer::Kicked(count)) => {
                if let Cause::Kick(_, _, expected) = self.ends.cause
                    && expected != count
                {
                    self.broke("ends", format!("{expected} connections are kicked"), format!("{count}"));
                }
            }
            (Wanted::Revoke(user), Answer::TokensRevoked(until)) => {
                let user = user.as_str();
                let durable = self.relay.store.look(|tables| truth::revoked_before(tables, user));
                if durable < until.0 {
                    let expected = format!("tokens of {user} up to {until:?} are revoked durably");
                    return self.broke("ends", expected, format!("those up to {durable} are"));
                }
                self.ends.told_revoked.insert(user.to_owned(), until.0);
                // The next whole second, as the API tells it.
                self.ends.issued_min.insert(user.to_owned(), (until.0 / 1_000 + 1) * 1_000);
            }
            (wanted, Answer::Refused(_)) => {
                self.ends.orders.insert(id, wanted);
                self.soon(500, 2_000, Happening::OrderDue(id));
            }
            _ => self.broke("ends", "the app's server is answered what it asked", "another answer came"),
        }
    }

    // ------------------------------------------------------------ after each input

    pub(crate) fn ends_settle(&mut self, has_committed: bool) {
        if self.shape.ends.is_none() || self.breach.is_some() {
            return;
        }
        if has_committed {
            self.ends_are_durable();
        }
        let was_welcomed = std::mem::take(&mut self.ends.is_welcomed);
        let (expected, hello) = match std::mem::take(&mut self.ends.cause) {
            Cause::Hello(id, _, expected) if was_welcomed => (expected, Some(id)),
            _ => (BTreeSet::new(), None),
        };
        let ended = std::mem::take(&mut self.ends.superseded);
        if ended != expected {
            let expected = format!("connections {expected:?} have to go for the hello of {hello:?}");
            return self.broke("ends", expected, format!("{ended:?} had to"));
        }
        let standings: Vec<_> = self.ends.sessions.values().filter(|it| !it.leaving).cloned().collect();
        let mut devices: BTreeMap<(&str, i32), BTreeSet<&str>> = BTreeMap::new();
        for standing in &standings {
            self.judge_standing("goes on", standing);
            let of_kind = devices.entry((&standing.user, standing.kind)).or_default();
            of_kind.insert(&standing.device);
        }
        for ((user, kind), devices) in devices {
            let most = devices_max(&self.relay.config, kind).unwrap_or(usize::MAX);
            if devices.len() > most {
                let expected = format!("{user} has {most} devices of the kind {kind} connected at most");
                return self.broke("ends", expected, format!("{}", devices.len()));
            }
        }
    }

    /// The operator lets any number of devices be connected: all must be able to come back.
    pub(crate) fn lift_policy(&mut self) {
        if self.relay.is_up() && self.relay.config.devices_max != DevicesMax::default() {
            self.note(|| "any number of devices may be connected from now on".into());
            self.crash_relay();
        }
    }
}

impl Standing {
    /// The app's server means it when it kicks this user, or this device of hers.
    fn is_kicked(&self, user: &str, device: Option<&str>) -> bool {
        self.user == user && device.is_none_or(|device| self.device == device) && !self.leaving
    }
}
