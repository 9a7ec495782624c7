//! Flipped bits and truncated files: the store refuses to open, or fails the read, or gives what was committed. What
//! it must never do is to give less or something else.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.
#![cfg(feature = "server")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hongyan_relay::store::disk::DiskStore;
use hongyan_relay::store::{Batch, Order, Store, StoreError, Table};

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// A folder on which syncing costs nothing, where there is one.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn commit(store: &DiskStore, rows: &mut Rows, n: u64, chance: &mut Chance) {
    let mut batch = Batch::default();
    for table in Table::ALL {
        // Short ones, and ones that are longer than a block.
        let bytes = match n % 8 {
            0 if table == Table::Messages => 9_000,
            1 => 4_200,
            _ => 20 + chance.below(200),
        };
        let value: Vec<u8> = (0..bytes).map(|_| u8::try_from(chance.below(26)).unwrap() + b'a').collect();
        rows.insert((table, n.to_be_bytes().to_vec()), value.clone());
        batch.put(table, n.to_be_bytes().to_vec(), value);
    }
    // A key that changes with each commit: an older value of it is a wrong one.
    rows.insert((Table::Meta, b"last".to_vec()), n.to_be_bytes().to_vec());
    batch.put(Table::Meta, &b"last"[..], n.to_be_bytes().to_vec());
    store.commit(&batch).unwrap();
}

/// A store with tables and a journal, not longer than what was written to it; and all that it must give.
fn make(folder: &Path) -> Rows {
    make_with_flushes(folder, &[20])
}

/// The same, with a journal whose file was written over: behind the newest commits there are old ones.
fn make_over_old_commits(folder: &Path) -> Rows {
    make_with_flushes(folder, &[20, 25, 30, 35])
}

fn make_with_flushes(folder: &Path, flushes: &[u64]) -> Rows {
    let (mut rows, mut chance) = (Rows::new(), Chance(7));
    let store = DiskStore::open(folder).unwrap();
    for n in 1..=40 {
        commit(&store, &mut rows, n, &mut chance);
        if flushes.contains(&n) {
            store.flush().unwrap();
        }
    }
    drop(store);
    // A file is made at its full length, and most of it was never written.
    for journal in journals(folder) {
        let bytes = fs::read(&journal).unwrap();
        fs::write(&journal, &bytes[..end_of(&bytes)]).unwrap();
    }
    rows
}

fn journals(folder: &Path) -> Vec<PathBuf> {
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    files(folder).into_iter().filter(is_journal).collect()
}

/// The file that was begun last.
fn journal(folder: &Path) -> PathBuf {
    let number = |path: &PathBuf| {
        fs::read(path).unwrap().get(8..16).map(|number| u64::from_le_bytes(number.try_into().unwrap()))
    };
    journals(folder).into_iter().max_by_key(number).unwrap()
}

/// Behind the last byte that is not zero.
fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// What became of a damaged store.
#[derive(Debug, PartialEq)]
enum Outcome {
    Refused(String),
    ReadFailed,
    Right,
    Wrong(String),
}

fn open(folder: &Path, rows: &Rows) -> Outcome {
    let store = match DiskStore::open(folder) {
        Ok(store) => store,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let outcome = compare(&store, rows);
    drop(store);
    outcome
}

fn compare(store: &DiskStore, rows: &Rows) -> Outcome {
    let mut failed = false;
    for ((table, key), value) in rows {
        match store.get(*table, key) {
            Ok(Some(found)) if found == value => {}
            Ok(found) => {
                let what = if found.is_some() { "another value" } else { "nothing" };
                return Outcome::Wrong(format!("{table:?} {key:?} gives {what}"));
            }
            Err(_) => failed = true,
        }
    }
    for table in Table::ALL {
        let (mut expected, mut wrong) = (rows.iter().filter(|((of, _), _)| *of == table), None);
        let result = store.scan(table, b"", &[0xff; 9], Order::Ascending, &mut |key, value| {
            if expected.next().is_none_or(|((_, k), v)| k != key || v != value) {
                wrong = Some(Outcome::Wrong(format!("a scan of {table:?} gives something else at {key:?}")));
            }
            wrong.is_none()
        });
        match (wrong, result) {
            (Some(wrong), _) => return wrong,
            (None, Ok(())) if expected.next().is_some() => {
                return Outcome::Wrong(format!("a scan of {table:?} ends early"));
            }
            (None, result) => failed |= result.is_err(),
        }
    }
    if failed { Outcome::ReadFailed } else { Outcome::Right }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Damages each file of a copy in many places, and gives what was not noticed. `places` is per file.
fn unnoticed(
    original: &Path,
    rows: &Rows,
    places: usize,
    is_in: impl Fn(&PathBuf) -> bool,
) -> (Vec<String>, [usize; 3]) {
    let mut chance = Chance(11);
    let (mut unnoticed, mut counts) = (Vec::new(), [0; 3]);
    for file in files(original).into_iter().filter(is_in) {
        let name = file.strip_prefix(original).unwrap().to_owned();
        let bytes = fs::read(&file).unwrap();
        let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
        let is_journal = name.extension().is_some_and(|extension| extension == "jnl");
        let places = if is_journal { places * 12 } else { places };
        // All of a small file, else its ends and places between.
        let at: Vec<usize> = if bytes.len() <= places {
            (0..bytes.len()).collect()
        } else {
            let ends = (0..16).flat_map(|n| [n, bytes.len() - 1 - n]);
            ends.chain((0..places).map(|_| chance.below(bytes.len())))
                .filter(|at| *at < bytes.len())
                .collect()
        };
        for at in at {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << chance.below(8);
            cases.push((format!("a bit of byte {at} flipped"), flipped));
        }
        let lengths = [0, 1, bytes.len() / 3, bytes.len().saturating_sub(700), bytes.len().saturating_sub(1)];
        for length in lengths.into_iter().filter(|length| *length < bytes.len()) {
            cases.push((format!("cut to {length} of {}", bytes.len()), bytes[..length].to_vec()));
        }
        for (what, damaged) in cases {
            let folder = folder();
            copy(original, folder.path());
            fs::write(folder.path().join(&name), damaged).unwrap();
            match open(folder.path(), rows) {
                Outcome::Refused(sentence) => {
                    assert!(sentence.len() > 20 && !sentence.contains('\n'), "{sentence}");
                    counts[0] += 1;
                    // It does not give up refusing.
                    if is_journal {
                        assert!(matches!(open(folder.path(), rows), Outcome::Refused(_)), "{name:?} {what}");
                    }
                }
                Outcome::ReadFailed => counts[1] += 1,
                Outcome::Right => counts[2] += 1,
                Outcome::Wrong(how) => unnoticed.push(format!("{}, {what}: {how}", name.display())),
            }
        }
    }
    (unnoticed, counts)
}

#[test]
fn damage_is_refused_or_fails_the_read_and_never_gives_something_else() {
    // The engine's panics are caught; their messages would only hide what this test prints.
    std::panic::set_hook(Box::new(|info| {
        let own = info.location().is_some_and(|location| location.file().contains("store_damage"));
        if own {
            eprintln!("{info}");
        }
    }));
    let check = |make: fn(&Path) -> Rows, is_in: fn(&PathBuf) -> bool| {
        let original = folder();
        let rows = make(original.path());
        let copied = folder();
        copy(original.path(), copied.path());
        assert_eq!(open(copied.path(), &rows), Outcome::Right);
        let (unnoticed, [refused, failed, right]) = unnoticed(original.path(), &rows, 24, is_in);
        println!("{refused} refused, {failed} failed a read, {right} gave all; unnoticed: {unnoticed:#?}");
        assert!(unnoticed.is_empty(), "{} kinds of damage were not noticed", unnoticed.len());
        assert!(refused > 50 && right > 10);
    };
    check(make, |_| true);
    check(make_over_old_commits, |path| !path.components().any(|part| part.as_os_str() == "tree"));
}

#[test]
fn a_file_of_the_journal_is_written_over_when_its_commits_are_in_the_tables() {
    let folder = folder();
    let (mut rows, mut chance) = (Rows::new(), Chance(5));
    let mut store = DiskStore::open(folder.path()).unwrap();
    for n in 1..=60 {
        commit(&store, &mut rows, n, &mut chance);
        if n % 5 == 0 {
            store.flush().unwrap();
        }
        if n % 17 == 0 {
            drop(store);
            assert_eq!(open(folder.path(), &rows), Outcome::Right);
            store = DiskStore::open(folder.path()).unwrap();
        }
    }
    assert!(journals(folder.path()).len() <= 3, "{:?}", journals(folder.path()));
}

#[test]
fn a_large_commit_goes_through_and_its_file_is_not_kept() {
    let folder = folder();
    let (mut rows, mut chance) = (Rows::new(), Chance(5));
    let store = DiskStore::open(folder.path()).unwrap();
    let mut batch = Batch::default();
    for n in 0..20u64 {
        let value = vec![u8::try_from(n).unwrap(); 1024 * 1024];
        rows.insert((Table::Messages, n.to_be_bytes().to_vec()), value.clone());
        batch.put(Table::Messages, n.to_be_bytes().to_vec(), value);
    }
    store.commit(&batch).unwrap();
    commit(&store, &mut rows, 100, &mut chance);
    // From the journal alone …
    let copied = self::folder();
    copy(folder.path(), copied.path());
    assert_eq!(open(copied.path(), &rows), Outcome::Right);
    // … and from the tables.
    store.flush().unwrap();
    commit(&store, &mut rows, 101, &mut chance);
    drop(store);
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
    for journal in journals(folder.path()) {
        assert!(fs::metadata(journal).unwrap().len() <= 16 * 1024 * 1024);
    }
}

#[test]
fn a_kill_while_a_table_is_written_loses_nothing_and_a_missing_journal_is_seen() {
    let (before, after) = (folder(), folder());
    let (mut rows, mut chance) = (Rows::new(), Chance(5));
    let store = DiskStore::open(after.path()).unwrap();
    (1..=20).for_each(|n| commit(&store, &mut rows, n, &mut chance));
    copy(after.path(), before.path());
    store.flush().unwrap();
    (21..=40).for_each(|n| commit(&store, &mut rows, n, &mut chance));
    drop(store);
    // As if the table had not come to its end: both files of the journal, and the tables of before.
    let (older, newer) = (journal(before.path()), journal(after.path()));
    fs::copy(&newer, before.path().join("store/journal").join(newer.file_name().unwrap())).unwrap();
    fs::copy(after.path().join("tail"), before.path().join("tail")).unwrap();
    let copied = folder();
    copy(before.path(), copied.path());
    assert_eq!(open(copied.path(), &rows), Outcome::Right);
    // Without the older one nobody knows what was in it.
    fs::remove_file(older).unwrap();
    let Outcome::Refused(sentence) = open(before.path(), &rows) else { panic!("it opened") };
    assert!(sentence.contains("has commit 21, and the one before it is 0"), "{sentence}");
    // Without the newer one it is known that there was more.
    fs::remove_file(newer).unwrap();
    let Outcome::Refused(sentence) = open(after.path(), &rows) else { panic!("it opened") };
    assert!(
        sentence.contains("commits up to 40 were acknowledged, while the whole ones end with 20"),
        "{sentence}"
    );
}

#[test]
fn when_a_table_cannot_be_written_nothing_more_is_committed_and_nothing_is_lost() {
    let folder = folder();
    let (mut rows, mut chance) = (Rows::new(), Chance(5));
    let store = DiskStore::open(folder.path()).unwrap();
    (1..=20).for_each(|n| commit(&store, &mut rows, n, &mut chance));
    let (tables, aside) = (folder.path().join("store/tree/tables"), folder.path().join("aside"));
    fs::rename(&tables, &aside).unwrap();
    assert!(store.flush().is_err());
    let mut batch = Batch::default();
    batch.put(Table::Meta, &b"more"[..], &b"1"[..]);
    let Err(StoreError::Engine(sentence)) = store.commit(&batch) else { panic!("it committed") };
    assert!(sentence.contains("nothing more is written before a new start"), "{sentence}");
    assert_eq!(compare(&store, &rows), Outcome::Right, "what is in memory can be read");
    drop(store);
    fs::rename(&aside, &tables).unwrap();
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
}

/// More than is kept in memory at once: the next commit waits for room.
fn fill(store: &DiskStore) {
    let mut batch = Batch::default();
    for n in 0..70u64 {
        batch.put(Table::Messages, n.to_be_bytes().to_vec(), vec![7; 1024 * 1024]);
    }
    store.commit(&batch).unwrap();
}

#[test]
fn who_commits_waits_for_room_and_is_told_when_there_will_be_none() {
    let (folder, mut chance) = (folder(), Chance(5));
    let store = DiskStore::open(folder.path()).unwrap();
    fill(&store);
    commit(&store, &mut Rows::new(), 100, &mut chance);
    store.flush().unwrap();
    fs::rename(folder.path().join("store/tree/tables"), folder.path().join("aside")).unwrap();
    fill(&store);
    let mut batch = Batch::default();
    batch.put(Table::Meta, &b"more"[..], &b"1"[..]);
    let Err(StoreError::Engine(sentence)) = store.commit(&batch) else { panic!("it committed") };
    assert!(sentence.contains("is the disk full?"), "{sentence}");
}

#[test]
fn files_of_the_journal_that_are_too_many_are_removed() {
    let folder = folder();
    let rows = make(folder.path());
    // As after starts that were killed again and again, each with a file begun.
    for number in 20..26 {
        fs::write(folder.path().join(format!("store/journal/{number}.jnl")), []).unwrap();
    }
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
    assert!(journals(folder.path()).len() <= 3, "{:?}", journals(folder.path()));
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
}

/// The sentence with which a store refuses, after `damage` to its journal.
fn journal_refusal(damage: impl FnOnce(&mut Vec<u8>)) -> String {
    let folder = folder();
    let rows = make(folder.path());
    let journal = journal(folder.path());
    let mut bytes = fs::read(&journal).unwrap();
    damage(&mut bytes);
    fs::write(&journal, &bytes).unwrap();
    match open(folder.path(), &rows) {
        Outcome::Refused(sentence) => {
            // What is refused is left as it was.
            assert!(fs::read(&journal).unwrap() == bytes);
            sentence
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flip_within_the_journal_is_named_with_its_place() {
    // Within the first commit.
    let sentence = journal_refusal(|bytes| bytes[30] ^= 0x40);
    assert!(sentence.contains("the commit at byte 0 is broken, and commit 22, at byte "), "{sentence}");
    // The last commit of all: nothing follows, but it was acknowledged.
    let sentence = journal_refusal(|bytes| *bytes.last_mut().unwrap() ^= 0x40);
    assert!(
        sentence.contains("commits up to 40 were acknowledged, while the whole ones end with 39"),
        "{sentence}"
    );
    // Its number.
    let sentence = journal_refusal(|bytes| bytes[8] ^= 0x20);
    assert!(sentence.contains("the commit at byte 0 is broken"), "{sentence}");
}

#[test]
fn a_tail_that_lags_takes_an_unfinished_write_for_what_it_is() {
    let folder = folder();
    let rows = make(folder.path());
    let tail = fs::read(folder.path().join("tail")).unwrap();
    let store = DiskStore::open(folder.path()).unwrap();
    let (mut later, mut chance) = (rows.clone(), Chance(3));
    commit(&store, &mut later, 41, &mut chance);
    drop(store);
    // As after a power cut in the middle of commit 41: the tail of before, and a hole in the batch.
    fs::write(folder.path().join("tail"), tail).unwrap();
    let journal = journal(folder.path());
    let mut bytes = fs::read(&journal).unwrap();
    let end = end_of(&bytes);
    bytes[end - 600..end - 100].fill(0);
    fs::write(&journal, bytes).unwrap();
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
    let store = DiskStore::open(folder.path()).unwrap();
    let mut again = rows;
    commit(&store, &mut again, 41, &mut chance);
    drop(store);
    assert_eq!(open(folder.path(), &again), Outcome::Right);
}

#[test]
fn the_torn_first_write_after_a_clean_stop_is_cut_off() {
    let original = folder();
    let rows = make(original.path());
    let store = DiskStore::open(original.path()).unwrap();
    store.flush().unwrap();
    drop(store);
    // Everything is in the tables, and an old file is written over.
    let store = DiskStore::open(original.path()).unwrap();
    let tail = fs::read(original.path().join("tail")).unwrap();
    commit(&store, &mut rows.clone(), 41, &mut Chance(3));
    drop(store);
    let journal = journal(original.path()).strip_prefix(original.path()).unwrap().to_owned();
    let whole = fs::read(original.path().join(&journal)).unwrap();
    let holed = [&whole[..600], &[0; 500], &whole[1_100..]].concat();
    let headless = [&[0; 200], &whole[200..]].concat();
    let cut = whole[..1_000].to_vec();
    for (what, torn) in [("a hole", &holed), ("no head", &headless), ("no end", &cut)] {
        let folder = folder();
        copy(original.path(), folder.path());
        fs::write(folder.path().join(&journal), torn).unwrap();
        // It was acknowledged: there is no way to have it back.
        let Outcome::Refused(sentence) = open(folder.path(), &rows) else { panic!("{what} was not noticed") };
        assert!(sentence.contains("end with 40"), "{what}: {sentence}");
        // As after a power cut: nobody was told of it.
        fs::write(folder.path().join(&journal), torn).unwrap();
        fs::write(folder.path().join("tail"), &tail).unwrap();
        assert_eq!(open(folder.path(), &rows), Outcome::Right, "{what}");
        assert_eq!(open(folder.path(), &rows), Outcome::Right, "{what}, at the next start");
        let (mut again, mut chance) = (rows.clone(), Chance(3));
        for n in [41, 42] {
            let store = DiskStore::open(folder.path()).unwrap();
            commit(&store, &mut again, n, &mut chance);
        }
        assert_eq!(open(folder.path(), &again), Outcome::Right, "{what}, and then more");
    }
}

#[test]
fn an_older_store_under_the_same_tail_is_refused() {
    let (older, folder) = (folder(), folder());
    let mut rows = make(folder.path());
    copy(folder.path(), older.path());
    let store = DiskStore::open(folder.path()).unwrap();
    commit(&store, &mut rows, 41, &mut Chance(3));
    drop(store);
    fs::remove_dir_all(folder.path().join("store")).unwrap();
    copy(&older.path().join("store"), &folder.path().join("store"));
    let Err(StoreError::Damaged(sentence)) = DiskStore::open(folder.path()) else { panic!("it opened") };
    assert!(sentence.contains("commits up to 41") && sentence.contains("end with 40"), "{sentence}");
    fs::remove_file(folder.path().join("tail")).unwrap();
    let Err(StoreError::Damaged(sentence)) = DiskStore::open(folder.path()) else { panic!("it opened") };
    assert!(sentence.contains("the file tail is missing"), "{sentence}");
}
