//! The routes, and who may use them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hongyan_protocol::limits::CLIENT_FRAME_BYTES_MAX;
use hongyan_protocol::{SUB_PROTOCOL, UserId};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::addresses::{Network, client_address};
use super::api::{self, Api};
use super::bye;
use super::demo;
use super::door;
use super::gate::{Gate, Pass, Refusal};
use super::limits::{
    DEV_TOKEN_TIME, READ_BUFFER_BYTES, TOKEN_TIME_MAX, WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES_MAX,
};
use super::lines::CoreHandle;
use super::origin::{OriginPolicy, is_loopback_authority, is_loopback_origin};
use super::pace::Pace;
use super::socket;
use super::tokens::Keyring;
use crate::core::ConnectionId;

/// What the routes share.
pub(crate) struct Front {
    /// There once the store is open.
    pub(crate) core: OnceLock<CoreHandle>,
    /// Why `/readyz` says no and sockets are refused; `None` when ready.
    pub(crate) unready: RwLock<Option<&'static str>>,
    pub(crate) origins: OriginPolicy,
    pub(crate) trusted_proxies: Vec<Network>,
    /// Open WebSockets.
    pub(crate) sockets: Arc<Gate>,
    /// How fast they are opened.
    pub(crate) pace: Pace,
    /// The API of the app's own servers.
    pub(crate) api: Api,
    /// In development mode, what signs the tokens of `/dev/token`; there once the data folder is.
    pub(crate) dev: Option<OnceLock<Arc<Keyring>>>,
    /// Where connections are served that said hello.
    workers: Handle,
    next_connection: AtomicU64,
}

impl Front {
    /// Within the runtime of the workers.
    pub(crate) fn new(
        origins: OriginPolicy,
        trusted_proxies: Vec<Network>,
        sockets: Arc<Gate>,
        pace: Pace,
        api: Api,
        dev: bool,
    ) -> Self {
        Self {
            core: OnceLock::new(),
            unready: RwLock::new(Some("The relay is starting.")),
            origins,
            trusted_proxies,
            sockets,
            pace,
            api,
            dev: dev.then(OnceLock::new),
            workers: Handle::current(),
            next_connection: AtomicU64::new(1),
        }
    }

    /// Turns readiness on or off.
    pub(crate) fn set_unready(&self, why: Option<&'static str>) {
        *self.unready.write().unwrap_or_else(std::sync::PoisonError::into_inner) = why;
    }

    /// Why it is not ready.
    pub(crate) fn unready(&self) -> Option<&'static str> {
        *self.unready.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The other end of the TCP connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Its place among the connections, kept as long as the connection is.
    pub(crate) pass: Arc<Pass>,
}

/// All routes.
pub(crate) fn router(front: Arc<Front>) -> Router {
    let mut router = Router::new()
        .route("/ws", get(web_socket))
        .route("/bye", any(bye::bye))
        .route("/healthz", get(|| async { plain(StatusCode::OK, "ok") }))
        .route("/readyz", get(ready));
    if front.dev.is_some() {
        router = router.route("/dev/token", get(dev_token));
    }
    router
        .merge(demo::routes())
        .merge(api::routes(&front))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, "There is nothing at this address.") })
        .layer(from_fn_with_state(Arc::clone(&front), guard))
        .with_state(front)
}

/// A sentence as an answer.
pub(crate) fn plain(status: StatusCode, sentence: impl Into<String>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, sentence.into()).into_response()
}

fn later(status: StatusCode, sentence: &'static str) -> Response {
    let mut response = plain(status, sentence);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// What holds for every route.
async fn guard(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    // A page elsewhere can let its own host name point to this machine, and would then share our origin.
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let mut response = if front.dev.is_some() && !host.is_some_and(is_loopback_authority) {
        plain(
            StatusCode::FORBIDDEN,
            "In development mode the relay answers only to localhost, 127.0.0.1 and [::1].",
        )
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn ready(State(front): State<Arc<Front>>) -> Response {
    match front.unready() {
        None => plain(StatusCode::OK, "ready"),
        Some(why) => later(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn web_socket(
    State(front): State<Arc<Front>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request<Body>,
) -> Response {
    if let Some(why) = front.unready() {
        return later(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    let Some(core) = front.core.get().cloned() else {
        return later(StatusCode::SERVICE_UNAVAILABLE, "The relay is starting.");
    };
    let headers = request.headers();
    if !front.origins.permits(headers) {
        return plain(
            StatusCode::FORBIDDEN,
            "Pages from this origin may not connect; the relay's `allowed_origins` lists those that may.",
        );
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols([SUB_PROTOCOL]),
        Err(rejection) => {
            let status = rejection.into_response().status();
            return plain(
                status,
                format!("Connect here by WebSocket, with the sub-protocol {SUB_PROTOCOL}."),
            );
        }
    };
    if upgrade.selected_protocol().is_none() {
        return plain(
            StatusCode::BAD_REQUEST,
            format!(
                "The WebSocket must ask for the sub-protocol {SUB_PROTOCOL}; this relay speaks no other."
            ),
        );
    }
    let Some(Peer { address, pass: tcp_pass }) = request.extensions().get().cloned() else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "The relay does not know whose connection this is.");
    };
    let address = client_address(address.ip(), headers, &front.trusted_proxies);
    // Who waits for a turn has a place already: behind a proxy nothing else bounds how many of an address wait.
    let pass = match front.sockets.enter(Some(address)) {
        Ok(pass) => pass,
        Err(Refusal::InAll) => {
            return later(StatusCode::SERVICE_UNAVAILABLE, "The relay has as many connections as it may.");
        }
        Err(Refusal::FromAddress) => {
            return later(StatusCode::TOO_MANY_REQUESTS, "There are too many connections from this address.");
        }
    };
    let Some(pass) = front.pace.turn(address, pass).await else {
        return later(StatusCode::TOO_MANY_REQUESTS, "Too many connections are opened from this address.");
    };
    // It may have begun to stop meanwhile.
    if let Some(why) = front.unready() {
        return later(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    let connection = ConnectionId(front.next_connection.fetch_add(1, Ordering::Relaxed));
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(CLIENT_FRAME_BYTES_MAX)
        .max_frame_size(CLIENT_FRAME_BYTES_MAX)
        .on_upgrade(async move |web_socket| {
            let (settled, is_settled) = oneshot::channel();
            let serving = socket::serve(web_socket, connection, core, settled, (pass, tcp_pass));
            door::pass(serving, is_settled, &front.workers).await;
        })
}

#[derive(Deserialize)]
struct DevTokenQuery {
    user: Option<String>,
    /// Seconds.
    expires: Option<String>,
}

/// A token for anybody who asks, on this machine and in development mode only.
async fn dev_token(
    State(front): State<Arc<Front>>,
    Query(query): Query<DevTokenQuery>,
    headers: HeaderMap,
) -> Response {
    if !front.origins.permits(&headers) {
        return plain(StatusCode::FORBIDDEN, "Only pages from this machine get development tokens.");
    }
    let Some(keyring) = front.dev.as_ref().and_then(OnceLock::get) else {
        return later(StatusCode::SERVICE_UNAVAILABLE, "The relay is starting.");
    };
    let user = match UserId::new(query.user.as_deref().unwrap_or_default()) {
        Ok(user) => user,
        Err(error) => {
            return plain(StatusCode::BAD_REQUEST, format!("Ask with ?user=NAME: {error}."));
        }
    };
    let valid_for = match query.expires.as_deref().map(str::parse::<u64>) {
        None => DEV_TOKEN_TIME,
        Some(Ok(seconds)) if seconds <= TOKEN_TIME_MAX.as_secs() => Duration::from_secs(seconds),
        Some(_) => {
            return plain(
                StatusCode::BAD_REQUEST,
                format!("`expires` is a number of seconds, {} at most.", TOKEN_TIME_MAX.as_secs()),
            );
        }
    };
    let mut response = match keyring.sign(&user, valid_for) {
        Ok(token) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (headers, token).into_response()
        }
        Err(sentence) => plain(StatusCode::INTERNAL_SERVER_ERROR, sentence),
    };
    let origin = headers.get(header::ORIGIN).filter(|o| o.to_str().is_ok_and(is_loopback_origin));
    if let Some(origin) = origin {
        let name: HeaderName = header::ACCESS_CONTROL_ALLOW_ORIGIN;
        response.headers_mut().insert(name, origin.clone());
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}
