//! Why a request is not done.

use hongyan_protocol::{Code, IdError};

use crate::store::StoreError;

/// Why a request is not done, and what becomes of its connection.
pub(super) enum Refusal {
    /// The request is refused, the connection stays.
    Reject(Reject),
    /// The request is refused and the connection ends with the same code.
    End(Reject),
    /// The connection ends without a word to the request.
    Close(Code),
    /// The store could not be read: the request is refused, and the host is told why.
    Fault(StoreError),
}

/// What a `Reject` says.
pub(super) struct Reject {
    pub(super) code: Code,
    /// Never holds anything of the request.
    pub(super) reason: &'static str,
    pub(super) retry_after_ms: u64,
}

impl Reject {
    pub(super) fn new(code: Code) -> Self {
        Self { code, reason: code.sentence(), retry_after_ms: 0 }
    }
}

impl Refusal {
    pub(super) fn reject(code: Code) -> Self {
        Self::Reject(Reject::new(code))
    }

    pub(super) fn end(code: Code) -> Self {
        Self::End(Reject::new(code))
    }

    /// A bad request, with what is bad about it.
    pub(super) fn bad(reason: &'static str) -> Self {
        Self::Reject(Reject { code: Code::BAD_REQUEST, reason, retry_after_ms: 0 })
    }

    /// Not permitted, with why not.
    pub(super) fn not_permitted(reason: &'static str) -> Self {
        Self::Reject(Reject { code: Code::NOT_PERMITTED, reason, retry_after_ms: 0 })
    }

    pub(super) fn rate_limited(retry_after_ms: u64) -> Self {
        Self::Reject(Reject { retry_after_ms, ..Reject::new(Code::RATE_LIMITED) })
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Fault(error)
    }
}

impl From<IdError> for Refusal {
    fn from(error: IdError) -> Self {
        Self::bad(match error {
            IdError::Empty => "An id must not be empty.",
            IdError::TooLong { .. } => "An id is too long.",
            IdError::ControlCharacter => "An id must not have control characters.",
        })
    }
}
