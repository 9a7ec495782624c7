//! How long a store takes to open again after SIGKILL, with 300,000 messages of 300 bytes in it:
//! `cargo test --release -p hongyan-relay --test store_opening -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.
#![cfg(feature = "server")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use hongyan_relay::store::disk::DiskStore;
use hongyan_relay::store::{Batch, Store, Table};

const FOLDER: &str = "HONGYAN_TEST_OPENING_FOLDER";
const MESSAGES: u64 = 300_000;
/// Sends of one group commit.
const SENDS: u64 = 64;

/// What direct messages write: the message, a reference for each of the two, the sender's key.
fn commit(store: &DiskStore, from: u64) {
    let mut batch = Batch::default();
    for n in from..from + SENDS {
        let (conversation, seq) = (n % 1_000, n / 1_000 + 1);
        let key = |prefix: &str| [prefix.as_bytes(), &[0], &seq.to_be_bytes()].concat();
        // No two alike, as with what people write, so that compression gains little.
        let value: Vec<u8> = (0..300u64).map(|at| n.wrapping_mul(31 + at * at).to_le_bytes()[2]).collect();
        batch.put(Table::Messages, key(&format!("~6.user-{conversation}.friend")), value);
        batch.put(Table::Queue, key(&format!("user-{conversation}")), vec![1; 40]);
        batch.put(Table::Queue, key(&format!("friend-{conversation}")), vec![2; 40]);
        batch.put(Table::Keys, format!("user-{conversation}\0{n:026}\0").into_bytes(), vec![3; 40]);
    }
    store.commit(&batch).unwrap();
}

/// Not a test of its own: what the killed process does.
#[test]
#[ignore = "started by the measurement below"]
fn writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = DiskStore::open(Path::new(&folder)).unwrap();
    let begun = Instant::now();
    for from in (0..MESSAGES).step_by(usize::try_from(SENDS).unwrap()) {
        commit(&store, from);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "done {}", begun.elapsed().as_millis()).unwrap();
    out.flush().unwrap();
    std::thread::park();
}

#[test]
#[ignore = "a measurement"]
fn opening_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let done = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("done ").map(str::to_owned));
    child.kill().unwrap();
    child.wait().unwrap();
    let journals = std::fs::read_dir(folder.path().join("store/journal")).unwrap();
    let bytes: Vec<u64> = journals
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".jnl"))
        .map(|entry| entry.metadata().unwrap().len() >> 20)
        .collect();
    println!("{MESSAGES} messages in {} ms; journals of {bytes:?} MiB", done.unwrap());
    for what in ["after the kill", "again", "and again"] {
        let begun = Instant::now();
        let store = DiskStore::open(folder.path()).unwrap();
        println!("opening {what}: {} ms", begun.elapsed().as_millis());
        assert!(
            store
                .get(Table::Messages, &[&b"~6.user-0.friend\0"[..], &1u64.to_be_bytes()].concat())
                .unwrap()
                .is_some()
        );
    }
}
