//! The real relay, its real disk, real sockets: the relay is killed three times under load, a client crashes, a
//! network falls silent. At the end every acknowledged message is in the logs once, and every device has all of them.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hongyan_client::view::Message;
use hongyan_client::{ChatError, Event};
use hongyan_protocol::{Code, ConversationId, Seq};
use hongyan_tests::{DiskCache, Host, MemoryCache, Proxy, RelayProcess, Setup, setup};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::sleep;

/// How long everybody writes.
const LOAD: Duration = Duration::from_secs(12);
/// Between two messages of one writer.
const PAUSE: Duration = Duration::from_millis(30);
/// For what must come, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

type Seen = Arc<Mutex<Vec<(ConversationId, Seq, String)>>>;

/// A device over all its lives.
struct Device {
    name: &'static str,
    user: &'static str,
    host: Mutex<Arc<Host>>,
    seen: Seen,
}

impl Device {
    fn start(name: &'static str, setup: Setup, user: &'static str) -> Arc<Self> {
        let seen = Seen::default();
        let host = Mutex::new(Arc::new(start(setup, &seen)));
        Arc::new(Self { name, user, host, seen })
    }

    fn host(&self) -> Arc<Host> {
        Arc::clone(&self.host.lock().unwrap())
    }
}

/// Notes the messages that the application is told of.
fn start(setup: Setup, seen: &Seen) -> Host {
    let seen = Arc::clone(seen);
    Host::start(setup, move |event| match event {
        Event::Message(message) => {
            let seq = message.seq.expect("a message of the log has a seq");
            seen.lock().unwrap().push((message.conversation, seq, message.content.text));
        }
        Event::Gap => panic!("nothing was lost, so no gap may be told"),
        _ => {}
    })
}

/// What became of what one writer wrote, in the order of writing.
struct Wrote {
    conversation: ConversationId,
    text: String,
    outcome: Result<Message, ChatError>,
}

async fn write(device: Arc<Device>, conversations: Vec<ConversationId>) -> Vec<Wrote> {
    let begun = Instant::now();
    let mut sends = JoinSet::new();
    let mut number = 0;
    while begun.elapsed() < LOAD {
        let conversation = conversations[number % conversations.len()].clone();
        let (host, text) = (device.host(), format!("{}-{number}", device.name));
        sends.spawn(async move {
            let outcome = host.send(&conversation, &text).await;
            (number, Wrote { conversation, text, outcome })
        });
        number += 1;
        // The task hands its message over before the next is made: it is the order of writing.
        sleep(PAUSE).await;
    }
    let all = tokio::time::timeout(PATIENCE, sends.join_all()).await;
    let mut all =
        all.unwrap_or_else(|_| panic!("{}: sends have no answer: {:?}", device.name, device.host().state()));
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, wrote)| wrote).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    // A device that was never there before is told all that was written, entry by entry.
    let mut relay = block_in_place(|| RelayProcess::start(&[("queue.capacity", "100000")]));
    let address = relay.address();
    let proxy = Proxy::start(address).await;
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("bob");
    let bob_setup = || setup(address, "bob", DiskCache::open(&file).unwrap());
    let memory = |user| setup(address, user, MemoryCache::default());

    let devices = [
        Device::start("phone", setup(proxy.address(), "alice", MemoryCache::default()), "alice"),
        Device::start("laptop", memory("alice"), "alice"),
        Device::start("bob", bob_setup(), "bob"),
        Device::start("carol", memory("carol"), "carol"),
        Device::start("dora", memory("dora"), "dora"),
        Device::start("erin", memory("erin"), "erin"),
    ];
    let [phone, laptop, bob, ..] = &devices;
    let group = phone.host().create_group("Geese", &["bob", "carol", "dora", "erin"]).await.unwrap();
    let direct = phone.host().direct("bob");

    let mut writers = JoinSet::new();
    for device in &devices {
        let mut conversations = vec![group.clone()];
        if ["alice", "bob"].contains(&device.user) {
            conversations.push(direct.clone());
        }
        writers.spawn(write(Arc::clone(device), conversations));
    }

    sleep(Duration::from_millis(2_000)).await;
    kill_and_restart(&mut relay).await;
    sleep(Duration::from_millis(1_500)).await;
    bob.host().kill();
    sleep(Duration::from_millis(700)).await;
    *bob.host.lock().unwrap() = Arc::new(start(bob_setup(), &bob.seen));
    proxy.cut();
    sleep(Duration::from_millis(1_500)).await;
    kill_and_restart(&mut relay).await;
    sleep(Duration::from_millis(1_500)).await;
    proxy.heal();
    sleep(Duration::from_millis(1_000)).await;
    kill_and_restart(&mut relay).await;
    sleep(Duration::from_millis(1_000)).await;
    proxy.reset();
    let wrote: Vec<Wrote> = writers.join_all().await.into_iter().flatten().collect();

    // A device that was never there before is told all that the relay holds.
    let mut truths = BTreeMap::new();
    for user in ["alice", "bob", "carol", "dora", "erin"] {
        let witness = Device::start("witness", memory(user), user);
        caught_up(&witness).await;
        truths.insert(user, witness);
    }
    for device in &devices {
        let truth = truths[device.user].seen.lock().unwrap().clone();
        let begun = Instant::now();
        while device.seen.lock().unwrap().len() < truth.len() && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20)).await;
        }
        let seen = device.seen.lock().unwrap().clone();
        assert!(
            seen == truth,
            "R2: {} was told {} of {} messages, or in another order",
            device.name,
            seen.len(),
            truth.len()
        );
    }

    let direct_log = texts(&truths["alice"].host().log(&direct).await.unwrap());
    let group_log = texts(&truths["alice"].host().log(&group).await.unwrap());
    for device in &devices {
        let log = device.host().log(&group).await.unwrap();
        assert!(texts(&log) == group_log, "R5: {} reads another log", device.name);
    }
    for device in [laptop, bob] {
        assert!(texts(&device.host().log(&direct).await.unwrap()) == direct_log, "R5: {}", device.name);
    }
    let acknowledged = check_sends(&wrote, &BTreeMap::from([(direct, direct_log), (group, group_log)]));
    println!("{acknowledged} of {} sends acknowledged", wrote.len());
    // Some were under way at each kill, so most must have made it after all.
    assert!(acknowledged > 500 && acknowledged * 10 > wrote.len() * 9, "{acknowledged} of {}", wrote.len());
    assert!(relay.is_up());
}

async fn kill_and_restart(relay: &mut RelayProcess) {
    block_in_place(|| relay.kill());
    sleep(Duration::from_millis(300)).await;
    block_in_place(|| relay.restart());
}

async fn caught_up(device: &Device) {
    let begun = Instant::now();
    while !device.host().state().caught_up {
        assert!(begun.elapsed() < PATIENCE, "R3: {} of {} is not caught up", device.name, device.user);
        sleep(Duration::from_millis(10)).await;
    }
}

fn texts(log: &[Message]) -> Vec<String> {
    let seqs: Vec<_> = log.iter().filter_map(|message| message.seq).collect();
    let expected: Vec<_> = (1..=log.len() as u64).map(Seq).collect();
    assert_eq!(seqs, expected, "a log has no gaps");
    log.iter().map(|message| message.content.text.clone()).collect()
}

/// R4 and R5: each once, where the acknowledgement said, and each writer's in the order of writing. Returns how many
/// were acknowledged.
fn check_sends(wrote: &[Wrote], logs: &BTreeMap<ConversationId, Vec<String>>) -> usize {
    for log in logs.values() {
        let once: BTreeSet<_> = log.iter().collect();
        assert_eq!(once.len(), log.len(), "R4: a message is in a log twice");
    }
    let mut acknowledged = 0;
    let mut last: BTreeMap<(&str, &ConversationId), usize> = BTreeMap::new();
    for Wrote { conversation, text, outcome } in wrote {
        let place = logs[conversation].iter().position(|other| other == text);
        match outcome {
            Ok(message) => {
                let seq = usize::try_from(message.seq.unwrap().0).unwrap();
                assert_eq!(place, Some(seq - 1), "R4: {text} was acknowledged at {seq}");
                acknowledged += 1;
            }
            // The crash took the promise; what was in the outbox by then was sent by the next life.
            Err(error) => assert_eq!(error.code, Code::CLOSED, "R6: {text}: {error}"),
        }
        let writer = text.split('-').next().unwrap();
        if let Some(place) = place {
            let before = last.insert((writer, conversation), place);
            assert!(
                before.is_none_or(|before| before < place),
                "R5: {text} is before what was written before it"
            );
        }
    }
    acknowledged
}
