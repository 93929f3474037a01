//! Query parameters: all are read at once, and all faults are collected.

mod packet;
mod table;

use std::fmt::Display;

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::filter::{Expression, Filter, Level};
use fireflow_domain::ids::RuleId;
use fireflow_domain::page::{
    Counting, DEFAULT_PAGE_SIZE, Direction, MAX_PAGE_DEPTH, MAX_PAGE_SIZE, PageRequest, SortKey,
    Start,
};
use fireflow_domain::rule::order::Placement;
use fireflow_domain::sort::SortField;
use fireflow_domain::spelling::nearest;
use fireflow_domain::text::excerpt;
use fireflow_domain::time::Instant;
use fireflow_formats::read_only::ReadOnly;
use fireflow_formats::selected::Fields;
use fireflow_service::cursor;
use percent_encoding::percent_decode_str;
use poem::{FromRequest, Request, RequestBody};

use crate::app::Context;
use crate::dto::expansion::Depth;
use crate::dto::lines::LineFormat;
use crate::operation::Operation;
use crate::pagination::ListAddress;
use crate::problem::{Code, Problem};

pub use self::packet::packet_from_query;
pub use self::table::*;

/// Parameters that do not affect the content of a list, or that the scope of its cursors contains
/// in another form.
const NOT_OF_A_LIST: [&str; 8] =
    ["page", "page_size", "per_page", "cursor", "with_total", "fields", "expand", "filter"];

/// Parameters that cannot be combined with `deleted`.
const ONLY_OF_LIVE: [&str; 7] = [
    "filter",
    "expand",
    "source_address",
    "source_port",
    "destination_address",
    "destination_port",
    "port",
];

/// The query string of a request, not yet parsed, and the path in front of it, as the client sent
/// them.
#[derive(Debug, Clone)]
pub struct QueryString {
    path: String,
    text: String,
}

impl<'a> FromRequest<'a> for QueryString {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        // Routing has removed the base path and the trailing slash.
        let path = format!("/{}/", request.uri().path().trim_matches('/'));
        let context = request.extensions().get::<Context>();
        let path = context.map_or(path.clone(), |context| context.path(format_args!("{path}")));
        Ok(Self { path, text: query })
    }
}

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

impl QueryString {
    /// The query string as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address of the request, as the client sees it.
    #[must_use]
    pub fn requested(&self) -> String {
        let Self { path, text } = self;
        if text.is_empty() { path.clone() } else { format!("{path}?{text}") }
    }

    /// The address of the requested list, without the parameters that select a part of it.
    #[must_use]
    pub fn address(&self) -> ListAddress {
        ListAddress::new(&self.path, &self.text)
    }

    /// Splits and decodes the query, and checks the names against the operation's row. Unknown
    /// and repeated parameters are faults, because a misspelt filter must not return everything.
    #[must_use]
    pub fn open(&self, operation: &Operation) -> Query {
        let mut query =
            Query { values: Vec::new(), violations: Violations::new(), has_bad_cursor: false };
        for pair in self.text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                query.fault(&excerpt(pair), "is not percent-encoded UTF-8");
                continue;
            };
            let names = operation.parameters().map(|param| param.name);
            if !names.clone().any(|known| known == name) {
                query.violations.note(|| Violation::query(excerpt(&name), unknown(&name, names)));
            } else if query.values.iter().any(|(known, _)| *known == name) {
                query.fault(&name, "is given more than once");
            } else {
                query.values.push((name, value));
            }
        }
        query
    }
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

    /// How deep the children of firewalls are embedded.
    pub fn expand_firewalls(&mut self) -> Option<Depth> {
        let words =
            [("filtering_policies", Depth::Policies), ("filtering_policies.rules", Depth::Rules)];
        self.word("expand", &words)
    }

    /// Whether the rules of policies are embedded.
    pub fn expand_policies(&mut self) -> bool {
        self.word("expand", &[("rules", ())]).is_some()
    }

    /// How the read-only members of a new resource are handled.
    pub fn read_only(&mut self) -> ReadOnly {
        self.word("read_only", &[("ignore", ReadOnly::Ignore)]).unwrap_or_default()
    }

    /// The place of a rule: at most one of `before`, `after` and `at`.
    pub fn placement(&mut self) -> Option<Placement> {
        let id = |text: &str| {
            RuleId::parse(text).ok_or_else(|| format!("`{}` is not an id", excerpt(text)))
        };
        let before = self.parse("before", id).map(Placement::Before);
        let after = self.parse("after", id).map(Placement::After);
        let at = self.word("at", &[("first", Placement::First), ("last", Placement::Last)]);
        let given = [("before", before), ("after", after), ("at", at)];
        let mut placements =
            given.into_iter().filter_map(|(name, it)| it.map(|placement| (name, placement)));
        let (_, placement) = placements.next()?;
        if let Some((name, _)) = placements.next() {
            self.fault(
                name,
                "cannot be combined with another place; use one of before, after and \
                              at",
            );
        }
        Some(placement)
    }

    /// Whether deleted items are requested. Filters that use an index of live items, and embedding,
    /// cannot be combined with it.
    pub fn deleted(&mut self, format: Option<LineFormat>) -> bool {
        if !self.boolean("deleted") {
            return false;
        }
        for name in ONLY_OF_LIVE {
            if self.has(name) {
                self.fault(name, "cannot be combined with `deleted=true`; leave it out");
            }
        }
        if format.is_some() {
            self.fault("deleted", "is available as JSON only; leave `Accept` out");
        }
        true
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

    /// What cursors of a list belong to, and which part of it is asked for. What depends on the clock
    /// is asked at one time on all pages of a cursor: that of the first one, which the cursor keeps.
    pub fn part<F: SortField>(
        &mut self,
        list: &str,
        expression: &mut Option<Expression>,
        order: &[SortKey<F>],
        now: Instant,
    ) -> (String, PageRequest) {
        let is_timed = order.iter().any(|key| key.field.depends_on_clock())
            || expression.as_ref().is_some_and(|it| it.filter.depends_on_clock());
        let scope = self.scope(list, expression.as_ref());
        let request = self.page(&scope, order, is_timed.then_some(now));
        if let (Some(expression), Some(at)) = (expression, request.at) {
            expression.at = at;
        }
        (scope, request)
    }

    /// The requested page of an ordered list, by number or by cursor.
    fn page<F: SortField>(
        &mut self,
        scope: &str,
        order: &[SortKey<F>],
        at: Option<Instant>,
    ) -> PageRequest {
        let number = self.integer("page", 1, i64::from(u32::MAX));
        // Answers contain both names.
        let name = match (self.has("page_size"), self.has("per_page")) {
            (true, true) => {
                self.fault("per_page", "is another name of `page_size`; use one of them");
                "page_size"
            }
            (false, true) => "per_page",
            (_, false) => "page_size",
        };
        let size = self.integer(name, 1, i64::from(MAX_PAGE_SIZE));
        let [number, size] = [(number, 1), (size, DEFAULT_PAGE_SIZE)]
            .map(|(given, default)| given.and_then(|it| u32::try_from(it).ok()).unwrap_or(default));
        let request = match self.raw("cursor").map(str::to_owned) {
            Some(cursor) => {
                if self.has("page") {
                    self.fault("cursor", "cannot be combined with `page`");
                }
                self.behind(&cursor, scope, order, size, at)
            }
            None => {
                let request = PageRequest::new(number, size);
                if request.is_none() {
                    let detail = format!(
                        "page {number} of {size} items is beyond the first {MAX_PAGE_DEPTH} \
                         items; continue with `cursor`, or narrow the list with a filter"
                    );
                    self.fault("page", detail);
                }
                request
            }
        };
        let mut request = request.unwrap_or(PageRequest::first());
        request.at = match request.start() {
            Start::Behind(position) => position.at,
            Start::Page(_) | Start::First => at,
        };
        if self.has("with_total") {
            let all = self.boolean("with_total");
            request.counting = if all { Counting::Exact } else { Counting::Skipped };
        }
        request
    }

    /// The page that follows a cursor. An empty cursor is the beginning of the list.
    fn behind<F: SortField>(
        &mut self,
        cursor: &str,
        scope: &str,
        order: &[SortKey<F>],
        size: u32,
        at: Option<Instant>,
    ) -> Option<PageRequest> {
        if cursor.is_empty() {
            return PageRequest::behind(None, size);
        }
        let position = cursor::decode(scope, cursor).filter(|position| {
            position.at.is_some() == at.is_some()
                && position.values.len() == order.len()
                && order.iter().zip(&position.values).all(|(key, value)| key.field.takes(value))
        });
        if position.is_none() {
            self.has_bad_cursor = true;
            let detail = "is not a cursor of this list, filter and order; start again with an \
                          empty cursor, and send `next_cursor` unchanged";
            self.fault("cursor", detail);
            return None;
        }
        PageRequest::behind(position, size)
    }

    /// The expression of the filter language, evaluated at an instant.
    pub fn expression(&mut self, level: Level, at: Instant) -> Option<Expression> {
        let filter = self.parse("filter", |text| Filter::parse(level, text))?;
        Some(Expression { filter, at })
    }

    /// What a cursor belongs to: a list, and all parameters that decide what is in it and in which
    /// order. The filter counts by its meaning, not by its spelling.
    fn scope(&self, list: &str, expression: Option<&Expression>) -> String {
        let mut values: Vec<String> = self
            .values
            .iter()
            .filter(|(name, _)| !NOT_OF_A_LIST.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        values.sort();
        values.extend(expression.map(|expression| format!("filter={}", expression.filter)));
        format!("{list}\n{}", values.join("\n"))
    }

    /// The requested order.
    pub fn order<F: Copy + PartialEq>(
        &mut self,
        parse: impl Fn(&str) -> Option<F>,
        words: &[&'static str],
    ) -> Vec<SortKey<F>> {
        let Some(text) = self.raw("order_by").map(str::to_owned) else { return Vec::new() };
        let mut keys: Vec<SortKey<F>> = Vec::new();
        for word in text.split(',') {
            let (word, direction) = match word.strip_prefix('-') {
                Some(word) => (word, Direction::Descending),
                None => (word, Direction::Ascending),
            };
            match parse(word) {
                // A suggestion costs more than parsing the word, so only faults that are shown get
                // one.
                None if !self.violations.has_room() => self.violations.count(1),
                None => {
                    let hint = match nearest(word, words.iter().copied()) {
                        Some(meant) => format!("did you mean `{meant}`? The fields are"),
                        None => "the fields are".to_owned(),
                    };
                    let detail = format!(
                        "`{}` is not a field that orders this list; {hint} {}",
                        excerpt(word),
                        words.join(", ")
                    );
                    self.fault("order_by", detail);
                }
                Some(field) if keys.iter().any(|key| key.field == field) => {
                    self.fault("order_by", format!("duplicate `{word}`"));
                }
                Some(field) => keys.push(SortKey { field, direction }),
            }
        }
        keys
    }

    /// The requested members of the answer.
    pub fn fields(&mut self, known: &'static [&'static str]) -> Option<Fields> {
        let text = self.raw("fields")?.to_owned();
        let mut fields = Vec::new();
        for word in text.split(',') {
            match known.iter().find(|name| **name == word) {
                None if !self.violations.has_room() => self.violations.count(1),
                None => {
                    let hint = match nearest(word, known.iter().copied()) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("known are {}", known.join(", ")),
                    };
                    self.fault("fields", format!("`{}` is not a member; {hint}", excerpt(word)));
                }
                Some(name) if fields.contains(name) => {
                    self.fault("fields", format!("duplicate `{word}`"));
                }
                Some(name) => fields.push(name),
            }
        }
        Some(Fields::new(fields))
    }

    /// Refuses order fields that only the list of one parent supports. Across all parents, they
    /// would sort the whole table.
    pub fn only_ordered_by<F: Copy + PartialEq>(
        &mut self,
        keys: &[SortKey<F>],
        allowed: &[F],
        word: impl Fn(F) -> &'static str,
    ) {
        for key in keys.iter().filter(|key| !allowed.contains(&key.field)) {
            let known: Vec<&str> = allowed.iter().map(|field| word(*field)).collect();
            let detail = format!(
                "`{}` orders the list of one parent, or one with a filter; across all use {}",
                word(key.field),
                known.join(", ")
            );
            self.fault("order_by", detail);
        }
    }

    /// Whether the whole list is requested, as lines. It has a fixed order.
    pub fn is_whole(&mut self, format: Option<LineFormat>) -> bool {
        let is_part = ["page", "page_size", "per_page", "cursor"].iter().any(|name| self.has(name));
        if format.is_none() || is_part {
            return false;
        }
        if self.has("order_by") {
            let detail = "orders the pages of a list; leave it out, or add a page_size";
            self.fault("order_by", detail);
        }
        true
    }

    /// Notes a fault if a required parameter is missing.
    pub fn missing(&mut self, name: &str) {
        if !self.has(name) {
            self.fault(name, "is required");
        }
    }

    /// Reports the faults in the parameters of a list. A bad cursor without other faults has its
    /// own code, so that clients can start again.
    ///
    /// # Errors
    /// Returns the violations.
    pub fn finish_list(self) -> Result<(), Problem> {
        let is_cursor = self.has_bad_cursor && self.violations.items().len() == 1;
        self.finish().map_err(|violations| {
            let problem = Problem::invalid(&violations);
            if is_cursor { Problem { code: Code::BadCursor, ..problem } } else { problem }
        })
    }

    /// Reports all faults.
    ///
    /// # Errors
    /// Returns the violations.
    pub fn finish(self) -> Result<(), Violations> {
        self.violations.into_result(|| ())
    }
}

#[cfg(test)]
mod tests {
    use fireflow_domain::store::RuleField;

    use super::*;

    fn faults(query: &str) -> Vec<String> {
        const PRIORITY: Param =
            param("priority", ParamKind::Integer(i32::MIN as i64, i32::MAX as i64), "");
        const OWN: &[Param] = &[order_by(RuleField::WORDS), NAME, PRIORITY];
        const LIST: Operation = Operation::reads("getRules").lists(OWN, CURSOR_OR_DELETED);
        let mut open = QueryString { path: String::new(), text: query.to_owned() }.open(&LIST);
        open.integer("priority", i64::from(i32::MIN), i64::from(i32::MAX));
        let order = open.order(RuleField::parse, RuleField::WORDS);
        open.page("rules", &order, None);
        match open.finish() {
            Ok(()) => Vec::new(),
            Err(violations) => violations.items().iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn all_that_is_wrong_comes_at_once_and_nothing_is_dropped() {
        assert!(faults("").is_empty() && faults("&").is_empty());
        assert!(faults("page=2&page_size=1000&order_by=-priority,name&priority=-5").is_empty());
        assert_eq!(faults("pgae=1&page=1&page=2").len(), 2);
        assert!(faults("pgae=1")[0].contains("did you mean `page`?"));
        for bad in [
            "page=0",
            "page=99999999999999999999",
            "page=%D9%A3",
            "page=1%0A",
            "page=+1",
            "page=",
            "page",
            "page_size=1001",
            "page=101&page_size=1000",
            "cursor=x",
            "cursor=&page=1",
            "with_total=yes",
            "priority=1e30",
            "priority=2147483648",
            "priority=0x1",
            "name=%FF",
            "order_by=",
            "order_by=name,name",
            "order_by=nmae",
            "order_by=--name",
        ] {
            assert_eq!(faults(bad).len(), 1, "{bad}: {:?}", faults(bad));
        }
    }
}
