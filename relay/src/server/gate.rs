//! How many connections may be open, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::addresses::bounded_together;

/// Counts connections and refuses those over the bounds.
pub(crate) struct Gate {
    max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
    empty: Notify,
}

#[derive(Default)]
struct Open {
    count: usize,
    /// Holds no zeros, so it is bounded by the connections.
    by_address: HashMap<IpAddr, usize>,
}

/// Which bound would be passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    InAll,
    FromAddress,
}

/// One connection's place; it is given back on drop.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    address: Option<IpAddr>,
}

impl Gate {
    pub(crate) fn new(max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_address_max, open: Mutex::default(), empty: Notify::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a place; without an address (a proxy's own connection) only the sum counts.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Pass, Refusal> {
        let address = address.map(bounded_together);
        let mut open = self.open();
        if open.count >= self.max {
            return Err(Refusal::InAll);
        }
        if let Some(address) = address {
            let from_address = open.by_address.entry(address).or_default();
            if *from_address >= self.per_address_max {
                return Err(Refusal::FromAddress);
            }
            *from_address += 1;
        }
        open.count += 1;
        Ok(Pass { gate: Arc::clone(self), address })
    }

    /// Waits until nobody is there.
    pub(crate) async fn empty(&self) {
        loop {
            let empty = self.empty.notified();
            if self.open().count == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.open();
        open.count -= 1;
        if let Some(address) = self.address
            && let Some(from_address) = open.by_address.get_mut(&address)
        {
            *from_address -= 1;
            if *from_address == 0 {
                open.by_address.remove(&address);
            }
        }
        if open.count == 0 {
            self.gate.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let gate = Gate::new(3, 2);
        let one = Some("192.0.2.1".parse().unwrap());
        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert_eq!(gate.enter(one).err(), Some(Refusal::FromAddress));
        let _third = gate.enter(None).unwrap();
        assert_eq!(gate.enter(None).err(), Some(Refusal::InAll));
        drop(first);
        assert!(gate.enter(one).is_ok());
        assert_eq!(gate.open().by_address.len(), 1);
    }
}
