//! The kinds of values that a key may have: how each is read, and how it is shown.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::addresses::Network;
use super::origin::AllowedOrigin;
use crate::core::io::WatchPolicy;
use crate::core::queue::Diffusion;

/// A value as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Text(String),
    Count(u64),
    List(Vec<String>),
}

/// An address to listen on, or an empty text for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoneOrAddress(pub Option<SocketAddr>);

/// The place of a value. Errors complete the sentence "`key` (from there) …".
pub(super) trait Setting {
    /// Takes a value whose shape and bounds were checked.
    fn take(&mut self, given: Given) -> Result<(), String>;
    /// As one would write it in the file; secrets are masked.
    fn show(&self) -> String;
}

/// A string as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

macro_rules! counts {
    ($($type:ty)*) => {$(
        impl Setting for $type {
            fn take(&mut self, given: Given) -> Result<(), String> {
                let Given::Count(count) = given else { return Err("must be a whole number".into()) };
                *self = count.try_into().map_err(|_| "is too large for this machine".to_owned())?;
                Ok(())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

counts! { u32 u64 usize }

/// What is written as one string.
trait Text: Sized {
    fn parse(text: &str) -> Result<Self, String>;
    fn text(&self) -> String;
}

macro_rules! texts {
    ($($type:ty)*) => {$(
        impl Setting for $type {
            fn take(&mut self, given: Given) -> Result<(), String> {
                let Given::Text(text) = given else { return Err("must be a string".into()) };
                *self = Text::parse(&text)?;
                Ok(())
            }

            fn show(&self) -> String {
                quoted(&self.text())
            }
        }
    )*};
}

texts! { String PathBuf SocketAddr WatchPolicy Diffusion NoneOrAddress }

impl Text for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Text for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("must not be empty".into()) } else { Ok(text.into()) }
    }

    fn text(&self) -> String {
        self.display().to_string()
    }
}

impl Text for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            format!(
                "must be an address with a port, such as 127.0.0.1:8787 or [::]:8787, not {}",
                quoted(text)
            )
        })
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for NoneOrAddress {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(Self(None))
        } else {
            SocketAddr::parse(text).map(|address| Self(Some(address)))
        }
    }

    fn text(&self) -> String {
        self.0.map_or_else(String::new, |address| address.text())
    }
}

/// The ways by the names that people write.
const DIFFUSIONS: [(&str, Diffusion); 4] = [
    ("auto", Diffusion::Auto),
    ("copy", Diffusion::Copy),
    ("reference", Diffusion::Reference),
    ("log", Diffusion::Log),
];

impl Text for Diffusion {
    fn parse(text: &str) -> Result<Self, String> {
        let found = DIFFUSIONS.iter().find(|(name, _)| *name == text);
        let wrong = || format!("must be \"auto\", \"copy\" or \"reference\", not {}", quoted(text));
        found.map(|(_, way)| *way).ok_or_else(wrong)
    }

    fn text(&self) -> String {
        DIFFUSIONS.iter().find(|(_, way)| way == self).map_or("", |(name, _)| name).to_owned()
    }
}

/// The policies by the names that people write.
const WATCH_POLICIES: [(&str, WatchPolicy); 3] =
    [("members", WatchPolicy::Members), ("everyone", WatchPolicy::Everyone), ("nobody", WatchPolicy::Nobody)];

impl Text for WatchPolicy {
    fn parse(text: &str) -> Result<Self, String> {
        let found = WATCH_POLICIES.iter().find(|(name, _)| *name == text);
        let wrong = || format!("must be \"members\", \"everyone\" or \"nobody\", not {}", quoted(text));
        found.map(|(_, policy)| *policy).ok_or_else(wrong)
    }

    fn text(&self) -> String {
        let found = WATCH_POLICIES.iter().find(|(_, policy)| policy == self);
        found.map_or("", |(name, _)| name).to_owned()
    }
}

impl<T: Text> Setting for Vec<T> {
    fn take(&mut self, given: Given) -> Result<(), String> {
        let Given::List(list) = given else { return Err("must be a list of strings".into()) };
        *self = list.iter().map(|text| T::parse(text)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn show(&self) -> String {
        let entries: Vec<String> = self.iter().map(|entry| quoted(&entry.text())).collect();
        format!("[{}]", entries.join(", "))
    }
}

impl Text for AllowedOrigin {
    fn parse(text: &str) -> Result<Self, String> {
        AllowedOrigin::new(text)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for Network {
    fn parse(text: &str) -> Result<Self, String> {
        Network::new(text)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// A key for tokens, with the id under which tokens name it (`kid`).
#[derive(Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The key id.
    pub id: String,
    /// A secret or a public key. Never printed.
    pub key: String,
}

impl NamedKey {
    /// The id, for people. One that is longer than its key may be the key itself, in the wrong place, and is not shown.
    pub(super) fn shown_id(&self) -> &str {
        if self.id.len() > self.key.len() { "***" } else { &self.id }
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl Text for NamedKey {
    fn parse(text: &str) -> Result<Self, String> {
        // No part of the value may be in the sentence: it could be a secret with the id forgotten.
        let (id, key) = text.split_once(':').ok_or(
            "must have entries of the form key-id:key, such as \"2026-11:…\", and has one without a colon",
        )?;
        let fit = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if id.is_empty() || id.len() > 64 || !id.chars().all(fit) {
            return Err("has an entry whose key id (before the colon) is not 1 to 64 letters, digits, '-', '_' or '.'"
                .into());
        }
        if key.is_empty() {
            return Err("has an entry with nothing after the colon".into());
        }
        Ok(Self { id: id.into(), key: key.into() })
    }

    fn text(&self) -> String {
        format!("{}:***", self.shown_id())
    }
}
