//! A core has no clock, chance, sockets, files, threads, environment, runtime or voice of its own.
//!
//! The scan reads tokens, so it sees use trees, paths in expressions and types, and what stands inside macros. What is
//! compiled for tests only is left out, and so are deliberate defects. (A crate called `log` or `time` can't be told from a module of that name here;
//! the list of foreign crates in `arrows` keeps those out.)

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::Visit;
use syn::visit_mut::VisitMut;

use super::tree::{files, read};

/// What must be without I/O.
const CORES: &[&str] = &["protocol/src", "client/src", "relay/src/core", "relay/src/store/mod.rs"];

/// Paths that a core may not name, by their beginning.
const BANNED: &[(&str, &str)] = &[
    ("std::time", "a clock; time is an argument"),
    ("std::net", "sockets"),
    ("std::thread", "threads"),
    ("std::fs", "files"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("std::os", "the operating system"),
    ("std::io", "I/O"),
    ("std::random", "chance; entropy is an argument"),
    ("std::hash::RandomState", "chance; entropy is an argument"),
    ("std::collections::HashMap", "chance, in its order; use BTreeMap"),
    ("std::collections::HashSet", "chance, in its order; use BTreeSet"),
    ("std::collections::hash_map", "chance, in its order; use BTreeMap"),
    ("std::collections::hash_set", "chance, in its order; use BTreeSet"),
    ("std::sync::mpsc", "threads"),
    ("std::sync::Mutex", "threads"),
    ("std::sync::RwLock", "threads"),
    ("std::sync::Condvar", "threads"),
    ("std::sync::Barrier", "threads"),
    ("std::task", "a runtime"),
    ("std::future", "a runtime"),
];

/// Exceptions: values that do nothing by themselves, and a generator that knows only the seed that it is given.
const ALLOWED: &[&str] = &[
    "std::time::Duration",
    "std::io::Error",
    "std::io::ErrorKind",
    "rand::Rng",
    "rand::RngExt",
    "rand::SeedableRng",
    "rand::rngs::ChaCha12Rng",
    "rand::rngs::ChaCha20Rng",
];

/// Crates that a core may not name at all.
const BANNED_CRATES: &[&str] = &[
    "async_std",
    "axum",
    "chrono",
    "crossbeam",
    "fastrand",
    "futures",
    "futures_util",
    "getrandom",
    "gloo_events",
    "gloo_net",
    "gloo_timers",
    "hyper",
    "jiff",
    "js_sys",
    "mio",
    "oorandom",
    "parking_lot",
    "rand",
    "rand_core",
    "rayon",
    "reqwest",
    "smol",
    "socket2",
    "tokio",
    "tracing",
    "tungstenite",
    "uuid",
    "wasm_bindgen",
    "wasm_bindgen_futures",
    "web_sys",
    "web_time",
];

/// Macros that a core may not call.
const BANNED_MACROS: &[&str] = &["println", "eprintln", "print", "eprint", "dbg", "thread_local"];

#[test]
fn cores_reach_for_nothing() {
    for core in CORES {
        for file in files(core, &[".rs"]) {
            let found = findings(&read(&file)).unwrap_or_else(|error| panic!("{file} is not Rust: {error}"));
            assert!(found.is_empty(), "{file} reaches for: {}", found.join(", "));
        }
    }
}

#[test]
fn the_scan_bites() {
    for bad in [
        "use std::time::Instant;",
        "use std::{collections::BTreeMap, time::{Duration, SystemTime}};",
        "use std::time;",
        "use std::time::*;",
        "use std as s;",
        "use std::*;",
        "use ::std::time::Instant;",
        "extern crate std as s;",
        "fn f() { let now = std::time::Instant::now(); }",
        "fn f(t: &std::time::SystemTime) {}",
        "fn f() -> u64 { core::hint::black_box(std::env::var(\"A\").map_or(1, |_| 2)) }",
        "fn f() { assert!(std::fs::exists(\"a\").is_ok()); }",
        "fn f() { if true { std::thread::spawn(|| ()); } }",
        "struct S { map: std::collections::HashMap<u8, u8> }",
        "use std::collections::HashMap;",
        "use std::sync::{Arc, Mutex};",
        "use std::net::TcpStream;",
        "use tokio::sync::mpsc;",
        "use tokio;",
        "fn f() { tokio::spawn(async {}); }",
        "fn f() -> u8 { rand::random() }",
        "use rand::rngs::{ChaCha12Rng, OsRng};",
        "use rand::rng;",
        "fn f() { getrandom::fill(&mut [0]).ok(); }",
        "fn f() { tracing::info!(\"sent\"); }",
        "use tracing::info;",
        "fn f() { println!(\"sent\"); }",
        "fn f() { std::eprintln!(\"sent\"); }",
        "mod inner { pub fn f() { let x = dbg!(1); } }",
        "async fn f() {}",
        "fn f() { let later = async move { 1 }; }",
        "impl S { fn f(&self) { vec![std::time::Instant::now()]; } }",
        "macro_rules! m { () => { std::time::Instant::now() } }",
        "#[cfg(not(test))] fn f() { println!(); }",
        "#[cfg(feature = \"other\")] fn f() { println!(); }",
        "thread_local! { static N: u8 = 0; }",
    ] {
        assert!(!findings(bad).unwrap().is_empty(), "the scan passed over: {bad}");
    }
}

#[test]
fn the_scan_lets_pass_what_a_core_may_do() {
    for good in [
        "use std::collections::{BTreeMap, VecDeque};",
        "use std::{sync::Arc, time::Duration};",
        "use core::time::Duration;",
        "use std::fmt::{self, Write as _};",
        "use crate::core::{log, time};",
        "fn f() { log::append(time::of(1)); }",
        "fn f(error: std::io::Error) {}",
        "/// Not a `std::time::Instant`.\nstruct Moment(u64);",
        "fn f() { let text = \"println!\"; }",
        "use rand::{SeedableRng, rngs::ChaCha12Rng};",
        "#[cfg(test)] mod tests { use std::time::Instant; fn f() { println!(); } }",
        "#[cfg(feature = \"defects\")] thread_local! { static N: u8 = 0; }",
        "#[test] fn f() { std::fs::read(\"x\").unwrap(); }",
        "mod a { #[cfg(test)] mod tests { use rand::random; } }",
    ] {
        assert_eq!(findings(good).unwrap(), Vec::<String>::new(), "{good}");
    }
}

/// What a source reaches for that a core may not.
fn findings(source: &str) -> syn::Result<Vec<String>> {
    let mut file = syn::parse_file(source)?;
    WithoutTests.visit_file_mut(&mut file);
    let mut scan = Scan::default();
    scan.visit_file(&file);
    scan.tokens(file.to_token_stream());
    scan.found.sort();
    scan.found.dedup();
    Ok(scan.found)
}

/// Takes away what only tests compile.
struct WithoutTests;

impl WithoutTests {
    fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
        attributes.iter().any(|attribute| {
            attribute.path().is_ident("test")
                || attribute.path().is_ident("cfg")
                    && attribute.meta.require_list().is_ok_and(|list| {
                        // The feature compiles deliberate defects in, for the simulated world's own test.
                        matches!(list.tokens.to_string().as_str(), "test" | "feature = \"defects\"")
                    })
        })
    }

    fn item_is_for_tests(item: &syn::Item) -> bool {
        match item {
            syn::Item::Mod(item) => Self::is_for_tests(&item.attrs),
            syn::Item::Fn(item) => Self::is_for_tests(&item.attrs),
            syn::Item::Use(item) => Self::is_for_tests(&item.attrs),
            syn::Item::Impl(item) => Self::is_for_tests(&item.attrs),
            syn::Item::Macro(item) => Self::is_for_tests(&item.attrs),
            _ => false,
        }
    }
}

impl VisitMut for WithoutTests {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| !Self::item_is_for_tests(item));
        syn::visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| !Self::item_is_for_tests(item));
        }
        syn::visit_mut::visit_item_mod_mut(self, module);
    }
}

#[derive(Default)]
struct Scan {
    found: Vec<String>,
}

impl Scan {
    /// Judges a whole path; `imported` when it stands in a use tree, where one segment is a crate.
    fn path(&mut self, segments: &[String], imported: bool) {
        let whole = segments.join("::");
        let is_below = |prefix: &str| whole == prefix || whole.starts_with(&format!("{prefix}::"));
        let allowed = ALLOWED.iter().any(|path| is_below(path));
        for (path, reason) in BANNED {
            if is_below(path) && !allowed {
                self.found.push(format!("{whole} ({reason})"));
            }
        }
        let root = segments.first().map_or("", String::as_str);
        if BANNED_CRATES.contains(&root) && !allowed && (imported || segments.len() > 1) {
            self.found.push(format!("{whole} (the crate {root})"));
        }
    }

    fn use_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let mut path = before.to_vec();
        match tree {
            syn::UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.use_tree(&path, &step.tree);
            }
            syn::UseTree::Name(name) if name.ident == "self" => self.path(&path, true),
            syn::UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.path(&path, true);
            }
            syn::UseTree::Rename(rename) => {
                path.push(rename.ident.to_string());
                self.root_under_another_name(&path);
                self.path(&path, true);
            }
            syn::UseTree::Glob(_) => {
                self.root_under_another_name(&path);
                self.path(&path, true);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(before, item)),
        }
    }

    /// `use std as s` and `use std::*` would hide everything that follows.
    fn root_under_another_name(&mut self, path: &[String]) {
        if path == ["std"] {
            self.found.push("std under another name".into());
        }
    }

    /// Walks tokens, at every depth, for paths, macros and `async`.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, mark: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == mark);
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) => {
                    let mut segments = vec![ident.to_string()];
                    while is(at, ':') && is(at + 1, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else { break };
                        segments.push(next.to_string());
                        at += 3;
                    }
                    self.path(&segments, false);
                    let last = segments.last().map_or("", String::as_str);
                    if is(at, '!') && BANNED_MACROS.contains(&last) {
                        self.found.push(format!("{last}!"));
                    }
                    if matches!(last, "async" | "await") {
                        self.found.push(format!("{last} (a runtime)"));
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

impl Visit<'_> for Scan {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.use_tree(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &syn::ItemExternCrate) {
        self.found.push(format!("extern crate {}", item.ident));
    }
}
