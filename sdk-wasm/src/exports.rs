//! The functions that the TypeScript layer calls. A chat is a number here: numbers survive every proxy, and nobody
//! has to free them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hongyan_client::sorted::SortedMap;
use hongyan_client::{ChatError, Command};
use hongyan_protocol::limits::{HISTORY_PAGE_MESSAGES_MAX, MEMBER_PAGE_MAX};
use hongyan_protocol::wire::DeviceKind;
use hongyan_protocol::{Code, Seq};
use js_sys::{Function, Promise, Reflect};
use serde::Serialize;
use tsify::Tsify;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::convert;
use crate::driver::{Driver, Options};
use crate::platform::browser::origin;

#[wasm_bindgen(typescript_custom_section)]
const BODY: &str = r"
/** Plain data: what JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [member: string]: Json | undefined };

/** What a message says: a text, or anything of a kind of the app's own. */
export type Body = { readonly text: string; readonly kind?: undefined } | { readonly kind: string; readonly text?: string; readonly [member: string]: Json | undefined };
";

#[wasm_bindgen(typescript_custom_section)]
const ERROR_CODE: &str = Code::TYPESCRIPT;

/// Messages of a page when the caller names no limit.
const HISTORY_DEFAULT: u64 = 50;
/// Conversations of a page when the caller names no limit.
const CONVERSATIONS_DEFAULT: u64 = 100;
/// The database of a relay and user is named so; the relay's origin and the user follow.
const DATABASE_PREFIX: &str = "hongyan:";

thread_local! {
    static CHATS: RefCell<SortedMap<u32, Rc<Driver>>> = const { RefCell::new(SortedMap::new()) };
    static NEXT: Cell<u32> = const { Cell::new(1) };
}

/// A chat that was just opened.
#[derive(Serialize, Tsify)]
pub struct OpenedChat {
    /// Its number for the other functions.
    pub id: u32,
    /// This device's id.
    pub device: String,
    /// Connection and cache.
    #[serde(with = "serde_wasm_bindgen::preserve")]
    #[tsify(type = "State")]
    pub state: JsValue,
}

fn thrown(error: &ChatError) -> JsValue {
    convert::to_js(&convert::error(error))
}

fn bad_request(message: &str) -> ChatError {
    ChatError { code: Code::BAD_REQUEST, message: message.into() }
}

fn chat(id: u32) -> Result<Rc<Driver>, ChatError> {
    CHATS.with_borrow(|chats| chats.get(&id).cloned()).ok_or_else(|| ChatError::new(Code::CLOSED))
}

/// Every command takes this way: bad arguments and closed chats reject, nothing throws.
fn ask(id: u32, command: Result<Command, ChatError>) -> Promise {
    match chat(id).and_then(|chat| Ok((chat, command?))) {
        Ok((chat, command)) => chat.ask(command),
        Err(error) => Promise::reject(&thrown(&error)),
    }
}

/// The relay's WebSocket address from its origin.
fn socket_url(origin: &str) -> Option<String> {
    let origin = origin.trim_end_matches('/');
    let rest = origin.strip_prefix("http").or_else(|| origin.strip_prefix("ws"))?;
    (rest.starts_with("://") || rest.starts_with("s://")).then(|| format!("ws{rest}/ws"))
}

fn options(options: &JsValue, emit: Function) -> Result<Options, ChatError> {
    // A member that can't be read is absent.
    let member = |name: &str| Reflect::get(options, &name.into()).unwrap_or(JsValue::UNDEFINED);
    let user = convert::user_id(&member("user"))?;
    let token = member("token");
    if !token.is_string() && !token.is_function() {
        return Err(bad_request("token must be a string or a function that gives one."));
    }
    let relay = convert::optional(&member("url"), |url| convert::string(url, "url"))?
        .or_else(origin)
        .ok_or_else(|| bad_request("url is needed where there is no page."))?;
    let url = socket_url(&relay).ok_or_else(|| bad_request("url must begin with http(s):// or ws(s)://."))?;
    let device_kind = convert::optional(&member("deviceKind"), |kind| {
        Ok(match convert::string(kind, "deviceKind")?.as_str() {
            "web" => DeviceKind::Web,
            "webview" => DeviceKind::Webview,
            "miniprogram" => DeviceKind::Miniprogram,
            "official" => DeviceKind::Official,
            "android" => DeviceKind::Android,
            "ios" => DeviceKind::Ios,
            "server" => DeviceKind::Server,
            _ => return Err(bad_request("deviceKind is none of the known kinds.")),
        })
    })?
    .unwrap_or(DeviceKind::Web);
    let storage = convert::optional(&member("storage"), |storage| convert::string(storage, "storage"))?;
    let database = match storage.as_deref() {
        None | Some("indexeddb") => Some(format!("{DATABASE_PREFIX}{url} {user}")),
        Some("memory") => None,
        Some(_) => return Err(bad_request("storage must be 'indexeddb' or 'memory'.")),
    };
    Ok(Options { url, user, token, device_kind, database, emit })
}

/// Opens a chat; `emit` is called with each event's name and payload.
#[wasm_bindgen(unchecked_return_type = "OpenedChat")]
pub async fn open(
    #[wasm_bindgen(js_name = options, unchecked_param_type = "object")] given: JsValue,
    #[wasm_bindgen(unchecked_param_type = "(event: string, payload: unknown) => void")] emit: Function,
) -> Result<JsValue, JsValue> {
    let driver = match options(&given, emit) {
        Ok(options) => Driver::open(options).await,
        Err(error) => Err(error),
    }
    .map_err(|error| thrown(&error))?;
    let id = NEXT.with(|next| next.replace(next.get() + 1));
    let opened = OpenedChat { id, device: driver.device(), state: driver.state() };
    CHATS.with_borrow_mut(|chats| chats.insert(id, driver));
    Ok(convert::to_js(&opened))
}

/// Lets go of a chat that was closed.
#[wasm_bindgen]
pub fn release(id: u32) {
    if let Some(chat) = CHATS.with_borrow_mut(|chats| chats.remove(&id)) {
        chat.release();
    }
}

/// The id of the direct conversation with a user.
#[wasm_bindgen]
pub fn direct(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] user: JsValue,
) -> Result<String, JsValue> {
    chat(id)
        .and_then(|chat| Ok(chat.direct(&convert::user_id(&user)?).as_str().into()))
        .map_err(|error| thrown(&error))
}

/// Writes a message.
#[wasm_bindgen(unchecked_return_type = "Promise<Message>")]
pub fn send(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] conversation: JsValue,
    #[wasm_bindgen(unchecked_param_type = "Body")] body: JsValue,
    #[wasm_bindgen(unchecked_param_type = "string | undefined")] key: JsValue,
    #[wasm_bindgen(js_name = replyTo, unchecked_param_type = "number | undefined")] reply_to: JsValue,
    #[wasm_bindgen(unchecked_param_type = "readonly string[] | undefined")] mentions: JsValue,
) -> Promise {
    let command = || {
        Ok(Command::Send {
            conversation: convert::conversation_id(&conversation)?,
            key: convert::optional(&key, convert::key)?,
            content: convert::content(&body)?,
            reply_to: seq(&reply_to, "replyTo", 1)?,
            mentions: convert::optional(&mentions, |users| convert::users(users, "mentions"))?
                .unwrap_or_default(),
        })
    };
    ask(id, command())
}

fn seq(value: &JsValue, name: &str, min: u64) -> Result<Option<Seq>, ChatError> {
    convert::optional(value, |value| convert::number(value, name, min)).map(|seq| seq.map(Seq))
}

fn limit(value: &JsValue, default: u64, max: usize) -> Result<usize, ChatError> {
    let limit = convert::optional(value, |value| convert::number(value, "limit", 1))?.unwrap_or(default);
    Ok(usize::try_from(limit).unwrap_or(max).min(max))
}

/// Forgets a failed message.
#[wasm_bindgen(unchecked_return_type = "Promise<void>")]
pub fn discard(id: u32, #[wasm_bindgen(unchecked_param_type = "string")] key: JsValue) -> Promise {
    ask(id, convert::key(&key).map(Command::Discard))
}

/// A page of a conversation.
#[wasm_bindgen(unchecked_return_type = "Promise<Message[]>")]
pub fn history(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] conversation: JsValue,
    #[wasm_bindgen(unchecked_param_type = "number | undefined")] before: JsValue,
    #[wasm_bindgen(unchecked_param_type = "number | undefined")] after: JsValue,
    #[wasm_bindgen(js_name = limit, unchecked_param_type = "number | undefined")] count: JsValue,
) -> Promise {
    let command = || {
        Ok(Command::History {
            conversation: convert::conversation_id(&conversation)?,
            before: seq(&before, "before", 1)?,
            after: seq(&after, "after", 0)?,
            limit: limit(&count, HISTORY_DEFAULT, HISTORY_PAGE_MESSAGES_MAX)?,
        })
    };
    ask(id, command())
}

/// The conversation list.
#[wasm_bindgen(unchecked_return_type = "Promise<Conversation[]>")]
pub fn conversations(
    id: u32,
    #[wasm_bindgen(js_name = limit, unchecked_param_type = "number | undefined")] count: JsValue,
    #[wasm_bindgen(unchecked_param_type = "string | undefined")] before: JsValue,
) -> Promise {
    let command = || {
        Ok(Command::Conversations {
            limit: limit(&count, CONVERSATIONS_DEFAULT, usize::MAX)?,
            before: convert::optional(&before, convert::conversation_id)?,
        })
    };
    ask(id, command())
}

/// Moves the read mark.
#[wasm_bindgen(js_name = markRead, unchecked_return_type = "Promise<void>")]
pub fn mark_read(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] conversation: JsValue,
    #[wasm_bindgen(js_name = seq, unchecked_param_type = "number | undefined")] upto: JsValue,
) -> Promise {
    let command = || {
        Ok(Command::MarkRead {
            conversation: convert::conversation_id(&conversation)?,
            seq: seq(&upto, "seq", 0)?,
        })
    };
    ask(id, command())
}

/// Makes a group.
#[wasm_bindgen(js_name = createGroup, unchecked_return_type = "Promise<string>")]
pub fn create_group(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] title: JsValue,
    #[wasm_bindgen(unchecked_param_type = "readonly string[]")] members: JsValue,
) -> Promise {
    let command = || {
        Ok(Command::CreateGroup {
            title: convert::string(&title, "title")?,
            members: convert::users(&members, "members")?,
        })
    };
    ask(id, command())
}

/// Adds members.
#[wasm_bindgen(js_name = addMembers, unchecked_return_type = "Promise<void>")]
pub fn add_members(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] conversation: JsValue,
    #[wasm_bindgen(unchecked_param_type = "readonly string[]")] users: JsValue,
) -> Promise {
    let command = || {
        Ok(Command::AddMembers(convert::conversation_id(&conversation)?, convert::users(&users, "users")?))
    };
    ask(id, command())
}

/// Removes members.
#[wasm_bindgen(js_name = removeMembers, unchecked_return_type = "Promise<void>")]
pub fn remove_members(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] conversation: JsValue,
    #[wasm_bindgen(unchecked_param_type = "readonly string[]")] users: JsValue,
) -> Promise {
    let command = || {
        Ok(Command::RemoveMembers(convert::conversation_id(&conversation)?, convert::users(&users, "users")?))
    };
    ask(id, command())
}

/// Leaves a group.
#[wasm_bindgen(js_name = leaveGroup, unchecked_return_type = "Promise<void>")]
pub fn leave_group(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] conversation: JsValue,
) -> Promise {
    ask(id, convert::conversation_id(&conversation).map(Command::LeaveGroup))
}

/// Who is in a group.
#[wasm_bindgen(unchecked_return_type = "Promise<MemberPage>")]
pub fn members(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "string")] conversation: JsValue,
    #[wasm_bindgen(unchecked_param_type = "string | undefined")] after: JsValue,
    #[wasm_bindgen(js_name = limit, unchecked_param_type = "number | undefined")] count: JsValue,
) -> Promise {
    let command = || {
        Ok(Command::Members {
            conversation: convert::conversation_id(&conversation)?,
            after: convert::optional(&after, convert::user_id)?,
            limit: limit(&count, 100, MEMBER_PAGE_MAX)?,
        })
    };
    ask(id, command())
}

/// Says goodbye.
#[wasm_bindgen(unchecked_return_type = "Promise<void>")]
pub fn close(id: u32) -> Promise {
    ask(id, Ok(Command::Close))
}

/// Signs this device out.
#[wasm_bindgen(unchecked_return_type = "Promise<void>")]
pub fn logout(id: u32, #[wasm_bindgen(js_name = keepCache)] keep_cache: bool) -> Promise {
    ask(id, Ok(Command::Logout { keep_cache }))
}
