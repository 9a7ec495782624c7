//! What a process costs, as Linux counts it.

use std::time::{Duration, Instant};

/// The processor time that a process used, by its id or `self`; `None` when there is no such process.
#[must_use]
pub fn processor_time(process: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything; the numbers begin after it.
    let numbers = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = numbers.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second for every program.
    Some(Duration::from_millis(ticks * 10))
}

/// A process's resident memory, in bytes.
#[must_use]
pub fn memory_bytes(process: &str) -> Option<u64> {
    status_bytes(process, "VmRSS:")
}

/// The most that a process's resident memory was, in bytes.
#[must_use]
pub fn memory_bytes_peak(process: &str) -> Option<u64> {
    status_bytes(process, "VmHWM:")
}

fn status_bytes(process: &str, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// What the kernel holds for TCP on the whole machine, in bytes: buffers, not the sockets' own structures.
#[must_use]
pub fn tcp_buffer_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem").skip(1);
    // In pages.
    words.next()?.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// Processors of this machine.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the generator and the relay use from a moment on.
pub struct Usage {
    begun: Instant,
    own: Duration,
    relay: Option<(String, Duration)>,
}

/// What they used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// How long it took.
    pub time: Duration,
    /// Processor time of this process.
    pub own: Duration,
    /// Processor time of the relay, when its process is known.
    pub relay: Option<Duration>,
}

impl Usage {
    /// Begins; `relay` is its process id.
    #[must_use]
    pub fn start(relay: Option<u32>) -> Self {
        let relay = relay.map(|id| id.to_string()).and_then(|id| {
            let time = processor_time(&id)?;
            Some((id, time))
        });
        Self { begun: Instant::now(), own: processor_time("self").unwrap_or_default(), relay }
    }

    /// What was used since.
    #[must_use]
    pub fn so_far(&self) -> Used {
        Used {
            time: self.begun.elapsed(),
            own: processor_time("self").unwrap_or_default().saturating_sub(self.own),
            relay: self
                .relay
                .as_ref()
                .and_then(|(id, before)| processor_time(id).map(|time| time.saturating_sub(*before))),
        }
    }
}

impl Used {
    /// Processors that the generator kept busy.
    #[must_use]
    pub fn own_processors(&self) -> f64 {
        self.own.as_secs_f64() / self.time.as_secs_f64().max(1e-9)
    }

    /// Processors that the relay kept busy.
    #[must_use]
    pub fn relay_processors(&self) -> Option<f64> {
        self.relay.map(|relay| relay.as_secs_f64() / self.time.as_secs_f64().max(1e-9))
    }
}
