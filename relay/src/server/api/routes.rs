//! The table of routes, and what each does.

use std::future::Future;
use std::sync::Arc;

use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use hongyan_protocol::limits::{MEMBER_PAGE_MAX, TITLE_BYTES_MAX};
use hongyan_protocol::{DeviceId, Time, UserId};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Call;
use super::refused::Refused;
use super::shapes::{
    DeviceList, Group, GroupSettings, Kick, Kicked, MemberPage, NewGroup, Nothing, PresenceList, SignedOut,
    TokensRevoked, Users,
};
use crate::core::limits::QUERY_MEMBERS_MAX;
use crate::core::queries::{Answer, GroupQuery, Query, is_title};
use crate::server::http::Front;
use crate::server::limits::{API_BODY_BYTES_MAX, API_USERS_BODY_BYTES_MAX, API_USERS_MAX};

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
    pub(super) needs_body: bool,
    pub(super) answer: fn(&mut SchemaGenerator) -> Schema,
    /// Reasons of its own.
    pub(super) refusals: &'static [Refused],
    pub(super) service: MethodRouter<Arc<Front>>,
}

/// A parameter in the query, given once or more often.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) is_needed: bool,
    pub(super) count_max: usize,
}

/// The names in paths.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("user", "The user's id, percent-encoded."),
    ("device", "The device's id, percent-encoded."),
    ("group", "The group's id."),
];

const USERS: Parameter = Parameter {
    name: "user",
    doc: "A user's id, once for each user.",
    is_needed: true,
    count_max: API_USERS_MAX,
};
const AFTER: Parameter = Parameter {
    name: "after",
    doc: "The id of the user after whom the page begins.",
    is_needed: false,
    count_max: 1,
};
const LIMIT: Parameter = Parameter {
    name: "limit",
    doc: "How many at most; 500 when it is left out, and at most.",
    is_needed: false,
    count_max: 1,
};

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
        Row {
            summary: "Make a group",
            details: "It has an id of its own, which the answer names. To fill a large one, add members afterwards. A \
                      request whose answer was lost may have made a group: ask again, and you have two.",
            ..row(Method::POST, "/api/v1/groups", &[], create_group)
        },
        Row {
            summary: "How a group is",
            details: "As it is now.",
            refusals: &[Refused::NO_SUCH_GROUP],
            ..row(Method::GET, "/api/v1/groups/{group}", &[], show_group)
        },
        Row {
            summary: "Change how a group's messages travel",
            details: "It changes over while messages go on, and no device notices. A group of more than 5,000 comes by \
                      its log whatever is set.",
            refusals: &[Refused::NO_SUCH_GROUP],
            ..row(Method::PATCH, "/api/v1/groups/{group}", &[], set_group)
        },
        Row {
            summary: "A group's members",
            details: "A page of them, by id, ascending.",
            refusals: &[Refused::NO_SUCH_GROUP],
            ..row(Method::GET, "/api/v1/groups/{group}/members", &[AFTER, LIMIT], members)
        },
        Row {
            summary: "Add members to a group",
            details: "Who is a member already changes nothing, so that a request may be repeated. Answered when it is \
                      durable.",
            refusals: &[Refused::NO_SUCH_GROUP, Refused::GROUP_FULL],
            ..row(Method::POST, "/api/v1/groups/{group}/members", &[], add_members)
        },
        Row {
            summary: "Remove members from a group",
            details: "Who is no member changes nothing. Of an owner who goes, the longest-standing member takes over.",
            refusals: &[Refused::NO_SUCH_GROUP],
            ..row(Method::DELETE, "/api/v1/groups/{group}/members", &[USERS], remove_members)
        },
    ]
}

async fn create_group(call: Call, new: NewGroup) -> Result<Group, Refused> {
    let (owner, members) = (UserId::new(&new.owner)?, ids(&new.members)?);
    if !is_title(&new.title) {
        let message = format!("A title has 1 to {TITLE_BYTES_MAX} bytes.");
        return Err(Refused::BAD_REQUEST.because(message));
    }
    let query = Query::CreateGroup { title: new.title, owner, members, mode: new.diffusion.into() };
    match call.ask(query).await? {
        Answer::Group(group) => Ok(group.into()),
        _ => Err(Refused::INTERNAL),
    }
}

async fn show_group(call: Call, _: Nothing) -> Result<Group, Refused> {
    call.group_query(GroupQuery::Show).await
}

async fn set_group(call: Call, settings: GroupSettings) -> Result<Group, Refused> {
    call.group_query(GroupQuery::SetMode(settings.diffusion.into())).await
}

async fn add_members(call: Call, Users { users }: Users) -> Result<Group, Refused> {
    let users = ids(&users)?;
    call.group_query(GroupQuery::Add(users)).await
}

async fn remove_members(call: Call, _: Nothing) -> Result<Group, Refused> {
    let users = call.users()?;
    call.group_query(GroupQuery::Remove(users)).await
}

async fn members(call: Call, _: Nothing) -> Result<MemberPage, Refused> {
    let group = call.group()?;
    let after = call.parameter("after").map(UserId::new).transpose()?;
    let limit = match call.parameter("limit").map(str::parse::<usize>) {
        None => MEMBER_PAGE_MAX,
        Some(Ok(limit @ 1..=MEMBER_PAGE_MAX)) => limit,
        Some(_) => {
            let message = format!("`limit` is a number from 1 to {MEMBER_PAGE_MAX}.");
            return Err(Refused::BAD_REQUEST.because(message));
        }
    };
    match call.ask(Query::Group(group.clone(), GroupQuery::Members { after, limit })).await? {
        Answer::Members(members, more) => {
            let members = members.into_iter().map(|user| user.as_str().to_owned()).collect();
            Ok(MemberPage { group: group.as_str().to_owned(), members, more })
        }
        Answer::NoSuchGroup => Err(Refused::NO_SUCH_GROUP),
        _ => Err(Refused::INTERNAL),
    }
}

impl Call {
    async fn group_query(self, query: GroupQuery) -> Result<Group, Refused> {
        match self.ask(Query::Group(self.group()?, query)).await? {
            Answer::Group(group) => Ok(group.into()),
            Answer::NoSuchGroup => Err(Refused::NO_SUCH_GROUP),
            _ => Err(Refused::INTERNAL),
        }
    }
}

/// The users named in a body.
fn ids(users: &[String]) -> Result<Vec<UserId>, Refused> {
    if users.len() > QUERY_MEMBERS_MAX {
        let message = format!("Name {QUERY_MEMBERS_MAX} users at most in one request.");
        return Err(Refused::BAD_REQUEST.because(message));
    }
    Ok(users.iter().map(|user| UserId::new(user)).collect::<Result<_, _>>()?)
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
    /// It must be there.
    const IS_NEEDED: bool = false;
    /// Its bytes at most.
    const BYTES_MAX: usize = API_BODY_BYTES_MAX;
}

impl Body for Nothing {
    const IS_EMPTY: bool = true;
}

impl Body for Kick {}

impl Body for GroupSettings {
    const IS_NEEDED: bool = true;
}

impl Body for NewGroup {
    const IS_NEEDED: bool = true;
    const BYTES_MAX: usize = API_USERS_BODY_BYTES_MAX;
}

impl Body for Users {
    const IS_NEEDED: bool = true;
    const BYTES_MAX: usize = API_USERS_BODY_BYTES_MAX;
}

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
        needs_body: B::IS_NEEDED,
        answer: SchemaGenerator::subschema_for::<T>,
        refusals: &[],
        service: on(filter, super::serve(query, handler)),
    }
}
