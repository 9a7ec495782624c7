//! Which way a message takes into its members' queues.

/// What the configuration says of it. A change of it is noticed by nobody: readers take either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Diffusion {
    /// By the number of members and the size of the message.
    #[default]
    Auto,
    /// Every member's entry carries the message itself.
    Copy,
    /// Every member's entry points to the message in the log.
    Reference,
}

/// How messages are diffused.
#[derive(Clone, Debug)]
pub struct DiffusionConfig {
    /// The way, or that it is chosen for each message.
    pub mode: Diffusion,
    /// Members of a conversation whose messages are copied, at most …
    pub copy_members_max: usize,
    /// … and bytes of such a message.
    pub copy_bytes_max: usize,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        // As `examples/diffusion.rs` measures: a copy of a short text is read in half the time and written about as fast,
        // and each further byte or member costs more than it saves.
        Self { mode: Diffusion::Auto, copy_members_max: 2, copy_bytes_max: 256 }
    }
}

impl DiffusionConfig {
    /// Whether each of so many members gets a copy of a message of so many bytes.
    pub(crate) fn copies(&self, members: usize, bytes: usize) -> bool {
        match self.mode {
            Diffusion::Auto => members <= self.copy_members_max && bytes <= self.copy_bytes_max,
            Diffusion::Copy => true,
            Diffusion::Reference => false,
        }
    }
}
