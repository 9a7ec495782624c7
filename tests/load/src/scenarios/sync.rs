//! A user was absent; how fast does she catch up?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use hongyan_client::Event;
use hongyan_protocol::{ConversationId, UserId};

use super::settled;
use crate::cache::MemoryCache;
use crate::crowd::{Names, connect, setup};
use crate::histogram::float;
use crate::host::{Host, Setup};
use crate::limits::PATIENCE;
use crate::meter::Meter;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::process::Usage;
use crate::tally::{Board, Stamp};
use crate::target::Target;

pub(super) async fn run(target: Target, plan: Plan) -> Result<Outcome, String> {
    let names = Names::default();
    let absent = names.user("absent", 0);
    let writers: Vec<UserId> = (0..plan.senders).map(|n| names.user("writer", n)).collect();
    let hosts = connect(&target, &Arc::default(), 1, &writers, |_, _| {}).await?;
    let board = Arc::new(Board::new(1));
    // A device that was never there would begin with the conversation list, and miss nothing.
    let cache = MemoryCache::default();
    let meter = Arc::<Meter>::default();
    let device = || Setup { cache: Box::new(cache.clone()), ..setup(&target, &meter, 0, &absent) };
    let mut before = Host::start(device(), |_| {});
    before.ready(PATIENCE).await?;
    before.close().await;
    (plan.tell)(&format!("writing {} messages", plan.messages));
    let each = plan.messages.div_ceil(plan.senders as u64);
    let failed = AtomicU64::new(0);
    // Each has one under way, so the more writers, the sooner it is done.
    join_all(hosts.iter().map(|host| async {
        let conversation = ConversationId::direct(host.user(), &absent);
        for number in 1..=each {
            let text = Stamp { number, due_us: 0 }.text(plan.text_bytes);
            if host.send(&conversation, &text).await.is_err() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }))
    .await;
    drop(hosts);
    if failed.load(Ordering::Relaxed) > 0 {
        return Err(format!(
            "{} of {} messages were refused: raise the relay's `limits.sends_per_second` and `limits.sends_burst`, or \
             use more --senders.",
            failed.load(Ordering::Relaxed),
            each * plan.senders as u64
        ));
    }
    let sent = writers.into_iter().map(|user| (user, each)).collect();
    (plan.tell)("catching up");
    let received_before = meter.received_bytes();
    let listening = Arc::clone(&board);
    let usage = Usage::start(target.process);
    let begun = Instant::now();
    let mut host = Host::start(device(), move |event| {
        if let Event::Message(message) = event {
            listening.take(0, &message);
        }
    });
    host.ready(PATIENCE).await?;
    let expected = each * plan.senders as u64;
    settled(expected, || board.received()).await;
    let time = begun.elapsed();
    let mut outcome =
        Outcome { losses: board.losses(0..1, &sent), used: usage.so_far(), ..Outcome::default() };
    outcome.add("references", float(expected), "");
    outcome.add("catching up", time.as_secs_f64(), "s");
    outcome.add("references per second", float(board.received()) / time.as_secs_f64(), "1/s");
    outcome.add(
        "bytes on the wire of a reference",
        float(meter.received_bytes() - received_before) / float(board.received().max(1)),
        "B",
    );
    outcome.failures = meter.refused();
    Ok(outcome)
}
