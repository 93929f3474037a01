//! The position of a page in its list, as the texts of an answer.

use std::fmt::Write as _;

use fireflow_domain::page::{Page, Total};
use serde_json::{Map, Value, json};

use crate::cursor;

/// The longest `Link`, in bytes. Proxies accept few kilobytes of headers, and a long filter is
/// repeated in each of the addresses. A link is left out if it does not fit, and `next` comes
/// first.
const MAX_LINK_BYTES: usize = 2_048;

/// The address of a list, without the parameters that select a part of it.
#[derive(Debug, Clone)]
pub struct ListAddress {
    /// The path, as clients see it.
    path: String,
    /// All parameters except `page` and `cursor`, as sent.
    query: String,
}

impl ListAddress {
    /// Takes the path and the query of a request.
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

    /// The value of `Link` (RFC 8288). `next` uses a cursor, whose cost does not depend on the
    /// position; the other neighbors use page numbers. None if the page has no neighbors, or their
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
                // Writing to a string cannot fail.
                let _written = write!(value, "{separator}<{address}>; rel=\"{relation}\"");
            }
        }
        (!value.is_empty()).then_some(value)
    }
}

/// The value of `X-Pagination`: the page's number and its neighbors, as JSON. None if the page was
/// not requested by number, or nothing was counted.
///
/// If the total is not exact, the list has more items, so there is no last page.
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
        // The existence of a next page is known even if the total is not exact.
        if number < last || page.next.is_some() {
            members.insert("next_page".to_owned(), json!(number.saturating_add(1)));
        }
    }
    Some(Value::Object(members).to_string())
}
