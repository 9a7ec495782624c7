//! What an application may ask, by name: one table. A call is plain data, `[name, …arguments]`, so that a tab can hand
//! it to the one that leads.
//!
//! *How to add a call:* a row here, and a method in `js/`.

use hongyan_client::{Change, ChatError, Command};
use hongyan_protocol::limits::{HISTORY_PAGE_MESSAGES_MAX, MEMBER_PAGE_MAX};
use hongyan_protocol::{Code, Seq};
use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue};

use crate::convert;

/// Messages of a page when the caller names no limit.
const HISTORY_DEFAULT: u64 = 50;
/// Conversations of a page when the caller names no limit.
const CONVERSATIONS_DEFAULT: u64 = 100;
/// Members of a page when the caller names no limit.
const MEMBERS_DEFAULT: u64 = 100;

/// The name of the call that stands: a new leader is asked it again.
pub(crate) const WATCH: &str = "watch";

/// The name of a call.
pub(crate) fn name(call: &JsValue) -> Option<String> {
    call.dyn_ref::<Array>()?.get(0).as_string()
}

/// Turns a call into the core's command; `by` names the tab that asks.
///
/// # Errors
/// `bad-request`, in words that name the argument.
pub(crate) fn command(call: &JsValue, by: u32) -> Result<Command, ChatError> {
    let unknown = || bad_request("There is no such call.");
    let call: &Array = call.dyn_ref().ok_or_else(unknown)?;
    let at = |index: u32| call.get(index + 1);
    let seq = |index, name: &str, min| {
        convert::optional(&at(index), |value| convert::number(value, name, min)).map(|seq| seq.map(Seq))
    };
    let limit = |index, default: u64, max: usize| {
        let limit =
            convert::optional(&at(index), |value| convert::number(value, "limit", 1))?.unwrap_or(default);
        Ok(usize::try_from(limit).unwrap_or(max).min(max))
    };
    let conversation = |index| convert::conversation_id(&at(index));
    let change = |change| {
        Ok(Command::Change {
            conversation: conversation(0)?,
            seq: Seq(convert::number(&at(1), "seq", 1)?),
            key: convert::optional(&at(3), convert::key)?,
            change,
        })
    };
    let reaction = || convert::string(&at(2), "reaction");
    Ok(match call.get(0).as_string().ok_or_else(unknown)?.as_str() {
        "send" => Command::Send {
            conversation: conversation(0)?,
            content: convert::content(&at(1))?,
            key: convert::optional(&at(2), convert::key)?,
            reply_to: seq(3, "replyTo", 1)?,
            mentions: convert::optional(&at(4), |users| convert::users(users, "mentions"))?
                .unwrap_or_default(),
        },
        "edit" => change(Change::Edit(convert::content(&at(2))?))?,
        "recall" => change(Change::Recall)?,
        "react" => change(Change::React(reaction()?))?,
        "unreact" => change(Change::Unreact(reaction()?))?,
        "discard" => Command::Discard(convert::key(&at(0))?),
        "history" => Command::History {
            conversation: conversation(0)?,
            before: seq(1, "before", 1)?,
            after: seq(2, "after", 0)?,
            limit: limit(3, HISTORY_DEFAULT, HISTORY_PAGE_MESSAGES_MAX)?,
        },
        "conversations" => Command::Conversations {
            limit: limit(0, CONVERSATIONS_DEFAULT, usize::MAX)?,
            before: convert::optional(&at(1), convert::conversation_id)?,
        },
        "markRead" => Command::MarkRead { conversation: conversation(0)?, seq: seq(1, "seq", 0)? },
        "typing" => Command::Typing(conversation(0)?),
        WATCH => Command::Watch { by, users: convert::users(&at(0), "users")? },
        "setInvisible" => Command::SetInvisible(at(0).is_truthy()),
        "profiles" => Command::Profiles(convert::users(&at(0), "users")?),
        "setProfile" => Command::SetProfile {
            name: convert::optional(&at(0), |name| convert::string(name, "name"))?,
            avatar: convert::optional(&at(1), |avatar| convert::string(avatar, "avatar"))?,
            key: convert::optional(&at(2), convert::key)?,
        },
        "devices" => Command::Devices,
        "signOut" => Command::SignOut(convert::device_id(&at(0))?),
        "createGroup" => Command::CreateGroup {
            title: convert::string(&at(0), "title")?,
            members: convert::users(&at(1), "members")?,
            key: convert::optional(&at(2), convert::key)?,
        },
        "addMembers" => Command::AddMembers(conversation(0)?, convert::users(&at(1), "users")?),
        "removeMembers" => Command::RemoveMembers(conversation(0)?, convert::users(&at(1), "users")?),
        "leaveGroup" => Command::LeaveGroup(conversation(0)?),
        "renameGroup" => Command::RenameGroup(conversation(0)?, convert::string(&at(1), "title")?),
        "members" => Command::Members {
            conversation: conversation(0)?,
            after: convert::optional(&at(1), convert::user_id)?,
            limit: limit(2, MEMBERS_DEFAULT, MEMBER_PAGE_MAX)?,
        },
        "logout" => Command::Logout { keep_cache: at(0).is_truthy() },
        _ => return Err(unknown()),
    })
}

/// An idempotency key for the calls that need one, so that asking two leaders does one thing.
pub(crate) fn with_key(call: &JsValue, key: &str) -> Result<(), ChatError> {
    let call: &Array = call.dyn_ref().ok_or_else(|| bad_request("There is no such call."))?;
    let place = match call.get(0).as_string().as_deref() {
        Some("send" | "createGroup" | "setProfile") => 3,
        Some("edit" | "recall" | "react" | "unreact") => 4,
        _ => return Ok(()),
    };
    if call.get(place).is_undefined() || call.get(place).is_null() {
        call.set(place, key.into());
    }
    Ok(())
}

pub(crate) fn bad_request(message: &str) -> ChatError {
    ChatError { code: Code::BAD_REQUEST, message: message.into() }
}
