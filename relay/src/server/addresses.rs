//! Whose connection it is: networks, and the client's address behind proxies.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;

/// An address, or all addresses with the same first bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.1.2.3`, `10.0.0.0/8` or the same of IPv6.
    ///
    /// # Errors
    /// A sentence's end that says what it should be.
    pub fn new(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("must have addresses or networks such as 10.0.0.0/8, not {}", super::values::quoted(text))
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| bad())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(bits_max);
        if bits > bits_max { Err(bad()) } else { Ok(Self { address, bits }) }
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                first_bits(u128::from(network.to_bits()) << 96, self.bits)
                    == first_bits(u128::from(address.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                first_bits(network.to_bits(), self.bits) == first_bits(address.to_bits(), self.bits)
            }
            _ => false,
        }
    }
}

fn first_bits(address: u128, bits: u8) -> u128 {
    // A shift by all 128 bits would overflow.
    address.checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The client's address: the peer's, or what trusted proxies say of theirs. Read from the last entry back, since
/// each proxy appends; the first that no trusted proxy vouches for ends it.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer;
    let entries: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for entry in entries.iter().rev() {
        if !is_trusted(client) {
            break;
        }
        let entry = entry.trim();
        // Some proxies write a port.
        let address = entry.parse::<IpAddr>().ok();
        let Some(address) = address.or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))
        else {
            break;
        };
        client = address;
    }
    client
}

/// What shares one bound: an IPv4 address, or a /64 of IPv6, which is what one household has.
pub(crate) fn bounded_together(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_hold_what_they_say() {
        for (network, address, held) in [
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
        ] {
            assert_eq!(Network::new(network).unwrap().contains(ip(address)), held, "{address} in {network}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "host", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(Network::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let trusted = [Network::new("10.0.0.0/8").unwrap()];
        for (peer, forwarded, client) in [
            // Nobody vouches.
            ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            // What the client itself wrote before is not believed.
            ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
            // Two proxies.
            ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
            ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("10.0.0.1", "nonsense", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            assert_eq!(client_address(ip(peer), &headers, &trusted), ip(client), "{peer} {forwarded}");
        }
    }

    #[test]
    fn a_household_of_ipv6_is_one() {
        assert_eq!(bounded_together(ip("2001:db8:1:2:3::4")), bounded_together(ip("2001:db8:1:2::1")));
        assert_ne!(bounded_together(ip("2001:db8:1:2::1")), bounded_together(ip("2001:db8:1:3::1")));
        assert_eq!(bounded_together(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}
