//! The API of the app's own servers, tried by everybody who has no business with it.
//!
//! *How to add a route:* a row in the table below. Without it the test fails: the relay's own document tells which
//! routes there are.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb};
use hongyan_tests::tokens::SECRET;

use crate::hellos::forged_token;
use crate::raw::{Peer, head, hello};
use crate::scene::{API_SECRET, BODY, Scene, TITLE, good_token};

/// Whose affairs are tried.
const USER: &str = "carol";
const DEVICE: &str = "device-of-carol";
/// More than a body may have …
const LONG: usize = 8 * 1024;
/// … and one that names many users.
const LONG_OF_USERS: usize = 1024 * 1024 + 1;
/// Stands for the id of a group of the user's.
const GROUP: &str = "GROUP";

/// One route, and a request that does it.
struct Row {
    method: &'static str,
    /// As the relay's document names it.
    path: &'static str,
    target: &'static str,
    body: &'static str,
    /// The code with which the user's connection ends when it is done; `None` when it goes on.
    ends: Option<Code>,
}

const fn row(method: &'static str, path: &'static str, target: &'static str) -> Row {
    Row { method, path, target, body: "", ends: None }
}

impl Row {
    const fn with(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    const fn ends(self, code: Code) -> Self {
        Self { ends: Some(code), ..self }
    }

    fn needs_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// More than its body may have.
    fn too_long(&self) -> usize {
        if self.body.contains("users") || self.body.contains("owner") { LONG_OF_USERS } else { LONG }
    }
}

/// Those that end more come later.
const ROWS: [Row; 11] = [
    row("POST", "/api/v1/groups", "/api/v1/groups").with(r#"{"title":"Geese","owner":"carol"}"#),
    row("GET", "/api/v1/groups/{group}", "/api/v1/groups/GROUP"),
    row("PATCH", "/api/v1/groups/{group}", "/api/v1/groups/GROUP").with(r#"{"diffusion":"log"}"#),
    row("GET", "/api/v1/groups/{group}/members", "/api/v1/groups/GROUP/members"),
    row("POST", "/api/v1/groups/{group}/members", "/api/v1/groups/GROUP/members")
        .with(r#"{"users":["dave"]}"#),
    row("DELETE", "/api/v1/groups/{group}/members", "/api/v1/groups/GROUP/members?user=dave"),
    row("GET", "/api/v1/presence", "/api/v1/presence?user=carol"),
    row("GET", "/api/v1/users/{user}/devices", "/api/v1/users/carol/devices"),
    row("POST", "/api/v1/users/{user}/kick", "/api/v1/users/carol/kick").ends(Code::KICKED),
    row("DELETE", "/api/v1/users/{user}/devices/{device}", "/api/v1/users/carol/devices/device-of-carol")
        .ends(Code::LOGGED_OUT),
    row("POST", "/api/v1/users/{user}/revoke-tokens", "/api/v1/users/carol/revoke-tokens")
        .ends(Code::TOKEN_REVOKED),
];

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"];

/// What an HTTP request is answered: all of it.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

async fn ask(scene: &Scene, method: &str, target: &str, lines: &[String], body: &[u8]) -> Answer {
    let mut peer = Peer::tcp(scene.address()).await;
    let request = format!("{method} {target} HTTP/1.1");
    let mut all = vec![request.as_str(), "host: relay", "connection: close"];
    all.extend(lines.iter().map(String::as_str));
    peer.write(&[head(&all), body.to_vec()].concat()).await;
    let head = peer.http().await.expect("an answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: peer.rest().await, head: head.to_ascii_lowercase() }
}

fn key() -> String {
    format!("authorization: Bearer {API_SECRET}")
}

/// Headers that open nothing.
fn keyless() -> Vec<(&'static str, Vec<String>)> {
    let one = |value: String| vec![format!("authorization: {value}")];
    vec![
        ("without a key", Vec::new()),
        ("with an empty key", one("Bearer ".into())),
        ("with a forged key", one(format!("Bearer {}", API_SECRET.replace('a', "b")))),
        ("with half a key", one(format!("Bearer {}", &API_SECRET[..20]))),
        ("with more than a key", one(format!("Bearer {API_SECRET}{API_SECRET}"))),
        ("with a key and its id", one(format!("Bearer app:{API_SECRET}"))),
        ("with a key as a password", one(format!("Basic {}", STANDARD.encode(format!("app:{API_SECRET}"))))),
        ("with a key in another header", vec![format!("x-api-key: {API_SECRET}")]),
        ("with a key in a cookie", vec![format!("cookie: authorization=Bearer {API_SECRET}")]),
        ("with two keys", vec![key(), key()]),
        ("with the secret of tokens", one(format!("Bearer {SECRET}"))),
        ("with a user's own token", one(format!("Bearer {}", good_token(USER)))),
        ("with a forged token", one(format!("Bearer {}", forged_token(USER)))),
        ("with bytes that are no text", one("Bearer \u{fe}\u{ff}".into())),
    ]
}

/// Tries all, and returns what is not as it must be.
pub(crate) async fn all(scene: &mut Scene) -> Vec<String> {
    let document = ask(scene, "GET", "/api/v1/openapi.json", &[], b"").await;
    assert_eq!(document.status, 200, "what the routes are like may be read by anybody");
    let document: serde_json::Value = serde_json::from_str(&document.body).unwrap();
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        routes.extend(operations.as_object().unwrap().keys().map(|it| (it.to_uppercase(), path.clone())));
    }
    let rows: BTreeSet<_> = ROWS.iter().map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
    assert_eq!(routes, rows, "each route has a row, and each row a route");

    let new = ROWS[0].body.as_bytes();
    let length = format!("content-length: {}", new.len());
    let made = ask(scene, "POST", "/api/v1/groups", &[key(), length], new).await;
    let made: serde_json::Value = serde_json::from_str(&made.body).unwrap();
    let group = made["group"].as_str().unwrap();

    let (mut wrong, mut tried) = (Vec::new(), 0);
    let mut carol = login(scene).await;
    for row in &ROWS {
        for (what, lines, method, target, body, status) in tries(row) {
            let target = target.replace(GROUP, group);
            let answer = ask(scene, method, &target, &lines, &body).await;
            tried += 1;
            if answer.status != status || tells(&answer) {
                let shown = if tells(&answer) { ", and tells what is not for all" } else { "" };
                wrong.push(format!("{method} {target} {what}: {}{shown}, not {status}", answer.status));
            }
        }
        let ping = carol.ask(Verb::Ping(wire::Ping { nonce: 1 })).await;
        assert!(carol.answer(ping).await.is_ok(), "{} {} was done", row.method, row.path);
        scene.goes_on().await;
    }
    // With the key each of them does what it is for; so what was tried above was the real thing.
    for row in &ROWS {
        let lines = [key(), format!("content-length: {}", row.body.len())];
        let target = row.target.replace(GROUP, group);
        let answer = ask(scene, row.method, &target, &lines, row.body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{} {}: {}", row.method, row.target, answer.body);
        assert!(answer.body.contains(USER));
        if let Some(code) = row.ends {
            assert_eq!(Code(carol.closed().await), code, "{} {}", row.method, row.target);
            if row.path.ends_with("revoke-tokens") {
                break;
            }
            carol = login(scene).await;
        }
    }
    println!("{} routes, {tried} tries", ROWS.len());
    wrong
}

/// A connection of the user; of the device that is in the table if that is not signed out.
async fn login(scene: &Scene) -> Peer {
    let mut peer = Peer::open(scene.address()).await;
    let known = wire::Hello { device: DEVICE.into(), ..hello(USER, good_token(USER)) };
    let request = peer.ask(Verb::Hello(known)).await;
    match peer.answer(request).await {
        Ok(wire::relay_frame::Event::Welcome(_)) => peer,
        _ => scene.user(USER).await,
    }
}

type Try = (String, Vec<String>, &'static str, String, Vec<u8>, u16);

/// What is tried at one route.
fn tries(row: &Row) -> Vec<Try> {
    let mut all: Vec<Try> = Vec::new();
    let target = row.target.to_owned();
    for (what, lines) in keyless() {
        all.push((what.into(), lines, row.method, target.clone(), Vec::new(), 401));
    }
    // Whether there is anything by another method is for who has a key.
    for method in METHODS {
        all.push(("by another method".into(), Vec::new(), method, target.clone(), Vec::new(), 401));
        if !ROWS.iter().any(|other| other.path == row.path && other.method == method) {
            let what = "by another method, with a key";
            all.push((what.into(), vec![key()], method, target.clone(), Vec::new(), 405));
        }
    }
    let joint = if target.contains('?') { '&' } else { '?' };
    let in_query = format!("{target}{joint}key={API_SECRET}");
    all.push(("with a key in the query".into(), Vec::new(), row.method, in_query, Vec::new(), 401));
    // A browser's page asks first, and is told nothing that would let it.
    let page = vec![
        "origin: https://evil.example".into(),
        "access-control-request-method: GET".into(),
        "access-control-request-headers: authorization".into(),
    ];
    all.push(("by a page".into(), page, "OPTIONS", target.clone(), Vec::new(), 401));
    let of_length = |length: usize| vec![key(), format!("content-length: {length}")];
    // With a key, and wrong.
    for (what, lines, body, status) in [
        ("with a body that is too long", of_length(row.too_long()), vec![b'x'; row.too_long()], 413),
        ("with a body that is no JSON", of_length(3), b"\xff{\0".to_vec(), 400),
        ("with a body of another shape", of_length(13), br#"{"users":[1]}"#.to_vec(), 400),
        ("with a body of many brackets", of_length(2_000), vec![b'['; 2_000], 400),
    ] {
        all.push((what.into(), lines, row.method, target.clone(), body, status));
    }
    let unknown = format!("{target}{joint}all=true");
    all.push(("with a parameter too many".into(), vec![key()], row.method, unknown, Vec::new(), 400));
    if row.needs_body() {
        all.push(("without a body".into(), vec![key()], row.method, target.clone(), Vec::new(), 400));
    }
    let bad_name = target.replace(USER, "%00").replace(GROUP, "%00");
    if bad_name != target {
        all.push(("of one that can't be".into(), vec![key()], row.method, bad_name, Vec::new(), 400));
    }
    let no_text = target.replace(USER, "%ff").replace(GROUP, "%ff");
    if no_text != target && !row.path.contains("presence") {
        all.push(("of a user that is no text".into(), vec![key()], row.method, no_text, Vec::new(), 400));
    }
    all
}

/// Whether a refusal holds anything of a user, or lets other sites' pages read it.
fn tells(answer: &Answer) -> bool {
    let holds = |text: &str| answer.body.contains(text) || answer.head.contains(text);
    [USER, DEVICE, "alice", BODY, TITLE, API_SECRET, SECRET, "access-control-allow"].into_iter().any(holds)
}
