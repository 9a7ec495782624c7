//! The command `verify`: a full check of a store that no relay uses.

use std::io::Write as _;
use std::path::Path;

use super::run::Failure;
use crate::core::verify::{Word, verify};
use crate::store::StoreError;
use crate::store::disk::DiskStore;

/// Checks the store in a data folder and prints what it finds.
///
/// # Errors
/// [`Failure::Running`] when there is damage, [`Failure::Start`] when the store could not be opened.
pub(crate) fn verify_data(data: &Path) -> Result<(), Failure> {
    if !data.join("store").is_dir() {
        return Err(Failure::Start(format!("There is no store in the folder {}.", data.display())));
    }
    let store = DiskStore::open(data).map_err(|error| match error {
        StoreError::Damaged(why) => Failure::Running(format!("The store is damaged: {why}.")),
        StoreError::Engine(why) => Failure::Start(format!("The store can't be opened: {why}.")),
    })?;
    let mut out = std::io::stdout().lock();
    // Who no longer reads still gets the exit code.
    let summary = verify(&store, &mut |word| {
        let _ = match word {
            Word::Progress(table, rows) => writeln!(out, "  {}: {rows} rows", table.name()),
            Word::Finding(finding) => writeln!(out, "DAMAGE {finding}"),
        };
    });
    let _ = writeln!(out);
    for (table, rows, bytes) in &summary.tables {
        let _ = writeln!(out, "{:<12} {rows:>12} rows {bytes:>16} bytes", table.name());
    }
    let _ = out.flush();
    match summary.findings {
        0 => {
            let _ = writeln!(out, "The store is whole.");
            Ok(())
        }
        1 => Err(Failure::Running("The store is damaged in 1 place, named above.".into())),
        count => Err(Failure::Running(format!("The store is damaged in {count} places, named above."))),
    }
}
