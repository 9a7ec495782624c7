//! The checkout as the tests read it.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are made, never written by hand.
const MADE: &[&str] = &["target", "node_modules", "dist", "pkg"];

/// The root of the checkout.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A file of the checkout, by its path from the root.
pub(super) fn read(path: &str) -> String {
    let file = root().join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path} can't be read: {error}"))
}

/// Every file below a folder (or the file itself) whose name ends in one of `endings`, as paths from the root.
pub(super) fn files(path: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root().join(path), endings, &mut found);
    let root = root();
    let mut names: Vec<String> = found
        .iter()
        .map(|file| file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "{path} holds no file that ends in {endings:?}");
    names
}

fn collect(path: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if !MADE.iter().any(|made| entry.file_name() == *made) {
                collect(&entry.path(), endings, found);
            }
        }
    } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
        found.push(path.to_path_buf());
    }
}
