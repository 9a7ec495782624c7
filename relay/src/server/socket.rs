//! One connection, from the open WebSocket to its end: a reader and a writer, run together by one task.
//!
//! Whatever is no frame (text, an oversized message, bytes that are no WebSocket) ends it with `BAD_FRAME`, 4300.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hongyan_protocol::Code;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::limits::{CLOSE_TIME, LINGER_TIME};
use super::lines::{CoreHandle, Inbound};
use super::outgoing::{Outgoing, Taken};
use crate::core::ConnectionId;

/// Serves the connection until it is gone, and tells the core so whatever happened. `settled` hears when the core has
/// taken its first message; `places` are given back at the end.
pub(crate) fn serve(
    socket: WebSocket,
    connection: ConnectionId,
    core: CoreHandle,
    settled: oneshot::Sender<()>,
    places: impl Send + 'static,
) -> Pin<Box<impl Future<Output = ()> + Send>> {
    // A future's size is a connection's memory, and what is moved into another is held twice: so the socket is split
    // before there is a future, and no future has a name.
    let (sink, stream) = socket.split();
    Box::pin(async move {
        let _places = places;
        let outgoing = Arc::new(Outgoing::default());
        if !core.send(Inbound::Connected(connection, Arc::clone(&outgoing))).await {
            return;
        }
        // A defect in the socket's library must cost this connection only; the panic hook has reported it.
        let _ = AssertUnwindSafe(exchange(sink, stream, connection, &core, &outgoing, settled))
            .catch_unwind()
            .await;
        core.send(Inbound::Closed(connection)).await;
    })
}

async fn exchange(
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
    connection: ConnectionId,
    core: &CoreHandle,
    outgoing: &Outgoing,
    settled: oneshot::Sender<()>,
) {
    let open = async {
        let gone = tokio::select! {
            // The writer ends with a close frame written, or with a broken socket.
            closed = write(&mut sink, connection, core, outgoing) => closed.is_err(),
            // The reader ends when the peer closed, or the core is gone.
            () = read(&mut stream, connection, core, outgoing, settled) => true,
        };
        if !gone {
            // The peer answers a close frame with its own; what it sent before is of no interest any more.
            while let Some(Ok(_)) = stream.next().await {}
            // After an error the stream can't see that answer. To end the connection while the peer still sends
            // would reset it, and the close frame could be lost.
            if outgoing.is_unreadable() {
                sleep(LINGER_TIME).await;
            }
        }
    };
    tokio::select! {
        () = open => {}
        // A peer that takes nothing can't keep a connection that was decided to end.
        () = async { outgoing.ending().await; sleep(CLOSE_TIME).await } => {}
    }
}

async fn read(
    stream: &mut SplitStream<WebSocket>,
    connection: ConnectionId,
    core: &CoreHandle,
    outgoing: &Outgoing,
    settled: oneshot::Sender<()>,
) {
    let mut settled = Some(settled);
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Binary(frame)) => {
                let is_taken = match settled.take() {
                    None => core.send(Inbound::Frame(connection, frame)).await,
                    Some(settled) => core.introduce(connection, frame).await && settled.send(()).is_ok(),
                };
                if !is_taken {
                    return;
                }
            }
            Ok(Message::Text(_)) => return bad_frame(outgoing).await,
            // The library answers pings; they prove a living host, not a living client, and are no frame.
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            // The library has answered, and the stream ends after it.
            Ok(Message::Close(_)) => {}
            // An oversized or malformed message; of a broken socket nobody will hear.
            Err(_) => {
                outgoing.set_unreadable();
                return bad_frame(outgoing).await;
            }
        }
    }
}

/// Ends the connection with [`Code::BAD_FRAME`]; the writer does, within the time of an end.
async fn bad_frame(outgoing: &Outgoing) {
    outgoing.end(Code::BAD_FRAME);
    std::future::pending::<()>().await;
}

/// Writes all that is due in as few writes as the buffer allows, until the connection is to end.
async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    connection: ConnectionId,
    core: &CoreHandle,
    outgoing: &Outgoing,
) -> Result<(), axum::Error> {
    loop {
        let Taken { frames, end, was_woken } = outgoing.take().await;
        if was_woken {
            core.traffic().came();
        }
        let bytes = frames.iter().map(bytes::Bytes::len).sum();
        for frame in frames {
            sink.feed(Message::Binary(frame)).await?;
        }
        if let Some(code) = end {
            return sink.send(Message::Close(Some(close_frame(code)))).await;
        }
        sink.flush().await?;
        core.traffic().report(connection, bytes);
    }
}

fn close_frame(code: Code) -> CloseFrame {
    // A normal closure needs no reason, and a sentence fits the 123 bytes that a close frame has for it.
    let reason = if code.0 == close_code::NORMAL { "" } else { code.sentence() };
    CloseFrame { code: code.0, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_fits_a_close_frame() {
        for code in Code::ALL {
            assert!(code.sentence().len() <= 123, "{code:?}");
        }
    }
}
