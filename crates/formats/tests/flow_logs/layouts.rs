//! Tests the layouts of flow logs: the line of the names, the meaning of columns and their number.

use fireflow_formats::flow_log::{Flow, Mapping, Skipped};
use fireflow_formats::{FlowLog, LineError, sniff};

use super::{AWS_WITH_FLAGS, Read, ZEEK, ZEEK_READ, assert_all, mapped, now, read, short, sniffed};

#[test]
fn a_bad_first_record_is_told_where_columns_are_numbers() {
    let mapping = "source_address=1,destination_address=2,protocol=3";
    let good = "10.0.0.1,10.0.0.2,esp\n";
    let read_good = |line: u64| format!("{line}: esp 10.0.0.1 > 10.0.0.2 {}", now().micros());
    for (first, expected) in [
        ("10.0.0,10.0.0.2,esp", "1: the source address in column 1 must be"),
        ("10.0.0.1,host,esp", "1: the destination address in column 2 must be"),
        ("host,host,tcp", "1: the source address in column 1 must be"),
        ("-,host,x", "1: the source address in column 1 is missing"),
        ("\"10.0.0.1\",10.0.0.2,50,\"x", "1: a quote must be closed on its line"),
    ] {
        let read = mapped(mapping, &format!("{first}\n{good}"));
        assert!(short(&read[0]).starts_with(expected), "{first}: {read:?}");
        assert_all(&read[1..], &[read_good(2).as_str()]);
    }
    for header in ["a,b,c", "source,destination,protocol", "# a,b,c\n\na,b,c"] {
        let line = header.lines().count() as u64 + 1;
        assert_all(&mapped(mapping, &format!("{header}\n{good}")), &[read_good(line).as_str()]);
    }
}

#[test]
fn comments_and_blank_lines_may_stand_before_the_names() {
    let now = now().micros();
    let row = "10.0.0.1,10.0.0.2,esp\n";
    let named = "source_address=src,destination_address=dst,protocol=proto";
    let numbered = "source_address=1,destination_address=2,protocol=3";
    let comments = "\n# made by: \"x, \u{e4}\n#\n\n";
    let text = format!("{comments}src,dst,proto\n{row}#1,2,3\n");
    for read in [read(&text), mapped(named, &text), mapped(numbered, &text)] {
        assert_all(&read[..1], &[&format!("6: esp 10.0.0.1 > 10.0.0.2 {now}")]);
        // Comments are allowed only ahead of the names.
        let (7, Err(LineError::Value { .. })) = &read[1] else { panic!("{read:?}") };
    }
    let expected = format!("5: esp 10.0.0.1 > 10.0.0.2 {now}");
    assert_all(&mapped(numbered, &format!("{comments}{row}")), &[&expected]);
    let aws = "# x\n2 1 eni-1 10.0.0.1 10.0.0.2 1 2 50 1 1 1 1 ACCEPT OK\n";
    assert_all(&read(aws), &["2: esp 10.0.0.1 > 10.0.0.2 1000000"]);
}

#[test]
fn names_and_records_may_begin_as_comments_do() {
    let now = now().micros();
    let row = "1,10.0.0.1,10.0.0.2,esp\n";
    let text = format!("# made by x\n#id,src,dst,proto\n{row}");
    let named = "source_address=src,destination_address=dst,protocol=proto";
    let expected = format!("3: esp 10.0.0.1 > 10.0.0.2 {now}");
    assert_all(&read(&text), &[&expected]);
    assert_all(&mapped(named, &text), &[&expected]);
    let numbered = "source_address=2,destination_address=3,protocol=4";
    let expected = [1, 2].map(|line| format!("{line}: esp 10.0.0.1 > 10.0.0.2 {now}"));
    assert_all(
        &mapped(numbered, &format!("#{row}").repeat(2)),
        &expected.each_ref().map(String::as_str),
    );
}

#[test]
fn blank_lines_and_comments_may_stand_before_those_of_zeek() {
    for before in ["\n", " \r\n\n", "# joined\n", "\u{feff}\n"] {
        let read = read(&format!("{before}{ZEEK}"));
        let lines = before.lines().count() as u64;
        let moved: Vec<Read> = read.into_iter().map(|(line, flow)| (line - lines, flow)).collect();
        assert_all(&moved, &ZEEK_READ);
    }
}

#[test]
fn more_columns_than_names_are_an_error_of_the_record() {
    let now = now().micros();
    let named = "source_address=src,destination_address=dst,protocol=proto";
    let numbered = "source_address=1,destination_address=2,protocol=4";
    let rows = "10.0.0.1,10.0.0.2,a,esp\n10.0.0.1,10.0.0.2,a,b,esp\n10.0.0.1,10.0.0.2,a,esp,\r\n\
                10.0.0.1,10.0.0.2,a,esp,,\n10.0.0.1,10.0.0.2,a,esp, \n";
    let text = format!("src,dst,note,proto\n{rows}");
    let zeek = format!("#fields\tid.orig_h\tid.resp_h\tnote\tproto\n{}", rows.replace(',', "\t"));
    for read in [read(&text), mapped(named, &text), mapped(numbered, &text), read(&zeek)] {
        let wide = "only 4 columns have a name, but the record has";
        assert_all(
            &read,
            &[
                &format!("2: esp 10.0.0.1 > 10.0.0.2 {now}"),
                &format!("3: {wide} 5"),
                &format!("4: esp 10.0.0.1 > 10.0.0.2 {now}"),
                &format!("5: {wide} 6"),
                &format!("6: esp 10.0.0.1 > 10.0.0.2 {now}"),
            ],
        );
    }
    // Without a header, the number of columns is not known.
    let read = mapped(numbered, "10.0.0.1,10.0.0.2,a,esp\n10.0.0.1,10.0.0.2,a,esp,b,c\n");
    assert!(read.iter().all(|(_, flow)| flow.is_ok()), "{read:?}");
}

#[test]
fn aws_default_records_have_fourteen_columns() {
    let record = "2 1 eni-1 10.0.0.1 10.0.0.2 1 2 50 1 1 1 1 ACCEPT OK";
    let time = "2024-01-01T00:00:00Z ";
    for (before, most) in [("", 14), (time, 15)] {
        let text = [record, " \n", record, " x\n"].concat();
        let text = text.replace("2 1 eni", &format!("{before}2 1 eni"));
        let wide = format!("3: only {most} columns have a name, but the record has {}", most + 1);
        let esp = [1, 2].map(|line| format!("{line}: esp 10.0.0.1 > 10.0.0.2 1000000"));
        assert_all(&read(&format!("{before}{record}\n{text}")), &[&esp[0], &esp[1], &wide]);
    }
}

#[test]
fn flags_of_both_sides_are_an_answer_in_logs_of_aws_only() {
    let names = "source_address=srcaddr,destination_address=dstaddr,protocol=4,tcp_flags=flags";
    let rows: String = ["2", "18", "19", "0x12", "0x1b", "27", "16", ""]
        .map(|flags| format!("10.0.0.1,10.0.0.2,6,6,{flags}\n"))
        .concat();
    let replies = |mapping: &str, header: &str| -> Vec<u64> {
        let read = mapped(mapping, &format!("{header}\n{rows}"));
        let replies = read.iter().filter(|(_, flow)| *flow == Ok(Flow::Skipped(Skipped::Reply)));
        replies.map(|(line, _)| *line).collect()
    };
    assert_eq!(replies(names, "srcaddr,dstaddr,proto,protocol2,flags"), [3, 5]);
    // The names of its columns identify a log of AWS.
    let aws = names.replace("=flags", "=5");
    assert_eq!(replies(&aws, "srcaddr,dstaddr,x,protocol,tcp-flags"), [3, 4, 5, 6, 7]);
}

#[test]
fn what_is_needed_must_not_be_there_twice() {
    let refused = |text: &str| sniff(text.as_bytes()).unwrap_err().to_string();
    for (header, expected) in [
        (
            "src,src_ip,dst,proto",
            "column 1 (`src`) and column 2 (`src_ip`) can both be the source address; choose one \
             of them with a mapping",
        ),
        (
            "src,dst,x,Dst,proto",
            "column 2 (`dst`) and column 4 (`dst`) can both be the destination",
        ),
        ("#fields\tid.orig_h\tid.resp_h\tproto\tprotocol", "can both be the protocol;"),
        ("srcaddr dstaddr protocol proto", "can both be the protocol;"),
    ] {
        assert!(refused(header).contains(expected), "{}", refused(header));
    }
    // If several names fit an optional column, the best name wins.
    let text = "src,dst,proto,start,ts,ts\n10.0.0.1,10.0.0.2,50,1,2,3\n";
    assert_all(&read(text), &["2: esp 10.0.0.1 > 10.0.0.2 2000000"]);
    let text = "src,src_ip,dst,proto\n10.0.0.1,10.0.0.3,10.0.0.2,50\n";
    let mapping = "source_address=src_ip,destination_address=dst,protocol=proto,at=4";
    assert_all(&mapped(mapping, text), &["2: esp 10.0.0.3 > 10.0.0.2 50000000"]);
}

#[test]
fn what_is_mapped_by_its_name_must_not_be_there_twice() {
    let mapping = Mapping::parse("source_address=a,destination_address=b,protocol=p").unwrap();
    let refused = |text: &str| FlowLog::with_columns(&mapping, text.as_bytes()).unwrap_err();
    let expected =
        "column 1 (`a`) and column 4 (`a`) have the same name; choose one of them by its number";
    assert_eq!(refused("a,b,p,a\n").to_string(), expected);
    assert!(refused("A,b,p,\" A\"\n").to_string().contains("have the same name"));
    assert!(FlowLog::with_columns(&mapping, b"a,A,b,p\n").is_ok());
}

#[test]
fn a_log_says_whether_it_tells_icmp_types_and_tcp_flags() {
    let told = |log: FlowLog| (log.has_icmp_types(), log.has_tcp_flags());
    let aws = "2 1 eni-1 10.0.0.1 10.0.0.2 1 2 50 1 1 1 1 ACCEPT OK\n";
    for (text, expected) in [
        (ZEEK, (true, false)),
        ("#fields\tid.orig_h\tid.resp_h\tproto\n", (false, false)),
        (aws, (false, false)),
        (AWS_WITH_FLAGS, (false, true)),
        ("src,dst,proto,icmp_type\n", (true, false)),
        // Only AWS's logs have flags that need no mapping.
        ("src,dst,proto,icmp_code,tcp_flags\n", (false, false)),
    ] {
        assert_eq!(told(sniffed(text)), expected, "{text}");
    }
    let mapping = "source_address=1,destination_address=2,protocol=3";
    for (more, expected) in [
        ("", (false, false)),
        (",icmp_type=4", (true, false)),
        (",tcp_flags=4,icmp_code=4", (false, true)),
    ] {
        let mapping = Mapping::parse(&format!("{mapping}{more}")).unwrap();
        let log = FlowLog::with_columns(&mapping, b"a,b,c,d\n").unwrap();
        assert_eq!(told(log), expected, "{more}");
    }
}
