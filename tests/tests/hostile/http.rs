//! Requests that are none, or that ask for what they may not have.

use std::time::Duration;

use tokio::time::sleep;

use crate::kinds::{Kind, Outcome, What, kind, play, status, upgrade};
use crate::raw::{PATIENCE, Peer, UPGRADE, head, upgrade_but};
use crate::scene::{FAR_ADDRESS, Scene};

/// The relay of these rows takes so many connections from one address, and waits so long for a head.
pub(crate) const FROM_ADDRESS_MAX: usize = 120;
pub(crate) const HEAD_MS: &str = "700";

pub(crate) fn kinds() -> Vec<Kind> {
    let long = "a".repeat(40_000);
    let many: Vec<String> = (0..200).map(|n| format!("x-{n}: y")).collect();
    let many: Vec<&str> = UPGRADE.into_iter().chain(many.iter().map(String::as_str)).collect();
    let row = |name, bytes: Vec<u8>, status| kind(name, What::Http(bytes), Outcome::Status(status));
    vec![
        row("TLS to a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n".to_vec(), 400),
        row("zeros", vec![0; 64], 400),
        row("a line without a version", b"GET\r\n\r\n".to_vec(), 400),
        row("HTTP of the future", b"GET / HTTP/9.9\r\nhost: a\r\n\r\n".to_vec(), 400),
        kind(
            "HTTP/2 without asking",
            What::Http(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
            Outcome::Dropped,
        ),
        row("a huge header", upgrade_but("-", &[&format!("x: {long}")]), 431),
        row("200 headers", head(&many), 431),
        row("an address of 40 KB", upgrade_but("GET", &[&format!("GET /{long} HTTP/1.1")]), 431),
        row("a header with control characters", upgrade_but("Host", &["Host: a\0b"]), 400),
        row(
            "two lengths",
            b"POST /ws HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n".to_vec(),
            400,
        ),
        row(
            "a length below zero",
            b"POST /ws HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".to_vec(),
            400,
        ),
        row("no upgrade", head(&["GET /ws HTTP/1.1", "Host: a"]), 400),
        row("no Connection header", upgrade_but("Connection", &[]), 400),
        row("no Upgrade header", upgrade_but("Upgrade", &[]), 400),
        row("no key", upgrade_but("Sec-WebSocket-Key", &[]), 400),
        row("an old WebSocket", upgrade_but("Sec-WebSocket-Version", &["Sec-WebSocket-Version: 8"]), 400),
        row("no sub-protocol", upgrade_but("Sec-WebSocket-Protocol", &[]), 400),
        row(
            "another sub-protocol",
            upgrade_but("Sec-WebSocket-Protocol", &["Sec-WebSocket-Protocol: hongyan.v9"]),
            400,
        ),
        row("a page from elsewhere", upgrade_but("-", &["Origin: https://evil.example"]), 403),
        row("a page from nowhere", upgrade_but("-", &["Origin: null"]), 403),
        row("two origins", upgrade_but("-", &["Origin: http://relay", "Origin: http://relay"]), 403),
        row("an origin that is no text", upgrade_but("-", &["Origin: \u{fe}"]), 403),
        row("a WebSocket by POST", upgrade_but("GET", &["POST /ws HTTP/1.1"]), 405),
        row("a folder above", head(&["GET /demo/../../etc/passwd HTTP/1.1", "Host: a"]), 404),
        row("the same in percents", head(&["GET /demo/%2e%2e/%2e%2e/etc/passwd HTTP/1.1", "Host: a"]), 404),
        row("tokens of the development mode", head(&["GET /dev/token?user=alice HTTP/1.1", "Host: a"]), 404),
        row("a goodbye by GET", head(&["GET /bye HTTP/1.1", "Host: a"]), 405),
        row("a goodbye that is none", head(&["POST /bye HTTP/1.1", "Host: a", "Content-Length: 0"]), 204),
        row(
            "a goodbye from elsewhere",
            head(&["POST /bye HTTP/1.1", "Host: a", "Content-Length: 0", "Origin: https://evil.example"]),
            403,
        ),
        row("a goodbye of 1 GB", head(&["POST /bye HTTP/1.1", "Host: a", "Content-Length: 1000000000"]), 413),
        row("metrics at the public address", head(&["GET /metrics HTTP/1.1", "Host: a"]), 404),
        kind("a head that never ends", play!(a_head_that_never_ends), Outcome::Dropped),
        kind("a head byte by byte, for ever", play!(a_dripping_head), Outcome::Dropped),
        kind("a valid head byte by byte", play!(a_slow_head), Outcome::Works),
        kind("a flood of connections from one address", play!(from_one_address), Outcome::Status(429)),
    ]
}

async fn a_head_that_never_ends(scene: &Scene) -> Outcome {
    let mut peer = Peer::tcp(scene.address()).await;
    peer.write(b"GET /ws HTTP/1.1\r\nhost: a\r\nx: ").await;
    status(&mut peer).await
}

/// Each byte comes in time, the whole does not.
async fn a_dripping_head(scene: &Scene) -> Outcome {
    let mut peer = Peer::tcp(scene.address()).await;
    let (begun, head) = (tokio::time::Instant::now(), upgrade());
    // Fewer bytes than there are within the time of a head.
    for byte in head.iter().cycle() {
        tokio::select! {
            outcome = status(&mut peer) => return outcome,
            () = sleep(Duration::from_millis(100)) => {}
        }
        // Never the empty line that would end it.
        if *byte != b'\r' && *byte != b'\n' {
            peer.write(&[*byte]).await;
        }
        assert!(begun.elapsed() < PATIENCE, "it was kept");
    }
    Outcome::Works
}

async fn a_slow_head(scene: &Scene) -> Outcome {
    let mut peer = Peer::tcp(scene.address()).await;
    for byte in upgrade() {
        peer.write(&[byte]).await;
    }
    peer.upgraded().await;
    Outcome::Works
}

/// The bound is met exactly, others are not hit by it, and a place that came free is given again.
async fn from_one_address(scene: &Scene) -> Outcome {
    let far = format!("X-Forwarded-For: {FAR_ADDRESS}");
    let mut open = Vec::new();
    for _ in 0..FROM_ADDRESS_MAX {
        let mut peer = Peer::tcp(scene.address()).await;
        peer.upgrade(&[&far]).await;
        open.push(peer);
    }
    let mut outcome = Outcome::Works;
    for _ in 0..20 {
        let mut peer = Peer::tcp(scene.address()).await;
        peer.write(&upgrade_but("-", &[&far])).await;
        outcome = status(&mut peer).await;
        if outcome == Outcome::Status(101) {
            return outcome;
        }
    }
    let mut other = Peer::tcp(scene.address()).await;
    other.upgrade(&["X-Forwarded-For: 198.51.100.78"]).await;
    open.into_iter().for_each(Peer::reset);
    loop {
        let mut peer = Peer::tcp(scene.address()).await;
        peer.write(&upgrade_but("-", &[&far])).await;
        if status(&mut peer).await == Outcome::Status(101) {
            return outcome;
        }
        sleep(Duration::from_millis(10)).await;
    }
}
