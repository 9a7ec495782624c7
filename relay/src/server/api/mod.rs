//! The API of the app's own servers, at `/api/v1`: JSON over HTTP, opened by a key.
//!
//! The table in [`routes`] is everything: the router and `/api/v1/openapi.json` are made of it, and each row's types
//! are those of its handler. It knows nothing that the core does not: what a handler asks is a [`Query`].
//!
//! *Invariant:* without a configured key there is nothing here. Keys are compared in a time that tells nothing, and
//! neither they nor a path (it names users) reach a log line. A request waits for a body, and for its turn, within a
//! bound.
//!
//! *How to add a route:* a row and its handler in [`routes`], its types in [`shapes`].

mod keys;
mod openapi;
mod refused;
mod routes;
mod shapes;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get};
use hongyan_protocol::{ConversationId, DeviceId, IdError, UserId};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use self::refused::Refused;
use self::routes::{Body as RequestBody, Parameter, table};
use super::http::Front;
use super::limits::{API_REQUESTS_MAX, BODY_TIME};
use super::lines::CoreHandle;
use crate::core::queries::{Answer, Query};

pub(crate) use self::keys::ApiKeys;

/// What the API shares among its requests.
pub(crate) struct Api {
    keys: ApiKeys,
    /// Places for those that are being served.
    places: Semaphore,
}

impl Api {
    pub(crate) fn new(keys: ApiKeys) -> Self {
        Self { keys, places: Semaphore::new(API_REQUESTS_MAX) }
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, Refused> {
        self.places.try_acquire().map_err(|_| Refused::BUSY)
    }
}

/// The routes of the API.
pub(crate) fn routes(front: &Arc<Front>) -> Router<Arc<Front>> {
    let mut router = Router::new();
    let rows = table();
    let document = Arc::new(openapi::document(&rows));
    for row in rows {
        router = router.route(row.path, row.service);
    }
    router
        .route("/api", get(nothing))
        .route("/api/", get(nothing))
        .route("/api/{*path}", get(nothing))
        .method_not_allowed_fallback(|| async { Refused::METHOD_NOT_ALLOWED })
        .layer(from_fn_with_state(Arc::clone(front), with_key))
        // Whoever writes a program for it may read what it is like.
        .route(openapi::PATH, get(async move || json(&*document)))
        .layer(from_fn_with_state(Arc::clone(front), when_on))
}

async fn nothing() -> Refused {
    Refused::NOT_FOUND
}

/// Without a key in the configuration there is no API.
async fn when_on(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    if front.api.keys.is_empty() {
        return Refused::NOT_FOUND
            .because("This relay has no API: its configuration has no `api.keys`.")
            .into_response();
    }
    next.run(request).await
}

async fn with_key(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    if !front.api.keys.admit(request.headers()) {
        return Refused::UNAUTHORIZED.into_response();
    }
    next.run(request).await
}

/// Anything as JSON.
fn json(value: &impl Serialize) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    match serde_json::to_vec(value) {
        Ok(bytes) => (headers, bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// One request whose key is good, as its handler sees it.
struct Call {
    front: Arc<Front>,
    /// From the path, decoded.
    names: Vec<(String, String)>,
    /// From the query, decoded: only parameters that the route has.
    query: Vec<(String, String)>,
}

impl Call {
    fn name(&self, name: &str) -> &str {
        self.names.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// The user in the path.
    fn user(&self) -> Result<UserId, Refused> {
        Ok(UserId::new(self.name("user"))?)
    }

    /// The group in the path.
    fn group(&self) -> Result<ConversationId, Refused> {
        Ok(ConversationId::new(self.name("group"))?)
    }

    /// A parameter of the query that is there once at most.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The device in the path.
    fn device(&self) -> Result<DeviceId, Refused> {
        Ok(DeviceId::new(self.name("device"))?)
    }

    /// The users in the query.
    fn users(&self) -> Result<Vec<UserId>, Refused> {
        let users: Vec<_> = self.query.iter().map(|(_, user)| UserId::new(user)).collect::<Result<_, _>>()?;
        if users.is_empty() {
            return Err(Refused::BAD_REQUEST.because("Name the users: ?user=ONE&user=ANOTHER."));
        }
        Ok(users)
    }

    /// Asks the core, when it may be asked.
    async fn ask(&self, query: Query) -> Result<Answer, Refused> {
        let core = self.core()?;
        let _place = self.front.api.place()?;
        match core.ask(query).await {
            Some(Answer::Refused(code)) => Err(code.into()),
            Some(answer) => Ok(answer),
            None => Err(Refused::NOT_READY),
        }
    }

    fn core(&self) -> Result<CoreHandle, Refused> {
        if let Some(why) = self.front.unready() {
            return Err(Refused::NOT_READY.because(why));
        }
        self.front.core.get().cloned().ok_or(Refused::NOT_READY)
    }
}

impl From<IdError> for Refused {
    fn from(error: IdError) -> Self {
        Self::BAD_REQUEST.because(format!("What should be an id is none: {error}."))
    }
}

/// What axum calls for a route.
fn serve<B, T, H, F>(
    parameters: &'static [Parameter],
    handler: H,
) -> impl Fn(State<Arc<Front>>, Names, RawQuery, Request) -> Served + Clone + Send + Sync + 'static
where
    B: RequestBody,
    T: Serialize,
    H: Fn(Call, B) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, Refused>> + Send,
{
    move |State(front), names, RawQuery(query), request| {
        let handler = handler.clone();
        Box::pin(async move {
            let served = async {
                let query = parameters_of(query.as_deref().unwrap_or_default(), parameters)?;
                let call = Call { front, names: names_of(names)?, query };
                let body = body_of(request.into_body()).await?;
                handler(call, body).await
            };
            match served.await {
                Ok(answer) => json(&answer),
                Err(refused) => refused.into_response(),
            }
        })
    }
}

type Names = Result<RawPathParams, RawPathParamsRejection>;
type Served = Pin<Box<dyn Future<Output = Response> + Send>>;

fn names_of(names: Names) -> Result<Vec<(String, String)>, Refused> {
    let names = names.map_err(|_| Refused::BAD_REQUEST.because("The path is not UTF-8."))?;
    Ok(names.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// A parameter that is written wrong must not be passed over: without it the request could mean more.
fn parameters_of(query: &str, known: &[Parameter]) -> Result<Vec<(String, String)>, Refused> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
            return Err(
                Refused::BAD_REQUEST.because("The query has a parameter that this address does not take.")
            );
        };
        if found.iter().filter(|(found, _)| *found == name).count() >= parameter.count_max {
            let message = format!("`{}` may be given {} times at most.", parameter.name, parameter.count_max);
            return Err(Refused::BAD_REQUEST.because(message));
        }
        found.push((name.into_owned(), value.into_owned()));
    }
    Ok(found)
}

async fn body_of<B: RequestBody>(body: Body) -> Result<B, Refused> {
    let bytes = timeout(BODY_TIME, to_bytes(body, B::BYTES_MAX))
        .await
        .map_err(|_| Refused::TOO_SLOW)?
        // Or the connection broke, and nobody reads this.
        .map_err(|_| Refused::TOO_LARGE)?;
    if bytes.is_empty() {
        if B::IS_NEEDED {
            return Err(Refused::BAD_REQUEST.because("The request needs a body, as JSON."));
        }
        return Ok(B::default());
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Refused::BAD_REQUEST.because(format!("The body is not what it should be: {error}.")))
}
