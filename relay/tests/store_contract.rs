//! Each engine keeps the contract.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.

use hongyan_relay::store::{MemoryStore, contract};

#[test]
fn memory() {
    let store = MemoryStore::new();
    contract::check(|| store.clone());
}

#[cfg(feature = "server")]
mod on_disk {
    use super::contract;
    use hongyan_relay::store::disk::DiskStore;
    use hongyan_relay::store::{Batch, Order, Store, Table};

    #[test]
    fn disk() {
        let folder = tempfile::tempdir().unwrap();
        contract::check(|| DiskStore::open(folder.path()).unwrap());
    }

    fn refusal(folder: &std::path::Path) -> String {
        match DiskStore::open(folder) {
            Ok(_) => panic!("it opened"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_folder_belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        let other = store.clone();
        drop(store);
        assert!(refusal(folder.path()).contains("another process uses the data folder"));
        drop(other);
        assert!(DiskStore::open(folder.path()).is_ok());
    }

    #[test]
    fn an_unknown_format_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("format"), "3\n").unwrap();
        let sentence = refusal(folder.path());
        assert!(
            sentence.contains("has format \"3\"") && sentence.contains("knows format 2 only"),
            "{sentence}"
        );
        assert!(!folder.path().join("store").exists());
        // A store without its format file is no new folder.
        std::fs::remove_file(folder.path().join("format")).unwrap();
        std::fs::create_dir(folder.path().join("store")).unwrap();
        assert!(refusal(folder.path()).contains("no format file"));
    }

    #[test]
    fn a_folder_that_is_a_file_is_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data");
        std::fs::write(&file, "").unwrap();
        assert!(refusal(&file).contains("making a folder"));
    }

    #[test]
    fn readers_see_whole_commits_while_tables_are_written_and_merged() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        let number = |bytes: &[u8]| u64::from_be_bytes(*bytes.first_chunk().unwrap());
        let reading = store.clone();
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            for _ in 0..300 {
                let mut rows = Vec::new();
                let visit = &mut |_: &[u8], value: &[u8]| {
                    rows.push(number(value));
                    true
                };
                reading.scan(Table::Meta, b"", &[0xff; 9], Order::Ascending, visit).unwrap();
                let first = rows.first().copied().unwrap_or_default();
                assert!(rows.iter().all(|row| *row == first) && [0, 100].contains(&rows.len()), "{rows:?}");
                assert!(first >= seen, "commit {first} was seen after {seen}");
                // What was there is never missed, whichever of its versions is cleared away meanwhile.
                let last = reading.get(Table::Meta, &99u64.to_be_bytes()).unwrap();
                seen = last.map_or(0, |last| number(&last));
                assert!(seen >= first, "{seen} was read after {first}");
            }
        });
        // As long as somebody reads, and long enough for tables to come together and be merged.
        for commit in (1..u64::MAX).take_while(|commit| *commit <= 200 || !reader.is_finished()) {
            let mut batch = Batch::default();
            for row in 0..100u64 {
                batch.put(Table::Meta, row.to_be_bytes().to_vec(), commit.to_be_bytes().repeat(20));
            }
            store.commit(&batch).unwrap();
            if commit.is_multiple_of(10) {
                store.flush().unwrap();
            }
        }
        reader.join().unwrap();
    }

    #[test]
    fn an_open_store_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(&folder.path().join("a/b")).unwrap();
        assert!(store.get(Table::Meta, b"epoch").unwrap().is_none());
    }
}
