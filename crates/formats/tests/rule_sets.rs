//! A public benchmark rule set and its trace, whole: read where they are, since they may not be
//! handed on.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::io::BufRead;
use std::path::{Path, PathBuf};

use fireflow_domain::engine::classifier::{Boxed, NO_BOX};
use fireflow_formats::benchmark::{self, BenchmarkPacket};
use fireflow_formats::{Kind, open, sniff};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/rulesets")
}

fn lines(file: &str, kind: &Kind) -> Vec<Vec<u8>> {
    let source = open(&folder().join(file)).unwrap();
    assert_eq!(sniff(&source.first).as_ref(), Ok(kind));
    source.reader.split(b'\n').map(Result::unwrap).collect()
}

#[test]
fn a_rule_set_and_its_trace_are_read_and_agree() {
    if !folder().exists() {
        return;
    }
    let rules = lines("fw1_1k.rules.gz", &Kind::BenchmarkRules);
    let rules: Vec<Boxed<u32>> =
        rules.iter().zip(0..).map(|(line, order)| benchmark::rule(line, order).unwrap()).collect();
    assert!(rules.len() > 700);
    for trace in ["fw1_1k.trace.gz", "fw1_1k.mix.gz"] {
        let packets = lines(trace, &Kind::BenchmarkPackets);
        assert!(packets.len() >= 5_000);
        for line in packets {
            let packet: BenchmarkPacket = benchmark::packet(&line).unwrap();
            let first = rules.iter().find(|rule| rule.holds(&packet.key()));
            let order = first.map_or(NO_BOX, Boxed::order);
            assert_eq!(packet.expected, Some(if order == NO_BOX { -1 } else { order.into() }));
        }
    }
}

#[test]
fn every_line_of_every_set_is_read() {
    let Ok(files) = folder().read_dir() else { return };
    for file in files {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name.ends_with("_1k.rules.gz") || name.ends_with("_10k.rules.gz") {
            for line in lines(&name, &Kind::BenchmarkRules) {
                assert!(benchmark::rule(&line, 0).is_ok(), "{name}: {line:?}");
            }
        }
    }
}
