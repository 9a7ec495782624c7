//! The relay's program as a process of its own, with the power switch in hand.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hongyan_load::process;
use tempfile::TempDir;

use crate::tokens::{KEY_ID, SECRET};

/// A start takes no longer, also on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is kept of the log.
const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A relay over a folder of its own. The folder goes when it is dropped, the process too.
pub struct RelayProcess {
    settings: Vec<(String, String)>,
    folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    log: Arc<Mutex<String>>,
}

impl RelayProcess {
    /// Starts one on a free port, with [`SECRET`] for tokens and these settings besides (`limits.sends_burst` …).
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_over(settings, |_| Ok(())).expect("nothing was to be done before")
    }

    /// The same over what `prepare` puts into its data folder.
    ///
    /// # Errors
    /// Those of `prepare`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_over(
        settings: &[(&str, &str)],
        prepare: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<Self, String> {
        let mut settings: Vec<(String, String)> =
            settings.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect();
        settings.push((variable("tokens.hs256"), format!("{KEY_ID}:{SECRET}")));
        let folder = tempfile::Builder::new().prefix("hongyan-relay-").tempdir().expect("a folder");
        let mut relay = Self {
            settings,
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            child: None,
            log: Arc::default(),
        };
        prepare(&relay.data())?;
        relay.restart();
        Ok(relay)
    }

    /// Starts it again on the same port and folder.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(program());
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HONGYAN_"))
        {
            command.env_remove(name);
        }
        let mut child = command
            .args(["serve", "--listen", &self.address.to_string(), "--data"])
            .arg(self.data())
            .envs(self.settings.iter().cloned())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the relay's program runs");
        let printed = Arc::<Mutex<String>>::default();
        gather(child.stdout.take().expect("a pipe"), &[&printed, &self.log]);
        gather(child.stderr.take().expect("a pipe"), &[&self.log]);
        let begun = Instant::now();
        self.address = loop {
            if let Some(address) = ready(&printed.lock().unwrap_or_else(PoisonError::into_inner)) {
                break address;
            }
            let ended = child.try_wait().expect("a process of one's own");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "no start: {ended:?}\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        };
        self.child = Some(child);
    }

    /// SIGKILL: nothing of it gets the chance to tidy up.
    ///
    /// # Panics
    /// When the system does not do it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the process is killed");
            child.wait().expect("the process ends");
        }
    }

    /// SIGTERM: it says goodbye to everybody, writes what is due, and ends.
    ///
    /// # Panics
    /// When the system does not do it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let id = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("the process is told");
            child.wait().expect("the process ends");
        }
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When the system does not know.
    pub fn is_up(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a process of one's own").is_none())
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("the relay runs")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder in which its data folder is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything that it printed since the first start.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its resident memory, in bytes.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        process::memory_bytes(&self.id().to_string()).expect("the relay runs")
    }

    /// The most that its resident memory was since its start, in bytes.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn memory_bytes_peak(&self) -> u64 {
        process::memory_bytes_peak(&self.id().to_string()).expect("the relay runs")
    }

    /// The processor time that it used, all threads together.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        process::processor_time(&self.id().to_string()).expect("the relay runs")
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The environment variable of a setting.
fn variable(key: &str) -> String {
    format!("HONGYAN_{}", key.replace('.', "_").to_uppercase())
}

/// The address in the line that says that it is ready.
fn ready(printed: &str) -> Option<SocketAddr> {
    let url = printed.lines().find_map(|line| line.strip_prefix("ready: http://"))?;
    url.split('/').next()?.trim().parse().ok()
}

fn gather(pipe: impl Read + Send + 'static, into: &[&Arc<Mutex<String>>]) {
    let into: Vec<_> = into.iter().map(|text| Arc::clone(text)).collect();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            for text in &into {
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                if text.len() < LOG_BYTES_MAX {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
    });
}

/// The program of the profile that runs now, built at the first call; `HONGYAN_RELAY` names another one.
///
/// # Panics
/// When it can't be built.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("HONGYAN_RELAY").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    // A test is in TARGET/PROFILE/deps, a program in TARGET/PROFILE.
    let own = std::env::current_exe().expect("the path of this program");
    let mut folder = own.parent().expect("a folder");
    if folder.ends_with("deps") {
        folder = folder.parent().expect("the profile's folder");
    }
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let target = folder.parent().expect("the target folder");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--quiet",
            "--package",
            "hongyan-relay",
            "--bin",
            "hongyan-relay",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the relay's program could not be built");
    folder.join("hongyan-relay")
}
