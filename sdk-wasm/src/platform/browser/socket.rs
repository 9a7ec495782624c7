//! A WebSocket.

use bytes::Bytes;
use gloo_events::EventListener;
use hongyan_client::{Generation, Input};
use hongyan_protocol::{Code, SUB_PROTOCOL};
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::JsCast;
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

use crate::platform::Sink;

/// No close frame came (RFC 6455, section 7.4.1).
const ABNORMAL: Code = Code(1006);

/// A socket that tells the sink what happens; dropped, it closes and says nothing more.
pub(crate) struct Socket {
    socket: WebSocket,
    generation: Generation,
    _listeners: [EventListener; 3],
}

impl Socket {
    /// Opens a socket; a URL that the browser refuses is a socket that closed at once.
    pub(crate) fn open(url: &str, generation: Generation, sink: &Sink) -> Option<Self> {
        let socket = match WebSocket::new_with_str(url, SUB_PROTOCOL) {
            Ok(socket) => socket,
            Err(error) => {
                let reason = super::words(&error);
                sink(Input::Closed { generation, code: ABNORMAL, reason });
                return None;
            }
        };
        socket.set_binary_type(BinaryType::Arraybuffer);
        let opened = EventListener::new(&socket, "open", {
            let sink = Sink::clone(sink);
            move |_| sink(Input::Opened(generation))
        });
        let message = EventListener::new(&socket, "message", {
            let sink = Sink::clone(sink);
            move |event| {
                let data = event.unchecked_ref::<MessageEvent>().data();
                // The relay speaks binary only; text is an empty frame, which the core refuses.
                let bytes = data
                    .dyn_ref::<ArrayBuffer>()
                    .map(|buffer| Bytes::from(Uint8Array::new(buffer).to_vec()))
                    .unwrap_or_default();
                sink(Input::Frame(generation, bytes));
            }
        });
        let closed = EventListener::once(&socket, "close", {
            let sink = Sink::clone(sink);
            move |event| {
                let event = event.unchecked_ref::<CloseEvent>();
                sink(Input::Closed { generation, code: Code(event.code()), reason: event.reason() });
            }
        });
        Some(Self { socket, generation, _listeners: [opened, message, closed] })
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Sends a frame. A socket that is closing would drop it and complain on the page's console, so it is not asked;
    /// its close event tells.
    pub(crate) fn send(&self, bytes: &[u8]) {
        if self.socket.ready_state() == WebSocket::OPEN {
            let _ = self.socket.send_with_u8_array(bytes);
        }
    }

    /// Closes with a code (1000, or of the table).
    pub(crate) fn close(self, code: Code) {
        // Fails only for codes that are not an application's to send.
        let _ = self.socket.close_with_code(code.0);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Closing again is no error.
        let _ = self.socket.close();
    }
}
