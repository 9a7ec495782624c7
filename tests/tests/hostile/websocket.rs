//! Frames that no WebSocket library would send, and some that few would but all must take.

use hongyan_protocol::Code;
use hongyan_protocol::limits::CLIENT_FRAME_BYTES_MAX;
use hongyan_protocol::wire::{self, client_frame::Verb};

use crate::kinds::{Kind, Outcome, What, after, end_of, kind, play};
use crate::raw::{
    BINARY, CLOSE, FIN, PATIENCE, PING, Peer, TEXT, UPGRADE, close_payload, frame, frame_head, head, hello,
    verb_bytes, wire_bytes,
};
use crate::scene::{Scene, good_token};

/// The first bytes of pieces of a binary message, and of a piece that goes on.
const FIRST_PIECE: u8 = 0x02;
const NEXT_PIECE: u8 = 0x00;

pub(crate) fn kinds() -> Vec<Kind> {
    let bad = Outcome::Close(Code::BAD_FRAME);
    let row = |name, bytes: Vec<u8>, expected| kind(name, What::After(bytes), expected);
    let ping = || wire_bytes(91, Verb::Ping(wire::Ping { nonce: 1 }));
    let long = vec![0; CLIENT_FRAME_BYTES_MAX + 1];
    let in_pieces = |pieces: usize, size: usize| {
        let mut bytes = frame(FIRST_PIECE, &vec![0; size]);
        bytes.extend((1..pieces).flat_map(|_| frame(NEXT_PIECE, &vec![0; size])));
        bytes
    };
    vec![
        row("a text message", frame(TEXT, b"{}"), bad),
        row("a text message that is no UTF-8", frame(TEXT, &[0xff, 0xfe]), bad),
        row("a message over the limit", frame(BINARY, &long), bad),
        row("a message over the limit, in pieces", in_pieces(40, 4_096), bad),
        row("pieces for ever", in_pieces(2_000, 100), bad),
        row("a length of 2^62", frame_head(BINARY, true, 1 << 62), bad),
        row("a length of 2^63", frame_head(BINARY, true, 1 << 63), bad),
        row("an unmasked message", [frame_head(BINARY, false, 1), vec![0]].concat(), bad),
        row("reserved bit 1 (compression nobody agreed to)", frame(BINARY | 0x40, &ping()), bad),
        row("reserved bit 2", frame(BINARY | 0x20, &ping()), bad),
        row("reserved bit 3", frame(BINARY | 0x10, &ping()), bad),
        row("a reserved kind of message", frame(0x83, &ping()), bad),
        row("a reserved kind of control", frame(0x8b, &[]), bad),
        row("a piece of nothing", frame(NEXT_PIECE | FIN, &ping()), bad),
        row("a message within a message", [frame(FIRST_PIECE, &[0]), frame(BINARY, &ping())].concat(), bad),
        row("a ping in pieces", frame(PING & !FIN, &[0]), bad),
        row("a ping of 126 bytes", frame(PING, &[0; 126]), bad),
        row("a close of 126 bytes", frame(CLOSE, &close_payload(1000, &[b'x'; 124])), bad),
        row("a close of one byte", frame(CLOSE, &[3]), bad),
        row("a close whose reason is no UTF-8", frame(CLOSE, &close_payload(1000, &[0xff])), bad),
        row("a close with code 0", frame(CLOSE, &close_payload(0, b"")), Outcome::Close(Code(1002))),
        row("a close with code 999", frame(CLOSE, &close_payload(999, b"")), Outcome::Close(Code(1002))),
        row("a close with code 1005", frame(CLOSE, &close_payload(1005, b"")), Outcome::Close(Code(1002))),
        row("a close with code 1006", frame(CLOSE, &close_payload(1006, b"")), Outcome::Close(Code(1002))),
        row("a close with code 1000", frame(CLOSE, &close_payload(1000, b"bye")), Outcome::Close(Code(1000))),
        row(
            "a close with a code of one's own",
            frame(CLOSE, &close_payload(4999, b"")),
            Outcome::Close(Code(4999)),
        ),
        row("a close without a code", frame(CLOSE, &[]), Outcome::Close(Code(1005))),
        row("no frame of the wire", frame(BINARY, &[0xff; 10]), bad),
        row("a frame cut short", frame(BINARY, &ping()[..3]), bad),
        row("a field of a wrong type", frame(BINARY, &[0x80, 0x01, 0x05]), bad),
        row("groups within groups", frame(BINARY, &[0x9b; 4_000]), bad),
        row("a name that is no UTF-8", frame(BINARY, &bad_name()), bad),
        row("a pong that nobody asked for", frame(0x8a, b"?"), Outcome::Works),
        row("an empty ping", frame(PING, &[]), Outcome::Works),
        row("20,000 pings", frame(PING, &[7; 100]).repeat(20_000), Outcome::Works),
        kind("a message in pieces with a ping between", play!(in_pieces_with_a_ping), Outcome::Works),
        kind("a session byte by byte", play!(byte_by_byte), Outcome::Works),
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

async fn in_pieces_with_a_ping(scene: &Scene) -> Outcome {
    let mut peer = scene.user("mallory").await;
    let bytes = wire_bytes(91, Verb::Ping(wire::Ping { nonce: 1 }));
    for (at, byte) in bytes.iter().enumerate() {
        let first = if at == 0 { FIRST_PIECE } else { NEXT_PIECE };
        peer.write(&frame(first, &[*byte])).await;
        peer.write(&frame(NEXT_PIECE, &[])).await;
        peer.write(&frame(PING, b"between")).await;
    }
    peer.write(&frame(NEXT_PIECE | FIN, &[])).await;
    match peer.answer(91).await {
        Ok(_) => after(&mut peer).await,
        Err(code) => Outcome::Close(Code(code)),
    }
}

async fn byte_by_byte(scene: &Scene) -> Outcome {
    let mut peer = Peer::open(scene.address()).await;
    for byte in verb_bytes(1, Verb::Hello(hello("mallory", good_token("mallory")))) {
        peer.write(&[byte]).await;
    }
    match peer.answer(1).await {
        Ok(_) => after(&mut peer).await,
        Err(code) => Outcome::Close(Code(code)),
    }
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
