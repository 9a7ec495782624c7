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
    /// A send is acknowledged when it is accepted.
    AckBeforeSync = "ack-before-sync";
    /// Members are told of a message when it is accepted.
    ToldBeforeSync = "told-before-sync";
    /// A key that was used before is not looked up.
    DedupForgotten = "dedup-forgotten";
    /// A key is looked up on the disk only, so a repeat during its commit is a new message.
    DedupWindowTooSmall = "dedup-window-too-small";
    /// One entry more than the window is told.
    WindowOffByOne = "window-off-by-one";
    /// The stream begins one entry too late.
    StreamOffByOne = "stream-off-by-one";
    /// After a restart the last seq is given out again.
    SeqTwice = "seq-twice";
    /// A copy in a queue is told although its message was changed since.
    CopyToldStale = "copy-told-stale";
    /// What was recalled stays in the log.
    RecalledStillThere = "recalled-still-there";
    /// The changer's other devices do not learn of a change.
    OwnChangeNotMirrored = "own-change-not-mirrored";
    /// Who was removed still gets the messages.
    RemovedStillTold = "removed-still-told";
    /// Who was removed may still read.
    RemovedStillReads = "removed-still-reads";
    /// The user's read mark is the last one that came.
    ReadMarkMovesBack = "read-mark-moves-back";
    /// The sender's other devices do not learn of a message.
    OwnNotMirrored = "own-not-mirrored";
    /// The end of a connection ends the session of the newer one of the same device.
    OldGoodbyeEndsNew = "old-goodbye-ends-new";
    /// A commit that failed is taken for one that is durable.
    FailedCommitForgotten = "failed-commit-forgotten";
    /// A reset names the position before a commit under way as if that were done.
    ResetAheadOfDurable = "reset-ahead-of-durable";
    /// Who could not take a push of a log is not told later how far it is.
    LogHintForgotten = "log-hint-forgotten";
    /// A group that comes by its log from now on says that it did so a message later.
    ChangeOverOffByOne = "change-over-off-by-one";
    /// An entry more than every active device has passed is dropped.
    TrimBeyondSlowest = "trim-beyond-slowest";
    /// What is left of a row at the end of a segment begins one entry too late.
    OverflowOffByOne = "overflow-off-by-one";
    /// A segment lacks one of the entries that are moved into it.
    MergeLosesEntry = "merge-loses-entry";
    /// A segment has an entry twice, and its last one not.
    MergeDoublesEntry = "merge-doubles-entry";
    /// A device behind what is kept goes on as if nothing were missing.
    ExpiredNotReset = "expired-not-reset";
    /// Of several references to a profile that are told together the first one tells it.
    ProfileToldFirst = "profile-told-first";
    /// Of those who are to be told of a profile the last one is not.
    ProfileToldToOneLess = "profile-told-to-one-less";
    /// After a restart nobody more is told of a profile that not all had been told of.
    TellingForgotten = "telling-forgotten";
    /// Who begins to write to each other are not told of each other's profiles.
    NotIntroduced = "not-introduced";
    /// The end of a token is not looked at.
    TokenEndIgnored = "token-end-ignored";
    /// The end of a connection whose lease was taken over ends the lease of the newer one.
    OldEndEndsLease = "old-end-ends-lease";
    /// What a lease waits for never comes: a ghost.
    LeaseNeverExpires = "lease-never-expires";
    /// A socket that ended is told at once, though the device may be back in a moment.
    LostHoldSkipped = "lost-hold-skipped";
    /// A user's status begins when that of her best device did.
    SinceMovesBack = "since-moves-back";
    /// A mini-program of which nobody can know is called offline.
    MiniprogramGuessedOffline = "miniprogram-guessed-offline";
    /// A hello takes the lease also when a newer connection holds it.
    LateHelloTaken = "late-hello-taken";
    /// Who says goodbye is offline at once, whatever the time it names.
    GoodbyeIsFinal = "goodbye-is-final";
    /// After a restart those who were there are offline until they come back.
    OfflineAfterRestart = "offline-after-restart";
    /// Who has left the last group with somebody may go on watching.
    WatchOutlivesGroup = "watch-outlives-group";
    /// Of who is invisible it is told that she types.
    InvisibleStillTypes = "invisible-still-types";
    /// Who signs a device out is answered when that is accepted.
    SignOutToldEarly = "sign-out-told-early";
    /// A device is told that it is signed out when that is accepted.
    SignedOutEarly = "signed-out-early";
    /// A device that was signed out is let in again.
    SignedOutLetIn = "signed-out-let-in";
    /// The sessions of a device that was signed out go on.
    SignedOutGoesOn = "signed-out-goes-on";
    /// A logout forgets that the device was signed out.
    LogoutForgetsSignOut = "logout-forgets-sign-out";
    /// The app's server is told of a revocation when that is accepted.
    RevocationToldEarly = "revocation-told-early";
    /// A revoked token is taken, at hello and for a renewal.
    RevokedTaken = "revoked-taken";
    /// Connections whose token was revoked go on.
    RevokedGoesOn = "revoked-goes-on";
    /// The kick of one device ends all of its user's sessions.
    KickEndsAll = "kick-ends-all";
    /// A session that the relay ended leaves its lease.
    EndLeavesLease = "end-leaves-lease";
    /// One device more of a kind may be connected than the policy lets.
    DevicesMaxOffByOne = "devices-max-off-by-one";
    /// Of the devices of a kind the newest has to go.
    NewestSuperseded = "newest-superseded";
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
