//! Large groups: what a message costs before anybody is pushed it, and what a member costs.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use hongyan_load::histogram::float;
use hongyan_relay::core::queue::Diffusion;

use crate::filler::Large;
use crate::raw::{processor_time, read_folder};
use crate::report::{Figure, Goal, Report};
use crate::{Bench, relay};

/// Members of the group.
const MEMBERS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// The same when it has to be quick.
const MEMBERS_QUICK: [u64; 3] = [1_000, 10_000, 100_000];
/// Rounds of writing at each size.
const ROUNDS: usize = 15;
/// Messages that are written in each of them …
const MESSAGES: u64 = 1_000;
/// … so many with one commit, as under load.
const PER_COMMIT: u64 = 64;
/// A message's text.
const TEXT_BYTES: usize = 300;
/// So long nothing is done when the engine has come to rest …
const REST: Duration = Duration::from_millis(200);
/// … which is waited for so many times that long.
const RESTS_MAX: usize = 300;
/// How much more a message to the largest group may cost than one to the smallest.
const FLAT: f64 = 1.2;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> Result<(), String> {
    let sizes: &[u64] = if bench.quick { &MEMBERS_QUICK } else { &MEMBERS };
    relay::start_over(|data| by_log(report, data, sizes))?;
    Ok(())
}

/// Until this process, the engine's threads included, does nothing any more.
fn rest() {
    for _ in 0..RESTS_MAX {
        let before = processor_time();
        std::thread::sleep(REST);
        if processor_time() - before < REST / 20 {
            return;
        }
    }
}

fn by_log(report: &mut Report, data: &Path, sizes: &[u64]) -> Result<(), String> {
    let mut large = Large::open(data, Diffusion::Auto)?;
    let mut members = 1;
    // The machine is not equally fast over a minute: so each round has others beside it, to a small group in a process and a
    // store of its own, and to a group that stays small in this store, which grows.
    let own_folder = tempfile::tempdir().map_err(|error| format!("There is no folder: {error}."))?;
    let mut smallest = SmallGroup::start(own_folder.path())?;
    let mut small = large.another(Diffusion::Auto)?;
    large.swap(&mut small);
    large.add(1, MEMBERS[0])?;
    large.swap(&mut small);
    for size in sizes.iter().copied() {
        report.says(&format!("large: {size} members"));
        let (_, before) = read_folder(data)?;
        let begun = Instant::now();
        large.add(members, size)?;
        let joining = begun.elapsed();
        let (_, after) = read_folder(data)?;
        let joined = float(size - members);
        members = size;
        report.add(
            Figure::new(
                format!("joining a group of up to {size} members"),
                joining.as_secs_f64() * 1e6 / joined,
                "µs",
            )
            .note(format!(
                "{:.1} s for all by the app's server, 1,000 in a request, without sockets; {:.0} bytes on disk each",
                joining.as_secs_f64(),
                float(after.saturating_sub(before)) / joined,
            )),
        );
        // What has to be read once is not a message's cost.
        large.write(PER_COMMIT, PER_COMMIT, TEXT_BYTES)?;
        // What the joining wrote has still to come to the tables and to be merged, which is the joining's cost.
        large.flush()?;
        rest();
        let (mut rounds, mut of_smallest, mut of_small) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            rounds.push(round(&mut large)?);
            of_smallest.push(smallest.round()?);
            large.swap(&mut small);
            of_small.push(round(&mut large)?);
            large.swap(&mut small);
        }
        let (each, first, beside) = (median(rounds), median(of_smallest), median(of_small));
        report.add(
            Figure::new(format!("a message to {size} members before pushing"), each, "µs")
                .beside(format!("to {} in a store of their own, in turns", MEMBERS[0]), first)
                .goal(Goal::RatioAtMost(FLAT))
                .note(format!("processor time of core and engine, which was at rest before; {PER_COMMIT} messages per commit"))
                .slope("a message before pushing", size, "members"),
        );
        report.add(
            Figure::new(format!("a message to {size} members before pushing, in the same store"), each, "µs")
                .beside(format!("to {} there, in turns", MEMBERS[0]), beside)
                .goal(Goal::RatioAtMost(FLAT)),
        );
    }
    Ok(())
}

/// This program once more, with a small group: a message to it costs what it costs where nothing else is.
struct SmallGroup {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl SmallGroup {
    fn start(data: &Path) -> Result<Self, String> {
        let broken = |error: io::Error| format!("The program can't be started once more: {error}.");
        let mut child = Command::new(std::env::current_exe().map_err(broken)?)
            .args(["small-group", "--data"])
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("The program was started without pipes.".into());
        };
        Ok(Self { child, asks, answers: BufReader::new(answers) })
    }

    fn round(&mut self) -> Result<f64, String> {
        let mut answer = String::new();
        writeln!(self.asks)
            .and_then(|()| self.answers.read_line(&mut answer))
            .map_err(|error| format!("The small group is gone: {error}."))?;
        answer.trim().parse().map_err(|_| "The small group gave no number.".into())
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What [`SmallGroup`] starts: for each line that comes, the processor time of a round in µs for each message.
pub(crate) fn small_group(data: &Path) -> Result<(), String> {
    let mut group = Large::open(data, Diffusion::Auto)?;
    group.add(1, MEMBERS[0])?;
    group.write(PER_COMMIT, PER_COMMIT, TEXT_BYTES)?;
    group.flush()?;
    rest();
    for line in io::stdin().lines() {
        line.map_err(|error| format!("No more is asked: {error}."))?;
        println!("{}", round(&mut group)?);
    }
    Ok(())
}

/// The processor time of a round, in µs for each message.
fn round(large: &mut Large) -> Result<f64, String> {
    let begun = processor_time();
    large.write(MESSAGES, PER_COMMIT, TEXT_BYTES)?;
    Ok((processor_time() - begun).as_secs_f64() * 1e6 / float(MESSAGES))
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_unstable_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
