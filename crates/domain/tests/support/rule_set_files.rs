//! Public benchmark rule sets (ClassBench: D. E. Taylor, J. S. Turner, INFOCOM 2005), with packet
//! traces and the right answers. They are read from a local folder, since they may not be
//! redistributed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use fireflow_domain::engine::classifier::{BoxParts, Boxed, Key, NO_BOX, kind};
use flate2::read::GzDecoder;

/// The names of all sets: family and size.
pub(crate) fn names() -> Vec<String> {
    let sizes = ["1k", "10k", "100k"];
    sizes.iter().flat_map(|size| ["acl1", "fw1", "ipc1"].map(|it| format!("{it}_{size}"))).collect()
}

fn lines(file: &str) -> Option<impl Iterator<Item = String>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/rulesets");
    let file = File::open(folder.join(file)).ok()?;
    let lines = BufReader::new(GzDecoder::new(file)).lines().map_while(Result::ok);
    Some(lines.filter(|line| !line.trim().is_empty()))
}

/// The rules of a set as boxes, the first rule first; none if the sets are not available.
pub(crate) fn boxes(name: &str) -> Option<Vec<Boxed<u32>>> {
    let block = |text: &str| {
        let (address, length) = text.trim_start_matches('@').split_once('/').unwrap();
        let address: Ipv4Addr = address.parse().unwrap();
        let hosts = u32::MAX.checked_shr(length.parse().unwrap()).unwrap_or(0);
        // Bits below the prefix may be set.
        let first = address.to_bits() & !hosts;
        (first, first | hosts)
    };
    let ports = |text: &str| {
        let (first, last) = text.split_once(':').unwrap();
        (first.trim().parse::<u16>().unwrap(), last.trim().parse::<u16>().unwrap())
    };
    let rule = |(line, order): (String, u32)| {
        let fields: Vec<&str> = line.trim().split('\t').collect();
        let (protocol, mask) = fields[4].split_once('/').unwrap();
        let hex = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        Boxed::new(&BoxParts {
            source: block(fields[0]),
            destination: block(fields[1]),
            first: ports(fields[2]),
            second: ports(fields[3]),
            protocol: (hex(mask) != 0).then(|| hex(protocol)),
            kinds: kind::ALL,
            is_timed: false,
            order,
        })
    };
    Some(lines(&format!("{name}.rules.gz"))?.zip(0..).map(rule).collect())
}

/// The packets of a trace, each with the place of the deciding rule.
pub(crate) fn packets(name: &str, trace: &str) -> Vec<(Key<u32>, u32)> {
    let packet = |line: String| {
        let fields: Vec<i64> = line.split_whitespace().map(|it| it.parse().unwrap()).collect();
        let address = |at: usize| u32::try_from(fields[at]).unwrap();
        let port = |at: usize| u16::try_from(fields[at]).unwrap();
        let key = Key {
            source: address(0),
            destination: address(1),
            first: port(2),
            second: port(3),
            protocol: u8::try_from(fields[4]).unwrap(),
            kind: kind::PORTS,
        };
        (key, u32::try_from(fields[5]).unwrap_or(NO_BOX))
    };
    lines(&format!("{name}.{trace}.gz")).into_iter().flatten().map(packet).collect()
}
