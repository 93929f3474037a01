//! IP protocols, by number and by name.

use std::fmt;

use super::Family;
use crate::text::excerpt;

/// An IP protocol number (IANA). In IPv6, it is the number after the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

/// The names that FireFlow reads and writes.
const NAMES: [(&str, Protocol); 10] = [
    ("tcp", Protocol::TCP),
    ("udp", Protocol::UDP),
    ("udplite", Protocol::UDPLITE),
    ("sctp", Protocol::SCTP),
    ("dccp", Protocol::DCCP),
    ("icmp", Protocol::ICMP),
    ("icmpv6", Protocol::ICMPV6),
    ("gre", Protocol(47)),
    ("esp", Protocol(50)),
    ("ah", Protocol(51)),
];

/// Why a text is no [`Protocol`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a protocol: one of tcp, udp, udplite, sctp, dccp, icmp, icmpv6, gre, esp, ah, or \
     a number from 0 to 255"
)]
pub struct ParseProtocolError(String);

impl Protocol {
    /// ICMP, in IPv4 only.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// DCCP.
    pub const DCCP: Self = Self(33);
    /// ICMPv6, in IPv6 only.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite.
    pub const UDPLITE: Self = Self(136);

    /// The known names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Reads a name, in any case, or a number.
    ///
    /// # Errors
    /// Returns [`ParseProtocolError`] if the text is neither.
    pub fn parse(text: &str) -> Result<Self, ParseProtocolError> {
        if let Some((_, protocol)) = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text))
        {
            return Ok(*protocol);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = text == "0" || !text.starts_with('0');
        text.parse()
            .ok()
            .filter(|_| digits && canonical)
            .map(Self)
            .ok_or_else(|| ParseProtocolError(excerpt(text)))
    }

    /// Its name, if FireFlow has one for it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, protocol)| *protocol == self).map(|(name, _)| *name)
    }

    /// Whether its packets have ports.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::UDPLITE | Self::SCTP | Self::DCCP)
    }

    /// Whether its packets have an ICMP type and code.
    #[must_use]
    pub const fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }

    /// Whether its packets exist in a family.
    #[must_use]
    pub const fn exists_in(self, family: Family) -> bool {
        match family {
            Family::V4 => self.0 != Self::ICMPV6.0,
            Family::V6 => self.0 != Self::ICMP.0,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The protocols of a rule: each at most once, in the order in which they were first named. An
/// empty list means any protocol.
///
/// A rule that names a protocol twice means the same as one that names it once. The repetition is
/// dropped here, so that no reader of the list can count it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Protocols(Vec<Protocol>);

impl Protocols {
    /// Any protocol: none is listed.
    pub const ANY: Self = Self(Vec::new());
}

/// Drops what is repeated. Costs O(1) for each protocol: there are 256 of them.
impl FromIterator<Protocol> for Protocols {
    fn from_iter<I: IntoIterator<Item = Protocol>>(protocols: I) -> Self {
        let mut seen = [0_u64; 4];
        let is_first = |protocol: &Protocol| {
            let bit = 1_u64 << (protocol.0 & 63);
            seen.get_mut(usize::from(protocol.0 >> 6)).is_some_and(|word| {
                let is_first = *word & bit == 0;
                *word |= bit;
                is_first
            })
        };
        Self(protocols.into_iter().filter(is_first).collect())
    }
}

impl std::ops::Deref for Protocols {
    type Target = [Protocol];

    fn deref(&self) -> &[Protocol] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_listed_once_however_often_it_is_named() {
        let all = || (0..=255).map(Protocol);
        let twice: Protocols = all().rev().chain(all()).collect();
        assert!(twice.iter().copied().eq(all().rev()));
        let given = [Protocol::UDP, Protocol::TCP, Protocol::UDP, Protocol::UDP];
        let once: Protocols = given.into_iter().collect();
        assert_eq!(*once, [Protocol::UDP, Protocol::TCP]);
        assert_eq!(std::iter::empty().collect::<Protocols>(), Protocols::ANY);
    }

    #[test]
    fn a_number_with_a_name_is_written_as_the_name() {
        assert_eq!(Protocol::parse("6").unwrap().to_string(), "tcp");
        assert_eq!(Protocol::parse("TCP").unwrap(), Protocol::TCP);
        assert_eq!(Protocol::parse("89").unwrap().to_string(), "89");
        for number in 0..=255 {
            let protocol = Protocol(number);
            assert_eq!(Protocol::parse(&protocol.to_string()), Ok(protocol));
        }
        for bad in ["", "256", "-1", "06", "any", "tcp ", "٦"] {
            assert!(Protocol::parse(bad).is_err(), "{bad:?}");
        }
    }
}
