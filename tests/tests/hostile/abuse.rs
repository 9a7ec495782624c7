//! More than one step: floods of requests, readers that don't read, and the same thing said twice.

use std::time::Duration;

use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb, entry::Change, relay_frame::Event};
use tokio::time::sleep;

use crate::kinds::{Kind, Outcome, after, end_of, kind, play};
use crate::raw::{BINARY, Heard, Peer, frame_head, hello, told, verb_bytes};
use crate::requests::{content, direct, notes, send};
use crate::scene::{Scene, good_token};

/// The relay of these rows ends a silent connection after so long, and one that takes nothing.
pub(crate) const SILENCE_MS: &str = "2000";
pub(crate) const STALLED_MS: u64 = 800;

pub(crate) fn kinds() -> Vec<Kind> {
    vec![
        kind("a flood of sends", play!(flood_of_sends), Outcome::Reject(Code::RATE_LIMITED)),
        kind("a flood of requests", play!(flood_of_requests), Outcome::Reject(Code::RATE_LIMITED)),
        kind("a flood that goes on when refused", play!(flood_that_goes_on), Outcome::Close(Code::BUSY)),
        kind("the same request number twice", play!(same_number), Outcome::Works),
        kind("a key used again for other words", play!(same_key), Outcome::Works),
        kind("a group's key used again for a message", play!(key_of_another_kind), Outcome::Works),
        kind("requests after goodbye", play!(after_goodbye), Outcome::Close(Code(1000))),
        kind("a device that never answers", play!(silent), Outcome::Close(Code::SILENT)),
        kind("half a message, and then nothing", play!(half_and_silent), Outcome::Close(Code::SILENT)),
        kind("a reader that never reads, and comes back", play!(slow_reader), Outcome::Works),
        kind("asking for more than is read", play!(greedy), Outcome::Close(Code::SLOW_READER)),
    ]
}

fn reject_of(event: Event) -> Option<wire::Reject> {
    if let Event::Reject(reject) = event { Some(reject) } else { None }
}

/// Refused with the time to wait; after that time accepted again. What was accepted is in the log, what was refused
/// is not.
async fn flood_of_sends(scene: &Scene) -> Outcome {
    let mut peer = scene.user("flooder").await;
    let notes = direct("flooder", "flooder");
    let mut requests = Vec::new();
    for _ in 0..600 {
        requests.push(peer.ask(Verb::Send(send(&notes))).await);
    }
    let (mut accepted, mut outcome, mut wait) = (0, Outcome::Works, 0);
    let mut waiting = requests.len();
    while waiting > 0 {
        match peer.hear().await {
            Heard::Frame(frame) => match frame.event {
                Some(Event::Sent(_)) => (accepted, waiting) = (accepted + 1, waiting - 1),
                Some(Event::Reject(reject)) => {
                    waiting -= 1;
                    assert!(reject.retry_after_ms > 0, "it says when to come again");
                    wait = reject.retry_after_ms;
                    outcome = Outcome::Reject(Code(u16::try_from(reject.code).unwrap()));
                }
                _ => {}
            },
            Heard::Pong => {}
            other => panic!("{other:?}"),
        }
    }
    sleep(Duration::from_millis(u64::from(wait))).await;
    let again = peer.ask(Verb::Send(send(&notes))).await;
    let Ok(Event::Sent(sent)) = peer.answer(again).await else { panic!("accepted again") };
    assert_eq!(sent.seq, accepted + 1, "what was refused is not in the log");
    outcome
}

async fn flood_of_requests(scene: &Scene) -> Outcome {
    let mut peer = scene.user("asker").await;
    let mut last = 0;
    for _ in 0..600 {
        let members = wire::Members { conversation: direct("asker", "asker"), ..wire::Members::default() };
        last = peer.ask(Verb::Members(members)).await;
    }
    let reject = peer.answer(last).await.ok().and_then(reject_of).expect("a refusal");
    sleep(Duration::from_millis(u64::from(reject.retry_after_ms))).await;
    match after(&mut peer).await {
        Outcome::Works => Outcome::Reject(Code(u16::try_from(reject.code).unwrap())),
        other => other,
    }
}

/// A thousand refusals within a second are enough.
async fn flood_that_goes_on(scene: &Scene) -> Outcome {
    let mut peer = scene.user("ringer").await;
    peer.write(&verb_bytes(1, Verb::Ping(wire::Ping { nonce: 1 })).repeat(20_000)).await;
    Outcome::Close(Code(peer.closed().await))
}

/// The number is the client's own affair: both are answered.
async fn same_number(scene: &Scene) -> Outcome {
    let mut peer = scene.user("mallory").await;
    for _ in 0..2 {
        peer.write(&verb_bytes(77, Verb::Ping(wire::Ping { nonce: 1 }))).await;
    }
    for _ in 0..2 {
        assert!(matches!(peer.answer(77).await, Ok(Event::Pong(_))));
    }
    after(&mut peer).await
}

/// The first answer again, and the first words in the log.
async fn same_key(scene: &Scene) -> Outcome {
    let mut peer = scene.user("twice").await;
    let (notes, elsewhere) = (direct("twice", "twice"), direct("twice", "nobody"));
    let first = send(&notes);
    let others = [
        wire::Send { content: content("other words"), ..first.clone() },
        wire::Send { conversation: elsewhere.clone(), ..first.clone() },
        wire::Send { reply_to: 1, mentions: vec!["bob".into()], ..first.clone() },
    ];
    let mut answers = Vec::new();
    for send in [first.clone()].into_iter().chain(others) {
        let request = peer.ask(Verb::Send(send)).await;
        match peer.answer(request).await {
            Ok(Event::Sent(sent)) => answers.push(sent),
            other => panic!("{}", told(other.ok().as_ref())),
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "the first answer, each time");
    for (conversation, expected) in [(notes, vec![first.content]), (elsewhere, vec![])] {
        let request =
            peer.ask(Verb::History(wire::History { conversation, ..wire::History::default() })).await;
        let Ok(Event::HistoryPage(page)) = peer.answer(request).await else { panic!("a page is due") };
        let log: Vec<_> = page.messages.into_iter().map(|message| message.content).collect();
        assert_eq!(log, expected);
    }
    after(&mut peer).await
}

/// A key names one kind of write: another kind under it is refused, and nothing is written.
async fn key_of_another_kind(scene: &Scene) -> Outcome {
    let mut peer = scene.user("mixed").await;
    let notes = direct("mixed", "mixed");
    let message = send(&notes);
    let group = wire::CreateGroup {
        key: message.key.clone(),
        title: crate::scene::TITLE.into(),
        members: Vec::new(),
    };
    let request = peer.ask(Verb::CreateGroup(group)).await;
    assert!(matches!(peer.answer(request).await, Ok(Event::GroupDone(_))), "a group is due");
    let request = peer.ask(Verb::Send(message)).await;
    let Ok(Event::Reject(reject)) = peer.answer(request).await else { panic!("a refusal is due") };
    assert_eq!(Code(u16::try_from(reject.code).unwrap()), Code::BAD_REQUEST);
    let request =
        peer.ask(Verb::History(wire::History { conversation: notes, ..wire::History::default() })).await;
    let Ok(Event::HistoryPage(page)) = peer.answer(request).await else { panic!("a page is due") };
    assert_eq!(page.last_seq, 0);
    after(&mut peer).await
}

async fn after_goodbye(scene: &Scene) -> Outcome {
    let mut peer = scene.user("leaver").await;
    let mut bytes = verb_bytes(1, Verb::Bye(wire::Bye { logout: true, ..wire::Bye::default() }));
    bytes.extend(verb_bytes(2, Verb::Send(send(&direct("leaver", "leaver")))));
    bytes.extend(verb_bytes(3, Verb::Ping(wire::Ping { nonce: 1 })));
    peer.write(&bytes).await;
    let mut answered = 0;
    let outcome = loop {
        match peer.hear().await {
            Heard::Frame(frame) if frame.request > 0 => answered += 1,
            Heard::Frame(_) | Heard::Pong => {}
            Heard::Close(code) => break Outcome::Close(Code(code)),
            Heard::End => break Outcome::Dropped,
        }
    };
    assert_eq!(answered, 0, "who left is not served");
    let mut peer = scene.user("leaver").await;
    assert_eq!(last_seq(&mut peer, &direct("leaver", "leaver")).await, 0);
    outcome
}

async fn last_seq(peer: &mut Peer, conversation: &str) -> u64 {
    let history = wire::History { conversation: conversation.into(), limit: 1, ..wire::History::default() };
    let request = peer.ask(Verb::History(history)).await;
    match peer.answer(request).await {
        Ok(Event::HistoryPage(page)) => page.last_seq,
        other => panic!("{}", told(other.ok().as_ref())),
    }
}

async fn silent(scene: &Scene) -> Outcome {
    let mut peer = scene.user("mallory").await;
    end_of(&mut peer).await
}

async fn half_and_silent(scene: &Scene) -> Outcome {
    let mut peer = scene.user("mallory").await;
    peer.write(&frame_head(BINARY, true, 1_000)).await;
    end_of(&mut peer).await
}

/// Far more than the systems' buffers hold is written to somebody who reads nothing. The connection ends as a slow
/// reader's; from the cursor that was acknowledged everything comes, each once and in order.
async fn slow_reader(scene: &Scene) -> Outcome {
    const COUNT: u64 = 190;
    let mut sloth = Peer::tcp_small(scene.address()).await;
    sloth.upgrade(&[]).await;
    let same = hello("sloth", good_token("sloth"));
    let epoch = sloth.say_hello(same.clone()).await.epoch;
    let mut writer = scene.user("writer").await;
    let conversation = direct("sloth", "writer");
    let words = content(&"x".repeat(60_000));
    for _ in 0..COUNT {
        let send = wire::Send { content: words.clone(), ..send(&conversation) };
        let request = writer.ask(Verb::Send(send)).await;
        assert!(matches!(writer.answer(request).await, Ok(Event::Sent(_))));
    }
    // This is what is tried: it takes nothing for longer than the bound.
    sleep(Duration::from_millis(STALLED_MS + 700)).await;
    let mut cursor = 0;
    let end = loop {
        match sloth.hear().await {
            Heard::Frame(frame) => {
                if let Some(Event::Batch(batch)) = frame.event {
                    take(&mut cursor, &batch);
                }
            }
            Heard::Pong => {}
            Heard::Close(code) => break Outcome::Close(Code(code)),
            Heard::End => break Outcome::Dropped,
        }
    };
    // Who reads again soon enough is told why; after that the connection is cut.
    assert!([Outcome::Close(Code::SLOW_READER), Outcome::Dropped].contains(&end), "{end:?}");
    assert!(cursor < COUNT, "it was never slow");
    let mut sloth = Peer::open(scene.address()).await;
    sloth.say_hello(wire::Hello { epoch, cursor, ..same }).await;
    while cursor < COUNT {
        match sloth.hear().await {
            Heard::Frame(frame) => {
                if let Some(Event::Batch(batch)) = frame.event {
                    take(&mut cursor, &batch);
                }
            }
            Heard::Pong => {}
            other => panic!("{other:?}"),
        }
        sloth.ask(Verb::Ack(wire::Ack { cursor })).await;
    }
    after(&mut sloth).await
}

/// Entries follow the cursor without a gap, and each message has its place in the log.
fn take(cursor: &mut u64, batch: &wire::Batch) {
    for entry in &batch.entries {
        assert_eq!(entry.pos, *cursor + 1, "R2: each once, in order");
        assert!(matches!(&entry.change, Some(Change::Message(message)) if message.seq == entry.pos));
        *cursor = entry.pos;
    }
}

/// Pages upon pages are asked for, and none is read.
async fn greedy(scene: &Scene) -> Outcome {
    let conversation = direct("sloth", "writer");
    let mut peer = Peer::tcp_small(scene.address()).await;
    peer.upgrade(&[]).await;
    peer.say_hello(hello("writer", good_token("writer"))).await;
    let page = wire::History { conversation, limit: 100, ..wire::History::default() };
    let mut bytes = Vec::new();
    for request in 2..150 {
        bytes.extend(verb_bytes(request, Verb::History(page.clone())));
    }
    peer.write(&bytes).await;
    // Until others were served twice, the relay has had its turn with these.
    let mut other = scene.user("mallory").await;
    for _ in 0..2 {
        last_seq(&mut other, &notes()).await;
    }
    end_of(&mut peer).await
}
