//! The kinds of hostility as rows of one table, and the one function that checks a row.

use std::collections::BTreeMap;
use std::pin::Pin;

use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};

use crate::conformance::{self, Piece};
use crate::raw::{Heard, Peer, UPGRADE, head, hello, told};
use crate::scene::{Scene, good_token};

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It is odd, but valid: it works.
    Works,
    /// The HTTP answer's status.
    Status(u16),
    /// The TCP connection ends without a word.
    Dropped,
    /// The request is refused, and the connection stays.
    Reject(Code),
    /// The request is refused, and the connection ends with the same code.
    End(Code),
    /// The connection ends with this code.
    Close(Code),
    /// The queue begins anew, for this cause.
    Reset(i32),
}

/// What is done to the relay.
pub(crate) enum What {
    /// Bytes on a new TCP connection.
    Http(Vec<u8>),
    /// Bytes on a new WebSocket, before hello.
    Before(Vec<u8>),
    /// A hello on a new WebSocket.
    Hello(wire::Hello),
    /// Bytes on the WebSocket of a user who was welcomed.
    After(Vec<u8>),
    /// Frames of another library on the WebSocket of a user who was welcomed.
    Frames(Vec<Piece>),
    /// A request of a user who was welcomed.
    Ask(&'static str, Verb),
    /// More than one step.
    Play(Play),
}

pub(crate) type Play = for<'a> fn(&'a Scene) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// One row.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) what: What,
    pub(crate) expected: Outcome,
}

/// A row.
pub(crate) fn kind(name: &'static str, what: What, expected: Outcome) -> Kind {
    Kind { name, what, expected }
}

/// A row's steps.
macro_rules! play {
    ($play:path) => {
        $crate::kinds::What::Play(|scene| Box::pin($play(scene)))
    };
}
pub(crate) use play;

/// Does it, and compares; afterwards the relay is up and nobody else noticed. Returns what is not as it must be.
pub(crate) async fn check(
    scene: &mut Scene,
    kind: Kind,
    tried: &mut BTreeMap<Outcome, usize>,
) -> Option<String> {
    let outcome = run(scene, kind.what).await;
    scene.goes_on().await;
    *tried.entry(outcome).or_default() += 1;
    (outcome != kind.expected).then(|| format!("{}: {outcome:?}, not {:?}", kind.name, kind.expected))
}

async fn run(scene: &Scene, what: What) -> Outcome {
    let relay = scene.address();
    match what {
        What::Http(bytes) => {
            let mut peer = Peer::tcp(relay).await;
            peer.write(&bytes).await;
            status(&mut peer).await
        }
        What::Before(bytes) => {
            let mut peer = Peer::open(relay).await;
            peer.write(&bytes).await;
            end_of(&mut peer).await
        }
        What::Hello(hello) => {
            let mut peer = Peer::open(relay).await;
            let request = peer.ask(Verb::Hello(hello)).await;
            match peer.answer(request).await {
                Ok(Event::Welcome(_)) => after(&mut peer).await,
                Ok(Event::Reject(reject)) => ended(&mut peer, &reject).await,
                Ok(other) => panic!("{}", told(Some(&other))),
                Err(code) => Outcome::Close(Code(code)),
            }
        }
        What::After(bytes) => {
            let mut peer = scene.user("mallory").await;
            peer.write(&bytes).await;
            after(&mut peer).await
        }
        What::Frames(pieces) => conformance::sent(scene, pieces).await,
        What::Ask(user, verb) => {
            let mut peer = scene.user(user).await;
            let request = peer.ask(verb).await;
            asked(&mut peer, request).await
        }
        What::Play(play) => play(scene).await,
    }
}

/// What an HTTP request is answered.
pub(crate) async fn status(peer: &mut Peer) -> Outcome {
    match peer.http().await {
        Some(answer) => Outcome::Status(answer.split(' ').nth(1).unwrap().parse().unwrap()),
        None => Outcome::Dropped,
    }
}

/// How a connection ends.
pub(crate) async fn end_of(peer: &mut Peer) -> Outcome {
    loop {
        match peer.hear().await {
            Heard::Frame(frame) => {
                if let Some(Event::Reject(reject)) = frame.event {
                    return ended(peer, &reject).await;
                }
            }
            Heard::Pong => {}
            Heard::Close(code) => return Outcome::Close(Code(code)),
            Heard::End => return Outcome::Dropped,
        }
    }
}

/// What a request is answered.
pub(crate) async fn asked(peer: &mut Peer, request: u64) -> Outcome {
    match peer.answer(request).await {
        Ok(Event::Reject(reject)) => match after(peer).await {
            Outcome::Works => Outcome::Reject(code_of(&reject)),
            Outcome::Close(code) if code == code_of(&reject) => Outcome::End(code),
            other => panic!("refused with {}, and then {other:?}", reject.code),
        },
        Ok(_) => after(peer).await,
        Err(code) => Outcome::Close(Code(code)),
    }
}

/// Whether the connection still serves; what was refused or begun anew meanwhile.
pub(crate) async fn after(peer: &mut Peer) -> Outcome {
    let fence = peer.ask(Verb::Ping(wire::Ping { nonce: 7 })).await;
    let mut outcome = Outcome::Works;
    loop {
        match peer.hear().await {
            Heard::Frame(frame) => match frame.event {
                Some(Event::Pong(_)) if frame.request == fence => return outcome,
                Some(Event::Reject(reject)) => outcome = Outcome::Reject(code_of(&reject)),
                Some(Event::Reset(reset)) => outcome = Outcome::Reset(reset.cause),
                _ => {}
            },
            Heard::Pong => {}
            Heard::Close(code) if outcome == Outcome::Reject(Code(code)) => return Outcome::End(Code(code)),
            Heard::Close(code) => return Outcome::Close(Code(code)),
            Heard::End => return Outcome::Dropped,
        }
    }
}

async fn ended(peer: &mut Peer, reject: &wire::Reject) -> Outcome {
    assert_eq!(peer.closed().await, code_of(reject).0, "after a refusal the close code says the same");
    Outcome::End(code_of(reject))
}

fn code_of(reject: &wire::Reject) -> Code {
    assert!(!reject.reason.is_empty(), "a refusal has a sentence");
    Code(u16::try_from(reject.code).unwrap())
}

/// A hello that is good, for rows that change one thing of it.
pub(crate) fn hello_of(change: impl FnOnce(&mut wire::Hello)) -> What {
    let mut good = hello("mallory", good_token("mallory"));
    change(&mut good);
    What::Hello(good)
}

/// A good request for a WebSocket.
pub(crate) fn upgrade() -> Vec<u8> {
    head(&UPGRADE)
}
