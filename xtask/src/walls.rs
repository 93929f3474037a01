//! Checks which crate may depend on which, so that each crate can be read, tested and changed
//! without the crates above it. Cargo itself accepts any dependency.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::sh;

/// Each crate, and the crates that it may depend on in any way, even only in tests.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("fireflow-domain", &[]),
    ("fireflow-formats", &["fireflow-domain"]),
    ("fireflow-migration", &[]),
    ("fireflow-storage", &["fireflow-domain", "fireflow-migration"]),
    ("fireflow-auth", &["fireflow-domain"]),
    ("fireflow-service", &["fireflow-domain"]),
    (
        "fireflow-telemetry",
        &["fireflow-auth", "fireflow-domain", "fireflow-service", "fireflow-storage"],
    ),
    (
        "fireflow-web",
        &[
            "fireflow-auth",
            "fireflow-domain",
            "fireflow-formats",
            "fireflow-service",
            "fireflow-storage",
            "fireflow-telemetry",
        ],
    ),
    (
        "fireflow",
        &[
            "fireflow-auth",
            "fireflow-domain",
            "fireflow-formats",
            "fireflow-service",
            "fireflow-storage",
            "fireflow-telemetry",
            "fireflow-web",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that must not be in a crate's tree of dependencies, directly or through others.
struct Wall {
    package: &'static str,
    not_in: &'static [&'static str],
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        package: "fireflow-domain",
        not_in: &[
            "tokio",
            "sea-orm",
            "sea-query",
            "sqlx",
            "poem",
            "poem-openapi",
            "serde",
            "serde_json",
        ],
        why: "the domain is pure",
    },
    Wall {
        package: "fireflow-auth",
        not_in: &["poem", "poem-openapi", "http", "hyper", "sea-orm", "sqlx"],
        why: "what a token is worth does not depend on how it arrived",
    },
    Wall {
        package: "fireflow-service",
        not_in: &["poem", "poem-openapi", "http", "hyper", "sea-orm", "sqlx"],
        why: "it is the same without HTTP, and for any storage",
    },
    Wall {
        package: "fireflow-telemetry",
        not_in: &["poem", "poem-openapi"],
        why: "what is reported does not depend on the web framework",
    },
    Wall {
        package: "fireflow-formats",
        not_in: &["poem", "poem-openapi", "http", "hyper", "sea-orm", "sqlx", "tokio"],
        why: "text is read and written without HTTP and without a database",
    },
    Wall {
        package: "fireflow-storage",
        not_in: &["poem", "poem-openapi"],
        why: "what is stored does not depend on the web framework",
    },
    Wall {
        package: "fireflow-web",
        not_in: &["clap", "toml"],
        why: "the API has no command line and no settings; those are the server's",
    },
    // Tests may use a second implementation to sign tokens.
    Wall {
        package: "fireflow",
        not_in: &["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "rsa", "jsonwebtoken"],
        why: "`ring` is its one implementation of cryptography",
    },
];

/// Returns a message for every breach of a wall.
pub(crate) fn breaches() -> Result<Vec<String>> {
    let metadata = ["metadata", "--no-deps", "--format-version", "1"];
    let metadata = sh::output(Command::new(sh::cargo_path()).args(metadata))?;
    let mut breaches = unknown_neighbors(&serde_json::from_str(&metadata)?);
    for Wall { package, not_in, why } in WALLS {
        let arguments = ["tree", "--package", package, "--edges", "normal", "--prefix", "none"];
        let tree = sh::output(Command::new(sh::cargo_path()).args(arguments))?;
        breaches.extend(in_tree(package, &tree, not_in, why)?);
    }
    Ok(breaches)
}

/// Finds workspace crates that depend on a crate they may not know, in the output of `cargo
/// metadata`.
fn unknown_neighbors(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |it: &Value| it["name"].as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let mut breaches: Vec<String> = MAY_KNOW
        .iter()
        .filter(|(package, _)| !ours.contains(*package))
        .map(|(package, _)| format!("there is no crate {package}: its wall checks nothing"))
        .collect();
    for package in packages {
        let own = name(package);
        let Some((_, may_know)) = MAY_KNOW.iter().find(|(known, _)| *known == own) else {
            breaches
                .push(format!("{own}: xtask/src/walls.rs does not list the crates it may know"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten().map(name);
        // A crate may depend on itself, because its tests may enable another feature of it.
        let others: BTreeSet<String> = dependencies.filter(|it| *it != own).collect();
        for other in others.iter().filter(|it| ours.contains(*it)) {
            if !may_know.contains(&other.as_str()) {
                breaches.push(format!("{own} depends on {other}, which it may not know"));
            }
        }
    }
    breaches
}

/// Finds forbidden crates below a package in the output of `cargo tree`.
fn in_tree(package: &str, tree: &str, not_in: &[&str], why: &str) -> Result<Vec<String>> {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    if !names.contains(package) {
        bail!("cargo tree does not show {package}: the rule checks nothing");
    }
    Ok(not_in
        .iter()
        .filter(|name| names.contains(*name))
        .map(|name| format!("{package} depends on {name}; {why}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace without breaches, except that one dependency is added to one crate.
    fn workspace(of: &str, added: &str) -> Value {
        let packages = MAY_KNOW.iter().map(|(package, may_know)| {
            let mut names = may_know.to_vec();
            if *package == of {
                names.push(added);
            }
            let dependencies: Vec<Value> = names.iter().map(|it| json!({"name": it})).collect();
            json!({"name": package, "dependencies": dependencies})
        });
        json!({"packages": packages.collect::<Vec<_>>()})
    }

    #[test]
    fn a_crate_names_only_those_that_it_may_know() {
        assert_eq!(unknown_neighbors(&workspace("fireflow-web", "poem")), [""; 0]);
        assert_eq!(unknown_neighbors(&workspace("fireflow-storage", "fireflow-storage")), [""; 0]);
        for (of, added) in [
            ("fireflow-web", "fireflow"),
            ("fireflow-auth", "fireflow-telemetry"),
            ("fireflow-telemetry", "fireflow-web"),
            ("fireflow-domain", "fireflow-formats"),
            ("xtask", "fireflow"),
        ] {
            let found = unknown_neighbors(&workspace(of, added));
            assert_eq!(found, [format!("{of} depends on {added}, which it may not know")]);
        }
    }

    #[test]
    fn a_crate_without_a_wall_and_a_wall_without_a_crate_are_breaches() {
        let mut other = workspace("", "");
        other["packages"][0]["name"] = json!("fireflow-new");
        let found = unknown_neighbors(&other).join("\n");
        assert!(found.contains("there is no crate fireflow-domain"), "{found}");
        assert!(found.contains("fireflow-new: xtask/src/walls.rs does not list"), "{found}");
    }

    #[test]
    fn what_must_not_be_in_a_tree_is_found_there() {
        let tree = "fireflow-auth v0.1.0 (/src)\nring v0.17.14\npoem v3.1.12\nring v0.17.14 (*)\n";
        let found = in_tree("fireflow-auth", tree, &["poem", "hyper"], "because").unwrap();
        assert_eq!(found, ["fireflow-auth depends on poem; because"]);
        assert!(in_tree("fireflow-web", tree, &["poem"], "because").is_err(), "another's tree");
    }
}
