//! A broken promise, for people.

use core::fmt;

/// What was expected, what happened, and what went before.
#[derive(Clone, Debug)]
pub struct Breach {
    /// Which promise of DESIGN.md, section 3.
    pub promise: &'static str,
    /// What should be.
    pub expected: String,
    /// What is.
    pub happened: String,
    /// The last events; empty unless the world kept them.
    pub last: Vec<String>,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.last.is_empty() {
            writeln!(f, "The last events:")?;
            for line in &self.last {
                writeln!(f, "  {line}")?;
            }
        }
        writeln!(f, "Promise:  {}", self.promise)?;
        writeln!(f, "Expected: {}", self.expected)?;
        write!(f, "Happened: {}", self.happened)
    }
}
