//! The cache in IndexedDB. One transaction per save, so a batch and its cursor are there together or not at all.
//!
//! It has one writer, whatever the tabs believe of each other: who opens it takes the next term and bars the one
//! before. A save begins by adding what a barred term has there already, so it fails as a whole, in the database
//! itself and without a question before.
//!
//! Messages are stored in runs (`hongyan_client::runs`), since each put costs as much as some fifty messages' bytes.
//!
//! It is a cache, but for the outbox: a database that can't be opened or has another version is dropped and made anew, and
//! what waits in the outbox is carried over, whichever version wrote it. Where that fails too, the page goes on in memory.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use gloo_events::EventListener;
use hongyan_client::limits::TERM_BITS;
use hongyan_client::runs::{self, Runs};
use hongyan_client::tabs::next_term;
use hongyan_client::{Input, Restored, Storage, Ticket, Write};
use hongyan_protocol::{ConversationId, Seq};
use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    DomException, IdbDatabase, IdbFactory, IdbKeyRange, IdbObjectStore, IdbOpenDbRequest, IdbRequest,
    IdbTransaction, IdbTransactionMode, IdbVersionChangeEvent,
};

use super::global::{GLOBAL, Global};
use super::{is_late, now, within_ms, words};
use crate::platform::{Cache, Opened, Save, SaveEnd, Saved, Sink};

/// Raise it when stores or their keys change their shape.
const VERSION: u32 = 4;
/// Since this one nothing has changed but stores that came: what is there is kept. Of an older database the outbox is, whose
/// shape never changes (records have a version of their own, in the core).
const KEPT_SINCE: u32 = 3;
/// Safari has left `open` unanswered for ever; a page must not.
const OPEN_MS: u32 = 3_000;

#[wasm_bindgen]
extern "C" {
    /// What newer engines add to a transaction.
    type Commit;

    #[wasm_bindgen(method, catch)]
    fn commit(this: &Commit) -> Result<(), JsValue>;
}

const META: &str = "meta";
const CONVERSATIONS: &str = "conversations";
const MESSAGES: &str = "messages";
const OUTBOX: &str = "outbox";
const PROFILES: &str = "profiles";
/// Terms of writers that may not write any more, and the counter below.
const WRITERS: &str = "writers";
/// What the last saves told, by their numbers: for a tab that missed the last word of a leader that died.
const TOLD: &str = "told";
const STORES: [&str; 7] = [META, CONVERSATIONS, MESSAGES, OUTBOX, PROFILES, WRITERS, TOLD];

/// The one key of the store `meta`.
const META_KEY: &str = "meta";
/// Counts those who opened the database to write, in a new one from the time on.
const TERM_KEY: &str = "term";
/// So many of the last writers are barred; one that has not noticed for so long is not there any more.
const BARRED_MAX: u64 = 64;
/// Of so many saves of a term it is kept what they told, and of so many before it.
const KEPT_MAX: u32 = 64;
/// A save that tells more is catching up; a tab that misses such a one learns of a gap instead.
const KEPT_EVENTS_MAX: usize = 256;

pub(crate) struct IndexedDbCache {
    database: Rc<IdbDatabase>,
    term: u64,
    /// Of the runs of messages that were written last.
    version: Cell<u64>,
    _version_change: EventListener,
}

impl IndexedDbCache {
    /// Opens the database of this name and reads what the core needs to begin.
    ///
    /// # Errors
    /// Words that say why there is none: site data blocked, mostly.
    pub(crate) async fn open(name: &str) -> Result<Opened, String> {
        let factory = GLOBAL
            .with(Global::indexed_db)
            .ok()
            .flatten()
            .ok_or_else(|| String::from("there is no IndexedDB here"))?;
        let mut carried = Vec::new();
        let first = Self::open_and_read(&factory, name, true).await;
        let (database, parts) = match first {
            Ok(opened) => opened,
            Err(error) => {
                // What is only late is not broken: it may be there at the second try.
                if !is_late(&error) {
                    if let Ok((database, parts)) = Self::open_and_read(&factory, name, false).await {
                        // While it is open it can't be dropped.
                        database.close();
                        carried = outbox(&parts, 0);
                    }
                    // Dropping it fails where it never was; making it anew then tells.
                    if let Ok(request) = factory.delete_database(name) {
                        let _ = within_ms(OPEN_MS, answer(&request)).await;
                    }
                }
                Self::open_and_read(&factory, name, true).await.map_err(|error| words(&error))?
            }
        };
        // Another version of this code wants to change the database: make way. The next save fails, and the page
        // goes on in memory.
        let database = Rc::new(database);
        let version_change = EventListener::new(&database, "versionchange", {
            let database = Rc::clone(&database);
            move |_| database.close()
        });
        let mut restored = restored(&parts);
        // A database that was made anew has none; the core saves these with its first save.
        restored.outbox.extend(carried);
        let (term, version) = (restored.term, Cell::new(restored.term << TERM_BITS));
        let cache = Self { database, term, version, _version_change: version_change };
        Ok(Opened { cache: Box::new(cache), restored, kept: kept(&parts) })
    }

    /// Opens it as this version's, or as whatever it is: then its outbox is read, and nothing else.
    async fn open_and_read(
        factory: &IdbFactory,
        name: &str,
        as_ours: bool,
    ) -> Result<(IdbDatabase, Array), JsValue> {
        let request = if as_ours { factory.open_with_u32(name, VERSION) } else { factory.open(name) }?;
        let upgrade = upgrading(&request);
        request.set_onupgradeneeded(Some(upgrade.as_ref().unchecked_ref()));
        let database: IdbDatabase = within_ms(OPEN_MS, answer(&request)).await?.dyn_into()?;
        let reading = wasm_bindgen_futures::future_to_promise(read(database.clone(), as_ours));
        match within_ms(OPEN_MS, reading).await {
            Ok(parts) => Ok((database, parts.unchecked_into())),
            Err(error) => {
                database.close();
                Err(error)
            }
        }
    }
}

fn upgrading(request: &IdbOpenDbRequest) -> Closure<dyn FnMut(IdbVersionChangeEvent)> {
    let request = request.clone();
    Closure::new(move |event: IdbVersionChangeEvent| {
        let Some(database) = request.result().ok().and_then(|result| result.dyn_into::<IdbDatabase>().ok())
        else {
            return;
        };
        let old = database.object_store_names();
        if event.old_version() < f64::from(KEPT_SINCE) {
            for index in (0..old.length()).rev() {
                if let Some(name) = old.get(index).filter(|name| name != OUTBOX) {
                    // What can't be dropped makes the next lines fail, and the opening with it.
                    let _ = database.delete_object_store(&name);
                }
            }
        }
        // As it is by now.
        let kept = database.object_store_names();
        for name in STORES.iter().filter(|name| !kept.contains(name)) {
            // An error aborts the upgrade, and the opening fails.
            let store = database.create_object_store(name);
            if *name == TOLD
                && let Ok(store) = store
            {
                // A tab that is there before the first save misses nothing of it.
                let _ = store.put_with_key(&Array::new(), &number(0));
            }
        }
    })
}

/// Takes the next term, bars the one before, and reads everything but the messages, in one transaction. Of a database that is
/// not ours it reads the outbox.
async fn read(database: IdbDatabase, is_ours: bool) -> Result<JsValue, JsValue> {
    if !is_ours {
        let store = database.transaction_with_str(OUTBOX)?.object_store(OUTBOX)?;
        let answers = Array::of2(&answer(&store.get_all_keys()?), &answer(&store.get_all()?));
        return JsFuture::from(Promise::all(&answers)).await;
    }
    let transaction =
        database.transaction_with_str_sequence_and_mode(&store_names(), IdbTransactionMode::Readwrite)?;
    let writers = transaction.object_store(WRITERS)?;
    // The transaction stays active in the microtasks that follow an answer.
    let before = whole(&JsFuture::from(answer(&writers.get(&TERM_KEY.into())?)).await?);
    let term = number(next_term(before, now().time));
    writers.put_with_key(&term, &TERM_KEY.into())?;
    writers.put_with_key(&term, &number(before))?;
    let outdated = IdbKeyRange::upper_bound(&number(before.saturating_sub(BARRED_MAX)))?;
    writers.delete(&outdated)?;
    let told = transaction.object_store(TOLD)?;
    let numbers: Array = JsFuture::from(answer(&told.get_all_keys()?)).await?.dyn_into()?;
    if let Some(last) = numbers.length().checked_sub(KEPT_MAX + 1) {
        let outdated = IdbKeyRange::upper_bound(&numbers.get(last))?;
        told.delete(&outdated)?;
    }
    // Nothing is waited for between what is asked here and its answers.
    let meta = transaction.object_store(META)?.get_all()?;
    let conversations = transaction.object_store(CONVERSATIONS)?.get_all()?;
    let orders = transaction.object_store(OUTBOX)?.get_all_keys()?;
    let entries = transaction.object_store(OUTBOX)?.get_all()?;
    let (numbers, told) = (told.get_all_keys()?, told.get_all()?);
    let profiles = transaction.object_store(PROFILES)?.get_all()?;
    let answers: Array =
        [meta, conversations, orders, entries, numbers, told, profiles].iter().map(answer).collect();
    let done = ended(&transaction);
    let parts: Array = JsFuture::from(Promise::all(&answers)).await?.dyn_into()?;
    parts.push(&term);
    // Until it is durable the one before may write.
    JsFuture::from(done).await?;
    Ok(parts.into())
}

fn part(parts: &Array, index: u32) -> Array {
    parts.get(index).unchecked_into()
}

fn restored(parts: &Array) -> Restored {
    Restored {
        meta: part(parts, 0).iter().next().map(|record| bytes(&record)),
        conversations: part(parts, 1).iter().map(|record| bytes(&record)).collect(),
        outbox: outbox(parts, 2),
        profiles: part(parts, 6).iter().map(|record| bytes(&record)).collect(),
        term: whole(&parts.get(7)),
    }
}

/// The orders at this index, the records at the next.
fn outbox(parts: &Array, index: u32) -> Vec<(u64, Bytes)> {
    let (orders, records) = (part(parts, index), part(parts, index + 1));
    orders.iter().zip(records.iter()).map(|(order, record)| (whole(&order), bytes(&record))).collect()
}

fn kept(parts: &Array) -> Vec<(u64, Vec<JsValue>)> {
    let told = part(parts, 5);
    let events = told.iter().map(|events| events.dyn_ref().map_or_else(Vec::new, Array::to_vec));
    part(parts, 4).iter().map(|save| whole(&save)).zip(events).collect()
}

fn store_names() -> JsValue {
    STORES.iter().map(|name| JsValue::from_str(name)).collect::<Array>().into()
}

impl Cache for IndexedDbCache {
    fn storage(&self) -> Storage {
        Storage::IndexedDb
    }

    fn save(&self, save: Save, end: SaveEnd) {
        // At once: the database may be closed right after, and a page that ends has no other turn.
        let begun = write_all(&self.database, self.term, &self.version, save);
        spawn_local(async move {
            end(match through(begun).await {
                Ok(()) => Saved::Durable,
                Err(error) if is_barred(&error) => Saved::Superseded,
                Err(error) => Saved::Failed(words(&error)),
            });
        });
    }

    fn load(&self, ticket: Ticket, conversation: ConversationId, from: Seq, to: Seq, sink: Sink) {
        let database = Rc::clone(&self.database);
        spawn_local(async move {
            let found = load(&database, &conversation, from, to).await.unwrap_or_default();
            sink(Input::Loaded(ticket, found));
        });
    }

    fn close(&self) {
        self.database.close();
    }
}

/// What adding a barred term gives; nothing else is ever added.
fn is_barred(error: &JsValue) -> bool {
    error.dyn_ref::<DomException>().is_some_and(|error| error.name() == "ConstraintError")
}

/// A transaction with all its writes.
struct Begun {
    transaction: IdbTransaction,
    done: Promise,
    /// Whether all were taken.
    written: Result<(), JsValue>,
}

fn write_all(database: &IdbDatabase, term: u64, version: &Cell<u64>, save: Save) -> Result<Begun, JsValue> {
    let transaction =
        database.transaction_with_str_sequence_and_mode(&store_names(), IdbTransactionMode::Readwrite)?;
    let done = ended(&transaction);
    let written = be_writer(&transaction, term)
        .and_then(|()| write_each(&transaction, version, save.writes))
        .and_then(|()| keep(&transaction, save.number, save.tells));
    if written.is_ok() {
        // Without it the page itself would commit when all puts have answered, and a page that is reloaded in between
        // would lose what it had just shown. Engines without it (Safari before 15) do that.
        let _ = transaction.unchecked_ref::<Commit>().commit();
    } else {
        // It may be over already; then its end tells.
        let _ = transaction.abort();
    }
    Ok(Begun { transaction, done, written })
}

/// Fails in the database where the term is barred.
fn be_writer(transaction: &IdbTransaction, term: u64) -> Result<(), JsValue> {
    let writers = transaction.object_store(WRITERS)?;
    writers.add_with_key(&JsValue::TRUE, &number(term))?;
    writers.delete(&number(term))?;
    Ok(())
}

/// Waits for the end.
async fn through(begun: Result<Begun, JsValue>) -> Result<(), JsValue> {
    let Begun { transaction, done, written } = begun?;
    let ended = JsFuture::from(done).await;
    written?;
    match ended {
        Ok(_) => Ok(()),
        Err(event) => Err(transaction.error().map_or(event, JsValue::from)),
    }
}

/// The last save that told something always is there: by its number a tab knows whether it missed any.
fn keep(transaction: &IdbTransaction, save: u64, tells: Vec<JsValue>) -> Result<(), JsValue> {
    if tells.is_empty() {
        return Ok(());
    }
    let told = transaction.object_store(TOLD)?;
    if tells.len() > KEPT_EVENTS_MAX {
        told.clear()?;
        told.put_with_key(&Array::new(), &number(save))?;
        return Ok(());
    }
    // In a term they are numbered without a gap; what is left of those before goes when it has so many itself.
    if save % (1 << TERM_BITS) > KEPT_MAX.into() {
        let outdated = IdbKeyRange::upper_bound(&number(save - u64::from(KEPT_MAX)))?;
        told.delete(&outdated)?;
    }
    told.put_with_key(&tells.into_iter().collect::<Array>(), &number(save))?;
    Ok(())
}

fn write_each(transaction: &IdbTransaction, version: &Cell<u64>, writes: Vec<Write>) -> Result<(), JsValue> {
    let store = |name: &str| -> Result<IdbObjectStore, JsValue> { transaction.object_store(name) };
    let data = |bytes: &Bytes| JsValue::from(Uint8Array::from(&bytes[..]));
    let (messages, mut runs) = (store(MESSAGES)?, Runs::default());
    let put_runs = |runs: &mut Runs| -> Result<(), JsValue> {
        version.set(version.get() + 1);
        for (id, run) in runs.take(version.get()) {
            messages.put_with_key(&data(&run.record), &run_key(&id, run.last, run.first))?;
        }
        Ok(())
    };
    for write in writes {
        if let Write::Clear | Write::ConversationGone(_) | Write::MessagesBelow(..) = write {
            // What was written before is to go, and what comes after is not.
            put_runs(&mut runs)?;
        }
        match write {
            // Who writes, and how often, stays.
            Write::Clear => {
                for name in [META, CONVERSATIONS, MESSAGES, OUTBOX, PROFILES, TOLD] {
                    store(name)?.clear()?;
                }
            }
            Write::Meta(record) => drop(store(META)?.put_with_key(&data(&record), &META_KEY.into())?),
            Write::Conversation(id, record) => {
                store(CONVERSATIONS)?.put_with_key(&data(&record), &id.as_str().into())?;
            }
            Write::ConversationGone(id) => {
                store(CONVERSATIONS)?.delete(&id.as_str().into())?;
                messages.delete(&range(&id, Seq::ZERO, Seq(u64::MAX))?)?;
            }
            Write::Message(id, seq, record) => runs.add(id, seq, record),
            Write::MessagesBelow(id, bound) => {
                messages.delete(&range(&id, Seq::ZERO, runs::kept_from(bound).previous())?)?;
            }
            Write::Outbox(order, record) => {
                store(OUTBOX)?.put_with_key(&data(&record), &number(order))?;
            }
            Write::Profile(user, record) => {
                store(PROFILES)?.put_with_key(&data(&record), &user.as_str().into())?;
            }
            Write::ProfileGone(user) => drop(store(PROFILES)?.delete(&user.as_str().into())?),
            Write::OutboxGone(order) => drop(store(OUTBOX)?.delete(&number(order))?),
        }
    }
    put_runs(&mut runs)
}

async fn load(
    database: &IdbDatabase,
    conversation: &ConversationId,
    from: Seq,
    to: Seq,
) -> Result<Vec<(Seq, Bytes)>, JsValue> {
    if from > to {
        return Ok(Vec::new());
    }
    let store = database.transaction_with_str(MESSAGES)?.object_store(MESSAGES)?;
    let range = range(conversation, from, runs::last_max(to))?;
    let keys = answer(&store.get_all_keys_with_key(&range)?);
    let records = answer(&store.get_all_with_key(&range)?);
    let keys: Array = JsFuture::from(keys).await?.dyn_into()?;
    let records: Array = JsFuture::from(records).await?.dyn_into()?;
    let first = |key: JsValue| Seq(whole(&key.unchecked_into::<Array>().get(2)));
    let found = keys.iter().map(first).zip(records.iter().map(|record| bytes(&record)));
    Ok(runs::messages(found, from, to))
}

/// Runs of messages are keyed by [conversation, last, first].
fn run_key(conversation: &ConversationId, last: Seq, first: Seq) -> JsValue {
    Array::of3(&conversation.as_str().into(), &number(last.0), &number(first.0)).into()
}

/// The keys of runs whose last message is in this range.
fn range(conversation: &ConversationId, from: Seq, to: Seq) -> Result<JsValue, JsValue> {
    let (from, to) = (run_key(conversation, from, Seq::ZERO), run_key(conversation, to, Seq(u64::MAX)));
    Ok(IdbKeyRange::bound(&from, &to)?.into())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seqs and orders stay below 2^53; the greatest bound may round"
)]
fn number(value: u64) -> JsValue {
    JsValue::from_f64(value as f64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "we wrote whole numbers")]
fn whole(value: &JsValue) -> u64 {
    value.as_f64().unwrap_or_default() as u64
}

fn bytes(record: &JsValue) -> Bytes {
    record.dyn_ref::<Uint8Array>().map(|array| Bytes::from(array.to_vec())).unwrap_or_default()
}

/// A request's result or error, as a promise: it holds no closure of ours that would have to be freed.
fn answer(request: &IdbRequest) -> Promise {
    let (request, result) = (request.clone(), request.clone());
    let ended = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    });
    wasm_bindgen_futures::future_to_promise(async move {
        match JsFuture::from(ended).await {
            Ok(_) => result.result(),
            Err(event) => Err(result.error().ok().flatten().map_or(event, JsValue::from)),
        }
    })
}

/// A transaction's end, as a promise.
fn ended(transaction: &IdbTransaction) -> Promise {
    let transaction = transaction.clone();
    Promise::new(&mut |resolve, reject| {
        transaction.set_oncomplete(Some(&resolve));
        transaction.set_onabort(Some(&reject));
    })
}
