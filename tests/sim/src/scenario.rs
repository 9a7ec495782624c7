//! What makes a world: a seed, and what a smaller scenario leaves out of it.

use core::fmt;
use std::collections::BTreeSet;

use crate::faults::Fault;

/// Steps of a whole scenario at most; the seed says how many there are.
pub const STEPS_MAX: u32 = 160;

/// A world's whole description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Everything follows from it.
    pub seed: u64,
    /// The first steps only.
    pub steps: Option<u32>,
    /// Steps that are left out.
    pub skip: BTreeSet<u32>,
    /// Kinds of faults that don't happen.
    pub without: BTreeSet<Fault>,
    /// People watch who is there, if the seed says so.
    pub presence: bool,
    /// Queues keep little, if the seed says so.
    pub queues: bool,
    /// Small groups come by their logs, if the seed says so.
    pub logs: bool,
    /// Messages are changed.
    pub changes: bool,
    /// People change what they show of themselves.
    pub profiles: bool,
    /// Sessions are ended, if the seed says so.
    pub ends: bool,
    /// A device has tabs that share its connection, if the seed says so.
    pub tabs: bool,
    /// A deliberate defect of a core that is switched on.
    pub defect: Option<&'static str>,
}

impl Scenario {
    /// The whole scenario of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: None,
            skip: BTreeSet::new(),
            without: BTreeSet::new(),
            presence: true,
            queues: true,
            logs: true,
            changes: true,
            profiles: true,
            ends: true,
            tabs: true,
            defect: None,
        }
    }

    /// The same without anything of presence: the worlds there were before there was any.
    #[must_use]
    pub fn without_presence(self) -> Self {
        Self { presence: false, ..self }
    }

    /// The same with queues that keep everything.
    #[must_use]
    pub fn with_long_queues(self) -> Self {
        Self { queues: false, ..self }
    }

    /// The same with groups that come by the queues.
    #[must_use]
    pub fn without_logs(self) -> Self {
        Self { logs: false, ..self }
    }

    /// The same with messages that stay as they were written, and groups that keep their titles.
    #[must_use]
    pub fn without_changes(self) -> Self {
        Self { changes: false, ..self }
    }

    /// The same with people who show nothing of themselves.
    #[must_use]
    pub fn without_profiles(self) -> Self {
        Self { profiles: false, ..self }
    }

    /// The same with sessions that nobody ends.
    #[must_use]
    pub fn without_ends(self) -> Self {
        Self { ends: false, ..self }
    }

    /// The same with devices of one page each.
    #[must_use]
    pub fn without_tabs(self) -> Self {
        Self { tabs: false, ..self }
    }

    /// The same with a deliberate defect.
    #[must_use]
    pub fn with_defect(self, defect: Option<&'static str>) -> Self {
        Self { defect, ..self }
    }
}

/// The arguments that make it again.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        if let Some(steps) = self.steps {
            write!(f, " --steps {steps}")?;
        }
        if !self.skip.is_empty() {
            let skip: Vec<_> = self.skip.iter().map(u32::to_string).collect();
            write!(f, " --skip {}", skip.join(","))?;
        }
        if !self.without.is_empty() {
            let without: Vec<_> = self.without.iter().map(|fault| fault.name()).collect();
            write!(f, " --without {}", without.join(","))?;
        }
        if !self.presence {
            write!(f, " --without-presence")?;
        }
        if !self.queues {
            write!(f, " --long-queues")?;
        }
        if !self.logs {
            write!(f, " --without-logs")?;
        }
        if !self.changes {
            write!(f, " --without-changes")?;
        }
        if !self.profiles {
            write!(f, " --without-profiles")?;
        }
        if !self.ends {
            write!(f, " --without-ends")?;
        }
        if !self.tabs {
            write!(f, " --without-tabs")?;
        }
        if let Some(defect) = self.defect {
            write!(f, " --defect {defect}")?;
        }
        Ok(())
    }
}
