//! Where a page is in its list, as headers.

use std::fmt::Write as _;

use fireflow_domain::page::{Page, Total};
use fireflow_service::cursor;
use serde_json::{Map, Value, json};

/// The longest `Link`, in bytes. Proxies take few kilobytes of headers, and a filter that is repeated
/// in four addresses is long. `next` is kept as long as it fits alone.
const MAX_LINK_BYTES: usize = 2_048;

/// The address of a list, without what says which part of it is asked for.
#[derive(Debug, Clone)]
pub struct ListAddress {
    /// The path, as clients see it.
    path: String,
    /// All parameters but `page` and `cursor`, as they were written.
    query: String,
}

impl ListAddress {
    /// Of a request.
    #[must_use]
    pub fn new(path: &str, query: &str) -> Self {
        let stays = |pair: &&str| !matches!(pair.split('=').next(), Some("page" | "cursor" | ""));
        let query: Vec<&str> = query.split('&').filter(stays).collect();
        Self { path: path.to_owned(), query: query.join("&") }
    }

    fn with(&self, name: &str, value: &str) -> String {
        let Self { path, query } = self;
        let and = if query.is_empty() { "" } else { "&" };
        format!("{path}?{query}{and}{name}={value}")
    }

    /// The value of `Link` (RFC 8288): `next` by cursor, which costs the same however far it is; the
    /// neighbors that have a number by number. None if the page has no neighbors, or their
    /// addresses are too long.
    #[must_use]
    pub fn links<T>(&self, page: &Page<T>, scope: &str) -> Option<String> {
        let mut links = Vec::new();
        if let Some(next) = &page.next {
            links.push(("next", self.with("cursor", &cursor::encode(scope, next))));
        }
        if let Some(number) = page.request.number() {
            let by_number = |number: u64| self.with("page", &number.to_string());
            let number = u64::from(number);
            if number > 1 {
                links.push(("prev", by_number(number.saturating_sub(1))));
            }
            links.push(("first", by_number(1)));
        }
        let mut value = String::new();
        for (relation, address) in links {
            let separator = if value.is_empty() { "" } else { ", " };
            let length = value.len() + separator.len() + address.len() + relation.len() + 9;
            if length <= MAX_LINK_BYTES {
                // Writing to a text does not fail.
                let _written = write!(value, "{separator}<{address}>; rel=\"{relation}\"");
            }
        }
        (!value.is_empty()).then_some(value)
    }
}

/// The value of `X-Pagination`: the page's number and its neighbors, as JSON. None if the page was not
/// asked for by number, or nothing was counted.
///
/// A total that is not exact names no last page: the list has more.
#[must_use]
pub fn summary<T>(page: &Page<T>) -> Option<String> {
    let (Total { count, is_exact }, number) = (page.total?, page.request.number()?);
    let number = u64::from(number);
    let last = count.div_ceil(u64::from(page.request.size()));
    let mut members = Map::new();
    members.insert("total".to_owned(), json!(count));
    if is_exact {
        members.insert("total_pages".to_owned(), json!(last));
    } else {
        members.insert("total_is_exact".to_owned(), json!(false));
    }
    members.insert("page".to_owned(), json!(number));
    if last > 0 {
        members.insert("first_page".to_owned(), json!(1));
        if is_exact {
            members.insert("last_page".to_owned(), json!(last));
        }
        if number > 1 {
            let previous = number.saturating_sub(1);
            let previous = if is_exact { previous.min(last) } else { previous };
            members.insert("previous_page".to_owned(), json!(previous));
        }
        // What follows is known better than the length.
        if number < last || page.next.is_some() {
            members.insert("next_page".to_owned(), json!(number.saturating_add(1)));
        }
    }
    Some(Value::Object(members).to_string())
}
