//! The client address of a request, with or without proxies.

use std::net::{IpAddr, SocketAddr};

use fireflow_domain::net::AddressRange;
use fireflow_telemetry::request::ClientAddress;
use poem::Request;
use poem::http::HeaderMap;

/// The header with which proxies forward the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The trusted proxies, and the header that they set.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Vec<AddressRange>,
    header: ForwardedHeader,
}

impl Proxies {
    /// Trusts these proxies, in one header only. A proxy sets one of the two headers; the client
    /// could forge the other one.
    #[must_use]
    pub const fn new(trusted: Vec<AddressRange>, header: ForwardedHeader) -> Self {
        Self { trusted, header }
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }

    /// The client of a request. This is its peer, or, if the peer is a trusted proxy, the
    /// right-most forwarded address that is not trusted. The client could have forged the addresses
    /// to the left of it.
    #[must_use]
    pub fn client(&self, request: &Request) -> ClientAddress {
        let peer = match request.remote_addr().as_socket_addr() {
            Some(SocketAddr::V4(v4)) => IpAddr::V4(*v4.ip()),
            Some(SocketAddr::V6(v6)) => v6.ip().to_canonical(),
            None => return ClientAddress(None),
        };
        ClientAddress(Some(self.before(peer, request.headers())))
    }

    fn before(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.trusted.is_empty() || !self.trust(peer) {
            return peer;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        let mut last = peer;
        let values: Vec<&str> =
            headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
        let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
        for hop in hops {
            let hop = hop.trim();
            let node = match self.header {
                ForwardedHeader::XForwardedFor => Some(hop),
                ForwardedHeader::Forwarded => forwarded_for(hop),
            };
            // An unreadable address ends the chain, and the last trusted proxy counts as the
            // client.
            let Some(address) = node.and_then(address) else { break };
            last = address;
            if !self.trust(address) {
                break;
            }
        }
        last
    }
}

/// The `for` of an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(host, _)| host);
    let address = match bare {
        Some(host) => host.parse().ok(),
        None => text.parse().ok().or_else(|| {
            let (host, port) = text.split_once(':')?;
            port.parse::<u16>().ok()?;
            host.parse().ok()
        }),
    };
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: ForwardedHeader, values: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|it| AddressRange::parse(it).unwrap());
        let proxies = Proxies::new(trusted.to_vec(), header);
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", value.parse().unwrap());
            headers.append("forwarded", value.parse().unwrap());
        }
        proxies.before("10.0.0.1".parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_right_most_address_that_is_not_trusted_is_the_client() {
        let of = |values: &[&str]| client(ForwardedHeader::XForwardedFor, values);
        assert_eq!(of(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(of(&["203.0.113.9, 192.0.2.1, 10.9.9.9"]), "192.0.2.1", "the left is a claim");
        assert_eq!(
            of(&["203.0.113.9", "192.0.2.1,10.2.2.2"]),
            "192.0.2.1",
            "several lines are one"
        );
        assert_eq!(of(&["192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(of(&["[2001:db8::1]:443, fd00::1"]), "2001:db8::1");
        assert_eq!(of(&["10.1.1.1, 10.2.2.2"]), "10.1.1.1", "all are proxies");
        assert_eq!(of(&["::ffff:192.0.2.1"]), "192.0.2.1");
        assert_eq!(of(&["192.0.2.1, unknown, 10.2.2.2"]), "10.2.2.2", "`unknown` ends the chain");
        assert_eq!(of(&[]), "10.0.0.1");
    }

    #[test]
    fn forwarded_is_read_where_it_is_chosen() {
        let of = |values: &[&str]| client(ForwardedHeader::Forwarded, values);
        assert_eq!(of(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), "192.0.2.60");
        assert_eq!(of(&["proto=https; For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        assert_eq!(of(&["for=9.9.9.9, for=192.0.2.60", "for=10.1.1.1"]), "192.0.2.60");
        assert_eq!(of(&["for=_hidden, for=10.1.1.1"]), "10.1.1.1");
    }

    #[test]
    fn nobody_is_believed_unless_trusted() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(Proxies::default().before(peer, &headers), peer);
        let others = Proxies::new(
            vec![AddressRange::parse("172.16.0.0/12").unwrap()],
            ForwardedHeader::default(),
        );
        assert_eq!(others.before(peer, &headers), peer);
    }
}
