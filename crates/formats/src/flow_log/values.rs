//! Parsers for the values of a record. They return none for a wrong value; the message is part of
//! [`ColumnValues`].

use std::net::IpAddr;

use fireflow_domain::net::Protocol;
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};

/// The values that a column accepts.
pub(super) struct ColumnValues<T> {
    /// A description for messages.
    pub(super) needs: &'static str,
    /// Parses a value; none if it is not acceptable.
    pub(super) read: fn(&[u8]) -> Option<T>,
}

pub(super) const ADDRESS: ColumnValues<IpAddr> =
    ColumnValues { needs: "an IP address such as `192.0.2.1` or `2001:db8::1`", read: address };
pub(super) const PROTOCOL: ColumnValues<Protocol> = ColumnValues {
    needs: "a protocol number from 0 to 255 or a name such as `tcp`",
    read: protocol,
};
pub(super) const PORT: ColumnValues<u16> =
    ColumnValues { needs: "a port from 0 to 65535", read: port };
pub(super) const ICMP_TYPE: ColumnValues<u8> =
    ColumnValues { needs: "an ICMP type from 0 to 255", read: octet };
pub(super) const ICMP_CODE: ColumnValues<u8> =
    ColumnValues { needs: "an ICMP code from 0 to 255", read: octet };
pub(super) const FLAGS: ColumnValues<u32> =
    ColumnValues { needs: "TCP flags as a number such as `18` or `0x12`", read: flags };
pub(super) const INSTANT: ColumnValues<Instant> = ColumnValues {
    needs: "a time in seconds since 1970 or in RFC 3339 format, such as `2026-12-31T00:00:00Z`",
    read: instant,
};

/// Parses an address. IPv4 in IPv6 form becomes IPv4.
pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

/// Parses a protocol by its number or name. ICMPv6 has several names.
fn protocol(value: &[u8]) -> Option<Protocol> {
    let text = std::str::from_utf8(value).ok()?;
    if ["ipv6-icmp", "icmp6"].iter().any(|name| name.eq_ignore_ascii_case(text)) {
        return Some(Protocol::ICMPV6);
    }
    Protocol::parse(text).ok()
}

/// Parses a decimal without a sign, of up to 19 digits.
fn number(value: &[u8]) -> Option<u64> {
    const MAX_DIGITS: usize = 19;
    if value.is_empty() || value.len() > MAX_DIGITS {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
    })
}

/// Parses a port.
fn port(value: &[u8]) -> Option<u16> {
    number(value)?.try_into().ok()
}

/// Parses an ICMP type or code.
fn octet(value: &[u8]) -> Option<u8> {
    number(value)?.try_into().ok()
}

/// Parses TCP flags: a decimal, or a hexadecimal number with the prefix `0x`.
fn flags(value: &[u8]) -> Option<u32> {
    let Some(digits) = value.strip_prefix(b"0x") else { return number(value)?.try_into().ok() };
    // The standard library would also accept a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Parses a time: RFC 3339, or the time since 1970 in a unit that follows from its size.
pub(super) fn instant(value: &[u8]) -> Option<Instant> {
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let Some(whole) = parts.next().and_then(number) else {
        return Instant::parse(std::str::from_utf8(value).ok()?).ok();
    };
    let whole = i64::try_from(whole).ok()?;
    let fraction = parts.next().map_or(Some(0), millionths)?;
    let micros = if whole < 100_000_000_000 {
        whole.checked_mul(MICROS_PER_SECOND)?.checked_add(fraction)?
    } else if whole < 100_000_000_000_000 {
        whole.checked_mul(1_000)?.checked_add(fraction / 1_000)?
    } else if whole < 100_000_000_000_000_000 {
        whole
    } else {
        whole / 1_000
    };
    Instant::from_micros(micros)
}

/// Parses the digits after a decimal point as millionths; further digits are cut off.
fn millionths(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    Some(padded.fold(0, |number, byte| number * 10 + i64::from(byte - b'0')))
}

/// ICMP requests with their answers.
const PAIRS: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (17, 18), (10, 9)];
/// ICMPv6 requests with their answers.
const PAIRS_V6: [(u8, u8); 6] =
    [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];

/// The code of an ICMP message from Zeek's destination port. Zeek records the code there only for
/// messages without a counterpart. For all others the code is 0, and Zeek records the type of the
/// counterpart there (`ICMP4_counterpart` and `ICMP6_counterpart` in its `ICMP.cc`).
pub(super) fn code_of_zeek(protocol: Protocol, icmp_type: u8, other: u8) -> u8 {
    let pairs: &[_] = if protocol == Protocol::ICMP { &PAIRS } else { &PAIRS_V6 };
    let is_pair = pairs.contains(&(icmp_type, other)) || pairs.contains(&(other, icmp_type));
    if is_pair { 0 } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_of_the_unit_that_its_size_tells() {
        for (text, expected) in [
            ("0", "1970-01-01T00:00:00.000000Z"),
            ("1418530010", "2014-12-14T04:06:50.000000Z"),
            ("1300475167.096535", "2011-03-18T19:06:07.096535Z"),
            ("1300475167.0965351", "2011-03-18T19:06:07.096535Z"),
            ("1300475167.5", "2011-03-18T19:06:07.500000Z"),
            ("1418530010123", "2014-12-14T04:06:50.123000Z"),
            ("1418530010123.5", "2014-12-14T04:06:50.123500Z"),
            ("1418530010123456", "2014-12-14T04:06:50.123456Z"),
            ("1418530010123456789", "2014-12-14T04:06:50.123456Z"),
            ("2014-12-14T05:06:50+01:00", "2014-12-14T04:06:50.000000Z"),
        ] {
            let read = instant(text.as_bytes()).unwrap();
            assert_eq!(read.to_string(), expected, "{text}");
        }
        for bad in
            ["", ".", "1.", ".5", "-1", "1e9", "1.5.5", "1 ", "2014-12-14", "9999999999999999999"]
        {
            assert_eq!(instant(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn flags_are_decimal_or_hexadecimal() {
        assert_eq!(flags(b"18"), Some(18));
        assert_eq!(flags(b"0x12"), Some(18));
        for bad in ["", "0x", "0x+1", "SA", "-1", "0x1ffffffff"] {
            assert_eq!(flags(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn protocols_have_numbers_and_names() {
        for (text, expected) in
            [("6", 6), ("TCP", 6), ("icmp6", 58), ("IPv6-ICMP", 58), ("icmpv6", 58), ("89", 89)]
        {
            assert_eq!(protocol(text.as_bytes()), Some(Protocol(expected)), "{text}");
        }
        assert_eq!(protocol(b"http"), None);
    }

    #[test]
    fn zeek_records_a_code_only_where_nothing_answers() {
        assert_eq!(code_of_zeek(Protocol::ICMP, 8, 0), 0);
        assert_eq!(code_of_zeek(Protocol::ICMP, 0, 8), 0);
        assert_eq!(code_of_zeek(Protocol::ICMP, 3, 13), 13);
        assert_eq!(code_of_zeek(Protocol::ICMP, 3, 3), 3);
        assert_eq!(code_of_zeek(Protocol::ICMPV6, 128, 129), 0);
        assert_eq!(code_of_zeek(Protocol::ICMPV6, 136, 135), 0);
        assert_eq!(code_of_zeek(Protocol::ICMPV6, 1, 4), 4);
    }
}
