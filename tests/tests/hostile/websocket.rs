//! Frames that no WebSocket library would send, and what is wrong within one. What a library can send is in `conformance.rs`.

use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb};

use crate::kinds::{Kind, Outcome, What, after, end_of, kind, play};
use crate::raw::{
    BINARY, PATIENCE, PING, Peer, UPGRADE, frame, frame_head, head, hello, verb_bytes, wire_bytes,
};
use crate::scene::{Scene, good_token};

pub(crate) fn kinds() -> Vec<Kind> {
    let bad = Outcome::Close(Code::BAD_FRAME);
    let row = |name, bytes: Vec<u8>, expected| kind(name, What::After(bytes), expected);
    let ping = || wire_bytes(91, Verb::Ping(wire::Ping { nonce: 1 }));
    vec![
        row("a length of 2^62", frame_head(BINARY, true, 1 << 62), bad),
        row("a length of 2^63", frame_head(BINARY, true, 1 << 63), bad),
        row("reserved bit 1 (compression nobody agreed to)", frame(BINARY | 0x40, &ping()), bad),
        row("reserved bit 2", frame(BINARY | 0x20, &ping()), bad),
        row("reserved bit 3", frame(BINARY | 0x10, &ping()), bad),
        row("a reserved kind of message", frame(0x83, &ping()), bad),
        row("a reserved kind of control", frame(0x8b, &[]), bad),
        row("no frame of the wire", frame(BINARY, &[0xff; 10]), bad),
        row("a frame cut short", frame(BINARY, &ping()[..3]), bad),
        row("a field of a wrong type", frame(BINARY, &[0x80, 0x01, 0x05]), bad),
        row("groups within groups", frame(BINARY, &[0x9b; 4_000]), bad),
        row("a name that is no UTF-8", frame(BINARY, &bad_name()), bad),
        row("20,000 pings", frame(PING, &[7; 100]).repeat(20_000), Outcome::Works),
        kind("everything in one packet", play!(in_one_packet), Outcome::Works),
        kind("pings whose answers nobody reads", play!(unread_pongs), Outcome::Works),
        kind("half a message before the reset", play!(half_a_message), Outcome::Works),
    ]
}

/// A member page of a conversation whose name is no UTF-8.
fn bad_name() -> Vec<u8> {
    let mut bytes = wire_bytes(92, Verb::LeaveGroup(wire::LeaveGroup { conversation: "??".into() }));
    let at = bytes.windows(2).position(|two| two == b"??").unwrap();
    bytes[at] = 0xc3;
    bytes
}

/// The request for the WebSocket, hello and a request, before anything was answered.
async fn in_one_packet(scene: &Scene) -> Outcome {
    let mut peer = Peer::tcp(scene.address()).await;
    let mut bytes = head(&UPGRADE);
    bytes.extend(verb_bytes(1, Verb::Hello(hello("mallory", good_token("mallory")))));
    bytes.extend(verb_bytes(91, Verb::Ping(wire::Ping { nonce: 1 })));
    peer.write(&bytes).await;
    peer.upgraded().await;
    match peer.answer(91).await {
        Ok(_) => after(&mut peer).await,
        Err(code) => Outcome::Close(Code(code)),
    }
}

/// More pings than the system keeps answers for, to a peer that takes none; then it goes away.
async fn unread_pongs(scene: &Scene) -> Outcome {
    let mut peer = Peer::tcp_small(scene.address()).await;
    peer.upgrade(&[]).await;
    let pings = frame(PING, &[7; 125]).repeat(500);
    // The relay stops to read when it can't answer, or ends it; either way a writer gets no further.
    for _ in 0..200 {
        if tokio::time::timeout(PATIENCE / 60, peer.write(&pings)).await.is_err() {
            break;
        }
    }
    peer.reset();
    Outcome::Works
}

async fn half_a_message(scene: &Scene) -> Outcome {
    let mut peer = scene.user("mallory").await;
    peer.write(&frame_head(BINARY, true, 100_000)).await;
    peer.write(&[0; 50_000]).await;
    peer.reset();
    // The place is free again, and nothing of it was taken for a message.
    let mut peer = scene.user("mallory").await;
    match after(&mut peer).await {
        Outcome::Works => Outcome::Works,
        _ => end_of(&mut peer).await,
    }
}
