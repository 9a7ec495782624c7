//! The routes: who is answered what.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod server_process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use server_process::{PATIENCE, Relay};

#[test]
fn health_readiness_and_unknown_addresses() {
    let relay = Relay::start(&[]);
    let health = relay.get("/healthz", &[]);
    assert_eq!((health.status, health.body.as_str()), (200, "ok"));
    assert_eq!(relay.get("/readyz", &[]).status, 200);
    assert_eq!(relay.request("POST", "/healthz", &[]).status, 405);
    let nothing = relay.get("/etc/passwd", &[]);
    assert_eq!(nothing.status, 404);
    assert_eq!(nothing.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(nothing.header("referrer-policy"), Some("no-referrer"));
    // Tokens for everybody are for the development mode.
    assert_eq!(relay.get("/dev/token?user=alice", &[]).status, 404);
}

#[test]
fn the_roots_lead_to_the_demo() {
    let relay = Relay::start(&[]);
    for path in ["/", "/demo"] {
        let answer = relay.get(path, &[]);
        assert_eq!((answer.status, answer.header("location")), (307, Some("/demo/")), "{path}");
    }
    let demo = relay.get("/demo/", &[]);
    if cfg!(feature = "demo") {
        assert_eq!(demo.status, 200);
        assert_eq!(demo.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = demo.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self';")
        );
        assert!(policy.contains(&format!(" ws://{} wss://{};", relay.address, relay.address)), "{policy}");
        let tag = demo.header("etag").unwrap();
        assert_eq!(relay.get("/demo/", &[("if-none-match", tag)]).status, 304);
        // A host that would break out of the header is not named.
        let odd = relay.get("/demo/", &[("host", "a;script-src *")]);
        assert!(
            odd.status == 400 || !odd.header("content-security-policy").unwrap().contains("script-src *")
        );
        assert_eq!(relay.get("/demo/../Cargo.toml", &[]).status, 404);
    } else {
        assert_eq!(demo.status, 404);
        assert!(demo.body.contains("npm run build"), "{}", demo.body);
    }
}

#[test]
fn pages_connect_only_from_listed_origins() {
    let relay =
        Relay::start(&[("HONGYAN_ALLOWED_ORIGINS", "https://app.example.com, http://localhost:5173")]);
    let own = format!("http://{}", relay.address);
    for (origin, status) in [
        (None, 101),
        (Some("https://app.example.com"), 101),
        (Some("http://localhost:5173"), 101),
        (Some(own.as_str()), 101),
        (Some("https://evil.example.com"), 403),
        (Some("http://localhost:5174"), 403),
        (Some("null"), 403),
    ] {
        let mut headers = vec![("sec-websocket-protocol", "hongyan.v1")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = relay.ask_for_socket(&headers);
        assert_eq!(answer.status, status, "{origin:?}");
        if status == 403 {
            assert!(answer.body.contains("allowed_origins"), "{}", answer.body);
        }
    }
}

/// Behind a proxy nothing else bounds how many of one address wait.
#[test]
fn who_waits_for_a_turn_is_one_of_the_address_s_connections() {
    let relay = Relay::start(&[
        ("HONGYAN_TRUSTED_PROXIES", "127.0.0.0/8"),
        // More than these could wait for a turn within a second.
        ("HONGYAN_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", "2"),
        ("HONGYAN_LIMITS_OPENS_PER_ADDRESS_PER_SECOND", "4"),
        ("HONGYAN_LIMITS_OPENS_PER_ADDRESS_BURST", "1"),
    ]);
    let from = |address| {
        relay.ask_for_socket(&[("sec-websocket-protocol", "hongyan.v1"), ("x-forwarded-for", address)])
    };
    let refused = std::thread::scope(|scope| {
        let all: Vec<_> = (0..40).map(|_| scope.spawn(|| from("192.0.2.1"))).collect();
        let all = all.into_iter().map(|one| one.join().unwrap());
        all.filter(|answer| answer.body.starts_with("There are too many"))
            .map(|answer| answer.status)
            .collect()
    });
    let refused: Vec<u16> = refused;
    assert!(!refused.is_empty() && refused.iter().all(|status| *status == 429), "{refused:?}");
    assert_eq!(from("192.0.2.2").status, 101);
}

#[test]
fn only_the_sub_protocol_is_spoken() {
    let relay = Relay::start(&[]);
    for (protocol, status) in [
        (None, 400),
        (Some("hongyan.v2"), 400),
        (Some("chat"), 400),
        (Some("hongyan.v1"), 101),
        (Some("hongyan.v2, hongyan.v1"), 101),
    ] {
        let headers: Vec<_> =
            protocol.map(|protocol| ("sec-websocket-protocol", protocol)).into_iter().collect();
        let answer = relay.ask_for_socket(&headers);
        assert_eq!(answer.status, status, "{protocol:?}");
        if status == 400 {
            assert!(answer.body.contains("hongyan.v1"), "{}", answer.body);
        } else {
            assert_eq!(answer.header("sec-websocket-protocol"), Some("hongyan.v1"));
            assert_eq!(answer.header("sec-websocket-extensions"), None);
        }
    }
    let no_upgrade = relay.get("/ws", &[]);
    assert_eq!(no_upgrade.status, 400);
    assert!(no_upgrade.body.contains("WebSocket"), "{}", no_upgrade.body);
}

#[test]
fn development_tokens_are_for_this_machine() {
    let relay = Relay::start_dev();
    assert!(relay.printed().contains("DEVELOPMENT MODE"), "{}", relay.printed());
    assert!(relay.printed().contains(&format!("The demo: http://{}/demo/", relay.address)));
    let good = relay.get("/dev/token?user=alice", &[("origin", "http://localhost:5173")]);
    assert_eq!(good.status, 200);
    assert_eq!(good.body.split('.').count(), 3);
    assert_eq!(good.header("access-control-allow-origin"), Some("http://localhost:5173"));
    assert_eq!(good.header("cache-control"), Some("no-store"));
    for (path, header, status) in [
        ("/dev/token", ("accept", "*/*"), 400),
        ("/dev/token?user=", ("accept", "*/*"), 400),
        ("/dev/token?user=%00", ("accept", "*/*"), 400),
        ("/dev/token?user=a&expires=-1", ("accept", "*/*"), 400),
        ("/dev/token?user=a&expires=0", ("accept", "*/*"), 200),
        ("/dev/token?user=a", ("origin", "https://evil.example.com"), 403),
        // Somebody's host name that was pointed to this machine.
        ("/dev/token?user=a", ("host", "evil.example.com"), 403),
        ("/dev/token?user=a", ("host", "localhost:1"), 200),
    ] {
        let answer = relay.get(path, &[header]);
        assert_eq!(answer.status, status, "{path} {header:?}: {}", answer.body);
    }
}

#[test]
fn a_slow_head_is_dropped() {
    let relay = Relay::start(&[("HONGYAN_TIMERS_HEAD_MS", "300")]);
    for begin in ["", "GET /healthz HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nhost: a\r\nx: "] {
        let mut stream = TcpStream::connect(relay.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(begin.as_bytes()).unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(begun.elapsed() < Duration::from_secs(5), "{begin:?} was kept {:?}", begun.elapsed());
    }
    // Whoever was answered and then stays silent is let go, too.
    let mut stream = TcpStream::connect(relay.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200") && begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn requests_that_are_none_cost_nothing() {
    let relay = Relay::start(&[]);
    let long = "a".repeat(40_000);
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
        b"\0\0\0\0\0\0\0\0\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").into_bytes(),
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ] {
        let mut stream = TcpStream::connect(relay.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let first = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        assert!(
            answer.is_empty() || first.starts_with("HTTP/1.1 4") || first.starts_with("HTTP/1.1 5"),
            "{first}"
        );
    }
    assert_eq!(relay.get("/healthz", &[]).status, 200);
}

#[test]
fn one_address_has_a_bound_and_proxies_name_their_clients() {
    let relay = Relay::start(&[("HONGYAN_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", "2")]);
    let protocol = ("sec-websocket-protocol", "hongyan.v1");
    let first = relay.ask_for_socket(&[protocol]);
    let _second = relay.ask_for_socket(&[protocol]);
    // What nobody vouches for changes nothing.
    let third = relay.ask_for_socket(&[protocol, ("x-forwarded-for", "198.51.100.1")]);
    assert_eq!((first.status, third.status), (101, 429));
    assert!(third.header("retry-after").is_some());
    assert!(third.body.contains("address"), "{}", third.body);
    drop(first);
    let begun = Instant::now();
    while relay.ask_for_socket(&[protocol]).status != 101 {
        assert!(begun.elapsed() < PATIENCE, "the place was not given back");
        std::thread::sleep(Duration::from_millis(20));
    }

    let relay = Relay::start(&[
        ("HONGYAN_LIMITS_CONNECTIONS_PER_ADDRESS_MAX", "1"),
        ("HONGYAN_TRUSTED_PROXIES", "127.0.0.0/8"),
    ]);
    let one = relay.ask_for_socket(&[protocol, ("x-forwarded-for", "198.51.100.1")]);
    let other = relay.ask_for_socket(&[protocol, ("x-forwarded-for", "198.51.100.2")]);
    let again = relay.ask_for_socket(&[protocol, ("x-forwarded-for", "198.51.100.3, 198.51.100.1")]);
    assert_eq!((one.status, other.status, again.status), (101, 101, 429));
}

#[test]
fn one_address_opens_connections_at_a_pace_and_others_do_not_wait_for_it() {
    let relay = Relay::start(&[
        ("HONGYAN_LIMITS_OPENS_PER_ADDRESS_PER_SECOND", "1"),
        ("HONGYAN_LIMITS_OPENS_PER_ADDRESS_BURST", "1"),
        ("HONGYAN_TRUSTED_PROXIES", "127.0.0.0/8"),
    ]);
    let ask = |address: &str| {
        relay.ask_for_socket(&[("sec-websocket-protocol", "hongyan.v1"), ("x-forwarded-for", address)])
    };
    assert_eq!(ask("198.51.100.1").status, 101);
    // They come within a second or two: more of them than there are turns.
    let crowd: Vec<u16> = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..12).map(|_| scope.spawn(|| ask("198.51.100.1").status)).collect();
        crowd.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(crowd.contains(&101) && crowd.contains(&429), "{crowd:?}");
    assert_eq!(ask("198.51.100.2").status, 101);
}

#[test]
fn all_connections_together_have_a_bound() {
    let relay = Relay::start(&[("HONGYAN_LIMITS_CONNECTIONS_MAX", "1")]);
    let protocol = ("sec-websocket-protocol", "hongyan.v1");
    let first = relay.ask_for_socket(&[protocol]);
    let second = relay.ask_for_socket(&[protocol]);
    assert_eq!((first.status, second.status), (101, 503));
    assert!(second.body.contains("as many connections"), "{}", second.body);
    // Health is still told.
    assert_eq!(relay.get("/healthz", &[]).status, 200);
}

#[test]
fn metrics_are_given_at_an_address_of_their_own_and_only_there() {
    let relay = Relay::start(&[("HONGYAN_METRICS_LISTEN", "127.0.0.1:0")]);
    assert_eq!(relay.get("/metrics", &[]).status, 404);
    let printed = relay.printed();
    let url = printed.lines().find_map(|line| line.strip_prefix("metrics: http://")).unwrap();
    let (address, path) = url.split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\nhongyan_connections 0\n"), "{answer}");
    assert!(answer.contains("\nhongyan_resets_total{cause=\"cursor-expired\"} 0\n"), "{answer}");
}
