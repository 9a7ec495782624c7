//! Connections that say hello as somebody they are not, say it wrongly, twice, or not at all.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, ResetCause, client_frame::Verb};
use hongyan_tests::tokens::{KEY_ID, SECRET, seconds_now, sign};
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::kinds::{Kind, Outcome, What, after, asked, end_of, hello_of, kind, play};
use crate::raw::{BINARY, Heard, Peer, frame, hello, verb_bytes, wire_bytes};
use crate::scene::{ED_PUBLIC, Scene, expired_token, good_token};

/// The relay of these rows waits so long for a hello.
pub(crate) const HELLO_MS: &str = "700";
/// … and lets a user have so many connections.
pub(crate) const OF_USER_MAX: usize = 60;

/// A secret of somebody else.
const OTHER_SECRET: &str = "Zk9qWv3XyRt6LmN1cHs8JdPb5FgT0uEa7KoQ2iYw";

/// A token of a key that the relay does not have.
pub(crate) fn forged_token(user: &str) -> String {
    sign(Algorithm::HS256, Some(KEY_ID), OTHER_SECRET, &json!({ "sub": user, "exp": seconds_now() + 600 }))
}

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

pub(crate) fn kinds() -> Vec<Kind> {
    let mut all = tokens();
    all.extend(hellos());
    all
}

fn tokens() -> Vec<Kind> {
    let (user, exp) = ("mallory", seconds_now() + 600);
    let good = good_token(user);
    let [header, claims, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let own = |kid, claims| sign(Algorithm::HS256, Some(kid), SECRET, &claims);
    let claim = json!({ "sub": user, "exp": exp });
    let none = part(&json!({ "alg": "none", "typ": "JWT" }).to_string());
    let ed = part(&json!({ "alg": "EdDSA", "kid": KEY_ID, "typ": "JWT" }).to_string());
    let confused = sign(Algorithm::HS256, Some("e1"), ED_PUBLIC, &claim);
    let raw = base64::engine::general_purpose::STANDARD.decode(ED_PUBLIC).unwrap();
    let confused_raw = {
        let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
        header.kid = Some("e1".into());
        jsonwebtoken::encode(&header, &claim, &jsonwebtoken::EncodingKey::from_secret(&raw)).unwrap()
    };
    let admin = part(&json!({ "sub": "alice", "exp": exp }).to_string());
    let invalid = Outcome::End(Code::TOKEN_INVALID);
    let row = |name, token: String, expected| kind(name, hello_of(|hello| hello.token = token), expected);
    vec![
        row("a forged token", forged_token(user), invalid),
        row("an unsigned token", format!("{none}.{claims}."), invalid),
        row(
            "a token whose algorithm is none, with a signature",
            format!("{none}.{claims}.{signature}"),
            invalid,
        ),
        row("the public key, as text, for a secret", confused, invalid),
        row("the public key, as bytes, for a secret", confused_raw, invalid),
        row("a secret's token that says it is EdDSA's", format!("{ed}.{claims}.{signature}"), invalid),
        row("a token of an unknown key", own("k9", claim.clone()), invalid),
        row("a token of a longer hash", sign(Algorithm::HS512, Some(KEY_ID), SECRET, &claim), invalid),
        row("a token with other claims", format!("{header}.{admin}.{signature}"), invalid),
        row("a token without its signature", format!("{header}.{claims}."), invalid),
        row("a token without an end", own(KEY_ID, json!({ "sub": user })), invalid),
        row(
            "a token that is not valid yet",
            own(KEY_ID, json!({ "sub": user, "exp": exp, "nbf": exp })),
            invalid,
        ),
        row(
            "a token for another audience",
            own(KEY_ID, json!({ "sub": user, "exp": exp, "aud": "shop" })),
            invalid,
        ),
        row("a token for nobody", own(KEY_ID, json!({ "sub": "", "exp": exp })), invalid),
        row("no token", String::new(), invalid),
        row("dots", "..".into(), invalid),
        row("a token of 9 KB", format!("{good}{}", "A".repeat(9_000)), invalid),
        row("an expired token", expired_token(user), Outcome::End(Code::TOKEN_EXPIRED)),
        row("another user's token", good_token("bob"), Outcome::End(Code::TOKEN_USER_MISMATCH)),
        kind("renewal with a forged token", renew(forged_token(user)), invalid),
        kind("renewal with an expired token", renew(expired_token(user)), Outcome::End(Code::TOKEN_EXPIRED)),
        kind(
            "renewal with another user's token",
            renew(good_token("bob")),
            Outcome::End(Code::TOKEN_USER_MISMATCH),
        ),
        kind("a token that ends while connected", play!(outlived), Outcome::Close(Code::TOKEN_EXPIRED)),
    ]
}

fn renew(token: String) -> What {
    What::Ask("mallory", Verb::Renew(wire::Renew { token }))
}

fn hellos() -> Vec<Kind> {
    let bad = Outcome::End(Code::BAD_REQUEST);
    let row = |name, change: fn(&mut wire::Hello), expected| kind(name, hello_of(change), expected);
    let expected = Outcome::End(Code::HELLO_EXPECTED);
    let good = || Verb::Hello(hello("mallory", good_token("mallory")));
    let mut bytes = wire_bytes(1, good());
    bytes.truncate(bytes.len() / 2);
    let at_name = wire_bytes(1, good()).windows(7).position(|at| at == b"mallory").unwrap();
    let mut no_text = wire_bytes(1, good());
    no_text[at_name] = 0xff;
    let mut other = good();
    if let Verb::Hello(hello) = &mut other {
        hello.version = 9;
    }
    vec![
        row("a version of the past", |hello| hello.version = 0, Outcome::End(Code::VERSION_UNSUPPORTED)),
        row(
            "a version of the future",
            |hello| hello.version = u32::MAX,
            Outcome::End(Code::VERSION_UNSUPPORTED),
        ),
        row("no user", |hello| hello.user.clear(), bad),
        row("a user of 129 bytes", |hello| hello.user = "u".repeat(129), bad),
        row("a user with control characters", |hello| hello.user = "mal\nlory".into(), bad),
        row("no device", |hello| hello.device.clear(), bad),
        row("a device of 129 bytes", |hello| hello.device = "d".repeat(129), bad),
        row("a device with control characters", |hello| hello.device = "d\0".into(), bad),
        row("an agent of 129 bytes", |hello| hello.agent = "a".repeat(129), bad),
        row("an epoch of 129 bytes", |hello| hello.epoch = "e".repeat(129), bad),
        row("a device of a kind that is none", |hello| hello.device_kind = -5, Outcome::Works),
        row(
            "an unknown epoch",
            |hello| hello.epoch = "of another life".into(),
            Outcome::Reset(ResetCause::EpochUnknown.into()),
        ),
        row(
            "a cursor without an epoch",
            |hello| hello.cursor = 3,
            Outcome::Reset(ResetCause::EpochUnknown.into()),
        ),
        kind(
            "a cursor ahead of the head",
            play!(cursor_ahead),
            Outcome::Reset(ResetCause::CursorAhead.into()),
        ),
        kind("no hello in time", What::Before(Vec::new()), Outcome::Close(Code::HELLO_TIMED_OUT)),
        kind(
            "half a hello in time",
            What::Before(verb_bytes(1, good())[..20].to_vec()),
            Outcome::Close(Code::HELLO_TIMED_OUT),
        ),
        kind("pings instead of hello", play!(pings_instead), Outcome::Close(Code::HELLO_TIMED_OUT)),
        kind(
            "a request before hello",
            What::Before(verb_bytes(1, Verb::Ping(wire::Ping { nonce: 1 }))),
            expected,
        ),
        kind("an empty frame before hello", What::Before(frame(BINARY, &[])), expected),
        kind("a hello cut short", What::Before(frame(BINARY, &bytes)), Outcome::Close(Code::BAD_FRAME)),
        kind(
            "a hello whose user is no UTF-8",
            What::Before(frame(BINARY, &no_text)),
            Outcome::Close(Code::BAD_FRAME),
        ),
        kind("a second hello", What::After(verb_bytes(8, good())), expected),
        kind(
            "a second hello as somebody else",
            What::After(verb_bytes(8, Verb::Hello(hello("bob", good_token("bob"))))),
            expected,
        ),
        kind("1,000 hellos at once", What::Before(verb_bytes(1, good()).repeat(1_000)), expected),
        kind(
            "1,000 bad hellos at once",
            What::Before(verb_bytes(1, other).repeat(1_000)),
            Outcome::End(Code::VERSION_UNSUPPORTED),
        ),
        kind(
            "more connections than a user may have",
            play!(too_many),
            Outcome::End(Code::TOO_MANY_CONNECTIONS),
        ),
    ]
}

async fn outlived(scene: &Scene) -> Outcome {
    let user = hongyan_protocol::UserId::new("mallory").unwrap();
    let token = hongyan_tests::tokens::token_until(&user, seconds_now() + 2);
    let mut peer = Peer::welcomed(scene.address(), hello("mallory", token)).await;
    end_of(&mut peer).await
}

async fn cursor_ahead(scene: &Scene) -> Outcome {
    let mut peer = Peer::open(scene.address()).await;
    let epoch = peer.say_hello(hello("mallory", good_token("mallory"))).await.epoch;
    let mut peer = Peer::open(scene.address()).await;
    let ahead = wire::Hello { epoch, cursor: u64::MAX, ..hello("mallory", good_token("mallory")) };
    peer.say_hello(ahead).await;
    after(&mut peer).await
}

/// Pings prove a living host, not a client.
async fn pings_instead(scene: &Scene) -> Outcome {
    let mut peer = Peer::open(scene.address()).await;
    loop {
        peer.write(&frame(crate::raw::PING, b"still here")).await;
        match peer.hear().await {
            Heard::Pong => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Heard::Close(code) => return Outcome::Close(Code(code)),
            other => panic!("{other:?}"),
        }
    }
}

/// The bound is met exactly, the others stay, and a place that came free is given again.
async fn too_many(scene: &Scene) -> Outcome {
    let mut open = Vec::new();
    for _ in 0..OF_USER_MAX {
        open.push(scene.user("crowd").await);
    }
    let mut peer = Peer::open(scene.address()).await;
    let request = peer.ask(Verb::Hello(hello("crowd", good_token("crowd")))).await;
    let outcome = asked(&mut peer, request).await;
    for peer in &mut open {
        assert_eq!(after(peer).await, Outcome::Works, "the others stay");
    }
    let mut first = open.swap_remove(0);
    first.ask(Verb::Bye(wire::Bye::default())).await;
    assert_eq!(first.closed().await, 1000);
    scene.user("crowd").await;
    outcome
}
