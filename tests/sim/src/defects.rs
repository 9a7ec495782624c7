//! Deliberate defects of the cores, by name. They are compiled in with the feature `defects` only, and switched on for
//! the world that is played on this thread.

#[cfg(feature = "defects")]
use hongyan_client::defects as client;
#[cfg(feature = "defects")]
use hongyan_relay::core::defects as relay;

/// A backup is put in place, and the store keeps its epoch: a defect of the operation, not of a core.
pub const EPOCH_KEPT: &str = "epoch-kept";

/// Every defect that is compiled in.
#[must_use]
pub fn all() -> Vec<&'static str> {
    #[allow(unused_mut, reason = "without the feature there is one only")]
    let mut all = vec![EPOCH_KEPT];
    #[cfg(feature = "defects")]
    {
        all.extend(relay::Defect::ALL.iter().map(|defect| defect.name()));
        all.extend(client::Defect::ALL.iter().map(|defect| defect.name()));
    }
    all
}

/// The defect of this name; `None` when there is none.
#[must_use]
pub fn named(name: &str) -> Option<&'static str> {
    all().into_iter().find(|defect| *defect == name)
}

/// Switches a defect on for this thread, and all others off.
#[cfg(feature = "defects")]
pub(crate) fn switch(defect: Option<&str>) {
    let is = |name: &str| defect == Some(name);
    client::switch(client::Defect::ALL.iter().copied().find(|defect| is(defect.name())));
    relay::switch(relay::Defect::ALL.iter().copied().find(|defect| is(defect.name())));
}

/// Nothing of a core to switch.
#[cfg(not(feature = "defects"))]
pub(crate) fn switch(_: Option<&str>) {}
