//! A data folder whose journal is any bytes: the store opens with whole commits in order, or says what is damaged.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hongyan_relay::store::disk::DiskStore;
use hongyan_relay::store::{Batch, Order, Store, StoreError, Table};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::program::Program;

/// Commits that are in the tables.
const IN_TABLES: u64 = 3;
const SEED: u64 = 0x6865_6e67_7961_6e21;
/// What stands before a commit's changes, and what a commit begins at a multiple of.
const HEADER_BYTES: usize = 28;
const COMMIT_ALIGN: usize = 64;

/// The journal's decoder, over files that hold whole commits, broken ones and anything else.
pub fn journal(data: &[u8]) {
    let mut program = Program::new(data);
    // As a store leaves it at a power cut: commits one after the other, then what is left of one.
    let is_lawful = program.flag();
    let mut next = IN_TABLES + 1 - program.below(3) as u64;
    let files =
        program.times(0..4, |program| if is_lawful { run(program, &mut next) } else { file(program) });
    let last_lawful = next - 1;
    let acknowledged = match is_lawful {
        true => last_lawful.min(program.byte().into()),
        false => program.below(12) as u64,
    };

    let folder = lay(&files, acknowledged);
    let open = || DiskStore::open(&folder);
    match open() {
        Ok(store) => {
            let last = judge(&store, &files);
            assert!(last >= acknowledged, "{acknowledged} was acknowledged, the store ends with {last}");
            assert!(
                !is_lawful || last == last_lawful.max(IN_TABLES),
                "the journal ends with {last_lawful}, not {last}"
            );
            store.commit(&batch(last + 1, 0)).expect("a disk");
            drop(store);
            let store = open().unwrap_or_else(|error| panic!("it opened before, and now: {error}"));
            let written = [files, vec![encoded(last + 1, &batch(last + 1, 0), SEED)]].concat();
            assert_eq!(judge(&store, &written), last + 1, "what was committed then is there");
        }
        Err(StoreError::Damaged(sentence)) => {
            assert!(!is_lawful, "a power cut is no damage: {sentence}");
            assert!(!sentence.contains('\n') && sentence.ends_with("backup"), "no sentence: {sentence}");
        }
        Err(error) => panic!("the disk is whole, and yet: {error}"),
    }
}

/// A file as anybody may have made it.
fn file(program: &mut Program<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    let mut number = program.below(8) as u64;
    for _ in 0..program.below(10) {
        number = match program.below(8) {
            0 => program.below(12).try_into().unwrap_or(0),
            _ => number + 1,
        };
        let mut commit = encoded(number, &batch(number, program.byte()), SEED);
        match program.below(10) {
            0 => {
                let at = usize::from(program.byte()) % commit.len();
                commit[at] ^= program.byte();
            }
            1 => commit.truncate(usize::from(program.byte())),
            2 => commit = program.bytes().to_vec(),
            3 => commit = vec![0; program.below(256)],
            // Of another journal.
            4 => commit = encoded(number, &batch(number, 0), program.number()),
            // The head of one that is as long as the program says.
            5 => {
                let length = program.small();
                commit[24..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
                let checksum = xxh3_64_with_seed(&commit[8..HEADER_BYTES], SEED);
                commit[..8].copy_from_slice(&checksum.to_le_bytes());
            }
            _ => {}
        }
        file.extend_from_slice(&commit);
        if program.below(16) > 0 {
            file.resize(file.len().next_multiple_of(COMMIT_ALIGN), 0);
        }
    }
    file
}

/// A file as the store leaves it: commits from `next` on, then one that was not finished or of which only the end is
/// there, older ones, or zeros.
fn run(program: &mut Program<'_>, next: &mut u64) -> Vec<u8> {
    let mut file = Vec::new();
    for _ in 0..program.below(6) {
        file.extend(encoded(*next, &batch(*next, program.byte()), SEED));
        file.resize(file.len().next_multiple_of(COMMIT_ALIGN), 0);
        *next += 1;
    }
    let mut left = encoded(*next, &batch(*next, 1), SEED);
    let cut = usize::from(program.byte()) % left.len();
    match program.below(4) {
        0 => left.truncate(cut),
        1 => left[..=cut].fill(0),
        2 => left = encoded(program.below(3) as u64 + 1, &batch(1, 1), SEED),
        _ => left.fill(0),
    }
    file.extend(left);
    file
}

fn batch(number: u64, variant: u8) -> Batch {
    let mut batch = Batch::default();
    batch.put(Table::Messages, number.to_be_bytes().to_vec(), vec![variant; usize::from(variant) * 3]);
    if variant.is_multiple_of(2) {
        batch.delete(Table::Queue, number.to_be_bytes().to_vec());
    }
    batch.put(Table::Meta, &b"last"[..], number.to_be_bytes().to_vec());
    batch
}

/// A commit as the relay's `store::journal` describes it.
fn encoded(number: u64, batch: &Batch, seed: u64) -> Vec<u8> {
    let mut commit = vec![0; HEADER_BYTES];
    for (table, key, value) in &batch.changes {
        let bytes = value.as_ref().map_or(u32::MAX, |value| u32::try_from(value.len()).unwrap_or(0));
        commit.extend_from_slice(&bytes.to_le_bytes());
        commit.extend_from_slice(&u16::try_from(key.len() + 1).unwrap_or(0).to_le_bytes());
        commit.push(*table as u8);
        commit.extend_from_slice(key);
        commit.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let checksum = xxh3_64_with_seed(&commit[HEADER_BYTES..], seed);
    let length = u32::try_from(commit.len() - HEADER_BYTES).unwrap_or(0);
    commit[8..16].copy_from_slice(&number.to_le_bytes());
    commit[16..24].copy_from_slice(&checksum.to_le_bytes());
    commit[24..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    let checksum = xxh3_64_with_seed(&commit[8..HEADER_BYTES], seed);
    commit[..8].copy_from_slice(&checksum.to_le_bytes());
    commit
}

/// The number and the message of each commit that is whole at this place.
fn whole(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let length = usize::try_from(u32::from_le_bytes(*bytes.get(24..)?.first_chunk()?)).ok()?;
    let changes = bytes.get(HEADER_BYTES..HEADER_BYTES + length)?;
    let is_whole = word(0)? == xxh3_64_with_seed(&bytes[8..HEADER_BYTES], SEED)
        && word(16)? == xxh3_64_with_seed(changes, SEED);
    let message = usize::try_from(u32::from_le_bytes(*changes.first_chunk()?)).ok()?;
    // Behind the lengths, the table and the key of the first change.
    is_whole.then_some((word(8)?, changes.get(15..15 + message)?.to_vec()))
}

/// What the store holds after the tables is whole in some file, and it passed over nothing that is. Gives the last commit.
fn judge(store: &DiskStore, files: &[Vec<u8>]) -> u64 {
    let mut commits = HashMap::<u64, Vec<Vec<u8>>>::new();
    for file in files {
        for (number, message) in (0..file.len()).step_by(COMMIT_ALIGN).filter_map(|at| whole(&file[at..])) {
            commits.entry(number).or_default().push(message);
        }
    }
    let mut last = 0u64;
    let visit = &mut |key: &[u8], found: &[u8]| {
        last += 1;
        assert_eq!(key, last.to_be_bytes(), "every commit is there, in order");
        let known = commits.get(&last).is_some_and(|known| known.iter().any(|known| known == found));
        assert!(known || last <= IN_TABLES, "commit {last} is what was written");
        true
    };
    store.scan(Table::Messages, &[], &[0xff; 9], Order::Ascending, visit).expect("whole tables");
    let told = store.get(Table::Meta, b"last").expect("whole tables").expect("a last commit");
    assert_eq!(told[..], last.to_be_bytes(), "the last commit is whole");
    let later = commits.keys().max().filter(|later| **later > last);
    assert!(later.is_none(), "commit {later:?} is whole, and the store ends with {last}");
    last
}

/// A data folder of this thread with these files as its journal.
fn lay(files: &[Vec<u8>], acknowledged: u64) -> PathBuf {
    let (template, folders) = template();
    let folder = folders.join(format!("{:?}", std::thread::current().id()));
    let _ = fs::remove_dir_all(&folder);
    copy(template, &folder);
    for (number, bytes) in (1..).zip(files) {
        fs::write(folder.join(format!("store/journal/{number}.jnl")), bytes).expect("a disk");
    }
    let tail = acknowledged.to_be_bytes();
    fs::write(folder.join("tail"), [tail, xxh3_64(&tail).to_be_bytes()].concat()).expect("a disk");
    folder
}

/// A data folder with commits in the tables and no file of a journal, and a folder for others.
fn template() -> (&'static Path, &'static Path) {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (folders, template) = FOLDER.get_or_init(|| {
        // In memory, where there is a folder of that kind.
        let memory = Path::new("/dev/shm");
        let folders = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folders = folders.expect("a folder for temporary files");
        let template = folders.path().join("template");
        let store = DiskStore::open(&template).expect("a new store");
        (1..=IN_TABLES).for_each(|number| store.commit(&batch(number, 7)).expect("a disk"));
        store.flush().expect("a disk");
        drop(store);
        let journal = template.join("store/journal");
        fs::remove_dir_all(&journal).expect("a journal");
        fs::create_dir(&journal).expect("a disk");
        let seed = SEED.to_le_bytes();
        let sum = xxh3_64(&seed).to_le_bytes();
        fs::write(journal.join("seed"), [seed, sum].concat()).expect("a disk");
        (folders, template)
    });
    (template, folders.path())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a disk");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a folder's entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a disk");
        }
    }
}
