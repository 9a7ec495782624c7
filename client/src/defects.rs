//! Deliberate defects, each where it would be written by mistake, so that the simulated world can show that it finds
//! them. Without the feature `defects` (and nothing that ships has it) [`is_on`] is a constant `false`, and the
//! compiler removes every one.
//!
//! *How to add a defect:* a row here, `defects::is_on(…)` where it belongs, and a row in the simulation's test.

macro_rules! defects {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A deliberate defect.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Defect {
            $($(#[$doc])* $name,)*
        }

        #[cfg(feature = "defects")]
        impl Defect {
            /// All of them.
            pub const ALL: &'static [Defect] = &[$(Defect::$name),*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Defect::$name => $text,)* }
            }
        }
    };
}

defects! {
    /// The cursor is stored a transaction before the messages up to it.
    CursorBeforeBatch = "cursor-before-batch";
    /// What was on the wire is forgotten when the connection ends.
    OutboxLostOnReconnect = "outbox-lost-on-reconnect";
    /// A send that is repeated gets a new idempotency key.
    NewKeyOnRetry = "new-key-on-retry";
    /// A page of history is ordered by the times of its messages.
    SortByTime = "sort-by-time";
    /// What is streamed again is applied again.
    AppliedTwice = "applied-twice";
    /// Messages of one's own count as unread.
    OwnUnread = "own-unread";
    /// A read mark moves back.
    ReadMovesBack = "read-moves-back";
    /// A reset leaves the old messages in the cache.
    ResetKeepsCache = "reset-keeps-cache";
    /// A reset forgets to write the outbox again.
    ResetLosesOutbox = "reset-loses-outbox";
    /// The relay is told what was received, not what is durable.
    AckBeforeDurable = "ack-before-durable";
    /// Entries of the queue wait for more without an end.
    GathersForEver = "gathers-for-ever";
    /// A send goes on the wire before it is durable here.
    SendBeforeDurable = "send-before-durable";
    /// The application is told of a message before it is durable here.
    ToldBeforeDurable = "told-before-durable";
    /// All that waits goes on the wire at once, so a refused one is overtaken.
    OutboxOvertakes = "outbox-overtakes";
    /// A hello gives what was received, not what is durable.
    HelloBeforeDurable = "hello-before-durable";
    /// What is durable is acknowledged although this connection did not stream it, or a reset is due.
    AckBeyondStream = "ack-beyond-stream";
    /// Read marks that wait are told while a reset is due.
    ReadAcrossEpochs = "read-across-epochs";
    /// With nothing received, the epoch of a welcome is taken before its reset.
    EpochBeforeReset = "epoch-before-reset";
    /// Who wrote before learning of having joined is not taken for one who joined.
    JoinOvertaken = "join-overtaken";
    /// What is missing before a message of a group's log is not pulled.
    LogGapTaken = "log-gap-taken";
    /// What was told of a group's log is told again when it comes once more.
    LogToldTwice = "log-told-twice";
    /// What is missing before a change of a group's message is not pulled.
    ChangesGapTaken = "changes-gap-taken";
    /// A change that was told is told again when it comes once more.
    ChangeToldTwice = "change-told-twice";
    /// Where changes are not told one by one, the cache keeps the messages as they were.
    ChangesGapKeepsCache = "changes-gap-keeps-cache";
    /// A transaction that failed is taken for one that is durable.
    FailedSaveForgotten = "failed-save-forgotten";
    /// What was told of watched users before a reconnect is kept as if it were live: nobody is asked for again.
    PresenceKeptAsLive = "presence-kept-as-live";
    /// The relay is not told that nobody looks at the device any more.
    AwayNotTold = "away-not-told";
    /// What was heard of watched users is shown for ever without a connection.
    PresenceNeverStale = "presence-never-stale";
    /// Who is told to write is never told to have ceased, unless a message comes.
    TypingNeverEnds = "typing-never-ends";
    /// A profile is taken also when a newer one is known.
    OlderProfileTaken = "older-profile-taken";
    /// A newer version of a profile that is known is not told.
    NewerProfileUntold = "newer-profile-untold";
    /// A profile is not kept in the cache.
    ProfileNotKept = "profile-not-kept";
    /// A device that was signed out keeps what it has.
    SignedOutKeepsCache = "signed-out-keeps-cache";
    /// A client whose session was ended from elsewhere comes back by itself.
    ComesBackByItself = "comes-back-by-itself";
    /// What a leading tab accepted and had not saved is lost when it closes.
    OutboxLostOnLeaderChange = "outbox-lost-on-leader-change";
    /// A leading tab that closes says goodbye although another one stays.
    GoodbyeOfAnyTab = "goodbye-of-any-tab";
    /// What was asked of a leading tab that is gone is not asked again.
    AskLostOnLeaderChange = "ask-lost-on-leader-change";
    /// What a leading tab saved at its end and could not tell any more is told by nobody.
    LastWordForgotten = "last-word-forgotten";
    /// What a leading tab told of saves that never were on the disk is taken for what the next one told.
    SavesOfAnyTerm = "saves-of-any-term";
    /// The terms of a new cache begin as those of one that was deleted did.
    TermsOfDeletedCache = "terms-of-deleted-cache";
}

#[cfg(feature = "defects")]
thread_local! {
    static ON: core::cell::Cell<Option<Defect>> = const { core::cell::Cell::new(None) };
}

/// Switches a defect on for this thread, or all off.
#[cfg(feature = "defects")]
pub fn switch(defect: Option<Defect>) {
    ON.set(defect);
}

#[cfg(feature = "defects")]
pub(crate) fn is_on(defect: Defect) -> bool {
    ON.get() == Some(defect)
}

#[cfg(not(feature = "defects"))]
pub(crate) const fn is_on(_: Defect) -> bool {
    false
}
