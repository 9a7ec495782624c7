//! Newtypes: a bare string or number never crosses a function boundary.

use core::fmt;
use std::sync::Arc;

use crate::limits::{CONVERSATION_ID_BYTES_MAX, ID_BYTES_MAX};

/// Why a string is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// An id has at least one byte.
    Empty,
    /// An id has a limited number of bytes of UTF-8.
    TooLong {
        /// That limit.
        bytes_max: usize,
    },
    /// An id has no control characters (they separate ids in store keys, and break log lines).
    ControlCharacter,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdError::Empty => f.write_str("an id must not be empty"),
            IdError::TooLong { bytes_max } => write!(f, "an id has at most {bytes_max} bytes"),
            IdError::ControlCharacter => f.write_str("an id must not have control characters"),
        }
    }
}

impl std::error::Error for IdError {}

fn check(id: &str, bytes_max: usize) -> Result<(), IdError> {
    if id.is_empty() {
        Err(IdError::Empty)
    } else if id.len() > bytes_max {
        Err(IdError::TooLong { bytes_max })
    } else if id.chars().any(char::is_control) {
        Err(IdError::ControlCharacter)
    } else {
        Ok(())
    }
}

macro_rules! string_ids {
    ($($(#[$doc:meta])* $name:ident <= $bytes_max:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes an id.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, too long or has control characters.
            pub fn new(id: &str) -> Result<Self, IdError> {
                check(id, $bytes_max)?;
                Ok(Self(id.into()))
            }

            /// The id as it is on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

string_ids! {
    /// An account, named by the app's own back end.
    UserId <= ID_BYTES_MAX;
    /// One terminal of a user; random, made by the device.
    DeviceId <= ID_BYTES_MAX;
    /// What messages belong to. A direct conversation's id is made of its users', a group's is the relay's choice.
    ConversationId <= CONVERSATION_ID_BYTES_MAX;
    /// An idempotency key: a sender uses it for one message, however often that is sent.
    Key <= ID_BYTES_MAX;
    /// Names one life of a store: a store that was made anew or restored has another.
    Epoch <= ID_BYTES_MAX;
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first one.
            pub const ZERO: Self = Self(0);

            /// The one after.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before; zero stays zero.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// The number of a message in its log: 1, 2, 3 … without a gap.
    Seq;
    /// The number of an entry in a queue: 1, 2, 3 … without a gap.
    Pos;
    /// Counts the changes of a group.
    GroupVersion;
    /// The number of a change among those of a conversation's messages: 1, 2, 3 … without a gap.
    ChangeNumber;
    /// Counts the changes of a user's profile.
    ProfileVersion;
    /// Milliseconds since 1970 (UTC), by the relay's clock. For people to read; nothing is ordered by it.
    Time;
}

/// What a conversation is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConversationKind {
    /// Two users, or one user's notes to herself.
    Direct,
    /// A group.
    Group,
}

/// In a message's mentions: everybody in the conversation.
pub const MENTION_ALL: &str = "*";

/// Begins a direct conversation's id; a group's never begins so.
pub const DIRECT_MARK: char = '~';

impl ConversationId {
    /// The direct conversation of two users (one and the same for notes to oneself): `~5.alice.bob`, the lesser
    /// id first, with its length in bytes before it so that no two pairs share an id. Both sides compute it,
    /// so a conversation can be opened without the network.
    #[must_use]
    pub fn direct(one: &UserId, other: &UserId) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        let id = format!("{DIRECT_MARK}{}.{first}.{second}", first.as_str().len());
        Self(id.into())
    }

    /// Direct or group, as the id says.
    #[must_use]
    pub fn kind(&self) -> ConversationKind {
        if self.0.starts_with(DIRECT_MARK) { ConversationKind::Direct } else { ConversationKind::Group }
    }

    /// The two users of a direct conversation; `None` for a group, or when the id is not the one that
    /// [`ConversationId::direct`] makes of its users.
    #[must_use]
    pub fn users(&self) -> Option<(UserId, UserId)> {
        let (length, rest) = self.0.strip_prefix(DIRECT_MARK)?.split_once('.')?;
        // A number that `direct` would not write so.
        if length.starts_with(['0', '+']) {
            return None;
        }
        let length: usize = length.parse().ok()?;
        let first = UserId::new(rest.get(..length)?).ok()?;
        let second = UserId::new(rest.get(length..)?.strip_prefix('.')?).ok()?;
        (first <= second).then_some((first, second))
    }

    /// The other user of a direct conversation (oneself in notes to oneself); `None` when `user` is none of them.
    #[must_use]
    pub fn peer_of(&self, user: &UserId) -> Option<UserId> {
        match self.users()? {
            (first, second) if first == *user => Some(second),
            (first, second) if second == *user => Some(first),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn ids_are_checked() {
        assert_eq!(UserId::new(""), Err(IdError::Empty));
        assert_eq!(UserId::new("a\nb"), Err(IdError::ControlCharacter));
        assert_eq!(UserId::new(&"x".repeat(129)), Err(IdError::TooLong { bytes_max: 128 }));
        assert_eq!(UserId::new(&"x".repeat(128)).unwrap().as_str().len(), 128);
    }

    #[test]
    fn a_direct_conversation_is_the_same_from_both_sides() {
        let id = ConversationId::direct(&user("bob"), &user("alice"));
        assert_eq!(id.as_str(), "~5.alice.bob");
        assert_eq!(id, ConversationId::direct(&user("alice"), &user("bob")));
        assert_eq!(id.kind(), ConversationKind::Direct);
        assert_eq!(id.peer_of(&user("alice")), Some(user("bob")));
        assert_eq!(id.peer_of(&user("carol")), None);
    }

    #[test]
    fn forged_direct_ids_have_no_users() {
        // Not in order, wrong length, a length with a sign or leading zero, no second user.
        for id in
            ["~3.bob.alice", "~4.alice.bob", "~+5.alice.bob", "~05.alice.bob", "~5.alice.", "~5.alice", "~"]
        {
            assert_eq!(ConversationId::new(id).unwrap().users(), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn pairs_and_direct_ids_are_one_to_one(a in "[^\\p{Cc}]{1,20}", b in "[^\\p{Cc}]{1,20}") {
            let (a, b) = (user(&a), user(&b));
            let id = ConversationId::direct(&a, &b);
            prop_assert!(ConversationId::new(id.as_str()).is_ok());
            let (first, second) = id.users().unwrap();
            prop_assert!((first == a && second == b) || (first == b && second == a));
        }

        #[test]
        fn any_string_is_an_id_or_a_typed_error(id in ".{0,300}") {
            if let Ok(id) = ConversationId::new(&id) {
                let _ = id.users();
            }
        }
    }
}
