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
        reference::<T>()
    }

    fn register(registry: &mut Registry) {
        register::<T>(registry);
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

/// The name in a reference to a schema.
fn name_in(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

/// The schema of a type, and the schemas that it refers to, by name.
fn derived<T: JsonSchema>() -> (Value, Map<String, Value>) {
    let settings = SchemaSettings::openapi3().for_serialize().with_transform(adapt);
    let mut generator = settings.into_generator();
    let schema = generator.subschema_for::<T>();
    (schema.to_value(), generator.take_definitions(true))
}

/// A reference to the schema of a type, or of a list of the type.
pub fn reference<T: JsonSchema>() -> MetaSchemaRef {
    let (schema, _) = derived::<T>();
    let reference =
        |schema: &Value| MetaSchemaRef::Reference(name_in(schema).unwrap_or_default().to_owned());
    match schema.get("items") {
        None => reference(&schema),
        Some(item) => {
            let items = Some(Box::new(reference(item)));
            MetaSchemaRef::Inline(Box::new(MetaSchema { items, ..MetaSchema::new("array") }))
        }
    }
}

/// Registers the schemas of a type. The framework's schemas have no room for those of another library.
/// So this registers a schema of the type's name with the actual schemas as its default, and [`replace`]
/// puts them in its place.
pub fn register<T: JsonSchema>(registry: &mut Registry) {
    let (schema, all) = derived::<T>();
    let name = name_in(&schema).or_else(|| name_in(schema.get("items")?));
    let placeholder =
        MetaSchema { default: Some(json!({DERIVED: all})), ..MetaSchema::new("object") };
    registry.schemas.entry(name.unwrap_or_default().to_owned()).or_insert(placeholder);
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
