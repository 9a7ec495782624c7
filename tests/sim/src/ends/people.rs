//! Who ends whose session, the app's server, and users who begin anew where their session ended.

use hongyan_client::view::SessionStatus;
use hongyan_client::{Client, Command};
use hongyan_protocol::{Code, DeviceId, UserId};
use hongyan_relay::core::Input;
use hongyan_relay::core::queries::{Query, QueryId};

use super::{ENDS, Wanted};
use crate::chance::Chance;
use crate::clock::BEGIN_MS;
use crate::device::Asked;
use crate::faults::Fault;
use crate::world::{Happening, World};

#[derive(Clone, Copy)]
enum Doing {
    /// By another device of the user, or by itself.
    SignOut,
    /// By the app's server.
    ServerSignsOut,
    Kick,
    Revoke,
    List,
}

const DOINGS: &[(u64, Doing)] = &[
    (6, Doing::SignOut),
    (3, Doing::ServerSignsOut),
    (5, Doing::Kick),
    (5, Doing::Revoke),
    (3, Doing::List),
];

impl Wanted {
    fn query(&self) -> Query {
        match self.clone() {
            Wanted::SignOut(user, device) => Query::SignOut(user, device),
            Wanted::Kick(user, device) => Query::Kick(user, device),
            Wanted::Revoke(user) => Query::RevokeTokens(user),
        }
    }
}

impl World {
    /// What a step brings of ends.
    pub(crate) fn ends_step(&mut self, step: u32) {
        let Some(often) = self.shape.ends.as_ref().map(|shape| shape.often) else { return };
        let mut chance = Chance::new(self.scenario.seed, 2_000_000 + u64::from(step));
        self.users_return(&mut chance);
        if !chance.percent(often) {
            return;
        }
        let index = chance.index(self.devices.len());
        let user = self.devices[index].user.clone();
        let other = self.other_device(index, &mut chance);
        let target = self.id_of(other);
        match (chance.weighted(DOINGS), target) {
            (Doing::SignOut, Some(target)) if self.may_end(Fault::SignedOut) => {
                self.note(|| format!("device {index} signs out {target:?}"));
                self.ask(index, Command::SignOut(target), Asked::Other);
                self.logs_out_too(other, &mut chance);
            }
            (Doing::ServerSignsOut, Some(target)) if self.may_end(Fault::SignedOut) => {
                self.server_asks(Wanted::SignOut(user, target));
                self.logs_out_too(other, &mut chance);
            }
            (Doing::Kick, target) if self.may_end(Fault::Kicked) => {
                let target = target.filter(|_| chance.percent(50));
                self.server_asks(Wanted::Kick(user, target));
            }
            (Doing::Revoke, _) if self.may_end(Fault::TokenRevoked) => {
                self.server_asks(Wanted::Revoke(user));
            }
            (Doing::List, _) => {
                let asked = Asked::Devices(self.relay.epoch.clone(), self.signed_out_of(user.as_str()));
                self.ask(index, Command::Devices, asked);
            }
            _ => return,
        }
        // The moment between an end and its commit is short.
        if chance.percent(20) && self.fault(Fault::RelayCrash, 100) {
            self.pass(chance.between(0, 50));
            self.crash_relay();
        }
    }

    fn may_end(&mut self, fault: Fault) -> bool {
        let may = self.faulty && !self.scenario.without.contains(&fault);
        if may {
            self.coverage.happened(fault);
        }
        may
    }

    /// Now and then a device that is signed out logs out itself at the same moment.
    fn logs_out_too(&mut self, index: usize, chance: &mut Chance) {
        if chance.percent(20) && self.may_end(Fault::Logout) {
            self.log_out(index);
        }
    }

    /// A device of the same user, or this one.
    fn other_device(&self, index: usize, chance: &mut Chance) -> usize {
        let own = self.devices.iter().filter(|device| device.user == self.devices[index].user);
        let own: Vec<_> = own.map(|device| device.index).collect();
        *chance.pick(&own)
    }

    /// The id that a device has, or comes back with.
    fn id_of(&self, index: usize) -> Option<DeviceId> {
        let device = &self.devices[index];
        let running = device.client.as_ref().and_then(Client::device).cloned();
        running.or_else(|| DeviceId::new(&device.disk.meta().device).ok())
    }

    // ------------------------------------------------------------ the app's server

    /// It asks, and asks again until it is answered.
    fn server_asks(&mut self, wanted: Wanted) {
        self.connections += 1;
        let id = QueryId(self.connections);
        let query = wanted.query();
        self.note(|| match &query {
            Query::SignOut(user, device) => format!("the app's server signs out {device:?} of {user}"),
            Query::Kick(user, device) => format!("the app's server kicks {user}, {device:?}"),
            _ => "the app's server revokes a user's tokens".into(),
        });
        self.ends.orders.insert(id, wanted);
        self.soon(1_000, 4_000, Happening::OrderDue(id));
        if self.relay.is_up() {
            self.relay_input(Input::Query(id, query));
        }
    }

    /// It has waited long enough for an answer.
    pub(crate) fn order_due(&mut self, id: QueryId) {
        if let Some(wanted) = self.ends.orders.remove(&id) {
            self.server_asks(wanted);
        }
    }

    /// The token that the app's server gives a user now, which ends then. In a world with ends it says when it was
    /// issued: not before what a revocation was answered with, whatever the relay's clock says.
    pub(crate) fn token(&self, user: &UserId, ends: u64) -> String {
        if self.shape.ends.is_none() {
            return format!("{user}@{ends}");
        }
        let least = self.ends.issued_min.get(user.as_str()).copied().unwrap_or(0);
        format!("{user}@{ends}@{}", least.max(BEGIN_MS + self.now))
    }

    // ------------------------------------------------------------ their users

    /// Whose session was ended begins anew, sooner or later.
    fn users_return(&mut self, chance: &mut Chance) {
        for index in 0..self.devices.len() {
            let Some(code) = self.ended_by(index) else { continue };
            if chance.percent(35) {
                self.note(|| format!("the user of device {index} begins anew after {code}"));
                if code == Code::KICKED {
                    self.mattered(Fault::Kicked);
                }
                self.device_ends(index, true);
                let at = self.now + chance.between(50, 3_000);
                self.schedule(at, Happening::DeviceStarts(index));
            }
        }
    }

    /// The code that a device's session was ended with, when it has done what that asks of it.
    fn ended_by(&self, index: usize) -> Option<Code> {
        let device = &self.devices[index];
        let state = device.client.as_ref()?.state();
        let is_over = state.status == SessionStatus::Stopped && device.saving.is_none();
        state.reason.map(|reason| reason.code).filter(|code| is_over && ENDS.contains(code))
    }
}
