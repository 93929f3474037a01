//! Query parameters: their description, and the query string of a request.

mod table;

use fireflow_formats::pagination::ListAddress;
use fireflow_formats::query::Query;
use poem::{FromRequest, Request, RequestBody};

use crate::app::Context;
use crate::operation::Operation;

pub use self::table::*;

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

impl QueryString {
    /// The query string as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address of the requested list, without the parameters that select a part of it.
    #[must_use]
    pub fn address(&self) -> ListAddress {
        ListAddress::new(&self.path, &self.text)
    }

    /// Reads the parameters that the operation's row names.
    #[must_use]
    pub fn open(&self, operation: &Operation) -> Query {
        Query::open(&self.text, operation.parameters().map(|param| param.name))
    }
}
