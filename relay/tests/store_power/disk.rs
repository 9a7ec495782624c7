//! A disk of which is known what was synced: what a power cut may leave of it.
//!
//! | what was not synced | what of it is left |
//! | --- | --- |
//! | bytes of a file | nothing, all, what was written until some moment, or any of the sectors, each of any moment |
//! | a file's length | that of any moment; where no byte was left, there are zeros |
//! | entries of a folder | none, all, those until some moment, or any of them in their order |
//!
//! Each file and folder for itself: a file may be there without its bytes, and a later change without an earlier one. A
//! sync of a file keeps its bytes and its length, not its name; a sync of a folder its entries, not what is in the files. A
//! rename is one change, so the old file or the new one has the name. That is no more than POSIX promises; ext4, xfs and
//! btrfs promise more (they keep the order of changes of names, and ext4 and btrfs a new file's name with its bytes).
//!
//! When a sync of a file fails, what it should have written stays in the system's memory, for processes to read, and no later
//! sync writes it.
//!
//! Milder than POSIX in three things, as all these file systems are: a sector is written whole or not at all, bytes that were
//! synced stay when others of their sector are written, and what a file never held does not turn up in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use super::Chance;
use super::trace::Event;

const PAGE: usize = 4096;

/// The folder that is recorded, as it is for processes and as it is on disk.
pub(crate) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    handles: HashMap<i64, Handle>,
    /// How many calls have ended; and how many had when the running process was started.
    ended: usize,
    started: usize,
}

enum Node {
    File(Cached<Content, FileChange>),
    Folder(Cached<Entries, EntryChange>),
}

/// What processes see, what is on disk, and what was changed in between; each change with the number of its call.
struct Cached<S, C> {
    now: S,
    synced: S,
    changes: Vec<(usize, C)>,
}

/// Names, and the places of their nodes.
type Entries = BTreeMap<String, usize>;

#[derive(Clone)]
enum FileChange {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Clone)]
enum EntryChange {
    Set(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

/// A file's bytes, without the pages that nobody wrote to.
#[derive(Clone, Default)]
struct Content {
    bytes: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

struct Handle {
    node: usize,
    at: u64,
}

/// How much of what was not synced is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    All,
    Some,
}

trait Change<S> {
    fn apply(&self, to: &mut S);
}

impl Change<Content> for FileChange {
    fn apply(&self, to: &mut Content) {
        match self {
            Self::Write(at, bytes) => to.write(*at, bytes),
            Self::Length(bytes) => to.set_length(*bytes),
        }
    }
}

impl Change<Entries> for EntryChange {
    fn apply(&self, to: &mut Entries) {
        match self {
            Self::Set(name, node) => _ = to.insert(name.clone(), *node),
            Self::Remove(name) => _ = to.remove(name),
            Self::Rename(from, name, node) => {
                to.remove(from);
                to.insert(name.clone(), *node);
            }
        }
    }
}

impl<S: Clone, C: Change<S>> Cached<S, C> {
    fn new(now: S) -> Self {
        Self { synced: now.clone(), now, changes: Vec::new() }
    }

    fn change(&mut self, at: usize, change: C) {
        change.apply(&mut self.now);
        self.changes.push((at, change));
    }

    /// What was changed before a call that began then.
    fn sync(&mut self, before: usize) {
        let count = self.changes.partition_point(|(at, _)| *at < before);
        for (_, change) in self.changes.drain(..count) {
            change.apply(&mut self.synced);
        }
    }

    fn first(&self, count: usize) -> S {
        let mut state = self.synced.clone();
        self.changes[..count].iter().for_each(|(_, change)| change.apply(&mut state));
        state
    }
}

impl Disk {
    /// What is there in the folder, all of it on disk.
    pub(crate) fn read(root: &Path) -> Self {
        let root = root.canonicalize().unwrap();
        let mut disk =
            Self { root: root.clone(), nodes: Vec::new(), handles: HashMap::new(), ended: 0, started: 0 };
        disk.read_folder(&root);
        disk
    }

    fn read_folder(&mut self, path: &Path) -> usize {
        let place = self.nodes.len();
        self.nodes.push(Node::Folder(Cached::new(Entries::new())));
        let mut entries = Entries::new();
        for (name, path) in listed(path) {
            let node = if path.is_dir() {
                self.read_folder(&path)
            } else {
                let mut content = Content::default();
                content.write(0, &fs::read(&path).unwrap());
                self.made(Node::File(Cached::new(content)))
            };
            entries.insert(name, node);
        }
        self.nodes[place] = Node::Folder(Cached::new(entries));
        place
    }

    /// A process begins; of an earlier one no descriptor is left.
    pub(crate) fn start(&mut self) {
        self.handles.clear();
        self.started = self.ended;
    }

    /// What the call did to the folder. Says whether it changed or synced anything.
    ///
    /// Of a call whose end was not seen the folder tells what it did, so it must be as the process left it.
    pub(crate) fn apply(&mut self, event: &Event) -> bool {
        let done = self.call(event);
        self.ended += 1;
        done
    }

    fn call(&mut self, event: &Event) -> bool {
        let before = self.started + event.begun;
        if let ("fsync" | "fdatasync", Some(-1)) = (event.name.as_str(), event.result) {
            let Some(handle) = self.handles.get(&event.number(0)) else { return false };
            if let Node::File(file) = &mut self.nodes[handle.node] {
                file.changes.retain(|(at, change)| *at >= before || matches!(change, FileChange::Length(_)));
            }
            return true;
        }
        // Where the outcome is not known, it is looked for below.
        if event.result.is_some_and(|result| result < 0) {
            return false;
        }
        let known = event.result.is_some();
        match event.name.as_str() {
            "open" => self.open(event, self.entry("AT_FDCWD", &event.text(0)), event.word(1)),
            "openat" => self.open(event, self.entry(event.word(0), &event.text(1)), event.word(2)),
            "close" => {
                self.handles.remove(&event.number(0));
                false
            }
            "lseek" => {
                if let (Some(handle), Some(at)) = (self.handles.get_mut(&event.number(0)), event.result) {
                    handle.at = u64::try_from(at).unwrap();
                }
                false
            }
            "write" | "writev" | "pwrite64" => self.write(event),
            "ftruncate" => {
                let Some(handle) = self.handles.get(&event.number(0)) else { return false };
                let (node, bytes) = (handle.node, u64::try_from(event.number(1)).unwrap());
                if !known && fs::metadata(self.path(node)).unwrap().len() != bytes {
                    return false;
                }
                self.write_to(node, FileChange::Length(bytes));
                true
            }
            "fsync" | "fdatasync" => {
                let (true, Some(handle)) = (known, self.handles.get(&event.number(0))) else { return false };
                match &mut self.nodes[handle.node] {
                    Node::File(file) => file.sync(before),
                    Node::Folder(folder) => folder.sync(before),
                }
                true
            }
            "mkdir" => self.make_folder(self.entry("AT_FDCWD", &event.text(0)), known),
            "mkdirat" => self.make_folder(self.entry(event.word(0), &event.text(1)), known),
            "unlink" | "rmdir" => self.remove(self.entry("AT_FDCWD", &event.text(0)), known),
            "unlinkat" => self.remove(self.entry(event.word(0), &event.text(1)), known),
            "rename" => {
                let (from, to) = (event.text(0), event.text(1));
                self.rename(self.entry("AT_FDCWD", &from), self.entry("AT_FDCWD", &to), known)
            }
            "renameat" | "renameat2" => {
                let (from, to) = (event.text(1), event.text(3));
                self.rename(self.entry(event.word(0), &from), self.entry(event.word(2), &to), known)
            }
            // It only asks.
            "fcntl" if ["F_GETFD", "F_SETFD", "F_GETFL"].contains(&event.word(1)) => false,
            name => {
                let is_ours =
                    |word: &str| word.parse().is_ok_and(|handle| self.handles.contains_key(&handle));
                let is_file = (0..event.args.len()).any(|at| match event.word(at) {
                    word if word.starts_with('"') => self.entry("AT_FDCWD", &event.text(at)).is_some(),
                    word => is_ours(word),
                });
                assert!(!is_file && name != "io_uring_setup", "it is not known what this does: {event}");
                false
            }
        }
    }

    fn open(&mut self, event: &Event, entry: Option<(usize, String)>, flags: &str) -> bool {
        let Some((folder, name)) = entry else { return false };
        let has = |flag| flags.split('|').any(|one| one == flag);
        assert!(!has("O_TMPFILE") && !has("O_APPEND") && !has("O_SYNC") && !has("O_DSYNC"), "{event}");
        let mut changed = false;
        let found = if name.is_empty() { Some(folder) } else { self.entries(folder).get(&name).copied() };
        let node = match found {
            Some(node) => {
                if has("O_TRUNC") {
                    self.write_to(node, FileChange::Length(0));
                    changed = true;
                }
                node
            }
            None if event.result.is_none() && !self.path(folder).join(&name).exists() => return false,
            None => {
                assert!(has("O_CREAT"), "it is there for the process and not in the record: {event}");
                let node = self.made(Node::File(Cached::new(Content::default())));
                self.change(folder, EntryChange::Set(name, node));
                changed = true;
                node
            }
        };
        if let Some(handle) = event.result {
            self.handles.insert(handle, Handle { node, at: 0 });
        }
        changed
    }

    fn write(&mut self, event: &Event) -> bool {
        let Some(handle) = self.handles.get(&event.number(0)) else { return false };
        let (node, at) = match event.name.as_str() {
            "pwrite64" => (handle.node, u64::try_from(event.number(3)).unwrap()),
            _ => (handle.node, handle.at),
        };
        let mut bytes = event.bytes(1);
        let written = match event.result {
            Some(written) => usize::try_from(written).unwrap(),
            None => {
                let real = fs::read(self.path(node)).unwrap();
                let real = real.get(usize::try_from(at).unwrap()..).unwrap_or_default();
                real.iter().zip(&bytes).take_while(|(one, other)| one == other).count()
            }
        };
        assert!(written <= bytes.len(), "{event}");
        bytes.truncate(written);
        if event.name != "pwrite64" {
            self.handles.get_mut(&event.number(0)).unwrap().at += written as u64;
        }
        self.write_to(node, FileChange::Write(at, bytes));
        true
    }

    fn make_folder(&mut self, entry: Option<(usize, String)>, known: bool) -> bool {
        let Some((folder, name)) = entry else { return false };
        if !known && !self.path(folder).join(&name).exists() {
            return false;
        }
        let node = self.made(Node::Folder(Cached::new(Entries::new())));
        self.change(folder, EntryChange::Set(name, node));
        true
    }

    fn remove(&mut self, entry: Option<(usize, String)>, known: bool) -> bool {
        let Some((folder, name)) = entry else { return false };
        if !known && self.path(folder).join(&name).exists() {
            return false;
        }
        self.change(folder, EntryChange::Remove(name));
        true
    }

    fn rename(&mut self, from: Option<(usize, String)>, to: Option<(usize, String)>, known: bool) -> bool {
        let (Some((folder, from)), Some((other, to))) = (from, to) else { return false };
        assert_eq!(folder, other, "nothing is moved from folder to folder");
        if !known && self.path(folder).join(&from).exists() {
            return false;
        }
        let node = self.entries(folder)[&from];
        self.change(folder, EntryChange::Rename(from, to, node));
        true
    }

    /// The folder and the name in it, where it is one of ours; the root has no name.
    fn entry(&self, folder: &str, path: &str) -> Option<(usize, String)> {
        let (mut at, path) = match Path::new(path).strip_prefix(&self.root) {
            Ok(path) => (0, path),
            Err(_) if path.starts_with('/') => return None,
            // Processes are started there.
            Err(_) if folder == "AT_FDCWD" => (0, Path::new(path)),
            Err(_) => (self.handles.get(&folder.parse().ok()?)?.node, Path::new(path)),
        };
        let names: Vec<_> = path.components().map(Component::as_os_str).collect();
        let Some((name, folders)) = names.split_last() else { return Some((at, String::new())) };
        for folder in folders {
            at = *self.entries(at).get(folder.to_str().unwrap())?;
        }
        Some((at, name.to_str().unwrap().to_owned()))
    }

    fn entries(&self, folder: usize) -> &Entries {
        match &self.nodes[folder] {
            Node::Folder(folder) => &folder.now,
            Node::File(_) => panic!("a file is no folder"),
        }
    }

    fn write_to(&mut self, file: usize, change: FileChange) {
        let at = self.ended;
        match &mut self.nodes[file] {
            Node::File(file) => file.change(at, change),
            Node::Folder(_) => panic!("a folder is no file"),
        }
    }

    fn change(&mut self, folder: usize, change: EntryChange) {
        let at = self.ended;
        match &mut self.nodes[folder] {
            Node::Folder(folder) => folder.change(at, change),
            Node::File(_) => panic!("a file is no folder"),
        }
    }

    fn made(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn path(&self, node: usize) -> PathBuf {
        fn find(disk: &Disk, at: usize, node: usize, path: &Path) -> Option<PathBuf> {
            if at == node {
                return Some(path.to_owned());
            }
            let Node::Folder(folder) = &disk.nodes[at] else { return None };
            folder.now.iter().find_map(|(name, at)| find(disk, *at, node, &path.join(name)))
        }
        find(self, 0, node, &self.root).unwrap_or_default()
    }

    /// The record has everything: what it leads to is what is there, byte for byte.
    pub(crate) fn compare(&self) {
        self.compare_folder(0, &self.root);
    }

    fn compare_folder(&self, folder: usize, path: &Path) {
        let real = listed(path);
        let names: BTreeSet<_> = real.iter().map(|(name, _)| name).collect();
        assert!(self.entries(folder).keys().eq(names), "{}", path.display());
        for (name, path) in &real {
            match &self.nodes[self.entries(folder)[name]] {
                Node::Folder(_) => self.compare_folder(self.entries(folder)[name], path),
                Node::File(file) => {
                    let bytes = fs::read(path).unwrap();
                    assert_eq!(bytes.len() as u64, file.now.bytes, "the length of {}", path.display());
                    for (number, real) in (0..).zip(bytes.chunks(PAGE)) {
                        let page = file.now.pages.get(&number).map_or(&[0; PAGE][..], |page| page);
                        assert!(*real == page[..real.len()], "page {number} of {}", path.display());
                    }
                }
            }
        }
    }

    /// Puts into a new folder what a power cut at this moment may leave.
    pub(crate) fn cut(&self, left: Left, chance: &mut Chance, to: &Path) {
        self.cut_folder(0, left, chance, to);
    }

    fn cut_folder(&self, at: usize, left: Left, chance: &mut Chance, to: &Path) {
        let Node::Folder(folder) = &self.nodes[at] else { panic!("a file is no folder") };
        for (name, node) in folder.after(left, chance) {
            let path = to.join(name);
            match &self.nodes[node] {
                Node::Folder(_) => {
                    fs::create_dir(&path).unwrap();
                    self.cut_folder(node, left, chance, &path);
                }
                Node::File(file) => file.after(left, chance).lay(&path),
            }
        }
    }
}

impl Cached<Entries, EntryChange> {
    fn after(&self, left: Left, chance: &mut Chance) -> Entries {
        let count = self.changes.len();
        match (left, chance.below(4)) {
            (Left::Nothing, _) | (Left::Some, 0) => self.synced.clone(),
            (Left::All, _) => self.first(count),
            (Left::Some, 1) => self.first(chance.below(count + 1)),
            (Left::Some, _) => {
                let mut entries = self.synced.clone();
                for (_, change) in self.changes.iter().filter(|_| chance.below(2) == 0) {
                    change.apply(&mut entries);
                }
                entries
            }
        }
    }
}

impl Cached<Content, FileChange> {
    fn after(&self, left: Left, chance: &mut Chance) -> Content {
        let count = self.changes.len();
        match (left, chance.below(5)) {
            (Left::Nothing, _) | (Left::Some, 0) => self.synced.clone(),
            (Left::All, _) | (Left::Some, 1) => self.first(count),
            (Left::Some, 2) => self.first(chance.below(count + 1)),
            (Left::Some, 3) => self.sectors(512, chance),
            (Left::Some, _) => self.sectors(PAGE, chance),
        }
    }

    /// Each sector of a moment of its own, and the length of one.
    fn sectors(&self, sector: usize, chance: &mut Chance) -> Content {
        let count = self.changes.len();
        let until = chance.below(count + 1);
        let bytes = self.first(until).bytes;
        let mut content = self.synced.clone();
        for (_, change) in &self.changes[..until] {
            if let FileChange::Length(bytes) = change {
                content.set_length(content.bytes.min(*bytes));
            }
        }
        let mut moments = HashMap::new();
        for (number, (_, change)) in self.changes.iter().enumerate() {
            let FileChange::Write(at, bytes) = change else { continue };
            let (mut at, mut rest) = (*at, &bytes[..]);
            while !rest.is_empty() {
                let (of, within) = (at / sector as u64, usize::try_from(at % sector as u64).unwrap());
                let (part, others) = rest.split_at(rest.len().min(sector - within));
                let moment = *moments.entry(of).or_insert_with(|| chance.below(2 * count + 1).min(count));
                if number < moment {
                    content.write(at, part);
                }
                (rest, at) = (others, at + part.len() as u64);
            }
        }
        content.set_length(bytes);
        content
    }
}

impl Content {
    fn write(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = usize::try_from(at % PAGE as u64).unwrap();
            let (part, rest) = bytes.split_at(bytes.len().min(PAGE - within));
            let page = self.pages.entry(at / PAGE as u64).or_insert_with(|| vec![0; PAGE]);
            page[within..within + part.len()].copy_from_slice(part);
            (bytes, at) = (rest, at + part.len() as u64);
        }
        self.bytes = self.bytes.max(at);
    }

    fn set_length(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.pages.retain(|number, _| number * (PAGE as u64) < bytes);
        if let Some(last) = self.pages.get_mut(&(bytes / PAGE as u64)) {
            last[usize::try_from(bytes % PAGE as u64).unwrap()..].fill(0);
        }
    }

    fn lay(&self, path: &Path) {
        let file = File::create_new(path).unwrap();
        file.set_len(self.bytes).unwrap();
        for (number, page) in &self.pages {
            let at = number * PAGE as u64;
            let bytes = usize::try_from(self.bytes - at).unwrap().min(PAGE);
            file.write_all_at(&page[..bytes], at).unwrap();
        }
    }
}

fn listed(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path())).collect()
}
