//! Extracts the prose of a file: Markdown without code, or the comments and strings of Rust.

/// A word or a punctuation mark, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// The line's number, counted from 1.
    pub(crate) line: usize,
}

impl Token {
    /// Whether it is a word rather than a sign.
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(is_word_char)
    }

    /// Whether a sentence or a cell ends with it.
    pub(crate) fn ends_sentence(&self) -> bool {
        matches!(self.text.as_str(), "." | ";" | ":" | "!" | "?" | "|")
    }
}

/// What replaces code in a sentence: no phrase contains it.
const CODE: &str = "`";

fn is_word_char(it: char) -> bool {
    it.is_alphanumeric() || matches!(it, '_' | '\'' | '’' | '-')
}

/// Adds the words and signs of a line. Inline code becomes one sign, and link targets vanish.
fn tokens(line: &str, number: usize, out: &mut Vec<Token>) {
    let mut push = |text: &str| out.push(Token { text: text.to_owned(), line: number });
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if let Some(code) = rest.strip_prefix('`') {
            push(CODE);
            rest = code.split_once('`').map_or("", |(_, after)| after);
        } else if let Some(target) = rest.strip_prefix("](") {
            rest = target.split_once(')').map_or("", |(_, after)| after);
        } else if rest.starts_with("http://") || rest.starts_with("https://") {
            push(CODE);
            rest = rest.trim_start_matches(|it: char| !it.is_whitespace());
        } else if is_word_char(first) {
            let end = rest.find(|it| !is_word_char(it)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            push(word);
            rest = after;
        } else {
            if !first.is_whitespace() && !matches!(first, '*' | '[' | ']') {
                push(first.encode_utf8(&mut [0; 4]));
            }
            rest = rest.strip_prefix(first).unwrap_or_default();
        }
    }
}

/// Collects lines into blocks. A sentence can continue in the next line, but not in the next block.
#[derive(Debug, Default)]
struct Blocks {
    done: Vec<Vec<Token>>,
    open: Vec<Token>,
    is_code: bool,
}

impl Blocks {
    fn end(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    /// Adds a line of Markdown; its indentation is ignored.
    fn line(&mut self, line: &str, number: usize) {
        let line = line.trim();
        if line.starts_with("```") || line.starts_with("~~~") {
            self.is_code = !self.is_code;
            self.end();
            return;
        }
        let number_ends = line.trim_start_matches(|it: char| it.is_ascii_digit());
        let is_item = ["- ", "* ", "#", "|", ">"].iter().any(|mark| line.starts_with(mark))
            || number_ends.len() < line.len() && number_ends.starts_with(". ");
        if line.is_empty() || is_item {
            self.end();
        }
        if !self.is_code {
            tokens(line.trim_start_matches(['#', '-', '>']), number, &mut self.open);
        }
    }

    fn finish(mut self) -> Vec<Vec<Token>> {
        self.end();
        self.done
    }
}

/// The blocks of a Markdown file, without code.
pub(crate) fn markdown(text: &str) -> Vec<Vec<Token>> {
    let mut blocks = Blocks::default();
    for (index, line) in text.lines().enumerate() {
        blocks.line(line, index + 1);
    }
    blocks.finish()
}

/// The blocks of a Rust file: its comments, adjacent lines together, and its strings, one by one.
pub(crate) fn rust(text: &str) -> Vec<Vec<Token>> {
    let mut comments = Blocks::default();
    let mut strings = Vec::new();
    let (mut rest, mut number, mut last_comment) = (text, 1, 0);
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let line = rest.get(..end).unwrap_or_default();
            let before = text.get(..text.len() - rest.len()).unwrap_or_default();
            let is_alone = before.rsplit('\n').next().is_none_or(|code| code.trim().is_empty());
            if number != last_comment + 1 || !is_alone {
                comments.is_code = false;
                comments.end();
            }
            last_comment = number;
            comments.line(line.trim_start_matches(['/', '!']), number);
            end
        } else if first == '"' {
            let end = string_end(rest);
            strings.push(string(rest.get(1..end).unwrap_or_default(), number));
            end + 1
        } else if let Some(hashes) = raw_hashes(text, rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            let body = rest.get(start..).unwrap_or_default();
            let end = body.find(&close).unwrap_or(body.len());
            strings.push(string(body.get(..end).unwrap_or_default(), number));
            start + end + close.len()
        } else if first == '\'' {
            char_length(rest)
        } else {
            first.len_utf8()
        };
        let (passed, after) = rest.split_at(length.min(rest.len()));
        number += passed.matches('\n').count();
        rest = after;
    }
    let mut blocks = comments.finish();
    blocks.append(&mut strings);
    blocks
}

/// The end of a string that begins here: the place of its last quotation mark.
fn string_end(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, it) in text.char_indices().skip(1) {
        match it {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at,
            _ => {}
        }
    }
    text.len()
}

/// The number of `#` if a raw string begins here; an `r` at the end of a word begins none.
fn raw_hashes(text: &str, rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('r')?;
    let before = text.get(..text.len() - rest.len())?.chars().next_back();
    let is_in_word = before.is_some_and(|it| it != 'b' && is_word_char(it));
    let after = body.trim_start_matches('#');
    (!is_in_word && after.starts_with('"')).then(|| body.len() - after.len())
}

/// The length of a character, or 1 if a lifetime begins here.
fn char_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => {
            chars.find(|(_, it)| *it == '\'').map_or(text.len(), |(end, _)| end + 1)
        }
        (Some(_), Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

/// The words of a string: an escape or a placeholder is a sign, a line that goes on is one text.
fn string(body: &str, number: usize) -> Vec<Token> {
    let mut out = Vec::new();
    for (index, line) in body.split('\n').enumerate() {
        let line = line.replace("\\n", " | ").replace("\\\"", "\"");
        tokens(line.trim_end_matches('\\'), number + index, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(blocks: &[Vec<Token>]) -> Vec<String> {
        let text = |tokens: &Vec<Token>| {
            tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
        };
        blocks.iter().map(text).collect()
    }

    #[test]
    fn markdown_is_read_by_paragraphs_items_and_rows() {
        let text = "# A title\n\nOne\ntwo `code` [three](four.md).\n- an item\n1. another\n\
                    ```sh\nhidden\n```\n| a | b |\n";
        let blocks = markdown(text);
        assert_eq!(
            shown(&blocks),
            ["A title", "One two ` three .", "an item", "1 . another", "| a | b |"]
        );
        assert_eq!(blocks[1].iter().map(|it| it.line).collect::<Vec<_>>(), [3, 4, 4, 4, 4]);
    }

    #[test]
    fn comments_and_strings_of_rust_are_read_and_code_is_not() {
        let text = "/// A doc\n/// comment.\nfn f<'a>(it: &'a str) -> char { '\"' } // why\n\
                    const A: &str = \"a \\\"quoted\\\" \\\n    text\";\n\
                    const B: &str = r#\"raw \"one\" // no comment\"#;\nlet c = '\\'';\nvar(\"x\");\n";
        let blocks = rust(text);
        assert_eq!(
            shown(&blocks),
            ["A doc comment .", "why", "a \" quoted \" text", "raw \" one \" / / no comment", "x"]
        );
        assert_eq!(blocks[2].last().map(|it| it.line), Some(5));
        assert_eq!(blocks[4].first().map(|it| it.line), Some(8));
    }
}
