//! The description of query parameters, and the parameters that several operations have. Each
//! operation's row names its parameters. The reader checks names against them, and the API
//! description is generated from them.

use fireflow_domain::filter::parse::MAX_FILTER_CHARS;
use fireflow_domain::ids::MAX_ID;
use fireflow_domain::page::MAX_PAGE_SIZE;
use fireflow_formats::cursor::MAX_CURSOR_CHARS;
use fireflow_formats::patterns;
use serde_json::{Value, json};

/// The reference to the schema that all actions share.
pub const ACTION: &str = "#/components/schemas/Action";

/// A query parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// The name.
    pub name: &'static str,
    /// The values that it accepts.
    pub kind: ParamKind,
    /// What it is for.
    pub description: &'static str,
    /// A value with which the operation works unchanged. Swagger UI fills it in, so it must not
    /// leave anything out of an answer.
    pub example: Option<&'static str>,
    /// A value that only appears in the description.
    pub shown: Option<&'static str>,
}

/// The values that a parameter accepts, as far as the description can express them.
#[derive(Debug, Clone, Copy)]
pub enum ParamKind {
    /// An integer within bounds. A default is only mentioned in the description's text: Swagger UI
    /// would fill it in and send it, and the answer would be a page instead of the whole list.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// An action, in any case.
    Action,
    /// One of the given words.
    Words(&'static [&'static str]),
    /// A name of at most this many characters.
    Name(usize),
    /// Any text of at most this many characters.
    Text(usize),
    /// An address, block, range or `any`.
    AddressRange,
    /// A single address; required.
    Address,
    /// A port or `first-last`.
    Ports,
    /// A protocol by name or number.
    Protocol,
    /// An RFC 3339 instant.
    Instant,
    /// Fields separated by commas, with `-` before a descending one.
    OrderBy(&'static [&'static str]),
    /// An expression of the filter language.
    Filter,
    /// The `next_cursor` of a page.
    Cursor,
    /// Members of the answer, separated by commas.
    Fields(&'static [&'static str]),
}

impl Param {
    /// Whether the parameter is required.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        matches!(self.kind, ParamKind::Address)
    }

    /// The parameter in the description.
    #[must_use]
    pub fn describe(&self) -> Value {
        let schema = match self.kind {
            ParamKind::Integer(min, max) => {
                json!({"type": "integer", "minimum": min, "maximum": max})
            }
            ParamKind::Boolean => json!({"type": "boolean"}),
            ParamKind::Action => json!({"$ref": ACTION}),
            ParamKind::Words(words) => json!({"type": "string", "enum": words}),
            ParamKind::Name(max) => {
                json!({"type": "string", "minLength": 1, "maxLength": max, "pattern": patterns::NAME})
            }
            ParamKind::Text(max) => {
                let pattern = patterns::NO_CONTROLS;
                json!({"type": "string", "minLength": 1, "maxLength": max, "pattern": pattern})
            }
            ParamKind::AddressRange => {
                json!({"type": "string", "pattern": patterns::ADDRESS_RANGE})
            }
            ParamKind::Address => json!({"type": "string", "pattern": patterns::ADDRESS}),
            ParamKind::Ports => json!({"type": "string", "pattern": patterns::PORTS}),
            ParamKind::Protocol => {
                let pattern = patterns::protocol(false);
                json!({"type": "string", "pattern": pattern})
            }
            ParamKind::Instant => json!({"type": "string", "format": "date-time"}),
            ParamKind::Filter => {
                json!({"type": "string", "minLength": 1, "maxLength": MAX_FILTER_CHARS})
            }
            ParamKind::Cursor => {
                json!({"type": "string", "maxLength": MAX_CURSOR_CHARS, "pattern": "^[A-Za-z0-9_-]*$"})
            }
            ParamKind::Fields(members) => {
                let one = format!("({})", members.join("|"));
                json!({"type": "string", "pattern": format!("^{one}(,{one})*$")})
            }
            ParamKind::OrderBy(fields) => {
                let one = format!("-?({})", fields.join("|"));
                json!({"type": "string", "pattern": format!("^{one}(,{one})*$")})
            }
        };
        let description = match self.shown {
            Some(text) => format!("{} For example: `{text}`.", self.description),
            None => self.description.to_owned(),
        };
        let param = json!({
            "name": self.name,
            "in": "query",
            "required": self.is_required(),
            "description": description,
            "schema": schema,
        });
        let example = self.example.map(|text| match self.kind {
            ParamKind::Integer(..) => text.parse::<i64>().map_or(Value::Null, Value::from),
            _ => Value::from(text),
        });
        with(param, "example", example)
    }
}

/// Adds a member to an object if there is a value for it.
fn with(mut object: Value, name: &str, value: Option<impl serde::Serialize>) -> Value {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(name.to_owned(), json!(value));
    }
    object
}

/// An id.
pub const ID: ParamKind = ParamKind::Integer(1, MAX_ID);
/// A byte, such as an ICMP type.
pub const BYTE: ParamKind = ParamKind::Integer(0, 255);
/// A port.
pub const PORT: ParamKind = ParamKind::Integer(0, 65_535);

/// A parameter.
pub const fn param(name: &'static str, kind: ParamKind, description: &'static str) -> Param {
    Param { name, kind, description, example: None, shown: None }
}

impl Param {
    /// With a value with which the operation works unchanged.
    pub const fn example(self, text: &'static str) -> Self {
        Self { example: Some(text), ..self }
    }

    pub(crate) const fn shown(self, text: &'static str) -> Self {
        Self { shown: Some(text), ..self }
    }
}

/// The first parameters of a list: a page by its number.
pub const PAGE: &[Param] = &[
    param("page", ParamKind::Integer(1, 100_000), "The page's number, from 1. Default: 1."),
    param("page_size", SIZE, "The maximum number of items on a page. Default: 10."),
    param("per_page", SIZE, "Another name for `page_size`."),
];
const SIZE: ParamKind = ParamKind::Integer(1, MAX_PAGE_SIZE as i64);

/// The cursor of a page.
pub const NEXT: Param = param(
    "cursor",
    ParamKind::Cursor,
    "Continues after a page: the `next_cursor` of that page. The cost does not depend on the position. \
     An empty cursor starts at the beginning, without page numbers.",
);
/// Whether a list is counted.
pub const WITH_TOTAL: Param = param(
    "with_total",
    ParamKind::Boolean,
    "Whether to count the list: `true` counts all of it, `false` counts nothing. By default, a \
     filtered list is counted up to 1,000, and a cursor counts nothing.",
);
/// The last parameters of a list: a page by a cursor.
pub const CURSOR: &[Param] = &[NEXT, WITH_TOTAL];
/// The last parameters of a list of resources that can be deleted.
pub const CURSOR_OR_DELETED: &[Param] = &[NEXT, WITH_TOTAL, DELETED];

/// A name.
pub const NAME: Param =
    param("name", ParamKind::Name(255), "Returns items with exactly this name.");
const DELETED: Param = param(
    "deleted",
    ParamKind::Boolean,
    "Returns deleted items of live parents, which can be restored, instead of live ones. Requires \
     `editor`; can be combined only with plain filters on scalar fields.",
);

/// The order of a list, by these fields.
pub const fn order_by(fields: &'static [&'static str]) -> Param {
    param(
        "order_by",
        ParamKind::OrderBy(fields),
        "The order: fields separated by commas, `-` before a descending one. Null \
                     comes first in ascending order, and `id` breaks ties, in the direction of \
                     the last field.",
    )
}

/// The filter of a list, and what the description shows as an example.
pub const fn filter(shown: &'static str) -> Param {
    param(
        "filter",
        ParamKind::Filter,
        "Returns items that match an expression of the filter language; \
                      `/docs/filter-schema.json` lists its fields. `:` searches texts in any \
                      case; `now`, `now + 30d` and `now - 12h` are times. If the filter depends on \
                      the clock, all pages of a cursor are evaluated at the time of the first page.",
    )
    .shown(shown)
}

/// The members of the items.
pub const fn fields(members: &'static [&'static str]) -> Param {
    param(
        "fields",
        ParamKind::Fields(members),
        "Returns only these members of each item, separated by commas; `id` is \
                      always included.",
    )
}

/// The children that are embedded.
pub const fn expand(children: &'static [&'static str]) -> Param {
    param(
        "expand",
        ParamKind::Words(children),
        "Embeds children. If they have more than 10,000 rules, the response is 413.",
    )
}

/// What happens to an equivalent rule.
pub const fn duplicates(description: &'static str) -> Param {
    param("duplicates", ParamKind::Words(&["keep"]), description)
}

/// What happens to the read-only members of new resources.
pub const READ_ONLY: Param = param(
    "read_only",
    ParamKind::Words(&["ignore"]),
    "`ignore` accepts and ignores read-only members in new resources, such as `revision` from an \
     earlier response; by default they are refused.",
);
