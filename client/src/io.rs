//! What goes into the core and what comes out of it.

use core::fmt;

use bytes::Bytes;
use hongyan_protocol::wire::{Content, DeviceKind};
use hongyan_protocol::{Class, Code, ConversationId, DeviceId, Key, Seq, Time, UserId};

use crate::view::{ChangeKind, Conversation, Device, GroupUpdate, Member, Message, Presence, Profile, State};

/// Milliseconds of a clock that never jumps (`performance.now()`, `Instant`), from any origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// This long after.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How long it is since `earlier`; 0 when that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, as the host reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub moment: Moment,
    /// For showing people when they wrote; it may jump.
    pub time: Time,
}

/// Names a socket: events of an older generation are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// Names a persisting or loading that the core asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Names a command of the application; the host chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What a client is made with.
#[derive(Clone)]
pub struct Config {
    /// Who logs in.
    pub user: UserId,
    /// What this device is.
    pub device_kind: DeviceKind,
    /// Program and version for the relay's statistics.
    pub agent: String,
    /// Names the page where the tabs of a device can't share a connection; empty when the connection stands for the
    /// whole device.
    pub tab: String,
    /// Other tabs listen, so each transaction is announced to them with [`Output::Prepare`].
    pub shared: bool,
    /// Where the cache lives, as the host found it.
    pub storage: Storage,
    /// While more of the queue is known to come, a transaction has so many entries at least, or what came within
    /// [`limits::GATHER_MS`](crate::limits::GATHER_MS); 0 where small ones cost nothing. At most
    /// [`limits::SAVED_ENTRIES_MAX`](crate::limits::SAVED_ENTRIES_MAX).
    pub gathered_entries: u64,
    /// Entropy: back-off jitter, keys and the device's id come from it. The host draws it anew at each start.
    pub seed: [u8; 32],
}

/// Where the cache lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The browser's database.
    IndexedDb,
    /// A store that the host handed in.
    Host,
    /// Nowhere durable: it is gone with the page.
    Memory,
}

/// One thing that happened.
pub enum Input {
    /// The cache was read; the first input of all, given once.
    Restored(Restored),
    /// The token provider answered; `Err` holds its own words.
    Token(Result<String, String>),
    /// The socket is open.
    Opened(Generation),
    /// A binary message came.
    Frame(Generation, Bytes),
    /// The socket closed or could not be opened; `code` is the WebSocket close code.
    Closed {
        /// Which socket.
        generation: Generation,
        /// RFC 6455 section 7.4; 1006 when the network ended it.
        code: Code,
        /// The peer's words, often empty.
        reason: String,
    },
    /// The writes of this ticket are durable.
    Saved(Ticket),
    /// The writes of this ticket failed, none of them took effect; the words are the platform's. From here on
    /// the host keeps the cache in memory.
    SaveFailed(Ticket, String),
    /// Messages of the cache for a [`Output::Load`], ascending. What is missing is not in the cache.
    Loaded(Ticket, Vec<(Seq, Bytes)>),
    /// The application asks for something.
    Command(RequestId, Command),
    /// The host tells of itself.
    Host(HostEvent),
    /// A deadline may have passed.
    Tick,
}

/// What the cache held, which is one user's; all empty when it is new. Of a cache that is broken or of another version the
/// host gives the outbox alone, as far as it can.
#[derive(Default)]
pub struct Restored {
    /// The record of [`Write::Meta`].
    pub meta: Option<Bytes>,
    /// The records of [`Write::Conversation`].
    pub conversations: Vec<Bytes>,
    /// The records of [`Write::Outbox`], ascending by order.
    pub outbox: Vec<(u64, Bytes)>,
    /// The records of [`Write::Profile`].
    pub profiles: Vec<Bytes>,
    /// Rises with each process that takes this cache over: it orders the device's connections at the relay.
    pub term: u64,
}

/// What the host knows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// The page became visible or hidden; the application came to the foreground or went.
    Visible(bool),
    /// The host's belief about the network. `true` may be wrong, `false` is obeyed.
    Network(bool),
    /// The page was shown, resumed or restored: an open socket may be dead, so it is probed. It also ends a
    /// [`HostEvent::Leave`].
    Wake,
    /// The page ends, is kept for going back to, or is frozen: goodbye, and no dialling until [`HostEvent::Wake`].
    Leave {
        /// How long this device needs to come back if it only reloads.
        returns_in_ms: u32,
        /// It certainly comes back.
        returns: bool,
    },
}

/// What an application may ask. Each is answered by one [`Output::Reply`].
pub enum Command {
    /// Write a message. Answered when it is durable at the relay or refused for good. The key of a failed
    /// message tries that one again.
    Send {
        /// Where.
        conversation: ConversationId,
        /// The idempotency key; made here when absent.
        key: Option<Key>,
        /// What.
        content: Content,
        /// Which message it answers.
        reply_to: Option<Seq>,
        /// Whom it calls.
        mentions: Vec<UserId>,
    },
    /// Change a message of the log. Answered with the message as it is then; what happened comes as an event.
    Change {
        /// Where.
        conversation: ConversationId,
        /// Which message.
        seq: Seq,
        /// The idempotency key; made here when absent.
        key: Option<Key>,
        /// What is to become of it.
        change: Change,
    },
    /// Forget a failed message.
    Discard(Key),
    /// A page of a conversation, from the cache where it has it. Neither bound: the newest, and after them what
    /// waits in the outbox.
    History {
        /// Of which.
        conversation: ConversationId,
        /// Below this seq, the newest first taken.
        before: Option<Seq>,
        /// Above this seq, the oldest first taken.
        after: Option<Seq>,
        /// At most so many (1 to the protocol's page limit).
        limit: usize,
    },
    /// The conversation list, newest first.
    Conversations {
        /// At most so many.
        limit: usize,
        /// After this one, in the list's order.
        before: Option<ConversationId>,
    },
    /// Everything up to `seq` (or the newest) is read.
    MarkRead {
        /// Of which.
        conversation: ConversationId,
        /// Up to where.
        seq: Option<Seq>,
    },
    /// Make a group.
    CreateGroup {
        /// The idempotency key; made here when absent.
        key: Option<Key>,
        /// Its title.
        title: String,
        /// Besides oneself.
        members: Vec<UserId>,
    },
    /// Add members to a group.
    AddMembers(ConversationId, Vec<UserId>),
    /// Remove members from a group.
    RemoveMembers(ConversationId, Vec<UserId>),
    /// Leave a group.
    LeaveGroup(ConversationId),
    /// Give a group another title.
    RenameGroup(ConversationId, String),
    /// Who is in a group.
    Members {
        /// Which group.
        conversation: ConversationId,
        /// After this user id.
        after: Option<UserId>,
        /// At most so many.
        limit: usize,
    },
    /// Be told how these users are. It replaces what the same `by` watched before; all that any `by` watches is
    /// watched. Answered with what is known once the relay answered, or at once without a connection.
    Watch {
        /// Who asks, of those that share this client; the host numbers them.
        by: u32,
        /// Whom.
        users: Vec<UserId>,
    },
    /// What these users show of themselves. Answered with what is here; where nothing is, once the relay answered. What
    /// is newer comes as an event.
    Profiles(Vec<UserId>),
    /// Change what the user shows of herself; what is `None` stays, what is empty is taken away.
    SetProfile {
        /// The idempotency key; made here when absent.
        key: Option<Key>,
        /// Her name.
        name: Option<String>,
        /// Where her picture is.
        avatar: Option<String>,
    },
    /// The user writes something there. Told to the others at most once in a while.
    Typing(ConversationId),
    /// The user's own devices.
    Devices,
    /// End the session of another device of the user.
    SignOut(DeviceId),
    /// Be shown to nobody, on all devices; or be shown again.
    SetInvisible(bool),
    /// Say goodbye and stop. Nothing comes out afterwards but its effects and its reply.
    Close,
    /// End this device's session at the relay, empty the cache unless it is to be kept, and stop.
    Logout {
        /// Keep the cache.
        keep_cache: bool,
    },
}

/// What is to become of a message.
pub enum Change {
    /// It says this from now on; its sender's.
    Edit(Content),
    /// It is taken back; its sender's, or the group's owner's.
    Recall,
    /// The user reacts to it.
    React(String),
    /// The user does not react so any more.
    Unreact(String),
}

/// The answer to a command.
pub enum Answer {
    /// To [`Command::Send`].
    Sent(Message),
    /// To [`Command::Change`].
    Message(Message),
    /// To [`Command::History`], ascending.
    History(Vec<Message>),
    /// To [`Command::Conversations`].
    Conversations(Vec<Conversation>),
    /// To [`Command::CreateGroup`].
    Group(ConversationId),
    /// To [`Command::Members`]; the flag says that there are more.
    Members(Vec<Member>, bool),
    /// To [`Command::Watch`], in its order.
    Presences(Vec<Presence>),
    /// To [`Command::Profiles`], in its order; to [`Command::SetProfile`], the user's own.
    Profiles(Vec<Profile>),
    /// To [`Command::Devices`].
    Devices(Vec<Device>),
    /// To all others.
    Done,
}

/// Why a command failed.
#[derive(Clone, PartialEq, Eq)]
pub struct ChatError {
    /// From the protocol's table.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
}

impl ChatError {
    /// An error with the table's own sentence.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self { code, message: code.sentence().into() }
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.code.class()
    }
}

impl fmt::Debug for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for ChatError {}

/// One thing to do.
pub enum Output {
    /// Ask the token provider; answered by [`Input::Token`]. Never asked again before the answer.
    NeedToken,
    /// Open a socket; the one before, if any, was hung up.
    Dial(Generation),
    /// Send a binary message on the socket.
    Transmit(Generation, Bytes),
    /// Close the socket; nothing of it is heard any more.
    Hangup {
        /// Which socket.
        generation: Generation,
        /// The WebSocket close code to give, 1000 or of the table.
        code: Code,
    },
    /// Persist, all or nothing; answered by [`Input::Saved`] or [`Input::SaveFailed`]. One is under way at most.
    Save(Ticket, Vec<Write>),
    /// Read messages with `from` ≤ seq ≤ `to` from the cache; answered by [`Input::Loaded`].
    Load {
        /// For the answer.
        ticket: Ticket,
        /// Of which.
        conversation: ConversationId,
        /// The lowest.
        from: Seq,
        /// The highest.
        to: Seq,
    },
    /// Post these bytes to the relay's `/bye`, as well as a page that ends can: the goodbye once more.
    Beacon(Bytes),
    /// With [`Config::shared`], right before each [`Output::Save`] of a new transaction: what the application will be
    /// told once that is durable, in order.
    Prepare(Vec<Event>),
    /// Tell the application.
    Event(Event),
    /// Answer the application.
    Reply(RequestId, Result<Answer, ChatError>),
}

/// One change of the cache. Records are opaque to the host.
#[derive(Clone)]
pub enum Write {
    /// Remove everything.
    Clear,
    /// The record of cursor, epoch and device.
    Meta(Bytes),
    /// A conversation's record.
    Conversation(ConversationId, Bytes),
    /// A conversation's record and messages are to go.
    ConversationGone(ConversationId),
    /// A message.
    Message(ConversationId, Seq, Bytes),
    /// Messages with seq < the bound are to go.
    MessagesBelow(ConversationId, Seq),
    /// A user's profile.
    Profile(UserId, Bytes),
    /// A user's profile is to go.
    ProfileGone(UserId),
    /// An entry of the outbox, by its order.
    Outbox(u64, Bytes),
    /// An entry of the outbox is to go.
    OutboxGone(u64),
}

/// What the application learns without asking.
#[derive(Clone)]
pub enum Event {
    /// A message of a log is known; each once, in the order of the queue, those of one log in its order. One's own are
    /// among them.
    Message(Message),
    /// A message of the outbox is now sending, sent or failed.
    Outbox(Message, Option<ChatError>),
    /// A conversation is as given now.
    Conversation(Conversation),
    /// The connection or the storage changed.
    State(State),
    /// The queue could not be continued: what happened in between is in the conversation list and the history,
    /// not in `Message` events.
    Gap,
    /// So much happened in a large group that it is not told message by message: those between, both excluded, are in
    /// its history only.
    LogGap {
        /// Which group.
        conversation: ConversationId,
        /// The last message that was told.
        after: Seq,
        /// The first that is told again.
        before: Seq,
    },
    /// A message of a log was changed; each change once, in their order, and after the message.
    Change {
        /// How.
        kind: ChangeKind,
        /// Who did it.
        by: UserId,
        /// When, by the relay's clock.
        time: Time,
        /// Of a reaction.
        reaction: Option<String>,
        /// As it is now; later changes may be in it already.
        message: Message,
    },
    /// So much has changed in a conversation that it is not told change by change: what was shown of it is to be read
    /// anew from its history.
    ChangesGap {
        /// Which conversation.
        conversation: ConversationId,
    },
    /// A group's membership or title changed.
    Group(GroupUpdate),
    /// A watched user is as given now.
    Presence(Presence),
    /// A user shows this of herself now: each change that becomes known, once, and never an older one after a newer one.
    Profile(Profile),
    /// A user began or ceased to write something.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// Whether she does.
        typing: bool,
    },
}
