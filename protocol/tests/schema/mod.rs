//! The `.proto` as data: which kinds there are, what bytes mean, and arbitrary frames of every kind. A kind that is
//! added to the `.proto` is thereby in the tests that use this.

use std::fmt::Write as _;

use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use protox::prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};

/// A message type of the `.proto`, by its name there.
pub(crate) fn message(name: &str) -> MessageDescriptor {
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = protox::compile(["hongyan.proto"], [proto]).expect("the .proto compiles");
    let pool = DescriptorPool::from_file_descriptor_set(files).expect("the .proto is consistent");
    pool.get_message_by_name(&format!("hongyan.v1.{name}")).expect("a message of this name")
}

/// The names of a message's oneof: a frame's or an entry's kinds.
#[allow(dead_code, reason = "not every test file asks")]
pub(crate) fn kinds(of: &str) -> Vec<String> {
    let oneof = message(of).oneofs().next().expect("a oneof");
    oneof.fields().map(|field| field.name().to_owned()).collect()
}

/// Bytes as commented hex: one line for each field, with its name in the `.proto`.
#[allow(dead_code, reason = "not every test file asks")]
pub(crate) fn annotate(of: &MessageDescriptor, bytes: &[u8]) -> String {
    let mut out = String::new();
    annotate_at(of, bytes, 0, &mut out);
    out
}

fn annotate_at(of: &MessageDescriptor, mut bytes: &[u8], depth: usize, out: &mut String) {
    while !bytes.is_empty() {
        let begin = bytes;
        let (tag, wire_type) = decode_key(&mut bytes).expect("a key");
        let field = of.get_field(tag);
        let name = field.as_ref().map_or_else(|| "unknown".to_owned(), |field| field.name().to_owned());
        let value = decode_varint(&mut bytes).expect("a number or a length");
        let head = &begin[..begin.len() - bytes.len()];
        match wire_type {
            WireType::Varint => line(out, depth, head, &format!("field {tag} {name} = {value}")),
            WireType::LengthDelimited => {
                let length = usize::try_from(value).expect("a length");
                line(out, depth, head, &format!("field {tag} {name}, {length} bytes"));
                let (inside, rest) = bytes.split_at(length);
                bytes = rest;
                match field.map(|field| field.kind()) {
                    Some(Kind::Message(of)) => annotate_at(&of, inside, depth + 1, out),
                    // The bytes of a message's content are a message themselves.
                    Some(Kind::Bytes) if name == "content" => {
                        annotate_at(&message("Content"), inside, depth + 1, out);
                    }
                    _ => {
                        for part in inside.chunks(16) {
                            line(out, depth + 1, part, &format!("{:?}", String::from_utf8_lossy(part)));
                        }
                    }
                }
            }
            other => panic!("the wire has no fields of type {other:?}"),
        }
    }
}

fn line(out: &mut String, depth: usize, bytes: &[u8], comment: &str) {
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = format!("{}{}", "  ".repeat(depth), hex.join(" "));
    let _ = writeln!(out, "{hex:<56}  # {comment}");
}

/// A small generator of numbers, so that one seed makes one message.
#[allow(dead_code, reason = "not every test file asks")]
pub(crate) struct Dice(pub(crate) u64);

#[allow(dead_code, reason = "not every test file asks")]
impl Dice {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The bytes of an arbitrary message of this type, every field of it present now and then.
#[allow(dead_code, reason = "not every test file asks")]
pub(crate) fn arbitrary(of: &MessageDescriptor, dice: &mut Dice) -> Vec<u8> {
    arbitrary_message(of, dice, 0).encode_to_vec()
}

fn arbitrary_message(of: &MessageDescriptor, dice: &mut Dice, depth: u32) -> DynamicMessage {
    let mut made = DynamicMessage::new(of.clone());
    let oneofs: Vec<_> = of.oneofs().collect();
    for field in of.fields().filter(|field| field.containing_oneof().is_none()) {
        if dice.below(4) > 0 {
            let value = arbitrary_field(&field, dice, depth);
            made.set_field(&field, value);
        }
    }
    for oneof in oneofs {
        let fields: Vec<_> = oneof.fields().collect();
        let at = usize::try_from(dice.below(fields.len() as u64 + 1)).unwrap();
        if let Some(field) = fields.get(at) {
            let value = arbitrary_value(field, dice, depth);
            made.set_field(field, value);
        }
    }
    made
}

fn arbitrary_field(field: &FieldDescriptor, dice: &mut Dice, depth: u32) -> Value {
    if field.is_list() {
        let count = dice.below(4);
        Value::List((0..count).map(|_| arbitrary_value(field, dice, depth)).collect())
    } else {
        arbitrary_value(field, dice, depth)
    }
}

fn arbitrary_value(field: &FieldDescriptor, dice: &mut Dice, depth: u32) -> Value {
    const TEXTS: [&str; 6] = ["", "a", "alice", "鸿雁", "~5.alice.bob", "\u{10ffff}\0 \u{202e}"];
    let bits = u32::try_from(dice.below(65)).unwrap();
    let number = dice.next().checked_shr(bits).unwrap_or(0);
    match field.kind() {
        Kind::Uint64 => Value::U64(number),
        Kind::Uint32 => Value::U32(u32::try_from(number & u64::from(u32::MAX)).unwrap()),
        Kind::Bool => Value::Bool(number % 2 == 1),
        // Values that this version has no name for, too.
        Kind::Enum(_) => Value::EnumNumber(i32::try_from(number % 12).unwrap()),
        Kind::String => {
            Value::String(TEXTS[usize::try_from(number % 6).unwrap()].repeat(1 + bits as usize % 3))
        }
        Kind::Bytes => Value::Bytes((0..number % 40).map(|_| dice.next().to_le_bytes()[0]).collect()),
        Kind::Message(of) => Value::Message(arbitrary_message(&of, dice, depth + 1)),
        other => panic!("the wire has no fields of kind {other:?}"),
    }
}
