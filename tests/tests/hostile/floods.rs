//! A thousand of a kind at once. What a flood does to the latency of others is a benchmark's business (`tests/src/bin/floods.rs`);
//! here it is asserted that everything arrives, and that memory stays bounded.

use hongyan_tests::floods::{Flood, PEERS};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::scene::Scene;

/// What alice and bob say during one flood.
const ROUNDS: usize = 150;

/// This process and the relay each hold an end of every connection.
pub(crate) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let may = limit.maximum.unwrap_or(u64::MAX);
    assert!(may > 2 * PEERS as u64, "the system allows {may} open files, which is too few for these floods");
}

pub(crate) async fn all(scene: &mut Scene) {
    for (flood, _, what) in Flood::ALL {
        let flooding = flood.begin(scene.address()).await;
        scene.rounds(ROUNDS).await;
        let (memory, times) = (scene.relay.memory_bytes(), flooding.end().await);
        println!("{PEERS} connections {what}: memory {} MiB, {times} times", memory >> 20);
        scene.goes_on().await;
    }
}
