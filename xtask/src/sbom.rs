//! The bill of materials (SBOM) of the shipped binary, in CycloneDX's JSON, created by
//! cargo-cyclonedx.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{ci, sh};

const CARGO_CYCLONEDX_VERSION: &str = "0.5.9";
/// The newest version of the format that the tool writes.
const SPEC_VERSION: &str = "1.5";
const FILE: &str = "target/sbom/fireflow.cdx.json";
/// The files that the tool writes, next to the manifests with binaries; their place cannot be set.
/// The first is FireFlow's.
const WRITTEN: [&str; 2] = ["crates/server/fireflow_bin.cdx.json", "xtask/xtask_bin.cdx.json"];
/// The binary, and the folder of its crate.
const SUBJECT: &str = "fireflow";
const SUBJECT_FOLDER: &str = "crates/server";

/// Crates that must be listed, because the binary needs them: the layers, the database, the server.
const IN_IT: [&str; 8] = [
    "fireflow-domain",
    "fireflow-storage",
    "fireflow-migration",
    "sea-orm",
    "sqlx-postgres",
    "libsqlite3-sys",
    "poem",
    "tokio",
];
/// Crates that must not be listed: for tests and development, or optional and never enabled.
const NOT_IN_IT: [&str; 5] = ["proptest", "aip-160", "xtask", "sqlx-mysql", "sea-orm-cli"];

/// Writes the bill of materials, and checks it.
pub(crate) fn sbom() -> Result<()> {
    let tool = ci::tool("cargo-cyclonedx", CARGO_CYCLONEDX_VERSION)?;
    // The tool needs the licenses of crates for other systems too, and must not change Cargo.lock.
    sh::cargo(&["fetch", "--quiet", "--locked"])?;
    let epoch = source_date_epoch()?;
    // If this run fails, an old file must not look like its result.
    sh::empty_folder("sbom")?;
    remove_written()?;
    let run = sh::run(
        Command::new(&tool)
            .args(["cyclonedx", "--quiet", "--manifest-path"])
            .arg(format!("{SUBJECT_FOLDER}/Cargo.toml"))
            .args(["--format", "json", "--spec-version", SPEC_VERSION, "--describe", "binaries"])
            // One document for all systems includes crates that only one of them needs.
            .args(["--target", "all", "--no-build-deps"])
            // With this variable, there is no random serial number, and the time is the sources'.
            .env("SOURCE_DATE_EPOCH", epoch),
    );
    let text = run.and_then(|()| fs::read_to_string(WRITTEN[0]).context(WRITTEN[0]));
    remove_written()?;
    let mut bom = serde_json::from_str(&without_place(&text?)?)?;
    let built = built_crates()?;
    let left_out = leave_out_what_is_not_built(&mut bom, &built);
    check(&bom, &built)?;
    // If the workspace did not use these crates at all, their absence would prove nothing.
    let lock = fs::read_to_string("Cargo.lock")?;
    for name in NOT_IN_IT {
        ensure!(lock.contains(&format!("name = \"{name}\"\n")), "nothing uses {name} any more");
    }
    fs::write(FILE, format!("{bom:#}\n")).context(FILE)?;
    sh::say(&format!(
        "{FILE}: {} crates; {left_out} that are optional and not built are left out",
        built.len()
    ));
    Ok(())
}

/// The document's time, in seconds since 1970: the commit's, unless SOURCE_DATE_EPOCH is set.
fn source_date_epoch() -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let commit = sh::output(Command::new("git").args(["log", "-1", "--format=%ct"]))
        .context("outside of a git repository SOURCE_DATE_EPOCH must be set")?;
    Ok(commit.trim().to_owned())
}

fn remove_written() -> Result<()> {
    for file in WRITTEN.iter().filter(|file| Path::new(file).exists()) {
        fs::remove_file(file).context(*file)?;
    }
    Ok(())
}

/// Removes the folder of the checkout from references to our own crates, so that the same sources
/// result in the same document everywhere.
fn without_place(text: &str) -> Result<String> {
    let bom: Value = serde_json::from_str(text)?;
    let subject = string(&bom, "/metadata/component/bom-ref");
    let root = subject
        .strip_prefix("path+")
        .and_then(|url| url.split_once(&format!("{SUBJECT_FOLDER}#")))
        .map(|(root, _)| root)
        .with_context(|| format!("`{subject}` is no crate of {SUBJECT_FOLDER}"))?;
    Ok(text.replace(root, "file:///"))
}

/// The crates that cargo builds for the binary on any system, as `name version`.
fn built_crates() -> Result<BTreeSet<String>> {
    let tree = ["tree", "--locked", "--package", SUBJECT, "--edges", "normal"];
    let tree = sh::output(
        Command::new(sh::cargo_path()).args(tree).args(["--target", "all", "--prefix", "none"]),
    )?;
    let crates = tree.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        Some(format!("{name} {}", rest.split(' ').next()?))
    });
    let subject = format!("{SUBJECT} {}", env!("CARGO_PKG_VERSION"));
    let mut crates: BTreeSet<String> = crates.collect();
    ensure!(crates.remove(&subject), "cargo tree does not show {subject}");
    Ok(crates)
}

/// Removes components that are not built, and returns their number. The tool uses `cargo metadata`,
/// which lets a weak feature (`crate?/feature`) enable the crate (rust-lang/cargo#10801). A
/// database driver that is not built must not be reported.
fn leave_out_what_is_not_built(bom: &mut Value, built: &BTreeSet<String>) -> usize {
    let subject = string(bom, "/metadata/component/bom-ref").to_owned();
    let mut kept = BTreeSet::from([subject]);
    let mut left_out = 0;
    if let Some(components) = bom.pointer_mut("/components").and_then(Value::as_array_mut) {
        let before = components.len();
        components.retain(|component| built.contains(&name_and_version(component)));
        left_out = before - components.len();
        kept.extend(components.iter().map(|it| string(it, "/bom-ref").to_owned()));
    }
    let is_kept = |reference: &Value| reference.as_str().is_some_and(|it| kept.contains(it));
    if let Some(nodes) = bom.pointer_mut("/dependencies").and_then(Value::as_array_mut) {
        nodes.retain(|node| is_kept(&node["ref"]));
        for needed in nodes.iter_mut().filter_map(|node| node.get_mut("dependsOn")?.as_array_mut())
        {
            needed.retain(is_kept);
        }
    }
    left_out
}

/// Checks that the document is complete and lists nothing else.
fn check(bom: &Value, built: &BTreeSet<String>) -> Result<()> {
    for (pointer, expected) in [
        ("/bomFormat", "CycloneDX"),
        ("/specVersion", SPEC_VERSION),
        ("/metadata/component/type", "application"),
        ("/metadata/component/name", SUBJECT),
        ("/metadata/component/version", env!("CARGO_PKG_VERSION")),
    ] {
        let found = string(bom, pointer);
        ensure!(found == expected, "{pointer} is `{found}`, not `{expected}`");
    }
    let components = array(bom, "/components");
    let listed: BTreeSet<String> = components.iter().map(name_and_version).collect();
    if let Some(missing) = built.difference(&listed).next() {
        bail!("{missing} is built, but not listed");
    }
    if let Some(extra) = listed.difference(built).next() {
        bail!("{extra} is listed, but not built");
    }
    let has = |name: &str| components.iter().any(|it| string(it, "/name") == name);
    for name in IN_IT {
        ensure!(has(name), "{name} is not listed");
    }
    for name in NOT_IN_IT {
        ensure!(!has(name), "{name} is listed, which is no part of the binary");
    }
    for component in components {
        check_component(component).with_context(|| name_and_version(component))?;
    }
    check_graph(bom)
}

fn check_component(component: &Value) -> Result<()> {
    ensure!(!array(component, "/licenses").is_empty(), "it has no license");
    let purl = format!("pkg:cargo/{}@", string(component, "/name"));
    ensure!(string(component, "/purl").starts_with(&purl), "it has no purl `{purl}…`");
    // Our own crates are not published, so there is no hash to compare their files with.
    let is_ours = string(component, "/bom-ref").starts_with("path+");
    let has_hash = array(component, "/hashes").iter().any(|it| string(it, "/alg") == "SHA-256");
    ensure!(is_ours || has_hash, "it has no hash");
    Ok(())
}

/// Checks that the graph reaches every component from the subject, and nothing else.
fn check_graph(bom: &Value) -> Result<()> {
    let subject = string(bom, "/metadata/component/bom-ref");
    let nodes = array(bom, "/dependencies");
    let (mut reached, mut open) = (BTreeSet::from([subject]), vec![subject]);
    while let Some(reference) = open.pop() {
        for node in nodes.iter().filter(|node| string(node, "/ref") == reference) {
            let needed = array(node, "/dependsOn").iter().filter_map(Value::as_str);
            open.extend(needed.filter(|it| reached.insert(it)));
        }
    }
    let mut expected: BTreeSet<&str> =
        array(bom, "/components").iter().map(|it| string(it, "/bom-ref")).collect();
    expected.insert(subject);
    match reached.symmetric_difference(&expected).next() {
        Some(stray) => bail!("the graph from {SUBJECT} and the components differ by {stray}"),
        None => Ok(()),
    }
}

fn name_and_version(component: &Value) -> String {
    format!("{} {}", string(component, "/name"), string(component, "/version"))
}

/// The text at a pointer; empty if there is none.
fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a pointer; empty if there is none.
fn array<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SUBJECT_REF: &str = "path+file:///crates/server#fireflow@0.1.0";

    fn component(name: &str) -> Value {
        json!({
            "bom-ref": name, "name": name, "version": "1.0.0", "purl": format!("pkg:cargo/{name}@1.0.0"),
            "licenses": [{"expression": "MIT"}], "hashes": [{"alg": "SHA-256", "content": "00"}],
        })
    }

    /// A document as the tool writes it, with a crate that is not built and that crate's
    /// dependency.
    fn written() -> (Value, BTreeSet<String>) {
        let names = IN_IT.into_iter().chain(["sqlx-mysql"]);
        let mut dependencies = vec![json!({"ref": SUBJECT_REF, "dependsOn": IN_IT})];
        dependencies.push(json!({"ref": "sea-orm", "dependsOn": ["sqlx-mysql", "tokio"]}));
        dependencies.push(json!({"ref": "sqlx-mysql", "dependsOn": ["tokio"]}));
        let bom = json!({
            "bomFormat": "CycloneDX", "specVersion": SPEC_VERSION,
            "metadata": {"component": {
                "type": "application", "bom-ref": SUBJECT_REF, "name": SUBJECT,
                "version": env!("CARGO_PKG_VERSION"),
            }},
            "components": names.map(component).collect::<Vec<_>>(),
            "dependencies": dependencies,
        });
        (bom, IN_IT.map(|name| format!("{name} 1.0.0")).into())
    }

    #[test]
    fn what_is_not_built_goes_and_the_rest_passes() {
        let (mut bom, built) = written();
        assert!(
            check(&bom, &built).unwrap_err().to_string().contains("sqlx-mysql 1.0.0 is listed")
        );
        assert_eq!(leave_out_what_is_not_built(&mut bom, &built), 1);
        check(&bom, &built).unwrap();
        assert_eq!(
            bom["dependencies"],
            json!([
                {"ref": SUBJECT_REF, "dependsOn": IN_IT}, {"ref": "sea-orm", "dependsOn": ["tokio"]},
            ])
        );
    }

    #[test]
    fn whatever_is_wrong_is_refused() {
        let refusal = |change: &dyn Fn(&mut Value, &mut BTreeSet<String>)| {
            let (mut bom, mut built) = written();
            leave_out_what_is_not_built(&mut bom, &built);
            change(&mut bom, &mut built);
            format!("{:#}", check(&bom, &built).unwrap_err())
        };
        let set = |pointer: &'static str, value: Value| {
            refusal(&|bom, _| *bom.pointer_mut(pointer).unwrap() = value.clone())
        };
        assert!(set("/bomFormat", json!("SPDX")).contains("not `CycloneDX`"));
        assert!(set("/metadata/component/name", json!("xtask")).contains("not `fireflow`"));
        assert!(
            set("/components/0/licenses", json!([]))
                .contains("fireflow-domain 1.0.0: it has no license")
        );
        assert!(set("/components/1/hashes", json!([])).contains("no hash"));
        assert!(set("/components/2/purl", json!("pkg:npm/x@1")).contains("no purl"));
        assert!(set("/dependencies/0/dependsOn", json!(["sea-orm"])).contains("the graph"));
        let built_besides = |name: &str| {
            refusal(&|_, built| {
                built.insert(format!("{name} 1.0.0"));
            })
        };
        assert_eq!(built_besides("ring"), "ring 1.0.0 is built, but not listed");
        let with = |name: &str| {
            refusal(&|bom, built| {
                built.insert(format!("{name} 1.0.0"));
                bom["components"].as_array_mut().unwrap().push(component(name));
            })
        };
        assert!(with("proptest").contains("no part of the binary"));
        let without = |name: &str| {
            refusal(&|bom, built| {
                built.remove(&format!("{name} 1.0.0"));
                leave_out_what_is_not_built(bom, built);
            })
        };
        assert!(without("libsqlite3-sys").contains("libsqlite3-sys is not listed"));
    }

    #[test]
    fn the_place_of_the_checkout_is_not_told() {
        let bom = r#"{"metadata":{"component":{"bom-ref":"path+file:///a%20b/c/crates/server#fireflow@0.1.0"}},
            "components":[{"bom-ref":"path+file:///a%20b/c/migration#fireflow-migration@0.1.0"}]}"#;
        let text = without_place(bom).unwrap();
        assert!(text.contains("path+file:///migration#"), "{text}");
        assert!(!text.contains("a%20b"), "{text}");
        assert!(without_place("{}").is_err());
    }
}
