//! Public benchmark rule sets (ClassBench: D. E. Taylor, J. S. Turner, INFOCOM 2005), with packet
//! traces and the right answers. They are read from a local folder, because they may not be
//! redistributed.

use std::io::BufRead;
use std::path::PathBuf;

use fireflow_domain::engine::classifier::{Cuboid, Key, NO_CUBOID};
use fireflow_formats::{benchmark, open, sniff};

/// The names of all sets: family and size.
pub(crate) fn names() -> Vec<String> {
    let sizes = ["1k", "10k", "100k"];
    sizes.iter().flat_map(|size| ["acl1", "fw1", "ipc1"].map(|it| format!("{it}_{size}"))).collect()
}

fn lines(file: &str, format: &str) -> Option<impl Iterator<Item = Vec<u8>> + use<>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/rulesets");
    let path = folder.join(file);
    if !path.exists() {
        return None;
    }
    let source = open(&path).unwrap();
    assert_eq!(sniff(&source.first).unwrap().name(), format, "{file}");
    let lines = source.reader.split(b'\n').map(Result::unwrap);
    Some(lines.filter(|line| !line.trim_ascii().is_empty()))
}

/// The rules of a set as cuboids, in order. Returns `None` if the set is not available.
pub(crate) fn cuboids(name: &str) -> Option<Vec<Cuboid<u32>>> {
    let lines = lines(&format!("{name}.rules.gz"), "ClassBench rules")?;
    Some(lines.zip(0..).map(|(line, order)| benchmark::rule(&line, order).unwrap()).collect())
}

/// The packets of a trace, each with the place of the deciding rule.
pub(crate) fn packets(name: &str, trace: &str) -> Vec<(Key<u32>, u32)> {
    let lines = lines(&format!("{name}.{trace}.gz"), "ClassBench packets");
    let packet = |line: Vec<u8>| {
        let packet = benchmark::packet(&line).unwrap();
        (packet.key(), packet.expected.and_then(|it| u32::try_from(it).ok()).unwrap_or(NO_CUBOID))
    };
    lines.into_iter().flatten().map(packet).collect()
}
