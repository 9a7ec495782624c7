//! One WebSocket of a native client, as a task of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hongyan_client::Generation;
use hongyan_protocol::{Code, SUB_PROTOCOL};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::meter::Meter;

/// What a connection tells its client.
pub(crate) enum Heard {
    Opened,
    Frame(Bytes),
    Closed(Code, String),
}

/// What a client tells its connection.
pub(crate) enum Say {
    Frame(Bytes),
    Close(Code),
}

/// A peer that does not answer a close frame is not waited for any longer.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// RFC 6455, section 7.4.1: the network ended it.
pub(crate) const ABNORMAL: Code = Code(1006);

/// Between which addresses.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) source: Option<IpAddr>,
}

/// Dials, and carries frames both ways until either side ends it.
pub(crate) async fn run(
    generation: Generation,
    place: Place,
    meter: Arc<Meter>,
    heard: mpsc::UnboundedSender<(Generation, Heard)>,
    mut say: mpsc::UnboundedReceiver<Say>,
) {
    let end = match dial(place).await {
        Ok(socket) => {
            if heard.send((generation, Heard::Opened)).is_err() {
                return;
            }
            exchange(socket, generation, &meter, &heard, &mut say).await
        }
        Err(error) => {
            if let Error::Http(response) = &error {
                meter.count_refusal(format!("refused with HTTP {}", response.status().as_u16()));
            }
            Some((ABNORMAL, error.to_string()))
        }
    };
    if let Some((code, reason)) = end {
        meter.count_end(code);
        let _ = heard.send((generation, Heard::Closed(code, reason)));
    }
}

async fn dial(Place { address, source }: Place) -> Result<WebSocketStream<TcpStream>, Error> {
    let stream = match source {
        None => TcpStream::connect(address).await?,
        Some(source) => {
            let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // An address left by a connection that ended may be taken again.
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(address).await?
        }
    };
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{address}/ws").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUB_PROTOCOL));
    // The library's own buffer would be 128 KiB for each of thousands.
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(16 * 1024);
    Ok(client_async_with_config(request, stream, Some(config)).await?.0)
}

/// Returns how the peer or the network ended it; `None` when the client did.
async fn exchange(
    mut socket: WebSocketStream<TcpStream>,
    generation: Generation,
    meter: &Meter,
    heard: &mpsc::UnboundedSender<(Generation, Heard)>,
    say: &mut mpsc::UnboundedReceiver<Say>,
) -> Option<(Code, String)> {
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    meter.count_frame(bytes.len());
                    heard.send((generation, Heard::Frame(bytes))).ok()?;
                }
                Some(Ok(Message::Close(frame))) => {
                    return Some(frame.map_or((Code(1005), String::new()), |frame| {
                        (Code(frame.code.into()), frame.reason.to_string())
                    }));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some((ABNORMAL, error.to_string())),
                None => return Some((ABNORMAL, String::new())),
            },
            first = say.recv() => {
                let mut next = Some(first?);
                while let Some(what) = next {
                    match what {
                        Say::Frame(bytes) => {
                            if let Err(error) = socket.feed(Message::Binary(bytes)).await {
                                return Some((ABNORMAL, error.to_string()));
                            }
                        }
                        Say::Close(code) => {
                            let _ = timeout(CLOSE_TIME, close(socket, code)).await;
                            return None;
                        }
                    }
                    next = say.try_recv().ok();
                }
                if let Err(error) = socket.flush().await {
                    return Some((ABNORMAL, error.to_string()));
                }
            }
        }
    }
}

async fn close(mut socket: WebSocketStream<TcpStream>, code: Code) {
    let frame = CloseFrame { code: code.0.into(), reason: "".into() };
    if socket.close(Some(frame)).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}
