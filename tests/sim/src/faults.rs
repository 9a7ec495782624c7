//! The one table of faults. A world counts of each kind how often it happened, and how often it mattered: took
//! something away, delayed, doubled or refused it. A fault that never matters tests nothing.

use std::fmt::Write as _;

macro_rules! faults {
    ($($name:ident, $text:literal, $matters:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $(#[doc = $matters] $name,)*
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Fault] = &[$(Fault::$name),*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }

            /// When it is said to have mattered.
            #[must_use]
            pub const fn matters(self) -> &'static str {
                match self { $(Fault::$name => $matters,)* }
            }
        }
    };
}

faults! {
    // kind, name, when it mattered
    Cut, "cut", "a connection ended with frames under way, which were lost";
    SilentUp, "silent-up", "a direction went silent and frames to the relay were lost";
    SilentDown, "silent-down", "a direction went silent and frames to the device were lost";
    Slow, "slow", "a frame took longer than half a second";
    DialLost, "dial-lost", "nobody answered a dial";
    DialRefused, "dial-refused", "a dial was refused, because the relay was down";
    HalfOpen, "half-open", "the relay held a connection whose device had another one already";
    SlowReader, "slow-reader", "the relay closed a connection that read too slowly";
    DeviceCrash, "device-crash", "a device ended while something was under way in it";
    CrashBetweenOutputs, "crash-between-outputs", "outputs of an input were not done any more";
    SaveLost, "save-lost", "a device's transaction was lost with its crash";
    SaveUnreported, "save-unreported", "a device's transaction was durable but not reported when it crashed";
    SaveFailed, "save-failed", "a device's transaction failed, and its cache went to memory";
    CacheStale, "cache-stale", "a device came back with a cache from before it went to memory";
    CacheWiped, "cache-wiped", "a device's cache was emptied by its platform";
    TimersLate, "timers-late", "a device's deadline came late";
    LeaderChange, "leader-change", "another tab took the device over from its cache";
    Logout, "logout", "a device logged out, and came back as a new one";
    LongOffline, "long-offline", "a device came back to more than 20 entries";
    NetworkFlag, "network-flag", "the host said that there is no network";
    Hidden, "hidden", "a page was hidden, and woke";
    RelayCrash, "relay-crash", "the relay was killed with connections open";
    CommitLost, "commit-lost", "the relay was killed in a commit of which nothing was kept";
    CommitTorn, "commit-torn", "the relay was killed in a commit of which the disk kept a part";
    CommitKept, "commit-kept", "the relay was killed after a commit was durable and before it knew";
    CommitLate, "commit-late", "a commit took longer than half a second";
    CommitFailed, "commit-failed", "a commit failed, and the relay stopped";
    DiskFull, "disk-full", "a commit found no room on the disk";
    ReadFailed, "read-failed", "a read of the store failed";
    SeenEarly, "seen-early", "the relay read what was not yet synced";
    Drained, "drained", "the relay stopped in good order with connections open";
    Restored, "restored", "a backup was restored that lacked something";
    DeviceClock, "device-clock", "a device's clock jumped";
    RelayClock, "relay-clock", "a message has an earlier time than the one before it";
    Drift, "drift", "a clock ran fast or slow for a minute";
    TokenExpired, "token-expired", "the relay ended or refused a connection whose token had ended";
    TokenRenewed, "token-renewed", "a token was renewed on the open connection";
    ProviderFailed, "provider-failed", "the token provider failed or took too long";
    TokenForged, "token-forged", "a stranger's hello was refused";
    RateLimited, "rate-limited", "the relay refused a request as too soon";
    SendRepeated, "send-repeated", "a send came twice, and was answered with its first result";
    MemberGone, "member-gone", "a send was refused because its sender was removed";
    Outsider, "outsider", "one who is no member asked for a group, and was refused";
    Reset, "reset", "a device's queue could not be continued, and it was told of the gap";
    Overflow, "overflow", "entries were moved into a segment";
    Trimmed, "trimmed", "a queue does not keep its oldest entries any more";
    Expired, "expired", "a device was reset because what it lacks is not kept";
    NewDevice, "new-device", "a new device began with the list instead of the queue";
    LogBegan, "log-began", "a group came to have more members than the queues are for";
    LogEnded, "log-ended", "a group came by the queues again";
    LogPushLost, "log-push-lost", "a push of a log came without what is before it";
    LogPulled, "log-pulled", "what was missing of a log was pulled";
    Called, "called", "a message that calls a member came by her queue and by the log";
    Changed, "changed", "a device was told that a message was changed";
    ChangeRefused, "change-refused", "a change came too late, or of a message that was recalled";
    ChangeRepeated, "change-repeated", "a change came twice, and was answered with its first result";
    ChangePulled, "change-pulled", "changes of messages that were missing were pulled";
    ToldChanged, "told-changed", "a message was told late, as it was changed meanwhile";
    ProfileTold, "profile-told", "a device was told what a user shows of herself";
    ProfileRepeated, "profile-repeated", "a change of a profile came twice, and was answered";
    ProfileLate, "profile-late", "an entry told a newer profile than the one that it was made for";
    ProfileResumed, "profile-resumed", "a relay that was killed went on with telling of a profile";
    GoodbyeLost, "goodbye-lost", "a goodbye was lost on its socket";
    BeaconLost, "beacon-lost", "a beacon was lost, and so was what went on the socket";
    BeaconLate, "beacon-late", "a beacon came when the lease was over, or another connection's";
    BeaconRepeated, "beacon-repeated", "a beacon came after the goodbye had been heard";
    BeaconFirst, "beacon-first", "a beacon overtook what went on the socket";
    HelloLate, "hello-late", "a hello came after a newer connection's, and was refused";
    Takeover, "takeover", "a hello took the lease of a connection that was still open";
    QuickReconnect, "quick-reconnect", "a device came back before its lost socket was told";
    Reload, "reload", "a device came back within the time that its goodbye named";
    GoodbyeEnd, "goodbye-end", "the time that a goodbye named ended";
    LostEnd, "lost-end", "a device did not come back after its socket had ended";
    SilentEnd, "silent-end", "a lease ended because nothing was heard";
    BackgroundEnd, "background-end", "a mini-program's time in the background ended";
    TabEnded, "tab-ended", "one of a device's tabs ended, and another one stayed";
    AwayTold, "away-told", "a device said that nobody looks at it any more";
    BackForward, "back-forward", "a page left, and was gone back to";
    Recovered, "recovered", "a device came back after the relay's start while it was awaited";
    NobodyKnows, "nobody-knows", "a user was told to be unknown";
    InvisibleThere, "invisible-there", "a user who was there was told as offline because she is invisible";
    NotAContact, "not-a-contact", "one who is no contact asked to watch, and was refused";
    ContactLost, "contact-lost", "a watch ended because its user was no contact any more";
    Stale, "stale", "what was seen of others became unknown without a connection";
    SignedOut, "signed-out", "a device learned on its connection that it was signed out";
    SignedOutAway, "signed-out-away", "a hello was refused because its device had been signed out";
    Kicked, "kicked", "a kicked device stopped, and its user began anew";
    TokenRevoked, "token-revoked", "a device learned that its token was revoked";
    RevokedRefused, "revoked-refused", "a hello or a renewal was refused because its token was revoked";
    Superseded, "superseded", "a device had to go for another one of its kind";
    EndLost, "end-lost", "the relay was killed in the commit of a sign-out or a revocation, which was lost";
    EndKept, "end-kept", "the relay was killed in such a commit, which was kept, before it told anybody";
    TypingTold, "typing-told", "a member was told that another one types";
    TabClosed, "tab-closed", "a leading tab closed, and another one stayed";
    TabCrashed, "tab-crashed", "a leading tab crashed, and another one stayed";
    TabFrozen, "tab-frozen", "a frozen tab came back when more had been told";
    NoteLate, "note-late", "what one tab had said came late, to one that takes part";
    AskAgain, "ask-again", "a leading tab ended while another one waited for an answer";
    LastWordLost, "last-word-lost", "a leading tab ended before it told what it had saved, and the next one told it";
    TabMissed, "tab-missed", "a tab was told that it missed something";
}

/// Counters of all kinds.
#[derive(Clone, Debug)]
pub struct Coverage {
    happened: Vec<u64>,
    mattered: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { happened: vec![0; Fault::ALL.len()], mattered: vec![0; Fault::ALL.len()] }
    }
}

impl Coverage {
    /// It happened.
    pub fn happened(&mut self, fault: Fault) {
        self.happened[fault as usize] += 1;
    }

    /// It happened and mattered.
    pub fn mattered(&mut self, fault: Fault) {
        self.mattered[fault as usize] += 1;
    }

    /// Adds another world's.
    pub fn add(&mut self, other: &Self) {
        self.happened.iter_mut().zip(&other.happened).for_each(|(sum, count)| *sum += count);
        self.mattered.iter_mut().zip(&other.mattered).for_each(|(sum, count)| *sum += count);
    }

    /// Kinds that never mattered.
    #[must_use]
    pub fn missing(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.mattered[*fault as usize] == 0).collect()
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!("{:<22} {:>10} {:>10}  mattered means\n", "fault", "happened", "mattered");
        for fault in Fault::ALL {
            let (happened, mattered) = (self.happened[*fault as usize], self.mattered[*fault as usize]);
            // A kind that is seen by its effect only is counted there.
            let happened = happened.max(mattered);
            let _ =
                writeln!(table, "{:<22} {happened:>10} {mattered:>10}  {}", fault.name(), fault.matters());
        }
        table
    }
}
