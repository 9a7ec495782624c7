//! Which way messages take to their members' devices.

use hongyan_protocol::limits::HELD_MEMBERS_MAX;

/// The way, as the configuration or a group says. A change of it is noticed by nobody: readers take any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Diffusion {
    /// By the number of members and the size of the message; of a group, as the configuration says.
    Auto = 0,
    /// Every member's entry carries the message itself.
    Copy = 1,
    /// Every member's entry points to the message in the log.
    Reference = 2,
    /// Nothing is written per member: devices follow the group's log.
    Log = 3,
}

/// How messages are diffused.
#[derive(Clone, Debug)]
pub struct DiffusionConfig {
    /// The way, or that it is chosen.
    pub mode: Diffusion,
    /// Members of a conversation whose messages are copied, at most …
    pub copy_members_max: usize,
    /// … and bytes of such a message.
    pub copy_bytes_max: usize,
    /// A group with more members than this comes by its log; with half as many, by the queues again.
    pub log_members: usize,
}

impl Default for DiffusionConfig {
    /// By what was measured: `docs/bench/diffusion.md`.
    fn default() -> Self {
        Self { mode: Diffusion::Auto, copy_members_max: 2, copy_bytes_max: 128, log_members: 500 }
    }
}

impl DiffusionConfig {
    /// A group's own wish, or what the configuration says.
    fn of(&self, group: Diffusion) -> Diffusion {
        if group == Diffusion::Auto { self.mode } else { group }
    }

    /// Whether each of so many members gets a copy of a message of so many bytes.
    pub(crate) fn copies(&self, group: Diffusion, members: usize, bytes: usize) -> bool {
        match self.of(group) {
            Diffusion::Auto | Diffusion::Log => {
                members <= self.copy_members_max && bytes <= self.copy_bytes_max
            }
            Diffusion::Copy => true,
            Diffusion::Reference => false,
        }
    }

    /// Whether a group of so many members comes by its log, when it did or did not.
    pub(crate) fn is_by_log(&self, group: Diffusion, was: bool, members: usize) -> bool {
        match self.of(group) {
            _ if members > HELD_MEMBERS_MAX => true,
            Diffusion::Log => true,
            Diffusion::Copy | Diffusion::Reference => false,
            // Not to and fro with each who comes and goes.
            Diffusion::Auto if was => members > self.log_members / 2,
            Diffusion::Auto => members > self.log_members,
        }
    }
}
