//! The relay under load: where it is, and how one signs in there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use hongyan_protocol::UserId;
use hongyan_protocol::limits::TOKEN_BYTES_MAX;
use tokio::task::block_in_place;

use crate::host::TokenProvider;
use crate::limits::{CLIENTS_PER_SOURCE, SOURCES_MAX};
use crate::tokens::{TOKEN_SECONDS, seconds_now, token_until};

/// The relay's answer to who asks for a token is not waited for any longer.
const TOKEN_TIME: Duration = Duration::from_secs(10);

/// A relay.
#[derive(Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Gives tokens.
    pub token: TokenProvider,
    /// Its process, when it runs on this machine and its costs are to be told.
    pub process: Option<u32>,
}

impl Target {
    /// The relay at a URL such as `http://127.0.0.1:8787`. Tokens are signed with `secret`, `key-id:secret` as in the
    /// relay's configuration, or asked of the relay's development mode when there is none.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub fn new(url: &str, secret: Option<&str>, process: Option<u32>) -> Result<Self, String> {
        let place = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://")).ok_or_else(|| {
            format!(
                "--url is http://HOST:PORT, not {url}: the generator speaks to the relay itself, not to a proxy that \
                 ends TLS."
            )
        })?;
        let place = place.trim_end_matches('/');
        let place = if place.contains(':') { place.to_owned() } else { format!("{place}:80") };
        let address = place
            .to_socket_addrs()
            .map_err(|error| format!("There is no host {place}: {error}."))?
            .next()
            .ok_or_else(|| format!("The host {place} has no address."))?;
        if let Some(id) = process
            && crate::process::processor_time(&id.to_string()).is_none()
        {
            return Err(format!("There is no process {id} on this machine."));
        }
        let token = match secret {
            Some(secret) => signer(secret)?,
            None => asker(address),
        };
        Ok(Self { address, token, process })
    }

    /// From which address the client of this number dials: on the loopback they have several, for their ports and
    /// for the relay's bound of connections from one address.
    #[must_use]
    pub fn source(&self, number: usize) -> Option<IpAddr> {
        let Ok(last) = u8::try_from(1 + (number / CLIENTS_PER_SOURCE) % SOURCES_MAX) else { return None };
        let is_loopback = matches!(self.address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        is_loopback.then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
    }
}

fn signer(secret: &str) -> Result<TokenProvider, String> {
    let (key_id, secret) = secret
        .split_once(':')
        .map(|(key_id, secret)| (key_id.to_owned(), secret.to_owned()))
        .ok_or("--secret is KEY-ID:SECRET, as in the relay's `tokens.hs256`.")?;
    Ok(Arc::new(move |user| token_until(&key_id, &secret, user, seconds_now() + TOKEN_SECONDS)))
}

/// Asks a relay in development mode.
fn asker(address: SocketAddr) -> TokenProvider {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TOKEN_TIME)).build().into();
    Arc::new(move |user: &UserId| {
        let url = format!("http://{address}/dev/token?user={}", user.as_str());
        let answer = block_in_place(|| {
            let mut response = agent.get(&url).call()?;
            response.body_mut().with_config().limit(TOKEN_BYTES_MAX as u64).read_to_string()
        });
        answer.map(|token| token.trim().to_owned()).map_err(|error| {
            format!("The relay gives no tokens ({error}): start it with --dev, or name its --secret.")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_place_or_secret_is_told_in_words() {
        for (url, secret) in
            [("https://127.0.0.1", None), ("127.0.0.1:1", None), ("http://127.0.0.1:1", Some("no-colon"))]
        {
            let error = Target::new(url, secret, None).err().unwrap();
            assert!(error.starts_with("--") && error.ends_with('.'), "{error}");
        }
        assert!(Target::new("http://127.0.0.1:8787/", Some("a:b"), None).is_ok());
        assert!(Target::new("http://127.0.0.1:8787", None, Some(u32::MAX)).is_err());
    }

    #[test]
    fn a_crowd_on_the_loopback_dials_from_several_addresses() {
        let target = Target::new("http://127.0.0.1:8787", Some("a:b"), None).unwrap();
        assert_eq!(target.source(0), Some([127, 0, 0, 1].into()));
        assert_eq!(target.source(CLIENTS_PER_SOURCE), Some([127, 0, 0, 2].into()));
        let far = Target { address: ([192, 0, 2, 1], 80).into(), ..target };
        assert_eq!(far.source(5_000), None);
    }
}
