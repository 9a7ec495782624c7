//! HTTP and WebSocket written by hand over TCP, so that a peer can say what no library would let it say.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hongyan_protocol::wire::{self, ClientFrame, RelayFrame, client_frame::Verb, relay_frame::Event};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Nothing here takes so long, also on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The first byte of a whole binary message.
pub const BINARY: u8 = 0x82;
/// … a ping …
pub const PING: u8 = 0x89;
/// … and a close.
pub const CLOSE: u8 = 0x88;

/// What the peers here call themselves; well-behaved users have other clients.
pub const AGENT: &str = "hostile";

/// A mask that changes every byte.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The example of RFC 6455, section 1.3: what is asked …
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// … and what must be answered.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request for a WebSocket, line by line.
pub const UPGRADE: [&str; 7] = [
    "GET /ws HTTP/1.1",
    "Host: relay",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: hongyan.v1",
];

/// A request's head.
pub fn head(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// The request for a WebSocket, with the line of this name replaced by others.
pub fn upgrade_but(name: &str, lines: &[&str]) -> Vec<u8> {
    let mut all: Vec<&str> = UPGRADE.into_iter().filter(|line| !line.starts_with(name)).collect();
    let at = usize::from(!all.is_empty() && all[0].starts_with("GET"));
    all.splice(at..at, lines.iter().copied());
    head(&all)
}

/// The head of a WebSocket frame with this first byte, for a payload of this length, masked or not.
pub fn frame_head(first: u8, masked: bool, length: u64) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => out.push(bit | short),
        (_, Ok(medium)) => {
            out.push(bit | 126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(bit | 127);
            out.extend(length.to_be_bytes());
        }
    }
    if masked {
        out.extend(MASK);
    }
    out
}

/// A WebSocket frame, masked as a client's must be.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = frame_head(first, true, payload.len() as u64);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    out
}

/// A close frame's payload.
pub fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// A verb's bytes within a WebSocket frame.
pub fn verb_bytes(request: u64, verb: Verb) -> Vec<u8> {
    frame(BINARY, &wire_bytes(request, verb))
}

/// A verb's bytes, also of one that is over the limits.
pub fn wire_bytes(request: u64, verb: Verb) -> Vec<u8> {
    prost::Message::encode_to_vec(&ClientFrame::of(request, verb))
}

/// A device id that nobody used before.
pub fn device() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("device-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The hello of a new device.
pub fn hello(user: &str, token: impl Into<String>) -> wire::Hello {
    wire::Hello {
        version: hongyan_protocol::VERSION,
        token: token.into(),
        user: user.into(),
        device: device(),
        device_kind: wire::DeviceKind::Web.into(),
        agent: AGENT.into(),
        ..wire::Hello::default()
    }
}

/// What comes from the relay.
#[allow(clippy::large_enum_variant, reason = "each is looked at as it comes, and none is kept")]
pub enum Heard {
    /// A frame of the wire.
    Frame(RelayFrame),
    /// A control frame other than close.
    Pong,
    /// A close frame and its code; 1005 for none.
    Close(u16),
    /// The end of the TCP connection.
    End,
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heard::Frame(frame) => f.write_str(&told(frame.event.as_ref())),
            Heard::Pong => f.write_str("a pong"),
            Heard::Close(code) => write!(f, "a close with {code}"),
            Heard::End => f.write_str("the end"),
        }
    }
}

/// An event in words: the wire's types don't print themselves, so that no body gets anywhere by accident.
pub fn told(event: Option<&Event>) -> String {
    match event {
        Some(Event::Reject(reject)) => format!("refusal {}: {}", reject.code, reject.reason),
        Some(_) => "an event that is no refusal".into(),
        None => "an end".into(),
    }
}

/// One TCP connection to the relay.
pub struct Peer {
    stream: TcpStream,
    unread: BytesMut,
    requests: u64,
}

impl Peer {
    /// A TCP connection, on which nothing was said yet.
    pub async fn tcp(relay: SocketAddr) -> Self {
        let stream = TcpStream::connect(relay).await.expect("the relay takes a connection");
        stream.set_nodelay(true).expect("a socket of one's own");
        Self { stream, unread: BytesMut::new(), requests: 0 }
    }

    /// One whose system keeps next to nothing for it, so that not to read is soon felt at the other end.
    pub async fn tcp_small(relay: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a socket of one's own");
        let stream = socket.connect(relay).await.expect("the relay takes a connection");
        stream.set_nodelay(true).expect("a socket of one's own");
        Self { stream, unread: BytesMut::new(), requests: 0 }
    }

    /// An open WebSocket.
    pub async fn open(relay: SocketAddr) -> Self {
        let mut peer = Self::tcp(relay).await;
        peer.upgrade(&[]).await;
        peer
    }

    /// Asks for a WebSocket, and gets it.
    pub async fn upgrade(&mut self, lines: &[&str]) {
        assert!(UPGRADE[5].ends_with(KEY));
        let lines: Vec<&str> = UPGRADE.iter().chain(lines).copied().collect();
        self.write(&head(&lines)).await;
        self.upgraded().await;
    }

    /// Asks for a WebSocket; whether it got it. A crowd may be told to come later.
    pub async fn tries_to_upgrade(&mut self) -> bool {
        self.write(&head(&UPGRADE)).await;
        self.http().await.is_some_and(|answer| answer.starts_with("HTTP/1.1 101 "))
    }

    /// The answer that opens a WebSocket.
    pub async fn upgraded(&mut self) {
        let answer = self.http().await.expect("an answer to the upgrade");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains(ACCEPT), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("sec-websocket-protocol: hongyan.v1"), "{answer}");
    }

    /// A WebSocket whose user was welcomed.
    pub async fn welcomed(relay: SocketAddr, hello: wire::Hello) -> Self {
        let mut peer = Self::open(relay).await;
        peer.say_hello(hello).await;
        peer
    }

    /// Says hello and is welcomed.
    pub async fn say_hello(&mut self, hello: wire::Hello) -> wire::Welcome {
        let request = self.ask(Verb::Hello(hello)).await;
        match self.answer(request).await {
            Ok(Event::Welcome(welcome)) => welcome,
            other => panic!("a welcome was due, not {}", told(other.ok().as_ref())),
        }
    }

    /// Writes; a peer that is hostile does not mind when nobody takes it.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await;
    }

    /// Asks for something, and tells which request it was.
    pub async fn ask(&mut self, verb: Verb) -> u64 {
        self.requests += 1;
        self.write(&verb_bytes(self.requests, verb)).await;
        self.requests
    }

    /// Reads more. False at the end.
    async fn read(&mut self) -> bool {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await {
            Ok(Ok(count)) => count > 0,
            // A reset is an end, too.
            Ok(Err(_)) => false,
            Err(_) => panic!("the relay said nothing for {PATIENCE:?}"),
        }
    }

    /// The head of an HTTP answer; `None` when there came none.
    pub async fn http(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|at| at == b"\r\n\r\n") {
                let head = self.unread.split_to(end + 4);
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// What follows a head, to the end of the connection.
    pub async fn rest(&mut self) -> String {
        while self.read().await {}
        String::from_utf8_lossy(&self.unread.split()).into_owned()
    }

    /// The next thing that the relay says.
    pub async fn hear(&mut self) -> Heard {
        loop {
            if let Some((first, payload)) = take_frame(&mut self.unread) {
                return match first {
                    BINARY => Heard::Frame(RelayFrame::from_bytes(payload).expect("a frame of the wire")),
                    CLOSE => match payload.len() {
                        0 => Heard::Close(1005),
                        _ => Heard::Close(u16::from_be_bytes([payload[0], payload[1]])),
                    },
                    PING | 0x8a => Heard::Pong,
                    other => panic!("the relay sent a WebSocket frame that begins with {other:#x}"),
                };
            }
            if !self.read().await {
                return Heard::End;
            }
        }
    }

    /// The answer to a request; other frames are passed over. `Err` holds the close code, 1006 for none.
    pub async fn answer(&mut self, request: u64) -> Result<Event, u16> {
        loop {
            match self.hear().await {
                Heard::Frame(frame) if frame.request == request => {
                    return Ok(frame.event.expect("an event that this version knows"));
                }
                Heard::Frame(_) | Heard::Pong => {}
                Heard::Close(code) => return Err(code),
                Heard::End => return Err(1006),
            }
        }
    }

    /// The code with which the relay closes; 1006 when it ends without one. Frames are passed over.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.hear().await {
                Heard::Close(code) => return code,
                Heard::End => return 1006,
                Heard::Frame(_) | Heard::Pong => {}
            }
        }
    }

    /// Reads whatever comes and forgets it, until the connection ends.
    pub async fn read_on(mut self) {
        let mut buffer = vec![0; 16 * 1024];
        while self.stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    }

    /// Goes away with a reset, and leaves nothing behind in the system.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }
}

/// The next whole WebSocket frame of a relay: its first byte and its payload.
fn take_frame(unread: &mut BytesMut) -> Option<(u8, Bytes)> {
    let (first, second) = (*unread.first()?, *unread.get(1)?);
    assert_eq!(second & 0x80, 0, "a relay's frames are not masked");
    let (skip, length) = match second {
        126 => (4, u64::from(u16::from_be_bytes(unread.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(unread.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let length = usize::try_from(length).expect("a length of this machine");
    if unread.len() < skip + length {
        return None;
    }
    unread.advance(skip);
    Some((first, unread.split_to(length).freeze()))
}
