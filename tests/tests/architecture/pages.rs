//! The pages tell the truth: paths that they name exist, tables that repeat the code agree with it.

use std::collections::BTreeSet;

use hongyan_protocol::Code;
use serde_json::Value;

use super::tree::{read, root};

/// Endings by which a word without a slash is still a file.
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".json", ".mjs", ".ts", ".proto"];
/// What a build makes: named by pages, absent in a fresh clone.
const MADE: &[&str] = &["sdk-wasm/pkg", "web-demo/dist", "target", "data"];

#[test]
fn paths_in_the_pages_exist() {
    // The least that each page names, so that a blind scan fails.
    for (page, at_least) in
        [("ARCHITECTURE.md", 10), ("PROTOCOL.md", 2), ("README.md", 3), ("README.zh-CN.md", 3)]
    {
        let text = read(page);
        let paths = paths(&text);
        assert!(paths.len() >= at_least, "{page} names only {paths:?}");
        for path in paths {
            assert!(root().join(&path).exists(), "{page} names {path}, which does not exist");
        }
    }
}

#[test]
fn paths_are_found_in_text() {
    let text = "`client/src/io.rs`, `web-demo/`, `Cargo.toml` but `/demo/`, `state.storage`, `a / b`, `Client::new`, \
        `http://x/y`, `target/release/x`, `--data DIR/`, `@scope/name`, `application/json`, `npm run build`, `.proto`, \
        ```text\n`no/such`\n``` and [a link](docs/page.md), [another](https://x.y/z.md), [here](#part).";
    let found: Vec<String> = paths(text).into_iter().collect();
    assert_eq!(found, ["Cargo.toml", "application/json", "client/src/io.rs", "docs/page.md", "web-demo/"]);
}

#[test]
fn protocol_page_lists_every_code() {
    let page = read("PROTOCOL.md");
    let listed: Vec<(u16, String)> = page.lines().filter_map(code_row).collect();
    let known: Vec<(u16, String)> = Code::ALL.iter().map(|code| (code.0, code.name().to_owned())).collect();
    assert_eq!(listed, known, "PROTOCOL.md's table of codes and protocol/src/codes.rs differ");
}

#[test]
fn readme_and_package_agree_on_the_commands() {
    let package: Value = serde_json::from_str(&read("package.json")).unwrap();
    let scripts: BTreeSet<String> = package["scripts"].as_object().unwrap().keys().cloned().collect();
    for page in ["README.md", "README.zh-CN.md"] {
        let named = commands(&read(page));
        assert!(named.is_subset(&scripts), "{page} names {named:?}; package.json has {scripts:?}");
        assert!(scripts.is_subset(&named), "{page} does not name all of {scripts:?}");
    }
}

/// Paths between single backticks and targets of links, outside of fenced blocks.
fn paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Every second part lies inside a fence.
    for prose in text.split("```").step_by(2) {
        found.extend(prose.split('`').skip(1).step_by(2).filter(|word| is_path(word)).map(str::to_owned));
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        found.extend(links.map(|(link, _)| link).filter(|link| is_path(link)).map(str::to_owned));
    }
    found
}

fn is_path(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'));
    let made = MADE.iter().any(|made| word == *made || word.starts_with(&format!("{made}/")));
    let shaped = word.contains('/')
        || ENDINGS.iter().any(|ending| word.len() > ending.len() && word.ends_with(ending));
    plain && shaped && !made && !word.starts_with(['/', '-'])
}

/// A row such as ``| 4100 | `busy` | … |``.
fn code_row(line: &str) -> Option<(u16, String)> {
    let mut cells = line.split('|').map(str::trim).skip(1);
    let number = cells.next()?.parse().ok()?;
    let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    Some((number, name.to_owned()))
}

/// The scripts that a text calls: `npm start`, `npm test`, `npm run NAME`.
fn commands(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in text.split("npm ").skip(1) {
        let mut words = rest.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':')));
        match words.next() {
            Some(name @ ("start" | "test")) => found.insert(name.to_owned()),
            Some("run") => words.next().is_some_and(|name| found.insert(name.to_owned())),
            _ => false,
        };
    }
    found
}
