//! Every bound of the front, in one place; what an operator may change is in [`super::settings`].

use std::time::Duration;

use hongyan_protocol::limits::{CLIENT_FRAME_BYTES_MAX, RELAY_FRAME_BYTES_MAX, WATCH_USERS_MAX};

/// Frames of those who said hello that wait for the core, and are all taken in its next turn; a connection that has one
/// more waits with it, and reads nothing meanwhile.
pub(crate) const SETTLED_WAITING_MAX: usize = 256;
/// Connections that come or go and wait for the core …
pub(crate) const NEWCOMERS_WAITING_MAX: usize = 64;
/// … and of them so many are taken in one turn: a hello reads from the store.
pub(crate) const NEWCOMERS_PER_TURN_MAX: usize = 8;
/// Sockets' tasks that are woken at once: what the slowest of them delays another by.
pub(crate) const WAKES_AT_ONCE_MAX: usize = 64;
/// So many who get the same frame one after another are a crowd: a user's devices are none.
pub(crate) const CROWD_MIN: usize = 4;
/// When so few of them have not come to their turn yet, the next are woken.
pub(crate) const WAKES_LOW: usize = WAKES_AT_ONCE_MAX / 2;

/// What a socket reads at once, and keeps while it is idle, as most are. A longer frame gets as much as it needs.
pub(crate) const READ_BUFFER_BYTES: usize = 1024;
/// Outgoing frames are gathered up to this before they are written.
pub(crate) const WRITE_BUFFER_BYTES: usize = 32 * 1024;
/// What the system keeps unsent for a peer that does not take it. What is on its way to a peer comes on top, so one that is
/// fast and far away is not held up; left alone, the system would take megabytes for each that never reads.
#[cfg(target_os = "linux")]
pub(crate) const UNSENT_BYTES_MAX: u32 = 64 * 1024;
/// What may gather while the socket takes nothing: what was gathered, and one frame with its header.
pub(crate) const WRITE_BUFFER_BYTES_MAX: usize = WRITE_BUFFER_BYTES + RELAY_FRAME_BYTES_MAX + 1024;

/// How far the thread of those who have not said hello stands back, as a niceness: it gets a tenth of a processor for which
/// others compete, and all of an idle one.
#[cfg(target_os = "linux")]
pub(crate) const DOOR_NICE: i32 = 10;
/// … and steps aside after so long: what one who wakes may wait for it.
pub(crate) const DOOR_TURN: Duration = Duration::from_micros(200);

/// From the decision to end a connection to its end, however the peer behaves.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(3);
/// A peer that sent what can't be read gets so long to read why.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(1);
/// A request's head.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of one request.
pub(crate) const HEADERS_MAX: usize = 64;

/// From a request's head to the end of its body.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(5);

/// Connections over the bounds that are still answered with a sentence; beyond, they are dropped.
pub(crate) const REFUSALS_MAX: usize = 64;

/// Who opens connections too fast waits so long at most; who would have to wait longer is refused, after once or twice as
/// long.
pub(crate) const PACE_WAIT: Duration = Duration::from_secs(1);
/// So many wait to be refused; one more is refused at once.
pub(crate) const PACE_REFUSALS_MAX: usize = 4_096;
/// Addresses that opened a connection lately are looked through when there are this many, and twice as many as were left.
pub(crate) const PACED_ADDRESSES: usize = 1_024;

/// Connections that wait to be accepted, if the system allows so many. One more is not heard, and asks again only after a
/// second, then after two, then four.
pub(crate) const UNACCEPTED_MAX: u32 = 4_096;
/// After `accept` failed (no file descriptors, mostly) the relay waits so long before the next.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the core has to do after the last connection ended, or the store failed.
pub(crate) const CORE_END_TIME: Duration = Duration::from_secs(10);

/// The body of a request to the API.
pub(crate) const API_BODY_BYTES_MAX: usize = 4 * 1024;
/// The body of one that names many users, the longest ids escaped.
pub(crate) const API_USERS_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Requests to the API that are being served; more are told to come again.
pub(crate) const API_REQUESTS_MAX: usize = 64;
/// Users whose presence one request may ask for.
pub(crate) const API_USERS_MAX: usize = WATCH_USERS_MAX;

/// From a relay's stop until it is known after the restart who is there, in milliseconds.
pub(crate) const RESTART_MS_MAX: u64 = 30_000;

/// Keys of one kind.
pub(crate) const KEYS_MAX: usize = 16;
/// Bytes of a secret at least: of HS256, RFC 7518 section 3.2 wants as many as the hash has.
pub(crate) const SECRET_BYTES_MIN: usize = 32;
/// A secret's different bytes at least.
pub(crate) const SECRET_DISTINCT_BYTES_MIN: usize = 10;
/// How long a token of the development mode is valid when nobody says otherwise.
pub(crate) const DEV_TOKEN_TIME: Duration = Duration::from_secs(600);
/// The longest time that a token may be asked for.
pub(crate) const TOKEN_TIME_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// Connections to the metrics' own address.
pub(crate) const METRICS_CONNECTIONS_MAX: usize = 16;

const _: () = {
    assert!(NEWCOMERS_PER_TURN_MAX <= NEWCOMERS_WAITING_MAX);
    assert!(READ_BUFFER_BYTES < CLIENT_FRAME_BYTES_MAX);
};
