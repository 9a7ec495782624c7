//! Flipped bits and truncated files: the store refuses to open, or fails the read, or gives what was committed. What
//! it must never do is to give less or something else.

#![allow(clippy::unwrap_used)] // The helpers are outside of test functions.
#![cfg(feature = "server")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hongyan_relay::store::fjall::FjallStore;
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

fn commit(store: &FjallStore, rows: &mut Rows, n: u64, chance: &mut Chance) {
    let mut batch = Batch::default();
    for table in Table::ALL {
        // Short ones, ones that the journal compresses, and ones that lie beside the tree.
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

/// A store with tables, blobs and a journal, not longer than what was written to it; and all that it must give.
fn make(folder: &Path) -> Rows {
    let (mut rows, mut chance) = (Rows::new(), Chance(7));
    let store = FjallStore::open(folder).unwrap();
    for n in 1..=40 {
        commit(&store, &mut rows, n, &mut chance);
        if n == 20 {
            store.flush().unwrap();
        }
    }
    drop(store);
    // Opening cuts the journal to what is written in it.
    drop(FjallStore::open(folder).unwrap());
    rows
}

/// The same, and then half of the journal in the tables, too: what comes first in it is not needed any more.
fn make_with_a_note(folder: &Path) -> Rows {
    let (mut rows, mut chance) = (make(folder), Chance(5));
    let store = FjallStore::open(folder).unwrap();
    for n in 41..=60 {
        commit(&store, &mut rows, n, &mut chance);
        if n == 50 {
            store.flush().unwrap();
        }
    }
    drop(store);
    assert!(folder.join("flushed").exists());
    rows
}

fn journal(folder: &Path) -> PathBuf {
    let is_journal = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    files(folder).iter().rfind(is_journal).unwrap().clone()
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
    let store = match FjallStore::open(folder) {
        Ok(store) => store,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let outcome = compare(&store, rows);
    drop(store);
    outcome
}

fn compare(store: &FjallStore, rows: &Rows) -> Outcome {
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
        assert!(refused > 100 && right > 10);
    };
    check(make, |_| true);
    check(make_with_a_note, |path| !path.components().any(|part| part.as_os_str() == "keyspaces"));
}

#[test]
fn what_is_in_the_tables_is_cut_off_the_journal_and_nothing_else() {
    let folder = folder();
    let mut rows = make_with_a_note(folder.path());
    let before = fs::read(journal(folder.path())).unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let after = fs::read(journal(folder.path())).unwrap();
    assert!(before.ends_with(&after) && !after.is_empty() && after.len() < before.len() / 2);
    assert!(!folder.path().join("flushed").exists(), "it said a place of the journal that was");
    commit(&store, &mut rows, 61, &mut Chance(4));
    drop(store);
    assert_eq!(open(folder.path(), &rows), Outcome::Right);

    // As after a power cut between both steps of the cut: the journal as it was, and no note.
    fs::write(
        journal(folder.path()),
        [&before, &fs::read(journal(folder.path())).unwrap()[after.len()..]].concat(),
    )
    .unwrap();
    assert_eq!(open(folder.path(), &rows), Outcome::Right);

    // With everything in the tables nothing is left of it, and it goes on.
    let store = FjallStore::open(folder.path()).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = FjallStore::open(folder.path()).unwrap();
    assert!(fs::read(journal(folder.path())).unwrap().is_empty());
    commit(&store, &mut rows, 62, &mut Chance(4));
    drop(store);
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
}

#[test]
fn a_note_of_a_journal_that_the_engine_has_removed_is_passed_over() {
    let folder = folder();
    let mut rows = make_with_a_note(folder.path());
    let note_path = folder.path().join("flushed");
    let (note, before) = (fs::read(&note_path).unwrap(), journal(folder.path()));
    let mut chance = Chance(9);
    let store = FjallStore::open(folder.path()).unwrap();
    // More than the engine keeps in one journal, and of a kind that it can't compress.
    for n in 61..=140u64 {
        let value: Vec<u8> = (0..256 * 1024)
            .flat_map(|_| u32::try_from(chance.below(1 << 31)).unwrap().to_le_bytes())
            .collect();
        rows.insert((Table::Messages, n.to_be_bytes().to_vec()), value.clone());
        let mut batch = Batch::default();
        batch.put(Table::Messages, n.to_be_bytes().to_vec(), value);
        store.commit(&batch).unwrap();
    }
    store.flush().unwrap();
    commit(&store, &mut rows, 141, &mut chance);
    drop(store);
    assert!(!before.exists(), "all of it was in the tables");
    assert_ne!(fs::read(&note_path).unwrap(), note);
    let copied = self::folder();
    copy(folder.path(), copied.path());
    assert_eq!(open(copied.path(), &rows), Outcome::Right);
    // As after a kill between the engine's removing the journal and the note of what came after.
    fs::write(&note_path, note).unwrap();
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
}

/// Where something that takes its time must have come.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_note_that_could_not_be_written_is_written_the_next_time() {
    let folder = folder();
    let store = FjallStore::open(folder.path()).unwrap();
    let fill = |from: u64| {
        for n in from..from + 10 {
            let mut batch = Batch::default();
            batch.put(Table::Messages, n.to_be_bytes().to_vec(), vec![7; 1024 * 1024]);
            store.commit(&batch).unwrap();
        }
    };
    let (note, in_the_way) = (folder.path().join("flushed"), folder.path().join("flushed.new"));
    fs::create_dir(&in_the_way).unwrap();
    fill(1);
    let has_tables =
        || files(folder.path()).iter().any(|file| file.components().any(|part| part.as_os_str() == "tables"));
    until("nothing was flushed", has_tables);
    // Waits for the thread that flushes, and fails as it did.
    assert!(store.flush().is_err() && !note.exists());
    fs::remove_dir(&in_the_way).unwrap();
    fill(11);
    until("the thread that flushes has ended", || note.exists());
}

#[test]
fn what_a_cut_left_unfinished_is_removed() {
    let folder = folder();
    let rows = make_with_a_note(folder.path());
    let unfinished = journal(folder.path()).with_extension("cut");
    fs::write(&unfinished, [7; 100]).unwrap();
    fs::remove_file(folder.path().join("flushed")).unwrap();
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
    assert!(!unfinished.exists());
}

#[test]
fn a_note_and_a_journal_that_do_not_belong_together_are_refused() {
    let folder = folder();
    let rows = make_with_a_note(folder.path());
    let bytes = fs::read(journal(folder.path())).unwrap();
    let note = fs::read(folder.path().join("flushed")).unwrap();
    let place = usize::try_from(u64::from_be_bytes(note[16..24].try_into().unwrap())).unwrap();
    // The journal ends before the place where it is to go on.
    fs::write(journal(folder.path()), &bytes[..place - 1]).unwrap();
    let Outcome::Refused(sentence) = open(folder.path(), &rows) else { panic!("it opened") };
    assert!(sentence.contains("which were written, are not all there"), "{sentence}");
    // The whole batches end with the last one that is in the tables, but more were acknowledged.
    fs::write(journal(folder.path()), &bytes[..place + 700]).unwrap();
    let Outcome::Refused(sentence) = open(folder.path(), &rows) else { panic!("it opened") };
    assert!(sentence.contains("commits up to 60 were acknowledged"), "{sentence}");
    assert!(fs::read(journal(folder.path())).unwrap().len() == place + 700, "what is refused stays");
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
    // The tag of the first batch's first item: the engine alone takes all from there on for a torn end.
    let sentence = journal_refusal(|bytes| bytes[13] ^= 0x40);
    assert!(
        sentence.contains("the batch at byte 0 is broken, and a whole one follows at byte"),
        "{sentence}"
    );
    // The last batch of all: nothing follows, but it was acknowledged.
    let sentence = journal_refusal(|bytes| *bytes.last_mut().unwrap() ^= 0x40);
    assert!(
        sentence.contains("commits up to 40 were acknowledged, while the whole ones end with 39"),
        "{sentence}"
    );
    // A sequence number, of which the engine has no checksum.
    let sentence = journal_refusal(|bytes| bytes[6] ^= 0x20);
    assert!(sentence.contains("sequence number"), "{sentence}");
}

#[test]
fn a_tail_that_lags_takes_an_unfinished_write_for_what_it_is() {
    let folder = folder();
    let rows = make(folder.path());
    let tail = fs::read(folder.path().join("tail")).unwrap();
    let store = FjallStore::open(folder.path()).unwrap();
    let (mut later, mut chance) = (rows.clone(), Chance(3));
    commit(&store, &mut later, 41, &mut chance);
    drop(store);
    // As after a power cut in the middle of commit 41: the tail of before, and a hole in the batch.
    fs::write(folder.path().join("tail"), tail).unwrap();
    let journal = journal(folder.path());
    let mut bytes = fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 600..end - 100].fill(0);
    fs::write(&journal, bytes).unwrap();
    assert_eq!(open(folder.path(), &rows), Outcome::Right);
    let store = FjallStore::open(folder.path()).unwrap();
    let mut again = rows;
    commit(&store, &mut again, 41, &mut chance);
    drop(store);
    assert_eq!(open(folder.path(), &again), Outcome::Right);
}

#[test]
fn the_torn_first_write_after_a_clean_stop_is_cut_off() {
    let original = folder();
    let rows = make(original.path());
    let store = FjallStore::open(original.path()).unwrap();
    store.flush().unwrap();
    drop(store);
    // Everything is in the tables, and this start leaves nothing of the journal and its note.
    let store = FjallStore::open(original.path()).unwrap();
    let tail = fs::read(original.path().join("tail")).unwrap();
    assert!(!original.path().join("flushed").exists());
    commit(&store, &mut rows.clone(), 41, &mut Chance(3));
    drop(store);
    let whole = fs::read(journal(original.path())).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let holed = [&whole[..end - 600], &[0; 500], &whole[end - 100..]].concat();
    let headless = [&[0; 200], &whole[200..end]].concat();
    let cut = whole[..end - 300].to_vec();
    for (what, torn) in [("a hole", &holed), ("no head", &headless), ("no end", &cut)] {
        let folder = folder();
        copy(original.path(), folder.path());
        fs::write(journal(folder.path()), torn).unwrap();
        // It was acknowledged: there is no way to have it back.
        let Outcome::Refused(sentence) = open(folder.path(), &rows) else { panic!("{what} was not noticed") };
        assert!(sentence.contains("ends with 40"), "{what}: {sentence}");
        // As after a power cut: nobody was told of it.
        fs::write(journal(folder.path()), torn).unwrap();
        fs::write(folder.path().join("tail"), &tail).unwrap();
        assert_eq!(open(folder.path(), &rows), Outcome::Right, "{what}");
        assert_eq!(open(folder.path(), &rows), Outcome::Right, "{what}, at the next start");
        let (mut again, mut chance) = (rows.clone(), Chance(3));
        for n in [41, 42] {
            let store = FjallStore::open(folder.path()).unwrap();
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
    let store = FjallStore::open(folder.path()).unwrap();
    commit(&store, &mut rows, 41, &mut Chance(3));
    drop(store);
    fs::remove_dir_all(folder.path().join("store")).unwrap();
    copy(&older.path().join("store"), &folder.path().join("store"));
    let Err(StoreError::Damaged(sentence)) = FjallStore::open(folder.path()) else { panic!("it opened") };
    assert!(sentence.contains("commits up to 41") && sentence.contains("ends with 40"), "{sentence}");
    fs::remove_file(folder.path().join("tail")).unwrap();
    let Err(StoreError::Damaged(sentence)) = FjallStore::open(folder.path()) else { panic!("it opened") };
    assert!(sentence.contains("the file tail is missing"), "{sentence}");
}
