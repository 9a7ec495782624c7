//! The goodbye besides the socket: a page that ends sends it with `navigator.sendBeacon`, as a POST that no browser asks
//! permission for first. Whether it was of any use is for the core to know and for nobody else.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hongyan_protocol::limits::BEACON_BYTES_MAX;
use tokio::time::timeout;

use super::http::{Front, plain};
use super::limits::BODY_TIME;
use super::lines::Inbound;

/// Takes a beacon.
pub(super) async fn bye(State(front): State<Arc<Front>>, request: Request<Body>) -> Response {
    if request.method() != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "A goodbye is sent by POST.");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if !front.origins.permits(request.headers()) {
        return plain(
            StatusCode::FORBIDDEN,
            "Pages from this origin may not say goodbye here; the relay's `allowed_origins` lists those that may.",
        );
    }
    let body = request.into_body();
    // What is too long by its own word is not waited for.
    if body.size_hint().lower() > BEACON_BYTES_MAX as u64 {
        return too_long();
    }
    let body = match timeout(BODY_TIME, to_bytes(body, BEACON_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return too_long(),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "The goodbye did not come in time."),
    };
    // Before the start and after the end there is nobody to say goodbye to.
    if let Some(core) = front.core.get() {
        core.send(Inbound::Goodbye(body)).await;
    }
    StatusCode::NO_CONTENT.into_response()
}

fn too_long() -> Response {
    plain(StatusCode::PAYLOAD_TOO_LARGE, format!("A goodbye has at most {BEACON_BYTES_MAX} bytes."))
}
