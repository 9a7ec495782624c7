//! The engine on disk against power cuts: everything that the system was not told to sync may be gone.
//!
//! A process writes under strace ([`trace`]), is killed or ends, and is started again; of every change of a file or a folder
//! it is known whether it was synced ([`disk`]). At many moments the states are made that a power cut may leave, the store is
//! opened on each, and must have what was acknowledged, whole and in order, and go on from there. Some of these states are the
//! beginning of other histories: so power fails within the start after a kill, after it, and after it failed before.
//!
//! `HONGYAN_POWER_HISTORIES` histories with `HONGYAN_POWER_CUTS` cuts each, from the seed `HONGYAN_POWER_SEED` on:
//! `HONGYAN_POWER_HISTORIES=500 cargo test --profile sim -p hongyan-relay --test store_power -- --nocapture`.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.
#![cfg(all(feature = "server", target_os = "linux"))]

#[path = "store_power/disk.rs"]
mod disk;
#[path = "store_power/trace.rs"]
mod trace;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use disk::{Disk, Left};
use hongyan_relay::store::disk::DiskStore;
use hongyan_relay::store::{Batch, Order, Store, StoreError, Table};
use tempfile::TempDir;
use trace::{Event, Fault};

const FOLDER: &str = "HONGYAN_TEST_POWER_FOLDER";
const LIFE: &str = "HONGYAN_TEST_POWER_LIFE";
const NUMBER: &str = "HONGYAN_TEST_POWER_COMMITS";
/// The data folder within the one that is recorded; the store makes the one above it, too.
const DATA: &str = "above/data";
const TABLES: [Table; 3] = [Table::Messages, Table::Queue, Table::Keys];
/// Commits of a life that is not killed.
const COMMITS: u64 = 60;
/// Processes of a history.
const LIVES: usize = 3;

/// Numbers that look like chance, the same in every run.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// What commit `n` writes to a table in a life; it differs in every sector.
fn value(n: u64, life: u64, table: Table) -> Vec<u8> {
    let words = match n % 16 {
        0 => 4_000,
        k if k % 3 == 0 => 300,
        k => 3 + usize::try_from(k).unwrap(),
    };
    let mut chance = Chance(n << 32 ^ life << 8 ^ table as u64);
    let mut value = life.to_be_bytes().to_vec();
    value.extend((0..words).flat_map(|_| chance.below(usize::MAX).to_be_bytes()));
    value
}

fn batch(n: u64, life: u64) -> Batch {
    let mut batch = Batch::default();
    for table in TABLES {
        batch.put(table, n.to_be_bytes().to_vec(), value(n, life, table));
    }
    // One key that every commit changes, and one that every commit makes and the next removes.
    batch.put(Table::Meta, &b"last"[..], n.to_be_bytes().to_vec());
    batch.put(Table::Devices, n.to_be_bytes().to_vec(), &b"newest"[..]);
    batch.delete(Table::Devices, (n - 1).to_be_bytes().to_vec());
    batch
}

/// What was promised: of each commit the life that wrote it, from the first on.
#[derive(Clone, Default)]
struct Promised {
    lives: Vec<u64>,
    /// The life that may have written one more.
    more: u64,
}

impl Promised {
    /// Checks that the store holds all of it, each commit whole, and at most the one more. Takes up what is there.
    fn check(&mut self, store: &DiskStore, from: &str) {
        let last = store.get(Table::Meta, b"last").unwrap();
        let last = last.map_or(0, |last| u64::from_be_bytes(last.as_ref().try_into().unwrap()));
        self.seen(last, from);
        for table in TABLES {
            let mut n = 0u64;
            let visit = &mut |key: &[u8], found: &[u8]| {
                n += 1;
                assert_eq!(key, n.to_be_bytes(), "{from}: {table:?} has every commit up to {last}, in order");
                let life = self.lives[usize::try_from(n).unwrap() - 1];
                assert!(
                    found == value(n, life, table),
                    "{from}: {table:?} has commit {n} as life {life} wrote it"
                );
                true
            };
            store.scan(table, b"", &[0xff; 9], Order::Ascending, visit).unwrap();
            assert_eq!(n, last, "{from}: {table:?} has all commits and no more");
        }
        let mut newest = Vec::new();
        let visit = &mut |key: &[u8], _: &[u8]| {
            newest.push(key.to_vec());
            true
        };
        store.scan(Table::Devices, b"", &[0xff; 9], Order::Ascending, visit).unwrap();
        assert_eq!(newest, if last == 0 { vec![] } else { vec![last.to_be_bytes().to_vec()] }, "{from}");
    }

    /// A start found the commits up to `last`: they are there from now on.
    fn seen(&mut self, last: u64, from: &str) {
        let promised = self.lives.len() as u64;
        assert!(last >= promised, "{from}: commit {promised} was acknowledged, the store ends with {last}");
        assert!(last <= promised + 1, "{from}: commit {promised} is the last but one at most, not {last}");
        if last > promised {
            self.lives.push(self.more);
        }
    }

    fn is_told(event: &Event) -> bool {
        event.name == "write" && event.word(0) == "2"
    }

    /// What a process told, if it did.
    fn hear(&mut self, event: &Event, life: u64) -> bool {
        if !Self::is_told(event) {
            return false;
        }
        for line in event.text(1).lines() {
            if let Some(last) = line.strip_prefix("opened ") {
                self.seen(last.parse().unwrap(), "a start");
                self.more = life;
            } else if let Some(n) = line.strip_prefix("done ") {
                self.lives.push(life);
                assert_eq!(n.parse(), Ok(self.lives.len()));
            }
        }
        true
    }
}

/// Not a test of its own: a life.
#[test]
#[ignore = "started by the test below"]
fn writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let [life, commits] = [LIFE, NUMBER].map(|name| std::env::var(name).unwrap().parse().unwrap());
    // One write each: what is told is in the record, too.
    let tell = |text: String| std::io::stderr().write_all(text.as_bytes()).unwrap();
    let store = match DiskStore::open(Path::new(&folder)) {
        Ok(store) => store,
        Err(StoreError::Engine(_)) => std::process::exit(1),
        Err(error) => panic!("{error}"),
    };
    let last = store.get(Table::Meta, b"last").unwrap();
    let last = last.map_or(0, |last| u64::from_be_bytes(last.as_ref().try_into().unwrap()));
    tell(format!("opened {last}\n"));
    let mut flushing = thread::spawn(|| ());
    for n in last + 1..=last + commits {
        if store.commit(&batch(n, life)).is_err() {
            // As the relay does: nobody knows what is on disk.
            std::process::exit(1);
        }
        tell(format!("done {n}\n"));
        // Beside the commits that follow, as the store itself does when there is enough.
        if n.is_multiple_of(5) {
            flushing.join().unwrap();
            let store = store.clone();
            flushing = thread::spawn(move || _ = store.flush());
        }
    }
    flushing.join().unwrap();
    drop(store);
}

/// How a life ends; most are killed.
fn fault(chance: &mut Chance) -> Option<Fault> {
    let call = ["fdatasync", "fsync", "write", "fsync", "fdatasync", "unlink", "rename", "ftruncate"]
        [chance.below(8)];
    let when = 1 + chance.below(match call {
        "fdatasync" | "write" => 60,
        "fsync" => 24,
        _ => 4,
    });
    match chance.below(8) {
        0 => None,
        1 => Some(Fault::Fail("fdatasync", 2 + chance.below(30))),
        _ => Some(Fault::Kill(call, when)),
    }
}

/// A state that a power cut left, and what must be in it.
struct State {
    folder: TempDir,
    promised: Promised,
    /// Where it comes from.
    from: String,
}

impl State {
    /// The store opens on what the power cut left, has what it must have, and goes on.
    fn survives(&self) {
        let _nothing_starts = trace::STARTING.read().unwrap_or_else(PoisonError::into_inner);
        let data = self.folder.path().join(DATA);
        let mut promised = self.promised.clone();
        let open = || DiskStore::open(&data).unwrap_or_else(|error| panic!("{}: {error}", self.from));
        let store = open();
        promised.check(&store, &self.from);
        for _ in 0..2 {
            promised.lives.push(u64::MAX);
            store.commit(&batch(promised.lives.len() as u64, u64::MAX)).unwrap();
        }
        if promised.lives.len().is_multiple_of(2) {
            store.flush().unwrap();
        }
        drop(store);
        promised.check(&open(), &self.from);
    }
}

/// A folder on which syncing costs nothing, where there is one.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// What happened in all histories: a test in which too little happens shows nothing.
#[derive(Default, Debug)]
struct Seen {
    lives: usize,
    kills: usize,
    commits: usize,
    syncs: usize,
    removed: usize,
    cuts: usize,
}

/// A life in a folder. Says what it did there, and whether it was killed.
fn live(folder: &Path, life: u64, commits: u64, fault: Option<Fault>) -> (Vec<Event>, bool) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["writer", "--exact", "--ignored", "--nocapture"]);
    // A relative path: the folder that it begins in has an entry to sync, too.
    command
        .current_dir(folder)
        .env(FOLDER, DATA)
        .env(LIFE, life.to_string())
        .env(NUMBER, commits.to_string());
    let (events, output) = trace::record(&command, fault, &self::folder().path().join("log"));
    let killed = !output.status.success();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("panicked") && (fault.is_some() || !killed), "life {life}: {told}");
    (events, killed)
}

/// The lives of a history, on what a power cut had left. Gives states that power cuts leave now; and one for another history
/// to begin with, if chance wants it.
fn history(
    seed: u64,
    begin: State,
    cuts: usize,
    seen: &mut Seen,
    give: &mut dyn FnMut(State),
) -> Option<State> {
    let (mut chance, mut next) = (Chance(seed), None);
    let mut disk = Disk::read(begin.folder.path());
    let mut promised = begin.promised;
    for number in 0..LIVES {
        let life = seed * 100 + number as u64;
        let fault = fault(&mut chance);
        let (events, killed) = live(begin.folder.path(), life, COMMITS, fault);
        seen.lives += 1;
        seen.kills += usize::from(killed);
        disk.start();
        for (at, event) in events.iter().enumerate() {
            let before = promised.lives.len();
            if !promised.hear(event, life) && !disk.apply(event) {
                continue;
            }
            seen.commits += promised.lives.len() - before;
            seen.syncs += usize::from(event.name.ends_with("sync"));
            seen.removed += usize::from(event.name == "unlink");
            // Anywhere, and about as often at the end, where the next life finds it.
            if chance.below(events.len()) * LIVES < cuts || events.len() - at < cuts / 4 {
                let style = [Left::Nothing, Left::Some, Left::Some, Left::All][chance.below(4)];
                let cut = |chance: &mut Chance| {
                    let (folder, promised) = (folder(), promised.clone());
                    disk.cut(style, chance, folder.path());
                    let from = format!(
                        "{}, life {life} with {fault:?}, cut after {event} with {style:?} left",
                        begin.from
                    );
                    State { folder, promised, from }
                };
                give(cut(&mut chance));
                if next.is_none() && chance.below(cuts) == 0 {
                    next = Some(cut(&mut chance));
                }
                seen.cuts += 1;
            }
        }
        disk.compare();
    }
    next
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let histories = number("HONGYAN_POWER_HISTORIES", 12);
    let cuts = number("HONGYAN_POWER_CUTS", 32);
    let seed = number("HONGYAN_POWER_SEED", 1) as u64;
    let (mut seen, mut next) = (Seen::default(), None);
    for seed in seed..seed + histories as u64 {
        let begin = next.take().unwrap_or_else(|| State {
            folder: folder(),
            promised: Promised::default(),
            from: format!("HONGYAN_POWER_SEED={seed}"),
        });
        let states = Mutex::new(Vec::new());
        next = history(seed, begin, cuts, &mut seen, &mut |state| states.lock().unwrap().push(state));
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().unwrap().get() {
                scope.spawn(|| {
                    loop {
                        let Some(state) = states.lock().unwrap().pop() else { return };
                        state.survives();
                    }
                });
            }
        });
    }
    println!("{seen:?}");
    assert!(seen.cuts > 10 * histories && seen.commits > 30 * histories, "too little happened");
    assert!(seen.kills > histories / 2 && seen.removed > 10 * histories, "too little happened");
}

/// A process is killed before each sync that there is until a file of the journal is free again, or a sync of commits fails.
/// What it left is in the system's memory only, and the next start believes it. Then power fails, when that start told what
/// it found, or after a few commits; and nothing is left that was not synced.
#[test]
fn what_a_start_finds_is_on_disk_before_it_is_told() {
    // From an empty folder; and where all is in tables, so that the next flush is the last thing that happens.
    let fault = |sweep, when| match sweep {
        0 | 3 => Fault::Kill("fsync", when),
        1 => Fault::Kill("fdatasync", when),
        _ => Fault::Fail("fdatasync", when),
    };
    let mut count = 0;
    for (sweep, before) in [0, 0, 0, 5].into_iter().enumerate() {
        for when in 1.. {
            let (begin, mut promised) = (folder(), Promised::default());
            let mut disk = Disk::read(begin.path());
            if before > 0 {
                let (events, _) = live(begin.path(), 0, before, None);
                events.iter().for_each(|event| _ = promised.hear(event, 0) || disk.apply(event));
                disk.start();
            }
            let (events, ended_early) = live(begin.path(), 0, 5, Some(fault(sweep, when)));
            if !ended_early {
                break;
            }
            count += 1;
            events.iter().for_each(|event| _ = promised.hear(event, 0) || disk.apply(event));
            // Too few for a flush.
            let (events, _) = live(begin.path(), 1, 3, None);
            disk.start();
            let told: Vec<_> = (0..events.len()).filter(|at| Promised::is_told(&events[*at])).collect();
            for (at, event) in events.iter().enumerate() {
                if !promised.hear(event, 1) {
                    disk.apply(event);
                } else if at == told[0] || at == told[3] {
                    let (folder, promised) = (folder(), promised.clone());
                    disk.cut(Left::Nothing, &mut Chance(0), folder.path());
                    let from =
                        format!("after {:?}, and a start that told {:?}", fault(sweep, when), event.text(1));
                    State { folder, promised, from }.survives();
                }
            }
            disk.compare();
        }
    }
    assert!(count > 30, "{count} faults");
}

#[test]
fn a_power_cut_while_the_store_is_being_made_is_no_harm() {
    let (begin, mut promised, mut chance) = (folder(), Promised::default(), Chance(1));
    let mut disk = Disk::read(begin.path());
    let (events, _) = live(begin.path(), 0, 1, None);
    for event in &events {
        if promised.hear(event, 0) || !disk.apply(event) {
            continue;
        }
        // After the renames what comes before must be there.
        for _ in 0..if event.name == "rename" { 16 } else { 2 } {
            let (folder, promised) = (folder(), promised.clone());
            disk.cut(Left::Some, &mut chance, folder.path());
            State { folder, promised, from: format!("the first start, cut after {event}") }.survives();
        }
    }
    disk.compare();
}
