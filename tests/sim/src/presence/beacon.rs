//! Beacons: goodbyes beside the socket, which may be lost, come late, twice, and in another order than what went on
//! the socket or than the next hello.

use bytes::Bytes;
use hongyan_protocol::wire;
use hongyan_relay::core::{ConnectionId, Input};
use prost::Message as _;

use crate::faults::Fault;
use crate::world::{Happening, World};

impl World {
    /// A page posts a beacon.
    pub(crate) fn beacon(&mut self, device: usize, bytes: Bytes) {
        let Some(id) = self.link_of(device) else { return };
        let life = self.relay.life;
        if self.fault(Fault::BeaconLost, 10) {
            if self.links.get(&id).is_some_and(|link| !link.is_alive()) {
                self.mattered(Fault::BeaconLost);
            }
            return;
        }
        let latency = self.shape.latency_ms;
        let mut at = self.now + self.chance.between(1, 2 + latency);
        if self.fault(Fault::BeaconLate, 12) {
            at += self.fate(Fault::BeaconLate).between(300, 8_000);
        }
        if self.fault(Fault::BeaconRepeated, 10) {
            let again = at + self.fate(Fault::BeaconRepeated).between(0, 4_000);
            self.schedule(again, Happening::Beacon(id, life, bytes.clone()));
        }
        self.schedule(at, Happening::Beacon(id, life, bytes));
    }

    /// It comes to the relay, whichever runs now.
    pub(crate) fn beacon_comes(&mut self, id: ConnectionId, life: u32, bytes: Bytes) {
        if !self.relay.is_up() {
            return;
        }
        self.note(|| format!("a beacon of connection {} comes", id.0));
        // A ticket is of no use after a restart.
        if life == self.relay.life {
            let now = self.moment();
            let bye = wire::Beacon::decode(bytes.clone()).unwrap_or_default().bye.unwrap_or_default();
            if self.tellings.known.says_goodbye(id, bye.returns_in_ms, bye.returns, now) {
                if self.links.get(&id).is_some_and(|link| link.up.under_way > 0) {
                    self.mattered(Fault::BeaconFirst);
                }
            } else if self.tellings.known.knew(id) {
                self.mattered(Fault::BeaconRepeated);
            } else {
                self.mattered(Fault::BeaconLate);
            }
        }
        self.relay_input(Input::Goodbye(bytes));
    }
}
