//! Query parameters: all are read at once, and all faults are collected.

mod list;
mod packet;
mod rule_list;

use std::fmt::Display;

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::RuleId;
use fireflow_domain::rule::order::Placement;
use fireflow_domain::spelling::nearest;
use fireflow_domain::text::excerpt;
use fireflow_domain::time::Instant;
use percent_encoding::percent_decode_str;

use crate::read_only::ReadOnly;

pub use list::ListError;
pub use packet::{given_packet, packet, packet_parts};
pub use rule_list::RuleListQuery;

/// Parameters of other products, and their equivalents here.
const ELSEWHERE: [(&str, &str); 12] = [
    ("limit", "page_size"),
    ("size", "page_size"),
    ("count", "page_size"),
    ("offset", "cursor"),
    ("skip", "cursor"),
    ("page_token", "cursor"),
    ("sort", "order_by"),
    ("sort_by", "order_by"),
    ("q", "filter"),
    ("query", "filter"),
    ("search", "filter"),
    ("state", "filter=state = active"),
];

/// Reads parameters, and collects all their faults.
#[derive(Debug)]
pub struct Query {
    values: Vec<(String, String)>,
    violations: Violations,
    has_bad_cursor: bool,
}

fn decode(text: &str) -> Option<String> {
    // Most texts need no decoding.
    if !text.contains(['+', '%']) {
        return Some(text.to_owned());
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned())
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, ours)| *ours);
    let is_known = |ours: &&str| {
        let parameter = ours.split('=').next();
        known.clone().any(|known| Some(known) == parameter)
    };
    match elsewhere.filter(is_known).or_else(|| nearest(name, known.clone())) {
        Some(meant) => format!("is not a parameter of this operation; did you mean `{meant}`?"),
        None => "is not a parameter of this operation".to_owned(),
    }
}

impl Query {
    /// Splits and decodes a query string, and checks the names against those that the operation
    /// takes. Unknown and repeated parameters are faults, because a misspelt filter must not return
    /// everything.
    #[must_use]
    pub fn open<'a>(text: &str, names: impl Iterator<Item = &'a str> + Clone) -> Self {
        let mut query =
            Self { values: Vec::new(), violations: Violations::new(), has_bad_cursor: false };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                query.fault(&excerpt(pair), "is not percent-encoded UTF-8");
                continue;
            };
            let mut known = names.clone();
            if name.is_empty() {
                query.fault(&excerpt(pair), "has no parameter name");
            } else if !known.any(|known| known == name) {
                let detail = || unknown(&name, names.clone());
                query.violations.note(|| Violation::query(excerpt(&name), detail()));
            } else if query.values.iter().any(|(known, _)| *known == name) {
                query.fault(&name, "is given more than once");
            } else {
                query.values.push((name, value));
            }
        }
        query
    }

    fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.violations.note(|| Violation::query(name, detail));
    }

    fn raw(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A parameter, parsed by the domain.
    pub fn parse<T, E: Display>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let read = read(self.raw(name)?).map_err(|error| error.to_string());
        read.map_err(|detail| self.fault(name, detail)).ok()
    }

    /// An instant. In a query, `+` means a space; if that broke the offset, the message explains
    /// it.
    pub fn instant(&mut self, name: &str) -> Option<Instant> {
        self.parse(name, |text| {
            Instant::parse(text).map_err(|error| match Instant::parse(&text.replace(' ', "+")) {
                Ok(_) => "has a space for the `+` of its offset: write `+` as `%2B`".to_owned(),
                Err(_) => error.to_string(),
            })
        })
    }

    /// An integer within bounds: ASCII digits, optionally with a minus sign.
    pub fn integer(&mut self, name: &str, min: i64, max: i64) -> Option<i64> {
        self.parse(name, |text| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|number| is_number && (min..=max).contains(number))
                .ok_or_else(|| format!("`{}` is not an integer from {min} to {max}", excerpt(text)))
        })
    }

    /// `true` or `false`; omitted: false.
    pub fn boolean(&mut self, name: &str) -> bool {
        let read = |text: &str| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(format!("`{}` is neither `true` nor `false`", excerpt(other))),
        };
        self.parse(name, read).unwrap_or(false)
    }

    /// Words separated by commas, each of which `read` reads. `what` names what they may be.
    pub fn words<T, C: FromIterator<T>>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
        what: &str,
    ) -> Option<C> {
        self.parse(name, |text| {
            let word =
                |word: &str| read(word).ok_or_else(|| format!("`{}` is not {what}", excerpt(word)));
            text.split(',').map(word).collect::<Result<C, String>>()
        })
    }

    /// One of the given words.
    pub fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        self.parse(name, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(
                || {
                    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                    format!("must be `{}` or be left out", known.join("` or `"))
                },
            )
        })
    }

    /// A text of at most this many characters, without control characters.
    pub fn text(&mut self, name: &str, max: usize) -> Option<String> {
        self.parse(name, |text| {
            let chars = text.chars().count();
            if (1..=max).contains(&chars) && !text.chars().any(char::is_control) {
                Ok(text.to_owned())
            } else {
                Err(format!("must have 1 to {max} characters, and no control characters"))
            }
        })
    }

    /// Notes a fault if a required parameter is missing.
    pub fn missing(&mut self, name: &str) {
        if !self.has(name) {
            self.fault(name, "is required");
        }
    }

    /// How the read-only members of a new resource are handled.
    pub fn read_only(&mut self) -> ReadOnly {
        self.word("read_only", &[("ignore", ReadOnly::Ignore)]).unwrap_or_default()
    }

    /// The id of a rule.
    pub fn rule_id(&mut self, name: &str) -> Option<RuleId> {
        self.parse(name, |text| {
            RuleId::parse(text).ok_or_else(|| format!("`{}` is not an id", excerpt(text)))
        })
    }

    /// The place of a rule: at most one of `before`, `after` and `at`.
    pub fn placement(&mut self) -> Option<Placement> {
        let before = self.rule_id("before").map(Placement::Before);
        let after = self.rule_id("after").map(Placement::After);
        let at = self.word("at", &[("first", Placement::First), ("last", Placement::Last)]);
        let given = [("before", before), ("after", after), ("at", at)];
        let mut placements =
            given.into_iter().filter_map(|(name, it)| it.map(|placement| (name, placement)));
        let (_, placement) = placements.next()?;
        if let Some((name, _)) = placements.next() {
            self.fault(
                name,
                "cannot be combined with another position; use only one of before, after and at",
            );
        }
        Some(placement)
    }

    /// Reports all faults.
    ///
    /// # Errors
    /// Returns the violations.
    pub fn finish(self) -> Result<(), Violations> {
        self.violations.into_result(|| ())
    }
}
