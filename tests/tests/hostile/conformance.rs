//! The WebSocket as RFC 6455 has it, spoken by a client library that shares nothing with the relay's: what it may send, what
//! it must not, and whether all that the relay sends is what a client accepts. What no library would send is in
//! `websocket.rs`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, WebSocket, WebSocketError, handshake};
use hongyan_protocol::Code;
use hongyan_protocol::limits::CLIENT_FRAME_BYTES_MAX;
use hongyan_protocol::wire::{self, RelayFrame, client_frame::Verb, relay_frame::Event};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::kinds::{Kind, Outcome, What, kind, play};
use crate::raw::{PATIENCE, close_payload, hello, wire_bytes};
use crate::requests::{direct, send};
use crate::scene::{Scene, good_token};

/// A frame that is to be sent.
pub(crate) struct Piece {
    fin: bool,
    opcode: OpCode,
    masked: bool,
    payload: Vec<u8>,
}

fn piece(fin: bool, opcode: OpCode, payload: impl Into<Vec<u8>>) -> Piece {
    Piece { fin, opcode, masked: true, payload: payload.into() }
}

/// A message in pieces of this size.
fn in_pieces(opcode: OpCode, bytes: &[u8], size: usize) -> Vec<Piece> {
    let count = bytes.len().div_ceil(size);
    let pieces = bytes.chunks(size).enumerate();
    let kind = |at| if at == 0 { opcode } else { OpCode::Continuation };
    pieces.map(|(at, bytes)| piece(at + 1 == count, kind(at), bytes)).collect()
}

pub(crate) fn kinds() -> Vec<Kind> {
    use OpCode::{Binary, Close, Continuation, Ping, Pong, Text};
    let bad = Outcome::Close(Code::BAD_FRAME);
    let row = |name, pieces: Vec<Piece>, expected| kind(name, What::Frames(pieces), expected);
    let one =
        |name, opcode, payload: Vec<u8>, expected| row(name, vec![piece(true, opcode, payload)], expected);
    let closes =
        |name, code, reason: &[u8], expected| one(name, Close, close_payload(code, reason), expected);
    let ping = || wire_bytes(91, Verb::Ping(wire::Ping { nonce: 1 }));
    let split = |parts: &[&[u8]]| {
        let last = parts.len() - 1;
        let kind = |at| if at == 0 { Text } else { Continuation };
        parts.iter().enumerate().map(|(at, part)| piece(at == last, kind(at), *part)).collect()
    };
    let mut between = in_pieces(Binary, &ping(), 1);
    for at in (1..between.len()).rev() {
        between.insert(at, piece(true, if at % 2 == 0 { Ping } else { Pong }, vec![7; at]));
    }
    let mut empty = vec![piece(false, Binary, [])];
    empty.extend((0..100).map(|_| piece(false, Continuation, [])));
    empty.push(piece(true, Continuation, ping()));
    let unmasked = Piece { masked: false, ..piece(true, Binary, ping()) };
    let mut rows = vec![
        one("a message", Binary, ping(), Outcome::Works),
        row("a message in pieces of one byte", in_pieces(Binary, &ping(), 1), Outcome::Works),
        row("a message in pieces with pings and pongs between", between, Outcome::Works),
        row("a message in a hundred empty pieces and one", empty, Outcome::Works),
        one("an empty ping", Ping, vec![], Outcome::Works),
        one("a pong that nobody asked for", Pong, b"?".to_vec(), Outcome::Works),
        one("a text message", Text, b"{}".to_vec(), bad),
        one("a text message that is no UTF-8", Text, vec![0xff, 0xfe], bad),
        row("a text message in pieces, split within a character", split(&[b"\xe9\x9b", b"\x81"]), bad),
        row("a text message in pieces, one of them no UTF-8", split(&[b"wild ", b"\xe9\x9b", b"goose"]), bad),
        one("a message over the limit", Binary, vec![0; CLIENT_FRAME_BYTES_MAX + 1], bad),
        one("a huge message", Binary, vec![0; 32 << 20], bad),
        row("a message over the limit, in pieces", in_pieces(Binary, &vec![0; 40 * 4_096], 4_096), bad),
        row("pieces for ever", in_pieces(Binary, &vec![0; 2_000 * 100], 100), bad),
        row("an unmasked message", vec![unmasked], bad),
        one("a piece of nothing", Continuation, ping(), bad),
        row("a message within a message", vec![piece(false, Binary, [0]), piece(true, Binary, ping())], bad),
        row("a ping in pieces", vec![piece(false, Ping, [0])], bad),
        one("a ping of 126 bytes", Ping, vec![0; 126], bad),
        one("a pong of 126 bytes", Pong, vec![0; 126], bad),
        row("a close in pieces", vec![piece(false, Close, close_payload(1000, b""))], bad),
        closes("a close of 126 bytes", 1000, &[b'x'; 124], bad),
        one("a close of one byte", Close, vec![3], bad),
        closes("a close whose reason is no UTF-8", 1000, &[0xff], bad),
        one("a close without a code", Close, vec![], Outcome::Close(Code(1005))),
        closes("a close with a reason", 1000, "雁".as_bytes(), Outcome::Close(Code(1000))),
        closes("a close with the longest reason", 1000, &[b'x'; 123], Outcome::Close(Code(1000))),
        kind("pings and their payloads", play!(pings_are_answered), Outcome::Works),
        kind("a session written byte by byte", play!(byte_by_byte), Outcome::Works),
        kind("what follows a close", play!(after_a_close), Outcome::Close(Code(1000))),
    ];
    // Section 7.4: those that may be sent are sent back.
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        rows.push(closes("a close with a code that may be sent", code, b"", Outcome::Close(Code(code))));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        rows.push(closes("a close with a code that must not be sent", code, b"", Outcome::Close(Code(1002))));
    }
    rows
}

/// A socket that takes one byte at a time, if it is slow.
pub(crate) struct Dribble {
    stream: TcpStream,
    slow: bool,
}

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let most = if self.slow { bytes.len().min(1) } else { bytes.len() };
        Pin::new(&mut self.stream).poll_write(context, &bytes[..most])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct Spawn;

impl hyper::rt::Executor<Pin<Box<dyn Future<Output = ()> + Send>>> for Spawn {
    fn execute(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(task);
    }
}

/// What the library heard.
enum Heard {
    Event(u64, Option<Event>),
    Pong(Vec<u8>),
    Close(Code),
    End,
}

/// A client of the library's.
pub(crate) struct Client(WebSocket<TokioIo<Upgraded>>);

impl Client {
    /// Opens a WebSocket and is welcomed.
    pub(crate) async fn welcomed(scene: &Scene, slow: bool) -> Self {
        let stream = TcpStream::connect(scene.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = hyper::Request::builder()
            .uri("/ws")
            .header("Host", "relay")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", handshake::generate_key())
            .header("Sec-WebSocket-Protocol", "hongyan.v1")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let (mut socket, answer) =
            handshake::client(&Spawn, request, Dribble { stream, slow }).await.expect("a WebSocket");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "hongyan.v1");
        // What it does by itself is not what is under test.
        socket.set_auto_close(false);
        socket.set_auto_pong(false);
        socket.set_auto_apply_mask(false);
        let mut client = Self(socket);
        client.say(1, Verb::Hello(hello("mallory", good_token("mallory")))).await;
        loop {
            match client.hear().await {
                Heard::Event(1, Some(Event::Welcome(_))) => return client,
                Heard::Event(0, _) | Heard::Pong(_) => {}
                _ => panic!("a welcome was due"),
            }
        }
    }

    /// Sends a frame; whether anybody takes it is seen afterwards.
    async fn send(&mut self, piece: Piece) {
        let mask = piece.masked.then_some([0x37, 0xfa, 0x21, 0x3d]);
        let mut frame = Frame::new(piece.fin, piece.opcode, mask, piece.payload.into());
        if mask.is_some() {
            frame.mask();
        }
        let _ = timeout(PATIENCE, self.0.write_frame(frame)).await;
    }

    async fn say(&mut self, request: u64, verb: Verb) {
        self.send(piece(true, OpCode::Binary, wire_bytes(request, verb))).await;
    }

    async fn hear(&mut self) -> Heard {
        let frame = timeout(PATIENCE, self.0.read_frame()).await.expect("the relay says something");
        let frame = match frame {
            Ok(frame) => frame,
            Err(WebSocketError::UnexpectedEOF | WebSocketError::IoError(_)) => return Heard::End,
            Err(error) => panic!("the library does not accept what the relay sends: {error}"),
        };
        assert!(frame.fin, "the relay sends no message in pieces");
        match frame.opcode {
            OpCode::Binary => {
                let frame =
                    RelayFrame::from_bytes(frame.payload.to_vec().into()).expect("a frame of the wire");
                Heard::Event(frame.request, frame.event)
            }
            OpCode::Pong => Heard::Pong(frame.payload.to_vec()),
            OpCode::Close => {
                let code = frame.payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
                Heard::Close(Code(code))
            }
            OpCode::Ping | OpCode::Text | OpCode::Continuation => {
                panic!("the relay sends binary messages only")
            }
        }
    }

    /// Whether the connection still serves.
    async fn after(&mut self) -> Outcome {
        self.say(7, Verb::Ping(wire::Ping { nonce: 7 })).await;
        loop {
            match self.hear().await {
                Heard::Event(7, Some(Event::Pong(_))) => return Outcome::Works,
                Heard::Close(code) => return Outcome::Close(code),
                Heard::End => return Outcome::Dropped,
                Heard::Event(..) | Heard::Pong(_) => {}
            }
        }
    }
}

/// Sends the frames, and tells what becomes of the connection.
pub(crate) async fn sent(scene: &Scene, pieces: Vec<Piece>) -> Outcome {
    let mut client = Client::welcomed(scene, false).await;
    for piece in pieces {
        client.send(piece).await;
    }
    client.after().await
}

/// Section 5.5.3: a pong has the ping's payload, and they come in order.
async fn pings_are_answered(scene: &Scene) -> Outcome {
    let mut client = Client::welcomed(scene, false).await;
    let payloads = [vec![], vec![0], b"\xff\xfe no text".to_vec(), vec![9; 125]];
    for payload in &payloads {
        client.send(piece(true, OpCode::Ping, payload.clone())).await;
        let answer = loop {
            match client.hear().await {
                Heard::Pong(answer) => break answer,
                Heard::Event(..) => {}
                Heard::Close(code) => return Outcome::Close(code),
                Heard::End => return Outcome::Dropped,
            }
        };
        assert_eq!(answer, *payload);
    }
    client.after().await
}

/// Handshake, hello and requests, each byte written for itself.
async fn byte_by_byte(scene: &Scene) -> Outcome {
    Client::welcomed(scene, true).await.after().await
}

/// Section 5.5.1: nothing counts after a close.
async fn after_a_close(scene: &Scene) -> Outcome {
    let mut client = Client::welcomed(scene, false).await;
    let conversation = direct("mallory", "after-a-close");
    client.send(piece(true, OpCode::Close, close_payload(1000, b""))).await;
    client.say(7, Verb::Send(send(&conversation))).await;
    let outcome = loop {
        match client.hear().await {
            Heard::Close(code) => break Outcome::Close(code),
            Heard::End => break Outcome::Dropped,
            Heard::Event(0, _) | Heard::Pong(_) => {}
            Heard::Event(..) => return Outcome::Works,
        }
    };
    // Where it had counted, there would be a message.
    let mut peer = scene.user("mallory").await;
    let history = wire::History { conversation, limit: 1, ..wire::History::default() };
    let request = peer.ask(Verb::History(history)).await;
    if let Ok(Event::HistoryPage(page)) = peer.answer(request).await {
        assert_eq!(page.last_seq, 0, "nothing counts after a close");
    }
    outcome
}
