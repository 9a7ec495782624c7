//! A thousand of a kind at once. What a flood does to the latency of others is told, not asserted: that is a
//! benchmark's business; that everything arrives is asserted, and that memory stays bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hongyan_protocol::limits::GROUP_CHANGE_USERS_MAX;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::raw::{Peer, device, hello};
use crate::requests::content;
use crate::scene::{Scene, TITLE, good_token};

/// Peers of one flood.
const PEERS: usize = 1_000;
/// What alice and bob say during one flood.
const ROUNDS: usize = 150;
/// What is written to those who never read: more than the relay keeps for a connection and the systems between.
const WORDS: usize = 40;
const WORD_BYTES: usize = 8_000;
/// How long peers come and go, and how often at most.
const LOOP_TIME: Duration = Duration::from_secs(4);
const LOOPS_MAX: usize = 40_000;

/// This process and the relay each hold an end of every connection.
pub(crate) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let may = limit.maximum.unwrap_or(u64::MAX);
    assert!(may > 2 * PEERS as u64, "the system allows {may} open files, which is too few for these floods");
}

pub(crate) async fn all(scene: &mut Scene) {
    let relay = scene.address();
    let quiet = scene.rounds(ROUNDS).await;
    let quiet_ms = p99_ms(quiet);
    println!("quiet: p99 {quiet_ms:.1} ms");

    let peers = many(move |_| async move {
        let mut peer = Peer::tcp(relay).await;
        peer.write(b"GET /ws HTTP/1.1\r\nHost: relay\r\nConnection: Upgr").await;
        peer
    })
    .await;
    measure(scene, "that never finish the handshake", quiet_ms, peers).await;

    let peers = many(move |_| Peer::open(relay)).await;
    measure(scene, "that never say hello", quiet_ms, peers).await;

    let group = crowd(relay).await;
    let peers = many(move |n| never_reads(relay, n)).await;
    let writing = tokio::spawn(write(relay, group));
    measure(scene, "that never read while a group of them is written to", quiet_ms, peers).await;
    writing.await.unwrap();

    let loops = Arc::new(AtomicUsize::new(0));
    let until = Instant::now() + LOOP_TIME;
    let mut looping = JoinSet::new();
    for n in 0..PEERS {
        looping.spawn(come_and_go(relay, n, until, Arc::clone(&loops)));
    }
    measure(scene, "that come again at once", quiet_ms, Vec::new()).await;
    while let Some(done) = looping.join_next().await {
        done.unwrap();
    }
    println!("  {} times in {} s", loops.load(Ordering::Relaxed), LOOP_TIME.as_secs());
    scene.goes_on().await;
}

/// Says how alice and bob fare, and lets the flood go.
async fn measure(scene: &mut Scene, what: &str, quiet_ms: f64, peers: Vec<Peer>) {
    let flooded_ms = p99_ms(scene.rounds(ROUNDS).await);
    println!(
        "{PEERS} connections {what}: p99 {flooded_ms:.1} ms, {:.1} times the quiet one; memory {} MiB",
        flooded_ms / quiet_ms,
        scene.relay.memory_bytes() >> 20
    );
    peers.into_iter().for_each(Peer::reset);
    scene.goes_on().await;
}

fn p99_ms(mut latencies: Vec<Duration>) -> f64 {
    latencies.sort_unstable();
    latencies[(latencies.len() * 99).div_ceil(100) - 1].as_secs_f64() * 1_000.0
}

/// All of them at the same time.
async fn many<F: Future<Output = Peer> + Send + 'static>(one: impl Fn(usize) -> F) -> Vec<Peer> {
    let mut set = JoinSet::new();
    for n in 0..PEERS {
        set.spawn(one(n));
    }
    let mut peers = Vec::new();
    while let Some(peer) = set.join_next().await {
        peers.push(peer.unwrap());
    }
    peers
}

fn sloth(n: usize) -> String {
    format!("sloth-{n}")
}

/// A group of all the sloths.
async fn crowd(relay: SocketAddr) -> String {
    let mut crier = Peer::welcomed(relay, hello("crier", good_token("crier"))).await;
    let create = wire::CreateGroup { key: device(), title: TITLE.into(), members: Vec::new() };
    let request = crier.ask(Verb::CreateGroup(create)).await;
    let Ok(Event::GroupDone(done)) = crier.answer(request).await else { panic!("a group is due") };
    for first in (0..PEERS).step_by(GROUP_CHANGE_USERS_MAX) {
        let users = (first..PEERS.min(first + GROUP_CHANGE_USERS_MAX)).map(sloth).collect();
        let add = wire::AddMembers { conversation: done.conversation.clone(), users };
        let request = crier.ask(Verb::AddMembers(add)).await;
        assert!(matches!(crier.answer(request).await, Ok(Event::GroupDone(_))));
    }
    done.conversation
}

async fn never_reads(relay: SocketAddr, n: usize) -> Peer {
    let mut peer = Peer::tcp_small(relay).await;
    peer.upgrade(&[]).await;
    peer.say_hello(hello(&sloth(n), good_token(&sloth(n)))).await;
    peer
}

async fn write(relay: SocketAddr, group: String) {
    let mut crier = Peer::welcomed(relay, hello("crier", good_token("crier"))).await;
    let words = content(&"x".repeat(WORD_BYTES));
    for _ in 0..WORDS {
        let send = wire::Send {
            conversation: group.clone(),
            key: device(),
            content: words.clone(),
            ..wire::Send::default()
        };
        let request = crier.ask(Verb::Send(send)).await;
        assert!(matches!(crier.answer(request).await, Ok(Event::Sent(_))), "everybody's silence is not hers");
    }
}

/// Comes at once when it was gone, in turn with and without a hello; it goes without a word.
async fn come_and_go(relay: SocketAddr, n: usize, until: Instant, loops: Arc<AtomicUsize>) {
    while Instant::now() < until && loops.fetch_add(1, Ordering::Relaxed) < LOOPS_MAX {
        let mut peer = Peer::open(relay).await;
        if n.is_multiple_of(2) {
            peer.say_hello(hello(&sloth(n), good_token(&sloth(n)))).await;
        }
        peer.reset();
    }
}
