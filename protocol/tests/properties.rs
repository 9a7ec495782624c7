//! Properties of the wire: every frame survives a round trip, and no bytes at all make a decoder panic.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod schema;

use std::sync::LazyLock;

use bytes::Bytes;
use hongyan_protocol::DecodeError;
use hongyan_protocol::limits::{CLIENT_FRAME_BYTES_MAX, RELAY_FRAME_BYTES_MAX};
use hongyan_protocol::wire::{ClientFrame, Content, RelayFrame};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use protox::prost_reflect::MessageDescriptor;
use schema::{Dice, arbitrary};

static CLIENT: LazyLock<MessageDescriptor> = LazyLock::new(|| schema::message("ClientFrame"));
static RELAY: LazyLock<MessageDescriptor> = LazyLock::new(|| schema::message("RelayFrame"));

/// Decodes as everything that comes from outside; a panic is the only failure.
fn read_all(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = ClientFrame::from_bytes(bytes.clone());
    let _ = RelayFrame::from_bytes(bytes.clone());
    let _ = Content::decode(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The bytes are made by another encoder, from the `.proto`: the generated types keep all that is in them.
    #[test]
    fn frames_survive_a_round_trip(seed: u64) {
        let mut dice = Dice(seed);
        let bytes = arbitrary(&CLIENT, &mut dice);
        prop_assert_eq!(&ClientFrame::from_bytes(bytes.clone().into()).unwrap().to_bytes().unwrap(), &bytes);
        let bytes = arbitrary(&RELAY, &mut dice);
        prop_assert_eq!(&RelayFrame::from_bytes(bytes.clone().into()).unwrap().to_bytes().unwrap(), &bytes);
    }

    #[test]
    fn truncated_frames_never_panic(seed: u64, cut: prop::sample::Index) {
        for of in [&CLIENT, &RELAY] {
            let bytes = arbitrary(of, &mut Dice(seed));
            if !bytes.is_empty() {
                read_all(&bytes[..cut.index(bytes.len())]);
            }
        }
    }

    #[test]
    fn flipped_bits_never_panic(seed: u64, flips in vec((any::<prop::sample::Index>(), 0u8..8), 1..8)) {
        for of in [&CLIENT, &RELAY] {
            let mut bytes = arbitrary(of, &mut Dice(seed));
            if bytes.is_empty() {
                continue;
            }
            for (at, bit) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            read_all(&bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
    }
}

#[test]
fn frames_over_their_limit_are_not_looked_at() {
    let over = |bytes_max: usize| Bytes::from(vec![0; bytes_max + 1]);
    let bytes_max = CLIENT_FRAME_BYTES_MAX;
    let refused = Err(DecodeError::TooLarge { bytes: bytes_max + 1, bytes_max });
    assert!(ClientFrame::from_bytes(over(bytes_max)).map(|_| ()) == refused);
    let bytes_max = RELAY_FRAME_BYTES_MAX;
    let refused = Err(DecodeError::TooLarge { bytes: bytes_max + 1, bytes_max });
    assert!(RelayFrame::from_bytes(over(bytes_max)).map(|_| ()) == refused);
}

/// A message within a message within a message …: as deep as a frame has room for.
#[test]
fn deep_nesting_never_overflows_the_stack() {
    let mut bytes = vec![0x0b; CLIENT_FRAME_BYTES_MAX]; // the start of a group, each in the one before
    read_all(&bytes);
    bytes.fill(0x0a);
    read_all(&bytes);
}
