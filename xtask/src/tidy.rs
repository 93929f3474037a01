//! House rules that no linter checks. Each message explains what to do instead.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{modules, phrases, tidy_docs, walls};

/// The most lines of a file. A longer file probably has two subjects.
const MAX_LINES: usize = 600;

struct Rule {
    /// The prefix of the paths that it applies to.
    below: &'static str,
    /// The prefix of the paths that it does not apply to; empty for none.
    except: &'static str,
    /// The text that must not occur.
    word: &'static str,
    /// The reason, and what to do instead.
    instead: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        below: "crates/web/src",
        except: "",
        word: "sea_orm",
        instead: "the web crate knows no database; ask the storage crate",
    },
    Rule {
        below: "crates/server/src",
        except: "",
        word: "sea_orm",
        instead: "the server crate knows no database; ask the storage crate",
    },
    Rule {
        below: "crates/storage/src",
        except: "crates/storage/src/entity/",
        word: "Entity::find()",
        instead: "live rows have one door: `live(visibility)` of their entity",
    },
    Rule {
        below: "crates",
        except: "",
        word: "on_conflict_do_nothing()",
        instead: "it names the primary key; use `OnConflict::new().do_nothing()`",
    },
    Rule {
        below: "crates/web/src",
        except: "",
        word: ".commit()",
        instead: "`write` of a `Session` and its variants are the only place that commits",
    },
    Rule {
        below: "crates",
        except: "",
        word: "pub use self::*",
        instead: "name what is offered; globs hide where a name comes from",
    },
    Rule {
        below: "crates/web/src/dto",
        except: "crates/web/src/dto/schema.rs",
        word: "ParseFromJSON",
        instead: "bodies are read by `Members` of the formats, which finds every fault at once",
    },
    Rule {
        below: "crates",
        except: "",
        word: "with_cases(",
        instead: "write `with_cases(cases(…))`, so that PROPTEST_CASES takes effect",
    },
];

/// Checks all house rules, and reports every breach.
pub(crate) fn tidy() -> Result<()> {
    let mut breaches = walls::breaches()?;
    breaches.extend(modules::breaches()?);
    breaches.extend(tidy_docs::breaches()?);
    breaches.extend(phrases::breaches()?);
    let mut files = Vec::new();
    for folder in ["crates", "migration", "xtask"] {
        rust_files(Path::new(folder), &mut files)?;
    }
    if files.len() < 50 {
        bail!("only {} files were found: the rules check nothing", files.len());
    }
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let path = file.to_string_lossy();
        let lines = text.lines().count();
        if lines > MAX_LINES {
            breaches.push(format!("{path}: has {lines} lines; split it by subject"));
        }
        for rule in RULES {
            let holds = path.starts_with(rule.below)
                && (rule.except.is_empty() || !path.starts_with(rule.except));
            for (index, line) in text.lines().enumerate().filter(|_| holds) {
                if line.contains(rule.word) && !is_exempt(&path, line, rule) {
                    let number = index + 1;
                    breaches.push(format!("{path}:{number}: `{}`: {}", rule.word, rule.instead));
                }
            }
        }
    }
    if breaches.is_empty() { Ok(()) } else { bail!("{}", breaches.join("\n")) }
}

/// Whether a line is exempt: comments are, queries of tables that have no live rows of their own,
/// and a number of cases that comes from the environment.
fn is_exempt(path: &str, line: &str, rule: &Rule) -> bool {
    let is_comment = line.trim_start().starts_with("//");
    let tables: &[&str] = if path.ends_with("repository/rule_index.rs") {
        &["rule_address::", "rule_port::"]
    } else if path.ends_with("storage/src/steps.rs") {
        &["seaql_migrations::"]
    } else {
        &[]
    };
    let is_other = rule.word == "Entity::find()" && tables.iter().any(|it| line.contains(it));
    let is_raised = rule.word == "with_cases(" && line.contains("with_cases(cases(");
    is_comment || is_other || is_raised
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
