//! What a connection costs that says hello and then nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::crowd::{Names, connect};
use crate::histogram::float;
use crate::meter::Meter;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::process::{Usage, memory_bytes, tcp_buffer_bytes};
use crate::target::Target;

/// Connections that bring up threads and tables which the others share.
const FIRST: usize = 20;

pub(super) async fn run(target: Target, plan: Plan) -> Result<Outcome, String> {
    let (names, meter) = (Names::default(), Arc::<Meter>::default());
    let process = target.process.map(|id| id.to_string());
    let memory = || process.as_deref().and_then(memory_bytes);
    let users = |role: &str, count: usize| (0..count).map(|n| names.user(role, n)).collect::<Vec<_>>();
    let first = connect(&target, &meter, 0, &users("first", FIRST), |_, _| {}).await?;
    let (before, buffers_before) = (memory(), tcp_buffer_bytes());
    (plan.tell)("connecting");
    let hosts = connect(&target, &meter, FIRST, &users("idle", plan.clients), |_, _| {}).await?;
    (plan.tell)("all are connected");
    let usage = Usage::start(target.process);
    tokio::time::sleep(plan.duration.max(Duration::from_secs(1))).await;
    let (after, buffers_after) = (memory(), tcp_buffer_bytes());
    let mut outcome = Outcome { used: usage.so_far(), ..Outcome::default() };
    let each = |before: Option<u64>, after: Option<u64>| {
        let grown = after?.saturating_sub(before?);
        Some(float(grown) / 1_024.0 / float(plan.clients as u64))
    };
    outcome.add("connections", float(plan.clients as u64), "");
    if let Some(kilobytes) = each(before, after) {
        outcome.add("relay's memory of an idle connection", kilobytes, "KB");
    }
    // Both ends of it are on this machine.
    if let Some(kilobytes) = each(buffers_before, buffers_after) {
        outcome.add("kernel's TCP buffers of an idle connection", kilobytes, "KB");
    }
    outcome.add_latencies("hello", &meter.take_hellos());
    outcome.failures = meter.refused();
    drop((first, hosts));
    Ok(outcome)
}
