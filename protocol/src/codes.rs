//! The one table of codes: why the relay refused a request or ended a connection.
//!
//! A code is the `code` of a `Reject`, and, when a whole connection ends, the WebSocket close code (the range
//! 4000 to 4999 is an application's own, RFC 6455 section 7.4.2). The number's range decides what the client
//! does, so a client obeys codes that it has never heard of:
//!
//! | range | class | a request's reject | a connection's end |
//! | --- | --- | --- | --- |
//! | 4100–4199 | retry | ask again later | dial again later |
//! | 4200–4299 | reconnect | dial again, then ask again | dial again |
//! | 4300–4399 | stop | refused for good | don't dial again |
//!
//! *How to add a code:* one row below, its use in the relay, and a row in `PROTOCOL.md` (a test compares them).

use core::fmt;

/// What a client does about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The same request may succeed later on the same connection.
    Retry,
    /// The same request may succeed on a new connection.
    Reconnect,
    /// The same request will never succeed.
    Stop,
}

impl Class {
    /// The name that applications see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Class::Retry => "retry",
            Class::Reconnect => "reconnect",
            Class::Stop => "stop",
        }
    }
}

/// A reject or close code. Any number may arrive; [`Code::class`] is defined for all of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $sentence:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($number);)*

            /// Every code of this version, ascending.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The names as a TypeScript type, so that the SDK's declarations are made of this table.
            pub const TYPESCRIPT: &'static str = concat!(
                "/** Why something failed. A newer relay's unknown code is 'unknown'; its class still holds. */\n",
                "export type ErrorCode = ", $("'", $text, "' | ",)* "'unknown';"
            );

            /// The name that applications see; `"unknown"` for a number that this version does not have.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "unknown",
                }
            }

            /// A sentence that says what happened and what to do.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self.0 {
                    $($number => $sentence,)*
                    _ => "The relay gave a reason that this version does not know.",
                }
            }
        }
    };
}

codes! {
    /// The relay has more to do than it can hold.
    BUSY = 4100, "busy", "The relay is overloaded; try again shortly.";
    /// More sends, requests or changes of the profile per second than this user may make.
    RATE_LIMITED = 4101, "rate-limited", "Too many requests in a short time; slow down.";
    /// The store did not take a write.
    STORAGE_FAILED = 4102, "storage-failed", "The relay could not store this; it is not lost here, try again.";
    /// Nothing came back in time. Made by the client.
    TIMED_OUT = 4103, "timed-out", "The relay did not answer in time; try again when online.";

    /// The relay stops or restarts.
    GOING_AWAY = 4200, "going-away", "The relay restarts; the connection will be made again.";
    /// The peer read too slowly for what was due to it.
    SLOW_READER = 4201, "slow-reader", "This connection read too slowly; it resumes from its cursor.";
    /// Nothing was heard for the silence bound.
    SILENT = 4202, "silent", "Nothing was heard on this connection for too long.";
    /// The token ended while connected, or was too old at hello.
    TOKEN_EXPIRED = 4203, "token-expired", "The token has expired; a new one is needed.";
    /// No hello within its time.
    HELLO_TIMED_OUT = 4204, "hello-timed-out", "The connection said no hello in time.";
    /// Too many connections of this user or from this address.
    TOO_MANY_CONNECTIONS = 4205, "too-many-connections", "There are too many connections of this user or from this address.";
    /// A hello came late: a newer connection of the same device holds its lease.
    REPLACED = 4206, "replaced", "A newer connection of the same device is open.";

    /// A frame that is not of this wire, or is too large.
    BAD_FRAME = 4300, "bad-frame", "The relay could not read a frame.";
    /// No common version.
    VERSION_UNSUPPORTED = 4301, "version-unsupported", "Client and relay have no common protocol version; update the older one.";
    /// A token that is forged, malformed, for another audience, or without a known key.
    TOKEN_INVALID = 4302, "token-invalid", "The token is not valid here.";
    /// The token is another user's.
    TOKEN_USER_MISMATCH = 4303, "token-user-mismatch", "The token belongs to another user.";
    /// The first frame was no hello, or a second hello came.
    HELLO_EXPECTED = 4304, "hello-expected", "The first frame of a connection must be a hello, and only the first.";
    /// A verb that this relay does not know.
    VERB_UNKNOWN = 4305, "verb-unknown", "The relay does not know this request; it may be too old for it.";
    /// An id, key, title or count that is empty, too long or malformed.
    BAD_REQUEST = 4306, "bad-request", "The request is malformed.";
    /// The content is over the limit.
    CONTENT_TOO_LARGE = 4307, "content-too-large", "The message is too large.";
    /// Not a member of the conversation; also the answer for one that does not exist, so that nobody can probe.
    NOT_A_MEMBER = 4308, "not-a-member", "You are not a member of this conversation.";
    /// A member whose role does not permit it.
    NOT_PERMITTED = 4309, "not-permitted", "Your role does not permit this.";
    /// A group's bound would be passed.
    GROUP_FULL = 4310, "group-full", "The group cannot take so many members.";
    /// The device was signed out.
    LOGGED_OUT = 4311, "logged-out", "This device was signed out.";
    /// The client object was closed. Made by the client.
    CLOSED = 4312, "closed", "The chat was closed.";
    /// Another page of this device, or by the policy another device, took its place.
    SUPERSEDED = 4313, "superseded", "Another page or device of this user took this one's place.";
    /// The user's tokens up to now were revoked.
    TOKEN_REVOKED = 4314, "token-revoked", "The token was revoked; sign in again.";
    /// The app's server ended the session.
    KICKED = 4315, "kicked", "The app ended this session.";
    /// More users are watched than one connection may.
    WATCH_FULL = 4316, "watch-full", "Too many users are watched at once.";
    /// A newer version of the SDK runs in another tab. Made by the client.
    OUTDATED = 4317, "outdated", "A newer version of this app is open in another tab; reload this page.";
    /// A message has as many reactions as it may have.
    TOO_MANY_REACTIONS = 4318, "too-many-reactions", "This message has as many reactions as it may have.";
}

impl Code {
    /// What a client does about it. What lies outside the table's ranges (a library's or proxy's own close
    /// codes) means: dial again.
    #[must_use]
    pub const fn class(self) -> Class {
        match self.0 {
            4100..=4199 => Class::Retry,
            4300..=4399 => Class::Stop,
            _ => Class::Reconnect,
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_have_distinct_names() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn the_range_decides_also_for_the_unknown() {
        assert_eq!(Code::RATE_LIMITED.class(), Class::Retry);
        assert_eq!(Code(4199).class(), Class::Retry);
        assert_eq!(Code(4299).class(), Class::Reconnect);
        assert_eq!(Code(4399).class(), Class::Stop);
        assert_eq!(Code(1006).class(), Class::Reconnect);
        assert_eq!(Code(4399).name(), "unknown");
    }
}
