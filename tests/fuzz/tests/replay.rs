//! Replays what the fuzzer found, without the fuzzer: the corpus, and every input that once broke something.

use std::fs;
use std::path::{Path, PathBuf};

use hongyan_fuzz::TARGETS;

/// The inputs of a target in a folder, by name.
fn inputs(folder: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).expect("an input"))).collect()
}

/// Runs the inputs, naming each so that a failure says which one it was.
fn replay(folder: &str, target: &str, run: fn(&[u8])) -> usize {
    let inputs = inputs(folder, target);
    for (file, bytes) in &inputs {
        println!("{}", file.display());
        run(bytes);
    }
    inputs.len()
}

#[test]
fn what_once_broke_something_does_not_any_more() {
    for (name, target) in TARGETS {
        replay("regressions", name, *target);
    }
}

#[test]
fn the_corpus_breaks_nothing() {
    for (name, target) in TARGETS {
        let count = replay("corpus", name, *target);
        assert!(count > 0, "there is no corpus for {name}");
    }
}
