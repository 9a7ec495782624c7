//! Replays what the fuzzer found, without the fuzzer: the corpus, and every input that once broke something.

#![allow(clippy::print_stdout, reason = "a failure says which input it was")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use hongyan_fuzz::{TARGETS, reach_of_relay_core, verbs_of_client_core};

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

/// Every event and every answer that there is comes out of the relay, and every verb out of the client: the programs get
/// far enough to break something.
#[test]
fn the_corpus_reaches_every_event_and_every_verb() {
    let (mut events, mut answers) = (HashSet::new(), HashSet::new());
    for (_, bytes) in inputs("corpus", "relay_core") {
        let reach = reach_of_relay_core(&bytes);
        events.extend(reach.events);
        answers.extend(reach.answers);
    }
    assert_eq!(events.len(), 27, "the kinds of events that the relay sent");
    assert_eq!(answers.len(), 11, "the kinds of answers that the app's server got");
    let verbs: HashSet<_> =
        inputs("corpus", "client_core").iter().flat_map(|(_, bytes)| verbs_of_client_core(bytes)).collect();
    assert_eq!(verbs.len(), 27, "the kinds of verbs that the client sent");
}
