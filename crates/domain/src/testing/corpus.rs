//! Stored inputs of fuzz targets, replayed without a fuzzer. A crate with targets keeps them in its
//! folder `fuzz`: `seeds`, named after what they contain, and `regressions`, which once failed.
//!
//! This is the only code of this crate that reads files. Only tests use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use super::fuzz::Target;

/// All faults of the stored inputs below a folder `fuzz`: inputs that break a property, seeds that
/// contradict their names, folders without inputs or without a target.
///
/// A seed is named `reader-good-what` if the reader accepts it, and `reader-bad-what` if it does
/// not. Every reader has seeds of both kinds. Regressions can have any name.
#[must_use]
pub fn faults(fuzz: &Path, targets: &[Target]) -> Vec<String> {
    let mut faults = Vec::new();
    for (folder, ending) in [("fuzz_targets", ".rs"), ("seeds", ""), ("regressions", "")] {
        let expected = targets.iter().map(|target| format!("{}{ending}", target.name)).collect();
        for odd in entries(&fuzz.join(folder)).symmetric_difference(&expected) {
            faults
                .push(format!("{folder}/{odd}: targets have one each, and nothing else is there"));
        }
    }
    faults.extend(targets.iter().flat_map(|target| faults_of(fuzz, target)));
    faults
}

fn faults_of(fuzz: &Path, target: &Target) -> Vec<String> {
    let seeds = format!("seeds/{}", target.name);
    let regressions = format!("regressions/{}", target.name);
    let (mut faults, mut known, mut claims) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for folder in [&seeds, &regressions] {
        let files = entries(&fuzz.join(folder));
        if files.is_empty() {
            faults.push(format!("{folder}: nothing is in it"));
        }
        for file in files {
            let path = format!("{folder}/{file}");
            let Ok(text) = fs::read_to_string(fuzz.join(&path)) else {
                faults.push(format!("{path}: it is no text in UTF-8"));
                continue;
            };
            let claim = if *folder == seeds { claim_of(target, &file) } else { None };
            if *folder == seeds && claim.is_none() {
                faults.push(format!("{path}: it is not named `reader-good-…` or `reader-bad-…`"));
            }
            claims.extend(claim);
            faults.extend(broken(target, &text, claim).map(|why| format!("{path}: {why}")));
            if let Some(other) = known.insert(text, path.clone()) {
                faults.push(format!("{path}: it is the same as {other}"));
            }
        }
    }
    for reader in target.readers {
        for is_good in [true, false] {
            if !claims.contains(&(reader.name, is_good)) {
                let word = word(is_good);
                faults.push(format!("{seeds}: no seed is named `{}-{word}-…`", reader.name));
            }
        }
    }
    faults
}

/// A reader, and whether it accepts a text.
type Claim = (&'static str, bool);

const fn word(is_good: bool) -> &'static str {
    if is_good { "good" } else { "bad" }
}

/// The claim in a seed's name.
fn claim_of(target: &Target, file: &str) -> Option<Claim> {
    let (reader, rest) = file.split_once('-')?;
    let reader = target.readers.iter().find(|it| it.name == reader)?;
    let claims = [(reader.name, true), (reader.name, false)];
    claims.into_iter().find(|(_, is_good)| {
        rest.split_once('-').is_some_and(|(said, what)| said == word(*is_good) && !what.is_empty())
    })
}

/// The faults of a text: it breaks a property of a reader, or contradicts its claim.
fn broken(target: &Target, text: &str, claim: Option<Claim>) -> impl Iterator<Item = String> {
    target.readers.iter().filter_map(move |reader| {
        let check = reader.check;
        match (catch_unwind(|| check(text)), claim) {
            (Err(_), _) => Some(format!("`{}` panicked; the panic is logged above", reader.name)),
            (Ok(is_taken), Some((name, is_good))) if name == reader.name && is_taken != is_good => {
                Some(format!("`{name}` {}", if is_taken { "takes it" } else { "refuses it" }))
            }
            (Ok(_), _) => None,
        }
    })
}

/// The names in a folder; none if the folder does not exist.
fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
