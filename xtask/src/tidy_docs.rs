//! Checks that the tests that the page on security names exist and are run.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const PAGE: &str = "docs/security.md";

/// The sections whose tables must name a test for every point.
const POINT_BY_POINT: [&str; 3] =
    ["RFC 8725, point by point", "OWASP API Security Top 10 (2023)", "What a request can hold"];

/// Returns a message for every row that names no test, a missing test, or a marker instead of a
/// test.
pub(crate) fn breaches() -> Result<Vec<String>> {
    breaches_of(&fs::read_to_string(PAGE).context(PAGE)?, Path::new("."))
}

fn breaches_of(page: &str, root: &Path) -> Result<Vec<String>> {
    let rows = rows(page);
    for section in POINT_BY_POINT {
        if !rows.iter().any(|row| row.section == section) {
            bail!("{PAGE}: has no table below `{section}`: the rule checks nothing");
        }
    }
    let mut breaches = Vec::new();
    for row in rows {
        let mut breach = |why: &str| {
            breaches.push(format!("{PAGE}:{}: `{}`: {why}", row.number, row.point()));
        };
        if row.text.contains("TODO") {
            breach("a marker shows nothing; name the test");
        }
        let names: Vec<&str> = row.names().collect();
        if names.is_empty() && POINT_BY_POINT.contains(&row.section) {
            breach("name a test that shows it, as `file::test`");
        }
        for name in names {
            if !is_test(root, name)? {
                breach(&format!("there is no test `{name}` that is run"));
            }
        }
    }
    Ok(breaches)
}

/// A row of a table, except the head.
#[derive(Debug)]
struct Row<'a> {
    /// The section that contains it.
    section: &'a str,
    /// Its line number.
    number: usize,
    text: &'a str,
}

impl<'a> Row<'a> {
    /// The point that it is about: its first cell.
    fn point(&self) -> &'a str {
        self.text.split('|').nth(1).unwrap_or_default().trim()
    }

    /// The names of tests: words between backticks that contain a module.
    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.text.split('`').skip(1).step_by(2).filter(|word| word.contains("::"))
    }
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let (mut section, mut is_code) = ("", false);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (index, text) in page.lines().enumerate() {
        if text.starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        if let Some(heading) = text.strip_prefix("## ") {
            section = heading.trim();
        } else if text.starts_with('|') {
            if text.chars().all(|it| " |-:".contains(it)) {
                // The row directly above the separator line is the head.
                rows.pop_if(|row| row.number == index);
            } else {
                rows.push(Row { section, number: index + 1, text });
            }
        }
    }
    rows
}

/// Whether one of the crates has a test with this name, such as `tokens::tokens_end` or
/// `auth::tests::tokens_end`.
fn is_test(root: &Path, name: &str) -> Result<bool> {
    let Some((module, test)) = name.rsplit_once("::") else { return Ok(false) };
    let crates = root.join("crates");
    for member in fs::read_dir(&crates).with_context(|| crates.display().to_string())? {
        for text in texts(&member?.path(), module)? {
            if has_test(&text, test) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The texts of a crate's test module: an integration test, a module of `tests/it`, a file of unit
/// tests, or the end of the file that the unit tests are in.
fn texts(member: &Path, module: &str) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    if let Some(of) = module.strip_suffix("::tests") {
        // The name may begin with the crate's folder. The folder alone names the crate's root.
        let folder = member.file_name().unwrap_or_default().to_string_lossy();
        let within = match of.split_once("::") {
            Some((first, rest)) if first == folder => Some(rest),
            None if of == folder => Some(""),
            _ => None,
        };
        for of in [Some(of), within].into_iter().flatten() {
            let source = member.join("src").join(of.replace("::", "/"));
            texts.extend(read(source.join("tests.rs"))?);
            for file in [source.with_extension("rs"), source.join("mod.rs"), source.join("lib.rs")]
            {
                let text = read(file)?;
                let tests = text.as_ref().and_then(|text| text.split_once("\nmod tests {"));
                texts.extend(tests.map(|(_, tests)| tests.to_owned()));
            }
        }
    } else if !module.contains("::") {
        let file = format!("{module}.rs");
        texts.extend(read(member.join("tests").join(&file))?);
        let list = read(member.join("tests/it/main.rs"))?.unwrap_or_default();
        if list.lines().any(|line| line == format!("mod {module};")) {
            texts.extend(read(member.join("tests/it").join(&file))?);
        }
    }
    Ok(texts)
}

/// A file's text, if the file exists.
fn read(file: PathBuf) -> Result<Option<String>> {
    match fs::read_to_string(&file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// Whether a text has a test with this name that is run.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let is_declared = |line: &str| {
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    lines
        .iter()
        .enumerate()
        .any(|(index, line)| is_declared(line) && is_run(lines.iter().take(index).rev().copied()))
}

/// Whether the lines above a function make it a test that is run. The nearest line comes first.
fn is_run<'a>(above: impl Iterator<Item = &'a str>) -> bool {
    let mut is_test = false;
    for line in above {
        if line.starts_with("#[ignore") {
            return false;
        }
        let is_mark = line.starts_with("#[test]")
            || line.starts_with("#[tokio::test")
            || line.starts_with("db_test!");
        is_test |= is_mark;
        // Why a test of `db_test!` has a database of its own.
        let is_reason = line.starts_with("committed(");
        if !is_mark && !is_reason && !line.starts_with("#[") && !line.starts_with("//") {
            break;
        }
    }
    is_test
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn a_name_is_that_of_a_test_in_the_file_of_its_module() {
        for there in [
            "tokens::the_kid_chooses_among_several_keys",
            "audit::it_only_grows",
            "process::a_service_ends_cleanly_when_it_is_told_to",
            "contract::other_tenants_see_nothing",
            "rules::entries_are_alternatives",
            "filter_meaning::traffic_finds_a_rule_exactly_when_it_matches_some_packet_of_the_set",
            "auth::tests::secrets_are_not_printed",
            "auth::revocation::tests::a_bad_line_is_told_and_the_others_hold",
            "revocation::tests::a_bad_line_is_told_and_the_others_hold",
            "settings::http::tests::rates_are_a_number_and_a_time",
            "server::settings::http::tests::rates_are_a_number_and_a_time",
            "filter::error::tests::both_readings_keep_the_order_of_the_terms",
            "query::list::tests::all_that_is_wrong_comes_at_once_and_nothing_is_dropped",
        ] {
            assert!(is_test(&root(), there).unwrap(), "{there}");
        }
        for not_there in [
            "tokens::no_such_test",
            "tokens::the_kid_chooses",
            // A helper; a test of another file; names with a missing module.
            "tokens::now",
            "audit::the_kid_chooses_among_several_keys",
            "auth::secrets_are_not_printed",
            "server::tests::secrets_are_not_printed",
            "web::settings::http::tests::rates_are_a_number_and_a_time",
            "tests::secrets_are_not_printed",
            "the_kid_chooses_among_several_keys",
            "no_such_file::tokens_end",
            "fireflow::audit",
            "::",
        ] {
            assert!(!is_test(&root(), not_there).unwrap(), "{not_there}");
        }
    }

    #[test]
    fn only_what_is_run_is_a_test() {
        for text in [
            "#[test]\nfn it() {}",
            "    #[tokio::test(flavor = \"multi_thread\")]\n    async fn it() {}",
            "#[cfg(unix)]\n#[test]\n/// Why.\nfn it() {}",
            "db_test! {\n    async fn it(api: Api) {}\n}",
            "db_test! {\n    committed(\"why\")\n    async fn it(db: TestDatabase) {}\n}",
            "fn it() {}\n#[test]\nfn it() {}",
        ] {
            assert!(has_test(text, "it"), "{text}");
        }
        for text in [
            "fn it() {}",
            "#[test]\n#[ignore = \"slow\"]\nfn it() {}",
            "#[ignore]\n#[test]\nfn it() {}",
            "db_test! {\n    #[ignore]\n    async fn it(api: Api) {}\n}",
            "#[test]\nfn it_too() {}",
            "#[test]\nfn other() {}\n\nfn it() {}",
            "#[test]\n// fn it() {}\nfn other() {}",
        ] {
            assert!(!has_test(text, "it"), "{text}");
        }
    }

    const GOOD: &str = "\
## Limits

| setting | default |
| --- | --- |
| `a` | none |

## RFC 8725, point by point

| point | done | test |
| --- | --- | --- |
| 2.1 | it is | `tokens::the_kid_chooses_among_several_keys` |

## OWASP API Security Top 10 (2023)

| risk | done | tests |
|:---|---|---|
| API1 | it is | `audit::it_only_grows`, `tokens::the_kid_chooses_among_several_keys` |

```
| not | a row |
```

## What a request can hold

| what | tests |
| --- | --- |
| a head | `limits::a_head_that_is_too_large_is_refused` |
";

    fn told(from: &str, to: &str) -> Vec<String> {
        assert!(GOOD.contains(from), "{from}");
        breaches_of(&GOOD.replace(from, to), &root()).unwrap()
    }

    #[test]
    fn each_row_names_tests_that_are_there() {
        assert_eq!(told("", ""), [""; 0]);
        let breaches = told("`audit::it_only_grows`", "`audit::it_shrinks`");
        assert_eq!(
            breaches,
            ["docs/security.md:17: `API1`: there is no test `audit::it_shrinks` that is run"]
        );
        let breaches =
            told("`tokens::the_kid_chooses_among_several_keys` |\n\n", "see above |\n\n");
        let why = "docs/security.md:11: `2.1`: name a test that shows it, as `file::test`";
        assert_eq!(breaches, [why]);
        // A marker is no test, and is refused even next to a test.
        assert_eq!(told("`audit::it_only_grows`", "TODO-limits").len(), 1);
        assert_eq!(told("`audit::it_only_grows`", "`TODO-limits`").len(), 1);
        // Tests that other tables name must exist too, but these tables need not name any.
        assert_eq!(told("| `a` | none |", "| `a` | `tokens::none` |").len(), 1);
    }

    #[test]
    fn a_page_without_its_tables_is_refused() {
        for from in ["## RFC 8725", "| API1", "## What a request"] {
            assert!(breaches_of(&GOOD.replace(from, ""), &root()).is_err(), "{from}");
        }
        assert!(breaches_of("", &root()).is_err());
    }
}
