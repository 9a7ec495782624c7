//! An ordinary day: people write, read, come from other devices and networks, and the relay restarts. Nothing of it
//! is in the log at its highest level (promise R10).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hongyan_client::{Answer, Command};
use hongyan_protocol::limits::CONTENT_BYTES_MAX;
use hongyan_protocol::wire::{self, client_frame::Verb};
use hongyan_protocol::{Code, UserId};
use hongyan_tests::host::users;
use hongyan_tests::tokens::{seconds_now, token_until};
use hongyan_tests::{Host, MemoryCache, RelayProcess, Setup, setup};
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::hellos::forged_token;
use crate::raw::{BINARY, PATIENCE, Peer, frame, head, hello};
use crate::scene::{API_SECRET, BODY, ED_PUBLIC, FAR_ADDRESS, TITLE, assert_nothing_private, good_token};

/// Tokens are renewed when half of this is over.
const TOKEN_SECONDS: u64 = 4;

pub(crate) async fn passes() {
    let public = format!("e1:{ED_PUBLIC}");
    let api = format!("app:{API_SECRET}");
    let settings =
        [("log", "trace"), ("tokens.eddsa", &public), ("trusted_proxies", "127.0.0.0/8"), ("api.keys", &api)];
    let mut relay = RelayProcess::start(&settings);
    let address = relay.address();
    let short = |user| {
        let token = |user: &UserId| Ok(token_until(user, seconds_now() + TOKEN_SECONDS));
        Setup { token: Arc::new(token), ..setup(address, user, MemoryCache::default()) }
    };
    let begun = Instant::now();
    let mut alice = Host::start(short("alice"), |_| {});
    let mut bob = Host::start(setup(address, "bob", MemoryCache::default()), |_| {});
    for host in [&mut alice, &mut bob] {
        host.caught_up(PATIENCE).await;
    }
    let (direct, group) =
        (alice.direct("bob"), alice.create_group(TITLE, &["bob", "mallory"]).await.unwrap());
    for n in 0..30 {
        let to = if n % 3 == 0 { &group } else { &direct };
        let from = if n % 2 == 0 { &alice } else { &bob };
        from.send(to, &format!("{BODY} {n} 你好 \u{1f426}\r\n{{}}")).await.unwrap();
    }
    let refused = alice.send(&group, &BODY.repeat(CONTENT_BYTES_MAX / BODY.len() + 1)).await;
    assert_eq!(refused.err().map(|error| error.code), Some(Code::CONTENT_TOO_LARGE));
    alice.command(Command::RemoveMembers(group.clone(), users(&["mallory"]))).await.unwrap();
    for host in [&alice, &bob] {
        assert_eq!(host.log(&direct).await.unwrap().len(), 20);
        assert_eq!(host.log(&group).await.unwrap().len(), 10);
        host.mark_read(&direct).await.unwrap();
    }
    // The relay is killed and comes back; a second device of bob's catches up from nothing.
    relay.restart();
    alice.send(&direct, &format!("{BODY} after all")).await.unwrap();
    let mut second = Host::start(setup(address, "bob", MemoryCache::default()), |_| {});
    second.caught_up(PATIENCE).await;
    assert_eq!(second.log(&direct).await.unwrap().len(), 21);
    // Strangers come by, from far away, and are not let in.
    let far = format!("X-Forwarded-For: {FAR_ADDRESS}");
    for token in [forged_token("mallory"), good_token("alice")] {
        let mut peer = Peer::tcp(address).await;
        peer.upgrade(&[&far]).await;
        peer.ask(Verb::Hello(hello("mallory", token))).await;
        assert!(peer.closed().await >= 4_300);
    }
    let mut peer = Peer::open(address).await;
    peer.say_hello(hello("mallory", good_token("mallory"))).await;
    peer.ask(Verb::Renew(wire::Renew { token: format!("{}x", good_token("mallory")) })).await;
    assert_eq!(peer.closed().await, Code::TOKEN_INVALID.0);
    let mut peer = Peer::open(address).await;
    peer.write(&frame(BINARY, BODY.as_bytes())).await;
    assert_eq!(peer.closed().await, Code::BAD_FRAME.0);
    // They see who is there and who writes; a page goes by a beacon; bob signs a device of his out; the app's server
    // asks who is there, and ends what is left.
    bob.command(Command::Watch { by: 0, users: users(&["alice", "mallory"]) }).await.unwrap();
    alice.command(Command::Typing(direct.clone())).await.unwrap();
    alice.command(Command::SetInvisible(true)).await.unwrap();
    let mut page = Peer::open(address).await;
    let ticket = page.say_hello(hello("mallory", good_token("mallory"))).await.bye_ticket;
    let beacon = wire::Beacon { ticket, bye: Some(wire::Bye::default()) }.encode_to_vec();
    assert_eq!(http(address, "POST /bye", &[], &beacon).await, 204);
    let Ok(Answer::Devices(devices)) = bob.command(Command::Devices).await else { panic!("no devices") };
    assert_eq!(devices.len(), 2);
    bob.command(Command::SignOut(devices[1].device.clone())).await.unwrap();
    let key = format!("Authorization: Bearer {API_SECRET}");
    for (request, status) in [
        ("GET /api/v1/presence?user=alice&user=mallory", 200),
        ("GET /api/v1/users/alice/devices", 200),
        ("POST /api/v1/users/mallory/kick", 200),
        ("POST /api/v1/users/mallory/revoke-tokens", 200),
    ] {
        assert_eq!(http(address, request, &[&key], &[]).await, status, "{request}");
    }
    // Long enough that alice's token was renewed on the open connection, which else would have ended.
    while begun.elapsed() < Duration::from_secs(TOKEN_SECONDS) {
        alice.send(&direct, &format!("{BODY} and on")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for host in [alice, bob, second] {
        host.close().await;
    }
    stop(&mut relay).await;
    let log = relay.log();
    assert!(log.contains("The relay has stopped."), "the log is kept to its end:\n{log}");
    assert_nothing_private(&log, address);
    println!("an ordinary day: {} bytes logged, nothing private among them", log.len());
}

/// An HTTP request; gives the answer's status.
async fn http(relay: SocketAddr, request: &str, lines: &[&str], body: &[u8]) -> u16 {
    let (first, length) = (format!("{request} HTTP/1.1"), format!("Content-Length: {}", body.len()));
    let mut all = vec![first.as_str(), "Host: relay", length.as_str()];
    all.extend(lines);
    let mut peer = Peer::tcp(relay).await;
    peer.write(&[head(&all), body.to_vec()].concat()).await;
    let answer = peer.http().await.expect("an answer");
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// As an operator stops it.
async fn stop(relay: &mut RelayProcess) {
    let id = i32::try_from(relay.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    let begun = Instant::now();
    while relay.is_up() || !relay.log().contains("The relay has stopped.") {
        assert!(begun.elapsed() < PATIENCE, "it does not stop:\n{}", relay.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
