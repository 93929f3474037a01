//! Checks the English of comments, messages and documentation with a list of phrases to avoid.
//! `xtask/phrases.txt` has the phrases, each with a replacement.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::prose::{self, Token};
use crate::sh;

const LIST: &str = "xtask/phrases.txt";
/// The most words that `...` skips.
const MAX_GAP: usize = 8;

/// What one part of a phrase matches.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// One of these words or signs.
    OneOf(Vec<String>),
    /// Any word but this.
    Not(String),
    /// The beginning of a sentence or a cell, which takes no word.
    Start,
    /// A sign that ends a clause.
    End,
    /// One word or more.
    Gap,
}

/// A phrase and its replacement.
#[derive(Debug)]
struct Phrase {
    text: String,
    parts: Vec<Part>,
    cure: String,
}

impl Phrase {
    fn parse(line: &str) -> Result<Self> {
        let (text, cure) = line.split_once(" => ").context("`phrase => cure`")?;
        let parts: Vec<Part> = text.split(' ').map(part).collect();
        ensure!(parts.iter().any(|part| matches!(part, Part::OneOf(_) | Part::Not(_))), "no word");
        Ok(Self { text: text.to_owned(), parts, cure: cure.to_owned() })
    }

    fn is_at(&self, tokens: &[Token], at: usize) -> bool {
        matches(&self.parts, tokens, at)
    }
}

fn part(text: &str) -> Part {
    match text {
        "^" => Part::Start,
        "." => Part::End,
        "..." => Part::Gap,
        _ => match text.strip_prefix("not:") {
            Some(word) => Part::Not(word.to_owned()),
            None => Part::OneOf(text.split('|').map(str::to_owned).collect()),
        },
    }
}

fn matches(parts: &[Part], tokens: &[Token], at: usize) -> bool {
    let Some((part, rest)) = parts.split_first() else { return true };
    let token = tokens.get(at);
    match part {
        Part::Start => {
            let is_start = at.checked_sub(1).and_then(|before| tokens.get(before));
            is_start.is_none_or(Token::ends_sentence) && matches(rest, tokens, at)
        }
        Part::OneOf(words) => {
            token.is_some_and(|token| words.iter().any(|word| is_word(word, &token.text)))
                && matches(rest, tokens, at + 1)
        }
        Part::Not(word) => {
            token.is_some_and(|token| token.is_word() && !is_word(word, &token.text))
                && matches(rest, tokens, at + 1)
        }
        Part::End => {
            token.is_none_or(|token| ".,;:".contains(&token.text)) && matches(rest, tokens, at + 1)
        }
        Part::Gap => (1..=MAX_GAP)
            .take_while(|skipped| tokens.get(at + skipped - 1).is_some_and(|token| token.is_word()))
            .any(|skipped| matches(rest, tokens, at + skipped)),
    }
}

/// Whether a word of a phrase matches a word in a text, which may have a capital at the beginning
/// of a sentence.
fn is_word(word: &str, found: &str) -> bool {
    match word.strip_suffix('*') {
        Some(start) => found.get(..start.len()).is_some_and(|found| is_word(start, found)),
        None if word.starts_with(|first: char| first.is_ascii_lowercase()) => {
            let mut chars = found.chars();
            chars.next().is_some_and(|first| word.starts_with(first.to_ascii_lowercase()))
                && word.get(1..) == Some(chars.as_str())
        }
        None => word == found,
    }
}

/// A phrase in a file.
#[derive(Debug, PartialEq, Eq)]
struct Hit {
    line: usize,
    text: String,
}

fn list(text: &str) -> Result<Vec<Phrase>> {
    let lines = text.lines().enumerate();
    let phrases = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    phrases
        .map(|(index, line)| Phrase::parse(line).with_context(|| format!("{LIST}:{}", index + 1)))
        .collect()
}

fn hits(phrases: &[Phrase], blocks: &[Vec<Token>]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for tokens in blocks {
        for (at, token) in tokens.iter().enumerate() {
            for phrase in phrases.iter().filter(|phrase| phrase.is_at(tokens, at)) {
                let around = tokens.get(at..tokens.len().min(at + 6)).unwrap_or_default();
                let words: Vec<&str> = around.iter().map(|token| token.text.as_str()).collect();
                let text =
                    format!("“{}…” ({}): write {}", words.join(" "), phrase.text, phrase.cure);
                hits.push(Hit { line: token.line, text });
            }
        }
    }
    hits
}

/// The tree that a file counts for. Trees are top-level folders, so that moving a module to another
/// crate does not change the figures.
fn tree(path: &str) -> String {
    path.split('/').next().unwrap_or_default().to_owned()
}

/// All phrases of the repository's files, by tree.
fn all() -> Result<BTreeMap<String, Vec<String>>> {
    let phrases = list(&fs::read_to_string(LIST).context(LIST)?)?;
    let files = sh::output(std::process::Command::new("git").args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.md",
        "*.rs",
    ]))?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut read = 0;
    // The changelog of released versions is history, and the tests here quote phrases.
    let exempt = ["CHANGELOG.md", "xtask/src/phrases.rs"];
    for path in files.lines().filter(|path| !exempt.contains(path) && Path::new(path).exists()) {
        let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
        let blocks =
            if path.ends_with(".md") { prose::markdown(&text) } else { prose::rust(&text) };
        read += 1;
        let hits = hits(&phrases, &blocks);
        let lines = hits.iter().map(|hit| format!("{path}:{}: {}", hit.line, hit.text));
        found.entry(tree(path)).or_default().extend(lines);
    }
    if read < 50 {
        bail!("only {read} files were found: the phrases are looked for nowhere");
    }
    Ok(found)
}

/// The trees that have any of the phrases.
pub(crate) fn breaches() -> Result<Vec<String>> {
    Ok(in_trees(&all()?))
}

fn in_trees(found: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let with_hits = found.iter().filter(|(_, hits)| !hits.is_empty());
    let breach = |(tree, hits): (&String, &Vec<String>)| {
        format!("{tree}: has {} phrases of {LIST}:\n  {}", hits.len(), hits.join("\n  "))
    };
    with_hits.map(breach).collect()
}

/// Prints every phrase, and how many each tree has.
pub(crate) fn report() -> Result<()> {
    let found = all()?;
    for hit in found.values().flatten() {
        sh::print(&format!("{hit}\n"))?;
    }
    for (tree, hits) in &found {
        sh::print(&format!("{:5} {tree}\n", hits.len()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(phrase: &str, text: &str) -> Vec<usize> {
        let phrases = list(phrase).unwrap();
        hits(&phrases, &prose::markdown(text)).iter().map(|hit| hit.line).collect()
    }

    #[test]
    fn a_phrase_is_found_with_its_line_and_its_cure() {
        let phrases = list("# comment\n\nstand|stands behind => comes after\n").unwrap();
        let hits = hits(&phrases, &prose::markdown("One.\n\nA word stands\nbehind another.\n"));
        let [hit] = hits.as_slice() else { panic!("{hits:?}") };
        assert_eq!(hit.line, 3);
        assert!(hit.text.ends_with("write comes after"), "{hit:?}");
    }

    #[test]
    fn the_parts_of_a_phrase_match_what_the_list_says() {
        assert_eq!(found("beside => x", "Beside it, and beside.\n"), [1, 1]);
        assert_eq!(found("Of it => x", "part of it\n\nOf it"), [3]);
        assert_eq!(found("^ Of not:course => x", "It. Of course.\n\nIt; Of rules"), [3]);
        assert_eq!(found("tell* => x", "Telling, foretelling"), [1]);
        assert_eq!(found(", about . => x", "ten, about.\n\nit, about ten"), [1]);
        assert_eq!(
            found("^ What is ... , => x", "What is left out, counts.\n\nSay What is it,"),
            [1]
        );
    }

    #[test]
    fn code_links_and_longer_words_are_no_phrases() {
        assert!(
            found("beside => x", "`beside` [a](beside.md) besides\n\n```\nbeside\n```\n")
                .is_empty()
        );
    }

    #[test]
    fn every_phrase_of_a_tree_is_listed() {
        let hits = vec!["a/1: x".to_owned(), "a/2: y".to_owned()];
        let found = BTreeMap::from([("a".to_owned(), hits), ("b".to_owned(), Vec::new())]);
        let breaches = in_trees(&found);
        assert_eq!(breaches.len(), 1);
        assert!(breaches[0].contains("a: has 2 phrases") && breaches[0].contains("a/2: y"));
    }

    #[test]
    fn files_count_for_their_top_folder() {
        let trees =
            ["crates/web/src/lib.rs", "docs/adr/1.md", "docs/api.md", "README.md"].map(tree);
        assert_eq!(trees, ["crates", "docs", "docs", "README.md"]);
    }
}
