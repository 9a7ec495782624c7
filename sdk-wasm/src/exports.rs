//! The functions that the TypeScript layer calls. A chat is a number here: numbers survive every proxy, and nobody
//! has to free them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hongyan_client::ChatError;
use hongyan_client::sorted::SortedMap;
use hongyan_protocol::Code;
use hongyan_protocol::wire::DeviceKind;
use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::calls::bad_request;
use crate::convert;
use crate::driver::{Driver, Options, set};
use crate::platform::browser::origin;

#[wasm_bindgen(typescript_custom_section)]
const BODY: &str = r"
/** Plain data: what JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [member: string]: Json | undefined };

/** What a message says: a text, or anything of a kind of the app's own. */
export type Body = { readonly text: string; readonly kind?: undefined } | { readonly kind: string; readonly text?: string; readonly [member: string]: Json | undefined };
";

#[wasm_bindgen(typescript_custom_section)]
const PRESENCE: &str = r"
/** What a device is. */
export type DeviceKind = 'web' | 'webview' | 'miniprogram' | 'official' | 'android' | 'ios' | 'server' | 'unknown';

/**
 * How a user or a device is. `'away'`: hidden or in the background. `'leaving'`: said goodbye, and may only be
 * reloading. `'unknown'`: there is no way to know, and nothing is guessed.
 */
export type PresenceStatus = 'online' | 'away' | 'leaving' | 'offline' | 'unknown';

/** Why somebody is not online. */
export type PresenceCause = 'closed' | 'lost' | 'logout' | 'kicked' | 'background' | 'no-channel';
";

#[wasm_bindgen(typescript_custom_section)]
const OPENED_CHAT: &str = r"
/** A chat that was just opened: its number for the other functions, this device's id, connection and cache. */
export interface OpenedChat { id: number; device: string; state: State }
";

#[wasm_bindgen(typescript_custom_section)]
const ERROR_CODE: &str = Code::TYPESCRIPT;

/// The database of a relay and user is named so; the relay's origin and the user follow.
const DATABASE_PREFIX: &str = "hongyan:";

thread_local! {
    static CHATS: RefCell<SortedMap<u32, Rc<Driver>>> = const { RefCell::new(SortedMap::new()) };
    static NEXT: Cell<u32> = const { Cell::new(1) };
}

fn chat(id: u32) -> Result<Rc<Driver>, ChatError> {
    CHATS.with_borrow(|chats| chats.get(&id).cloned()).ok_or_else(|| ChatError::new(Code::CLOSED))
}

/// The relay's addresses from its origin: its WebSocket's, and that of goodbyes.
fn urls(origin: &str) -> Option<(String, String)> {
    let origin = origin.trim_end_matches('/');
    let rest = origin.strip_prefix("http").or_else(|| origin.strip_prefix("ws"))?;
    (rest.starts_with("://") || rest.starts_with("s://"))
        .then(|| (format!("ws{rest}/ws"), format!("http{rest}/bye")))
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
    let (url, bye_url) =
        urls(&relay).ok_or_else(|| bad_request("url must begin with http(s):// or ws(s)://."))?;
    let device_kind = convert::optional(&member("deviceKind"), |kind| {
        convert::device_kind(&convert::string(kind, "deviceKind")?)
            .ok_or_else(|| bad_request("deviceKind is none of the known kinds."))
    })?
    .unwrap_or(DeviceKind::Web);
    let storage = convert::optional(&member("storage"), |storage| convert::string(storage, "storage"))?;
    let database = match storage.as_deref() {
        None | Some("indexeddb") => Some(format!("{DATABASE_PREFIX}{url} {user}")),
        Some("memory") => None,
        Some(_) => return Err(bad_request("storage must be 'indexeddb' or 'memory'.")),
    };
    Ok(Options { url, bye_url, user, token, device_kind, database, emit })
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
    .map_err(|error| convert::error_to_js(&error))?;
    let id = NEXT.with(|next| next.replace(next.get() + 1));
    let opened = Object::new();
    for (name, value) in [("id", id.into()), ("device", driver.device().into()), ("state", driver.state())] {
        set(&opened, name, &value);
    }
    CHATS.with_borrow_mut(|chats| chats.insert(id, driver));
    Ok(opened.into())
}

/// Says goodbye, and lets go of a chat.
#[wasm_bindgen]
pub fn release(id: u32) {
    if let Some(chat) = CHATS.with_borrow_mut(|chats| chats.remove(&id)) {
        chat.close();
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
        .map_err(|error| convert::error_to_js(&error))
}

/// Asks something: `[name, …arguments]`, see `calls`. Bad arguments and closed chats reject, nothing throws.
#[wasm_bindgen(unchecked_return_type = "Promise<unknown>")]
pub fn ask(
    id: u32,
    #[wasm_bindgen(unchecked_param_type = "readonly [name: string, ...arguments: unknown[]]")] call: JsValue,
) -> Promise {
    match chat(id) {
        Ok(chat) => chat.ask(&call),
        Err(error) => Promise::reject(&convert::error_to_js(&error)),
    }
}
