//! Sockets: what is said on them, and how they end.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod server_process;

use futures_util::SinkExt;
use hongyan_protocol::limits::CLIENT_FRAME_BYTES_MAX;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{Code, ConversationId, UserId};
use jsonwebtoken::{Algorithm, EncodingKey};
use server_process::{Relay, SECRET, now_seconds, sign, sign_hs256, token};
use tokio_tungstenite::tungstenite::Message;

/// Ed25519 in PKCS #8: this, and 32 bytes of a seed.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// The public half of the seed of 32 sevens.
const ED_PUBLIC: &str = "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=";

fn direct(one: &str, other: &str) -> String {
    ConversationId::direct(&UserId::new(one).unwrap(), &UserId::new(other).unwrap()).as_str().to_owned()
}

#[tokio::test]
async fn two_users_talk() {
    let relay = Relay::start(&[]);
    let mut alice = relay.sign_in("alice", "a1").await;
    let mut bob = relay.sign_in("bob", "b1").await;
    let conversation = direct("alice", "bob");
    alice.say(&conversation, "k1", "你好 🐦").await;
    let sent = alice.until(|event| if let Event::Sent(sent) = event { Some(sent) } else { None }).await;
    assert_eq!((sent.key.as_str(), sent.seq), ("k1", 1));
    let batch = bob.until(|event| if let Event::Batch(batch) = event { Some(batch) } else { None }).await;
    assert_eq!(batch.entries.len(), 1);
}

#[tokio::test]
async fn a_message_survives_kill() {
    let folder = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    let secret = format!("k1:{SECRET}");
    let env = [("HONGYAN_TOKENS_HS256", secret.as_str())];
    let conversation = direct("alice", "bob");
    for round in 1..=3 {
        let mut relay = Relay::start_in(folder.clone(), &[], &env);
        let mut alice = relay.sign_in("alice", "a1").await;
        alice.say(&conversation, &format!("k{round}"), "kept").await;
        let sent = alice.until(|event| if let Event::Sent(sent) = event { Some(sent) } else { None }).await;
        assert_eq!(sent.seq, round);
        relay.child.kill().unwrap();
        relay.wait();
    }
}

#[tokio::test]
async fn text_and_oversized_frames_end_the_connection_with_a_reason() {
    let relay = Relay::start(&[]);
    let mut other = relay.sign_in("bob", "b1").await;
    let too_large = vec![0u8; CLIENT_FRAME_BYTES_MAX + 1];
    let huge = vec![0u8; 3 * 1024 * 1024];
    for (what, message) in [
        ("text", Message::text("{}")),
        ("too large", Message::Binary(too_large.into())),
        ("huge", Message::Binary(huge.into())),
        ("no frame", Message::Binary(vec![0xff; 10].into())),
    ] {
        let mut client = relay.connect().await;
        // It may end while the rest of a huge one is still being sent.
        let _ = client.socket.send(message).await;
        assert_eq!(client.closed().await, (4300, Code::BAD_FRAME.sentence().into()), "{what}");
    }
    // Others noticed nothing.
    other.say(&direct("bob", "bob"), "k", "still here").await;
    other.until(|event| matches!(event, Event::Sent(_)).then_some(())).await;
}

#[tokio::test]
async fn bytes_that_are_no_websocket_end_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let relay = Relay::start(&[]);
    for bytes in [
        // Unmasked; a reserved opcode; reserved bits; a fragmented ping; a 2^63 length.
        vec![0x82, 0x01, 0x00],
        vec![0x83, 0x80, 0, 0, 0, 0],
        vec![0xf2, 0x80, 0, 0, 0, 0],
        vec![0x09, 0x80, 0, 0, 0, 0],
        vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    ] {
        let client = relay.connect().await;
        let mut stream = client.socket.into_inner();
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(server_process::PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{bytes:x?}");
    }
    assert_eq!(relay.get("/healthz", &[]).status, 200);
}

#[tokio::test]
async fn a_normal_close_is_answered() {
    let relay = Relay::start(&[]);
    let mut client = relay.sign_in("alice", "a1").await;
    client.socket.close(None).await.unwrap();
    let begun = std::time::Instant::now();
    while let Some(Ok(_)) = client.next().await {}
    assert!(begun.elapsed().as_secs() < 2);
}

#[tokio::test]
async fn tokens_open_what_they_are_for_and_nothing_else() {
    let public = format!("e1:{ED_PUBLIC}");
    let old = "Zk9qWv3XyRt6LmN1cHs8JdPb5FgT0uEa7KoQ2iYw";
    let secrets = format!("k1:{SECRET},old:{old}");
    let relay = Relay::start(&[
        ("HONGYAN_TOKENS_HS256", &secrets),
        ("HONGYAN_TOKENS_EDDSA", &public),
        ("HONGYAN_TIMERS_HELLO_MS", "5000"),
    ]);
    let seed = [PKCS8_HEAD.as_slice(), &[7; 32]].concat();
    let ed = EncodingKey::from_ed_der(&seed);
    let stranger = EncodingKey::from_ed_der(&[PKCS8_HEAD.as_slice(), &[8; 32]].concat());
    let now = now_seconds();
    let good = format!(r#"{{"sub":"alice","exp":{}}}"#, now + 600);
    let hs = |key: &str| EncodingKey::from_secret(key.as_bytes());
    // What an attacker has who knows the public key, and hopes that it is used as a secret.
    let confused = hs(ED_PUBLIC);
    let b64 = |text: &str| {
        // Base64 without padding, in the alphabet of URLs.
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut out = String::new();
        for chunk in text.as_bytes().chunks(3) {
            let bits =
                chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for at in 0..=chunk.len() {
                out.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
            }
        }
        out
    };
    let none = format!("{}.{}.", b64(r#"{"alg":"none","typ":"JWT"}"#), b64(&good));
    let valid = sign_hs256("k1", SECRET, &good);
    let parts: Vec<&str> = valid.split('.').collect();
    let promoted = format!("{}.{}.{}", parts[0], b64(&good.replace("alice", "admin")), parts[2]);
    let relabelled =
        format!("{}.{}.{}", b64(r#"{"alg":"EdDSA","kid":"k1","typ":"JWT"}"#), parts[1], parts[2]);

    let invalid = Code::TOKEN_INVALID.0;
    for (what, token, code) in [
        ("good", valid.clone(), 0),
        ("an older key", sign_hs256("old", old, &good), 0),
        ("no key id", sign(Algorithm::HS256, None, &hs(SECRET), &good), 0),
        ("no key id, the older key", sign(Algorithm::HS256, None, &hs(old), &good), 0),
        ("EdDSA", sign(Algorithm::EdDSA, Some("e1"), &ed, &good), 0),
        ("EdDSA, no key id", sign(Algorithm::EdDSA, None, &ed, &good), 0),
        ("a time with a fraction", sign_hs256("k1", SECRET, &good.replace('}', ".5}")), 0),
        ("forged", sign_hs256("k1", old, &good), invalid),
        ("an unknown key id", sign_hs256("k9", SECRET, &good), invalid),
        ("a stranger's EdDSA", sign(Algorithm::EdDSA, Some("e1"), &stranger, &good), invalid),
        ("the public key as secret", sign(Algorithm::HS256, Some("e1"), &confused, &good), invalid),
        ("EdDSA under a secret's id", sign(Algorithm::EdDSA, Some("k1"), &ed, &good), invalid),
        ("HS512", sign(Algorithm::HS512, Some("k1"), &hs(SECRET), &good), invalid),
        ("none", none, invalid),
        ("another payload", promoted, invalid),
        ("another header", relabelled, invalid),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), invalid),
        ("empty", String::new(), invalid),
        ("no token", "alice".into(), invalid),
        ("too long", format!("{valid}{}", "A".repeat(9_000)), invalid),
        ("no exp", sign_hs256("k1", SECRET, r#"{"sub":"alice"}"#), invalid),
        ("exp as text", sign_hs256("k1", SECRET, r#"{"sub":"alice","exp":"never"}"#), invalid),
        ("a negative exp", sign_hs256("k1", SECRET, r#"{"sub":"alice","exp":-1}"#), invalid),
        ("no sub", sign_hs256("k1", SECRET, &format!(r#"{{"exp":{}}}"#, now + 600)), invalid),
        ("an empty sub", sign_hs256("k1", SECRET, &good.replace("alice", "")), invalid),
        (
            "not yet valid",
            sign_hs256("k1", SECRET, &good.replace('}', &format!(r#","nbf":{}}}"#, now + 300))),
            invalid,
        ),
        ("for an audience", sign_hs256("k1", SECRET, &good.replace('}', r#","aud":"shop"}"#)), invalid),
        (
            "expired",
            sign_hs256("k1", SECRET, &format!(r#"{{"sub":"alice","exp":{}}}"#, now - 60)),
            Code::TOKEN_EXPIRED.0,
        ),
        (
            "another user's",
            sign_hs256("k1", SECRET, &good.replace("alice", "mallory")),
            Code::TOKEN_USER_MISMATCH.0,
        ),
    ] {
        let mut client = relay.connect().await;
        client.hello(&token, "alice", "a1").await;
        if code == 0 {
            client.welcomed(what).await;
        } else {
            assert_eq!(client.closed().await.0, code, "{what}");
        }
    }

    let logged = relay.logged();
    for part in parts {
        assert!(!logged.contains(part), "{logged}");
    }
}

#[tokio::test]
async fn an_audience_is_demanded_when_configured() {
    let relay = Relay::start(&[("HONGYAN_TOKENS_AUDIENCE", "chat")]);
    let good = format!(r#"{{"sub":"alice","exp":{},"aud":"chat"}}"#, now_seconds() + 600);
    for (claims, opens) in [
        (good.clone(), true),
        (good.replace("\"chat\"", "[\"shop\",\"chat\"]"), true),
        (good.replace("\"chat\"", "\"shop\""), false),
        (good.replace(",\"aud\":\"chat\"", ""), false),
    ] {
        let mut client = relay.connect().await;
        client.hello(&sign_hs256("k1", SECRET, &claims), "alice", "a1").await;
        if opens {
            client.welcomed(&claims).await;
        } else {
            assert_eq!(client.closed().await.0, Code::TOKEN_INVALID.0, "{claims}");
        }
    }
}

#[tokio::test]
async fn no_body_token_or_address_reaches_the_log() {
    let mut relay = Relay::start(&[("HONGYAN_LOG", "trace")]);
    let body = "kiwi-lantern-7319";
    let mut alice = relay.sign_in("alice-xq", "a1").await;
    alice.say(&direct("alice-xq", "bob"), "k1", body).await;
    alice.until(|event| matches!(event, Event::Sent(_)).then_some(())).await;
    let mut forger = relay.connect().await;
    forger.hello(&format!("{}x", token("alice-xq")), "alice-xq", "a1").await;
    forger.closed().await;
    let _ = relay.ask_for_socket(&[("x-forwarded-for", "198.51.100.77"), ("origin", "http://evil.example")]);
    drop(alice);
    relay.signal("-TERM");
    assert_eq!(relay.wait(), Some(0));
    let token = token("alice-xq");
    let logged = relay.logged();
    assert!(logged.contains("The relay has stopped."), "{logged}");
    for private in [body, "198.51.100.77", "127.0.0.1", SECRET, token.split('.').nth(1).unwrap()] {
        assert!(!logged.contains(private), "{private} in {logged}");
    }
}

#[tokio::test]
async fn a_silent_connection_is_ended_by_the_hello_timer() {
    let relay = Relay::start(&[("HONGYAN_TIMERS_HELLO_MS", "200")]);
    let mut client = relay.connect().await;
    assert_eq!(client.closed().await.0, Code::HELLO_TIMED_OUT.0);
}

#[tokio::test]
async fn a_slow_reader_is_let_go_and_resumes() {
    let relay = Relay::start(&[("HONGYAN_TIMERS_STALLED_MS", "500"), ("HONGYAN_LOG", "warn")]);
    let conversation = direct("alice", "bob");
    let bob = relay.sign_in("bob", "b1").await;
    let mut alice = relay.sign_in("alice", "a1").await;
    // Far more than the system's buffers between the two hold.
    let count = 180;
    let body = "x".repeat(60_000);
    for n in 0..count {
        alice.say(&conversation, &format!("k{n}"), &body).await;
    }
    let mut sent = 0;
    while sent < count {
        alice.until(|event| matches!(event, Event::Sent(_)).then_some(())).await;
        sent += 1;
    }
    // Bob read nothing meanwhile. His place comes free though his side never closed.
    let mut bob = bob;
    tokio::time::sleep(std::time::Duration::from_millis(500 + 3_000 + 1_500)).await;
    let mut received = 0;
    let mut code = None;
    while let Some(Ok(message)) = bob.next().await {
        match message {
            Message::Binary(bytes) => received += bytes.len(),
            Message::Close(frame) => code = frame.map(|frame| u16::from(frame.code)),
            _ => {}
        }
    }
    assert!(received < count * body.len(), "it was never slow");
    assert!(code.is_none_or(|code| code == Code::SLOW_READER.0), "{code:?}");
    // From his cursor he gets everything, once.
    let mut bob = relay.sign_in("bob", "b1").await;
    let mut positions = Vec::new();
    while positions.len() < count {
        let batch = bob.until(|event| if let Event::Batch(batch) = event { Some(batch) } else { None }).await;
        positions.extend(batch.entries.iter().map(|entry| entry.pos));
        let cursor = *positions.last().unwrap();
        bob.send(Verb::Ack(wire::Ack { cursor })).await;
    }
    assert!(positions.windows(2).all(|pair| pair[0] + 1 == pair[1]) && positions[0] == 1);
}
