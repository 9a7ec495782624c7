//! The goodbye besides the socket: who is answered what, and what a watcher sees.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod server_process;

use hongyan_protocol::limits::BEACON_BYTES_MAX;
use hongyan_protocol::wire::{self, PresenceStatus, client_frame::Verb, relay_frame::Event};
use hongyan_protocol::{ConversationId, UserId};
use prost::Message as _;
use server_process::{Answer, Client, Relay, token};

fn post(relay: &Relay, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let length = body.len().to_string();
    let mut all = vec![("content-length", length.as_str())];
    all.extend_from_slice(headers);
    relay.request_with("POST", "/bye", &all, body)
}

#[test]
fn whatever_is_small_enough_is_taken_and_nobody_learns_whether_it_was_of_use() {
    let relay = Relay::start(&[("HONGYAN_ALLOWED_ORIGINS", "https://app.example.com")]);
    let beacon = wire::Beacon { ticket: vec![7; 40].into(), bye: Some(wire::Bye::default()) }.encode_to_vec();
    for body in [&[][..], b"goodbye", &[0xff; BEACON_BYTES_MAX], &beacon] {
        for headers in [
            &[][..],
            &[("content-type", "text/plain;charset=UTF-8")],
            &[("content-type", "application/octet-stream"), ("origin", "https://app.example.com")],
        ] {
            let answer = post(&relay, headers, body);
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{headers:?}");
        }
    }
    for (headers, size, status, word) in [
        (&[][..], BEACON_BYTES_MAX + 1, 413, "256 bytes"),
        (&[("origin", "https://evil.example.com")], 1, 403, "allowed_origins"),
        (&[("origin", "null")], 1, 403, "allowed_origins"),
    ] {
        let answer = post(&relay, headers, &vec![0; size]);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(word), "{}", answer.body);
    }
    for method in ["GET", "PUT", "OPTIONS"] {
        let answer = relay.request(method, "/bye", &[]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
        assert!(answer.body.contains("POST"));
    }
    // Without a length, more than may come.
    let chunked = format!("200\r\n{}\r\n0\r\n\r\n", "x".repeat(0x200));
    let answer = relay.request_with("POST", "/bye", &[("transfer-encoding", "chunked")], chunked.as_bytes());
    assert_eq!(answer.status, 413);
}

async fn presence(watcher: &mut Client) -> PresenceStatus {
    watcher.until(|event| if let Event::Presence(is) = event { Some(is.status()) } else { None }).await
}

#[tokio::test]
async fn a_beacon_tells_the_watchers_and_ends_the_connection() {
    let relay = Relay::start(&[]);
    let mut bob = relay.sign_in("bob", "b1").await;
    let alice = UserId::new("alice").unwrap();
    let conversation = ConversationId::direct(&alice, &UserId::new("bob").unwrap());
    bob.say(conversation.as_str(), "k1", "hello").await;
    bob.until(|event| matches!(event, Event::Sent(_)).then_some(())).await;
    bob.send(Verb::Watch(wire::Watch { users: vec!["alice".into()] })).await;
    bob.until(|event| matches!(event, Event::Watched(_)).then_some(())).await;

    let mut client = relay.connect().await;
    client.hello(&token("alice"), "alice", "a1").await;
    let ticket = client.welcomed("alice").await.bye_ticket;
    assert!(presence(&mut bob).await == PresenceStatus::Online);
    let bye = Some(wire::Bye { logout: false, returns_in_ms: 500, returns: false });
    let body = wire::Beacon { ticket, bye }.encode_to_vec();
    let say_goodbye = || {
        let answer = post(&relay, &[("content-type", "text/plain;charset=UTF-8")], &body);
        assert_eq!(answer.status, 204);
    };
    say_goodbye();
    assert!(presence(&mut bob).await == PresenceStatus::Leaving);
    assert_eq!(client.closed().await.0, 1000);
    say_goodbye();
    assert!(presence(&mut bob).await == PresenceStatus::Offline);
    // It ends no later connection.
    let mut client = relay.sign_in("alice", "a1").await;
    assert!(presence(&mut bob).await == PresenceStatus::Online);
    say_goodbye();
    client.send(Verb::Ping(wire::Ping { nonce: 1 })).await;
    client.until(|event| matches!(event, Event::Pong(_)).then_some(())).await;
    // Nothing of it is in the log.
    assert!(!relay.logged().contains("alice"), "{}", relay.logged());
}
