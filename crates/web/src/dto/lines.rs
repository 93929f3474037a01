//! Bodies in line formats, for the description.

use fireflow_formats::rule_export::LineFormat;
use poem_openapi::registry::{MetaMediaType, MetaSchema, MetaSchemaRef};

/// A body in a line format, with a description of its lines.
#[must_use]
pub fn described(format: LineFormat, lines: &'static str) -> MetaMediaType {
    let text = MetaSchema { description: Some(lines), ..MetaSchema::new("string") };
    MetaMediaType {
        content_type: format.media_type(),
        schema: MetaSchemaRef::Inline(Box::new(text)),
    }
}
