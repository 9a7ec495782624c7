//! Secrets from the configuration: how many there may be, and whether one can be guessed.

use std::collections::HashSet;

use super::limits::{KEYS_MAX, SECRET_BYTES_MIN, SECRET_DISTINCT_BYTES_MIN};
use super::values::NamedKey;

/// How to make a secret, for error sentences.
pub(super) const HOW: &str = "make one with `openssl rand -base64 48`";
/// What secrets of examples are made of.
const WELL_KNOWN: [&str; 12] = [
    "secret",
    "changeme",
    "change-me",
    "change_me",
    "password",
    "passw0rd",
    "example",
    "your-",
    "your_",
    "12345678",
    "qwerty",
    "testtest",
];

/// Refuses more keys than are tried.
pub(super) fn check_count(setting: &str, keys: &[NamedKey]) -> Result<(), String> {
    if keys.len() > KEYS_MAX {
        return Err(format!("`{setting}` has {} keys; {KEYS_MAX} at most are tried.", keys.len()));
    }
    Ok(())
}

/// Refuses a secret that can be guessed. Whether the rest is chance, nobody can tell from it.
pub(super) fn check_strength(setting: &str, secrets: &[NamedKey]) -> Result<(), String> {
    for secret in secrets {
        let (id, key) = (secret.shown_id(), &secret.key);
        let bytes = key.as_bytes();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "The secret {id} in `{setting}` has {} bytes; it needs {SECRET_BYTES_MIN} at least: {HOW}.",
                bytes.len()
            ));
        }
        let distinct = bytes.iter().collect::<HashSet<_>>().len();
        let lower = key.to_ascii_lowercase();
        if distinct < SECRET_DISTINCT_BYTES_MIN
            || repeats(bytes)
            || WELL_KNOWN.iter().any(|word| lower.contains(word))
        {
            return Err(format!("The secret {id} in `{setting}` can be guessed: {HOW}."));
        }
    }
    Ok(())
}

/// Whether it is a shorter text written twice or more.
fn repeats(bytes: &[u8]) -> bool {
    (1..=bytes.len() / 2).any(|period| bytes.iter().zip(&bytes[period..]).all(|(a, b)| a == b))
}
