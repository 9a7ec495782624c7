//! Hostile peers against the relay's program: whatever they send is refused as it is written down here, costs bounded
//! memory, reaches nobody's log, and is not noticed by two well-behaved users who talk meanwhile (promises R7 to R10
//! of DESIGN.md).
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]
#![allow(clippy::print_stdout, reason = "numbers that are not asserted are told")]

#[path = "hostile/abuse.rs"]
mod abuse;
#[path = "hostile/api.rs"]
mod api;
#[path = "hostile/conformance.rs"]
mod conformance;
#[path = "hostile/day.rs"]
mod day;
#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/hellos.rs"]
mod hellos;
#[path = "hostile/http.rs"]
mod http;
#[path = "hostile/kinds.rs"]
mod kinds;
#[path = "hostile/probes.rs"]
mod probes;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/scene.rs"]
mod scene;
#[path = "hostile/websocket.rs"]
mod websocket;

use std::collections::BTreeMap;

use hongyan_tests::raw;
use scene::Scene;

/// A relay that serves a handful of people stays below this, whatever is tried.
const MEMORY_BYTES_MAX: u64 = 256 << 20;
/// With a thousand connections to which as much is due as one may have waiting (256 KiB, twice: in the core's line and
/// in the socket's).
const FLOOD_MEMORY_BYTES_MAX: u64 = 512 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_gets_what_is_written_down() {
    let (from_address, of_user) = (http::FROM_ADDRESS_MAX.to_string(), hellos::OF_USER_MAX.to_string());
    let stalled = abuse::STALLED_MS.to_string();
    let settings = [
        ("trusted_proxies", "127.0.0.0/8"),
        ("limits.connections_per_address_max", &from_address),
        ("limits.opens_per_address_burst", "1000000"),
        ("limits.connections_per_user_max", &of_user),
        ("timers.head_ms", http::HEAD_MS),
        ("timers.hello_ms", hellos::HELLO_MS),
        ("timers.ping_interval_ms", "500"),
        ("timers.silence_ms", abuse::SILENCE_MS),
        ("timers.stalled_ms", &stalled),
    ];
    let mut scene = Scene::start(&settings, MEMORY_BYTES_MAX).await;
    let mut tried = BTreeMap::new();
    let mut wrong = Vec::new();
    let all = [
        http::kinds(),
        conformance::kinds(),
        websocket::kinds(),
        hellos::kinds(),
        requests::kinds(&scene),
        abuse::kinds(),
    ];
    for kind in all.into_iter().flatten() {
        wrong.extend(kinds::check(&mut scene, kind, &mut tried).await);
    }
    println!("{} kinds of hostility:", tried.values().sum::<usize>());
    for (outcome, count) in tried {
        println!("  {count:3} {outcome:?}");
    }
    scene.end("every kind").await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// R8, for every verb that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_opens_what_is_not_ones_own() {
    let mut scene = Scene::start(&[], MEMORY_BYTES_MAX).await;
    let wrong = probes::all(&mut scene).await;
    scene.end("every verb").await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same, for every route of the API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_of_the_api_opens_without_a_key() {
    let mut scene = Scene::start(&[], MEMORY_BYTES_MAX).await;
    let wrong = api::all(&mut scene).await;
    scene.end("every route").await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_cost_bounded_memory_and_lose_nothing_of_others() {
    floods::allow_many_files();
    // What is under test is what each of the thousand costs, so they are let in.
    let settings = [
        ("limits.connections_per_address_max", "5000"),
        ("limits.opens_per_address_burst", "1000000"),
        ("limits.sends_per_second", "1000"),
        ("timers.head_ms", "120000"),
        ("timers.hello_ms", "120000"),
        ("timers.stalled_ms", "120000"),
    ];
    let mut scene = Scene::start(&settings, FLOOD_MEMORY_BYTES_MAX).await;
    floods::all(&mut scene).await;
    scene.end("floods").await;
}

/// R10, with everything in it that people do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_day_leaves_nothing_private_in_the_log() {
    day::passes().await;
}
