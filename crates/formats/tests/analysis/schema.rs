//! Checks a value against a JSON schema, as far as the schema of SARIF needs that: the keywords that it
//! has, except `pattern`.

use serde_json::Value;

/// The faults of a value, each with its place.
pub(crate) fn faults(root: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (keyword, rule) in schema.as_object().unwrap() {
        let nested = |schema, value, place: &str| faults(root, schema, value, place);
        match (keyword.as_str(), value) {
            ("$ref", _) => {
                let target = rule.as_str().unwrap().trim_start_matches('#');
                all.extend(nested(root.pointer(target).unwrap(), value, place));
            }
            ("type", _) if !has_type(rule, value) => all.push(format!("{place}: not a {rule}")),
            ("enum", _) if !rule.as_array().unwrap().contains(value) => {
                all.push(format!("{place}: {value} is not one of {rule}"));
            }
            ("minimum", Value::Number(number)) if number.as_f64() < rule.as_f64() => {
                all.push(format!("{place}: below {rule}"));
            }
            ("maximum", Value::Number(number)) if number.as_f64() > rule.as_f64() => {
                all.push(format!("{place}: above {rule}"));
            }
            ("required", Value::Object(members)) => {
                let names = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                let absent = names.filter(|name| !members.contains_key(*name));
                all.extend(absent.map(|name| format!("{place} lacks {name}")));
            }
            ("properties", Value::Object(members)) => {
                for (name, value) in members {
                    match (rule.get(name), &schema["additionalProperties"]) {
                        (Some(rule), _) => {
                            all.extend(nested(rule, value, &format!("{place}/{name}")))
                        }
                        (None, Value::Bool(false)) => all.push(format!("{place} has {name}")),
                        (None, Value::Object(_)) => {
                            let rule = &schema["additionalProperties"];
                            all.extend(nested(rule, value, &format!("{place}/{name}")));
                        }
                        (None, _) => {}
                    }
                }
            }
            ("items", Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    all.extend(nested(rule, item, &format!("{place}/{index}")));
                }
            }
            ("minItems", Value::Array(items)) if (items.len() as u64) < rule.as_u64().unwrap() => {
                all.push(format!("{place}: fewer than {rule} items"));
            }
            ("uniqueItems", Value::Array(items)) if rule == &Value::Bool(true) => {
                let mut texts: Vec<String> = items.iter().map(Value::to_string).collect();
                texts.sort();
                texts.dedup();
                if texts.len() < items.len() {
                    all.push(format!("{place}: repeated items"));
                }
            }
            ("anyOf" | "oneOf", _) => {
                let choices = rule.as_array().unwrap();
                if choices.iter().all(|choice| !nested(choice, value, place).is_empty()) {
                    all.push(format!("{place}: none of {}", choices.len()));
                }
            }
            _ => {}
        }
    }
    all
}

fn has_type(rule: &Value, value: &Value) -> bool {
    match rule {
        Value::Array(types) => types.iter().any(|rule| has_type(rule, value)),
        Value::String(name) => match name.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("an unknown type: {other}"),
        },
        other => panic!("no type: {other}"),
    }
}
