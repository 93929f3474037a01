//! Ids in paths.
//!
//! In a module of its own because the framework's `Type` has an `is_empty` method: if the trait is
//! in scope, that method hides the one of `&&str`.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseFromParameter, ParseResult, Type};

/// An id in a path, as text. Reading it never fails: a text that is not an id names no resource,
/// which is 404.
#[derive(Debug, Clone)]
pub struct RawId(pub String);

impl Type for RawId {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> std::borrow::Cow<'static, str> {
        "Id".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let mut schema = MetaSchema::new_with_format("integer", "int64");
        schema.minimum = Some(1.0);
        #[expect(clippy::cast_precision_loss, reason = "2^53 - 1 is a double")]
        let max = fireflow_domain::ids::MAX_ID as f64;
        schema.maximum = Some(max);
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

impl ParseFromParameter for RawId {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        Ok(Self(value.to_owned()))
    }
}
