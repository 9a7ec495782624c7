//! The machine's own limits: the same bytes on the same disk and the same sockets, without anything between.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hongyan_load::histogram::{Latencies, float};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

/// A message as a plain log writes it: some 300 bytes of text with its key and names.
pub(crate) const RECORD_BYTES: usize = 400;
/// The plain log is written round and round.
const PLAIN_LOG_BYTES: usize = 64 * 1024 * 1024;

type Outcome<T> = Result<T, String>;

fn failed(error: std::io::Error) -> String {
    format!("A raw measurement failed: {error}.")
}

/// What a plain log can do.
#[derive(Clone, Copy, Default)]
pub(crate) struct PlainLog {
    /// Records per second.
    pub(crate) rate: f64,
    /// The median of one write and sync …
    pub(crate) sync_ms: f64,
    /// … and what one in a hundred takes, of those one after another and nothing else.
    pub(crate) sync_p99_ms: f64,
}

impl PlainLog {
    /// The better of two measurements: what else the machine did in the worse one is no limit.
    pub(crate) fn or(self, other: Self) -> Self {
        if other.rate > self.rate { other } else { self }
    }
}

/// What this process has used of the processors, all its threads together.
pub(crate) fn processor_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// The same of this thread alone.
pub(crate) fn thread_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

fn clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

/// Records of one file into which `batch` records are written and synced at a time. It grows with each write, or was made
/// large before: whichever this disk likes better.
pub(crate) fn plain_log(folder: &Path, batch: usize, time: Duration) -> Outcome<PlainLog> {
    let path = folder.join("plain-log");
    let bytes = vec![0x5a; RECORD_BYTES * batch];
    let mut best = PlainLog::default();
    for made_before in [false, true] {
        let mut file = File::create(&path).map_err(failed)?;
        if made_before {
            file.write_all(&vec![0; PLAIN_LOG_BYTES]).map_err(failed)?;
            file.sync_all().and_then(|()| file.rewind()).map_err(failed)?;
        }
        let (begun, mut syncs, mut written) = (Instant::now(), Latencies::default(), 0);
        while begun.elapsed() < time {
            if written + bytes.len() > PLAIN_LOG_BYTES {
                file.rewind().map_err(failed)?;
                written = 0;
            }
            let one = Instant::now();
            file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
            syncs.record(one.elapsed());
            written += bytes.len();
        }
        let records = syncs.count() * batch as u64;
        let rate = float(records) / begun.elapsed().as_secs_f64();
        best = best.or(PlainLog { rate, sync_ms: syncs.ms_at(0.5), sync_p99_ms: syncs.ms_at(0.99) });
    }
    std::fs::remove_file(path).map_err(failed)?;
    Ok(best)
}

/// What one thread that writes to many sockets, over and over, with readers, can do.
#[derive(Clone, Copy)]
pub(crate) struct SocketWrites {
    /// Per second.
    pub(crate) rate: f64,
    /// Per second of processor time of the thread that writes.
    pub(crate) rate_per_core: f64,
}

/// Writes a message to each of so many sockets, over and over. Readers wait for it as clients do, so each write wakes one.
pub(crate) fn socket_writes(runtime: &Runtime, sockets: usize, time: Duration) -> Outcome<SocketWrites> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let mut writers = Vec::new();
    for _ in 0..sockets {
        writers.push(TcpStream::connect(address).map_err(failed)?);
        let reader = listener.accept().map_err(failed)?.0;
        reader.set_nonblocking(true).map_err(failed)?;
        // It ends with its writer.
        runtime.spawn(async move {
            let mut reader = tokio::net::TcpStream::from_std(reader)?;
            tokio::io::copy(&mut reader, &mut tokio::io::sink()).await
        });
    }
    let bytes = vec![0x5a; RECORD_BYTES];
    let (begun, cpu, mut writes) = (Instant::now(), thread_time(), 0u64);
    while begun.elapsed() < time {
        for mut stream in &writers {
            stream.write_all(&bytes).map_err(failed)?;
        }
        writes += sockets as u64;
    }
    let rate = float(writes) / begun.elapsed().as_secs_f64();
    let used = thread_time().saturating_sub(cpu).as_secs_f64();
    Ok(SocketWrites { rate, rate_per_core: float(writes) / used.max(1e-3) })
}

/// Bytes per second from one loopback socket to another.
pub(crate) fn socket_stream(time: Duration) -> Outcome<f64> {
    let (mut from, mut to) = pair()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let bytes = vec![0x5a; 128 * 1024];
            while !done.load(Ordering::Relaxed) {
                if from.write_all(&bytes).is_err() {
                    break;
                }
            }
            drop(from);
        });
        let (begun, mut read, mut buffer) = (Instant::now(), 0u64, vec![0; 128 * 1024]);
        while begun.elapsed() < time {
            read += to.read(&mut buffer).map_err(failed)? as u64;
        }
        let rate = float(read) / begun.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        // What is still on the way, so that the writer ends.
        while to.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
        Ok(rate)
    })
}

/// A question of some bytes and an answer of so many, over and over, on one loopback connection.
pub(crate) fn round_trips(answer_bytes: usize, time: Duration) -> Outcome<Latencies> {
    let (mut asks, mut answers) = pair()?;
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut question, answer) = ([0; 64], vec![0x5a; answer_bytes]);
            while answers.read_exact(&mut question).and_then(|()| answers.write_all(&answer)).is_ok() {}
        });
        let (begun, mut trips, mut answer) = (Instant::now(), Latencies::default(), vec![0; answer_bytes]);
        while begun.elapsed() < time {
            let one = Instant::now();
            asks.write_all(&[0; 64]).and_then(|()| asks.read_exact(&mut answer)).map_err(failed)?;
            trips.record(one.elapsed());
        }
        drop(asks);
        Ok(trips)
    })
}

/// How long it takes to connect and accept so many sockets, one after another.
pub(crate) fn accepts(sockets: usize) -> Outcome<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let begun = Instant::now();
    let mut kept = Vec::with_capacity(2 * sockets);
    for _ in 0..sockets {
        kept.push(TcpStream::connect(address).map_err(failed)?);
        kept.push(listener.accept().map_err(failed)?.0);
    }
    Ok(begun.elapsed())
}

/// How long it takes to read every byte below a folder, and how many there are.
pub(crate) fn read_folder(folder: &Path) -> Outcome<(Duration, u64)> {
    let begun = Instant::now();
    let mut bytes = 0;
    let mut folders = vec![folder.to_path_buf()];
    let mut buffer = vec![0; 1024 * 1024];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut file = File::open(path).map_err(failed)?;
            loop {
                match file.read(&mut buffer).map_err(failed)? {
                    0 => break,
                    read => bytes += read as u64,
                }
            }
        }
    }
    Ok((begun.elapsed(), bytes))
}

fn pair() -> Outcome<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let one = TcpStream::connect(listener.local_addr().map_err(failed)?).map_err(failed)?;
    let other = listener.accept().map_err(failed)?.0;
    for stream in [&one, &other] {
        stream.set_nodelay(true).map_err(failed)?;
    }
    Ok((one, other))
}
