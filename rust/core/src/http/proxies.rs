//! Proxies in front that say for whom they ask: they are believed where they are listed, and nobody else is.

use std::net::IpAddr;
use std::str::FromStr;

/// Where proxies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// On this machine, at a Unix socket.
    Unix,
    /// At the addresses that begin with the same bits; one address by itself has them all.
    Addresses {
        /// These bits.
        base: u128,
        /// How many there are.
        bits: u32,
        /// Whether they are of IPv6.
        is_v6: bool,
    },
}

/// What is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    /// Reads `unix`, an address, or an address and a number of bits.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| NoNetwork)?)),
            None => (text, None),
        };
        let (value, is_v6) = number(address.parse().map_err(|_| NoNetwork)?);
        let width = if is_v6 { 128 } else { 32 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err(NoNetwork);
        }
        Ok(Self::Addresses { base: first_bits(value, bits, is_v6), bits, is_v6 })
    }
}

/// An address as a number, and whether it is one of IPv6. One of IPv4 that is mapped into IPv6 is one of IPv4.
fn number(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(address.to_bits()), false),
        IpAddr::V6(address) => (address.to_bits(), true),
    }
}

fn first_bits(value: u128, bits: u32, is_v6: bool) -> u128 {
    let width = if is_v6 { 128 } else { 32 };
    value.checked_shr(width - bits).unwrap_or_default()
}

impl Network {
    /// Whether a peer is there; at a Unix socket it has no address.
    fn has(self, peer: &str) -> bool {
        match self {
            Self::Unix => peer.is_empty(),
            Self::Addresses { base, bits, is_v6 } => peer.parse().is_ok_and(|address| {
                let (value, of_v6) = number(address);
                of_v6 == is_v6 && first_bits(value, bits, is_v6) == base
            }),
        }
    }
}

/// The address of the client of a request that came from `peer`: behind listed proxies the last one that they name and
/// that is none of them. What is no address names nobody: then it is the proxy's own.
pub fn client_of<'a>(peer: &'a str, forwarded_for: Option<&'a [u8]>, proxies: &[Network]) -> &'a str {
    let is_listed = |peer: &str| proxies.iter().any(|network| network.has(peer));
    let mut client = peer;
    let Some(forwarded) = forwarded_for.and_then(|value| std::str::from_utf8(value).ok()) else {
        return client;
    };
    for named in forwarded.rsplit(',').map(str::trim) {
        if !is_listed(client) || named.parse::<IpAddr>().is_err() {
            break;
        }
        client = named;
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_proxies_are_believed() {
        let proxies: Vec<Network> =
            ["10.0.0.0/8", "127.0.0.1", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect();
        let client = |peer, named: &'static str| client_of(peer, Some(named.as_bytes()), &proxies);
        assert_eq!(client("127.0.0.1", "1.2.3.4"), "1.2.3.4");
        assert_eq!(client("::ffff:127.0.0.1", "1.2.3.4"), "1.2.3.4");
        assert_eq!(client("127.0.0.1", "6.6.6.6, 1.2.3.4, 10.9.8.7"), "1.2.3.4");
        assert_eq!(client("fd00::1", "2001:db8::1"), "2001:db8::1");
        // Anybody may say anything.
        assert_eq!(client("8.8.8.8", "1.2.3.4"), "8.8.8.8");
        assert_eq!(client("127.0.0.1", "unknown"), "127.0.0.1");
        assert_eq!(client("127.0.0.1", "1.2.3.4:5, 10.0.0.1"), "10.0.0.1");
        assert_eq!(client_of("127.0.0.1", None, &proxies), "127.0.0.1");
        assert_eq!(client_of("127.0.0.1", Some(b"1.2.3.4"), &[]), "127.0.0.1");
        // At a Unix socket nobody has an address.
        assert_eq!(client("", "1.2.3.4"), "");
        let unix = ["unix".parse().unwrap()];
        assert_eq!(client_of("", Some(b"6.6.6.6, 1.2.3.4"), &unix), "1.2.3.4");
        assert_eq!(client_of("127.0.0.1", Some(b"1.2.3.4"), &unix), "127.0.0.1");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0/x", "::/129", "10.0.0.0/8/8", "/8"] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.has("1.2.3.4") && !all.has("::1"));
        let all: Network = "::/0".parse().unwrap();
        assert!(all.has("2001:db8::1"));
    }
}
