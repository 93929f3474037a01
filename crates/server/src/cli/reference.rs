//! The documentation pages that are generated from the code: settings and errors.

use clap::ValueEnum;
use fireflow_web::Code;

use crate::settings::{DefaultText, SETTINGS};

/// One of the pages.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Page {
    /// Every setting.
    Configuration,
    /// Every error.
    Errors,
}

/// The page as Markdown.
pub(super) fn page(page: Page) -> String {
    let mut lines: Vec<String> = Vec::new();
    match page {
        Page::Configuration => {
            lines.push(CONFIGURATION.to_owned());
            for setting in SETTINGS {
                let default = match setting.default {
                    DefaultText::Nothing => "none".to_owned(),
                    DefaultText::Words(words) => words.to_owned(),
                    value => format!("`{value}`"),
                };
                let mut about = setting.about.to_owned();
                if setting.is_secret() {
                    about.push_str(&format!("; or from a file: `{}_FILE`", setting.variable));
                }
                if let Some(alias) = setting.alias {
                    about.push_str(&format!("; also `{alias}`"));
                }
                let (variable, key) = (setting.variable, setting.key);
                lines.push(format!("| `{variable}` | `{key}` | {default} | {about} |"));
            }
        }
        Page::Errors => {
            lines.push(ERRORS.to_owned());
            for code in Code::ALL {
                lines.push(format!(
                    "| `{}` | {} | {} | {} |",
                    code.as_str(),
                    code.status().as_u16(),
                    code.title(),
                    code.advice()
                ));
            }
        }
    }
    lines.join("\n")
}

const CONFIGURATION: &str = "\
# Settings

<!-- Generated from the code by `cargo xtask reference`: change the \
rows in crates/server/src/settings. -->

Environment variables override `fireflow.toml` (or `--config FILE`), which overrides the defaults. \
FireFlow does not start if the file has an unknown key, if a value is invalid (the message gives the \
valid ones), or if a variable is not valid UTF-8. An unknown variable only causes a warning. An \
empty value counts as not set, but is refused for the environment, the database URLs, tokens and \
TLS. Durations have the form `30s`, `5m`, `24h` or `30d`.

| Variable | Key in the file | Default | What it is |
|---|---|---|---|";

const ERRORS: &str = "\
# Errors

<!-- Generated from the code by `cargo xtask reference`: change crates/web/src/problem.rs. -->

Every error is a problem (RFC 9457, `application/problem+json`): `type` is `urn:fireflow:problem:` \
and the code, `title` is a short summary, `status` is the HTTP status, `detail` describes this \
occurrence, and `instance` is the request's id, as in `X-Request-Id` and in the log. Branch on \
`code`: the list of codes is closed, but texts may change.

`errors` lists everything that is wrong with a request. Each entry has a `pointer` (a JSON pointer \
into the body) or a `parameter` (a query parameter or a header), and a `detail` that explains what \
would be right. An entry that programs can react to has a `code` from the same list. If two parts of \
a request conflict, `conflicts_with` is the pointer of the other part in the body. If the other part \
is stored, `existing_id` is its id.

| Code | Status | Title | What to do |
|---|---|---|---|";
