//! Sends at a pace of their own, or as fast as answers come.
//!
//! Open loop: a thread of its own says when each send is due, whatever became of those before it, and latency counts
//! from that moment. A relay that stalls for a second therefore shows a second, for each send of that second, instead of
//! one slow send (coordinated omission). Closed loop: each sender sends when its last one was answered; that finds the
//! most, and its latency is only that of the load that it makes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hongyan_protocol::{ConversationId, UserId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::histogram::{Latencies, float};
use crate::host::Host;
use crate::limits::PACE_LATE_US;
use crate::plan::Plan;
use crate::process::{Usage, Used};
use crate::tally::Stamp;

/// What the senders did.
#[derive(Default)]
pub struct Driven {
    /// From when a send was due to its answer, of the time that is measured.
    pub acknowledged: Latencies,
    /// Answers per second.
    pub rate: f64,
    /// Everything that each sender sent, with what was before.
    pub sent: BTreeMap<UserId, u64>,
    /// Sends that were refused, by their words.
    pub failures: BTreeMap<String, u64>,
    /// What it cost while it was measured.
    pub used: Used,
    /// The generator could not keep its own pace.
    pub was_late: bool,
}

/// One that sends, and where.
pub struct Sender {
    /// The client.
    pub host: Arc<Host>,
    /// The conversation, all its own or the group.
    pub conversation: ConversationId,
}

/// Lets them send for the plan's time. Stamps count from `origin`.
pub async fn drive(senders: Vec<Sender>, plan: &Plan, relay: Option<u32>, origin: Instant) -> Driven {
    let count = senders.len();
    let measuring = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicBool::new(false));
    let driven = Arc::new(Mutex::new(Driven::default()));
    let mut due: Vec<Option<mpsc::UnboundedReceiver<Instant>>> = Vec::new();
    let pacer = match plan.rate {
        None => {
            due.resize_with(count, || None);
            None
        }
        Some(rate) => {
            let (told, heard): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
            due.extend(heard.into_iter().map(Some));
            let ended = Arc::clone(&ended);
            Some(thread::spawn(move || pace(rate, &told, &ended)))
        }
    };
    let mut running = JoinSet::new();
    for (sender, due) in senders.into_iter().zip(due) {
        let sending = Sending {
            sender,
            text_bytes: plan.text_bytes,
            origin,
            number: 0,
            measuring: Arc::clone(&measuring),
            own: Driven::default(),
        };
        let (ended, driven) = (Arc::clone(&ended), Arc::clone(&driven));
        running.spawn(async move {
            let sending = match due {
                Some(due) => sending.open_loop(due).await,
                None => sending.closed_loop(&ended).await,
            };
            sending.hand_in(&driven);
        });
    }
    (plan.tell)(&format!("{count} senders begin"));
    tokio::time::sleep(plan.warm_up()).await;
    (plan.tell)(&format!("measuring for {} s", plan.duration.as_secs()));
    measuring.store(true, Ordering::Relaxed);
    let usage = Usage::start(relay);
    tokio::time::sleep(plan.duration).await;
    measuring.store(false, Ordering::Relaxed);
    let used = usage.so_far();
    ended.store(true, Ordering::Relaxed);
    (plan.tell)("waiting for what is under way");
    running.join_all().await;
    let late = pacer.and_then(|pacer| pacer.join().ok()).unwrap_or_default();
    let mut driven = std::mem::take(&mut *driven.lock().unwrap_or_else(PoisonError::into_inner));
    driven.rate = float(driven.acknowledged.count()) / used.time.as_secs_f64();
    driven.used = used;
    driven.was_late = late.ms_at(0.99) * 1_000.0 > float(PACE_LATE_US);
    driven
}

/// Says when sends are due, in turn, until it is over; returns how late it was itself.
fn pace(rate: f64, told: &[mpsc::UnboundedSender<Instant>], ended: &AtomicBool) -> Latencies {
    let begun = Instant::now();
    let mut late = Latencies::default();
    let mut number = 0u64;
    while !ended.load(Ordering::Relaxed) {
        let due = begun + Duration::from_secs_f64(float(number) / rate);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::sleep(early);
        }
        late.record(due.elapsed());
        let turn = usize::try_from(number).unwrap_or(usize::MAX) % told.len();
        // Who ended early is owed nothing.
        let _ = told[turn].send(due);
        number += 1;
    }
    late
}

struct Sending {
    sender: Sender,
    text_bytes: usize,
    origin: Instant,
    number: u64,
    measuring: Arc<AtomicBool>,
    own: Driven,
}

impl Sending {
    async fn closed_loop(mut self, ended: &AtomicBool) -> Self {
        while !ended.load(Ordering::Relaxed) {
            let text = self.next(Instant::now());
            let measured = self.measuring.load(Ordering::Relaxed);
            let begun = Instant::now();
            let answer = self.sender.host.send(&self.sender.conversation, &text).await;
            // One that began or ended outside of the time would count half.
            let measured = measured || self.measuring.load(Ordering::Relaxed);
            self.answered(answer.map(|_| ()), begun, measured);
        }
        self
    }

    async fn open_loop(mut self, mut due: mpsc::UnboundedReceiver<Instant>) -> Self {
        let host = Arc::clone(&self.sender.host);
        let conversation = self.sender.conversation.clone();
        let mut waiting = FuturesUnordered::new();
        let mut open = true;
        while open || !waiting.is_empty() {
            tokio::select! {
                next = due.recv(), if open => match next {
                    None => open = false,
                    Some(due) => {
                        let text = self.next(due);
                        let measured = self.measuring.load(Ordering::Relaxed);
                        let (host, conversation) = (&host, &conversation);
                        waiting.push(async move { (host.send(conversation, &text).await, due, measured) });
                    }
                },
                Some((answer, due, measured)) = waiting.next() => {
                    self.answered(answer.map(|_| ()), due, measured);
                }
            }
        }
        drop(waiting);
        self
    }

    fn next(&mut self, due: Instant) -> String {
        self.number += 1;
        let due_us = due.saturating_duration_since(self.origin).as_micros();
        Stamp { number: self.number, due_us: u64::try_from(due_us).unwrap_or(u64::MAX) }.text(self.text_bytes)
    }

    fn answered(&mut self, answer: Result<(), hongyan_client::ChatError>, due: Instant, measured: bool) {
        match answer {
            Ok(()) if measured => self.own.acknowledged.record(due.elapsed()),
            Ok(()) => {}
            Err(error) => *self.own.failures.entry(format!("send: {error}")).or_default() += 1,
        }
    }

    fn hand_in(self, driven: &Mutex<Driven>) {
        let mut driven = driven.lock().unwrap_or_else(PoisonError::into_inner);
        driven.acknowledged.add(&self.own.acknowledged);
        driven.sent.insert(self.sender.host.user().clone(), self.number);
        for (words, count) in self.own.failures {
            *driven.failures.entry(words).or_default() += count;
        }
    }
}
