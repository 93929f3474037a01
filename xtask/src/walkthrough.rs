//! Runs the commands of the README and of the first hour: every `sh` block, in one shell. The
//! output of a block's last command must be what the `json` block after it shows.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::postgres::Server;
use crate::sh;

/// The documents, which are read as one text.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/getting-started.md"];
const MARK: &str = "=== block ";

/// Runs the documents' commands on both databases.
pub(crate) fn walkthrough(server: &Server, may_install: bool) -> Result<()> {
    if !sh::answers("curl", "--version") {
        if !may_install {
            bail!("the README needs curl: install the package curl");
        }
        sh::apt_install(&["curl"])?;
    }
    let mut text = String::new();
    for document in DOCUMENTS {
        text.push_str(&fs::read_to_string(document).with_context(|| document.to_owned())?);
    }
    let folder = sh::empty_folder("walkthrough")?;
    for (name, url) in [("sqlite", None), ("postgres", Some(server.url()))] {
        sh::say(&format!("{} on {name}", DOCUMENTS.join(" and ")));
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let url =
            url.map_or_else(|| format!("sqlite://{}/fireflow.db", folder.display()), str::to_owned);
        walk(&text, &folder, &url)?;
    }
    Ok(())
}

fn walk(text: &str, folder: &Path, database_url: &str) -> Result<()> {
    // The port stays free until the service binds it, because the system assigns such ports in
    // turn.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let blocks = blocks(&text.replace("localhost:8080", &address));
    let (script, answers) = script(&blocks, &address);
    let script_file = folder.join("script.sh");
    fs::write(&script_file, script)?;
    let log = fs::File::create(folder.join("errors.txt"))?;
    let mut command = Command::new("sh");
    sh::without_settings(&mut command);
    let output = command
        .arg(&script_file)
        .env("FIREFLOW_DATABASE_URL", database_url)
        .env("FIREFLOW_LISTEN", &address)
        .stdin(Stdio::null())
        .stderr(log)
        .output()
        .context("sh")?;
    let printed = String::from_utf8(output.stdout)?;
    fs::write(folder.join("output.txt"), &printed)?;
    if !output.status.success() {
        bail!("a command failed; see {}", folder.display());
    }
    if answers.is_empty() {
        bail!("no block has an answer");
    }
    let mut wrong = Vec::new();
    for (block, expected) in answers {
        let mark = format!("{MARK}{block}\n");
        let after = printed.split_once(&mark).context("a block was not run")?.1;
        let own = after.split(MARK).next().unwrap_or_default();
        let last = own.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        if !is_like(last, &expected) {
            wrong.push(format!("the documents promise\n{expected}\nbut the answer was\n{last}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n\n")) }
}

/// The fenced blocks: the word after the opening fence, and the lines.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((kind.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// One script with all `sh` blocks, and the expected answers by block.
fn script(blocks: &[(String, String)], address: &str) -> (String, Vec<(usize, String)>) {
    let mut script = String::from(
        "set -eu\ntrap 'test -z \"${SERVICE-}\" || kill \"$SERVICE\"' EXIT\n\
         cargo run --quiet -- migrate reset >&2\n\
         # Answers have no line end.\n\
         curl() { command curl \"$@\"; echo; }\n",
    );
    let mut answers = Vec::new();
    let mut last = 0;
    for (index, (kind, block)) in blocks.iter().enumerate() {
        match kind.as_str() {
            "sh" => {
                last = index;
                script.push_str(&format!("echo; echo '{MARK}{index}'\n"));
                for line in block.lines() {
                    if line.split('#').next().is_some_and(|it| it.trim() == "cargo run") {
                        // It keeps running in the background; a reader would open another terminal.
                        script.push_str(&format!(
                            "cargo run --quiet >&2 &\nSERVICE=$!\n\
                             curl -s --retry 120 --retry-delay 1 --retry-all-errors \
                             http://{address}/health/ready >&2\n"
                        ));
                    } else {
                        script.push_str(line);
                        script.push('\n');
                    }
                }
            }
            "json" => answers.push((last, block.trim().to_owned())),
            _ => {}
        }
    }
    (script, answers)
}

/// Whether an answer is what a document shows. In the document, `…` matches any text; white space
/// is ignored.
fn is_like(answer: &str, shown: &str) -> bool {
    let bare = |text: &str| -> String { text.split_whitespace().collect() };
    let (answer, shown) = (bare(answer), bare(shown));
    let Some((first, others)) = shown.split_once('…') else { return answer == shown };
    let (between, last) = others.rsplit_once('…').unwrap_or(("", others));
    let Some(mut rest) = answer.strip_prefix(first) else { return false };
    for part in between.split('…') {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_anything_and_nothing_else_does() {
        let answer = r#"{"a":1,"b":{"id":2,"x":[1,2]},"c":3}"#;
        for shown in
            [answer, "{…}", r#"{"a": 1, … "c": 3}"#, r#"{"a":1,"b":{"id":2,…},…}"#, "{…", "…3}"]
        {
            assert!(is_like(answer, shown), "{shown}");
        }
        for shown in [r#"{"a": 2, …}"#, r#"{… "x": [2] …}"#, r#"{"c":3, …}"#, "{", ""] {
            assert!(!is_like(answer, shown), "{shown}");
        }
    }
}
