//! A disk that is full, that fails, or that can't be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::task::block_in_place;

use super::load::{Load, Verdict};
use super::process::Relay;

/// A file system of its own in memory, for tests that run as root.
struct Mount(PathBuf);

impl Mount {
    /// `None`, and a line that says so, where mounting is not allowed.
    fn new(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("SKIPPED: this test mounts a file system, which is not allowed here");
        None
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn all_is_well(verdict: &Verdict) {
    println!("{verdict:?}");
    assert!(*verdict == Verdict { acknowledged: verdict.acknowledged, ..Verdict::default() }, "{verdict:?}");
}

#[test]
fn a_folder_that_can_t_be_written_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(&folder.path().join("disk"), "size=64m") else { return };
    let mut relay = Relay::new(&mount.0.join("data"));
    // Also when there is a store already.
    for with_store in [false, true] {
        if with_store {
            relay.start();
            relay.kill();
        }
        mount.remount("ro");
        let (status, log) = relay.try_start().unwrap_err();
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains("hongyan-relay: The data") && log.contains("Read-only file system"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        mount.remount("rw");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_relay_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = block_in_place(|| Mount::new(&folder.path().join("disk"), "size=12m")) else { return };
    let mut relay = Relay::new(&mount.0.join("data"));
    block_in_place(|| relay.start());
    let load = Load::start(relay.address, 4, Duration::ZERO, 8_000).await;
    for size in ["size=20m", "size=400m"] {
        let (code, log) = block_in_place(|| relay.ended());
        assert_eq!(code, Some(1), "{log}");
        // Either the commit has met the full disk, or what the engine writes behind the commits.
        let names_it = log.contains("No space left") || log.contains("is the disk full?");
        assert!(log.contains("A commit failed, so the relay stops") && names_it, "{log}");
        assert!(!log.contains("panicked"), "{log}");
        mount.remount(size);
        block_in_place(|| relay.start());
    }
    load.more(50).await;
    all_is_well(&load.end(relay.address).await);
    block_in_place(|| relay.kill());
    let (code, printed) = relay.verify();
    assert_eq!(code, Some(0), "{printed}");
}

/// Fails calls on journals with EIO while the trigger file is there, without making them.
const FAULTS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd, const char *call) {
    const char *which = getenv("FAULT_CALL"), *trigger = getenv("FAULT_TRIGGER");
    char link[64], path[4096];
    if (!which || !trigger || strcmp(which, call) != 0 || access(trigger, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 4) return 0;
    path[length] = 0;
    return strcmp(path + length - 4, ".jnl") == 0;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (fails(fd, "fdatasync")) { errno = EIO; return -1; }
    return real(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (fails(fd, "write")) { errno = EIO; return -1; }
    return real(fd, bytes, count);
}
"#;

/// The library; `None`, and a line that says so, where there is no C compiler.
fn library(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("faults.c"), folder.join("faults.so"));
    fs::write(&source, FAULTS).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    match built {
        Ok(status) if status.success() => Some(library),
        _ => {
            println!("SKIPPED: this test compiles a small library, and there is no C compiler (cc)");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_relay_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = block_in_place(|| library(folder.path())) else { return };
    let trigger = folder.path().join("trigger");
    let mut relay = Relay::new(&folder.path().join("data"));
    relay.set("LD_PRELOAD", library.to_str().unwrap());
    relay.set("FAULT_TRIGGER", trigger.to_str().unwrap());
    relay.set("FAULT_CALL", "fdatasync");
    block_in_place(|| relay.start());
    let load = Load::start(relay.address, 4, Duration::from_millis(1), 100).await;
    for call in ["write", "fdatasync", "write", "none"] {
        load.more(100).await;
        fs::write(&trigger, "").unwrap();
        let (code, log) = block_in_place(|| relay.ended());
        // Who waited for the failed commit has no answer from it, and nobody gets one after it.
        let acknowledged = load.acknowledged.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(code, Some(1), "{log}");
        assert!(
            log.contains("A commit failed, so the relay stops") && log.contains("Input/output error"),
            "{log}"
        );
        assert!(!log.contains("panicked"), "{log}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(load.acknowledged.load(std::sync::atomic::Ordering::Relaxed), acknowledged);
        fs::remove_file(&trigger).unwrap();
        relay.set("FAULT_CALL", call);
        block_in_place(|| relay.start());
    }
    load.more(100).await;
    all_is_well(&load.end(relay.address).await);
    block_in_place(|| relay.kill());
    let (code, printed) = relay.verify();
    assert_eq!(code, Some(0), "{printed}");
}

#[test]
fn damage_is_a_sentence_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Relay::new(&folder.path().join("data"));
    assert_eq!(relay.verify().0, Some(2), "there is no store yet");
    relay.start();
    // One process at a time.
    let (code, printed) = relay.verify();
    assert!(code == Some(2) && printed.contains("another process uses"), "{printed}");
    relay.kill();
    let (code, printed) = relay.verify();
    assert!(code == Some(0) && printed.contains("The store is whole."), "{printed}");

    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    let entries = fs::read_dir(relay.data.join("store/journal")).unwrap();
    let journal = entries.map(|entry| entry.unwrap().path()).find(is_journal).unwrap();
    let whole = fs::read(&journal).unwrap();
    let flipped = [&whole[..40], &[whole[40] ^ 1], &whole[41..]].concat();
    for damaged in [flipped, whole[..40].to_vec(), Vec::new()] {
        fs::write(&journal, damaged).unwrap();
        for _ in 0..2 {
            let (status, log) = relay.try_start().unwrap_err();
            let refuses = status.code() == Some(2) && log.contains("hongyan-relay: The data can't be opened");
            assert!(refuses, "{log}");
            let (code, printed) = relay.verify();
            assert!(code == Some(1) && printed.contains("The store is damaged: "), "{printed}");
        }
    }
    // It refused, and changed nothing.
    fs::write(&journal, whole).unwrap();
    relay.start();
}
