//! Starting, configuring and stopping the program.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used)]

mod server_process;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hongyan_protocol::wire::relay_frame::Event;
use server_process::{PATIENCE, Relay, SECRET, run, text, write};
use tempfile::TempDir;

/// Runs `config check` with a file and an environment, and gives the exit code and what was said.
fn check(file: &str, env: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let path = write(folder.path(), "relay.toml", file);
    let output = run(&["config", "check", "--config", &path], env);
    (output.status.code(), text(&output.stderr) + &text(&output.stdout))
}

#[test]
fn a_bad_configuration_is_told_in_a_sentence() {
    let good = format!("[tokens]\nhs256 = [\"k1:{SECRET}\"]\n");
    assert_eq!(check(&good, &[]), (Some(0), "The configuration is good.\n".into()));
    // What is allowed but hardly meant is told, too.
    for (spread_ms, says) in [("26000", "told to come back"), ("12000", "longer than promised")] {
        let (code, said) = check(&good, &[("HONGYAN_TIMERS_DRAIN_SPREAD_MS", spread_ms)]);
        assert!(code == Some(0) && said.contains("`presence.recovery_ms`") && said.contains(says), "{said}");
    }
    for (file, env, says) in [
        ("", None, vec!["tokens.hs256", "HONGYAN_TOKENS_HS256", "openssl rand"]),
        ("lisen = \"a\"", None, vec!["relay.toml", "\"lisen\"", "did you mean `listen`?", "config docs"]),
        ("[limits]\nconections_max = 1", None, vec!["limits.conections_max", "`limits.connections_max`"]),
        ("[nonsense]\nx = 1", None, vec!["\"nonsense.x\"", "relay.toml"]),
        ("presence.watch = \"all\"", None, vec!["`presence.watch`", "\"members\"", "\"all\""]),
        ("presence.recovery_ms = 26000", None, vec!["`presence.recovery_ms`", "25000"]),
        ("listen = 8787", None, vec!["`listen`", "relay.toml", "must be a string, not a whole number"]),
        ("listen = \"localhost\"", None, vec!["`listen`", "127.0.0.1:8787", "\"localhost\""]),
        ("listen = \"127.0.0.1", None, vec!["relay.toml", "is not TOML", "line 1"]),
        ("[listen]\nx = 1", None, vec!["`listen`", "not a section"]),
        ("[limits]\nconnections_max = 0", None, vec!["`limits.connections_max`", "between 1 and"]),
        ("[limits]\nconnections_max = -3", None, vec!["`limits.connections_max`", "between 1 and"]),
        ("[limits]\nconnections_max = 1.5", None, vec!["`limits.connections_max`", "whole number"]),
        ("[limits]\nconnections_max = true", None, vec!["`limits.connections_max`", "not true or false"]),
        ("[limits]\ncontent_bytes_max = 1000000", None, vec!["`limits.content_bytes_max`", "65536"]),
        ("allowed_origins = \"https://a.example\"", None, vec!["`allowed_origins`", "must be a list"]),
        ("allowed_origins = [1]", None, vec!["`allowed_origins`", "holds a whole number"]),
        ("allowed_origins = [\"https://a.example/x\"]", None, vec!["`allowed_origins`", "no path"]),
        ("trusted_proxies = [\"10.0.0.0/40\"]", None, vec!["`trusted_proxies`", "10.0.0.0/8"]),
        ("log = \"=loud=\"", None, vec!["`log`", "info,hongyan_relay=debug"]),
        ("[timers]\nsilence_ms = 1000", None, vec!["`timers.silence_ms`", "`timers.ping_interval_ms`"]),
        (
            "",
            Some(("HONGYAN_LIMITS_SENDS_BURST", "many")),
            vec!["variable HONGYAN_LIMITS_SENDS_BURST", "\"many\""],
        ),
        ("", Some(("HONGYAN_LISTEN", "nowhere")), vec!["environment variable HONGYAN_LISTEN", "\"nowhere\""]),
        ("[tokens]\neddsa = [\"e1:abc\"]", None, vec!["`tokens.eddsa`", "e1", "base64"]),
        ("[tokens]\nhs256 = [\"k 1:x\"]", None, vec!["`tokens.hs256`", "key id"]),
    ] {
        let needs_no_key = file.contains("tokens") || file.is_empty() && env.is_none();
        let secret = format!("k1:{SECRET}");
        let mut all: Vec<(&str, &str)> = env.into_iter().collect();
        if !needs_no_key {
            all.push(("HONGYAN_TOKENS_HS256", &secret));
        }
        let (code, said) = check(file, &all);
        assert_eq!(code, Some(2), "{file:?} {env:?}: {said}");
        for part in says {
            assert!(said.contains(part), "{file:?} {env:?} should say {part:?}: {said}");
        }
        assert_eq!(said.lines().count(), 1, "one sentence, no trace: {said}");
    }
}

#[test]
fn weak_and_well_known_secrets_are_refused_and_never_shown() {
    for secret in [
        "short",
        "secretsecretsecretsecretsecretsecret",
        "changeme-changeme-changeme-changeme-1",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "abcdefghijklmnopabcdefghijklmnop",
        "your-256-bit-thing-0000000000000000000000",
        "0101010101010101010101010101010101010101",
    ] {
        let value = format!("k1:{secret}");
        let (code, said) = check("", &[("HONGYAN_TOKENS_HS256", &value)]);
        assert_eq!(code, Some(2), "{secret}");
        assert!(said.contains("openssl rand -base64 48"), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
    // A secret whose id was forgotten, one in a broken file, and twice the same id.
    let (_, said) = check("", &[("HONGYAN_TOKENS_HS256", SECRET)]);
    assert!(said.contains("without a colon") && !said.contains(SECRET), "{said}");
    let (_, said) = check(&format!("[tokens]\nhs256 = [\"k1:{SECRET}"), &[]);
    assert!(said.contains("is not TOML") && !said.contains(SECRET), "{said}");
    let twice = format!("k1:{SECRET},k1:{SECRET}x");
    let (_, said) = check("", &[("HONGYAN_TOKENS_HS256", &twice)]);
    assert!(said.contains("k1; each needs its own"), "{said}");
}

#[test]
fn layers_win_in_order_and_secrets_are_masked() {
    let folder = TempDir::new().unwrap();
    let file = format!(
        "listen = \"127.0.0.1:1111\"\nlog = \"warn\"\n[tokens]\nhs256 = [\"k1:{SECRET}\"]\n[limits]\nsends_burst = 7\n"
    );
    let path = write(folder.path(), "relay.toml", &file);
    let env =
        [("HONGYAN_LIMITS_SENDS_BURST", "9"), ("HONGYAN_CONFIG", path.as_str()), ("HONGYAN_DATA", "/env")];
    let output = run(&["config", "show", "--data", "/flag"], &env);
    let shown = text(&output.stdout);
    let value = |key: &str| {
        let line = shown.lines().find(|line| line.split(' ').next() == Some(key)).unwrap();
        let (_, value) = line.split_once("= ").unwrap();
        value.to_owned()
    };
    assert_eq!(value("data"), "\"/flag\"  # flag --data");
    assert_eq!(value("limits.sends_burst"), "9  # environment variable HONGYAN_LIMITS_SENDS_BURST");
    assert_eq!(value("listen"), format!("\"127.0.0.1:1111\"  # {path}"));
    assert_eq!(value("limits.sends_per_second"), "50  # default");
    assert_eq!(value("tokens.hs256"), format!("[\"k1:***\"]  # {path}"));
    assert!(!shown.contains(SECRET));
}

#[test]
fn the_documentation_is_a_file_that_works() {
    let docs = text(&run(&["config", "docs"], &[]).stdout);
    // What is commented out is the default, so taking the comments away changes nothing.
    let keys: String = docs
        .lines()
        .filter_map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split(' ').nth(1) == Some("=") => Some(rest),
            Some(_) => None,
            None => Some(line),
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let folder = TempDir::new().unwrap();
    let path = write(folder.path(), "relay.toml", &keys);
    let shown = text(&run(&["config", "show", "--config", &path], &[]).stdout);
    let default = text(&run(&["config", "show"], &[]).stdout);
    let values =
        |text: &str| text.lines().map(|l| l.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&shown), values(&default));
    assert!(shown.lines().all(|line| !line.ends_with("# default")), "a key is not documented: {shown}");
}

#[test]
fn what_can_not_start_says_why() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().display().to_string();
    let secret = format!("k1:{SECRET}");
    let env = [("HONGYAN_TOKENS_HS256", secret.as_str())];
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = write(folder.path(), "a-file", "");
    let in_file = format!("{file}/data");
    for (args, env, says) in [
        (vec!["--data", &data, "--listen", "127.0.0.1:0"], &[][..], vec!["no key for tokens", "--dev"]),
        (vec!["--data", &data, "--dev", "--listen", "0.0.0.0:0"], &env, vec!["--dev", "this machine only"]),
        (vec!["--data", &data, "--listen", &taken], &env, vec!["listens on", &taken, "--listen"]),
        (vec!["--data", &in_file, "--listen", "127.0.0.1:0"], &env, vec!["data folder", &in_file]),
        (vec!["--config", "/nonexistent/relay.toml"], &env, vec!["/nonexistent/relay.toml", "can't be read"]),
    ] {
        let mut all = vec!["serve"];
        all.extend(args);
        let output = run(&all, env);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{all:?}: {said}");
        for part in says {
            assert!(said.contains(part), "{all:?} should say {part:?}: {said}");
        }
        assert!(!said.contains("panicked") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_second_relay_on_the_same_data_is_refused() {
    let relay = Relay::start(&[]);
    let data = relay.folder.path().display().to_string();
    let secret = format!("k1:{SECRET}");
    let output = run(
        &["serve", "--data", &data, "--listen", "127.0.0.1:0"],
        &[("HONGYAN_TOKENS_HS256", secret.as_str())],
    );
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&data), "{said}");
    assert_eq!(relay.get("/readyz", &[]).status, 200);
}

#[test]
fn data_of_an_unknown_format_is_refused() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "format", "999\n");
    let data = folder.path().display().to_string();
    let output = run(&["serve", "--dev", "--data", &data, "--listen", "127.0.0.1:0"], &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("999"), "{said}");
}

#[tokio::test]
async fn tokens_of_the_command_open_the_relay() {
    let relay = Relay::start(&[]);
    let secret = format!("k1:{SECRET}");
    let output = run(&["token", "--user", "alice", "--expires", "5m"], &[("HONGYAN_TOKENS_HS256", &secret)]);
    assert_eq!(output.status.code(), Some(0));
    let mut client = relay.connect().await;
    client.hello(text(&output.stdout).trim(), "alice", "a1").await;
    let lasts_ms = client.welcomed("the command's token").await.token_expires_in_ms;
    assert!((290_000..=300_000).contains(&lasts_ms), "{lasts_ms}");
    for (args, says) in [
        (vec!["token", "--user", ""], "--user"),
        (vec!["token", "--user", "a", "--expires", "soon"], "24h"),
        (vec!["token"], "--user"),
    ] {
        let output = run(&args, &[("HONGYAN_TOKENS_HS256", &secret)]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(says), "{args:?}");
    }
}

#[tokio::test]
async fn development_tokens_outlive_a_restart() {
    let folder = Arc::new(TempDir::new().unwrap());
    let first = Relay::start_in(folder.clone(), &["--dev"], &[]);
    let token = first.get("/dev/token?user=alice", &[]).body;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join("dev-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    drop(first);
    let second = Relay::start_in(folder, &["--dev"], &[]);
    let mut client = second.connect().await;
    client.hello(&token, "alice", "a1").await;
    client.welcomed("a token from before").await;
}

#[tokio::test]
async fn sigterm_tells_everybody_to_come_back_and_ends_well() {
    let mut relay =
        Relay::start(&[("HONGYAN_TIMERS_DRAIN_SPREAD_MS", "1000"), ("HONGYAN_TIMERS_DRAIN_WAIT_MS", "1000")]);
    let mut alice = relay.sign_in("alice", "a1").await;
    let mut bob = relay.sign_in("bob", "b1").await;
    relay.signal("-TERM");
    for client in [&mut alice, &mut bob] {
        let retire = client.until(|event| if let Event::Retire(r) = event { Some(r) } else { None }).await;
        assert!(retire.retry_after_ms <= 1000, "{}", retire.retry_after_ms);
    }
    // Still there, not ready, and taking nobody new.
    assert_eq!(relay.get("/healthz", &[]).status, 200);
    let unready = relay.get("/readyz", &[]);
    assert_eq!((unready.status, unready.body.as_str()), (503, "The relay is stopping."));
    assert_eq!(relay.ask_for_socket(&[("sec-websocket-protocol", "hongyan.v1")]).status, 503);
    // Who does not leave is let go with the reason.
    assert_eq!(alice.closed().await.0, 4200);
    drop(alice);
    drop(bob);
    assert_eq!(relay.wait(), Some(0), "{}", relay.logged());
}

#[tokio::test]
async fn a_relay_without_connections_stops_at_once() {
    for signal in ["-TERM", "-INT"] {
        let mut relay = Relay::start(&[]);
        let begun = Instant::now();
        relay.signal(signal);
        assert_eq!(relay.wait(), Some(0), "{}", relay.logged());
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut relay = Relay::start(&[("HONGYAN_TIMERS_DRAIN_WAIT_MS", "60000")]);
    let mut alice = relay.sign_in("alice", "a1").await;
    relay.signal("-TERM");
    alice.until(|event| matches!(event, Event::Retire(_)).then_some(())).await;
    let begun = Instant::now();
    relay.signal("-TERM");
    assert_eq!(relay.wait(), Some(1));
    assert!(begun.elapsed() < PATIENCE / 4);
}
