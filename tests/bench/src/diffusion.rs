//! What decides between `copy`, `reference` and `log`: the processor time and the bytes of a message, written and caught up
//! with by all members, over sizes of groups and of messages. The core over the engine, without sockets.
//!
//! The store is in memory where the system has a folder there, so that no disk is measured; times are those of the
//! processor for the core and the engine's part in a commit or a read. Each message has a commit of its own, as it has in
//! its members' queues when many conversations share a commit, and members read what has come to the tables. That the
//! engine's threads write and merge tables is not in the times: it goes by the bytes.

use std::io;
use std::path::Path;
use std::time::Duration;

use hongyan_load::histogram::float;
use hongyan_protocol::limits::HELD_MEMBERS_MAX;
use hongyan_relay::core::queue::{Diffusion, DiffusionConfig};

use crate::Bench;
use crate::filler::{Applied, Large};
use crate::raw::thread_time;
use crate::report::{Figure, Report};

/// Members of a group.
const MEMBERS: [u64; 9] = [2, 3, 5, 10, 30, 100, 500, 2_000, 10_000];
/// Bytes of a message's text.
const BODIES: [usize; 5] = [50, 200, 1_000, 4_000, 16_000];
/// Messages of a group that a member's device has missed when it comes.
const MISSED: u64 = 20;
/// Bytes that one round copies into queues, at most: larger ones are left out.
const COPIED_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// Entries that one round writes into queues, about.
const ENTRIES: u64 = 20_000;
/// Members whose catching up is measured.
const READERS: u64 = 8;
/// Each figure is the median of so many rounds, in which the ways take turns.
const ROUNDS: usize = 5;

/// The ways with their names.
const WAYS: [(Diffusion, &str); 3] =
    [(Diffusion::Copy, "copy"), (Diffusion::Reference, "reference"), (Diffusion::Log, "log")];

/// A group that is written to one way.
struct Bed {
    name: &'static str,
    way: Diffusion,
    group: Large,
    readers: Vec<Applied>,
    folder: tempfile::TempDir,
}

/// One round: microseconds of a message for all members, and bytes.
#[derive(Clone, Copy)]
struct Round {
    written: f64,
    read: f64,
    committed: f64,
}

/// The medians of one way.
struct Cost {
    name: &'static str,
    way: Diffusion,
    round: Round,
    on_disk: f64,
}

impl Cost {
    fn time(&self) -> f64 {
        self.round.written + self.round.read
    }
}

/// What a size of group and message costs.
struct Cell {
    members: u64,
    body: usize,
    costs: Vec<Cost>,
}

impl Cell {
    fn time(&self, way: Diffusion) -> Option<f64> {
        self.costs.iter().find(|cost| cost.way == way).map(Cost::time)
    }

    /// Whether one way takes no more time than the other.
    fn is_cheaper(&self, one: Diffusion, other: Diffusion) -> bool {
        match (self.time(one), self.time(other)) {
            (Some(one), Some(other)) => one <= other,
            (one, _) => one.is_some(),
        }
    }
}

pub(crate) fn run(bench: &Bench, report: &mut Report) -> Result<(), String> {
    let rounds = if bench.quick { 3 } else { ROUNDS };
    let mut cells = Vec::new();
    for members in MEMBERS {
        report.says(&format!("diffusion: {members} members"));
        let ways =
            WAYS.into_iter().filter(|(way, _)| *way == Diffusion::Log || members <= HELD_MEMBERS_MAX as u64);
        let mut beds = ways.map(|(way, name)| Bed::new(way, name, members)).collect::<Result<Vec<_>, _>>()?;
        for body in BODIES {
            let cell = Cell { members, body, costs: measure(&mut beds, members, body, rounds)? };
            tell(report, &cell);
            cells.push(cell);
        }
    }
    thresholds(report, &cells);
    Ok(())
}

impl Bed {
    fn new(way: Diffusion, name: &'static str, members: u64) -> Result<Self, String> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.map_err(|error| format!("There is no folder for a store: {error}."))?;
        let mut group = Large::open(folder.path(), way)?;
        group.add(1, members)?;
        let readers = vec![Applied::default(); usize::try_from(READERS.min(members - 1)).unwrap_or_default()];
        Ok(Self { name, way, group, readers, folder })
    }

    /// Messages, with which all members catch up some at a time; the owner's own device is connected and reads nothing.
    fn round(&mut self, members: u64, body: usize, messages: u64) -> Result<Round, String> {
        let committed = self.group.committed();
        let (mut written, mut read, mut left) = (Duration::ZERO, Duration::ZERO, messages);
        while left > 0 {
            let missed = left.min(MISSED);
            left -= missed;
            let begun = thread_time();
            self.group.write(missed, 1, body)?;
            written += thread_time() - begun;
            if left == 0 {
                self.group.flush()?;
            }
            let begun = thread_time();
            for (number, applied) in (1..).zip(&mut self.readers) {
                let brought = self.group.catch_up(number, applied, self.way == Diffusion::Log)?;
                if brought != missed {
                    return Err(format!("{brought} of {missed} messages were caught up with"));
                }
            }
            read += thread_time() - begun;
        }
        let committed = self.group.committed() - committed;
        let readers = float(self.readers.len() as u64);
        Ok(Round {
            written: micros(written) / float(messages),
            read: micros(read) / readers * float(members - 1) / float(messages),
            committed: float(committed) / float(messages),
        })
    }

    /// What the tables take, with everything in them.
    fn on_disk(&self) -> Result<u64, String> {
        self.group.flush()?;
        folder_bytes(&self.folder.path().join("store/tree"))
            .map_err(|error| format!("The size of a store can't be told: {error}."))
    }
}

fn measure(beds: &mut [Bed], members: u64, body: usize, rounds: usize) -> Result<Vec<Cost>, String> {
    let messages = MISSED.min(ENTRIES / members).max(2);
    let fits =
        |way: Diffusion| way != Diffusion::Copy || members * messages * body as u64 <= COPIED_BYTES_MAX;
    let mut measured: Vec<Vec<Round>> = beds.iter().map(|_| Vec::new()).collect();
    let mut before = Vec::new();
    for bed in beds.iter_mut() {
        // What has to be read once is not a message's cost.
        if fits(bed.way) {
            bed.round(members, body, messages)?;
        }
        before.push(bed.on_disk()?);
    }
    for _ in 0..rounds {
        for (bed, measured) in beds.iter_mut().zip(&mut measured) {
            if fits(bed.way) {
                measured.push(bed.round(members, body, messages)?);
            }
        }
    }
    let mut costs = Vec::new();
    for ((bed, measured), before) in beds.iter().zip(&measured).zip(before) {
        if measured.is_empty() {
            continue;
        }
        let round = Round {
            written: median(measured.iter().map(|round| round.written)),
            read: median(measured.iter().map(|round| round.read)),
            committed: median(measured.iter().map(|round| round.committed)),
        };
        let on_disk = float(bed.on_disk()?.saturating_sub(before)) / float(messages * measured.len() as u64);
        costs.push(Cost { name: bed.name, way: bed.way, round, on_disk });
    }
    Ok(costs)
}

fn tell(report: &mut Report, cell: &Cell) {
    let Cell { members, body, costs } = cell;
    let least = costs.iter().map(Cost::time).fold(f64::INFINITY, f64::min);
    for cost in costs {
        // The log has the message's text once; each member a copy of it, or a byte that says which is next.
        let bytes = float(*body as u64);
        let minimum = match cost.way {
            Diffusion::Copy => bytes * float(members + 1),
            Diffusion::Reference => bytes + float(*members),
            _ => bytes,
        };
        report.add(
            Figure::new(format!("{} to {members} members, {body} B", cost.name), cost.time(), "µs")
                .beside("the cheapest way", least)
                .note(format!(
                    "processor time of a message for all: written {:.1}, caught up with {:.1} µs; {:.0} B committed, \
                     {:.0} B on disk, at least {minimum:.0} B",
                    cost.round.written, cost.round.read, cost.round.committed, cost.on_disk
                )),
        );
    }
}

/// Up to where copies are cheaper than references, beside what `auto` has.
fn thresholds(report: &mut Report, cells: &[Cell]) {
    let auto = DiffusionConfig::default();
    let copies = |cell: &&Cell| cell.is_cheaper(Diffusion::Copy, Diffusion::Reference);
    // As long as every size up to it is cheaper, too.
    let bytes = |members: u64| {
        let of = cells.iter().filter(|cell| cell.members == members);
        of.take_while(copies).last().map_or(0, |cell| cell.body)
    };
    for members in MEMBERS.into_iter().filter(|members| *members <= HELD_MEMBERS_MAX as u64) {
        report.add(
            Figure::new(
                format!("copies to {members} members are cheaper up to"),
                float(bytes(members) as u64),
                "B",
            )
            .note(format!(
                "`auto` copies to {} members up to {} B",
                auto.copy_members_max, auto.copy_bytes_max
            )),
        );
    }
}

/// What a folder's files take. The engine may remove some meanwhile.
fn folder_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(of) if of.is_dir() => folder_bytes(&entry.path())?,
            Ok(of) => of.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
