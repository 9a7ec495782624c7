//! An ordinary day: people write, read, come from other devices and networks, and the relay restarts. Nothing of it
//! is in the log at its highest level (promise R10).

use std::sync::Arc;
use std::time::{Duration, Instant};

use hongyan_client::Command;
use hongyan_protocol::limits::CONTENT_BYTES_MAX;
use hongyan_protocol::wire::{self, client_frame::Verb};
use hongyan_protocol::{Code, UserId};
use hongyan_tests::host::users;
use hongyan_tests::tokens::{seconds_now, token_until};
use hongyan_tests::{Host, MemoryCache, RelayProcess, Setup, setup};
use rustix::process::{Pid, Signal, kill_process};

use crate::hellos::forged_token;
use crate::raw::{BINARY, PATIENCE, Peer, frame, hello};
use crate::scene::{BODY, ED_PUBLIC, FAR_ADDRESS, TITLE, assert_nothing_private, good_token};

/// Tokens are renewed when half of this is over.
const TOKEN_SECONDS: u64 = 4;

pub(crate) async fn passes() {
    let public = format!("e1:{ED_PUBLIC}");
    let settings = [("log", "trace"), ("tokens.eddsa", &public), ("trusted_proxies", "127.0.0.0/8")];
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
