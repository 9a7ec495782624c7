//! Some members of a group write; every member is connected.

use std::sync::Arc;

use hongyan_client::{ChatError, Command, Event};
use hongyan_protocol::limits::GROUP_CHANGE_USERS_MAX;
use hongyan_protocol::{ConversationId, UserId};

use super::settled;
use crate::crowd::{Names, connect};
use crate::drive::{Sender, drive};
use crate::histogram::float;
use crate::host::Host;
use crate::meter::Meter;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::process::Usage;
use crate::tally::Board;
use crate::target::Target;

pub(super) async fn run(target: Target, plan: Plan) -> Result<Outcome, String> {
    let (names, meter) = (Names::default(), Arc::<Meter>::default());
    let members: Vec<UserId> = (0..plan.members).map(|n| names.user("member", n)).collect();
    let board = Arc::new(Board::new(plan.members));
    let listening = Arc::clone(&board);
    (plan.tell)("connecting");
    let hosts = connect(&target, &meter, 0, &members, move |index, event| {
        if let Event::Message(message) = event {
            listening.take(index, &message);
        }
    })
    .await?;
    (plan.tell)("making the group");
    let Some(owner) = hosts.first() else { return Err("A group has at least one member.".into()) };
    let group = make(owner, members.get(1..).unwrap_or_default())
        .await
        .map_err(|error| format!("The group of {} members could not be made: {error}", plan.members))?;
    let hosts: Vec<Arc<Host>> = hosts.into_iter().map(Arc::new).collect();
    let senders = hosts
        .iter()
        .take(plan.senders)
        .map(|host| Sender { host: Arc::clone(host), conversation: group.clone() })
        .collect();
    // Deliveries go on after the last answer: they are counted until all have come.
    let usage = Usage::start(target.process);
    let driven = drive(senders, &plan, None, board.origin()).await;
    let sent: u64 = driven.sent.values().sum();
    settled(sent * plan.members as u64, || board.received()).await;
    let used = usage.so_far();

    let mut outcome = Outcome {
        losses: board.losses(0..plan.members, &driven.sent),
        failures: driven.failures,
        used,
        was_late: driven.was_late,
        ..Outcome::default()
    };
    let deliveries = board.received();
    outcome.add("durable sends", driven.rate, "1/s");
    outcome.add("deliveries", float(deliveries) / used.time.as_secs_f64(), "1/s");
    if let Some(relay) = used.relay {
        outcome.add(
            "relay's processor time of a delivery",
            relay.as_secs_f64() * 1e6 / float(deliveries.max(1)),
            "µs",
        );
    }
    outcome.add_latencies("acknowledgement", &driven.acknowledged);
    outcome.add_latencies("delivery", &board.latencies());
    Ok(outcome)
}

/// Makes a group of its owner and these users.
pub(super) async fn make(owner: &Host, others: &[UserId]) -> Result<ConversationId, ChatError> {
    let group = owner.create_group("Geese", &[]).await?;
    for portion in others.chunks(GROUP_CHANGE_USERS_MAX) {
        owner.command(Command::AddMembers(group.clone(), portion.to_vec())).await?;
    }
    Ok(group)
}
