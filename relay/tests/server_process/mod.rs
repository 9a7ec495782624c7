//! The real program as a process of its own, and an independent WebSocket client.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use hongyan_protocol::wire::{self, ClientFrame, RelayFrame, client_frame::Verb, relay_frame::Event};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Chance enough for the checks of strength; used by nothing but these tests.
pub(crate) const SECRET: &str = "Qm7rX2vKc9LwZt4HsJ8yPn3BdGf6TqWeAu5MiRo1";
/// What nothing here takes as long as.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The program, without the environment's own settings.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hongyan-relay"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HONGYAN_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs it to its end, which must come by itself.
pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let child = program()
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id().to_string();
    let (ended, wait) = std::sync::mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watch.join().unwrap();
    output
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A relay that serves.
pub(crate) struct Relay {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) folder: Arc<TempDir>,
    printed: Gathered,
    logged: Gathered,
}

/// What came out of a pipe so far, and the thread that reads it.
struct Gathered {
    text: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Gathered {
    fn now(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

impl Relay {
    /// With a configured key, on a free port, in a new folder.
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        let secret = format!("k1:{SECRET}");
        let mut all = vec![("HONGYAN_TOKENS_HS256", secret.as_str())];
        all.extend_from_slice(env);
        Self::start_in(Arc::new(TempDir::new().unwrap()), &[], &all)
    }

    pub(crate) fn start_dev() -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), &["--dev"], &[])
    }

    pub(crate) fn start_in(folder: Arc<TempDir>, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path())
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let printed = gather(child.stdout.take().unwrap());
        let logged = gather(child.stderr.take().unwrap());
        let begun = Instant::now();
        let address = loop {
            let line =
                printed.now().lines().find_map(|l| l.strip_prefix("ready: http://").map(str::to_owned));
            if let Some(url) = line {
                break url.split('/').next().unwrap().parse().unwrap();
            }
            let ended = child.try_wait().unwrap();
            let logged = logged.now();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it did not start: {ended:?}\n{logged}");
            thread::sleep(Duration::from_millis(10));
        };
        Self { child, address, folder, printed, logged }
    }

    pub(crate) fn printed(&self) -> String {
        self.printed.now()
    }

    pub(crate) fn logged(&self) -> String {
        self.logged.now()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end and gives the exit code; all that it logged is gathered by then.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                for pipe in [&mut self.printed, &mut self.logged] {
                    if let Some(reader) = pipe.reader.take() {
                        reader.join().unwrap();
                    }
                }
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "it did not end:\n{}", self.logged());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", path, headers)
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request_with(method, path, headers, b"")
    }

    /// The same with a body, whose length the headers name if anything does.
    pub(crate) fn request_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = StdTcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = self.address.to_string();
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request.push_str(&format!("host: {host}\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(&[request.as_bytes(), body].concat()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::new(&text(&bytes))
    }

    /// An attempt to become a WebSocket that need not succeed.
    pub(crate) fn ask_for_socket(&self, headers: &[(&str, &str)]) -> Answer {
        let mut stream = StdTcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!(
            "GET /ws HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            self.address
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        let mut bytes = vec![0; 4096];
        let mut filled = 0;
        // The head comes whole; a refusal's body ends with it.
        while !bytes[..filled].windows(4).any(|window| window == b"\r\n\r\n") {
            let read = stream.read(&mut bytes[filled..]).unwrap();
            assert!(read > 0);
            filled += read;
        }
        let mut answer = Answer::new(&text(&bytes[..filled]));
        answer.stream = Some(stream);
        answer
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_as("hongyan.v1").await.unwrap()
    }

    pub(crate) async fn connect_as(&self, protocol: &str) -> Result<Client, Error> {
        let mut request = format!("ws://{}/ws", self.address).into_client_request()?;
        let value = HeaderValue::from_str(protocol).unwrap();
        request.headers_mut().insert("sec-websocket-protocol", value);
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await?;
        assert_eq!(response.headers()["sec-websocket-protocol"], "hongyan.v1");
        Ok(Client { socket, request: 0 })
    }

    /// Connects and says hello.
    pub(crate) async fn sign_in(&self, user: &str, device: &str) -> Client {
        let mut client = self.connect().await;
        client.hello(&token(user), user, device).await;
        client.welcomed(user).await;
        client
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(pipe: impl Read + Send + 'static) -> Gathered {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    let reader = thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    Gathered { text, reader: Some(reader) }
}

/// An HTTP response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// Kept open where it matters.
    pub(crate) stream: Option<StdTcpStream>,
}

impl Answer {
    fn new(response: &str) -> Self {
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.into(), body: body.into(), stream: None }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A WebSocket of a library that is not the relay's side of it.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    request: u64,
}

impl Client {
    pub(crate) async fn send(&mut self, verb: Verb) -> u64 {
        self.request += 1;
        let frame = ClientFrame::of(self.request, verb).to_bytes().unwrap();
        self.socket.send(Message::Binary(frame)).await.unwrap();
        self.request
    }

    pub(crate) async fn hello(&mut self, token: &str, user: &str, device: &str) {
        let hello = wire::Hello {
            version: hongyan_protocol::VERSION,
            token: token.into(),
            user: user.into(),
            device: device.into(),
            device_kind: wire::DeviceKind::Web.into(),
            ..wire::Hello::default()
        };
        self.send(Verb::Hello(hello)).await;
    }

    /// Sends a text to a conversation.
    pub(crate) async fn say(&mut self, conversation: &str, key: &str, text: &str) -> u64 {
        use prost::Message as _;
        let content = wire::Content { text: text.into(), ..wire::Content::default() }.encode_to_vec();
        let send = wire::Send {
            conversation: conversation.into(),
            key: key.into(),
            content: content.into(),
            ..wire::Send::default()
        };
        self.send(Verb::Send(send)).await
    }

    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the relay said nothing")
    }

    /// The next frame of the wire.
    pub(crate) async fn frame(&mut self) -> RelayFrame {
        loop {
            match self.next().await {
                Some(Ok(Message::Binary(bytes))) => return RelayFrame::from_bytes(bytes).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a frame was due, not {other:?}"),
            }
        }
    }

    /// The answer to hello is a welcome.
    pub(crate) async fn welcomed(&mut self, what: &str) -> wire::Welcome {
        match self.frame().await.event {
            Some(Event::Welcome(welcome)) => welcome,
            Some(Event::Reject(reject)) => panic!("{what}: {} {}", reject.code, reject.reason),
            _ => panic!("{what}: a welcome was due"),
        }
    }

    /// The next frame that fits; others are passed over.
    pub(crate) async fn until<T>(&mut self, fits: impl Fn(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.frame().await.event.and_then(&fits) {
                return found;
            }
        }
    }

    /// Reads to the end, and gives the close frame's code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Close(None))) => return (1005, String::new()),
                Some(Ok(_)) => {}
                other => panic!("a close frame was due, not {other:?}"),
            }
        }
    }
}

pub(crate) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A good token under the key `k1`.
pub(crate) fn token(user: &str) -> String {
    sign_hs256("k1", SECRET, &format!(r#"{{"sub":"{user}","exp":{}}}"#, now_seconds() + 600))
}

pub(crate) fn sign_hs256(kid: &str, secret: &str, claims: &str) -> String {
    sign(Algorithm::HS256, Some(kid), &EncodingKey::from_secret(secret.as_bytes()), claims)
}

pub(crate) fn sign(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &str) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    let claims: serde_json::Value = serde_json::from_str(claims).unwrap();
    jsonwebtoken::encode(&header, &claims, key).unwrap()
}

/// Files in a folder of a test's own.
pub(crate) fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}
