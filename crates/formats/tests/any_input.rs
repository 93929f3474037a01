//! Tests that any input is read or refused without a panic, and that good lines are read the same
//! as by a plain parser.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use fireflow_domain::engine::classifier::{Cuboid, CuboidParts, kind};
use fireflow_domain::error::Violations;
use fireflow_domain::ids::PolicyId;
use fireflow_domain::packet::GivenPacket;
use fireflow_domain::time::Instant;
use fireflow_formats::analysis::packet_set_of_words;
use fireflow_formats::flow_log::{Flow, FlowReader, Mapping};
use fireflow_formats::format::{
    FileError, FileReader, Holds, PacketRecord, RuleLocation, RuleRecord, Sample,
};
use fireflow_formats::json::{Meter, Parsed};
use fireflow_formats::json_values::{element_lines, elements, values};
use fireflow_formats::packet::packets;
use fireflow_formats::packet_lines::{LineFault, PacketLines};
use fireflow_formats::rule::{SetReading, given_rule};
use fireflow_formats::rule_set::{RuleSetFormat, rule_set};
use fireflow_formats::{FORMATS, FlowLog, ReadError, benchmark, sniff};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Valid texts of the formats of the API, and of mappings, which the tests corrupt together with the
/// samples of all formats of files.
const GOOD: [&str; 8] = [
    "\u{feff}[{\"a\":1}]",
    "{\"source_address\":\"10.0.0.1\"}\n{}\n",
    "source_address=1,destination_address=b,protocol=3,at=4,tcp_flags=5",
    "a;b;c;d;e\n10.0.0.1;10.0.0.2;6;1700000000123.5;0x12\n",
    "[{\"action\":\"DENY\",\"protocols\":[\"tcp\"],\"sources\":[{\"address\":\"any\"}],\"destinations\":[\
     {\"address\":\"10.0.0.0/8\",\"port\":\"80-90\"}],\"ports\":[{\"number\":1}],\"labels\":{\"a\":\"b\"}}]",
    "{\"action\":\"ALLOW\",\"sources\":[{\"address\":\"::/0\"}],\"destinations\":[{\"address\":\"::1\"}]}\n\n",
    "action,protocols,sources,destinations,ports,labels\r\nDENY,tcp; 17,any,10.0.0.1 80; ::1,1; 2-3,\
     \"{\"\"a\"\":\"\"b\"\"}\"\r\n",
    "{\"source_address\":\"10.0.0.1\",\"destination_address\":\"10.0.0.2\",\"protocol\":47}\n{}\n",
];

/// The entries of [`GOOD`] that are rule sets: the index and the format of each.
const GOOD_SETS: [(usize, RuleSetFormat); 3] =
    [(4, RuleSetFormat::Json), (5, RuleSetFormat::Ndjson), (6, RuleSetFormat::Csv)];

fn samples() -> impl Iterator<Item = Sample> {
    FORMATS.into_iter().flat_map(|format| format.samples).copied()
}

/// All valid texts.
fn good() -> Vec<&'static str> {
    samples().map(|sample| sample.text).chain(GOOD).collect()
}

fn now() -> Instant {
    Instant::EPOCH
}

fn read_set(bytes: &[u8], format: RuleSetFormat) -> Result<usize, ReadError> {
    let policy = PolicyId::new(1).unwrap();
    rule_set(bytes, format, policy, SetReading::default(), &Meter::unlimited())
        .map(|rules| rules.len())
}

/// The packets of lines that arrive in pieces of a given length.
fn packets_in_pieces(bytes: &[u8], length: usize) -> Vec<(u64, Result<GivenPacket, String>)> {
    let mut lines = PacketLines::default();
    let mut all = Vec::new();
    let mut visit = |line, packet: Result<GivenPacket, LineFault>| {
        all.push((line, packet.map_err(|fault| fault.to_string())));
        ControlFlow::Continue(())
    };
    for piece in bytes.chunks(length) {
        assert_eq!(lines.read(piece, now(), &mut visit), piece.len());
    }
    assert!(lines.end(now(), &mut visit).is_continue());
    all
}

/// Passes bytes to all functions that read rules and packets in the formats of the API.
fn read_rules_and_packets(bytes: &[u8]) {
    for (_, format) in GOOD_SETS {
        if let Err(error) = read_set(bytes, format) {
            assert!(!error.to_string().is_empty());
        }
    }
    let _packets = packets(bytes, now(), false, &Meter::unlimited());
    for value in values(bytes) {
        let Ok((line, text)) = value else { break };
        let mut count = 0;
        let parsed = elements(line, text, &mut |_, _| count += 1);
        // Each element has its line.
        if let Ok(Parsed::Elements(_)) = parsed {
            assert_eq!(element_lines(line, text).len(), count, "{text}");
        }
    }
    let whole = packets_in_pieces(bytes, bytes.len().max(1));
    for length in [1, 2, 7] {
        assert_eq!(packets_in_pieces(bytes, length), whole, "in pieces of {length}");
    }
}

/// Passes bytes to all functions that read.
fn read_all(bytes: &[u8]) {
    read_rules_and_packets(bytes);
    let _rule = benchmark::rule(bytes, 0).map_err(|error| error.to_string());
    let _packet = benchmark::packet(bytes).map_err(|error| error.to_string());
    if let Err(error) = sniff(bytes) {
        assert!(!error.to_string().is_empty());
    }
    // Any bytes can follow a valid beginning.
    for start in samples().map(|sample| sample.text.as_bytes()).chain([bytes]) {
        if let Ok(file) = sniff(start) {
            drop(read_file(bytes, &*file));
        }
        if let Ok(Some(log)) = FlowLog::detect(start) {
            read_log(bytes, &log);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let _set = packet_set_of_words(&text).map_err(|violations| violations.items().len());
    let read = Mapping::parse(&text).map_err(|error| error.to_string());
    let fixed = Mapping::parse("source_address=1,destination_address=b,protocol=3,at=4").unwrap();
    for mapping in read.iter().chain([&fixed]) {
        for start in [bytes, GOOD[3].as_bytes()] {
            if let Ok(log) = FlowLog::with_columns(mapping, start) {
                drop(read_file(bytes, &log));
                read_log(bytes, &log);
            }
        }
    }
}

/// Reads bytes as a file of rules and as a file of packets. Returns how many of each it holds, and
/// the first fault.
fn read_file(bytes: &[u8], file: &dyn FileReader) -> (usize, usize, Option<String>) {
    let (mut rules, mut packets, mut first) = (0, 0, None);
    let last_line = bytes.split(|byte| *byte == b'\n').count() as u64;
    let read = file.rules(&mut &*bytes, &mut |place, record| {
        assert!((1..=last_line).contains(&place.line), "{place} of {last_line}");
        match record {
            RuleRecord::Api(_) | RuleRecord::Cuboid(_) => rules += 1,
            RuleRecord::Page(_) | RuleRecord::Policy(_) => {}
        }
        ControlFlow::Continue(())
    });
    let mut note = |read: Result<(), FileError>| match read {
        Ok(()) | Err(FileError::NotRules | FileError::NotPackets) => {}
        Err(error) if first.is_none() => first = Some(error.to_string()),
        Err(_) => {}
    };
    note(read);
    let mut last = 0;
    let mut faults = Vec::new();
    note(file.packets(&mut &*bytes, now(), &mut |line, record| {
        assert!(line > last, "{line} after {last}");
        last = line;
        match record {
            PacketRecord::Packet(Ok(_), _) | PacketRecord::Benchmark(_) => packets += 1,
            PacketRecord::Packet(Err(fault), _) => faults.push(fault.to_string()),
            PacketRecord::Skipped(_) => {}
        }
        ControlFlow::Continue(())
    }));
    first = first.or_else(|| faults.into_iter().next());
    assert!(first.as_ref().is_none_or(|fault| !fault.is_empty()));
    (rules, packets, first)
}

fn read_log(bytes: &[u8], log: &FlowLog) {
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    let mut last = 0;
    for record in FlowReader::new(bytes, log.clone(), now()) {
        let record = record.unwrap();
        assert!(record.line > last && record.line <= lines, "{} of {lines}", record.line);
        last = record.line;
        if let Err(error) = record.flow {
            assert!(!error.to_string().contains('\n'));
        }
    }
}

#[test]
fn good_lines_are_read() {
    for good in good() {
        read_all(good.as_bytes());
    }
    for (at, format) in GOOD_SETS {
        assert_eq!(read_set(GOOD[at].as_bytes(), format).unwrap(), 1, "{}", GOOD[at]);
    }
    let packets = packets_in_pieces(GOOD[7].as_bytes(), 10);
    assert!(matches!(packets.as_slice(), [(1, Ok(_)), (2, Err(_))]), "{packets:?}");
}

#[test]
fn every_sample_is_recognized_and_holds_what_it_should() {
    for Sample { name, text, holds } in samples() {
        let file = sniff(text.as_bytes()).unwrap();
        assert_eq!(file.name(), name, "{text}");
        let (rules, packets, fault) = read_file(text.as_bytes(), &*file);
        match holds {
            Holds::Rules(count) => assert_eq!(rules, count, "{text}"),
            Holds::Packets(count) => assert_eq!((packets, fault), (count, None), "{text}"),
        }
        let policy = PolicyId::new(1).unwrap();
        let mut take = |place: RuleLocation, record: RuleRecord| {
            if let RuleRecord::Api(value) = record {
                let (reading, mut faults) = (SetReading::default(), Violations::new());
                assert!(given_rule(value, "", policy, reading, &mut faults).is_some(), "{place}");
                assert!(faults.is_empty(), "{place} of {text}: {faults:?}");
            }
            ControlFlow::Continue(())
        };
        if let Holds::Rules(_) = holds {
            file.rules(&mut text.as_bytes(), &mut take).unwrap();
        }
    }
}

#[test]
fn a_visitor_that_stops_gets_no_more() {
    for Sample { text, holds, .. } in samples() {
        let twice = format!("{text}\n{text}");
        let mut input = twice.as_bytes();
        let file = sniff(input).unwrap();
        let mut seen = 0;
        let mut stop = || {
            seen += 1;
            ControlFlow::Break(())
        };
        let read = match holds {
            Holds::Rules(_) => file.rules(&mut input, &mut |_, _| stop()),
            Holds::Packets(_) => file.packets(&mut input, now(), &mut |_, _| stop()),
        };
        assert!(read.is_ok(), "{text}: {read:?}");
        assert_eq!(seen, 1, "{text}");
    }
}

/// Corrupts a valid text: a byte is replaced, inserted or removed, or a part is repeated.
fn spoiled() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), select(b"\t\n\r \"',;:|@#{}[]-./0x19\\".to_vec()),];
    let change = (any::<Index>(), byte, 0..4_u8, any::<Index>());
    (select(good()), prop::collection::vec(change, 1..8)).prop_map(|(good, changes)| {
        let mut bytes = good.as_bytes().to_vec();
        for (at, byte, what, other) in changes {
            if bytes.is_empty() {
                break;
            }
            let (at, other) = (at.index(bytes.len()), other.index(bytes.len()));
            match what {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => {
                    let part = bytes[at.min(other)..at.max(other)].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    })
}

/// The plain way to parse a rule: split the line, then parse each part.
fn plain_rule(line: &str, order: u32) -> Cuboid<u32> {
    let block = |text: &str| {
        let (address, length) = text.split_once('/').unwrap();
        let address: Ipv4Addr = address.parse().unwrap();
        let hosts = u32::MAX.checked_shr(length.parse().unwrap()).unwrap_or(0);
        (address.to_bits() & !hosts, address.to_bits() | hosts)
    };
    let ports = |text: &str| {
        let (first, last) = text.split_once(':').unwrap();
        (first.trim().parse::<u16>().unwrap(), last.trim().parse::<u16>().unwrap())
    };
    let fields: Vec<&str> = line.trim().split('\t').collect();
    let (protocol, mask) = fields[4].split_once('/').unwrap();
    let hex = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    Cuboid::new(&CuboidParts {
        source: block(fields[0].trim_start_matches('@')),
        destination: block(fields[1]),
        first: ports(fields[2]),
        second: ports(fields[3]),
        protocols: if hex(mask) == 0 {
            kind::ANY
        } else {
            let number = kind::number(kind::PORTS, hex(protocol));
            (number, number)
        },
        is_conditional: false,
        order,
    })
}

fn good_rule() -> impl Strategy<Value = String> {
    let block = (any::<u32>(), 0..=32_u8)
        .prop_map(|(address, length)| format!("{}/{length}", Ipv4Addr::from_bits(address)));
    let ports = (any::<u16>(), any::<u16>())
        .prop_map(|(one, other)| format!("{} : {}", one.min(other), one.max(other)));
    let protocol = (any::<u8>(), any::<bool>()).prop_map(|(protocol, is_any)| {
        format!("0x{protocol:02x}/0x{}", if is_any { "00" } else { "FF" })
    });
    let flags = prop_oneof![
        Just(String::new()),
        any::<(u16, u16)>().prop_map(|(flags, mask)| format!("\t0x{flags:04x}/0x{mask:04x}\t")),
    ];
    (block.clone(), block, ports.clone(), ports, protocol, flags, select(vec!["", "\n", "\r\n"]))
        .prop_map(|(source, destination, first, second, protocol, flags, end)| {
            format!("@{source}\t{destination}\t{first}\t{second}\t{protocol}{flags}{end}")
        })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,100}(\n\\PC{0,100})?") {
        read_all(text.as_bytes());
    }

    #[test]
    fn spoiled_lines_are_read_or_refused(bytes in spoiled()) {
        read_all(&bytes);
    }

    #[test]
    fn a_good_rule_is_read_as_a_plain_reader_does(line in good_rule(), order in 0..u32::MAX) {
        prop_assert_eq!(benchmark::rule(line.as_bytes(), order), Ok(plain_rule(&line, order)));
    }

    #[test]
    fn a_good_packet_is_read_as_a_plain_reader_does(
        packet: (u32, u32, u16, u16, u8),
        expected in prop::option::of(-1..i64::from(u32::MAX)),
        blank in select(vec!["\t", " ", " \t"]),
        end in select(vec!["", "\n", "\r\n", "\t\n"]),
    ) {
        let (source, destination, from, to, protocol) = packet;
        let numbers = [
            source.to_string(),
            destination.to_string(),
            from.to_string(),
            to.to_string(),
            protocol.to_string(),
        ];
        let numbers = numbers.into_iter().chain(expected.map(|it| it.to_string()));
        let line = numbers.collect::<Vec<_>>().join(blank) + end;
        let plain: Vec<i64> = line.split_whitespace().map(|it| it.parse().unwrap()).collect();
        let read = benchmark::packet(line.as_bytes()).unwrap();
        let mut values = vec![
            i64::from(read.source),
            i64::from(read.destination),
            i64::from(read.source_port),
            i64::from(read.destination_port),
            i64::from(read.protocol),
        ];
        values.extend(read.expected);
        prop_assert_eq!(values, plain);
    }

    #[test]
    fn every_line_is_a_record_or_known_to_be_none(
        lines in prop::collection::vec(
            select(vec![
                ("10.0.0.1,10.0.0.2,esp,", 'p'),
                ("10.0.0.1,10.0.0.2,esp,\"a,\"\"b\"", 'p'),
                ("-,-,-,", 's'),
                ("10.0.0.1,10.0.0.2,esp,\"", 'e'),
                ("10.0.0.1,\"10.0.0.2,esp,x", 'e'),
                ("10.0.0.1", 'e'),
                ("src,dst,proto,note", 'o'),
                ("", 'o'),
                (" ", 'o'),
            ]),
            0..30,
        ),
        end in select(vec!["\n", "\r\n"]),
        is_ended: bool,
    ) {
        let mut text = format!("src,dst,proto,note{end}");
        text += &lines.iter().map(|(line, _)| *line).collect::<Vec<_>>().join(end);
        if is_ended {
            text += end;
        }
        let Ok(Some(log)) = FlowLog::detect(text.as_bytes()) else { panic!("{text}") };
        let read = FlowReader::new(text.as_bytes(), log, now()).map(|record| {
            let record = record.unwrap();
            (record.line, match record.flow {
                Ok(Flow::Packet(_)) => 'p',
                Ok(Flow::Skipped(_)) => 's',
                Err(_) => 'e',
            })
        });
        let expected = (2..).zip(&lines).map(|(line, (_, what))| (line, *what));
        let expected: Vec<_> = expected.filter(|(_, what)| *what != 'o').collect();
        prop_assert_eq!(read.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_a_table_says_is_read(
        packets in prop::collection::vec(any::<(u128, u128, u16, u16, bool, u32)>(), 1..20)
    ) {
        use std::net::{IpAddr, Ipv6Addr};

        let mut text = "ts,src_ip,src_port,dst_ip,dst_port,proto\n".to_owned();
        for (source, destination, from, to, is_tcp, at) in &packets {
            let (source, destination) =
                (Ipv6Addr::from_bits(*source), Ipv6Addr::from_bits(*destination));
            let protocol = if *is_tcp { "tcp" } else { "17" };
            text += &format!("{at}.25,\"{source}\",{from},{destination},{to},{protocol}\n");
        }
        let Ok(Some(log)) = FlowLog::detect(text.as_bytes()) else { panic!("{text}") };
        let read: Vec<_> = FlowReader::new(text.as_bytes(), log, now()).collect();
        prop_assert_eq!(read.len(), packets.len());
        for (record, (source, destination, from, to, is_tcp, at)) in read.into_iter().zip(packets) {
            let Ok(Flow::Packet(parts)) = record.unwrap().flow else { panic!("{text}") };
            let canonical = |bits: u128| IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical();
            prop_assert_eq!(parts.source_address, canonical(source));
            prop_assert_eq!(parts.destination_address, canonical(destination));
            prop_assert_eq!((parts.source_port, parts.destination_port), (Some(from), Some(to)));
            prop_assert_eq!(parts.protocol.0, if is_tcp { 6 } else { 17 });
            prop_assert_eq!(parts.at.micros(), i64::from(at) * 1_000_000 + 250_000);
        }
    }
}
