//! Configuration: any file, environment and flags. An error is a sentence, and no secret is shown.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use hongyan_relay::server::{Keyring, config};

use crate::program::Program;

/// Stands where secrets stand, and must not come out.
const SECRET: &str = "Vq7TheGooseThatNobodyMaySee0419";
/// Keys of the file, and a few that are none.
const KEYS: [&str; 10] = [
    "listen",
    "data",
    "log",
    "tokens.audience",
    "limits.connections_max",
    "limits.outgoing_bytes_target",
    "timers.ping_interval_ms",
    "timers.silence_ms",
    "tokens",
    "limits.outgoing_byte_max",
];
/// Values, well formed and not.
const VALUES: [&str; 10] =
    ["1", "-1", "9223372036854775808", "1.5", "true", "[]", "[1]", "\"127.0.0.1:1\"", "{}", "1979-05-27"];
/// Variables of the environment.
const VARIABLES: [&str; 5] =
    ["HONGYAN_LISTEN", "HONGYAN_LIMITS_CONNECTIONS_MAX", "HONGYAN_TYPO", "PATH", "HONGYAN_ALLOWED_ORIGINS"];

/// The configuration loader.
pub fn configuration(data: &[u8]) {
    let mut program = Program::new(data);
    let mut file = String::new();
    for _ in 0..program.below(8) {
        line(&mut program, &mut file);
    }
    let environment = program.times(0..4, |program| match program.below(4) {
        0 => ("HONGYAN_TOKENS_HS256".to_owned(), secrets(program)),
        1 => ("HONGYAN_TOKENS_EDDSA".to_owned(), secrets(program)),
        _ => (program.text(&VARIABLES), program.text(&VALUES)),
    });
    let flags = program.times(0..3, |program| {
        (*program.pick::<&str>(&["listen", "data", "no-such"]), program.text(&VALUES))
    });
    let path = path();
    fs::write(&path, &file).expect("a file in the folder for temporary ones");
    match config::load(program.flag().then_some(path.as_path()), environment, &flags) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| judge(warning));
            let shown = config::show(&loaded);
            assert!(!shown.contains(SECRET), "a secret is shown");
            if let Err(sentence) = Keyring::new(&loaded.settings) {
                judge(&sentence);
            }
        }
        Err(sentence) => judge(&sentence),
    }
}

/// A sentence for people, in one line, without a secret.
fn judge(sentence: &str) {
    assert!(!sentence.contains(SECRET), "a sentence tells a secret: {sentence}");
    assert!(sentence.ends_with('.'), "no sentence: {sentence}");
    assert!(!sentence.contains('\n'), "more than a line: {sentence}");
}

fn line(program: &mut Program<'_>, file: &mut String) {
    match program.below(8) {
        0 => file.push_str(&program.text(&["[tokens]", "[limits]", "[timers]", "["])),
        1 => file.push_str(&String::from_utf8_lossy(program.bytes())),
        2 => {
            file.push_str(&program.text(&["tokens.hs256 = ", "hs256 = ", "tokens.eddsa="]));
            file.push_str(&match program.below(6) {
                0 => SECRET.to_owned(),
                1 => format!("\"{}\"", secrets(program)),
                2 => format!("[\"{}\"", secrets(program)),
                3 => format!("{{ a = \"{}\" }}", secrets(program)),
                4 => format!("'''\n{}", secrets(program)),
                _ => format!("[\"{}\", \"b:{SECRET}\"]", secrets(program)),
            });
        }
        _ => {
            file.push_str(&program.text(&KEYS));
            file.push_str(program.pick::<&str>(&["=", " = ", ""]));
            file.push_str(&program.text(&VALUES));
        }
    }
    file.push('\n');
}

/// A list of keys, some without an id, some malformed.
fn secrets(program: &mut Program<'_>) -> String {
    let before = program.text(&["a:", "", "a:b,", "a b:", "\\", ":"]);
    // Before a colon and a longer text the secret would be an id like any other.
    let mut after = program.text(&["", ",", ",a:short", "\n"]);
    while after.len() > SECRET.len() / 2 {
        after.pop();
    }
    format!("{before}{SECRET}{after}")
}

/// A file of this process.
fn path() -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder for temporary files"));
    folder.path().join(format!("{:?}.toml", std::thread::current().id()))
}
