//! Where settings come from: defaults < file (TOML) < environment (`HONGYAN_…`) < flags. Every error is a sentence
//! that names the key and the place.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use config::{Config, FileFormat, Map, Source, Value, ValueKind};

use super::limits::RESTART_MS_MAX;
use super::settings::{KEYS, Key, Kind, Settings};
use super::values::{Given, quoted};

/// The variable that names the file, when `--config` does not.
pub const FILE_VARIABLE: &str = "HONGYAN_CONFIG";

/// Settings, and what there is to say of them.
#[derive(Debug)]
pub struct Loaded {
    /// What the relay runs with.
    pub settings: Settings,
    /// Where each value that is not the default is from, by key.
    pub origins: BTreeMap<&'static str, String>,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// Reads all layers.
///
/// # Errors
/// A sentence that says where and what to do.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(&'static str, String)],
) -> Result<Loaded, String> {
    let mut warnings = Vec::new();
    let mut builder = Config::builder();
    if let Some(path) = file {
        builder = builder.add_source(file_layer(path)?);
    }
    builder = builder.add_source(environment_layer(environment, &mut warnings)?);
    builder = builder.add_source(flag_layer(flags)?);
    let merged = builder.build().and_then(|config| config.collect()).map_err(|error| one_line(&error))?;

    let mut settings = Settings::default();
    let mut origins = BTreeMap::new();
    for (name, value) in flatten(merged) {
        let Some(key) = find(&name) else { continue };
        let origin = value.origin().unwrap_or("unknown").to_owned();
        given(key, value.kind)
            .and_then(|given| (key.place)(&mut settings).take(given))
            .map_err(|problem| format!("`{}` ({origin}) {problem}.", key.name))?;
        origins.insert(key.name, origin);
    }
    check(&settings)?;
    warnings.extend(doubts(&settings));
    Ok(Loaded { settings, origins, warnings })
}

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What holds between keys.
fn check(settings: &Settings) -> Result<(), String> {
    let core = &settings.core;
    if core.silence_ms <= core.ping_interval_ms {
        return Err(format!(
            "`timers.silence_ms` ({}) must be greater than `timers.ping_interval_ms` ({}), or every idle connection \
             would be ended before it could answer a ping.",
            core.silence_ms, core.ping_interval_ms
        ));
    }
    if core.outgoing_bytes_max <= core.outgoing_bytes_target {
        return Err(format!(
            "`limits.outgoing_bytes_max` ({}) must be greater than `limits.outgoing_bytes_target` ({}).",
            core.outgoing_bytes_max, core.outgoing_bytes_target
        ));
    }
    Ok(())
}

/// What between keys is allowed, but hardly meant.
fn doubts(settings: &Settings) -> Option<String> {
    let (recovery_ms, spread_ms) = (settings.core.recovery_ms, settings.drain_spread_ms);
    if recovery_ms < spread_ms {
        return Some(format!(
            "`presence.recovery_ms` ({recovery_ms}) is less than `timers.drain_spread_ms` ({spread_ms}): after a restart \
             users will be shown as offline before their devices were told to come back."
        ));
    }
    (recovery_ms + spread_ms > RESTART_MS_MAX).then(|| {
        format!(
            "`presence.recovery_ms` ({recovery_ms}) and `timers.drain_spread_ms` ({spread_ms}) are together more than \
             {RESTART_MS_MAX}: it will take longer than promised until it is known after a restart who is there."
        )
    })
}

/// Key-value pairs from one place.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn file_layer(path: &Path) -> Result<Layer, String> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| format!("The configuration file {name} can't be read: {error}."))?;
    let tables = config::File::from_str(&text, FileFormat::Toml)
        .collect()
        .map_err(|error| format!("The configuration file {name} is not TOML: {}.", one_line(&error)))?;
    let mut layer = Map::new();
    for (key, value) in flatten(tables) {
        if find(&key).is_none() {
            return Err(format!(
                "The configuration file {name} has the key {}, which this relay does not know{}; \
                 `hongyan-relay config docs` lists all keys.",
                quoted(&key),
                similar(&key)
            ));
        }
        layer.insert(key, Value::new(Some(&name), value.kind));
    }
    Ok(Layer(layer))
}

fn environment_layer(
    environment: impl IntoIterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Result<Layer, String> {
    let mut layer = Map::new();
    for (variable, text) in environment {
        if !variable.starts_with("HONGYAN_") || variable == FILE_VARIABLE {
            continue;
        }
        // Not an error: a container's host sets variables of this form for a service that is named so.
        let Some(key) = KEYS.iter().find(|key| key.variable() == variable) else {
            warnings.push(format!(
                "The environment variable {} names no key, and is passed over.",
                quoted(&variable)
            ));
            continue;
        };
        let origin = format!("environment variable {variable}");
        layer.insert(key.name.to_owned(), from_text(key, &text, &origin)?);
    }
    Ok(Layer(layer))
}

fn flag_layer(flags: &[(&'static str, String)]) -> Result<Layer, String> {
    let mut layer = Map::new();
    for (name, text) in flags {
        if let Some(key) = find(name) {
            layer.insert(key.name.to_owned(), from_text(key, text, &format!("flag --{name}"))?);
        }
    }
    Ok(Layer(layer))
}

/// A value that was written without TOML's syntax.
fn from_text(key: &Key, text: &str, origin: &str) -> Result<Value, String> {
    let kind = match key.kind {
        Kind::Text => ValueKind::String(text.to_owned()),
        Kind::Count(..) => ValueKind::U64(text.trim().parse().map_err(|_| {
            format!("`{}` ({origin}) must be a whole number, not {}.", key.name, quoted(text))
        })?),
        Kind::List | Kind::Secrets => ValueKind::Array(
            text.split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty())
                .map(|entry| Value::new(None, ValueKind::String(entry.to_owned())))
                .collect(),
        ),
    };
    Ok(Value::new(Some(&origin.to_owned()), kind))
}

/// Checks a value's shape and bounds. The problem completes the sentence "`key` (from there) …".
fn given(key: &Key, value: ValueKind) -> Result<Given, String> {
    match key.kind {
        Kind::Text => match value {
            ValueKind::String(text) => Ok(Given::Text(text)),
            other => Err(format!("must be a string, not {}", shape(&other))),
        },
        Kind::Count(min, max) => {
            let count = match value {
                ValueKind::I64(count) => u64::try_from(count).ok(),
                ValueKind::U64(count) => Some(count),
                other => return Err(format!("must be a whole number, not {}", shape(&other))),
            };
            match count.filter(|count| (min..=max).contains(count)) {
                Some(count) => Ok(Given::Count(count)),
                None => Err(format!("must be between {min} and {max}")),
            }
        }
        Kind::List | Kind::Secrets => match value {
            ValueKind::Array(entries) => entries
                .into_iter()
                .map(|entry| match entry.kind {
                    ValueKind::String(text) => Ok(text),
                    other => Err(format!("must be a list of strings, and holds {}", shape(&other))),
                })
                .collect::<Result<_, _>>()
                .map(Given::List),
            other => Err(format!("must be a list of strings, not {}", shape(&other))),
        },
    }
}

/// Names a value's shape without the value, which could be a secret.
fn shape(value: &ValueKind) -> &'static str {
    match value {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a whole number",
        ValueKind::Float(_) => "a number with a point",
        ValueKind::String(_) => "a string",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
    }
}

/// Sections become dots.
fn flatten(tables: Map<String, Value>) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    let mut waiting: Vec<(String, Value)> = tables.into_iter().collect();
    while let Some((name, value)) = waiting.pop() {
        match value.kind {
            // A section where a key's value should be is an error of that key.
            ValueKind::Table(entries) if find(&name).is_none() && !entries.is_empty() => {
                waiting.extend(entries.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            // An empty section says nothing.
            ValueKind::Table(entries)
                if entries.is_empty() && KEYS.iter().any(|key| key.name.starts_with(&format!("{name}."))) => {
            }
            _ => {
                flat.insert(name, value);
            }
        }
    }
    flat
}

/// The parser's error without its excerpt of the file, in which a secret could stand.
fn one_line(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|')).collect();
    lines.join(": ").trim_end_matches('.').to_owned()
}

/// `; did you mean …?` when a key differs by little.
fn similar(name: &str) -> String {
    KEYS.iter()
        .map(|key| (distance(name, key.name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, name)| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}

/// Levenshtein's distance in bytes.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let cost = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// Every key with its value and where that is from; secrets are masked.
#[must_use]
pub fn show(loaded: &Loaded) -> String {
    let mut out = String::new();
    let width = KEYS.iter().map(|key| key.name.len()).max().unwrap_or(0);
    for key in KEYS {
        let origin = loaded.origins.get(key.name).map_or("default", String::as_str);
        let _ = writeln!(out, "{:width$} = {}  # {origin}", key.name, key.value(&loaded.settings));
    }
    out
}

/// Every key with its doc, default and environment variable, as a file that can be used as it is.
#[must_use]
pub fn docs() -> String {
    let defaults = Settings::default();
    let mut out = String::from(
        "# The configuration of hongyan-relay. Every key is optional; what is commented out is the default.\n\
         # Flags win over the environment, the environment over this file.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (this, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if this != section {
            section = this;
            let _ = write!(out, "\n[{section}]\n");
        }
        let _ = writeln!(out);
        for line in wrap(key.doc, 100) {
            let _ = writeln!(out, "# {line}");
        }
        let bounds = match key.kind {
            Kind::Count(min, max) => format!(" From {min} to {max}."),
            Kind::List | Kind::Secrets => " In the environment with commas between.".to_owned(),
            Kind::Text => String::new(),
        };
        let _ = writeln!(out, "# Environment: {}.{bounds}", key.variable());
        let _ = writeln!(out, "# {name} = {}", key.value(&defaults));
    }
    out
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
