//! Each sender writes to a user of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use hongyan_client::Event;
use hongyan_protocol::{ConversationId, UserId};

use super::settled;
use crate::crowd::{Names, connect};
use crate::drive::{Sender, drive};
use crate::meter::Meter;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::tally::{Board, Losses};
use crate::target::Target;

pub(super) async fn run(target: Target, plan: Plan) -> Result<Outcome, String> {
    let (names, meter) = (Names::default(), Arc::<Meter>::default());
    let senders: Vec<UserId> = (0..plan.senders).map(|n| names.user("sender", n)).collect();
    let receivers: Vec<UserId> = (0..plan.senders).map(|n| names.user("receiver", n)).collect();
    // A sender is told of its own messages, too: the first half of the board is theirs.
    let board = Arc::new(Board::new(2 * plan.senders));
    let listen = |first: usize| {
        let board = Arc::clone(&board);
        move |index: usize, event: Event| {
            if let Event::Message(message) = event {
                board.take(first + index, &message);
            }
        }
    };
    (plan.tell)("connecting");
    let hosts = connect(&target, &meter, 0, &senders, listen(0)).await?;
    let listening = if plan.receivers_connected {
        connect(&target, &meter, plan.senders, &receivers, listen(plan.senders)).await?
    } else {
        Vec::new()
    };
    let sending = hosts
        .into_iter()
        .zip(&receivers)
        .map(|(host, peer)| Sender {
            conversation: ConversationId::direct(host.user(), peer),
            host: Arc::new(host),
        })
        .collect::<Vec<_>>();
    let kept: Vec<Arc<_>> = sending.iter().map(|sender| Arc::clone(&sender.host)).collect();
    let driven = drive(sending, &plan, target.process, board.origin()).await;
    let sent: u64 = driven.sent.values().sum();
    let copies = 1 + u64::from(plan.receivers_connected);
    settled(sent * copies, || board.received()).await;

    let losses = senders.iter().enumerate().fold(Losses::default(), |losses, (n, user)| {
        let own = BTreeMap::from([(user.clone(), driven.sent.get(user).copied().unwrap_or_default())]);
        let losses = losses.and(board.losses(n..n + 1, &own));
        if listening.is_empty() {
            losses
        } else {
            losses.and(board.losses(plan.senders + n..plan.senders + n + 1, &own))
        }
    });
    let mut outcome = Outcome {
        losses,
        failures: driven.failures,
        used: driven.used,
        was_late: driven.was_late,
        ..Outcome::default()
    };
    outcome.add("durable sends", driven.rate, "1/s");
    outcome.add_latencies("acknowledgement", &driven.acknowledged);
    outcome.add_latencies("delivery", &board.latencies());
    drop((kept, listening));
    Ok(outcome)
}
