//! Proxies in front that say for whom they ask: they are believed where they are listed, and nobody else is.

use std::net::IpAddr;
use std::str::FromStr;

/// The addresses that begin with the same bits; one address by itself has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u128,
    bits: u32,
    is_v6: bool,
}

/// What is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
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
        let network = Self { base: 0, bits, is_v6 };
        Ok(Self { base: network.start_of(value), ..network })
    }
}

/// An address as a number, and whether it is one of IPv6; one of IPv4 in IPv6's clothes is itself.
fn number(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(address.to_bits()), false),
        IpAddr::V6(address) => (address.to_bits(), true),
    }
}

impl Network {
    fn start_of(self, value: u128) -> u128 {
        let width = if self.is_v6 { 128 } else { 32 };
        let low = width - self.bits;
        value.checked_shr(low).unwrap_or_default()
    }

    fn has(self, address: IpAddr) -> bool {
        let (value, is_v6) = number(address);
        is_v6 == self.is_v6 && self.start_of(value) == self.base
    }
}

/// The address of the client of a request that came from `peer`: behind listed proxies the last one that they name and
/// that is none of them. What is no address names nobody: then it is the proxy's own.
pub fn client_of<'a>(peer: &'a str, forwarded_for: Option<&'a [u8]>, proxies: &[Network]) -> &'a str {
    let is_listed =
        |text: &str| text.parse().is_ok_and(|address| proxies.iter().any(|network| network.has(address)));
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
        assert_eq!(client("", "1.2.3.4"), "");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0/x", "::/129", "10.0.0.0/8/8", "/8"] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.has("1.2.3.4".parse().unwrap()) && !all.has("::1".parse().unwrap()));
        let all: Network = "::/0".parse().unwrap();
        assert!(all.has("2001:db8::1".parse().unwrap()));
    }
}
