//! From the core's views to plain JavaScript data, and from JavaScript's arguments to the core's types.

use hongyan_client::{Answer, ChatError, Event, Now, Storage, view};
use hongyan_protocol::wire::{Content, DeviceKind};
use hongyan_protocol::{Code, ConversationId, ConversationKind, DeviceId, IdError, Key, UserId};
use js_sys::{Array, JSON, JsString, Object, Reflect};
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::driver::{delete, set};
use crate::text::write_text;
use crate::types;

/// Plain objects; whole numbers are numbers (a seq above 2^53 would take longer than the sun lasts).
pub(crate) fn to_js(value: &impl Serialize) -> JsValue {
    let mut text = String::new();
    write_text(&mut text, value);
    from_text(&text.into())
}

/// The plain objects that a text holds.
pub(crate) fn from_text(text: &JsValue) -> JsValue {
    parse(text).unwrap_or(JsValue::UNDEFINED)
}

#[wasm_bindgen]
extern "C" {
    // `js_sys` has it of a Rust string; this one is JavaScript's already.
    #[wasm_bindgen(js_namespace = JSON, catch)]
    fn parse(text: &JsValue) -> Result<JsValue, JsValue>;
}

#[expect(clippy::cast_precision_loss, reason = "counters stay below 2^53 for longer than the sun lasts")]
pub(crate) fn number_to_js(value: u64) -> JsValue {
    JsValue::from_f64(value as f64)
}

fn error(error: &ChatError) -> types::ErrorInfo {
    types::ErrorInfo { code: error.code.name(), class: error.class().name(), message: error.message.clone() }
}

pub(crate) fn error_to_js(given: &ChatError) -> JsValue {
    to_js(&error(given))
}

/// An event as tabs tell it to each other: its name and its payload, as text.
pub(crate) fn event(event: &Event, now: Now) -> JsValue {
    let mut text = String::new();
    write_event(&mut text, event, now);
    text.into()
}

/// Several events. They cross to JavaScript as one text of a line each, since JSON has no line ends of its own: each crossing
/// costs as much as some lines.
pub(crate) fn events(events: &[Event], now: Now) -> Vec<JsValue> {
    let mut text = String::new();
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        write_event(&mut text, event, now);
    }
    if events.is_empty() { Vec::new() } else { JsString::from(text).split("\n").to_vec() }
}

fn write_event(text: &mut String, event: &Event, now: Now) {
    match event {
        Event::Message(one) => told(text, "message", &message(one, None)),
        Event::Outbox(one, error) => told(text, "outbox", &message(one, error.as_ref())),
        Event::Conversation(one) => told(text, "conversation", &conversation(one)),
        Event::State(one) => told(text, "state", &state(one, now)),
        Event::Gap => told(text, "gap", &types::Gap::default()),
        Event::LogGap { conversation, after, before } => {
            let conversation = Some(conversation.as_str().into());
            told(text, "gap", &types::Gap { conversation, after: Some(after.0), before: Some(before.0) });
        }
        Event::ChangesGap { conversation } => {
            let conversation = Some(conversation.as_str().into());
            told(text, "gap", &types::Gap { conversation, ..types::Gap::default() });
        }
        Event::Change { kind, by, time, reaction, message: changed } => {
            let kind = match kind {
                view::ChangeKind::Edited => "edited",
                view::ChangeKind::Recalled => "recalled",
                view::ChangeKind::Reacted => "reacted",
                view::ChangeKind::Unreacted => "unreacted",
            };
            let by = by.as_str().into();
            let (reaction, message) = (reaction.clone(), message(changed, None));
            told(text, "change", &types::Change { kind, by, time: time.0, reaction, message });
        }
        Event::Group(update) => told(text, "group", &group_update(update)),
        Event::Presence(one) => told(text, "presence", &presence(one)),
        Event::Profile(one) => told(text, "profile", &profile(one)),
        Event::Typing { conversation, user, typing } => {
            let (conversation, user) = (conversation.as_str().into(), user.as_str().into());
            told(text, "typing", &types::Typing { conversation, user, typing: *typing });
        }
    }
}

fn told(text: &mut String, name: &str, payload: &impl Serialize) {
    text.push_str("[\"");
    text.push_str(name);
    text.push_str("\",");
    write_text(text, payload);
    text.push(']');
}

pub(crate) fn answer(answer: Answer) -> JsValue {
    match answer {
        Answer::Sent(sent) | Answer::Message(sent) => to_js(&message(&sent, None)),
        Answer::History(list) => messages(&list),
        Answer::Conversations(list) => to_js(&list.iter().map(conversation).collect::<Vec<_>>()),
        Answer::Group(id) => id.as_str().into(),
        Answer::Members(list, more) => to_js(&members(&list, more)),
        Answer::Presences(list) => to_js(&list.iter().map(presence).collect::<Vec<_>>()),
        Answer::Profiles(list) => to_js(&list.iter().map(profile).collect::<Vec<_>>()),
        Answer::Devices(list) => to_js(&list.iter().map(device).collect::<Vec<_>>()),
        Answer::Done => JsValue::UNDEFINED,
    }
}

fn bad_request(message: impl Into<String>) -> ChatError {
    ChatError { code: Code::BAD_REQUEST, message: message.into() }
}

fn message(message: &view::Message, failure: Option<&ChatError>) -> types::Message {
    types::Message {
        conversation: message.conversation.as_str().into(),
        seq: message.seq.map_or(0, |seq| seq.0),
        key: message.key.as_str().into(),
        from: message.from.as_str().into(),
        time: message.time.0,
        body: body(&message.content),
        status: match message.status {
            view::Status::Sending => "sending",
            view::Status::Sent => "sent",
            view::Status::Failed => "failed",
        },
        reply_to: message.reply_to.map(|seq| seq.0),
        mentions: (!message.mentions.is_empty())
            .then(|| message.mentions.iter().map(|user| user.as_str().into()).collect()),
        edited: message.edited.map(|time| time.0),
        recalled: message.recalled.map(|time| time.0),
        reactions: (!message.reactions.is_empty()).then(|| message.reactions.iter().map(reaction).collect()),
        error: failure.map(error),
    }
}

fn reaction(one: &view::Reaction) -> types::Reaction {
    types::Reaction {
        reaction: one.reaction.clone(),
        users: one.users.iter().map(|user| user.as_str().into()).collect(),
    }
}

fn messages(list: &[view::Message]) -> JsValue {
    to_js(&list.iter().map(|one| message(one, None)).collect::<Vec<_>>())
}

fn group(group: &view::Group) -> types::Group {
    types::Group {
        title: group.title.clone(),
        owner: group.owner.as_str().into(),
        member_count: group.member_count,
        version: group.version.0,
    }
}

fn conversation(one: &view::Conversation) -> types::Conversation {
    types::Conversation {
        id: one.id.as_str().into(),
        kind: match one.kind {
            ConversationKind::Direct => "direct",
            ConversationKind::Group => "group",
        },
        title: match (&one.group, &one.peer) {
            (Some(group), _) => group.title.clone(),
            (None, Some(peer)) => peer.as_str().into(),
            (None, None) => one.id.as_str().into(),
        },
        peer: one.peer.as_ref().map(|peer| peer.as_str().into()),
        group: one.group.as_ref().map(group),
        last: one.last.as_ref().map(|last| message(last, None)),
        unread: one.unread,
        mentioned: one.mentioned.map(|seq| seq.0),
        read_seq: one.read_seq.0,
        last_seq: one.last_seq.0,
        left: one.left,
        time: one.time.0,
    }
}

fn profile(profile: &view::Profile) -> types::Profile {
    types::Profile {
        user: profile.user.as_str().into(),
        name: profile.name.clone(),
        avatar: profile.avatar.clone(),
        version: profile.version,
        time: profile.time.map(|time| time.0),
    }
}

fn group_update(update: &view::GroupUpdate) -> types::GroupUpdate {
    types::GroupUpdate {
        conversation: update.conversation.as_str().into(),
        kind: match update.kind {
            view::GroupUpdateKind::Created => "created",
            view::GroupUpdateKind::Added => "added",
            view::GroupUpdateKind::Removed => "removed",
            view::GroupUpdateKind::Left => "left",
            view::GroupUpdateKind::Renamed => "renamed",
        },
        by: update.by.as_str().into(),
        users: update.users.iter().map(|user| user.as_str().into()).collect(),
        group: group(&update.group),
        time: update.time.0,
    }
}

fn members(members: &[view::Member], more: bool) -> types::MemberPage {
    let role = |owner| if owner { "owner" } else { "member" };
    let members = members
        .iter()
        .map(|member| types::Member { user: member.user.as_str().into(), role: role(member.owner) })
        .collect();
    types::MemberPage { members, more }
}

pub(crate) fn state(state: &view::State, now: Now) -> types::State {
    types::State {
        status: match state.status {
            view::SessionStatus::Connecting => "connecting",
            view::SessionStatus::Online => "online",
            view::SessionStatus::Offline => "offline",
            view::SessionStatus::Stopped => "stopped",
        },
        reason: state.reason.as_ref().map(error),
        retry_at: state.retry_at.map(|at| now.time.0 + at.since(now.moment)),
        storage: match state.storage {
            Storage::IndexedDb => "indexeddb",
            Storage::Host => "host",
            Storage::Memory => "memory",
        },
        // The driver knows which tab it is.
        leader: false,
        caught_up: state.caught_up,
        invisible: state.invisible,
    }
}

/// The kinds of devices and their names.
const DEVICE_KINDS: [(DeviceKind, &str); 7] = [
    (DeviceKind::Web, "web"),
    (DeviceKind::Webview, "webview"),
    (DeviceKind::Miniprogram, "miniprogram"),
    (DeviceKind::Official, "official"),
    (DeviceKind::Android, "android"),
    (DeviceKind::Ios, "ios"),
    (DeviceKind::Server, "server"),
];

/// The kind of this name.
pub(crate) fn device_kind(name: &str) -> Option<DeviceKind> {
    DEVICE_KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
}

fn kind_name(kind: DeviceKind) -> &'static str {
    DEVICE_KINDS.iter().find(|(known, _)| *known == kind).map_or("unknown", |(_, name)| name)
}

fn status_name(status: view::PresenceStatus) -> &'static str {
    match status {
        view::PresenceStatus::Online => "online",
        view::PresenceStatus::Away => "away",
        view::PresenceStatus::Leaving => "leaving",
        view::PresenceStatus::Offline => "offline",
        view::PresenceStatus::Unknown => "unknown",
    }
}

fn cause_name(cause: view::PresenceCause) -> &'static str {
    match cause {
        view::PresenceCause::Closed => "closed",
        view::PresenceCause::Lost => "lost",
        view::PresenceCause::Logout => "logout",
        view::PresenceCause::Kicked => "kicked",
        view::PresenceCause::Background => "background",
        view::PresenceCause::NoChannel => "no-channel",
    }
}

fn presence(presence: &view::Presence) -> types::Presence {
    let device = |device: &view::DevicePresence| types::DevicePresence {
        kind: kind_name(device.kind),
        status: status_name(device.status),
        cause: device.cause.map(cause_name),
        since: device.since.map(|time| time.0),
        until: device.until.map(|time| time.0),
    };
    types::Presence {
        user: presence.user.as_str().into(),
        status: status_name(presence.status),
        cause: presence.cause.map(cause_name),
        since: presence.since.map(|time| time.0),
        until: presence.until.map(|time| time.0),
        devices: presence.devices.iter().map(device).collect(),
    }
}

fn device(device: &view::Device) -> types::Device {
    types::Device {
        device: device.device.as_str().into(),
        kind: kind_name(device.kind),
        agent: device.agent.clone(),
        status: status_name(device.status),
        seen: device.seen.map(|time| time.0),
    }
}

/// The body of a message as the application gave it: `{ text }`, or `{ kind, … }` with further members.
fn body(content: &Content) -> types::Body {
    let kind = (!content.kind.is_empty()).then_some(&content.kind);
    let text = (!content.text.is_empty() || content.kind.is_empty()).then_some(&content.text);
    let plain = || types::Body::Plain { kind: kind.cloned(), text: text.cloned() };
    if content.json.is_empty() { plain() } else { own_body(content, kind, text).unwrap_or_else(plain) }
}

/// `None` when what another client sent is no object.
fn own_body(content: &Content, kind: Option<&String>, text: Option<&String>) -> Option<types::Body> {
    let body = plain_object(&JSON::parse(&content.json).ok()?)?;
    for (name, value) in [("kind", kind), ("text", text)] {
        // Members of these names in the JSON are not the message's.
        delete(&body, name);
        if let Some(value) = value {
            set(&body, name, &value.into());
        }
    }
    JSON::stringify(&body).ok()?.as_string().map(types::Json).map(types::Body::Own)
}

/// An object that is no list: a list's further members are no JSON.
fn plain_object(value: &JsValue) -> Option<Object> {
    value.dyn_ref::<Object>().filter(|object| !Array::is_array(object)).cloned()
}

fn text_member(object: &Object, name: &str) -> Result<String, ChatError> {
    match Reflect::get(object, &name.into()) {
        Ok(value) if value.is_undefined() => Ok(String::new()),
        Ok(value) => value.as_string().ok_or_else(|| bad_request(format!("body.{name} must be a string."))),
        Err(_) => Err(bad_request(format!("body.{name} can't be read."))),
    }
}

/// A body into what is sent.
pub(crate) fn content(body: &JsValue) -> Result<Content, ChatError> {
    let body = plain_object(body).ok_or_else(|| bad_request("body must be { text } or { kind, … }."))?;
    let kind = text_member(&body, "kind")?;
    let text = text_member(&body, "text")?;
    if kind.is_empty() && text.is_empty() {
        return Err(bad_request("body needs a text or a kind."));
    }
    let rest = Object::assign(&Object::new(), &body);
    for name in ["kind", "text"] {
        delete(&rest, name);
    }
    let json = if Object::keys(&rest).length() == 0 {
        String::new()
    } else {
        JSON::stringify(&rest)
            .ok()
            .and_then(|json| json.as_string())
            .ok_or_else(|| bad_request("body must be plain data (JSON)."))?
    };
    Ok(Content { kind, text, json })
}

/// An argument that must be a string.
pub(crate) fn string(value: &JsValue, name: &str) -> Result<String, ChatError> {
    value.as_string().ok_or_else(|| bad_request(format!("{name} must be a string.")))
}

fn id<T>(value: &JsValue, name: &str, new: fn(&str) -> Result<T, IdError>) -> Result<T, ChatError> {
    new(&string(value, name)?).map_err(|error| bad_request(format!("{name}: {error}.")))
}

pub(crate) fn conversation_id(value: &JsValue) -> Result<ConversationId, ChatError> {
    id(value, "conversation", ConversationId::new)
}

pub(crate) fn user_id(value: &JsValue) -> Result<UserId, ChatError> {
    id(value, "user", UserId::new)
}

pub(crate) fn device_id(value: &JsValue) -> Result<DeviceId, ChatError> {
    id(value, "device", DeviceId::new)
}

pub(crate) fn key(value: &JsValue) -> Result<Key, ChatError> {
    id(value, "key", Key::new)
}

/// An argument that may be absent.
pub(crate) fn optional<T>(
    value: &JsValue,
    read: impl FnOnce(&JsValue) -> Result<T, ChatError>,
) -> Result<Option<T>, ChatError> {
    if value.is_undefined() || value.is_null() { Ok(None) } else { read(value).map(Some) }
}

/// A whole number from `min` to 2^53.
pub(crate) fn number(value: &JsValue, name: &str, min: u64) -> Result<u64, ChatError> {
    const SAFE_MAX: f64 = 9_007_199_254_740_991.0;
    value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && (0.0..=SAFE_MAX).contains(number))
        .map(|number| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
            let number = number as u64;
            number
        })
        .filter(|number| *number >= min)
        .ok_or_else(|| bad_request(format!("{name} must be a whole number from {min}.")))
}

/// A list of user ids.
pub(crate) fn users(value: &JsValue, name: &str) -> Result<Vec<UserId>, ChatError> {
    let list =
        value.dyn_ref::<Array>().ok_or_else(|| bad_request(format!("{name} must be a list of user ids.")))?;
    list.iter().map(|user| user_id(&user)).collect()
}
