//! The limit of open files: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::FILES_BESIDES;

/// Raises the limit of open files as far as this process may, and says how many connections that allows.
#[must_use]
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(FILES_BESIDES)
}

/// Raises the limit for so many connections.
///
/// # Errors
/// A sentence when the system does not allow as many.
pub fn raise_for(connections: usize) -> Result<(), String> {
    let allowed = raise();
    if connections as u64 <= allowed {
        return Ok(());
    }
    Err(format!(
        "{connections} connections need as many open files, and this system allows {allowed} beside the others: raise \
         the limit (`ulimit -n`, or LimitNOFILE of the service), also for the relay."
    ))
}
