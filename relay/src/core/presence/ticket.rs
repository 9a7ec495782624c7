//! The ticket that opens the goodbye of one connection by beacon: the connection's id, signed under a key that is
//! made anew at each start. It opens nothing else, and only while that connection's lease has not been said goodbye
//! to or taken over, so it is of no use twice.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hongyan_protocol::limits::{BEACON_BYTES_MAX, BYE_TICKET_BYTES_MAX};
use hongyan_protocol::{Code, wire};
use prost::Message as _;
use sha2::Sha256;

use crate::core::entropy::Entropy;
use crate::core::io::{ConnectionId, Verifier};
use crate::core::relay::Relay;
use crate::store::Store;

/// Bytes of the connection's id, before the signature.
const ID_BYTES: usize = 8;
/// Bytes of the signature.
const SIGNATURE_BYTES: usize = 32;

const _: () = assert!(ID_BYTES + SIGNATURE_BYTES <= BYE_TICKET_BYTES_MAX);

/// Makes and checks tickets.
pub(super) struct Tickets(Hmac<Sha256>);

impl Tickets {
    pub(super) fn new(entropy: &mut Entropy) -> Self {
        Self(Hmac::new(&entropy.key().into()))
    }

    fn of(&self, connection: ConnectionId) -> Bytes {
        let id = connection.0.to_be_bytes();
        let signature = self.0.clone().chain_update(id).finalize().into_bytes();
        [id.as_slice(), signature.as_slice()].concat().into()
    }

    /// Whose it is. The comparison takes the same time for every wrong signature.
    fn check(&self, ticket: &[u8]) -> Option<ConnectionId> {
        let (id, signature) = ticket.split_first_chunk::<ID_BYTES>()?;
        self.0.clone().chain_update(id).verify_slice(signature).ok()?;
        Some(ConnectionId(u64::from_be_bytes(*id)))
    }
}

impl<S: Store, V: Verifier> Relay<S, V> {
    pub(in crate::core) fn ticket_of(&self, connection: ConnectionId) -> Bytes {
        self.presences.tickets.of(connection)
    }

    /// A beacon: the goodbye of a connection that may have ended already. What it can't open it does not touch, and
    /// nobody learns which.
    pub(in crate::core) fn beacon(&mut self, body: Bytes) {
        if body.len() > BEACON_BYTES_MAX {
            return;
        }
        let Ok(wire::Beacon { ticket, bye }) = wire::Beacon::decode(body) else { return };
        let Some(connection) = self.presences.tickets.check(&ticket) else { return };
        if self.say_goodbye(connection, &bye.unwrap_or_default()) {
            self.close(connection, Code(1000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_of_one_connection_and_one_start() {
        let tickets = Tickets::new(&mut Entropy::new([1; 32]));
        let ticket = tickets.of(ConnectionId(7));
        assert_eq!(tickets.check(&ticket), Some(ConnectionId(7)));
        for bit in 0..ticket.len() * 8 {
            let mut forged = ticket.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tickets.check(&forged), None);
        }
        for len in 0..ticket.len() {
            assert_eq!(tickets.check(&ticket[..len]), None);
        }
        assert_eq!(Tickets::new(&mut Entropy::new([2; 32])).check(&ticket), None);
    }
}
