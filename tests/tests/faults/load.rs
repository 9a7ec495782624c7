//! Several people who write as fast as they are answered, and what must be true of it in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use hongyan_client::Event;
use hongyan_protocol::{ConversationId, Seq};
use hongyan_tests::{Host, MemoryCache, setup};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::process::QUEUE_CAPACITY;

/// Sends of one writer that wait for their answers at once.
const WINDOW: usize = 4;
/// For what must come, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

type Seen = Arc<Mutex<Vec<(ConversationId, Seq, String)>>>;

pub(crate) struct Load {
    group: ConversationId,
    people: Vec<(Arc<Host>, Seen)>,
    writers: JoinSet<Vec<(ConversationId, String, Seq)>>,
    stop: Arc<AtomicBool>,
    pub(crate) acknowledged: Arc<AtomicU64>,
}

/// What the end showed; all but the first is 0 when all is well.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) out_of_order: usize,
}

fn host(address: SocketAddr, user: &str) -> (Host, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let host = Host::start(setup(address, user, MemoryCache::default()), move |event| {
        if let Event::Message(message) = event {
            noted.lock().unwrap().push((message.conversation, message.seq.unwrap(), message.content.text));
        }
    });
    (host, seen)
}

impl Load {
    /// Everybody is in one group, and each writes to the next one, too. The relay runs.
    pub(crate) async fn start(address: SocketAddr, writers: usize, pause: Duration, bytes: usize) -> Self {
        let names: Vec<String> = (0..writers.max(2)).map(|n| format!("user{n}")).collect();
        let people: Vec<_> = names.iter().map(|name| host(address, name)).collect();
        let people: Vec<_> = people.into_iter().map(|(host, seen)| (Arc::new(host), seen)).collect();
        let others: Vec<&str> = names[1..].iter().map(String::as_str).collect();
        let group = people[0].0.create_group("Geese", &others).await.unwrap();
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for (n, (host, _)) in people.iter().enumerate() {
            let direct = host.direct(&names[(n + 1) % names.len()]);
            let to = [group.clone(), direct];
            tasks.spawn(write(
                Arc::clone(host),
                names[n].clone(),
                to,
                (pause, bytes),
                Arc::clone(&stop),
                Arc::clone(&acknowledged),
            ));
        }
        Self { group, people, writers: tasks, stop, acknowledged }
    }

    /// Waits until so many sends more were answered.
    pub(crate) async fn more(&self, count: u64) {
        let (goal, begun) = (self.acknowledged.load(Ordering::Relaxed) + count, Instant::now());
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            assert!(begun.elapsed() < PATIENCE, "sends are not answered: {:?}", self.people[0].0.state());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops writing, waits for the answers, and looks at everybody's logs. The relay runs.
    pub(crate) async fn end(self, address: SocketAddr) -> Verdict {
        self.stop.store(true, Ordering::Relaxed);
        let wrote = timeout(PATIENCE, self.writers.join_all()).await.expect("R6: every send is answered");
        let mut verdict = Verdict::default();
        let mut logs: BTreeMap<ConversationId, Vec<String>> = BTreeMap::new();
        for (n, (host, seen)) in self.people.iter().enumerate() {
            // A device that was never there before is told all that the relay holds.
            let (mut witness, told) = super::load::host(address, host.user().as_str());
            witness.caught_up(PATIENCE).await;
            let truth = told.lock().unwrap().clone();
            let references = seen.lock().unwrap().len();
            assert!(references <= QUEUE_CAPACITY, "too much was written to compare: {references} references");
            let begun = Instant::now();
            while seen.lock().unwrap().len() < truth.len() && begun.elapsed() < PATIENCE {
                sleep(Duration::from_millis(10)).await;
            }
            let differs = first_difference(&seen.lock().unwrap(), &truth);
            assert!(
                differs.is_none(),
                "R2: user{n} was told something else than a new device: {}",
                differs.unwrap()
            );
            let mut own: BTreeMap<ConversationId, Vec<String>> = BTreeMap::new();
            for (conversation, seq, text) in truth {
                let log = own.entry(conversation).or_default();
                log.push(text);
                assert_eq!(seq.0, log.len() as u64, "R5: a log has a gap");
            }
            for (conversation, log) in own {
                let known = logs.entry(conversation).or_insert_with(|| log.clone());
                assert!(*known == log, "R5: user{n} has another log");
            }
        }
        assert!(logs.contains_key(&self.group));
        for log in logs.values() {
            verdict.doubled += log.len() - log.iter().collect::<BTreeSet<_>>().len();
            let mut last: BTreeMap<&str, u64> = BTreeMap::new();
            for text in log {
                let (who, rest) = text.split_once('-').unwrap();
                let number = rest.split('-').next().unwrap().parse().unwrap();
                let before = last.insert(who, number);
                verdict.out_of_order += usize::from(before.is_some_and(|before| before > number));
            }
        }
        for (conversation, text, seq) in wrote.into_iter().flatten() {
            verdict.acknowledged += 1;
            let at = usize::try_from(seq.0).unwrap() - 1;
            let found = logs.get(&conversation).and_then(|log| log.get(at));
            verdict.lost += usize::from(found != Some(&text));
        }
        verdict
    }
}

/// Where two have been told something else, for people.
fn first_difference(
    known: &[(ConversationId, Seq, String)],
    other: &[(ConversationId, Seq, String)],
) -> Option<String> {
    if known == other {
        return None;
    }
    let at = known.iter().zip(other).take_while(|(known, other)| known == other).count();
    let told = |log: &[(ConversationId, Seq, String)]| {
        log.get(at).map_or("nothing".into(), |(conversation, seq, text)| {
            format!(
                "{} {} {}",
                conversation.as_str(),
                seq.0,
                text.split_at_checked(20).map_or(&**text, |(head, _)| head)
            )
        })
    };
    Some(format!(
        "of {} and {} the one after {at} is {} and {}",
        known.len(),
        other.len(),
        told(known),
        told(other)
    ))
}

async fn write(
    host: Arc<Host>,
    name: String,
    to: [ConversationId; 2],
    (pause, bytes): (Duration, usize),
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Vec<(ConversationId, String, Seq)> {
    let (mut under_way, mut done, mut number) = (VecDeque::new(), Vec::new(), 0_u64);
    while !stop.load(Ordering::Relaxed) || !under_way.is_empty() {
        while under_way.len() < WINDOW && !stop.load(Ordering::Relaxed) {
            let conversation = to[usize::from(number.is_multiple_of(3))].clone();
            let text = format!("{name}-{number}-{}", "x".repeat(bytes));
            number += 1;
            let (host, what) = (Arc::clone(&host), (conversation.clone(), text.clone()));
            let mut send = Box::pin(async move { host.send(&what.0, &what.1).await });
            // Handed over before the next is made: it is the order of writing. The answer is looked at later.
            let at_once = poll_fn(|cx| {
                Poll::Ready(match send.as_mut().poll(cx) {
                    Poll::Ready(answer) => Some(answer),
                    Poll::Pending => None,
                })
            });
            let at_once = at_once.await;
            under_way.push_back((conversation, text, send, at_once));
            sleep(pause).await;
        }
        if let Some((conversation, text, send, at_once)) = under_way.pop_front() {
            let answer = match at_once {
                Some(answer) => answer,
                None => send.await,
            };
            let message = answer.unwrap_or_else(|error| panic!("R6: {name} was refused: {error}"));
            acknowledged.fetch_add(1, Ordering::Relaxed);
            done.push((conversation, text, message.seq.unwrap()));
        }
    }
    done
}
