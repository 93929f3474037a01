//! Tests flow logs in the formats of the programs that write them.

#![expect(clippy::unwrap_used, reason = "a test reports a failure by panicking")]

mod layouts;

use fireflow_domain::net::Protocol;
use fireflow_domain::packet::{GivenPacket, Packet, PacketParts, Payload};
use fireflow_domain::time::Instant;
use fireflow_formats::flow_log::{Flow, FlowReader, MAX_RECORD_BYTES, Mapping, Skipped, Style};
use fireflow_formats::{FlowLog, LineError, sniff};

const NOW: &str = "2026-01-02T03:04:05.000000Z";

fn now() -> Instant {
    Instant::parse(NOW).unwrap()
}

type Read = (u64, Result<Flow, LineError>);

fn records(log: FlowLog, text: &str) -> Vec<Read> {
    let records = FlowReader::new(text.as_bytes(), log, now()).map(Result::unwrap);
    records.map(|record| (record.line, record.flow)).collect()
}

fn sniffed(text: &str) -> FlowLog {
    let log = FlowLog::detect(text.as_bytes()).unwrap().unwrap();
    assert_eq!(sniff(text.as_bytes()).unwrap().name(), log.style().as_str(), "{text}");
    log
}

fn read(text: &str) -> Vec<Read> {
    records(sniffed(text), text)
}

fn mapped(mapping: &str, text: &str) -> Vec<Read> {
    let mapping = Mapping::parse(mapping).unwrap();
    records(FlowLog::with_columns(&mapping, text.as_bytes()).unwrap(), text)
}

/// A short form of a packet: `tcp 10.0.0.1:1 > 10.0.0.2:2 at …`. Every such packet can be
/// evaluated.
fn short((line, flow): &Read) -> String {
    let parts = match flow {
        Ok(Flow::Packet(parts)) => *parts,
        Ok(Flow::Skipped(reason)) => return format!("{line}: {reason:?}"),
        Err(error) => return format!("{line}: {error}"),
    };
    let packet = Packet::new(parts).unwrap();
    let (source, destination) = (packet.source(), packet.destination());
    let what = match packet.payload() {
        Payload::Ports { source: from, destination: to } => {
            format!("{source} {from} > {destination} {to}")
        }
        Payload::Icmp { icmp_type, icmp_code } => {
            format!("{source} > {destination} {icmp_type}/{icmp_code}")
        }
        Payload::Opaque => format!("{source} > {destination}"),
    };
    format!("{line}: {} {what} {}", packet.protocol(), packet.at().micros())
}

fn assert_all(read: &[Read], expected: &[&str]) {
    let read: Vec<String> = read.iter().map(short).collect();
    assert_eq!(read, expected);
}

#[test]
fn aws_default_records_need_no_header() {
    let text = "\
2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK
2 123456789010 eni-1235b8ca123456789 172.31.9.69 172.31.9.12 49761 3389 6 20 4249 1418530010 1418530070 REJECT OK
2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA
2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA
2 123456789010 eni-1235b8ca123456789 203.0.113.12 172.31.16.139 0 0 1 4 336 1432917027 1432917142 ACCEPT OK
2 123456789010 eni-1235b8ca123456789 2001:db8:1234:a100:8d6e:3477:df66:f105 2001:db8:1234:a102:3304:8879:34cf:4071 34892 22 6 54 8855 1477913708 1477913820 ACCEPT OK
2 123456789010 eni-1235b8ca123456789 10.0.0.1 10.0.0.2 0 0 47 1 99 1477913708 1477913820 ACCEPT OK
";
    assert_eq!(sniffed(text).style(), Style::Aws);
    assert_all(
        &read(text),
        &[
            "1: tcp 172.31.16.139 20641 > 172.31.16.21 22 1418530010000000",
            "2: tcp 172.31.9.69 49761 > 172.31.9.12 3389 1418530010000000",
            "3: NoData",
            "4: NoData",
            "5: icmp 203.0.113.12 > 172.31.16.139 8/0 1432917027000000",
            "6: tcp 2001:db8:1234:a100:8d6e:3477:df66:f105 34892 > \
             2001:db8:1234:a102:3304:8879:34cf:4071 22 1477913708000000",
            "7: gre 10.0.0.1 > 10.0.0.2 1477913708000000",
        ],
    );
}

#[test]
fn records_exported_from_cloudwatch_begin_with_a_time_of_their_own() {
    let text = "2014-12-14T04:06:50.000Z 2 123456789010 eni-1 10.0.0.1 10.0.0.2 1 22 17 20 42 \
                1418530010 1418530070 ACCEPT OK\n";
    assert_all(&read(text), &["1: udp 10.0.0.1 1 > 10.0.0.2 22 1418530010000000"]);
}

/// The custom format and the expected answers come from AWS's documentation.
const AWS_WITH_FLAGS: &str = "\
version vpc-id subnet-id instance-id interface-id account-id type srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr protocol bytes packets start end action tcp-flags log-status
3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 52.213.180.42 10.0.0.62 43416 5001 52.213.180.42 10.0.0.62 6 568 8 1566848875 1566848933 ACCEPT 2 OK
3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 10.0.0.62 52.213.180.42 5001 43416 10.0.0.62 52.213.180.42 6 376 7 1566848875 1566848933 ACCEPT 18 OK
3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 52.213.180.42 10.0.0.62 43418 5001 52.213.180.42 10.0.0.62 6 100701 70 1566848875 1566848933 ACCEPT 3 OK
3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 10.0.0.62 52.213.180.42 5001 43418 10.0.0.62 52.213.180.42 6 632 12 1566848875 1566848933 ACCEPT 19 OK
3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 10.0.0.62 52.213.180.42 5001 43418 10.0.0.62 52.213.180.42 17 632 12 1566848875 1566848933 ACCEPT 0 OK
3 - - - eni-1235b8ca123456789 123456789010 - - - - - - - - - - 1566848875 1566848933 - - NODATA
";

const AWS_WITH_FLAGS_READ: [&str; 6] = [
    "2: tcp 52.213.180.42 43416 > 10.0.0.62 5001 1566848875000000",
    "3: Reply",
    "4: tcp 52.213.180.42 43418 > 10.0.0.62 5001 1566848875000000",
    "5: Reply",
    "6: udp 10.0.0.62 5001 > 52.213.180.42 43418 1566848875000000",
    "7: NoData",
];

#[test]
fn an_aws_header_may_have_any_order_and_answers_are_skipped() {
    assert_all(&read(AWS_WITH_FLAGS), &AWS_WITH_FLAGS_READ);
    assert_all(&read(&AWS_WITH_FLAGS.replace(' ', ",")), &AWS_WITH_FLAGS_READ);
    assert_all(&read(&AWS_WITH_FLAGS.replace('\n', "\r\n")), &AWS_WITH_FLAGS_READ);
    let quoted = AWS_WITH_FLAGS.replace(' ', "\",\"");
    let quoted: Vec<_> = quoted.lines().map(|line| format!("\"{line}\"\n")).collect();
    assert_all(&read(&quoted.concat()), &AWS_WITH_FLAGS_READ);
}

#[test]
fn a_header_can_come_again_where_files_were_joined() {
    let text = "srcaddr dstaddr srcport dstport protocol\n10.0.0.1 10.0.0.2 1 2 6\n";
    let expected = format!("tcp 10.0.0.1 1 > 10.0.0.2 2 {}", now().micros());
    let lines = ["2: ", "4: "].map(|line| format!("{line}{expected}"));
    assert_all(&read(&text.repeat(2)), &lines.each_ref().map(String::as_str));
}

/// A Zeek log without its `#types` line and without the columns after the tenth.
const ZEEK: &str = "\
#separator \\x09
#set_separator\t,
#empty_field\t(empty)
#unset_field\t-
#path\tconn
#open\t2019-06-07-12-00-00
#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tservice\tduration\torig_bytes
1300475167.096535\tCHhAvVGS1DHFjwGM9\t141.142.220.202\t5353\t224.0.0.251\t5353\tudp\tdns\t-\t-
1300475167.097012\tClEkJM2Vm5giqnMf4h\tfe80::217:f2ff:fed7:cf65\t5353\tff02::fb\t5353\tudp\tdns\t-\t-
1300475168.853899\tC4J4Th3PJpwUYZZ6gc\t141.142.220.118\t43927\t141.142.2.2\t80\ttcp\thttp\t0.2\t38
1300475169.000000\tCtPZjS20MLrsMUOJi2\t10.0.0.1\t8\t10.0.0.2\t0\ticmp\t-\t-\t-
1300475170.000000\tCUM0KZ3MLUfNB0cl11\t10.0.0.1\t3\t10.0.0.2\t13\ticmp\t-\t-\t-
1300475171.000000\tCmES5u32sYpV7JYN\tfe80::1\t128\tfe80::2\t129\ticmp\t-\t-\t-
1300475172.000000\tCP5puj4I8PtEU4qzYg\tfe80::1\t1\tfe80::2\t4\ticmp\t-\t-\t-
1300475173.000000\tC37jN32gN3y3AZzyf6\t10.0.0.1\t0\t10.0.0.2\t0\tunknown_transport\t-\t-\t-
-\tC3eiCBGOLw3VtHfOj\t10.0.0.1\t70000\t10.0.0.2\t0\tudp\t\"\t-\t-
-\tCwjjYJ2WqgTbAqiHl6\t10.0.0.1\t7\t10.0.0.2\t9\tudp\t-\t-\t-
#close\t2019-06-07-13-00-00
";

const ZEEK_READ: [&str; 10] = [
    "8: udp 141.142.220.202 5353 > 224.0.0.251 5353 1300475167096535",
    "9: udp fe80::217:f2ff:fed7:cf65 5353 > ff02::fb 5353 1300475167097012",
    "10: tcp 141.142.220.118 43927 > 141.142.2.2 80 1300475168853899",
    "11: icmp 10.0.0.1 > 10.0.0.2 8/0 1300475169000000",
    "12: icmp 10.0.0.1 > 10.0.0.2 3/13 1300475170000000",
    "13: icmpv6 fe80::1 > fe80::2 128/0 1300475171000000",
    "14: icmpv6 fe80::1 > fe80::2 1/4 1300475172000000",
    "15: UnknownProtocol",
    "16: the source port in column 4 must be a port from 0 to 65535, not `70000`",
    "17: udp 10.0.0.1 7 > 10.0.0.2 9 1767323045000000",
];

#[test]
fn a_conn_log_of_zeek_is_read_by_its_header() {
    assert_eq!(sniffed(ZEEK).style(), Style::Zeek);
    assert_all(&read(ZEEK), &ZEEK_READ);
    let commas = ZEEK.replace("\\x09", "\\x7c").replace('\t', "|");
    assert_all(&read(&commas), &ZEEK_READ);
}

#[test]
fn the_columns_of_zeek_may_change_where_files_were_joined() {
    let text = format!(
        "{ZEEK}#separator \\x09\n#fields\tid.orig_h\tid.resp_h\tproto\tid.orig_p\tid.resp_p\tts\n\
         10.0.0.1\t10.0.0.2\ttcp\t1\t2\t3\n#fields\tuid\n10.0.0.1\t10.0.0.2\ttcp\t1\t2\t3\n"
    );
    let read = read(&text);
    assert_all(&read[..10], &ZEEK_READ);
    // After a header whose columns cannot be determined, nothing more is read.
    assert_all(
        &read[10..],
        &[
            "21: tcp 10.0.0.1 1 > 10.0.0.2 2 3000000",
            "22: no column has a name that is known for the source address; choose the column with \
             a mapping",
        ],
    );
}

#[test]
fn a_table_is_read_by_fireflows_own_names() {
    let text = "\
at,source_address,destination_address,protocol,source_port,destination_port,icmp_type,icmp_code
2026-03-01T12:00:00Z,10.0.0.1,192.0.2.1,tcp,40000,443,,

1700000000123,10.0.0.1,192.0.2.1,icmp,,,3,1
,10.0.0.1,192.0.2.1,1,,,,
,::ffff:10.0.0.1,192.0.2.1,esp,,,,
,2001:db8::1,2001:db8::2,ipv6-icmp,,,135,
";
    assert_all(
        &read(text),
        &[
            "2: tcp 10.0.0.1 40000 > 192.0.2.1 443 1772366400000000",
            "4: icmp 10.0.0.1 > 192.0.2.1 3/1 1700000000123000",
            "5: icmp 10.0.0.1 > 192.0.2.1 8/0 1767323045000000",
            "6: esp 10.0.0.1 > 192.0.2.1 1767323045000000",
            "7: icmpv6 2001:db8::1 > 2001:db8::2 135/0 1767323045000000",
        ],
    );
}

#[test]
fn a_table_is_read_by_common_names_in_quotes() {
    let text = "\"Source IP\";\"Src-Port\";\"Dst.IP\";\"dst port\";\"Proto\"\r\n\
                \"10.0.0.1\";\"1024\";\"10.0.0.2\";\"53\";\"UDP\"\r\n";
    let expected = format!("2: udp 10.0.0.1 1024 > 10.0.0.2 53 {}", now().micros());
    assert_all(&read(text), &[expected.as_str()]);
}

#[test]
fn a_table_is_read_by_a_mapping_and_no_value_goes_on_in_the_next_line() {
    let text = "\
id,\"client, address\",server,\"note\",L4,to,flags,when
1,10.0.0.1,10.0.0.2,\"two
lines\",6,443,0x02,1700000000
2,10.0.0.2,10.0.0.1,\"a \"\"quote\"\"\",6,40000,18,1700000001
4,10.0.0.3,10.0.0.1,\"1,2\",\"6\",443,0x02,1700000001.5

3,10.0.0.1,10.0.0.2,,GRE,,,1700000002";
    let expected = [
        "2: a quote must be closed on its line",
        "3: the record must have 8 columns, not 5",
        "4: udp 10.0.0.2 40000 > 10.0.0.1 40000 1700000001000000",
        "5: udp 10.0.0.3 443 > 10.0.0.1 443 1700000001500000",
        "7: gre 10.0.0.1 > 10.0.0.2 1700000002000000",
    ];
    let names = "source_address=2,destination_address=SERVER,protocol=L4,source_port=to,\
                 destination_port=to,at=when";
    let expected_of_tcp = expected.map(|line| line.replace("udp", "tcp"));
    assert_all(&mapped(names, text), &expected_of_tcp.each_ref().map(String::as_str));
    let flags = format!("{names},tcp_flags=flags");
    assert_all(
        &mapped(&flags, text),
        &[expected[0], expected[1], "4: Reply", expected_of_tcp[3].as_str(), expected[4]],
    );
    // The flags are ignored if the protocol is not TCP.
    let udp = text.replace(",6,", ",17,").replace("\"6\"", "\"17\"");
    assert_all(&mapped(&flags, &udp), &expected);
}

#[test]
fn columns_may_be_numbers_with_or_without_a_header() {
    let mapping = "source_address=1,destination_address=3,protocol=5,source_port=2,\
                   destination_port=4";
    let row = "10.0.0.1|1|10.0.0.2|2|6\n";
    let expected = |line: u64| format!("{line}: tcp 10.0.0.1 1 > 10.0.0.2 2 {}", now().micros());
    assert_all(&mapped(mapping, row), &[expected(1).as_str()]);
    let headed = format!("\u{feff}a|b|c|d|e\n{row}");
    assert_all(&mapped(mapping, &headed), &[expected(2).as_str()]);
    let unset = format!("-|-|-|-|-\n{row}");
    assert_all(&mapped(mapping, &unset), &["1: NoData", expected(2).as_str()]);
    let spaced = row.replace('|', " ");
    assert_all(&mapped(mapping, &spaced), &[expected(1).as_str()]);
}

#[test]
fn a_mapping_can_choose_other_columns_of_zeek() {
    let mapping = "source_address=id.resp_h,destination_address=3,protocol=proto";
    let read = mapped(mapping, ZEEK);
    assert_eq!(read.len(), 10);
    let (8, Ok(Flow::Packet(parts))) = &read[0] else { panic!("{read:?}") };
    assert_eq!(parts.source_address.to_string(), "224.0.0.251");
    assert_eq!(parts.destination_address.to_string(), "141.142.220.202");
    assert_eq!((parts.source_port, parts.at), (None, now()));
}

#[test]
fn a_mapping_that_does_not_fit_is_refused_by_the_likeliest_separator() {
    let refused = |mapping: &str, text: &str| {
        let mapping = Mapping::parse(mapping).unwrap();
        FlowLog::with_columns(&mapping, text.as_bytes()).unwrap_err().to_string()
    };
    let mapping = "source_address=1,destination_address=2,protocol=7";
    assert_eq!(refused(mapping, "a b,c d,e\n"), "the file has no column 7, since it has 3");
    let mapping = "source_address=a,destination_address=b,protocol=proto";
    assert_eq!(refused(mapping, "a,b,c\n"), "the file has no column `proto`");
    assert!(refused(mapping, "").contains("no column"));
}

#[test]
fn reading_goes_on_behind_a_bad_record() {
    let text = "\
src_ip,dst_ip,proto,src_port,dst_port,ts
10.0.0.1,10.0.0.2,tcp,1,2,3
10.0.0,10.0.0.2,tcp,1,2,3
10.0.0.1,host.example,tcp,1,2,3
10.0.0.1,10.0.0.2,http,1,2,3
10.0.0.1,10.0.0.2,tcp,-1,2,3
10.0.0.1,10.0.0.2,tcp,1,65536,3
10.0.0.1,10.0.0.2,tcp,1,2,yesterday
10.0.0.1,10.0.0.2,tcp
10.0.0.1,,tcp,1,2,3
10.0.0.1,10.0.0.2,,1,2,3
10.0.0.1,10.0.0.2,tcp,1,2,3,4,5
";
    assert_all(
        &read(text),
        &[
            "2: tcp 10.0.0.1 1 > 10.0.0.2 2 3000000",
            "3: the source address in column 1 must be an IP address such as `192.0.2.1` or \
             `2001:db8::1`, not `10.0.0`",
            "4: the destination address in column 2 must be an IP address such as `192.0.2.1` or \
             `2001:db8::1`, not `host.example`",
            "5: the protocol in column 3 must be a protocol number from 0 to 255 or a name such as \
             `tcp`, not `http`",
            "6: the source port in column 4 must be a port from 0 to 65535, not `-1`",
            "7: the destination port in column 5 must be a port from 0 to 65535, not `65536`",
            "8: the time in column 6 must be a time in seconds since 1970 or in RFC 3339 format, \
             such as `2026-12-31T00:00:00Z`, not `yesterday`",
            "9: the record must have 6 columns, not 3",
            "10: the destination address in column 2 is missing: it must be an IP address such as \
             `192.0.2.1` or `2001:db8::1`",
            "11: the protocol in column 3 is missing: it must be a protocol number from 0 to 255 \
             or a name such as `tcp`",
            "12: only 6 columns have a name, but the record has 8",
        ],
    );
}

#[test]
fn ports_that_are_missing_are_left_to_the_packet() {
    let read = read("src,dst,proto\n10.0.0.1,10.0.0.2,tcp\n10.0.0.1,2001:db8::1,6\n");
    for (_, flow) in read {
        let Ok(Flow::Packet(parts)) = flow else { panic!("{flow:?}") };
        assert!(GivenPacket::new(parts).is_err());
        let PacketParts { protocol, source_port, destination_port, .. } = parts;
        assert_eq!((protocol, source_port, destination_port), (Protocol::TCP, None, None));
    }
}

#[test]
fn a_source_port_that_is_absent_is_unknown() {
    let without = "src,dst,proto,dport\n10.0.0.1,10.0.0.2,tcp,443\n";
    let empty = "src,sport,dst,proto,dport\n10.0.0.1,,10.0.0.2,udp,443\n10.0.0.1,-,10.0.0.2,6,1\n";
    for (_, flow) in [read(without), read(empty)].concat() {
        let Ok(Flow::Packet(parts)) = flow else { panic!("{flow:?}") };
        assert!(GivenPacket::new(parts).unwrap().assumed_ports().is_some());
    }
}

#[test]
fn a_quote_that_is_not_closed_is_an_error_of_its_line_alone() {
    let good = "10.0.0.1,10.0.0.2,tcp,1,2,\"a,b\"\n";
    let header = "src_ip,dst_ip,proto,src_port,dst_port,note\n";
    let count = 20_000;
    for (bad, others) in [(vec![100], 0), (vec![100, 10_000], 0), (vec![count], 1)] {
        let mut text = header.to_owned();
        for number in 1..=count {
            text += if bad.contains(&number) { "10.0.0.1,10.0.0.2,tcp,1,2,\"x\n" } else { good };
        }
        // With and without a line end after the last record.
        text.truncate(text.len() - others);
        let read = read(&text);
        assert_eq!(read.len(), count);
        for ((line, flow), number) in read.into_iter().zip(1..) {
            assert_eq!(line, number as u64 + 1);
            if bad.contains(&number) {
                assert_eq!(flow, Err(LineError::OpenQuote));
            } else {
                assert!(flow.is_ok(), "{line}: {flow:?}");
            }
        }
    }
}

#[test]
fn a_line_that_is_too_long_is_an_error_of_its_own_alone() {
    let good = "10.0.0.1,10.0.0.2,esp,\r\n";
    let text = format!(
        "src_ip,dst_ip,proto,note\r\n{good}\r\n10.0.0.1,10.0.0.2,esp,{}\r\n{good}",
        "x".repeat(MAX_RECORD_BYTES)
    );
    let now = now().micros();
    assert_all(
        &read(&text),
        &[
            &format!("2: esp 10.0.0.1 > 10.0.0.2 {now}"),
            "4: a line must not be longer than 1024 KiB",
            &format!("5: esp 10.0.0.1 > 10.0.0.2 {now}"),
        ],
    );
}

#[test]
fn an_error_of_reading_ends_it() {
    use std::io::{self, BufReader, Read};

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let header = "src_ip,dst_ip,proto\n";
    let text = format!("{header}10.0.0.1,10.0.0.2,esp\n");
    let input = text.as_bytes().chain(BufReader::new(Broken));
    let mut reader = FlowReader::new(input, sniffed(header), now());
    assert!(reader.next().unwrap().is_ok());
    let error = reader.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(reader.next().is_none());
}

#[test]
fn reasons_have_words() {
    let words: Vec<_> = Skipped::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words, ["no data", "the reply direction of a connection", "an unknown protocol"]);
}
