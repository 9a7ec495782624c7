//! What a process and its threads asked of the file system, in order, as strace tells it.
//!
//! strace sees every call, whatever library makes it, and it goes on with a thread only after it wrote down what the
//! thread got: so the order of the lines is one that all threads agree with.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock};

/// Every call that makes, changes, names or syncs files, and those that say what a descriptor is and where it writes.
const CALLS: &str = "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,\
                     truncate,ftruncate,fallocate,copy_file_range,sendfile,splice,fsync,fdatasync,sync,syncfs,\
                     sync_file_range,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,\
                     mkdirat,io_uring_setup";

/// Until a process that is started is another program, it has the locked files of this one.
pub(crate) static STARTING: RwLock<()> = RwLock::new(());

/// A call that has ended, or whose end was not seen since the process was killed.
pub(crate) struct Event {
    /// How many had ended when it began.
    pub(crate) begun: usize,
    pub(crate) name: String,
    pub(crate) args: Vec<Vec<u8>>,
    /// What it gave; below 0 it failed.
    pub(crate) result: Option<i64>,
}

impl Event {
    /// A number, or a name such as `AT_FDCWD`, or flags.
    pub(crate) fn word(&self, at: usize) -> &str {
        str::from_utf8(&self.args[at]).unwrap()
    }

    pub(crate) fn number(&self, at: usize) -> i64 {
        self.word(at).parse().unwrap_or_else(|_| panic!("{} in {self}", self.word(at)))
    }

    /// The bytes of a text, or of all parts that `writev` takes.
    pub(crate) fn bytes(&self, at: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, text) in self.args[at].split(|byte| *byte == b'"').enumerate() {
            // Texts are between quotes, every byte as \x and two digits.
            if at % 2 == 1 {
                bytes.extend(text.chunks_exact(4).map(|byte| digit(byte[2]) << 4 | digit(byte[3])));
            }
        }
        bytes
    }

    pub(crate) fn text(&self, at: usize) -> String {
        String::from_utf8(self.bytes(at)).unwrap()
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{}(", self.name)?;
        for (at, arg) in self.args.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match arg.starts_with(b"\"") {
                true if self.name.contains("write") => write!(to, "{comma}{} bytes", self.bytes(at).len())?,
                true => write!(to, "{comma}{}", self.text(at))?,
                false => write!(to, "{comma}{}", self.word(at).chars().take(60).collect::<String>())?,
            }
        }
        write!(to, ") = {:?}", self.result)
    }
}

/// What befalls a thread at a call, and which of its calls of that name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// SIGKILL when it begins.
    Kill(&'static str, usize),
    /// The disk fails to do it.
    Fail(&'static str, usize),
}

/// Runs the command to its end.
pub(crate) fn record(command: &Command, fault: Option<Fault>, log: &Path) -> (Vec<Event>, Output) {
    let mut strace = Command::new("strace");
    // Longer texts would be cut off, which is seen below.
    strace.args(["--follow-forks", "-xx", "--string-limit=33554432", "--signal=none"]);
    strace.arg(format!("--trace={CALLS}")).arg("--output").arg(log);
    strace.args(fault.map(|fault| match fault {
        Fault::Kill(call, when) => format!("--inject={call}:signal=KILL:when={when}"),
        Fault::Fail(call, when) => format!("--inject={call}:error=EIO:when={when}"),
    }));
    strace.arg(command.get_program()).args(command.get_args());
    strace.current_dir(command.get_current_dir().unwrap());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = {
        let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
        strace.spawn().expect("strace is needed for this test; on Debian and Ubuntu: apt-get install strace")
    };
    let output = child.wait_with_output().unwrap();
    let log = fs::read(log).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (events(&log), output)
}

fn events(log: &[u8]) -> Vec<Event> {
    let (mut events, mut begun) = (Vec::new(), HashMap::new());
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (process, rest) = (line[..digits].to_vec(), line[digits..].trim_ascii());
        if rest.starts_with(b"+++") || rest.starts_with(b"---") {
            continue;
        }
        if let Some(call) = rest.strip_suffix(b"<unfinished ...>") {
            // Before its end is told another thread may have got the same descriptor anew.
            if call.starts_with(b"close(") {
                events.push(event(events.len(), call));
            } else {
                begun.insert(process, (events.len(), call.to_vec()));
            }
            continue;
        }
        if rest.starts_with(b"<... close resumed>") {
            continue;
        }
        let event = match rest.strip_prefix(b"<... ") {
            Some(rest) => {
                let (at, mut call) = begun.remove(&process).expect("what is resumed had begun");
                let end = rest.iter().position(|byte| *byte == b'>').unwrap();
                call.extend_from_slice(&rest[end + 1..]);
                event(at, &call)
            }
            None => event(events.len(), rest),
        };
        events.push(event);
    }
    let mut killed: Vec<_> = begun.into_values().collect();
    killed.sort();
    events.extend(killed.into_iter().map(|(at, call)| event(at, &call)));
    events
}

fn event(begun: usize, call: &[u8]) -> Event {
    let open = call.iter().position(|byte| *byte == b'(').unwrap();
    let name = str::from_utf8(&call[..open]).unwrap().to_owned();
    // No text has a bracket or a comma: its bytes are digits.
    let (mut args, mut depth, mut at) = (vec![Vec::new()], 0, open + 1);
    while at < call.len() {
        let (byte, arg) = (call[at], args.last_mut().unwrap());
        at += 1;
        match byte {
            b')' if depth == 0 => break,
            b',' if depth == 0 => args.push(Vec::new()),
            b' ' if arg.is_empty() => {}
            _ => arg.push(byte),
        }
        depth +=
            i32::from(matches!(byte, b'(' | b'[' | b'{')) - i32::from(matches!(byte, b')' | b']' | b'}'));
    }
    for arg in &mut args {
        arg.truncate(arg.trim_ascii_end().len());
        assert!(!arg.ends_with(b"\"..."), "{name} has a text that was cut off");
    }
    let result = str::from_utf8(&call[at..]).unwrap().trim().strip_prefix('=');
    let result = result.and_then(|result| result.split_whitespace().next()?.parse().ok());
    Event { begun, name, args, result }
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => panic!("{byte} is no digit"),
    }
}
