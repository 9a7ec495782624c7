//! The API of the app's own servers, over HTTP against the real program.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod server_process;

use std::collections::BTreeSet;
use std::sync::Arc;

use hongyan_protocol::Code;
use hongyan_protocol::wire::{self, client_frame::Verb, relay_frame::Event};
use serde_json::{Value, json};
use server_process::{Answer, Client, Relay, SECRET, now_seconds, program, run, sign_hs256, text, token};
use tempfile::TempDir;

/// Chance enough for the checks of strength; used by nothing but these tests.
const API_SECRET: &str = "b8nVqYx3TzRk7WpLd2FhGm9CsJtEu4Aa6BvNcMiQ";

fn start() -> Relay {
    Relay::start(&[("HONGYAN_API_KEYS", &format!("app:{API_SECRET}"))])
}

/// One request with the key.
fn ask_with(relay: &Relay, method: &str, path: &str, body: &str) -> Answer {
    let key = format!("Bearer {API_SECRET}");
    let length = body.len().to_string();
    relay.request_with(method, path, &[("authorization", &key), ("content-length", &length)], body.as_bytes())
}

fn ask(relay: &Relay, method: &str, path: &str) -> Answer {
    ask_with(relay, method, path, "")
}

fn body(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.body);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    serde_json::from_str(&answer.body).unwrap()
}

/// The body of what went well.
#[track_caller]
fn done(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    body(answer)
}

/// Its status and code; the sentence is there.
#[track_caller]
fn refused(answer: &Answer) -> (u16, String) {
    let error = body(answer);
    assert!(!error["message"].as_str().unwrap().is_empty());
    assert_eq!(error.as_object().unwrap().len(), 2);
    (answer.status, error["code"].as_str().unwrap().to_owned())
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(refused(answer), (status, code.to_owned()), "{}", answer.body);
}

async fn closed_with(client: &mut Client, code: Code) {
    assert_eq!(client.closed().await.0, code.0);
}

/// A hello that is refused with this code.
async fn hello_refused(relay: &Relay, token: &str, user: &str, device: &str, code: Code) {
    let mut client = relay.connect().await;
    client.hello(token, user, device).await;
    let Some(Event::Reject(reject)) = client.frame().await.event else { panic!("it was let in") };
    assert_eq!(reject.code, u32::from(code.0));
    closed_with(&mut client, code).await;
}

#[tokio::test]
async fn presence_is_told() {
    let relay = start();
    let begun = now_seconds() * 1_000;
    let _alice = relay.sign_in("alice", "browser").await;
    let _too = relay.sign_in("alice", "phone").await;
    let answer = done(&ask(&relay, "GET", "/api/v1/presence?user=alice&user=bob%20%2F%E9%B8%BF"));
    let presence = answer["presence"].as_array().unwrap();
    assert_eq!(presence.len(), 2);
    assert_eq!((&presence[0]["user"], &presence[0]["status"]), (&json!("alice"), &json!("online")));
    assert!(presence[0]["since"].as_u64().unwrap() >= begun);
    let device = &presence[0]["devices"][1];
    assert_eq!((&device["kind"], &device["status"]), (&json!("web"), &json!("online")));
    assert!(presence[0].get("cause").is_none() && presence[0].get("until").is_none());
    assert_eq!((&presence[1]["user"], &presence[1]["devices"]), (&json!("bob /鸿"), &json!([])));

    for (query, what) in [
        ("", "nobody named"),
        ("?user=", "an empty id"),
        ("?user=a%00", "a control character"),
        ("?users=alice", "a name that is wrong"),
        ("?user=alice&device=phone", "one name too many"),
        (&format!("?{}", vec!["user=a"; 201].join("&")), "too many"),
    ] {
        assert_eq!(refused(&ask(&relay, "GET", &format!("/api/v1/presence{query}"))).0, 400, "{what}");
    }
    let most = format!("/api/v1/presence?{}", vec!["user=a"; 200].join("&"));
    assert_eq!(done(&ask(&relay, "GET", &most))["presence"].as_array().unwrap().len(), 200);
}

#[tokio::test]
async fn a_device_is_signed_out_from_elsewhere() {
    let relay = start();
    let mut here = relay.sign_in("alice", "here").await;
    let mut lost = relay.sign_in("alice", "lost/one").await;
    let listed = |relay: &Relay| {
        let list = done(&ask(relay, "GET", "/api/v1/users/alice/devices"));
        assert_eq!(list["user"], "alice");
        let devices = list["devices"].as_array().unwrap().iter();
        devices.map(|device| device["device"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(listed(&relay), ["here", "lost/one"].map(str::to_owned).into());
    let path = "/api/v1/users/alice/devices/lost%2Fone";
    assert_eq!(done(&ask(&relay, "DELETE", path)), json!({ "user": "alice", "device": "lost/one" }));
    closed_with(&mut lost, Code::LOGGED_OUT).await;
    assert_eq!(listed(&relay), ["here"].map(str::to_owned).into());
    done(&ask(&relay, "DELETE", path));
    hello_refused(&relay, &token("alice"), "alice", "lost/one", Code::LOGGED_OUT).await;
    let nowhere = ask(&relay, "DELETE", "/api/v1/users/alice/devices/nowhere");
    assert_refused(&nowhere, 404, "no-such-device");
    // The user's own request does the same, and the API shows it.
    relay.sign_in("alice", "third").await;
    here.send(Verb::SignOut(wire::SignOut { device: "third".into() })).await;
    let out = here.until(|event| match event {
        Event::SignedOut(out) => Some(out.device),
        _ => None,
    });
    assert_eq!(out.await, "third");
    assert_eq!(listed(&relay), ["here"].map(str::to_owned).into());

    // It is durable.
    let (folder, mut relay) = (Arc::clone(&relay.folder), relay);
    relay.signal("-KILL");
    relay.wait();
    let (tokens, keys) = (format!("k1:{SECRET}"), format!("app:{API_SECRET}"));
    let env = [("HONGYAN_TOKENS_HS256", tokens.as_str()), ("HONGYAN_API_KEYS", keys.as_str())];
    let relay = Relay::start_in(folder, &[], &env);
    hello_refused(&relay, &token("alice"), "alice", "third", Code::LOGGED_OUT).await;
}

#[tokio::test]
async fn users_and_devices_are_kicked() {
    let relay = start();
    let (mut one, mut two) = (relay.sign_in("alice", "one").await, relay.sign_in("alice", "two").await);
    let path = "/api/v1/users/alice/kick";
    let kicked = done(&ask_with(&relay, "POST", path, r#"{ "device": "one" }"#));
    assert_eq!(kicked, json!({ "user": "alice", "connections": 1 }));
    closed_with(&mut one, Code::KICKED).await;
    for bad in [r#"{ "devices": "two" }"#, r#"{ "device": 2 }"#, r#"{ "device": "" }"#, "{", "[]", "\u{0}"] {
        assert_refused(&ask_with(&relay, "POST", path, bad), 400, "bad-request");
    }
    // What was meant for one device must not hit all of them.
    assert_refused(&ask(&relay, "POST", "/api/v1/users/alice/kick?device=one"), 400, "bad-request");
    assert_eq!(done(&ask(&relay, "POST", path))["connections"], 1);
    closed_with(&mut two, Code::KICKED).await;
    assert_eq!(done(&ask(&relay, "POST", "/api/v1/users/nobody/kick"))["connections"], 0);
    relay.sign_in("alice", "one").await;
}

#[tokio::test]
async fn tokens_are_revoked() {
    let relay = start();
    let mut old = relay.sign_in("alice", "one").await;
    let mut bob = relay.sign_in("bob", "one").await;
    let issued = |at: u64| {
        let claims = format!(r#"{{"sub":"alice","iat":{at},"exp":{}}}"#, now_seconds() + 600);
        sign_hs256("k1", SECRET, &claims)
    };
    let revoked = done(&ask(&relay, "POST", "/api/v1/users/alice/revoke-tokens"));
    let (before, iat_min) =
        (revoked["revoked_before"].as_u64().unwrap(), revoked["iat_min"].as_u64().unwrap());
    assert!(before < iat_min * 1_000 && iat_min * 1_000 <= before + 1_000);
    closed_with(&mut old, Code::TOKEN_REVOKED).await;
    hello_refused(&relay, &token("alice"), "alice", "one", Code::TOKEN_REVOKED).await;
    hello_refused(&relay, &issued(iat_min - 1), "alice", "one", Code::TOKEN_REVOKED).await;
    let mut new = relay.connect().await;
    new.hello(&issued(iat_min), "alice", "one").await;
    new.welcomed("a token of later").await;
    new.send(Verb::Renew(wire::Renew { token: issued(iat_min - 1) })).await;
    closed_with(&mut new, Code::TOKEN_REVOKED).await;
    // Others are not concerned.
    bob.send(Verb::Ping(wire::Ping { nonce: 7 })).await;
    bob.until(|event| matches!(event, Event::Pong(_)).then_some(())).await;
    let odd = sign_hs256("k1", SECRET, &format!(r#"{{"sub":"bob","iat":-1,"exp":{}}}"#, now_seconds() + 60));
    hello_refused(&relay, &odd, "bob", "two", Code::TOKEN_INVALID).await;
}

#[tokio::test]
async fn one_device_of_a_kind_when_the_policy_says_so() {
    let relay = Relay::start(&[("HONGYAN_DEVICES_WEB_MAX", "1")]);
    let mut first = relay.sign_in("alice", "one").await;
    let _second = relay.sign_in("alice", "two").await;
    closed_with(&mut first, Code::SUPERSEDED).await;
}

#[test]
fn only_a_key_opens_it() {
    let relay = start();
    let paths =
        ["/api/v1/presence?user=alice", "/api/v1/users/alice/devices", "/api", "/api/v1/nothing-here"];
    for (name, value) in [
        ("accept", "*/*".to_owned()),
        ("authorization", "Bearer".to_owned()),
        ("authorization", format!("Bearer {API_SECRET}x")),
        ("authorization", format!("Bearer app:{API_SECRET}")),
        ("authorization", format!("Basic {API_SECRET}")),
        ("authorization", format!("Bearer {SECRET}")),
        ("authorization", format!("Bearer {}", token("alice"))),
    ] {
        for path in paths {
            let answer = relay.get(path, &[(name, &value)]);
            assert_refused(&answer, 401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    let path = "/api/v1/users/alice/kick";
    assert_refused(&relay.request("POST", path, &[]), 401, "unauthorized");
    for path in ["/api", "/api/", "/api/v1/nothing-here", "/api/v1/users/alice/devices/a/b"] {
        assert_eq!(refused(&ask(&relay, "GET", path)).0, 404, "{path}");
    }
    assert_refused(&ask(&relay, "POST", "/api/v1/users//kick"), 400, "bad-request");
    let wrong = ask(&relay, "DELETE", "/api/v1/presence?user=alice");
    assert_refused(&wrong, 405, "method-not-allowed");
    assert!(wrong.header("allow").is_some_and(|allowed| allowed.contains("GET")));
    assert_refused(&ask(&relay, "GET", "/api/v1/users/%FF/devices"), 400, "bad-request");
    let long = format!("/api/v1/users/{}/devices", "x".repeat(129));
    assert_refused(&ask(&relay, "GET", &long), 400, "bad-request");
    assert_refused(&ask_with(&relay, "POST", path, &"x".repeat(4_097)), 413, "too-large");
}

#[test]
fn without_keys_there_is_no_api() {
    for relay in [Relay::start(&[]), Relay::start_dev()] {
        for path in ["/api/v1/presence?user=alice", "/api/v1/openapi.json", "/api"] {
            let answer = relay.get(path, &[("authorization", &format!("Bearer {API_SECRET}"))]);
            assert_refused(&answer, 404, "not-found");
            assert!(answer.body.contains("api.keys"));
        }
    }
    // A key is needed in development mode too, and opens it there.
    let keys = format!("app:{API_SECRET}");
    let folder = Arc::new(TempDir::new().unwrap());
    let relay = Relay::start_in(folder, &["--dev"], &[("HONGYAN_API_KEYS", &keys)]);
    assert_eq!(relay.get("/api/v1/presence?user=alice", &[]).status, 401);
    done(&ask(&relay, "GET", "/api/v1/presence?user=alice"));
}

#[test]
fn weak_keys_are_refused_before_anything_is_served() {
    let tokens = format!("k1:{SECRET}");
    for (keys, problem) in [
        ("app:short", "5 bytes"),
        ("app:abababababababababababababababababab", "can be guessed"),
        ("nocolonhereatallnocolonhereatallnocolon", "without a colon"),
        (&format!("app:{API_SECRET},app:{API_SECRET}"), "have the id app"),
    ] {
        let env = [("HONGYAN_TOKENS_HS256", tokens.as_str()), ("HONGYAN_API_KEYS", keys)];
        for args in [&["config", "check"][..], &["serve", "--listen", "127.0.0.1:0"][..]] {
            let output = run(args, &env);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains("`api.keys`") && said.contains(problem), "{said}");
            assert!(!said.contains(API_SECRET) && !said.contains("abababab"), "{said}");
        }
    }
    let env = [("HONGYAN_API_KEYS", &format!("app:{API_SECRET}"))];
    let shown = program().args(["config", "show"]).envs(env).output().unwrap();
    let shown = text(&shown.stdout);
    assert!(shown.contains(r#"["app:***"]"#) && !shown.contains(API_SECRET), "{shown}");
}

#[tokio::test]
async fn groups_are_made_filled_and_set() {
    let relay = start();
    let group = done(&ask_with(
        &relay,
        "POST",
        "/api/v1/groups",
        r#"{ "title": "雁", "owner": "alice", "members": ["bob"], "diffusion": "log" }"#,
    ));
    assert_eq!(
        (&group["members"], &group["by_log"], &group["owner"]),
        (&json!(2), &json!(true), &json!("alice"))
    );
    let path = format!("/api/v1/groups/{}", group["group"].as_str().unwrap());
    let users: Vec<String> = (0..1_000).map(|n| format!("user-{n:04}-{}", "x".repeat(100))).collect();
    let filled =
        done(&ask_with(&relay, "POST", &format!("{path}/members"), &json!({ "users": users }).to_string()));
    assert_eq!(filled["members"], 1_002);
    let again =
        done(&ask_with(&relay, "POST", &format!("{path}/members"), &json!({ "users": users }).to_string()));
    assert_eq!((&again["members"], &again["version"]), (&filled["members"], &filled["version"]));
    let page = done(&ask(&relay, "GET", &format!("{path}/members?limit=2&after=alice")));
    assert_eq!((&page["members"], &page["more"]), (&json!(["bob", users[0]]), &json!(true)));
    let gone = done(&ask(&relay, "DELETE", &format!("{path}/members?user=bob&user=nobody")));
    assert_eq!(gone["members"], 1_001);
    let set = done(&ask_with(&relay, "PATCH", &path, r#"{ "diffusion": "reference" }"#));
    assert_eq!((&set["diffusion"], &set["by_log"]), (&json!("reference"), &json!(false)));
    assert_eq!(done(&ask(&relay, "GET", &path)), set);

    let too_many: Vec<_> = (0..1_001).map(|n| n.to_string()).collect();
    for (method, target, body, status, code) in [
        ("GET", "/api/v1/groups/nowhere", "".to_owned(), 404, "no-such-group"),
        ("GET", "/api/v1/groups/~5.alice.bob", String::new(), 404, "no-such-group"),
        ("POST", "/api/v1/groups", String::new(), 400, "bad-request"),
        ("POST", "/api/v1/groups", r#"{ "title": "", "owner": "alice" }"#.into(), 400, "bad-request"),
        ("POST", "/api/v1/groups", r#"{ "title": "x", "owner": "" }"#.into(), 400, "bad-request"),
        ("PATCH", path.as_str(), r#"{ "diffusion": "loud" }"#.into(), 400, "bad-request"),
        ("POST", &format!("{path}/members"), json!({ "users": too_many }).to_string(), 400, "bad-request"),
        ("GET", &format!("{path}/members?limit=0"), String::new(), 400, "bad-request"),
        ("GET", &format!("{path}/members?limit=1&limit=2"), String::new(), 400, "bad-request"),
    ] {
        assert_refused(&ask_with(&relay, method, target, &body), status, code);
    }
}

#[tokio::test]
async fn the_document_tells_what_there_is() {
    let relay = start();
    // Without a key: it tells nothing of users.
    let document = done(&relay.get("/api/v1/openapi.json", &[]));
    assert_eq!(document["openapi"], "3.1.0");
    let _alice = relay.sign_in("alice", "one").await;
    let (mut seen, mut group) = (0, String::new());
    let bodies = [
        ("post /api/v1/groups", r#"{ "title": "Geese", "owner": "alice" }"#),
        ("patch /api/v1/groups/{group}", r#"{ "diffusion": "log" }"#),
        ("post /api/v1/groups/{group}/members", r#"{ "users": ["bob", "carol"] }"#),
    ];
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            seen += 1;
            let mut real =
                path.replace("{user}", "alice").replace("{device}", "one").replace("{group}", &group);
            for parameter in operation["parameters"].as_array().unwrap() {
                if parameter["in"] == "query" && parameter["required"] == true {
                    real.push_str(&format!("?{}=alice", parameter["name"].as_str().unwrap()));
                }
            }
            // Reads come first, so that there is something to read.
            let at = format!("{method} {path}");
            let body = bodies.iter().find(|(of, _)| *of == at).map_or("", |(_, body)| *body);
            assert_eq!(operation["requestBody"]["required"] == true, !body.is_empty(), "{at}");
            let answer = done(&ask_with(&relay, &method.to_uppercase(), &real, body));
            if let Some(made) = answer["group"].as_str() {
                made.clone_into(&mut group);
            }
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            assert_fits(&document, schema, &answer, &at);
        }
    }
    assert_eq!(seen, 11);
    let error = body(&relay.get("/api", &[]));
    assert_fits(&document, &json!({ "$ref": "#/components/schemas/Error" }), &error, "an error");
}

/// Whether a value is as its schema says: what the schemas here use, and nothing besides.
fn assert_fits(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        return assert_fits(document, target, value, at);
    }
    if let Some(choices) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        let choice = choices.iter().find(|choice| choice["type"] != "null").unwrap();
        return assert_fits(document, choice, value, at);
    }
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{at}: {value} is none of {values:?}");
    }
    let types = match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        other => panic!("{at}: a type was due, not {other}"),
    };
    match value {
        Value::Object(fields) => {
            assert!(types.contains(&"object"), "{at}: {types:?}");
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(required.as_str().unwrap()), "{at}: {required} is missing");
            }
            for (name, value) in fields {
                let inner = schema["properties"].get(name);
                let inner = inner.unwrap_or_else(|| panic!("{at}: nobody speaks of {name}"));
                assert_fits(document, inner, value, &format!("{at}.{name}"));
            }
        }
        Value::Array(values) => {
            assert!(types.contains(&"array"), "{at}: {types:?}");
            values.iter().for_each(|value| assert_fits(document, &schema["items"], value, at));
        }
        Value::String(_) => assert!(types.contains(&"string"), "{at}: {types:?}"),
        Value::Bool(_) => assert!(types.contains(&"boolean"), "{at}: {types:?}"),
        Value::Number(_) => assert!(types.contains(&"integer"), "{at}: {types:?}"),
        other => panic!("{at}: {other}"),
    }
}

#[tokio::test]
async fn neither_keys_nor_tokens_nor_users_reach_the_log() {
    let mut relay =
        Relay::start(&[("HONGYAN_API_KEYS", &format!("app:{API_SECRET}")), ("HONGYAN_LOG", "trace")]);
    let user = "a-user-whom-nobody-logs";
    let _client = relay.sign_in(user, "a-device-that-nobody-logs").await;
    let wrong = "Bearer a-key-that-somebody-tried";
    for path in ["presence?user=USER", "users/USER/devices", "users/USER/nothing"] {
        let path = format!("/api/v1/{}", path.replace("USER", user));
        ask(&relay, "GET", &path);
        relay.get(&path, &[("authorization", wrong)]);
    }
    let users = format!("/api/v1/users/{user}");
    ask_with(
        &relay,
        "POST",
        &format!("{users}/kick"),
        r#"{ "device": "a-device-that-nobody-logs", "x": 1 }"#,
    );
    for (method, path) in
        [("DELETE", "devices/a-device-that-nobody-logs"), ("POST", "revoke-tokens"), ("POST", "kick")]
    {
        done(&ask(&relay, method, &format!("{users}/{path}")));
    }
    relay.signal("-TERM");
    assert_eq!(relay.wait(), Some(0));
    let logged = relay.logged();
    assert!(logged.contains("The relay has stopped."), "{logged}");
    for secret in [API_SECRET, SECRET, user, "a-device-that-nobody-logs", "a-key-that-somebody-tried"] {
        assert!(!logged.contains(secret), "{secret} is in the log:\n{logged}");
    }
}

#[tokio::test]
async fn a_relay_that_stops_says_so() {
    let mut relay = Relay::start(&[
        ("HONGYAN_API_KEYS", &format!("app:{API_SECRET}")),
        // Who stays keeps it stopping until the second signal.
        ("HONGYAN_TIMERS_DRAIN_WAIT_MS", "3600000"),
    ]);
    let mut client = relay.sign_in("alice", "one").await;
    relay.signal("-TERM");
    client.until(|event| matches!(event, Event::Retire(_)).then_some(())).await;
    let answer = ask(&relay, "GET", "/api/v1/presence?user=alice");
    assert_refused(&answer, 503, "not-ready");
    assert_eq!(answer.header("retry-after"), Some("2"));
    relay.signal("-TERM");
    relay.wait();
}
