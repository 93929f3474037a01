//! Rules and packets in the text format of ClassBench (D. E. Taylor, J. S. Turner, INFOCOM 2005),
//! with which published classifiers are measured. It has IPv4 addresses only. Protocols and ports
//! are compared as plain numbers, because no packet of this format has an ICMP type.

use fireflow_domain::engine::classifier::{Cuboid, CuboidParts, Key, NO_CUBOID, Range, kind};
use fireflow_domain::error::Violations;
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec};

use crate::error::LineError;

/// The longest line to read with [`LineReader`](crate::LineReader), in bytes. Lines of published
/// sets have roughly a hundred bytes.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A packet of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BenchmarkPacket {
    /// The source address.
    pub source: u32,
    /// The destination address.
    pub destination: u32,
    /// The source port, with any protocol.
    pub source_port: u16,
    /// The destination port, with any protocol.
    pub destination_port: u16,
    /// The protocol.
    pub protocol: u8,
    /// The place of the rule that must decide, counted from 0; -1 if no rule matches. Absent if the
    /// line has no sixth column.
    pub expected: Option<i64>,
}

impl BenchmarkPacket {
    /// The packet in the form that cuboids compare.
    #[must_use]
    #[inline]
    pub const fn key(&self) -> Key<u32> {
        Key {
            source: self.source,
            destination: self.destination,
            first: self.source_port,
            second: self.destination_port,
            protocol: self.protocol,
            kind: kind::PORTS,
        }
    }
}

const BLOCK: &str = "a block of IPv4 addresses such as `10.0.0.0/8`";
const MARKED_BLOCK: &str = "`@` and a block of IPv4 addresses, such as `@10.0.0.0/8`";
const PORTS: &str = "two ports such as `80 : 443`";
const PROTOCOL: &str = "a protocol and its mask (`0xFF`, or `0x00` for any), such as `0x06/0xFF`";
const FLAGS: &str = "flags and their mask, such as `0x1000/0x1000`";
const ADDRESS: &str = "an address as a number from 0 to 4294967295";
const PORT: &str = "a port from 0 to 65535";
const PROTOCOL_NUMBER: &str = "a protocol from 0 to 255";
const EXPECTED: &str = "the number of a rule, counted from 0, or -1 for none";

/// Parses a rule: `@10.0.0.0/8⇥192.0.2.0/24⇥0 : 65535⇥80 : 443⇥0x06/0xFF`. Flags may follow
/// (`⇥0x1000/0x1000`) and are ignored. Bits of an address below its prefix may be set. The line may
/// include its line end. `order` is the rule's place, counted from 0.
///
/// # Errors
/// Returns an error that names the column that is wrong.
pub fn rule(line: &[u8], order: u32) -> Result<Cuboid<u32>, LineError> {
    rule_parts(line, order).map(|parts| Cuboid::new(&parts))
}

/// Parses a rule like [`rule`], and returns its ranges as they are.
///
/// # Errors
/// Returns an error that names the column that is wrong.
pub fn rule_parts(line: &[u8], order: u32) -> Result<CuboidParts<u32>, LineError> {
    if order == NO_CUBOID {
        return Err(LineError::TooManyRules);
    }
    let mut text = Text { rest: line };
    let source = text.column("first column", MARKED_BLOCK, |it| it.byte(b'@')?.block())?;
    let destination = text.column("second column", BLOCK, |it| it.block())?;
    let first = text.column("third column", PORTS, Text::ports)?;
    let first = in_order("third column", first)?;
    let second = text.column("fourth column", PORTS, Text::ports)?;
    let second = in_order("fourth column", second)?;
    let protocol = text.column("fifth column", PROTOCOL, |it| match it.pair(2)? {
        (protocol, 0xff) => Some(u8::try_from(protocol).ok()),
        (_, 0) => Some(None),
        _ => None,
    })?;
    if text.has_more() {
        text.column("sixth column", FLAGS, |it| it.pair(8))?;
    }
    text.end("the sixth column")?;
    Ok(CuboidParts {
        source,
        destination,
        first,
        second,
        protocols: protocols(protocol),
        is_conditional: false,
        order,
    })
}

/// A rule of a policy for a rule of a benchmark, which has no action of its own. Its priority is its
/// place.
///
/// The two differ in one way: a benchmark compares ports as plain numbers with any protocol, but in
/// a policy a rule with ports matches only packets of protocols that have ports.
///
/// # Errors
/// Returns the violations if the rule would match no packet, such as GRE with a port.
pub fn policy_rule(parts: &CuboidParts<u32>, action: Action) -> Result<RuleSpec, Violations> {
    let entry = |(first, last): Range<u32>, (from, to): Range<u16>| Endpoint {
        address: AddressRange::V4 { first, last },
        port: PortRange::new(from, to).ok().filter(|range| *range != PortRange::ALL),
    };
    let priority = i32::try_from(parts.order).unwrap_or(i32::MAX);
    let sources = vec![entry(parts.source, parts.first)];
    let destinations = vec![entry(parts.destination, parts.second)];
    RuleSpec::new(RuleParts {
        protocols: protocol_of(parts.protocols).into_iter().collect(),
        ..RuleParts::new(action, priority, sources, destinations)
    })
}

/// The protocol that [`protocols`] made these numbers from; none for any.
fn protocol_of((first, last): Range<u16>) -> Option<Protocol> {
    let [_, number] = first.to_be_bytes();
    (first == last).then_some(Protocol(number))
}

/// The numbers of a protocol, or of any. Each packet of this format has ports.
const fn protocols(protocol: Option<u8>) -> Range<u16> {
    match protocol {
        Some(protocol) => {
            let number = kind::number(kind::PORTS, protocol);
            (number, number)
        }
        None => kind::ANY,
    }
}

fn in_order(place: &str, (first, last): Range<u16>) -> Result<Range<u16>, LineError> {
    if first <= last {
        Ok((first, last))
    } else {
        Err(LineError::Reversed { place: place.to_owned(), first, last })
    }
}

/// Parses a packet: source address, destination address, source port, destination port and protocol
/// as unsigned decimals, separated by tabs or spaces. The place of the rule that must decide may
/// follow. The line may include its line end.
///
/// # Errors
/// Returns an error that names the column that is wrong.
#[inline]
pub fn packet(line: &[u8]) -> Result<BenchmarkPacket, LineError> {
    let mut text = Text { rest: line };
    Ok(BenchmarkPacket {
        source: text.column("first column", ADDRESS, Text::number)?,
        destination: text.column("second column", ADDRESS, Text::number)?,
        source_port: text.column("third column", PORT, Text::number)?,
        destination_port: text.column("fourth column", PORT, Text::number)?,
        protocol: text.column("fifth column", PROTOCOL_NUMBER, Text::number)?,
        expected: if text.has_more() {
            let expected = text.column("sixth column", EXPECTED, |it| {
                if it.byte(b'-').is_some() { it.byte(b'1').map(|_| -1) } else { it.number() }
            })?;
            text.end("the sixth column")?;
            Some(expected)
        } else {
            None
        },
    })
}

/// Whether a line has the shape of a packet: five or six decimals.
pub(crate) fn is_packet_shaped(line: &[u8]) -> bool {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let columns: Vec<&[u8]> =
        line.split(u8::is_ascii_whitespace).filter(|column| !column.is_empty()).take(7).collect();
    match columns.as_slice() {
        [first @ .., last] if (4..=5).contains(&first.len()) => {
            first.iter().all(|column| is_number(column))
                && (is_number(last) || (first.len() == 5 && *last == b"-1"))
        }
        _ => false,
    }
}

/// The rest of a line.
struct Text<'a> {
    rest: &'a [u8],
}

impl Text<'_> {
    /// Parses a column and the blanks ahead of it. The column must end where parsing stopped.
    #[inline(always)]
    fn column<T>(
        &mut self,
        place: &str,
        needs: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<T, LineError> {
        self.skip_blanks();
        let column = self.rest;
        if let Some(value) = read(self)
            && matches!(self.rest, [] | [b'\t' | b' ' | b'\r' | b'\n', ..])
        {
            return Ok(value);
        }
        Err(wrong(place, needs, column))
    }

    #[inline]
    fn skip_blanks(&mut self) {
        while let [b'\t' | b' ' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    #[inline]
    fn has_more(&mut self) -> bool {
        self.skip_blanks();
        !self.rest.is_empty()
    }

    #[inline]
    fn end(&mut self, end: &'static str) -> Result<(), LineError> {
        if self.has_more() { Err(LineError::rest(end, self.rest)) } else { Ok(()) }
    }

    #[inline]
    fn byte(&mut self, wanted: u8) -> Option<&mut Self> {
        match self.rest {
            [first, rest @ ..] if *first == wanted => {
                self.rest = rest;
                Some(self)
            }
            _ => None,
        }
    }

    /// An unsigned decimal of up to 18 digits.
    #[inline]
    fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        const MAX_DIGITS: u32 = 18;
        let mut value = 0_u64;
        let mut digits = 0;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.rest {
            if digits == MAX_DIGITS {
                return None;
            }
            value = value * 10 + u64::from(digit - b'0');
            digits += 1;
            self.rest = rest;
        }
        if digits == 0 { None } else { T::try_from(value).ok() }
    }

    /// Parses an address and a prefix length into the range of addresses that share the prefix.
    fn block(&mut self) -> Option<Range<u32>> {
        let mut address = u32::from(self.octet()?);
        for _ in 0..3 {
            address = address << 8 | u32::from(self.byte(b'.')?.octet()?);
        }
        let length: u8 = self.byte(b'/')?.number()?;
        if u32::from(length) > u32::BITS {
            return None;
        }
        let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        Some((address & !hosts, address | hosts))
    }

    /// Refuses a leading zero, because some programs read such an octet as octal.
    fn octet(&mut self) -> Option<u8> {
        if matches!(self.rest, [b'0', b'0'..=b'9', ..]) { None } else { self.number() }
    }

    fn ports(&mut self) -> Option<Range<u16>> {
        let first = self.number()?;
        self.skip_blanks();
        self.byte(b':')?.skip_blanks();
        Some((first, self.number()?))
    }

    /// Two hexadecimal numbers with a slash between them.
    fn pair(&mut self, max_digits: u32) -> Option<(u32, u32)> {
        let first = self.hexadecimal(max_digits)?;
        Some((first, self.byte(b'/')?.hexadecimal(max_digits)?))
    }

    /// A hexadecimal number with its `0x`, of up to `max_digits` digits.
    fn hexadecimal(&mut self, max_digits: u32) -> Option<u32> {
        let [b'0', b'x' | b'X', rest @ ..] = self.rest else { return None };
        self.rest = rest;
        let mut value = 0_u32;
        let mut digits = 0;
        while let [first, rest @ ..] = self.rest
            && let Some(digit) = char::from(*first).to_digit(16)
        {
            if digits == max_digits {
                return None;
            }
            value = value << 4 | digit;
            digits += 1;
            self.rest = rest;
        }
        (digits > 0).then_some(value)
    }
}

/// In the message, a column ends at the next tab, if there is one, because ports contain spaces.
#[cold]
fn wrong(place: &str, needs: &'static str, column: &[u8]) -> LineError {
    let found = column.split(|byte| *byte == b'\t').next().unwrap_or(column);
    LineError::value(place, needs, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "@220.104.76.45/24\t9.20.226.211/32\t0 : 65535\t1521 : 1525\t0x06/0xFF\t0x0000/0x0200\t\r\n";

    fn parts(protocol: Option<u8>) -> CuboidParts<u32> {
        CuboidParts {
            source: (0xdc68_4c00, 0xdc68_4cff),
            destination: (0x0914_e2d3, 0x0914_e2d3),
            first: (0, u16::MAX),
            second: (1521, 1525),
            protocols: protocols(protocol),
            is_conditional: false,
            order: 7,
        }
    }

    #[test]
    fn a_rule_is_read_and_bits_below_its_prefix_are_cleared() {
        assert_eq!(rule(RULE.as_bytes(), 7), Ok(Cuboid::new(&parts(Some(6)))));
        let any = RULE.replace("0x06/0xFF\t0x0000/0x0200\t", "0x06/0x00");
        assert_eq!(rule(any.as_bytes(), 7), Ok(Cuboid::new(&parts(None))));
        let spaces = RULE.replace('\t', "  ");
        assert_eq!(rule(spaces.as_bytes(), 7), Ok(Cuboid::new(&parts(Some(6)))));
    }

    #[test]
    fn the_prefix_may_be_of_any_length() {
        let line = "@1.2.3.4/0 1.2.3.4/1 0:0 0:0 0x00/0x00";
        let expected = CuboidParts {
            source: (0, u32::MAX),
            destination: (0, u32::MAX >> 1),
            first: (0, 0),
            second: (0, 0),
            order: 0,
            ..parts(None)
        };
        assert_eq!(rule(line.as_bytes(), 0), Ok(Cuboid::new(&expected)));
    }

    #[test]
    fn a_bad_rule_is_told_by_its_column() {
        for (good, bad, expected) in [
            ("@220", "220", "the first column must be `@` and a block of IPv4 addresses"),
            ("45/24", "45", "not `@220.104.76.45`"),
            ("45/24", "45/33", "not `@220.104.76.45/33`"),
            ("211/32", "256/32", "the second column must be a block"),
            ("9.20", "09.20", "the second column must be a block"),
            ("211/32", "211/32x", "the second column must be a block"),
            ("0 : 65535", "x", "the third column must be two ports such as `80 : 443`, not `x`"),
            ("0 : 65535", "0 - 65535", "not `0 - 65535`"),
            ("0 : 65535", "0 : 65536", "not `0 : 65536`"),
            ("1521 : 1525", "1525 : 1521", "the lower port first: `1521 : 1525`"),
            ("0x06/0xFF", "0x06/0x0F", "the fifth column must be a protocol and its mask"),
            ("0x06/0xFF", "0x106/0xFF", "not `0x106/0xFF`"),
            ("0x06/0xFF", "6/255", "not `6/255`"),
            ("0x0000/0x0200", "x", "the sixth column must be flags"),
            ("0x0200\t", "0x0200\tpermit", "must end after the sixth column, but continues with"),
        ] {
            assert!(RULE.contains(good));
            let error = rule(RULE.replace(good, bad).as_bytes(), 0).unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
        let error = rule(b"@1.2.3.4/0", 0).unwrap_err().to_string();
        assert!(error.starts_with("the second column is missing: it must be a block"), "{error}");
        assert_eq!(rule(RULE.as_bytes(), NO_CUBOID), Err(LineError::TooManyRules));
        assert!(rule(RULE.as_bytes(), NO_CUBOID - 1).is_ok());
    }

    #[test]
    fn a_packet_has_five_columns_or_six() {
        let expected = BenchmarkPacket {
            source: 3_697_822_801,
            destination: u32::MAX,
            source_port: 65_535,
            destination_port: 0,
            protocol: 255,
            expected: None,
        };
        let line = "3697822801\t4294967295\t65535\t0\t255";
        assert_eq!(packet(line.as_bytes()), Ok(expected));
        for (sixth, rule) in [("819", 819), ("-1", -1), ("0", 0)] {
            let line = format!("{line} {sixth} \r\n");
            let expected = BenchmarkPacket { expected: Some(rule), ..expected };
            assert_eq!(packet(line.as_bytes()), Ok(expected));
        }
        let key = expected.key();
        assert_eq!((key.first, key.second, key.kind), (65_535, 0, kind::PORTS));
    }

    #[test]
    fn a_bad_packet_is_told_by_its_column() {
        for (line, expected) in [
            ("", "the first column is missing"),
            ("4294967296 1 1 1 1", "the first column must be an address"),
            ("1 -1 1 1 1", "the second column must be an address"),
            ("1 1 65536 1 1", "the third column must be a port"),
            ("1 1 1 +1 1", "the fourth column must be a port"),
            ("1 1 1 1 256", "the fifth column must be a protocol"),
            ("1 1 1 1 1 -2", "the sixth column must be the number of a rule"),
            ("1 1 1 1 1 1 1", "must end after the sixth column"),
            ("1,1,1,1,1", "the first column must be"),
            ("99999999999999999999999 1 1 1 1", "the first column must be"),
        ] {
            let error = packet(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn the_shape_of_a_packet_is_five_or_six_decimals() {
        for line in ["1 2 3 4 5", "1\t2\t3\t4\t5\t-1", " 1 2 3 4 5 6 "] {
            assert!(is_packet_shaped(line.as_bytes()), "{line}");
        }
        for line in ["", "1", "1 2 3 4", "1 2 3 4 -1", "1 2 3 4 5 6 7", "1 2 3 4 x"] {
            assert!(!is_packet_shaped(line.as_bytes()), "{line}");
        }
    }
}
