//! Presence.

use hongyan_protocol::Code;

use super::Caller;
use crate::core::io::Verifier;
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::Store;

pub(super) fn unknown<S: Store, V: Verifier, B>(
    _: &mut Relay<S, V>,
    _: &Caller,
    _: B,
) -> Result<(), Refusal> {
    Err(Refusal::reject(Code::VERB_UNKNOWN))
}
