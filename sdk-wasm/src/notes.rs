//! The notes of the tabs as structured cloning carries them: a list of the channel's version, a kind, and the fields.
//!
//! *How to change it:* another shape takes another [`VERSION`]; an older tab that hears it makes way.

use hongyan_client::tabs::{Lead, Note, TabId};
use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue};

use crate::convert::number_to_js as number;

/// The version of these shapes, and of what the tabs expect of each other.
pub(crate) const VERSION: u32 = 5;

/// What was heard on the channel.
pub(crate) enum Heard {
    Note(Note<JsValue>),
    /// A tab with an older version of this code.
    Older,
    /// A tab with a newer version of this code.
    Newer,
}

fn list(values: impl IntoIterator<Item = JsValue>) -> JsValue {
    values.into_iter().collect::<Array>().into()
}

fn optional(value: Option<u64>) -> JsValue {
    value.map_or(JsValue::UNDEFINED, number)
}

/// A note, for the channel.
pub(crate) fn to_js(note: Note<JsValue>) -> JsValue {
    let (kind, fields) = match note {
        Note::Join { tab, visible, told } => ("join", vec![number(tab.0), visible.into(), optional(told)]),
        Note::Lead { to, lead } => {
            let Lead { term, saves: durable, snapshot, since, missed } = lead;
            let to = optional(to.map(|tab| tab.0));
            let missed = missed.map_or(JsValue::UNDEFINED, list);
            ("lead", vec![to, number(term), number(durable), snapshot, optional(since), missed])
        }
        Note::Durable { term, after, save, events } => {
            ("durable", vec![number(term), number(after), number(save), list(events)])
        }
        Note::Now { term, event } => ("now", vec![number(term), event]),
        Note::Visible { tab, visible } => ("visible", vec![number(tab.0), visible.into()]),
        Note::Leave { tab } => ("leave", vec![number(tab.0)]),
        Note::Ask { term, tab, request, ask } => {
            ("ask", vec![number(term), number(tab.0), number(request), ask])
        }
        Note::Taken { term, tab, request } => ("taken", vec![number(term), number(tab.0), number(request)]),
        Note::Reply { term, tab, request, result } => {
            let (is_ok, value) = match result {
                Ok(value) => (true, value),
                Err(error) => (false, error),
            };
            ("reply", vec![number(term), number(tab.0), number(request), is_ok.into(), value])
        }
    };
    list([number(VERSION.into()), kind.into()].into_iter().chain(fields))
}

/// What came on the channel; `None` for what is no note: any script of the origin may write there.
pub(crate) fn from_js(data: &JsValue) -> Option<Heard> {
    let fields: &Array = data.dyn_ref()?;
    let version = whole(&fields.get(0))?;
    if version != u64::from(VERSION) {
        return Some(if version > u64::from(VERSION) { Heard::Newer } else { Heard::Older });
    }
    let at = |index: u32| fields.get(index + 2);
    let number = |index| whole(&at(index));
    let tab = |index| number(index).map(TabId);
    Some(Heard::Note(match fields.get(1).as_string()?.as_str() {
        "join" => Note::Join { tab: tab(0)?, visible: at(1).is_truthy(), told: number(2) },
        "lead" => Note::Lead {
            to: tab(0),
            lead: Lead {
                term: number(1)?,
                saves: number(2)?,
                snapshot: at(3),
                since: number(4),
                missed: read_list(&at(5)),
            },
        },
        "durable" => Note::Durable {
            term: number(0)?,
            after: number(1)?,
            save: number(2)?,
            events: read_list(&at(3))?,
        },
        "now" => Note::Now { term: number(0)?, event: at(1) },
        "visible" => Note::Visible { tab: tab(0)?, visible: at(1).is_truthy() },
        "leave" => Note::Leave { tab: tab(0)? },
        "ask" => Note::Ask { term: number(0)?, tab: tab(1)?, request: number(2)?, ask: at(3) },
        "taken" => Note::Taken { term: number(0)?, tab: tab(1)?, request: number(2)? },
        "reply" => Note::Reply {
            term: number(0)?,
            tab: tab(1)?,
            request: number(2)?,
            result: if at(3).is_truthy() { Ok(at(4)) } else { Err(at(4)) },
        },
        _ => return None,
    }))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
fn whole(value: &JsValue) -> Option<u64> {
    value
        .as_f64()
        .filter(|number| *number >= 0.0 && *number <= 9_007_199_254_740_991.0)
        .map(|number| number as u64)
}

fn read_list(value: &JsValue) -> Option<Vec<JsValue>> {
    value.dyn_ref::<Array>().map(|list| list.iter().collect())
}
