//! `/metrics` for Prometheus, on an address of its own: what the core counts, as text.
//!
//! The text is made here: of the format only names, two kinds and whole numbers are needed. It names no user and no
//! conversation.
//!
//! *How to add a metric:* a field of [`Counters`] and a row in [`METRICS`].

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::http::Front;
use crate::core::Counters;
use crate::core::queries::{Answer, Query};

/// Of which kind a metric is.
#[derive(Clone, Copy)]
enum Kind {
    /// It only grows while the relay runs.
    Counter,
    /// It is as it is.
    Gauge,
}

struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&Counters) -> u64,
}

macro_rules! metrics {
    ($($name:literal, $kind:ident, $counters:ident => $value:expr, $help:literal;)*) => {
        const METRICS: &[Metric] = &[$(Metric {
            name: concat!("hongyan_", $name),
            kind: Kind::$kind,
            help: $help,
            value: |$counters| $value,
        }),*];
    };
}

metrics! {
    "connections", Gauge, c => c.connections as u64, "Open connections.";
    "sessions", Gauge, c => c.sessions as u64, "Open connections that said hello.";
    "users_in_memory", Gauge, c => c.users as u64, "Users in memory.";
    "conversations_in_memory", Gauge, c => c.conversations as u64, "Conversations in memory.";
    "requests_waiting", Gauge, c => c.waiting as u64, "Requests whose answer waits for a commit.";
    "uncommitted_bytes", Gauge, c => c.uncommitted_bytes as u64, "Bytes that wait for a commit or are being committed.";
    "commits_total", Counter, c => c.commits, "Commits that ended.";
    "sends_total", Counter, c => c.sends, "Messages accepted.";
    "batches_total", Counter, c => c.batches, "Batches of queue entries given to connections.";
    "refusals_total", Counter, c => c.refusals, "Requests refused.";
    "store_faults_total", Counter, c => c.store_faults, "Reads that the store failed.";
    "leases", Gauge, c => c.leases as u64, "Leases of devices and tabs.";
    "watched_users", Gauge, c => c.watched as u64, "Users whose presence somebody watches.";
    "presence_pushes_total", Counter, c => c.presence_pushes, "Changes of presence given to connections.";
    "queue_hot_entries", Gauge, c => c.queue.hot_entries, "Entries of the queues' hot parts, as the last sweep found them.";
    "queue_hot_bytes", Gauge, c => c.queue.hot_bytes, "Bytes of their rows.";
    "queue_overflow_entries", Gauge, c => c.queue.overflow_entries, "Entries in the queues' overflow, as the last sweep found them.";
    "queue_overflow_bytes", Gauge, c => c.queue.overflow_bytes, "Bytes of its segments.";
    "queue_sweeps_total", Counter, c => c.queue.sweeps, "Sweeps over all queues that came to their end.";
    "queue_segments_total", Counter, c => c.queue.segments, "Segments written to the overflow.";
    "queue_trimmed_rows_total", Counter, c => c.queue.trimmed_rows, "Rows and segments dropped.";
    "queue_trimmed_entries_total", Counter, c => c.queue.trimmed_entries, "Entries dropped with them.";
    "devices_forgotten_total", Counter, c => c.queue.forgotten_devices, "Devices forgotten because they did not come any more.";
}

/// The causes of a reset by their numbers, for the label `cause`.
const RESET_CAUSES: [&str; 5] = ["unknown", "epoch-unknown", "cursor-ahead", "cursor-expired", "new-device"];

/// The routes of the metrics' own address.
pub(crate) fn router(front: Arc<Front>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(front)
}

async fn metrics(State(front): State<Arc<Front>>) -> Response {
    let answer = match front.core.get() {
        Some(core) => core.ask(Query::Counters).await,
        None => None,
    };
    match answer {
        Some(Answer::Counters(counters)) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text(&counters)).into_response()
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "The relay is not ready.\n").into_response(),
    }
}

fn text(counters: &Counters) -> String {
    let mut out = String::new();
    for Metric { name, kind, help, value } in METRICS {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let value = value(counters);
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    let name = "hongyan_resets_total";
    let _ = write!(out, "# HELP {name} Resets told to devices.\n# TYPE {name} counter\n");
    for (cause, count) in RESET_CAUSES.iter().zip(counters.queue.resets) {
        let _ = writeln!(out, "{name}{{cause=\"{cause}\"}} {count}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_a_name_of_its_own_and_a_value() {
        let mut counters = Counters { sends: 7, ..Counters::default() };
        counters.queue.resets[3] = 2;
        let text = text(&counters);
        assert!(text.contains("# TYPE hongyan_sends_total counter\nhongyan_sends_total 7\n"));
        assert!(text.contains("hongyan_resets_total{cause=\"cursor-expired\"} 2\n"));
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
}
