//! One's own devices, and the sign-out of one of them.

use hongyan_protocol::DeviceId;
use hongyan_protocol::wire::{self, relay_frame::Event};

use super::Caller;
use crate::core::commit::Effect;
use crate::core::io::Verifier;
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::Store;

pub(super) fn list<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    _: wire::Devices,
) -> Result<(), Refusal> {
    let (devices, mark) = relay.devices(&caller.user)?;
    let list = Event::DeviceList(wire::DeviceList { devices });
    relay.answer_at(mark, caller.connection, caller.request, list);
    Ok(())
}

/// Another device, or one's own: that one is answered, and then ended like any.
pub(super) fn sign_out<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::SignOut,
) -> Result<(), Refusal> {
    let device = DeviceId::new(&body.device)?;
    let answer = Event::SignedOut(wire::SignedOut { device: body.device });
    let answer = Effect::Answer(caller.connection, caller.request, answer);
    if relay.sign_out(&caller.user, &device, answer)? {
        Ok(())
    } else {
        Err(Refusal::bad("There is no such device."))
    }
}
