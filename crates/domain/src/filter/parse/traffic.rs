//! `traffic:( … )`: a set of packets, and the check that a packet can be in it.

use super::{After, Parser, Subject, values};
use crate::filter::error::{FilterError, listed, shown};
use crate::filter::fields::TrafficMember;
use crate::filter::lexer::{Keyword, Word};
use crate::filter::tree::Traffic;
use crate::net::{AddressRange, Family, Protocol};

/// The kind of payload after the protocol. A packet carries exactly one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    Ports,
    Icmp,
    Neither,
}

impl Carried {
    const fn words(self) -> &'static str {
        match self {
            Self::Ports => "has ports",
            Self::Icmp => "has an ICMP type and code",
            Self::Neither => "has neither ports nor an ICMP type and code",
        }
    }
}

/// The restriction that a member sets on family and payload. A packet can meet all members exactly
/// if no two of them contradict each other. Each allows one family or both, and one kind of payload
/// or all.
struct Claim<'a> {
    member: TrafficMember,
    /// The value as it was written.
    value: &'a str,
    family: Option<Family>,
    carried: Option<Carried>,
}

impl Claim<'_> {
    /// Explains why no packet meets both restrictions; none if one can.
    fn contradiction(&self, other: &Self) -> Option<String> {
        let said = |claim: &Self| format!("`{} = {}`", claim.member.word(), shown(claim.value));
        if let (Some(mine), Some(others)) = (self.family, other.family)
            && mine != others
        {
            return Some(format!(
                "no packet matches: {} is {}, {} is {}",
                said(self),
                family_name(mine),
                said(other),
                family_name(others)
            ));
        }
        if let (Some(mine), Some(others)) = (self.carried, other.carried)
            && mine != others
        {
            return Some(format!(
                "no packet matches: one of {} {}, one of {} {}",
                said(self),
                mine.words(),
                said(other),
                others.words()
            ));
        }
        None
    }
}

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The family of a range of addresses; none for `any`.
fn family_of(range: AddressRange) -> Option<Family> {
    match range {
        AddressRange::Any => None,
        AddressRange::V4 { .. } => Some(Family::V4),
        AddressRange::V6 { .. } => Some(Family::V6),
    }
}

/// The family of a protocol that exists in only one family.
fn home_of(protocol: Protocol) -> Option<Family> {
    match Family::ALL.map(|family| protocol.exists_in(family)) {
        [true, false] => Some(Family::V4),
        [false, true] => Some(Family::V6),
        [true, true] | [false, false] => None,
    }
}

const fn carried_by(protocol: Protocol) -> Carried {
    if protocol.has_ports() {
        Carried::Ports
    } else if protocol.is_icmp() {
        Carried::Icmp
    } else {
        Carried::Neither
    }
}

/// Reads the members up to the `)`, which is not consumed.
pub(super) fn read(parser: &mut Parser<'_>) -> Result<Traffic, FilterError> {
    let (mut traffic, mut claims) = (Traffic::default(), Vec::new());
    let mut after = After::Parenthesis;
    loop {
        parser.lexer.skip_space();
        let position = parser.lexer.position();
        let claim = read_member(parser, after, &mut traffic, &claims)?;
        if let Some(why) =
            claims.iter().find_map(|earlier: &Claim<'_>| claim.contradiction(earlier))
        {
            return Err(FilterError::new(position, why));
        }
        claims.push(claim);
        parser.lexer.skip_space();
        match parser.lexer.peek() {
            None | Some(')') => return Ok(traffic),
            Some(_) => {}
        }
        let position = parser.lexer.position();
        let (word, next) = parser.junction()?;
        if word == "OR" {
            return Err(FilterError::new(
                position,
                "OR is not allowed inside `traffic:( … )`, which is one set of packets and \
                 accepts AND only; \
                 write `traffic:( … ) OR traffic:( … )`",
            ));
        }
        after = next;
    }
}

fn read_member<'a>(
    parser: &mut Parser<'a>,
    after: After,
    traffic: &mut Traffic,
    earlier: &[Claim<'_>],
) -> Result<Claim<'a>, FilterError> {
    if parser.lexer.peek_keyword() == Some(Keyword::Not) {
        return Err(parser.error(
            "NOT is not allowed inside `traffic:( … )`, which is one set of packets; write \
             `NOT traffic:( … )`",
        ));
    }
    if parser.lexer.peek() == Some('(') {
        return Err(parser.error("parentheses are not allowed inside `traffic:( … )`; remove them"));
    }
    let word = parser.field(after, "source = 10.20.0.0/16")?;
    let member = TrafficMember::ALL
        .into_iter()
        .find(|member| member.word() == word.text)
        .ok_or_else(|| no_member(word))?;
    if earlier.iter().any(|claim| claim.member == member) {
        return Err(FilterError::new(
            word.position,
            format!(
                "duplicate `{}`; a set of packets has each member once, and several sets are \
                 joined by OR: \
                 `traffic:( … ) OR traffic:( … )`",
                member.word()
            ),
        ));
    }
    let subject = Subject { name: word.text, traits: member.traits() };
    let (operator, _) = parser.operator(subject).map_err(|mut error| {
        error.detail.push_str(
            "; inside `traffic:( … )` each member is compared by `=` with one value, block or \
             range",
        );
        error
    })?;
    parser.lexer.skip_space();
    let mark = parser.lexer.mark();
    let (family, carried) = match member {
        TrafficMember::Family => {
            traffic.family = Some(parser.single(subject, operator, values::family)?);
            (traffic.family, None)
        }
        TrafficMember::Source => {
            let range = parser.single(subject, operator, values::addresses)?;
            traffic.source = Some(range);
            (family_of(range), None)
        }
        TrafficMember::Destination => {
            let range = parser.single(subject, operator, values::addresses)?;
            traffic.destination = Some(range);
            (family_of(range), None)
        }
        TrafficMember::SourcePort => {
            traffic.source_port = Some(parser.single(subject, operator, values::ports)?);
            (None, Some(Carried::Ports))
        }
        TrafficMember::DestinationPort => {
            traffic.destination_port = Some(parser.single(subject, operator, values::ports)?);
            (None, Some(Carried::Ports))
        }
        TrafficMember::Protocol => {
            let protocol = parser.single(subject, operator, values::protocol)?;
            traffic.protocol = Some(protocol);
            (home_of(protocol), Some(carried_by(protocol)))
        }
        TrafficMember::IcmpType => {
            traffic.icmp_type = Some(parser.single(subject, operator, values::octet)?);
            (None, Some(Carried::Icmp))
        }
        TrafficMember::IcmpCode => {
            traffic.icmp_code = Some(parser.single(subject, operator, values::octet)?);
            (None, Some(Carried::Icmp))
        }
    };
    Ok(Claim { member, value: parser.lexer.since(mark), family, carried })
}

fn no_member(word: Word<'_>) -> FilterError {
    let meant = match word.text {
        "sources" | "sources.address" | "source_address" => "; did you mean `source`?",
        "destinations" | "destinations.address" | "destination_address" => {
            "; did you mean `destination`?"
        }
        "sources.port" => "; did you mean `source_port`?",
        "destinations.port" | "port" | "ports" => "; did you mean `destination_port`?",
        "protocols" => "; did you mean `protocol`?",
        _ => "",
    };
    FilterError::new(
        word.position,
        format!(
            "`{}` is not a member of `traffic`{meant}{}",
            shown(word.text),
            if meant.is_empty() {
                format!(
                    ", which has {}",
                    listed(TrafficMember::ALL.map(TrafficMember::word), "and")
                )
            } else {
                String::new()
            }
        ),
    )
}
