//! Finds, in the text of a crate's modules, which of them import each other, and how many lines are
//! in import cycles. Modules in a cycle can only be understood together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The largest import cycle that a crate may have, in lines.
const CYCLE_LINES: usize = 1_500;
/// The most lines that `crates/web` may have, without tests. The figure may only shrink, except that
/// each new operation may add roughly 150 lines.
const WEB_LINES: usize = 8_403;

/// A path within a crate: `["dto", "view"]`.
type Names = Vec<String>;

/// A module, as read from its file.
#[derive(Debug, Default)]
struct Module {
    /// The number of lines, without tests.
    lines: usize,
    /// The imported paths, from the crate's root.
    imports: Vec<Names>,
    /// The re-exported names, each with its original path.
    exports: BTreeMap<String, Names>,
}

/// The modules of a crate, by their path.
type Modules = BTreeMap<Names, Module>;

/// The largest set of modules that all import each other, directly or through others.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cycle {
    lines: usize,
    modules: Vec<String>,
}

/// Returns a message for each figure that has grown.
pub(crate) fn breaches() -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    let mut crates = 0;
    for entry in fs::read_dir("crates")? {
        let folder = entry?.path();
        let sources = folder.join("src");
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut modules = Modules::new();
        read(&sources, &mut Vec::new(), &mut modules)?;
        ensure!(!modules.is_empty(), "{}: no module was found", sources.display());
        crates += 1;
        let Cycle { lines, modules: members } = largest_cycle(&modules);
        if lines > CYCLE_LINES {
            breaches.push(format!(
                "crates/{name}: the largest import cycle has {lines} lines; at most {CYCLE_LINES} \
                 are allowed: turn an import around, or move what two modules need into a module \
                 below both ({})",
                members.join(", ")
            ));
        }
        if name == "web" {
            breaches.extend(web(modules.values().map(|it| it.lines).sum()));
        }
    }
    ensure!(crates >= 5, "only {crates} crates were found");
    Ok(breaches)
}

fn web(lines: usize) -> Option<String> {
    (lines > WEB_LINES).then(|| {
        format!(
            "crates/web: has {lines} lines without tests; at most {WEB_LINES} are allowed: move \
             code that knows no HTTP into another crate"
        )
    })
}

/// Reads the modules below a folder.
fn read(folder: &Path, path: &mut Names, modules: &mut Modules) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let file = entry?.path();
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name == "tests" {
            continue;
        }
        if file.is_dir() {
            path.push(name);
            read(&file, path, modules)?;
            path.pop();
        } else if file.extension().is_some_and(|it| it == "rs") && name != "main" {
            let mut own = path.clone();
            if name != "mod" && name != "lib" {
                own.push(name);
            }
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            modules.insert(own.clone(), module(&own, &text));
        }
    }
    Ok(())
}

/// The text without the tests at its end.
fn without_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests").map_or(text, |(code, _)| code)
}

/// Reads the lines, imports and re-exports of a module from its text.
fn module(own: &[String], text: &str) -> Module {
    let code = without_tests(text);
    let lines: Vec<&str> =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let joined = lines.join("\n");
    let tokens = tokens(&joined);
    let mut module = Module { lines: code.lines().count(), ..Module::default() };
    let mut children = BTreeSet::new();
    for at in 0..tokens.len() {
        if let [Some("mod"), Some(name), Some(";")] =
            [0, 1, 2].map(|it| tokens.get(at + it).copied())
        {
            children.insert(name);
        }
    }
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).and_then(|it| tokens.get(it)).copied();
        let is_use = *token == "use";
        let is_re_export = is_use && matches!(before, Some("pub" | ")"));
        let mut next = at + usize::from(is_use);
        let begins = before != Some("::") || is_use;
        let mut base = match tokens.get(next).copied() {
            Some("crate") if begins => Some((Vec::new(), 2)),
            Some("self") if begins => Some((own.to_vec(), 2)),
            Some("super") if begins => Some((parent(own), 2)),
            Some(name) if is_use && children.contains(name) => Some((own.to_vec(), 0)),
            _ => None,
        };
        if !is_use && tokens.get(at + 1).copied() != Some("::") {
            base = None;
        }
        at += 1;
        let Some((mut prefix, skipped)) = base else { continue };
        next += skipped;
        while tokens.get(next).copied() == Some("super") {
            prefix = parent(&prefix);
            next += 2;
        }
        let mut found = Vec::new();
        tree(&tokens, &mut next, &prefix, &mut found);
        at = next.max(at);
        for (name, path) in found {
            if is_re_export {
                module.exports.insert(name, path);
            } else {
                module.imports.push(path);
            }
        }
    }
    module
}

fn parent(path: &[String]) -> Names {
    path.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default()
}

/// Words, `::`, and every other sign.
fn tokens(text: &str) -> Vec<&str> {
    let is_word = |it: char| it.is_alphanumeric() || it == '_';
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|it| !is_word(it)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, behind) = rest.split_at(length);
        tokens.push(token);
        rest = behind.trim_start();
    }
    tokens
}

/// The paths of an import, `a::{b, c::D as E}`, each with the name that it has here.
fn tree(tokens: &[&str], at: &mut usize, prefix: &[String], found: &mut Vec<(String, Names)>) {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(*at).copied() {
            Some("{") => {
                *at += 1;
                while let Some(token) = tokens.get(*at).copied().filter(|it| *it != "}") {
                    let before = *at;
                    if token != "," {
                        tree(tokens, at, &path, found);
                    }
                    // Any other token is skipped.
                    *at = (*at).max(before + usize::from(token == "," || *at == before));
                }
                *at += 1;
                return;
            }
            Some("*") => {
                *at += 1;
                found.push(("*".to_owned(), path));
                return;
            }
            Some(word) if word.starts_with(|it: char| it.is_alphabetic() || it == '_') => {
                *at += 1;
                if word != "self" {
                    path.push(word.to_owned());
                }
                if tokens.get(*at).copied() == Some("::") {
                    *at += 1;
                    continue;
                }
                let mut name = path.last().cloned().unwrap_or_default();
                if tokens.get(*at).copied() == Some("as") {
                    name = tokens.get(*at + 1).copied().unwrap_or_default().to_owned();
                    *at += 2;
                }
                found.push((name, path));
                return;
            }
            _ => return,
        }
    }
}

/// The module that a path leads to, through re-exports.
fn resolved(modules: &Modules, path: &[String]) -> Names {
    let mut path = path.to_vec();
    // The bound ends a loop of re-exports.
    for _ in 0..8 {
        let length =
            (0..=path.len()).rev().find(|it| modules.contains_key(path.get(..*it).unwrap_or(&[])));
        let (known, rest) = path.split_at(length.unwrap_or_default());
        let exported = rest.first().and_then(|name| modules.get(known)?.exports.get(name));
        match exported {
            Some(target) => path = target.iter().chain(rest.iter().skip(1)).cloned().collect(),
            None => return known.to_vec(),
        }
    }
    path
}

/// The largest strongly connected component, by lines; empty if there is no import cycle.
fn largest_cycle(modules: &Modules) -> Cycle {
    let names: Vec<&Names> = modules.keys().collect();
    let index: BTreeMap<&Names, usize> =
        names.iter().enumerate().map(|(at, it)| (*it, at)).collect();
    let edges: Vec<BTreeSet<usize>> = modules
        .iter()
        .map(|(own, module)| {
            let targets = module.imports.iter().map(|path| resolved(modules, path));
            targets.filter(|it| it != own).filter_map(|it| index.get(&it).copied()).collect()
        })
        .collect();
    let reached: Vec<BTreeSet<usize>> = (0..names.len())
        .map(|from| {
            let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(at) = open.pop() {
                let next = edges.get(at).into_iter().flatten().copied();
                open.extend(next.filter(|it| reached.insert(*it)));
            }
            reached
        })
        .collect();
    let lies_in = |from: usize, to: usize| reached.get(from).is_some_and(|it| it.contains(&to));
    let mut largest = Cycle::default();
    for from in 0..names.len() {
        let members = (0..names.len()).filter(|to| lies_in(from, *to) && lies_in(*to, from));
        let members: Vec<&Names> = members.filter_map(|at| names.get(at).copied()).collect();
        let lines = members.iter().filter_map(|it| modules.get(*it)).map(|it| it.lines).sum();
        if lines > largest.lines {
            let shown = |it: &&Names| if it.is_empty() { "lib".to_owned() } else { it.join("::") };
            largest = Cycle { lines, modules: members.iter().map(shown).collect() };
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Names {
        path.split("::").filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    fn crate_of(files: &[(&str, &str)]) -> Modules {
        files.iter().map(|(path, text)| (names(path), module(&names(path), text))).collect()
    }

    #[test]
    fn imports_are_read_in_all_their_spellings() {
        let text = "use std::fmt;\nuse crate::a::{b::C, d, e::{self, F as G}};\n\
                    use super::super::x::Y;\n// use crate::comment;\n\
                    fn f() { crate::g::h(1); let _ = super::I; }\npub(crate) fn k() {}\n\
                    #[cfg(test)]\nmod tests { use crate::only_in_tests; }\n";
        let module = module(&names("one::two"), text);
        let paths: Vec<String> = module.imports.iter().map(|it| it.join("::")).collect();
        assert_eq!(paths, ["a::b::C", "a::d", "a::e", "a::e::F", "x::Y", "g::h", "one::I"]);
        assert_eq!(module.lines, 6);
    }

    #[test]
    fn the_largest_cycle_is_found_and_counted() {
        let modules = crate_of(&[
            ("", "mod a;\nmod b;\nmod c;\nmod d;\n"),
            ("a", "use crate::b::B;\n//\n//\n"),
            ("b", "use super::a::A;\nuse crate::c::C;\n"),
            ("c", "struct C;\n\n\n\n\n\n\n\n"),
            ("d", "use crate::a::A;\n"),
        ]);
        let expected = Cycle { lines: 5, modules: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(largest_cycle(&modules), expected);
    }

    #[test]
    fn a_re_export_counts_for_the_module_that_it_comes_from() {
        let modules = crate_of(&[
            ("", "mod a;\nmod b;\npub use a::A;\npub use b::B as C;\n"),
            ("a", "use crate::C;\n"),
            ("b", "struct B;\n"),
        ]);
        assert_eq!(largest_cycle(&modules), Cycle::default());
        assert_eq!(resolved(&modules, &names("C")), names("b"));
        assert_eq!(resolved(&modules, &names("A::new")), names("a"));
        let modules = crate_of(&[
            ("", "mod a;\nuse a::A;\nstruct Root;\n"),
            ("a", "use super::Root;\nstruct A;\n"),
        ]);
        assert_eq!(largest_cycle(&modules).modules, ["lib", "a"]);
    }

    #[test]
    fn more_lines_than_there_may_be_are_a_breach() {
        assert_eq!(web(WEB_LINES), None);
        assert!(web(WEB_LINES + 1).is_some_and(|it| it.contains("crates/web: has")));
    }
}
