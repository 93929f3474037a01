//! The parameters of lists: the page, the order, the filter, and what is shown.

use fireflow_domain::error::Violations;
use fireflow_domain::filter::{Expression, Filter, Level};
use fireflow_domain::page::{
    Counting, DEFAULT_PAGE_SIZE, Direction, MAX_PAGE_DEPTH, MAX_PAGE_SIZE, PageRequest, SortKey,
    Start,
};
use fireflow_domain::sort::SortField;
use fireflow_domain::spelling::nearest;
use fireflow_domain::text::excerpt;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::expand::Depth;

use super::Query;
use crate::cursor;
use crate::selected::Fields;

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

/// Why the parameters of a list are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListError {
    /// Nothing is wrong except the cursor, which belongs to another list. The client can start
    /// again.
    BadCursor(Violations),
    /// Any other faults.
    Invalid(Violations),
}

impl Query {
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
                self.fault("per_page", "is another name for `page_size`; use only one of them");
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
                        "`{}` cannot order this list; {hint} {}",
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
                "`{}` can only order the list of one parent, or a list with a filter; for all \
                 parents, use {}",
                word(key.field),
                known.join(", ")
            );
            self.fault("order_by", detail);
        }
    }

    /// Whether deleted items are requested. Filters that use an index of live items, and embedding,
    /// cannot be combined with it.
    pub fn deleted(&mut self, as_lines: bool) -> bool {
        if !self.boolean("deleted") {
            return false;
        }
        for name in ONLY_OF_LIVE {
            if self.has(name) {
                self.fault(name, "cannot be combined with `deleted=true`; leave it out");
            }
        }
        if as_lines {
            self.fault("deleted", "is available as JSON only; leave `Accept` out");
        }
        true
    }

    /// Whether the whole list is requested, as lines. It has a fixed order.
    pub fn is_whole(&mut self, as_lines: bool) -> bool {
        let is_part = ["page", "page_size", "per_page", "cursor"].iter().any(|name| self.has(name));
        if !as_lines || is_part {
            return false;
        }
        if self.has("order_by") {
            let detail = "can only order pages; leave it out, or add a page_size";
            self.fault("order_by", detail);
        }
        true
    }

    /// Reports the faults in the parameters of a list.
    ///
    /// # Errors
    /// Returns the violations.
    pub fn finish_list(self) -> Result<(), ListError> {
        let is_cursor = self.has_bad_cursor && self.violations.items().len() == 1;
        let error = if is_cursor { ListError::BadCursor } else { ListError::Invalid };
        self.finish().map_err(error)
    }
}

#[cfg(test)]
mod tests {
    use fireflow_domain::store::RuleField;

    use super::*;

    fn faults(query: &str) -> Vec<String> {
        const NAMES: [&str; 8] = [
            "page",
            "page_size",
            "per_page",
            "order_by",
            "name",
            "priority",
            "cursor",
            "with_total",
        ];
        let mut open = Query::open(query, NAMES.into_iter());
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
        assert_eq!(faults("page=1&=2"), ["=2: has no parameter name"]);
        for bad in [
            "page=0",
            "page=99999999999999999999",
            "page=%D9%A3",
            "page=1%0A",
            "page=+1",
            "page=",
            "page",
            "=1",
            "=",
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
