//! Rule sets in files, with packet traces and the right answers: FireFlow's own, and the public
//! benchmark sets (ClassBench: D. E. Taylor, J. S. Turner, INFOCOM 2005). The latter are read from a
//! local folder, because they may not be redistributed.

use std::io::BufRead;
use std::path::PathBuf;

use fireflow_domain::engine::classifier::{Cuboid, Key, NO_CUBOID};
use fireflow_formats::{benchmark, open, sniff};

/// A rule set with traces, in the format of ClassBench.
#[derive(Debug, Clone)]
pub(crate) struct RuleSetFiles {
    folder: PathBuf,
    /// Its family and size.
    pub(crate) name: String,
    /// The names of its traces.
    pub(crate) traces: &'static [&'static str],
}

/// FireFlow's own sets.
pub(crate) fn own() -> Vec<RuleSetFiles> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rule_sets");
    let set = |name: &str| RuleSetFiles {
        folder: folder.clone(),
        name: name.to_owned(),
        traces: &["trace"],
    };
    ["acl", "fw", "ipc"].map(set).to_vec()
}

/// The public sets; empty if they are not available.
pub(crate) fn public() -> Vec<RuleSetFiles> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/rulesets");
    let names = ["1k", "10k", "100k"]
        .iter()
        .flat_map(|size| ["acl1", "fw1", "ipc1"].map(|family| format!("{family}_{size}")));
    let sets =
        names.map(|name| RuleSetFiles { folder: folder.clone(), name, traces: &["trace", "mix"] });
    sets.filter(|set| set.folder.join(format!("{}.rules.gz", set.name)).exists()).collect()
}

impl RuleSetFiles {
    fn lines(&self, kind: &str, format: &str) -> impl Iterator<Item = Vec<u8>> + use<> {
        let file = self.folder.join(format!("{}.{kind}.gz", self.name));
        let source = open(&file).unwrap();
        assert_eq!(sniff(&source.first).unwrap().name(), format, "{}", file.display());
        let lines = source.reader.split(b'\n').map(Result::unwrap);
        lines.filter(|line| !line.trim_ascii().is_empty())
    }

    /// The rules as cuboids, in order.
    pub(crate) fn cuboids(&self) -> Vec<Cuboid<u32>> {
        let lines = self.lines("rules", "ClassBench rules").zip(0..);
        lines.map(|(line, order)| benchmark::rule(&line, order).unwrap()).collect()
    }

    /// The packets of a trace, each with the place of the deciding rule.
    pub(crate) fn packets(&self, trace: &str) -> Vec<(Key<u32>, u32)> {
        let packet = |line: Vec<u8>| {
            let packet = benchmark::packet(&line).unwrap();
            let expected = packet.expected.and_then(|it| u32::try_from(it).ok());
            (packet.key(), expected.unwrap_or(NO_CUBOID))
        };
        self.lines(trace, "ClassBench packets").map(packet).collect()
    }
}
