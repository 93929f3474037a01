//! Sets of packets and packets, read and written.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use fireflow_domain::analysis::{ByteRange, PacketSet};
use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::net::{AddressRange, Family, PortRange, Protocol};
use fireflow_domain::packet::{GivenPacket, Packet, Payload};
use fireflow_domain::rule::MAX_ENDPOINTS;
use fireflow_domain::text::excerpt;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::json::kind;
use crate::members::Members;
use crate::patterns::{ADDRESS_RANGE, BYTES, PORTS, protocol};

/// A set of packets: every combination of one value from each member. A member that is omitted holds
/// every value. A set with ports holds only packets of protocols that have ports, and a set with ICMP
/// types or codes only packets of ICMP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "PacketSet")]
pub struct PacketSetView {
    /// `ipv4` or `ipv6`; omitted: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = Family::ALL.map(Family::as_str)))]
    pub family: Option<&'static str>,
    /// Protocols, by name or number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1), inner(regex(pattern = protocol(false))))]
    pub protocols: Vec<String>,
    /// Source addresses: hosts, blocks, ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1), inner(regex(pattern = ADDRESS_RANGE)))]
    pub sources: Vec<String>,
    /// Source ports: `443` or `8000-8100`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1), inner(regex(pattern = PORTS)))]
    pub source_ports: Vec<String>,
    /// Destination addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1), inner(regex(pattern = ADDRESS_RANGE)))]
    pub destinations: Vec<String>,
    /// Destination ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1), inner(regex(pattern = PORTS)))]
    pub destination_ports: Vec<String>,
    /// ICMP types: `8` or `0-127`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1), inner(regex(pattern = BYTES)))]
    pub icmp_types: Vec<String>,
    /// ICMP codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("minItems" = 1), inner(regex(pattern = BYTES)))]
    pub icmp_codes: Vec<String>,
}

/// A set of packets as requests write it: a member can be one value instead of a list, and numbers need
/// not be texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GivenSetView(pub PacketSetView);

impl GivenSetView {
    /// The set of the examples: SSH from private addresses.
    #[must_use]
    pub fn example() -> Self {
        let one = |text: &str| vec![text.to_owned()];
        Self(PacketSetView {
            protocols: one("tcp"),
            sources: one("10.0.0.0/8"),
            destination_ports: one("22"),
            ..PacketSetView::default()
        })
    }
}

impl JsonSchema for GivenSetView {
    fn schema_name() -> Cow<'static, str> {
        "GivenPacketSet".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = PacketSetView::json_schema(generator);
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        for (name, property) in properties.into_iter().flatten() {
            let most = match name.as_str() {
                "family" | "sources" | "destinations" => None,
                "source_ports" | "destination_ports" => Some(u16::MAX),
                _ => Some(u8::MAX.into()),
            };
            let number = most.map(|most| json!({"type": "integer", "minimum": 0, "maximum": most}));
            if let Some(text) = property.get("items").cloned() {
                let mut values: Vec<Value> = std::iter::once(text).chain(number).collect();
                let list = json!({"type": "array", "minItems": 1, "items": {"oneOf": values}});
                values.push(list);
                *property = json!({"description": property.get("description"), "oneOf": values});
            }
        }
        schema
    }
}

impl From<&PacketSet> for PacketSetView {
    fn from(set: &PacketSet) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let PacketSet {
            family,
            protocols,
            sources,
            source_ports,
            destinations,
            destination_ports,
            icmp_types,
            icmp_codes,
        } = set;
        Self {
            family: family.map(Family::as_str),
            protocols: texts(protocols),
            sources: texts(sources),
            source_ports: texts(source_ports),
            destinations: texts(destinations),
            destination_ports: texts(destination_ports),
            icmp_types: texts(icmp_types),
            icmp_codes: texts(icmp_codes),
        }
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

impl PacketSetView {
    /// Whether it names no addresses, and ICMP types or codes neither.
    const fn is_anywhere(&self) -> bool {
        self.sources.is_empty()
            && self.destinations.is_empty()
            && self.icmp_types.is_empty()
            && self.icmp_codes.is_empty()
    }

    /// The set in words: `tcp from 10.0.0.0/8 to any, port 22`.
    #[must_use]
    pub fn in_words(&self) -> String {
        /// How many values of a member are shown.
        const SHOWN: usize = 4;
        let some = |values: &[String], all: &str| match values {
            [] => all.to_owned(),
            values if values.len() <= SHOWN => values.join(", "),
            values => {
                let shown: Vec<&str> = values.iter().take(SHOWN).map(String::as_str).collect();
                format!("{}, and {} more", shown.join(", "), values.len() - SHOWN)
            }
        };
        let protocols = protocols_in_words(self.family, &self.protocols);
        let mut text = match (self.family, &protocols) {
            (Some(family), Protocols::Any) => family.to_owned(),
            (_, Protocols::Any) => "any protocol".to_owned(),
            // Neither the addresses nor the protocols show it.
            (Some(family), Protocols::Listed(listed)) if self.is_anywhere() => {
                format!("{family} {}", some(listed, ""))
            }
            (_, Protocols::Listed(listed)) => some(listed, ""),
            // "any" needs its family: a list of protocols often shows it, this does not.
            (Some(family), Protocols::AllBut(missing)) => {
                format!("{family}, any protocol but {}", some(missing, ""))
            }
            (None, Protocols::AllBut(missing)) => {
                format!("any protocol but {}", some(missing, ""))
            }
        };
        text.push_str(&format!(" from {}", some(&self.sources, "any")));
        if !self.source_ports.is_empty() {
            text.push_str(&format!(" port {}", some(&self.source_ports, "")));
        }
        text.push_str(&format!(" to {}", some(&self.destinations, "any")));
        if !self.destination_ports.is_empty() {
            text.push_str(&format!(" port {}", some(&self.destination_ports, "")));
        }
        if !self.icmp_types.is_empty() {
            text.push_str(&format!(" type {}", some(&self.icmp_types, "")));
        }
        if !self.icmp_codes.is_empty() {
            text.push_str(&format!(" code {}", some(&self.icmp_codes, "")));
        }
        text
    }
}

/// The protocols of a set, for people.
enum Protocols {
    Any,
    /// Names, and ranges of numbers.
    Listed(Vec<String>),
    /// All except these, which are fewer words.
    AllBut(Vec<String>),
}

/// So many protocols are always listed.
const FEW: usize = 6;

/// The shorter words for protocols of a family, which can be some 250.
fn protocols_in_words(family: Option<&str>, names: &[String]) -> Protocols {
    let numbers: BTreeSet<u8> =
        names.iter().filter_map(|name| Protocol::parse(name).ok()).map(|it| it.0).collect();
    if numbers.is_empty() {
        return Protocols::Any;
    }
    let exists = |number: &u8| {
        let mut families = Family::ALL.into_iter();
        let is_asked = |it: &Family| family.is_none_or(|name| name == it.as_str());
        families.any(|it| is_asked(&it) && Protocol(*number).exists_in(it))
    };
    let (listed, missing): (Vec<u8>, Vec<u8>) =
        (0..=u8::MAX).filter(exists).partition(|number| numbers.contains(number));
    let is_few = listed.len() <= FEW;
    let (listed, missing) = (in_ranges(&listed), in_ranges(&missing));
    if !is_few && !missing.is_empty() && missing.len() < listed.len() {
        Protocols::AllBut(missing)
    } else {
        Protocols::Listed(listed)
    }
}

/// Protocols in order of their numbers, three or more in a row as a range of numbers.
fn in_ranges(numbers: &[u8]) -> Vec<String> {
    numbers
        .chunk_by(|a, b| a.checked_add(1) == Some(*b))
        .flat_map(|row| match row {
            [first, _, .., last] => vec![format!("protocols {first}-{last}")],
            few => few.iter().map(|number| in_words(Protocol(*number))).collect(),
        })
        .collect()
}

/// A protocol's name, or `protocol 99`.
fn in_words(protocol: Protocol) -> String {
    let name = protocol.to_string();
    if name.parse::<u8>().is_ok() { format!("protocol {name}") } else { name }
}

/// The packet as FireFlow interpreted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "InspectedPacket")]
pub struct PacketView {
    /// The source address.
    pub source_address: String,
    /// The source port; null if it is unknown, or if the protocol has no ports.
    pub source_port: Option<u16>,
    /// The destination address.
    pub destination_address: String,
    /// The destination port, if the protocol has ports.
    pub destination_port: Option<u16>,
    /// The protocol, by name if it has one.
    pub protocol: String,
    /// The ICMP type, for icmp and icmpv6.
    pub icmp_type: Option<u8>,
    /// The ICMP code, for icmp and icmpv6.
    pub icmp_code: Option<u8>,
    /// The packet's time.
    pub at: String,
}

impl From<&Packet> for PacketView {
    fn from(packet: &Packet) -> Self {
        let (icmp_type, icmp_code) = match packet.payload() {
            Payload::Icmp { icmp_type, icmp_code } => (Some(icmp_type), Some(icmp_code)),
            Payload::Ports { .. } | Payload::Opaque => (None, None),
        };
        Self {
            source_address: packet.source().to_string(),
            source_port: packet.source_port(),
            destination_address: packet.destination().to_string(),
            destination_port: packet.destination_port(),
            protocol: packet.protocol().to_string(),
            icmp_type,
            icmp_code,
            at: packet.at().to_string(),
        }
    }
}

impl From<&GivenPacket> for PacketView {
    fn from(given: &GivenPacket) -> Self {
        Self { source_port: given.source_port(), ..given.packet().into() }
    }
}

/// A packet in words: `tcp 192.0.2.1:49152 -> 198.51.100.10:443`.
#[must_use]
pub fn packet_in_words(packet: &Packet) -> String {
    let protocol = in_words(packet.protocol());
    let (source, destination): (IpAddr, IpAddr) = (packet.source(), packet.destination());
    match packet.payload() {
        Payload::Ports { source: from, destination: to } => {
            let (source, destination) =
                (SocketAddr::new(source, from), SocketAddr::new(destination, to));
            format!("{protocol} {source} -> {destination}")
        }
        Payload::Icmp { icmp_type, icmp_code } => {
            format!("{protocol} {source} -> {destination} type {icmp_type} code {icmp_code}")
        }
        Payload::Opaque => format!("{protocol} {source} -> {destination}"),
    }
}

/// Reads a set of packets, with pointers below `at`. Each member is a value or a list of values, and
/// holds every value if it is left out. If it returns `None`, it has noted the faults.
pub fn packet_set(value: Value, at: &str, violations: &mut Violations) -> Option<PacketSet> {
    let mut faults = violations.nested();
    let set = members(value, at, &mut faults);
    let is_good = faults.is_empty();
    violations.extend(faults);
    set.filter(|_| is_good)
}

fn members(value: Value, at: &str, violations: &mut Violations) -> Option<PacketSet> {
    let mut members = Members::open(value, at, violations)?;
    let family = members.text("family", |word| {
        Family::ALL
            .into_iter()
            .find(|family| family.as_str().eq_ignore_ascii_case(word))
            .ok_or_else(|| format!("`{}` is not a family; use ipv4 or ipv6", excerpt(word)))
    });
    let set = PacketSet {
        family: family.nullable(),
        protocols: values(&mut members, "protocols", Protocol::parse),
        sources: addresses(&mut members, "sources"),
        source_ports: values(&mut members, "source_ports", PortRange::parse),
        destinations: addresses(&mut members, "destinations"),
        destination_ports: values(&mut members, "destination_ports", PortRange::parse),
        icmp_types: values(&mut members, "icmp_types", byte_range),
        icmp_codes: values(&mut members, "icmp_codes", byte_range),
    };
    members.finish();
    Some(set)
}

/// Addresses. `any` among them holds all.
fn addresses(members: &mut Members<'_>, name: &'static str) -> Vec<AddressRange> {
    let addresses = values(members, name, AddressRange::parse);
    if addresses.contains(&AddressRange::Any) { Vec::new() } else { addresses }
}

/// One value or a list of values. Numbers are read like text.
fn values<T, E: Display>(
    members: &mut Members<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Vec<T> {
    let one = |value: &Value| match value {
        Value::String(text) => parse(text).map_err(|error| error.to_string()),
        Value::Number(number) => parse(&number.to_string()).map_err(|error| error.to_string()),
        other => Err(format!("must be a string, not {}", kind(other))),
    };
    let read = members.value(name, |value| match value {
        Value::Array(items) if items.is_empty() => {
            Err("has no entries; leave it out to hold every value".to_owned())
        }
        Value::Array(items) if items.len() > MAX_ENDPOINTS => {
            let count = items.len();
            Err(format!("has {count} entries; at most {MAX_ENDPOINTS} are allowed"))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| one(item).map_err(|detail| format!("entry {index}: {detail}")))
            .collect(),
        single => one(&single).map(|value| vec![value]),
    });
    read.nullable().unwrap_or_default()
}

/// Reads `8` or `0-127`.
fn byte_range(text: &str) -> Result<ByteRange, String> {
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u8>().ok().filter(|_| is_plain)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    number(first)
        .zip(number(last))
        .and_then(|(first, last)| ByteRange::new(first, last))
        .ok_or_else(|| {
            format!("`{}` is not a number from 0 to 255 or a range such as `0-127`", excerpt(text))
        })
}

/// Reads a set of packets from words, as the command line has them:
/// `protocols=tcp destinations=10.0.0.5 destination_ports=22,443`. An object of JSON is read as such.
///
/// # Errors
/// Returns all faults.
pub fn packet_set_of_words(text: &str) -> Result<PacketSet, Violations> {
    let mut violations = Violations::new();
    let text = text.trim();
    if text.is_empty() {
        // A variable of a script that is not set must not ask for everything.
        let detail = "the set is empty; write `any` for every packet, or members such as \
                      `family=ipv4 destination_ports=22`";
        return Err(Violation::body("", detail).into());
    }
    let value = if text.starts_with('{') {
        match crate::json::parse(text.as_bytes()) {
            Ok(value) => value,
            Err(error) => return Err(Violation::body("", error.to_string()).into()),
        }
    } else {
        let mut members = Map::new();
        for word in text.split_ascii_whitespace().filter(|word| *word != "any") {
            let Some((name, values)) = word.split_once('=') else {
                let detail = format!(
                    "`{}` is not a member and its values, such as `destination_ports=22,443`",
                    excerpt(word)
                );
                violations.push(Violation::body("", detail));
                continue;
            };
            let values =
                if name == "family" { values.into() } else { values.split(',').collect::<Value>() };
            if members.insert(name.to_owned(), values).is_some() {
                let detail = "is given twice; separate its values by commas";
                violations.push(Violation::body(format!("/{name}"), detail));
            }
        }
        Value::Object(members)
    };
    let set = packet_set(value, "", &mut violations);
    match set {
        Some(set) if violations.is_empty() => Ok(set),
        _ => Err(violations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_words(family: Option<Family>, protocols: impl Iterator<Item = u8>) -> String {
        let protocols = protocols.map(Protocol).collect();
        let set = PacketSet { family, protocols, ..PacketSet::everything() };
        PacketSetView::from(&set).in_words()
    }

    #[test]
    fn many_protocols_are_those_that_are_missing_or_ranges_of_numbers() {
        let v4 = Some(Family::V4);
        let exists = |number: &u8| Protocol(*number).exists_in(Family::V4);
        let but = |missing: &[u8]| {
            let missing = missing.to_vec();
            in_words(v4, (0..=255).filter(exists).filter(move |it| !missing.contains(it)))
        };
        assert_eq!(but(&[6]), "ipv4, any protocol but tcp from any to any");
        assert_eq!(but(&[1, 6, 17]), "ipv4, any protocol but icmp, tcp, udp from any to any");
        assert_eq!(in_words(v4, [6, 17].into_iter()), "ipv4 tcp, udp from any to any");
        assert_eq!(in_words(v4, 100..=200), "ipv4 protocols 100-200 from any to any");
        assert_eq!(
            in_words(v4, [0, 1, 2, 17].into_iter()),
            "ipv4 protocols 0-2, udp from any to any"
        );
        assert_eq!(in_words(v4, [47, 99].into_iter()), "ipv4 gre, protocol 99 from any to any");
        // icmpv6 exists in one family only.
        let both = in_words(None, (0..=255).filter(|it| *it != 6));
        assert_eq!(both, "any protocol but tcp from any to any");
        assert_eq!(in_words(None, std::iter::empty()), "any protocol from any to any");
    }

    #[test]
    fn an_empty_text_is_no_set_and_any_is_every_packet() {
        for empty in ["", "  \n"] {
            let told = format!("{:?}", packet_set_of_words(empty).unwrap_err());
            assert!(told.contains("write `any` for every packet"), "{told}");
        }
        for everything in ["any", "{}"] {
            assert_eq!(packet_set_of_words(everything).unwrap(), PacketSet::everything());
        }
    }
}
