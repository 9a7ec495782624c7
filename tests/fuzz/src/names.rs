//! Who and what the programs are about: few of each, so that things meet, and some at the edges.

use hongyan_protocol::{ConversationId, UserId};

use crate::program::Program;

/// Users. Some have ids that look like parts of other ids.
pub(crate) const USERS: [&str; 6] = ["alice", "bob", "carol", "~5.alice", "鴻雁", "g"];
/// Devices.
pub(crate) const DEVICES: [&str; 3] = ["tab", "phone", "alice"];
/// Idempotency keys.
pub(crate) const KEYS: [&str; 6] = ["k1", "k2", "k3", "k4", "k5", "k6"];
/// The wall clock at the beginning, milliseconds since 1970.
pub(crate) const TIME: u64 = 1_700_000_000_000;

/// A user of the list, or any text.
pub(crate) fn user(program: &mut Program<'_>) -> String {
    program.text(&USERS)
}

/// A few users.
pub(crate) fn users(program: &mut Program<'_>) -> Vec<String> {
    program.times(0..4, user)
}

/// A conversation: of two users, one of the groups, or any text.
pub(crate) fn conversation(program: &mut Program<'_>, groups: &[String]) -> String {
    let which = program.byte();
    match which {
        0..=127 => direct(usize::from(which & 7), usize::from(which >> 3 & 7)),
        128..=239 if groups.is_empty() => "gnone".into(),
        128..=239 => groups[usize::from(which) % groups.len()].clone(),
        240.. => program.text(&["", "~", "~5.alice.", "~05.alice.bob", "~3.bob.alice", "g\u{0}"]),
    }
}

/// The direct conversation of two users of the list.
pub(crate) fn direct(one: usize, other: usize) -> String {
    let user = |at: usize| UserId::new(USERS[at % USERS.len()]).expect("an id");
    ConversationId::direct(&user(one), &user(other)).as_str().to_owned()
}
