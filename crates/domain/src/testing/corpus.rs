//! Stored inputs of fuzz targets, replayed without a fuzzer. A crate with targets keeps them in its
//! folder `fuzz`: `seeds`, named by what they are, and `regressions`, which once failed.
//!
//! The only code of this crate that reads files; it is there for tests alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use super::fuzz::Target;

/// Everything that is wrong with the stored inputs below a folder `fuzz`: inputs that break a
/// promise, seeds that are not what their names say, folders without inputs or without a target.
///
/// A seed is named `reader-good-what` where the reader takes it and `reader-bad-what` where it does
/// not; every reader has some of both. Regressions have any name.
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

/// A reader, and whether it takes a text.
type Claim = (&'static str, bool);

const fn word(is_good: bool) -> &'static str {
    if is_good { "good" } else { "bad" }
}

/// What a seed's name says.
fn claim_of(target: &Target, file: &str) -> Option<Claim> {
    let (reader, rest) = file.split_once('-')?;
    let reader = target.readers.iter().find(|it| it.name == reader)?;
    let claims = [(reader.name, true), (reader.name, false)];
    claims.into_iter().find(|(_, is_good)| {
        rest.split_once('-').is_some_and(|(said, what)| said == word(*is_good) && !what.is_empty())
    })
}

/// What a text does not keep to: the readers' promises, and what is claimed of it.
fn broken(target: &Target, text: &str, claim: Option<Claim>) -> impl Iterator<Item = String> {
    target.readers.iter().filter_map(move |reader| {
        let check = reader.check;
        match (catch_unwind(|| check(text)), claim) {
            (Err(_), _) => Some(format!("`{}` broke a promise, which is told above", reader.name)),
            (Ok(is_taken), Some((name, is_good))) if name == reader.name && is_taken != is_good => {
                Some(format!("`{name}` {}", if is_taken { "takes it" } else { "refuses it" }))
            }
            (Ok(_), _) => None,
        }
    })
}

/// The names in a folder; none where there is no such folder.
fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
