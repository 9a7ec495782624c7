//! What a store says of itself: the format of its records, and the epoch that tells its life from another's.

use hongyan_protocol::Epoch;

use super::entropy::Entropy;
use super::records::{FORMAT, META_EPOCH, META_FORMAT};
use crate::store::{Batch, Store, StoreError, Table};

/// Gives a store another epoch, durably: what was put in the place of a newer state must be known as something else,
/// so that devices start anew instead of going on from positions that now mean other entries. No relay may have the
/// store open. `seed` must be new entropy.
///
/// # Errors
/// [`StoreError`] when the store fails, or holds nothing of a relay.
pub fn renew_epoch<S: Store>(store: &S, seed: [u8; 32]) -> Result<Epoch, StoreError> {
    let damaged = |what: &str| StoreError::Damaged(what.into());
    if store.get(Table::Meta, META_EPOCH)?.is_none() {
        return Err(damaged("it has no epoch"));
    }
    let epoch = Entropy::new(seed).epoch().ok_or_else(|| damaged("no epoch can be made for it"))?;
    let mut batch = Batch::default();
    batch.put(Table::Meta, META_EPOCH, epoch.as_str().to_owned());
    store.commit(&batch)?;
    Ok(epoch)
}

/// The store's epoch; a new store gets one, durably.
pub(super) fn open_epoch<S: Store>(store: &S, entropy: &mut Entropy) -> Result<Epoch, StoreError> {
    let damaged = |what: &str| StoreError::Damaged(what.into());
    let epoch = store.get(Table::Meta, META_EPOCH)?;
    match (store.get(Table::Meta, META_FORMAT)?, epoch) {
        (None, None) => {
            let epoch = entropy.epoch().ok_or_else(|| damaged("it has no epoch and none can be made"))?;
            let mut batch = Batch::default();
            batch.put(Table::Meta, META_FORMAT, FORMAT.to_string());
            batch.put(Table::Meta, META_EPOCH, epoch.as_str().to_owned());
            store.commit(&batch)?;
            Ok(epoch)
        }
        (Some(format), _) if format != FORMAT.to_string() => Err(StoreError::Engine(format!(
            "its data is of format {}, and this version of the relay knows format {FORMAT} only",
            String::from_utf8_lossy(&format)
        ))),
        (Some(_), Some(epoch)) => core::str::from_utf8(&epoch)
            .ok()
            .and_then(|epoch| Epoch::new(epoch).ok())
            .ok_or_else(|| damaged("its epoch is no valid id")),
        _ => Err(damaged("it has a format or an epoch, but not both")),
    }
}
