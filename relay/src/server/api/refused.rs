//! What the API says when it does not do it: a status, and `{ "code", "message" }`.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hongyan_protocol::Code;

use super::json;
use super::shapes::Error;

/// One reason.
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: Cow<'static, str>,
}

macro_rules! refusals {
    ($($name:ident = $status:literal, $code:literal, $message:literal;)*) => {
        impl Refused {
            $(pub(super) const $name: Self =
                Self { status: $status, code: $code, message: Cow::Borrowed($message) };)*

            /// All of them, by status.
            pub(super) const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

refusals! {
    BAD_REQUEST = 400, "bad-request", "The request is malformed.";
    UNAUTHORIZED = 401, "unauthorized", "Send a secret of the relay's `api.keys` as `Authorization: Bearer SECRET`.";
    NOT_FOUND = 404, "not-found", "There is nothing at this address.";
    NO_SUCH_GROUP = 404, "no-such-group", "There is no such group.";
    NO_SUCH_DEVICE = 404, "no-such-device", "The user has no such device.";
    METHOD_NOT_ALLOWED = 405, "method-not-allowed", "This address takes another method; the header Allow names it.";
    TOO_SLOW = 408, "too-slow", "The body did not come in time.";
    GROUP_FULL = 409, "group-full", "The group has as many members as a group may have.";
    TOO_LARGE = 413, "too-large", "The body is too large.";
    INTERNAL = 500, "internal", "The relay answered what it was not asked.";
    BUSY = 503, "busy", "The relay has more to do than it can hold; ask again shortly.";
    NOT_READY = 503, "not-ready", "The relay starts or stops; ask again shortly.";
    STORAGE_FAILED = 503, "storage-failed", "The relay could not read or store it; nobody knows whether it is done.";
}

impl Refused {
    /// The same, said better.
    pub(super) fn because(self, message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), ..self }
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        match code {
            Code::BAD_REQUEST => Self::BAD_REQUEST,
            Code::BUSY => Self::BUSY,
            Code::GROUP_FULL => Self::GROUP_FULL,
            Code::GOING_AWAY => Self::NOT_READY,
            Code::STORAGE_FAILED => Self::STORAGE_FAILED,
            _ => Self::INTERNAL,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let error = Error { code: self.code.into(), message: self.message.into_owned() };
        let mut response = json(&error);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if self.status == 503 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
