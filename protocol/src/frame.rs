//! Bytes to frames and back, within the limits.

use core::fmt;

use bytes::Bytes;
use prost::Message as _;

use crate::limits::{CLIENT_FRAME_BYTES_MAX, RELAY_FRAME_BYTES_MAX};
use crate::wire::{ClientFrame, RelayFrame, client_frame::Verb, relay_frame::Event};

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Longer than a frame may be.
    TooLarge {
        /// The bytes that came.
        bytes: usize,
        /// The bytes that may come.
        bytes_max: usize,
    },
    /// Not Protocol Buffers of this shape: truncated, a wrong type, or text that is not UTF-8.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::TooLarge { bytes, bytes_max } => {
                write!(f, "a frame of {bytes} bytes is over the limit of {bytes_max}")
            }
            DecodeError::Malformed => f.write_str("the bytes are not a frame"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A frame came out longer than it may be. It holds more than its sender's limits permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// The bytes it would have.
    pub bytes: usize,
    /// The bytes it may have.
    pub bytes_max: usize,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame of {} bytes would be over the limit of {}", self.bytes, self.bytes_max)
    }
}

impl std::error::Error for EncodeError {}

macro_rules! frames {
    ($frame:ident, $field:ident: $kind:ident, $bytes_max:expr) => {
        impl $frame {
            /// An unrequested frame, or one that wants no answer.
            #[must_use]
            pub fn push($field: $kind) -> Self {
                Self { request: 0, $field: Some($field) }
            }

            /// A frame that belongs to a request.
            #[must_use]
            pub fn of(request: u64, $field: $kind) -> Self {
                Self { request, $field: Some($field) }
            }

            /// Reads a frame. A kind that this version does not know comes out as `None`.
            ///
            /// # Errors
            /// [`DecodeError`]; the work is bounded by the frame's limit.
            pub fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
                if bytes.len() > $bytes_max {
                    return Err(DecodeError::TooLarge { bytes: bytes.len(), bytes_max: $bytes_max });
                }
                Self::decode(bytes).map_err(|_| DecodeError::Malformed)
            }

            /// Writes a frame.
            ///
            /// # Errors
            /// [`EncodeError`] when it is over the limit.
            pub fn to_bytes(&self) -> Result<Bytes, EncodeError> {
                let bytes = self.encoded_len();
                if bytes > $bytes_max {
                    return Err(EncodeError { bytes, bytes_max: $bytes_max });
                }
                Ok(self.encode_to_vec().into())
            }
        }
    };
}

frames!(ClientFrame, verb: Verb, CLIENT_FRAME_BYTES_MAX);
frames!(RelayFrame, event: Event, RELAY_FRAME_BYTES_MAX);
