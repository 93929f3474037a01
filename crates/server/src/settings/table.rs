//! All settings, in the order of help and documentation.

use std::fmt::Write;
use std::iter::{Copied, Flatten};
use std::slice::Iter;

use super::row::{DefaultText, Setting};
use super::{analysis, database, http, memory, policies, start, telemetry, tls, tokens};

/// Settings, in sections.
#[derive(Debug, Clone, Copy)]
pub struct Table(&'static [&'static [Setting]]);

/// Every setting.
pub const SETTINGS: Table = Table(&[
    start::START_SECTION,
    database::LOCATION,
    database::USE,
    database::MIGRATION,
    tokens::TOKENS_SECTION,
    http::REQUESTS,
    memory::MEMORY_SECTION,
    analysis::ANALYSIS_SECTION,
    http::CONNECTIONS,
    tls::TLS_SECTION,
    policies::LIMITS_SECTION,
    policies::POLICIES_SECTION,
    http::PATHS,
    telemetry::TELEMETRY_SECTION,
]);

impl IntoIterator for Table {
    type Item = &'static Setting;
    type IntoIter = Flatten<Copied<Iter<'static, &'static [Setting]>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().copied().flatten()
    }
}

/// What `--help` says of settings: those that a first start may need.
pub(crate) const SHORT_HELP: &str = "\
Settings are environment variables, or keys of fireflow.toml. The most important ones:
  FIREFLOW_LISTEN        address and port [default: 127.0.0.1:8080]
  FIREFLOW_DATABASE_URL  sqlite://FILE or postgres://… [default: sqlite://fireflow.db]
  FIREFLOW_ENVIRONMENT   local, staging or production [default: local]
  FIREFLOW_JWT_SECRET    the secret that signs tokens [default: generated in `local`]
`fireflow --help settings` lists all of them.";

/// All settings, as `--help settings` lists them.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "The environment takes precedence over fireflow.toml (or --config FILE), and the file over \
         defaults.\nIn the file, keys are nested: FIREFLOW_HTTP__BASE_PATH is `base_path` below [http].\n",
    );
    for setting in SETTINGS {
        let Setting { variable, default, about, .. } = setting;
        let default = match default {
            DefaultText::Nothing => String::new(),
            default => format!(" [default: {default}]"),
        };
        let file = if setting.is_secret() {
            format!("\n      or from a file: {variable}_FILE")
        } else {
            String::new()
        };
        // Writing to a string cannot fail.
        let _written = write!(text, "\n  {variable}{default}\n      {about}{file}").is_ok();
    }
    text
}
