//! What the app's own server asks, as a program draws it.

use bytes::Bytes;
use hongyan_protocol::{ConversationId, DeviceId, UserId};
use hongyan_relay::core::queries::{Answer, GroupQuery, Query};
use hongyan_relay::core::queue::Diffusion;
use hongyan_relay::store::{MemoryStore, Store, Table};

use crate::names::{DEVICES, USERS, users};
use crate::program::Program;

/// Any query. What is no id does not get past the front.
pub(crate) fn query(program: &mut Program<'_>, groups: &[String]) -> Query {
    let which = program.below(9);
    let user = UserId::new(program.pick::<&str>(&USERS)).expect("an id");
    let device = DeviceId::new(program.pick::<&str>(&DEVICES)).expect("an id");
    match which {
        0 => Query::Presence(users(program).iter().filter_map(|user| UserId::new(user).ok()).collect()),
        1 => Query::Devices(user),
        2 => Query::SignOut(user, device),
        3 => Query::Kick(user, program.flag().then_some(device)),
        4 => Query::RevokeTokens(user),
        5 => Query::CreateGroup {
            title: program.text(&["Geese", ""]),
            owner: user,
            members: members(program),
            mode: way(program),
        },
        6 | 7 => {
            // Mostly one that there is.
            let group = match groups.is_empty() || program.below(8) == 0 {
                true => "nowhere".to_owned(),
                false => program.pick(groups).clone(),
            };
            let Ok(group) = ConversationId::new(&group) else { return Query::Counters };
            let query = match program.below(5) {
                0 => GroupQuery::Show,
                1 => GroupQuery::Add(members(program)),
                2 => GroupQuery::Remove(members(program)),
                3 => GroupQuery::SetMode(way(program)),
                _ => GroupQuery::Members { after: program.flag().then_some(user), limit: program.below(600) },
            };
            Query::Group(group, query)
        }
        _ => match program.small() as usize % 301 {
            300 => Query::Counters,
            count => Query::Presence(vec![user; count]),
        },
    }
}

fn members(program: &mut Program<'_>) -> Vec<UserId> {
    users(program).iter().filter_map(|user| UserId::new(user).ok()).collect()
}

fn way(program: &mut Program<'_>) -> Diffusion {
    *program.pick(&[Diffusion::Auto, Diffusion::Copy, Diffusion::Reference, Diffusion::Log])
}

/// The row of the store in which it is written that it was done.
pub(crate) fn row(query: &Query) -> Option<(Table, Bytes)> {
    match query {
        Query::SignOut(user, device) => {
            Some((Table::Devices, format!("{}\0{}\0", user.as_str(), device.as_str()).into()))
        }
        Query::RevokeTokens(user) => Some((Table::Users, format!("{}\0", user.as_str()).into())),
        Query::Presence(_)
        | Query::Devices(_)
        | Query::Kick(..)
        | Query::CreateGroup { .. }
        | Query::Group(..)
        | Query::Counters => None,
    }
}

/// Whether what is told to be done is durable.
pub(crate) fn is_true(answer: &Answer, row: Option<&(Table, Bytes)>, durable: &MemoryStore) -> bool {
    match (answer, row) {
        (Answer::SignedOut | Answer::TokensRevoked(_), Some((table, key))) => {
            durable.get(*table, key).expect("memory").is_some()
        }
        (Answer::Group(group), _) => {
            let key = [group.id.as_str().as_bytes(), &[0]].concat();
            durable.get(Table::Groups, &key).expect("memory").is_some()
        }
        (Answer::SignedOut | Answer::TokensRevoked(_), None) => false,
        _ => true,
    }
}
