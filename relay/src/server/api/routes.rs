//! The table of routes, and what each does.

use std::future::Future;
use std::sync::Arc;

use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use hongyan_protocol::{DeviceId, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Call;
use super::refused::Refused;
use super::shapes::{DeviceList, Kick, Kicked, Nothing, PresenceList, SignedOut, TokensRevoked};
use crate::core::queries::{Answer, Query};
use crate::server::http::Front;
use crate::server::limits::API_USERS_MAX;

/// One route.
pub(super) struct Row {
    pub(super) method: Method,
    /// Names in braces are rows of [`NAMES`].
    pub(super) path: &'static str,
    /// One line.
    pub(super) summary: &'static str,
    /// What else there is to know.
    pub(super) details: &'static str,
    pub(super) query: &'static [Parameter],
    /// `None` when it needs none.
    pub(super) body: Option<fn(&mut SchemaGenerator) -> Schema>,
    pub(super) answer: fn(&mut SchemaGenerator) -> Schema,
    /// Reasons of its own.
    pub(super) refusals: &'static [Refused],
    pub(super) service: MethodRouter<Arc<Front>>,
}

/// A parameter in the query, given once or more often.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) count_max: usize,
}

/// The names in paths.
pub(super) const NAMES: &[(&str, &str)] =
    &[("user", "The user's id, percent-encoded."), ("device", "The device's id, percent-encoded.")];

const USERS: Parameter =
    Parameter { name: "user", doc: "A user's id, once for each user.", count_max: API_USERS_MAX };

/// All routes.
pub(super) fn table() -> Vec<Row> {
    vec![
        Row {
            summary: "How users are",
            details: "The same truth that the users' own devices are shown, also of who is invisible to others. A request's line and headers have 16 KiB \
                      at most: of users with long ids, ask for fewer at once.",
            ..row(Method::GET, "/api/v1/presence", &[USERS], presence)
        },
        Row {
            summary: "A user's devices",
            details: "Those that are not signed out, connected or not.",
            ..row(Method::GET, "/api/v1/users/{user}/devices", &[], devices)
        },
        Row {
            summary: "Sign a device out",
            details: "Ends its session for good, also when it is not connected: its connections end with 4311 and it \
                      empties its cache, now or whenever it comes. The user can sign in anew there, as a new device. \
                      Answered when it is durable; a second time is no error.",
            refusals: &[Refused::NO_SUCH_DEVICE],
            ..row(Method::DELETE, "/api/v1/users/{user}/devices/{device}", &[], sign_out)
        },
        Row {
            summary: "End a user's connections",
            details: "They end with 4315, and do not come back by themselves. The user may sign in again: to keep her \
                      out, give her no token, and revoke those that she has.",
            ..row(Method::POST, "/api/v1/users/{user}/kick", &[], kick)
        },
        Row {
            summary: "Revoke a user's tokens",
            details: "From now on every token that was issued (`iat`) up to now is refused with 4314, and connections \
                      that were opened with one end with it. Answered when it is durable. `iat` is mostly in whole \
                      seconds, so a new token for this user must not be issued before `iat_min`.",
            ..row(Method::POST, "/api/v1/users/{user}/revoke-tokens", &[], revoke_tokens)
        },
    ]
}

async fn presence(call: Call, _: Nothing) -> Result<PresenceList, Refused> {
    let users = call.users()?;
    let Answer::Presence(presence) = call.ask(Query::Presence(users)).await? else {
        return Err(Refused::INTERNAL);
    };
    Ok(PresenceList { presence: presence.into_iter().map(Into::into).collect() })
}

async fn devices(call: Call, _: Nothing) -> Result<DeviceList, Refused> {
    let user = call.user()?;
    let Answer::Devices(devices) = call.ask(Query::Devices(user.clone())).await? else {
        return Err(Refused::INTERNAL);
    };
    let devices = devices.into_iter().map(Into::into).collect();
    Ok(DeviceList { user: user.as_str().to_owned(), devices })
}

async fn sign_out(call: Call, _: Nothing) -> Result<SignedOut, Refused> {
    let (user, device) = (call.user()?, call.device()?);
    match call.ask(Query::SignOut(user.clone(), device.clone())).await? {
        Answer::SignedOut => {
            Ok(SignedOut { user: user.as_str().to_owned(), device: device.as_str().to_owned() })
        }
        Answer::NoSuchDevice => Err(Refused::NO_SUCH_DEVICE),
        _ => Err(Refused::INTERNAL),
    }
}

async fn kick(call: Call, Kick { device }: Kick) -> Result<Kicked, Refused> {
    let user = call.user()?;
    let device = device.map(|device| DeviceId::new(&device)).transpose()?;
    let Answer::Kicked(connections) = call.ask(Query::Kick(user.clone(), device)).await? else {
        return Err(Refused::INTERNAL);
    };
    Ok(Kicked { user: user.as_str().to_owned(), connections })
}

async fn revoke_tokens(call: Call, _: Nothing) -> Result<TokensRevoked, Refused> {
    let user = call.user()?;
    let Answer::TokensRevoked(Time(time)) = call.ask(Query::RevokeTokens(user.clone())).await? else {
        return Err(Refused::INTERNAL);
    };
    Ok(TokensRevoked { user: user.as_str().to_owned(), revoked_before: time, iat_min: time / 1_000 + 1 })
}

/// A body that may be left out.
pub(super) trait Body: DeserializeOwned + Default + JsonSchema {
    /// Nothing can be said in it.
    const IS_EMPTY: bool = false;
}

impl Body for Nothing {
    const IS_EMPTY: bool = true;
}

impl Body for Kick {}

/// A row whose types are its handler's.
fn row<B, T, H, F>(method: Method, path: &'static str, query: &'static [Parameter], handler: H) -> Row
where
    B: Body,
    T: Serialize + JsonSchema,
    H: Fn(Call, B) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<T, Refused>> + Send,
{
    let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
    Row {
        method,
        path,
        summary: "",
        details: "",
        query,
        body: if B::IS_EMPTY { None } else { Some(SchemaGenerator::subschema_for::<B>) },
        answer: SchemaGenerator::subschema_for::<T>,
        refusals: &[],
        service: on(filter, super::serve(query, handler)),
    }
}
