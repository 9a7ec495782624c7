//! What the app's own server asks, as a program draws it.

use bytes::Bytes;
use hongyan_protocol::{DeviceId, UserId};
use hongyan_relay::core::queries::{Answer, Query};
use hongyan_relay::store::{MemoryStore, Store, Table};

use crate::names::{DEVICES, USERS, users};
use crate::program::Program;

/// Any query. What is no id does not get past the front.
pub(crate) fn query(program: &mut Program<'_>) -> Query {
    let which = program.below(6);
    let user = UserId::new(program.pick::<&str>(&USERS)).expect("an id");
    let device = DeviceId::new(program.pick::<&str>(&DEVICES)).expect("an id");
    match which {
        0 => Query::Presence(users(program).iter().filter_map(|user| UserId::new(user).ok()).collect()),
        1 => Query::Devices(user),
        2 => Query::SignOut(user, device),
        3 => Query::Kick(user, program.flag().then_some(device)),
        4 => Query::RevokeTokens(user),
        _ => Query::Presence(vec![user; program.small() as usize % 300]),
    }
}

/// The row of the store in which it is written that it was done.
pub(crate) fn row(query: &Query) -> Option<(Table, Bytes)> {
    match query {
        Query::SignOut(user, device) => {
            Some((Table::Devices, format!("{}\0{}\0", user.as_str(), device.as_str()).into()))
        }
        Query::RevokeTokens(user) => Some((Table::Users, format!("{}\0", user.as_str()).into())),
        Query::Presence(_) | Query::Devices(_) | Query::Kick(..) | Query::Counters => None,
    }
}

/// Whether what is told to be done is durable.
pub(crate) fn is_true(answer: &Answer, row: Option<&(Table, Bytes)>, durable: &MemoryStore) -> bool {
    match (answer, row) {
        (Answer::SignedOut | Answer::TokensRevoked(_), Some((table, key))) => {
            durable.get(*table, key).expect("memory").is_some()
        }
        (Answer::SignedOut | Answer::TokensRevoked(_), None) => false,
        _ => true,
    }
}
