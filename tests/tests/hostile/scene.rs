//! A relay under attack, and two well-behaved users who talk to each other all the while.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hongyan_client::view::SessionStatus;
use hongyan_client::{Command, Event};
use hongyan_protocol::ConversationId;
use hongyan_tests::host::users;
use hongyan_tests::tokens::{SECRET, seconds_now, token, token_until};
use hongyan_tests::{Host, MemoryCache, RelayProcess, setup};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{MutexGuard, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::raw::{PATIENCE, Peer, hello};

/// Is in every text that anybody writes, and in nothing else.
pub(crate) const BODY: &str = "kiwi-lantern-7319";
/// Is in the titles of groups.
pub(crate) const TITLE: &str = "moss-harbour-4402";
/// Opens the API; chance enough for the relay's check of strength, and used by nothing but tests.
pub(crate) const API_SECRET: &str = "b8nVqYx3TzRk7WpLd2FhGm9CsJtEu4Aa6BvNcMiQ";
/// Where proxied peers say they are.
pub(crate) const FAR_ADDRESS: &str = "198.51.100.77";
/// The public half of the Ed25519 key whose secret half is 32 sevens; the relay knows it as `e1`.
pub(crate) const ED_PUBLIC: &str = "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=";

/// Time for a person to write the next line.
const PACE: Duration = Duration::from_millis(12);

/// A relay with its well-behaved users. There is one at a time, so that they do not disturb each other's numbers.
pub(crate) struct Scene {
    pub(crate) relay: RelayProcess,
    /// A group of alice (its owner), bob and carol. Dave was in it once, mallory never.
    pub(crate) group: ConversationId,
    /// Alice's and bob's own.
    pub(crate) direct: ConversationId,
    chat: Chat,
    memory_bytes_max: u64,
    /// Alice's and bob's threads: a flood in this process must not take theirs.
    runtime: Option<Runtime>,
    _alone: MutexGuard<'static, ()>,
}

struct Chat {
    stop: watch::Sender<bool>,
    rounds: watch::Receiver<usize>,
    latencies: Arc<Mutex<Vec<Duration>>>,
    task: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Scene {
    /// Starts a relay that logs all it can, and lets alice and bob talk.
    pub(crate) async fn start(settings: &[(&str, &str)], memory_bytes_max: u64) -> Self {
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let alone = ALONE.lock().await;
        let public = format!("e1:{ED_PUBLIC}");
        let api = format!("app:{API_SECRET}");
        let settings: Vec<(&str, &str)> =
            [("log", "trace"), ("tokens.eddsa", &public), ("tokens.leeway_ms", "0"), ("api.keys", &api)]
                .into_iter()
                .chain(settings.iter().copied())
                .collect();
        let relay = RelayProcess::start(&settings);
        let address = relay.address();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (chat, made) = Chat::begin(&runtime, address);
        let (direct, group) = made.await.expect("alice and bob begin to talk");
        let runtime = Some(runtime);
        let mut scene = Self { relay, group, direct, chat, memory_bytes_max, runtime, _alone: alone };
        scene.goes_on().await;
        scene
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// A WebSocket of a user, by hand.
    pub(crate) async fn user(&self, user: &str) -> Peer {
        Peer::welcomed(self.address(), hello(user, good_token(user))).await
    }

    /// The relay is up, and alice and bob can talk.
    pub(crate) async fn goes_on(&mut self) {
        assert!(self.relay.is_up(), "the relay is down:\n{}", self.relay.log());
        self.rounds(2).await;
    }

    /// Waits until alice and bob have said so much more, and tells how long each took to arrive.
    pub(crate) async fn rounds(&mut self, count: usize) -> Vec<Duration> {
        let before = *self.chat.rounds.borrow();
        let wait = self.chat.rounds.wait_for(|rounds| *rounds >= before + count);
        if !matches!(timeout(PATIENCE * 2, wait).await, Ok(Ok(_))) {
            if self.chat.task.is_finished() {
                let why = (&mut self.chat.task).await;
                panic!("alice's and bob's talk was disturbed: {why:?}");
            }
            panic!("alice and bob can't talk");
        }
        self.chat.latencies.lock().unwrap()[before..before + count].to_vec()
    }

    /// Nothing was lost, memory stayed bounded, and nothing private is in the log.
    pub(crate) async fn end(mut self, name: &str) {
        self.chat.stop.send_replace(true);
        if let Err(why) = (&mut self.chat.task).await {
            panic!("alice's and bob's talk was disturbed: {why}");
        }
        let (peak, log) = (self.relay.memory_bytes_peak(), self.relay.log());
        println!(
            "{name}: {} messages between well-behaved users, all there; memory {} MiB of {} MiB at most; {} KiB logged",
            *self.chat.rounds.borrow(),
            peak >> 20,
            self.memory_bytes_max >> 20,
            log.len() >> 10
        );
        assert!(peak <= self.memory_bytes_max, "{peak} bytes of memory");
        assert_nothing_private(&log, self.relay.address());
    }
}

impl Chat {
    /// Makes the group, then alice and bob talk in turn until they are told to stop.
    fn begin(
        runtime: &Runtime,
        relay: SocketAddr,
    ) -> (Self, oneshot::Receiver<(ConversationId, ConversationId)>) {
        let (stop, stopped) = watch::channel(false);
        let (told, rounds) = watch::channel(0);
        let (made, made_rx) = oneshot::channel();
        let latencies = Arc::<Mutex<Vec<Duration>>>::default();
        let kept = Arc::clone(&latencies);
        let task = runtime.spawn(async move {
            let mut alice = Talker::start(relay, "alice").await;
            let mut bob = Talker::start(relay, "bob").await;
            let (direct, group) = (alice.host.direct("bob"), alice.make_group().await);
            made.send((direct.clone(), group)).unwrap();
            let (mut texts, mut pace) = (Vec::new(), interval(PACE));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !*stopped.borrow() {
                pace.tick().await;
                let text = format!("{BODY} {}", texts.len());
                let (from, to) = if texts.len().is_multiple_of(2) {
                    (&mut alice, &mut bob)
                } else {
                    (&mut bob, &mut alice)
                };
                let begun = Instant::now();
                let arrives = async {
                    to.hear(&direct, &text).await;
                    begun.elapsed()
                };
                let (sent, latency) = tokio::join!(from.host.send(&direct, &text), arrives);
                sent.expect("a well-behaved user's message is sent");
                from.hear(&direct, &text).await;
                kept.lock().unwrap().push(latency);
                texts.push(text);
                told.send_replace(texts.len());
            }
            for talker in [alice, bob] {
                assert_eq!(talker.heard, texts, "each message once, in order");
                let log = talker.host.log(&direct).await.unwrap();
                let log: Vec<_> = log.into_iter().map(|message| message.content.text).collect();
                assert_eq!(log, texts, "the log is what they said");
                talker.host.close().await;
            }
        });
        (Self { stop, rounds, latencies, task }, made_rx)
    }
}

/// One well-behaved user.
struct Talker {
    host: Host,
    events: mpsc::UnboundedReceiver<Event>,
    heard: Vec<String>,
}

impl Talker {
    async fn start(relay: SocketAddr, user: &str) -> Self {
        let (mut host, mut events) = Host::start_with_events(setup(relay, user, MemoryCache::default()));
        host.caught_up(PATIENCE).await;
        while events.try_recv().is_ok() {}
        Self { host, events, heard: Vec::new() }
    }

    /// The scene's group: dave is in it for its first message only.
    async fn make_group(&self) -> ConversationId {
        let group = self.host.create_group(TITLE, &["bob", "carol", "dave"]).await.unwrap();
        self.host.send(&group, &format!("{BODY} for dave, too")).await.unwrap();
        self.host.command(Command::RemoveMembers(group.clone(), users(&["dave"]))).await.unwrap();
        self.host.send(&group, &format!("{BODY} without dave")).await.unwrap();
        group
    }

    /// Waits for a message. Nothing else may be noticed meanwhile: neither an end of the connection nor a gap.
    async fn hear(&mut self, conversation: &ConversationId, text: &str) {
        if self.heard.last().is_some_and(|last| last == text) {
            return;
        }
        loop {
            match timeout(PATIENCE, self.events.recv()).await.expect("a message is due") {
                Some(Event::Message(message)) if message.conversation == *conversation => {
                    self.heard.push(message.content.text);
                    if self.heard.last().is_some_and(|last| last == text) {
                        return;
                    }
                }
                Some(Event::State(state)) => {
                    assert_eq!(state.status, SessionStatus::Online, "noticed: {:?}", state.reason);
                }
                Some(Event::Gap) => panic!("a gap"),
                Some(_) => {}
                None => panic!("the client has ended"),
            }
        }
    }
}

/// A token that opens.
pub(crate) fn good_token(user: &str) -> String {
    token(&hongyan_protocol::UserId::new(user).unwrap())
}

/// A token that ended a minute ago.
pub(crate) fn expired_token(user: &str) -> String {
    token_until(&hongyan_protocol::UserId::new(user).unwrap(), seconds_now() - 60)
}

/// R10: neither bodies nor tokens nor keys, nor where somebody is.
pub(crate) fn assert_nothing_private(log: &str, relay: SocketAddr) {
    // The relay says where it listens itself, when it starts.
    let log = log.replace(&relay.to_string(), "");
    assert!(log.contains("ready: http://"), "this is no log:\n{log}");
    // Every token begins with `{"` in base64.
    for private in [
        BODY,
        TITLE,
        FAR_ADDRESS,
        SECRET,
        API_SECRET,
        ED_PUBLIC,
        "eyJ",
        "127.0.0.1",
        "alice",
        "mallory",
        "carol",
    ] {
        let line = log.lines().find(|line| line.contains(private));
        assert_eq!(line, None, "{private} is in the log");
    }
}
