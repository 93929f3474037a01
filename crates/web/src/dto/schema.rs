//! The schemas of views that the formats crate writes. It derives them from the types that it
//! writes, so they cannot differ.

use std::borrow::Cow;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema as JsonSchemaValue};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A view with its schema.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Schema<T>(pub T);

impl<T: JsonSchema + Send + Sync> Type for Schema<T> {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(T::schema_name().into_owned())
    }

    /// The framework's schemas have no room for those of another library. So this registers a schema
    /// of this name, with the actual ones as its default, and [`replace`] puts them in its place.
    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(T::schema_name().into_owned(), |_| MetaSchema {
            default: Some(json!({DERIVED: derived::<T>()})),
            ..MetaSchema::new("object")
        });
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: JsonSchema + Serialize + Send + Sync> ToJSON for Schema<T> {
    fn to_json(&self) -> Option<Value> {
        serde_json::to_value(&self.0).ok()
    }
}

impl<T: JsonSchema + Send + Sync> ParseFromJSON for Schema<T> {
    /// Bodies are read by the formats crate.
    fn parse_from_json(_: Option<Value>) -> ParseResult<Self> {
        Err(ParseError::custom("the framework reads no bodies"))
    }
}

/// The member of a default that has derived schemas.
const DERIVED: &str = "derived schemas";

/// The schemas of a type and of all types in it, by name.
fn derived<T: JsonSchema>() -> Map<String, Value> {
    let mut generator =
        SchemaSettings::openapi3().for_serialize().with_transform(adapt).into_generator();
    generator.subschema_for::<T>();
    generator.take_definitions(true)
}

/// Gives a schema the form that the framework would give it.
fn adapt(schema: &mut JsonSchemaValue) {
    schemars::transform::transform_subschemas(&mut adapt, schema);
    let Some(members) = schema.as_object_mut() else { return };
    if members.get("format") == Some(&json!("uint")) {
        members.insert("format".to_owned(), json!("uint64"));
    }
    // An optional reference: `nullable` next to `$ref` has no effect, so it is wrapped in `allOf`.
    if let Some(Value::Array(choices)) = members.get_mut("anyOf")
        && choices.iter().any(|choice| choice.get("nullable").is_some())
    {
        let mut choices = std::mem::take(choices);
        choices.retain(|choice| choice.get("nullable").is_none());
        members.remove("anyOf");
        members.insert("allOf".to_owned(), choices.into());
        members.insert("nullable".to_owned(), json!(true));
    }
    let required = members.remove("required");
    let mut required = required.and_then(|names| names.as_array().cloned()).unwrap_or_default();
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        for (name, property) in properties.iter_mut() {
            let Some(property) = property.as_object_mut() else { continue };
            let is_always_written = required.iter().any(|required| required == name);
            if property.get("nullable").is_none() {
                if property.contains_key("$ref")
                    && property.len() > 1
                    && let Some(reference) = property.remove("$ref")
                {
                    property.insert("allOf".to_owned(), json!([{"$ref": reference}]));
                }
            } else if is_always_written {
                // Clients accept null wherever they accept that the member is absent.
                required.retain(|required| required != name);
            } else {
                property.remove("nullable");
            }
        }
    }
    if !required.is_empty() {
        members.insert("required".to_owned(), required.into());
    }
}

/// Puts derived schemas in the place of those that were registered for them.
pub fn replace(schemas: &mut Map<String, Value>) {
    let mut all = Map::new();
    for schema in schemas.values_mut() {
        if let Some(Value::Object(derived)) = schema.pointer_mut(&format!("/default/{DERIVED}")) {
            all.append(derived);
        }
    }
    for (name, mut schema) in all {
        if let Some(members) = schema.as_object_mut() {
            members.insert("title".to_owned(), json!(name));
        }
        schemas.insert(name, schema);
    }
}
