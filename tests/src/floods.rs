//! A thousand connections of a kind at once: as nobody who means well makes them, and as a large group does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hongyan_protocol::UserId;
use hongyan_protocol::limits::GROUP_CHANGE_USERS_MAX;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::raw::{Peer, device, hello};
use crate::tokens::token;

/// Peers of one flood.
pub const PEERS: usize = 1_000;
/// A text that is written to those who never read. Some 40 of them are more than the relay keeps for a connection and
/// the systems between.
const WORD_BYTES: usize = 8_000;
/// What is written to those who read.
const LINE_BYTES: usize = 300;
/// They are written to so often: less than the relay's limit for one sender.
const WORD_TIME: Duration = Duration::from_millis(25);

/// What the peers do, or rather don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// They begin an HTTP request and never end it.
    NoHandshake,
    /// They open a WebSocket and say nothing.
    NoHello,
    /// They are in one group, which is written to, and read nothing after their welcome.
    NoReading,
    /// They are in one group, which is written to, and read all of it: no flood, but as much to do.
    HotGroup,
    /// They come, every second one says hello, they go without a word, and come again at once.
    NoStaying,
}

impl Flood {
    /// All of them, each with its name and what is to be said of its connections. After the last one the relay takes no
    /// more from this address for a while.
    pub const ALL: [(Self, &str, &str); 5] = [
        (Self::NoHandshake, "no-handshake", "that never finish the handshake"),
        (Self::NoHello, "no-hello", "that never say hello"),
        (Self::NoReading, "no-reading", "that never read while a group of them is written to"),
        (Self::HotGroup, "hot-group", "in a group that is written to 40 times a second"),
        (Self::NoStaying, "no-staying", "that come again at once"),
    ];

    /// Begins; all peers are there when it returns.
    ///
    /// # Panics
    /// When the relay does not let them do so.
    pub async fn begin(self, relay: SocketAddr) -> Flooding {
        let (stop, stopped) = watch::channel(false);
        let mut flooding =
            Flooding { stop, peers: Vec::new(), busy: JoinSet::new(), times: Arc::new(AtomicUsize::new(0)) };
        match self {
            Self::NoHandshake => flooding.peers = many(move |_| begins_a_request(relay)).await,
            Self::NoHello => flooding.peers = many(move |_| Peer::open(relay)).await,
            Self::NoReading => {
                let (crier, group) = crowd(relay).await;
                flooding.peers = many(move |n| never_reads(relay, n)).await;
                flooding.busy.spawn(write(crier, group, WORD_BYTES, stopped, Arc::clone(&flooding.times)));
            }
            Self::HotGroup => {
                let (crier, group) = crowd(relay).await;
                for peer in many(move |n| Peer::welcomed(relay, good_hello(&sloth(n)))).await {
                    let mut stopped = stopped.clone();
                    flooding.busy.spawn(async move {
                        tokio::select! {
                            () = peer.read_on() => panic!("the relay keeps those who read"),
                            _ = stopped.changed() => {}
                        }
                    });
                }
                flooding.busy.spawn(write(crier, group, LINE_BYTES, stopped, Arc::clone(&flooding.times)));
            }
            Self::NoStaying => {
                for n in 0..PEERS {
                    flooding.busy.spawn(come_and_go(relay, n, stopped.clone(), Arc::clone(&flooding.times)));
                }
            }
        }
        flooding
    }
}

/// A flood that goes on.
pub struct Flooding {
    stop: watch::Sender<bool>,
    peers: Vec<Peer>,
    busy: JoinSet<()>,
    times: Arc<AtomicUsize>,
}

impl Flooding {
    /// Ends it, and tells how often its peers did what they do over and over.
    ///
    /// # Panics
    /// When the relay did not let them do it.
    pub async fn end(mut self) -> usize {
        self.stop.send_replace(true);
        while let Some(done) = self.busy.join_next().await {
            done.expect("the relay serves a hostile peer as long as it keeps to the rules");
        }
        self.peers.into_iter().for_each(Peer::reset);
        self.times.load(Ordering::Relaxed)
    }
}

/// All of them at the same time.
async fn many<F: Future<Output = Peer> + Send + 'static>(one: impl Fn(usize) -> F) -> Vec<Peer> {
    let set: JoinSet<Peer> = (0..PEERS).map(one).collect();
    set.join_all().await
}

async fn begins_a_request(relay: SocketAddr) -> Peer {
    let mut peer = Peer::tcp(relay).await;
    peer.write(b"GET /ws HTTP/1.1\r\nHost: relay\r\nConnection: Upgr").await;
    peer
}

/// A hello that is as it should be.
fn good_hello(user: &str) -> wire::Hello {
    hello(user, token(&UserId::new(user).expect("a user id")))
}

fn sloth(n: usize) -> String {
    format!("sloth-{n}")
}

/// A group of all the sloths, and who may write to it.
async fn crowd(relay: SocketAddr) -> (Peer, String) {
    let mut crier = Peer::welcomed(relay, good_hello("crier")).await;
    let create = wire::CreateGroup { key: device(), title: "Sloths".into(), members: Vec::new() };
    let request = crier.ask(Verb::CreateGroup(create)).await;
    let Ok(Event::GroupDone(done)) = crier.answer(request).await else { panic!("a group is due") };
    for first in (0..PEERS).step_by(GROUP_CHANGE_USERS_MAX) {
        let users = (first..PEERS.min(first + GROUP_CHANGE_USERS_MAX)).map(sloth).collect();
        let add = wire::AddMembers { conversation: done.conversation.clone(), users };
        let request = crier.ask(Verb::AddMembers(add)).await;
        assert!(matches!(crier.answer(request).await, Ok(Event::GroupDone(_))), "the sloths are members");
    }
    (crier, done.conversation)
}

async fn never_reads(relay: SocketAddr, n: usize) -> Peer {
    let mut peer = Peer::tcp_small(relay).await;
    peer.upgrade(&[]).await;
    peer.say_hello(good_hello(&sloth(n))).await;
    peer
}

async fn write(
    mut crier: Peer,
    group: String,
    bytes: usize,
    stopped: watch::Receiver<bool>,
    times: Arc<AtomicUsize>,
) {
    let text = "x".repeat(bytes);
    let content = wire::Content { text, ..wire::Content::default() }.encode_to_vec();
    let mut pace = interval(WORD_TIME);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        pace.tick().await;
        let send = wire::Send {
            conversation: group.clone(),
            key: device(),
            content: content.clone().into(),
            ..wire::Send::default()
        };
        let request = crier.ask(Verb::Send(send)).await;
        let answer = crier.answer(request).await;
        assert!(matches!(answer, Ok(Event::Sent(_))), "everybody's silence is not hers");
        times.fetch_add(1, Ordering::Relaxed);
    }
}

async fn come_and_go(relay: SocketAddr, n: usize, stopped: watch::Receiver<bool>, times: Arc<AtomicUsize>) {
    while !*stopped.borrow() {
        let mut peer = Peer::tcp(relay).await;
        // Those who are gone count until the relay has looked at them, so that there may be too many.
        if peer.tries_to_upgrade().await && n.is_multiple_of(2) {
            peer.say_hello(good_hello(&sloth(n))).await;
        }
        peer.reset();
        times.fetch_add(1, Ordering::Relaxed);
    }
}
