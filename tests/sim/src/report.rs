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
        let verdict =
            format!("Promise:  {}\nExpected: {}\nHappened: {}", self.promise, self.expected, self.happened);
        if self.last.is_empty() {
            return f.write_str(&verdict);
        }
        // Before and after: who reads the beginning or the end of a long log has it.
        writeln!(f, "{verdict}\nThe last events:")?;
        for line in &self.last {
            writeln!(f, "  {line}")?;
        }
        f.write_str(&verdict)
    }
}
