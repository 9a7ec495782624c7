//! What tabs say to each other. Each note reaches every other tab that is there, those of one tab in their order.

/// Names a tab while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TabId(pub u64);

/// A note on the channel.
///
/// *How to add one:* a row here, its handling in `Tabs::heard`, and its shape in the host's channel.
#[derive(Clone)]
pub enum Note<P> {
    /// A tab is there and wants to know who leads.
    Join {
        /// Which.
        tab: TabId,
        /// Somebody looks at it.
        visible: bool,
        /// The last save whose events it told; `None` for one that begins.
        told: Option<u64>,
    },
    /// A leader: to a tab that joins, or to all when it begins to lead.
    Lead {
        /// Whom it answers.
        to: Option<TabId>,
        /// Where it is.
        lead: Lead<P>,
    },
    /// The save is durable, and tells these events.
    Durable {
        /// The leader's.
        term: u64,
        /// The save before it that told something.
        after: u64,
        /// Its number.
        save: u64,
        /// In their order.
        events: Vec<P>,
    },
    /// An event of the moment, which no save brings.
    Now {
        /// The leader's.
        term: u64,
        /// What.
        event: P,
    },
    /// A tab is seen, or not; also how it makes itself known to a new leader.
    Visible {
        /// Which.
        tab: TabId,
        /// Somebody looks at it.
        visible: bool,
    },
    /// A tab goes.
    Leave {
        /// Which.
        tab: TabId,
    },
    /// The application of a tab asks something of the leader.
    Ask {
        /// The leader's who is asked. The next one has missed what went before, so it is asked everything again, in order.
        term: u64,
        /// Which.
        tab: TabId,
        /// For the answer.
        request: u64,
        /// What.
        ask: P,
    },
    /// The leader heard the ask; its answer may take long.
    Taken {
        /// The leader's.
        term: u64,
        /// Who asked.
        tab: TabId,
        /// Which.
        request: u64,
    },
    /// The answer.
    Reply {
        /// The leader's.
        term: u64,
        /// Who asked.
        tab: TabId,
        /// Which.
        request: u64,
        /// The answer or the error.
        result: Result<P, P>,
    },
}

/// Where a leader is.
#[derive(Clone)]
pub struct Lead<P> {
    /// The cache's count of its writers.
    pub term: u64,
    /// The last durable save that told something.
    pub saves: u64,
    /// How things are.
    pub snapshot: P,
    /// After which save `missed` begins: the one that was given in [`Note::Join`].
    pub since: Option<u64>,
    /// What was told after that save; `None`: it is not known, or that save was never on the disk.
    pub missed: Option<Vec<P>>,
}

impl<P> Note<P> {
    /// The term of a leader's note.
    pub(super) fn term(&self) -> Option<u64> {
        match self {
            Note::Lead { lead: Lead { term, .. }, .. }
            | Note::Durable { term, .. }
            | Note::Now { term, .. }
            | Note::Taken { term, .. }
            | Note::Reply { term, .. } => Some(*term),
            Note::Join { .. } | Note::Visible { .. } | Note::Leave { .. } | Note::Ask { .. } => None,
        }
    }
}
