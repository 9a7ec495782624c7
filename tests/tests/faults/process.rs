//! The relay's program, started so that it may fail: on any folder, with any environment, and killed at any moment.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hongyan_tests::relay_process::program;
use hongyan_tests::tokens::{KEY_ID, SECRET};

/// A start or an end takes no longer, also on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that a relay can be told to keep of a queue at hand.
pub(crate) const QUEUE_CAPACITY: usize = 100_000;

/// One data folder and one port, and what runs there now.
pub(crate) struct Relay {
    pub(crate) data: PathBuf,
    pub(crate) address: SocketAddr,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    log: Arc<Mutex<String>>,
}

impl Relay {
    /// On a port that was free a moment ago. Nothing runs yet.
    pub(crate) fn new(data: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self { data: data.to_owned(), address, environment: Vec::new(), child: None, log: Arc::default() }
    }

    /// For the starts that come.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.into(), value.into()));
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HONGYAN_"))
        {
            command.env_remove(name);
        }
        command
            .args(args)
            .arg("--data")
            .arg(&self.data)
            .env("NO_COLOR", "1")
            .env("HONGYAN_TOKENS_HS256", format!("{KEY_ID}:{SECRET}"))
            // A device that was never there before is told all that was written, entry by entry.
            .env("HONGYAN_QUEUE_CAPACITY", QUEUE_CAPACITY.to_string())
            .env("HONGYAN_LIMITS_SENDS_PER_SECOND", "100000")
            .env("HONGYAN_LIMITS_SENDS_BURST", "100000")
            .env("HONGYAN_LIMITS_REQUESTS_PER_SECOND", "100000")
            .env("HONGYAN_LIMITS_REQUESTS_BURST", "100000")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it and does not wait for anything.
    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none());
        let mut child = self.command(&["serve", "--listen", &self.address.to_string()]).spawn().unwrap();
        self.log.lock().unwrap().clear();
        gather(child.stdout.take().unwrap(), &self.log);
        gather(child.stderr.take().unwrap(), &self.log);
        self.child = Some(child);
    }

    /// Starts it and waits until it serves, or has ended. Gives how long that took.
    pub(crate) fn try_start(&mut self) -> Result<Duration, (ExitStatus, String)> {
        // The first spawn of all builds the program.
        self.spawn();
        let begun = Instant::now();
        loop {
            if self.log().contains("ready: http://") {
                return Ok(begun.elapsed());
            }
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                thread::sleep(Duration::from_millis(50));
                return Err((status, self.log()));
            }
            assert!(begun.elapsed() < PATIENCE, "no start: {}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn start(&mut self) -> Duration {
        self.try_start().unwrap_or_else(|(status, log)| panic!("no start: {status}\n{log}"))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits for it to end by itself; gives its exit code and all that it printed.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                thread::sleep(Duration::from_millis(50));
                assert!(status.signal().is_none(), "it ended by a signal: {status}\n{}", self.log());
                return (status.code(), self.log());
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs `verify`; gives the exit code and what it printed.
    pub(crate) fn verify(&self) -> (Option<i32>, String) {
        let output = self.command(&["verify"]).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), text.concat())
    }

    /// What it printed since its last start.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

fn gather(mut pipe: impl std::io::Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = pipe.by_ref().read(&mut bytes) {
            log.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
}
