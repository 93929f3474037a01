//! Where a page is in its list, as headers.

use fireflow_domain::page::{Page, Total};
use serde_json::{Map, Value, json};

/// The value of `X-Pagination`: the page's number and its neighbours, as JSON. None if the page was not
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
