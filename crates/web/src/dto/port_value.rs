//! A port of an entry in JSON: a number, or a range as text.

use poem_openapi::types::{ParseFromJSON, ToJSON, Type};
use serde::Serialize;

/// A port as a number, or a range as text.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum PortValue {
    /// One port.
    Number(u16),
    /// A range.
    Range(String),
}

impl Type for PortValue {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }

    fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
        use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
        let mut number = MetaSchema::new("integer");
        number.minimum = Some(0.0);
        number.maximum = Some(65_535.0);
        let mut range = MetaSchema::new("string");
        range.pattern = Some(fireflow_formats::patterns::PORTS.to_owned());
        range.example = Some("1024-65535".into());
        let mut schema = MetaSchema::ANY;
        schema.one_of =
            vec![MetaSchemaRef::Inline(Box::new(number)), MetaSchemaRef::Inline(Box::new(range))];
        MetaSchemaRef::Inline(Box::new(schema))
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(
        &'a self,
    ) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ToJSON for PortValue {
    fn to_json(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self).ok()
    }
}

/// Never called, because `Members` in `fireflow-formats` reads bodies and collects all faults at
/// once. The derived schema of an object requires this implementation.
impl ParseFromJSON for PortValue {
    fn parse_from_json(_: Option<serde_json::Value>) -> poem_openapi::types::ParseResult<Self> {
        Err(poem_openapi::types::ParseError::custom("is read by `Members`"))
    }
}
