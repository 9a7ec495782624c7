//! Real client cores, the real relay core, one clock and one seed: devices crash, connections break, the relay is
//! killed and comes back from what was durable. When the faults stop, promises R1 to R6 of DESIGN.md must hold.
//!
//! A failing seed says how to run it again.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod world {
    pub(crate) mod chance;
    pub(crate) mod device;
    #[allow(clippy::module_inception, reason = "it is the world of the world")]
    pub(crate) mod world;
}

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hongyan_client::view::{Conversation, Status};
use hongyan_client::{Answer, Command};
use hongyan_protocol::{ConversationId, ConversationKind, Seq, UserId};
use world::device::{Asked, Device};
use world::world::World;

const USERS: [&str; 6] = ["alice", "alice", "bob", "bob", "carol", "dora"];
/// Worlds of one run.
const SEEDS: u64 = 200;
/// Longer than any back-off, silence bound or time-out together.
const QUIET_MS: u64 = 180_000;

/// Messages of one page.
const PAGE: usize = 20;

/// A log as it is told by the queue of one user.
type Log = Vec<(Seq, String)>;

#[test]
fn promises_hold_in_every_world() {
    if let Some(seed) = std::env::var("HONGYAN_SEED").ok().and_then(|seed| seed.parse().ok()) {
        live(seed);
        return;
    }
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS || failed.load(Ordering::Relaxed) != u64::MAX {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| live(seed))) {
                        Ok(one) => tally.lock().unwrap().add(&one),
                        Err(_) => {
                            failed.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(
        failed == u64::MAX,
        "the world of seed {failed} broke a promise; again: HONGYAN_SEED={failed} cargo test -p hongyan-tests --test world"
    );
    let tally = tally.into_inner().unwrap();
    println!("{tally:?}");
    // Worlds in which nothing happens would keep every promise.
    assert!(tally.sent > 50 * SEEDS && tally.groups > SEEDS / 2 && tally.refused > SEEDS / 10, "{tally:?}");
    assert!(tally.faults > 5 * SEEDS && tally.unsure > SEEDS / 10 && tally.skips > SEEDS / 10, "{tally:?}");
}

/// What happened in worlds.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    refused: u64,
    unsure: u64,
    groups: u64,
    faults: u64,
    /// Devices that crashed between a durable transaction and the news of it.
    skips: u64,
}

impl Tally {
    fn of(world: &World) -> Self {
        let sum = |count: fn(&Device) -> usize| world.devices.iter().map(count).sum::<usize>() as u64;
        Self {
            sent: sum(|device| device.sent.len()),
            refused: sum(|device| device.refused.len()),
            unsure: sum(|device| device.unsure.len()),
            groups: world.groups.len() as u64,
            faults: world.faults,
            skips: sum(|device| usize::from(device.may_skip)),
        }
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.refused += other.refused;
        self.unsure += other.unsure;
        self.groups += other.groups;
        self.faults += other.faults;
        self.skips += other.skips;
    }
}

/// The same seed makes the same world: otherwise a failing seed would say nothing.
#[test]
fn a_seed_is_a_world() {
    let trace = |seed| {
        let mut world = World::new(seed, &USERS);
        play(&mut world);
        let seen: Vec<_> = world.devices.iter().map(|device| device.seen.clone()).collect();
        (world.now, world.chance.next(), seen)
    };
    assert!(trace(7) == trace(7));
    assert!(trace(7) != trace(8));
}

fn live(seed: u64) -> Tally {
    let mut world = World::new(seed, &USERS);
    play(&mut world);
    world.heal();
    world.pass(QUIET_MS);
    check(&mut world);
    Tally::of(&world)
}

// ---------------------------------------------------------------- what happens

fn play(world: &mut World) {
    world.pass(200);
    let members = ["bob", "carol"].map(|user| UserId::new(user).unwrap()).to_vec();
    world.ask(0, Command::CreateGroup { title: "Geese".into(), members }, Asked::CreateGroup);
    let faulty = world.chance.percent(90);
    for _ in 0..world.chance.between(30, 120) {
        let pause = if world.chance.percent(70) { 60 } else { 2_500 };
        let pause = world.chance.between(0, pause);
        world.pass(pause);
        let device = world.chance.index(USERS.len());
        match world.chance.below(20) {
            0 if faulty => world.crash_device(device),
            1 if faulty => world.break_link(device),
            2 if faulty && world.chance.percent(40) => world.crash_relay(),
            3 if faulty && world.chance.percent(20) => world.drain_relay(),
            4 if faulty => world.flicker(device),
            5 | 6 => mark_read(world, device),
            7 => change_group(world),
            _ => write(world, device),
        }
    }
}

fn conversation(world: &mut World, device: usize) -> ConversationId {
    if !world.groups.is_empty() && world.chance.percent(50) {
        let at = world.chance.index(world.groups.len());
        return world.groups[at].clone();
    }
    let peer = USERS[world.chance.index(USERS.len())];
    ConversationId::direct(&world.devices[device].user, &UserId::new(peer).unwrap())
}

fn write(world: &mut World, device: usize) {
    let conversation = conversation(world, device);
    for _ in 0..world.chance.between(1, 4) {
        let text = format!("{device}-{}", world.devices[device].wrote.len());
        world.write(device, conversation.clone(), text);
    }
}

fn mark_read(world: &mut World, device: usize) {
    let conversation = conversation(world, device);
    world.ask(device, Command::MarkRead { conversation, seq: None }, Asked::Other);
}

/// Dora comes and goes; now and then carol leaves by herself.
fn change_group(world: &mut World) {
    let Some(group) = world.groups.first().cloned() else { return };
    let dora = vec![UserId::new("dora").unwrap()];
    match world.chance.below(8) {
        0..4 => world.ask(0, Command::AddMembers(group, dora), Asked::Other),
        4..7 => world.ask(1, Command::RemoveMembers(group, dora), Asked::Other),
        _ => world.ask(4, Command::LeaveGroup(group), Asked::Other),
    };
}

// ---------------------------------------------------------------- what must be true

fn check(world: &mut World) {
    let originals = world.devices.len();
    for device in &world.devices {
        assert!(device.is_caught_up(), "R3: {} is not caught up", device.user);
        assert!(device.asked.is_empty(), "R6: {} has requests without an answer", device.user);
        assert_eq!(device.gaps, 0, "nothing was lost, so no gap may be told");
    }
    let cached: Vec<_> = (0..originals).map(|device| cold_open(world, device)).collect();
    world.heal();
    world.pass(QUIET_MS);
    // A new device of each user hears the whole queue: what the relay holds to be true.
    let mut truths: BTreeMap<&str, usize> = BTreeMap::new();
    for user in USERS {
        if !truths.contains_key(user) {
            truths.insert(user, world.add_device(user));
        }
    }
    world.pass(QUIET_MS);
    for device in 0..originals {
        let truth = truths[USERS[device]];
        check_events(world, device, truth);
        check_lists(world, device, truth);
    }
    for (device, pages) in cached.into_iter().enumerate() {
        for (conversation, page) in pages {
            let log = history(world, device, &conversation);
            let newest = &log[log.len() - page.len()..];
            assert!(page == newest, "{conversation} of {} was shown otherwise from the cache", USERS[device]);
            assert_eq!(
                page.len(),
                log.len().min(PAGE),
                "{conversation} of {} is not in the cache",
                USERS[device]
            );
        }
    }
    let logs = check_logs(world, &truths);
    for device in 0..originals {
        check_sends(world, device, &logs);
    }
}

/// A device that starts without a relay shows its list and the newest page of each conversation of two from its cache.
/// (Of a group it may hold less: what was written before it joined is the relay's to tell.)
fn cold_open(world: &mut World, device: usize) -> Vec<(ConversationId, Vec<Told>)> {
    world.stop_relay();
    world.restart_device(device);
    let mut pages = Vec::new();
    for line in list(world, device) {
        if line.kind == ConversationKind::Direct && line.last_seq > Seq::ZERO {
            let page = page(world, device, &line.id, None, PAGE);
            pages.push((line.id, page));
        }
    }
    pages
}

/// R2: every message event once, in queue order.
fn check_events(world: &World, device: usize, truth: usize) {
    let (device, truth) = (&world.devices[device], &world.devices[truth]);
    if device.may_skip {
        // In order, each once: a subsequence. The rest is in the cache, which `check_lists` reads.
        let mut rest = truth.seen.iter();
        for seen in &device.seen {
            assert!(rest.any(|other| other == seen), "R2: {} was told {seen:?} twice or late", device.user);
        }
    } else {
        assert_eq!(device.seen, truth.seen, "R2: what {}'s application was told", device.user);
    }
}

/// Every conversation of every device reads the same, to its end, with the same marks.
fn check_lists(world: &mut World, device: usize, truth: usize) {
    let (own, other) = (list(world, device), list(world, truth));
    let user = world.devices[device].user.clone();
    let names = |list: &[Conversation]| list.iter().map(|line| line.id.clone()).collect::<BTreeSet<_>>();
    // A conversation that only has messages that were refused exists on the device which wrote them.
    assert!(names(&own).is_superset(&names(&other)), "{user} misses conversations");
    for line in own {
        let Some(twin) = other.iter().find(|twin| twin.id == line.id) else {
            assert_eq!(line.last_seq, Seq::ZERO, "{user}: {} is known to one device only", line.id);
            continue;
        };
        assert_eq!(line.left, twin.left, "{user}: {} was left", line.id);
        if line.left {
            continue;
        }
        assert_eq!(line.last_seq, twin.last_seq, "R3: {user}: the head of {}", line.id);
        assert_eq!(line.read_seq, twin.read_seq, "{user}: the read mark of {}", line.id);
        assert_eq!(line.group, twin.group, "{user}: the group {}", line.id);
        let log = history(world, device, &line.id);
        assert!(log == history(world, truth, &line.id), "R5: {user}: {} reads differently", line.id);
        let expected: Vec<_> = (1..=line.last_seq.0).map(Seq).collect();
        assert_eq!(log.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), expected, "R5: {user}: {}", line.id);
        let unread = log.iter().filter(|(seq, from, _)| *seq > line.read_seq && *from != user).count();
        assert_eq!(line.unread, unread as u64, "{user}: unread of {}", line.id);
    }
}

fn list(world: &mut World, device: usize) -> Vec<Conversation> {
    match world.call(device, Command::Conversations { limit: 1_000, before: None }) {
        Ok(Answer::Conversations(list)) => list,
        _ => panic!("no list"),
    }
}

/// A message as a device tells it.
type Told = (Seq, UserId, String);

fn page(
    world: &mut World,
    device: usize,
    of: &ConversationId,
    before: Option<Seq>,
    limit: usize,
) -> Vec<Told> {
    let command = Command::History { conversation: of.clone(), before, after: None, limit };
    let page = match world.call(device, command) {
        Ok(Answer::History(page)) => page,
        Ok(_) => panic!("no page"),
        Err(error) => panic!("no page of {of}: {error}"),
    };
    assert!(page.iter().all(|message| message.status != Status::Sending), "R6: messages of {of} still wait");
    page.into_iter().filter_map(|message| Some((message.seq?, message.from, message.content.text))).collect()
}

/// The whole log as the device tells it.
fn history(world: &mut World, device: usize, of: &ConversationId) -> Vec<Told> {
    let mut log: Vec<Told> = Vec::new();
    loop {
        let before = log.first().map(|(seq, ..)| *seq);
        let mut page = page(world, device, of, before, PAGE);
        if page.is_empty() {
            return log;
        }
        page.append(&mut log);
        log = page;
        if log[0].0 == Seq(1) {
            return log;
        }
    }
}

/// R5: everybody who is told of a place in a log is told the same. Returns all that anybody was told.
fn check_logs(world: &World, truths: &BTreeMap<&str, usize>) -> BTreeMap<ConversationId, Log> {
    let mut logs: BTreeMap<ConversationId, BTreeMap<Seq, String>> = BTreeMap::new();
    for truth in truths.values() {
        let device = &world.devices[*truth];
        for (conversation, seq, text) in &device.seen {
            let log = logs.entry(conversation.clone()).or_default();
            let told = log.entry(*seq).or_insert_with(|| text.clone());
            assert_eq!(told, text, "R5: two texts at {seq} of {conversation}");
        }
    }
    let mut texts = BTreeSet::new();
    for (conversation, log) in &logs {
        let expected: Vec<_> = (1..=log.len() as u64).map(Seq).collect();
        assert_eq!(log.keys().copied().collect::<Vec<_>>(), expected, "{conversation} has gaps");
        for text in log.values() {
            assert!(texts.insert(text.clone()), "R4: {text} is in the logs twice");
        }
    }
    logs.into_iter().map(|(conversation, log)| (conversation, log.into_iter().collect())).collect()
}

/// R4, R5, R6: what was acknowledged is where it was said to be, in the order of writing; nothing else got lost.
fn check_sends(world: &World, device: usize, logs: &BTreeMap<ConversationId, Log>) {
    let device = &world.devices[device];
    let place = |conversation: &ConversationId, text: &str| {
        logs.get(conversation)?.iter().find(|(_, other)| other == text).map(|(seq, _)| *seq)
    };
    for (conversation, seq, text) in &device.sent {
        assert_eq!(place(conversation, text), Some(*seq), "R4: {text} was acknowledged");
    }
    let mut last: BTreeMap<&ConversationId, Seq> = BTreeMap::new();
    for (conversation, text) in &device.wrote {
        match place(conversation, text) {
            Some(seq) => {
                let before = last.insert(conversation, seq).unwrap_or_default();
                assert!(before < seq, "R5: {text} is not after what was written before it");
                assert!(!device.refused.contains(text), "R6: {text} was refused and is in the log");
            }
            None => assert!(
                device.refused.contains(text) || device.unsure.contains(text),
                "R6: {text} of {} is neither in the log nor refused",
                device.user
            ),
        }
    }
}
