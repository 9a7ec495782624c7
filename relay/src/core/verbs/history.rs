//! Pages of a log, both ways.

use bytes::Bytes;
use hongyan_protocol::limits::{BATCH_BYTES_TARGET, HISTORY_PAGE_MESSAGES_MAX};
use hongyan_protocol::wire::{self, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, Seq};

use super::Caller;
use crate::core::io::Verifier;
use crate::core::limits::HISTORY_PAGE_DEFAULT;
use crate::core::records::{decode, message_key};
use crate::core::refusal::Refusal;
use crate::core::relay::Relay;
use crate::store::{Order, Store, StoreError, Table};

pub(super) fn history<S: Store, V: Verifier>(
    relay: &mut Relay<S, V>,
    caller: &Caller,
    body: wire::History,
) -> Result<(), Refusal> {
    let id = ConversationId::new(&body.conversation)?;
    if body.before > 0 && body.after > 0 {
        return Err(Refusal::bad("A page of history has a before or an after, not both."));
    }
    let last = match relay.conversations.load(&relay.store, &id, &caller.user)? {
        Some(conversation) if conversation.has_reader(&relay.store, &id, &caller.user)? => {
            conversation.durable
        }
        _ => return Err(Refusal::reject(Code::NOT_A_MEMBER)),
    };
    let limit = match usize::try_from(body.limit).unwrap_or(usize::MAX) {
        0 => HISTORY_PAGE_DEFAULT,
        limit => limit.min(HISTORY_PAGE_MESSAGES_MAX),
    };
    let end = last.next();
    let messages = if body.after > 0 {
        relay.page(&id, Seq(body.after).next(), end, Order::Ascending, limit)?
    } else {
        let before = if body.before > 0 { end.min(Seq(body.before)) } else { end };
        relay.page(&id, Seq(1), before, Order::Descending, limit)?
    };
    let page = wire::HistoryPage { conversation: body.conversation, messages, last_seq: last.0 };
    relay.answer(caller.connection, caller.request, Event::HistoryPage(page));
    Ok(())
}

impl<S: Store, V: Verifier> Relay<S, V> {
    /// Messages with `from` ≤ seq < `to` from one end, in ascending order whichever end it is.
    fn page(
        &self,
        id: &ConversationId,
        from: Seq,
        to: Seq,
        order: Order,
        limit: usize,
    ) -> Result<Vec<wire::Message>, StoreError> {
        let mut messages: Vec<wire::Message> = Vec::new();
        if from >= to {
            return Ok(messages);
        }
        let mut expected = if order == Order::Ascending { from } else { to.previous() };
        let mut bytes = 0;
        let mut fault = None;
        self.store.scan(
            Table::Messages,
            &message_key(id, from),
            &message_key(id, to),
            order,
            &mut |_, value| {
                let message = self.commits.durable_message(id, expected, Bytes::copy_from_slice(value));
                let len = message.len();
                match decode::<wire::Message>(message, "messages") {
                    Ok(message) if message.seq == expected.0 => {
                        bytes += len;
                        messages.push(message);
                        expected =
                            if order == Order::Ascending { expected.next() } else { expected.previous() };
                    }
                    Ok(_) => fault = Some(missing(id, expected)),
                    Err(error) => fault = Some(error),
                }
                fault.is_none() && messages.len() < limit && bytes < BATCH_BYTES_TARGET
            },
        )?;
        match fault {
            Some(error) => return Err(error),
            None if messages.is_empty() => return Err(missing(id, expected)),
            None => {}
        }
        if order == Order::Descending {
            messages.reverse();
        }
        Ok(messages)
    }
}

pub(super) fn missing(id: &ConversationId, seq: Seq) -> StoreError {
    StoreError::Damaged(format!("message {seq} of {id} is missing"))
}
