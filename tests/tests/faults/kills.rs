//! SIGKILL at random moments, also within the start: `HONGYAN_KILL_ROUNDS` rounds with `HONGYAN_KILL_WRITERS` writers.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::load::{Load, Verdict};
use super::process::Relay;

/// A start that takes longer is told.
const SLOW: Duration = Duration::from_secs(3);

/// In long runs people write more slowly: the end compares everybody with a new device, and one that has missed more than
/// [`super::process::QUEUE_CAPACITY`] references is told them as a list of conversations.
const ROUNDS_PER_PAUSE: u64 = 160;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn chance(below: u64) -> u64 {
    RandomState::new().hash_one(0) % below
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kills() {
    let (rounds, writers) = (number("HONGYAN_KILL_ROUNDS", 4), number("HONGYAN_KILL_WRITERS", 6));
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Relay::new(&folder.path().join("data"));
    block_in_place(|| relay.start());
    let load = Load::start(
        relay.address,
        usize::try_from(writers).unwrap(),
        Duration::from_millis(number("HONGYAN_KILL_PAUSE_MS", (rounds * writers / ROUNDS_PER_PAUSE).max(2))),
        60,
    )
    .await;
    load.more(20).await;
    let (mut longest, mut within_start, mut begun) = (Duration::ZERO, 0, Instant::now());
    for round in 1..=rounds {
        sleep(Duration::from_millis(chance(1_000))).await;
        block_in_place(|| relay.kill());
        while chance(3) == 0 {
            relay.spawn();
            sleep(Duration::from_millis(chance(200))).await;
            block_in_place(|| relay.kill());
            within_start += 1;
        }
        let start = block_in_place(|| relay.start());
        if start > SLOW {
            println!("round {round}: the start took {} ms", start.as_millis());
        }
        longest = longest.max(start);
        // The kill is in the middle of work only when work goes on.
        load.more(writers).await;
        if begun.elapsed() > Duration::from_secs(15) {
            println!("round {round} of {rounds}");
            begun = Instant::now();
        }
    }
    let verdict = load.end(relay.address).await;
    println!(
        "{rounds} rounds and {within_start} kills within a start: {} sends acknowledged, {} lost, {} doubled, {} out of \
         order; the longest start took {} ms",
        verdict.acknowledged,
        verdict.lost,
        verdict.doubled,
        verdict.out_of_order,
        longest.as_millis()
    );
    block_in_place(|| relay.kill());
    let (code, printed) = relay.verify();
    assert_eq!(code, Some(0), "{printed}");
    assert!(verdict == Verdict { acknowledged: verdict.acknowledged, ..Verdict::default() }, "{verdict:?}");
    assert!(verdict.acknowledged > 0);
}
