//! What decoding may allocate. A test binary of its own, because the allocator counts for the whole process.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use hongyan_protocol::limits::{
    CLIENT_DECODE_AMPLIFICATION_MAX, CLIENT_FRAME_BYTES_MAX, RELAY_DECODE_AMPLIFICATION_MAX,
    RELAY_FRAME_BYTES_MAX,
};
use hongyan_protocol::wire::{ClientFrame, RelayFrame};
use peak_alloc::PeakAlloc;
use prost::bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What a frame may cost besides its bytes' own share.
const CONSTANT_BYTES: usize = 1024;

/// A frame whose one kind `tag` is filled with empty elements of its repeated field `element`. There is one more of
/// them than a power of two, so that the growing vector has just doubled, as near to `bytes_max` as that allows.
fn frame_of_empties(tag: u32, element: u32, bytes_max: usize) -> Bytes {
    let mut empty = Vec::new();
    encode_key(element, WireType::LengthDelimited, &mut empty);
    empty.push(0);
    let inside = empty.repeat(just_over_a_power_of_two((bytes_max - 16) / empty.len()));
    let mut frame = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut frame);
    encode_varint(inside.len() as u64, &mut frame);
    frame.extend(inside);
    frame.into()
}

/// The same with one level more: each element holds one empty message, its field `inner`.
fn frame_of_hollows(tag: u32, element: u32, inner: u32, bytes_max: usize) -> Bytes {
    let mut hollow = Vec::new();
    encode_key(inner, WireType::LengthDelimited, &mut hollow);
    hollow.push(0);
    let mut one = Vec::new();
    encode_key(element, WireType::LengthDelimited, &mut one);
    encode_varint(hollow.len() as u64, &mut one);
    one.extend(hollow);
    let inside = one.repeat(just_over_a_power_of_two((bytes_max - 16) / one.len()));
    let mut frame = Vec::new();
    encode_key(tag, WireType::LengthDelimited, &mut frame);
    encode_varint(inside.len() as u64, &mut frame);
    frame.extend(inside);
    frame.into()
}

fn just_over_a_power_of_two(at_most: usize) -> usize {
    (at_most.next_power_of_two() >> 1) + 1
}

/// The most that is allocated at one moment while decoding, for each byte of the frame.
fn amplification<T>(frame: &Bytes, decode: impl Fn(Bytes) -> T) -> f64 {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let decoded = decode(frame.clone());
    let most = ALLOCATOR.peak_usage().saturating_sub(before).saturating_sub(CONSTANT_BYTES);
    drop(decoded);
    #[allow(clippy::cast_precision_loss, reason = "sizes of frames")]
    let ratio = most as f64 / frame.len() as f64;
    ratio
}

/// The worst frames there are: nothing but elements that are one or two bytes on the wire and a struct in memory.
#[test]
fn decoding_allocates_within_its_bound() {
    let mut client_most = 0.0f64;
    // send.mentions, create_group.members, add_members.users, remove_members.users
    for (tag, element) in [(16, 5), (19, 3), (20, 2), (21, 2)] {
        let frame = frame_of_empties(tag, element, CLIENT_FRAME_BYTES_MAX);
        let ratio = amplification(&frame, |bytes| ClientFrame::from_bytes(bytes).map(|_| ()).unwrap());
        client_most = client_most.max(ratio);
    }
    let mut relay_most = 0.0f64;
    // snapshot.conversations, batch.entries, history_page.messages, member_page.members
    for (tag, element) in [(5, 1), (6, 1), (18, 2), (20, 2)] {
        let frame = frame_of_empties(tag, element, RELAY_FRAME_BYTES_MAX);
        let ratio = amplification(&frame, |bytes| RelayFrame::from_bytes(bytes).map(|_| ()).unwrap());
        relay_most = relay_most.max(ratio);
    }
    // snapshot.conversations.last_message, batch.entries.message, batch.entries.group
    for (tag, element, inner) in [(5, 1, 5), (6, 1, 2), (6, 1, 4)] {
        let frame = frame_of_hollows(tag, element, inner, RELAY_FRAME_BYTES_MAX);
        let ratio = amplification(&frame, |bytes| RelayFrame::from_bytes(bytes).map(|_| ()).unwrap());
        relay_most = relay_most.max(ratio);
    }
    println!(
        "bytes allocated for each byte decoded: client frames {client_most:.1}, relay frames {relay_most:.1}"
    );
    #[allow(clippy::cast_precision_loss, reason = "small constants")]
    let (client_max, relay_max) =
        (CLIENT_DECODE_AMPLIFICATION_MAX as f64, RELAY_DECODE_AMPLIFICATION_MAX as f64);
    assert!(client_most <= client_max, "client frames: {client_most:.1} is over {client_max}");
    assert!(relay_most <= relay_max, "relay frames: {relay_most:.1} is over {relay_max}");
    // A bound that nothing comes near says nothing.
    assert!(
        client_most > client_max / 4.0,
        "client frames: the bound {client_max} is far above {client_most:.1}"
    );
    assert!(relay_most > relay_max / 4.0, "relay frames: the bound {relay_max} is far above {relay_most:.1}");
}
