//! Which pages may connect: a browser says truthfully where a page is from (its Origin header), so a page that was
//! not allowed can't use a visitor's network or a token it got hold of.

use std::fmt;
use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// An entry of the allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin(String);

impl AllowedOrigin {
    /// Reads `https://app.example.com`, `capacitor://localhost`, `null` (of local files), or `*`.
    ///
    /// # Errors
    /// A sentence's end that says what it should be.
    pub fn new(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let well_formed = lower == "*"
            || lower == "null"
            || lower.split_once("://").is_some_and(|(scheme, host)| {
                !scheme.is_empty() && !host.contains(['/', '?', '#', '@', ' ', ',', '*'])
            });
        if well_formed {
            Ok(Self(lower))
        } else {
            Err(format!(
                "must have origins such as https://app.example.com (scheme and host, no path), not {}",
                super::values::quoted(text)
            ))
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rule.
#[derive(Clone, Debug)]
pub(crate) struct OriginPolicy {
    pub(crate) allowed: Vec<AllowedOrigin>,
    /// Pages from this machine, from any port.
    pub(crate) loopback: bool,
}

impl OriginPolicy {
    /// Whether this request may be served as a WebSocket or be told a secret. Who sends no Origin is no browser.
    pub(crate) fn permits(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        if origins.next().is_some() {
            return false;
        }
        let origin = origin.to_ascii_lowercase();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
        self.allowed.iter().any(|allowed| allowed.0 == "*" || allowed.0 == origin)
            || host.is_some_and(|host| is_from(&origin, &host))
            || (self.loopback && is_loopback_origin(&origin))
    }
}

/// Whether the page is from this very host and port. A proxy that ends TLS makes the scheme https.
fn is_from(origin: &str, host: &str) -> bool {
    let Some((scheme @ ("http" | "https"), authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme == "http" { ":80" } else { ":443" };
    authority == host.strip_suffix(default_port).unwrap_or(host)
}

/// Whether a page from this machine has it.
pub(crate) fn is_loopback_origin(origin: &str) -> bool {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .is_some_and(is_loopback_authority)
}

/// Whether a Host header names this machine. In development mode anything else is somebody's DNS trick.
pub(crate) fn is_loopback_authority(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(policy: &OriginPolicy, origin: Option<&str>, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers.insert(header::HOST, host.parse().unwrap());
        policy.permits(&headers)
    }

    #[test]
    fn pages_are_permitted_as_listed() {
        let listed = OriginPolicy {
            allowed: vec![
                AllowedOrigin::new("https://App.example.com").unwrap(),
                AllowedOrigin::new("capacitor://localhost").unwrap(),
            ],
            loopback: false,
        };
        let dev = OriginPolicy { allowed: Vec::new(), loopback: true };
        for (policy, origin, host, permitted) in [
            (&listed, None, "chat.example.com", true),
            (&listed, Some("https://app.example.com"), "chat.example.com", true),
            (&listed, Some("https://APP.example.com"), "chat.example.com", true),
            (&listed, Some("https://app.example.com:8443"), "chat.example.com", false),
            (&listed, Some("http://app.example.com"), "chat.example.com", false),
            (&listed, Some("https://app.example.com.evil.com"), "chat.example.com", false),
            (&listed, Some("capacitor://localhost"), "chat.example.com", true),
            (&listed, Some("null"), "chat.example.com", false),
            (&listed, Some(""), "chat.example.com", false),
            // The relay's own host, behind TLS or not, with the port that the scheme implies or another.
            (&listed, Some("https://chat.example.com"), "chat.example.com", true),
            (&listed, Some("https://chat.example.com"), "chat.example.com:443", true),
            (&listed, Some("http://chat.example.com:8787"), "chat.example.com:8787", true),
            (&listed, Some("http://chat.example.com:8788"), "chat.example.com:8787", false),
            (&listed, Some("ftp://chat.example.com"), "chat.example.com", false),
            (&listed, Some("http://localhost:5173"), "127.0.0.1:8787", false),
            (&dev, Some("http://localhost:5173"), "127.0.0.1:8787", true),
            (&dev, Some("http://127.0.0.1:1"), "127.0.0.1:8787", true),
            (&dev, Some("http://[::1]:1"), "127.0.0.1:8787", true),
            (&dev, Some("https://evil.example"), "127.0.0.1:8787", false),
            (&dev, Some("http://localhost.evil.example"), "127.0.0.1:8787", false),
            (&dev, Some("http://127.0.0.1.evil.example"), "127.0.0.1:8787", false),
            (&dev, Some("null"), "127.0.0.1:8787", false),
        ] {
            assert_eq!(permits(policy, origin, host), permitted, "{origin:?} at {host}");
        }
    }

    #[test]
    fn entries_are_origins() {
        for good in
            ["https://a.example", "http://a.example:8080", "capacitor://localhost", "file://", "null", "*"]
        {
            assert!(AllowedOrigin::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a.example", "https://a.example/", "https://*.a.example", "https://u@a.example", "://x"]
        {
            assert!(AllowedOrigin::new(bad).is_err(), "{bad}");
        }
    }
}
