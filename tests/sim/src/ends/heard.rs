//! What devices do about the end of their session: they stop until their user begins anew, and one that is signed out
//! keeps nothing.

use hongyan_client::Generation;
use hongyan_client::view::{self, SessionStatus};
use hongyan_protocol::Code;

use super::ENDS;
use crate::faults::Fault;
use crate::world::{Life, World};

impl World {
    /// The relay may yet end this device's session by that connection.
    pub(crate) fn can_hear_ends(&self, life: Life, generation: Generation) -> bool {
        let device = &self.devices[life.0];
        self.shape.ends.is_some()
            && device.life == life.1
            && device.client.is_some()
            && device.socket == Some(generation)
    }

    /// It did, with this code.
    pub(crate) fn ends_heard(&mut self, life: Life, code: Code) {
        let Some(client) = self.devices[life.0].client.as_ref().filter(|_| ENDS.contains(&code)) else {
            return;
        };
        if self.devices[life.0].life != life.1 {
            return;
        }
        let state = client.state();
        let reason = state.reason.map(|reason| reason.code);
        if state.status != SessionStatus::Stopped || reason != Some(code) {
            return self.broke(
                "ends",
                format!("device {} stops with {code}, until its user begins anew", life.0),
                format!("{:?} with {reason:?}", state.status),
            );
        }
        match code {
            Code::LOGGED_OUT => self.mattered(Fault::SignedOut),
            Code::TOKEN_REVOKED => self.mattered(Fault::TokenRevoked),
            Code::SUPERSEDED => self.mattered(Fault::Superseded),
            _ => {}
        }
    }

    /// A device that was signed out has nothing of its user any more.
    pub(crate) fn look_at_ends(&mut self) {
        if self.shape.ends.is_none() {
            return;
        }
        let full = self.devices.iter().find(|device| {
            let state = device.client.as_ref().map(hongyan_client::Client::state);
            let is_signed_out = state.is_some_and(|state| {
                state.status == SessionStatus::Stopped
                    && state.reason.is_some_and(|reason| reason.code == Code::LOGGED_OUT)
            });
            is_signed_out && device.saving.is_none() && !device.cache().is_empty()
        });
        if let Some(index) = full.map(|device| device.index) {
            self.broke(
                "ends",
                format!("device {index}, signed out, keeps nothing"),
                "its cache is not empty",
            );
        }
    }

    /// An application is told which devices its user has.
    pub(crate) fn ends_listed(
        &mut self,
        epoch: &str,
        signed_out: &std::collections::BTreeSet<String>,
        list: &[view::Device],
    ) {
        let listed = list.iter().find(|device| signed_out.contains(device.device.as_str()));
        if let Some(listed) = listed.filter(|_| epoch == self.relay.epoch) {
            let happened = format!("{:?} is listed", listed.device);
            self.broke("ends", "a device that was signed out is listed no more", happened);
        }
    }
}
