//! The engine on disk against SIGKILL at random moments, and against a journal whose end is torn.
//!
//! A killed process leaves what the system had taken from it. What of that a power cut takes away is tried in
//! `store_power.rs`.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.
#![cfg(feature = "server")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hongyan_relay::store::disk::DiskStore;
use hongyan_relay::store::{Batch, Order, Store, Table};

const FOLDER: &str = "HONGYAN_TEST_CRASH_FOLDER";
const TABLES: [Table; 4] = [Table::Messages, Table::Queue, Table::Keys, Table::Memberships];

/// What batch `n` writes to each table; large at times.
fn value(n: u64) -> Vec<u8> {
    let size = match n % 50 {
        0 => 200_000,
        k if k % 7 == 0 => 20_000,
        k => 50 + usize::try_from(k).unwrap(),
    };
    let mut value = n.to_be_bytes().repeat(size / 8 + 1);
    value.truncate(size);
    value
}

fn batch(n: u64) -> Batch {
    let mut batch = Batch::default();
    for table in TABLES {
        batch.put(table, n.to_be_bytes().to_vec(), value(n));
    }
    // One key that every batch changes, and one that every batch makes and the next removes.
    batch.put(Table::Meta, &b"last"[..], n.to_be_bytes().to_vec());
    batch.put(Table::Devices, n.to_be_bytes().to_vec(), &b"newest"[..]);
    batch.delete(Table::Devices, (n - 1).to_be_bytes().to_vec());
    batch
}

/// Checks that the store holds the batches from 1 to some `n`, each whole, and nothing else. Gives `n`.
fn check(store: &DiskStore) -> u64 {
    let last = store.get(Table::Meta, b"last").unwrap();
    let last = last.map_or(0, |last| u64::from_be_bytes(last.as_ref().try_into().unwrap()));
    for table in TABLES {
        let mut expected = 1u64;
        let visit = &mut |key: &[u8], found: &[u8]| {
            assert_eq!(key, expected.to_be_bytes(), "{table:?} has every batch up to {last}, in order");
            assert!(found == value(expected), "{table:?} {expected}");
            expected += 1;
            true
        };
        store.scan(table, b"", &[0xff; 9], Order::Ascending, visit).unwrap();
        assert_eq!(expected, last + 1, "{table:?} has all batches and no more");
    }
    let mut newest = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        newest.push(key.to_vec());
        true
    };
    store.scan(Table::Devices, b"", &[0xff; 9], Order::Ascending, visit).unwrap();
    assert_eq!(newest, if last == 0 { vec![] } else { vec![last.to_be_bytes().to_vec()] });
    last
}

/// Not a test of its own: what the killed process does.
#[test]
#[ignore = "started by the tests below"]
fn writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = DiskStore::open(Path::new(&folder)).unwrap();
    let mut n = check(&store);
    let mut out = std::io::stdout().lock();
    loop {
        n += 1;
        store.commit(&batch(n)).unwrap();
        // So that kills meet the writing of tables, and journals that are written over.
        if n.is_multiple_of(25) {
            store.flush().unwrap();
        }
        writeln!(out, "done {n}").unwrap();
        out.flush().unwrap();
    }
}

fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets the writer run, kills it, and gives the last batch that it saw committed.
fn run_and_kill(folder: &Path, after: Duration) -> u64 {
    let mut child = start(folder);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        let mut last = 0;
        while let Some(Ok(line)) = lines.next() {
            if let Some(n) = line.strip_prefix("done ").and_then(|n| n.parse().ok()) {
                last = n;
            }
        }
        last
    });
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[test]
fn what_was_committed_survives_sigkill_and_batches_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (mut held, mut commits) = (0, 0);
    for round in 0..10u64 {
        // Also within the opening itself.
        let after = Duration::from_millis(20 + (round * 389) % 900);
        let seen = run_and_kill(folder.path(), after);
        let store = DiskStore::open(folder.path()).unwrap();
        let last = check(&store);
        assert!(last >= seen.max(held), "batch {seen} was committed, the store ends with {last}");
        commits += last - held;
        held = last;
    }
    assert!(commits > 100, "the writer got to do something ({commits} commits)");
}

#[test]
fn a_kill_while_the_store_is_being_made_is_no_harm() {
    for micros in (0..40).map(|n| 300 + n * 450) {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path());
        // The folder's lock is the first thing that the writer makes.
        while !folder.path().join("lock").exists() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(micros));
        child.kill().unwrap();
        child.wait().unwrap();
        check(&DiskStore::open(folder.path()).unwrap());
    }
}

#[test]
fn a_torn_journal_loses_whole_batches_from_its_end() {
    let mut lost = 0;
    for cut in [1, 3, 64, 700, 30_000] {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        let mut tail = Vec::new();
        for n in 1..=120 {
            store.commit(&batch(n)).unwrap();
            if n == 40 {
                tail = std::fs::read(folder.path().join("tail")).unwrap();
            }
        }
        drop(store);
        // A power cut may leave an older tail; with the newest, a lost commit is damage and the store refuses.
        std::fs::write(folder.path().join("tail"), tail).unwrap();
        let journal = std::fs::read_dir(folder.path().join("store/journal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
            .max()
            .expect("a journal");
        let file = std::fs::OpenOptions::new().write(true).open(&journal).unwrap();
        // The journal is made at its full length; what was never written is zero.
        let end = std::fs::read(&journal).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1;
        file.set_len(u64::try_from(end).unwrap() - cut).unwrap();
        drop(file);
        let store = DiskStore::open(folder.path()).unwrap();
        let last = check(&store);
        assert!(last >= 40, "only what the cut touched is gone ({last})");
        lost += 120 - last;
        // And it can go on.
        store.commit(&batch(last + 1)).unwrap();
        drop(store);
        assert_eq!(check(&DiskStore::open(folder.path()).unwrap()), last + 1);
    }
    assert!(lost > 0, "some cut went through a batch");
}
