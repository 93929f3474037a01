//! Replacements for operators that a field does not take, or that come from other languages.

use crate::filter::error::{listed, shown};
use crate::filter::fields::{FieldKind, Operator, Traits};

/// Explains why a text is not an operator, with the operator to use instead.
pub(super) fn foreign(field: &str, found: &str, traits: Traits) -> String {
    let instead = match found.to_ascii_uppercase().as_str() {
        "==" => "write `=`".to_owned(),
        "<>" | "!" | "NE" => "write `!=`".to_owned(),
        "=>" => "write `>=`".to_owned(),
        "=<" => "write `<=`".to_owned(),
        "EQ" => "write `=`".to_owned(),
        "~" | "=~" | "!~" | "~=" | "LIKE" | "ILIKE" | "MATCHES" | "REGEXP" => format!(
            "the only pattern is a star at either end: `{field} = \"edge-*\"`; `:` finds a text \
             anywhere and ignores case"
        ),
        "IS" => format!("write `{field} = null` or `{field} != null`"),
        "NOT" => format!("write NOT before the condition: `NOT {field} IN (…)`"),
        "BETWEEN" => format!("write `{field} >= … AND {field} <= …`"),
        "HAS" | "INCLUDES" => "write `:` or CONTAINS".to_owned(),
        _ => takes(field, traits),
    };
    format!("`{}` is not an operator; {instead}", shown(found))
}

/// Lists the operators that a field takes.
pub(super) fn takes(field: &str, traits: Traits) -> String {
    format!("`{field}` takes {}", listed(traits.operators.iter().map(|it| it.as_str()), "and"))
}

/// Explains why a field does not take an operator.
pub(super) fn refused(field: &str, operator: Operator, traits: Traits) -> String {
    format!(
        "{}, not `{}`{}",
        takes(field, traits),
        operator.as_str(),
        hint(field, operator, traits)
    )
}

fn hint(field: &str, operator: Operator, traits: Traits) -> String {
    let is_search = matches!(operator, Operator::Has | Operator::Contains);
    match traits.kind {
        FieldKind::Entries => format!(
            "; write `{field}.address CONTAINS 10.1.2.3`, or both of one entry: \
             `{field}:(address CONTAINS 10.1.2.3 AND port = 443)`"
        ),
        FieldKind::Traffic => format!("; write `{field}:{}`", bare(traits.kind)),
        FieldKind::Labels => {
            format!("; `{field}:site` has the label, `{field}.site = fra` compares it")
        }
        FieldKind::Protocol if is_search => {
            format!("; `{field} = tcp` is true if one of them is tcp")
        }
        FieldKind::Ports | FieldKind::Addresses if is_search => "; write CONTAINS".to_owned(),
        FieldKind::Text | FieldKind::Label if is_search => "; `:` finds a text anywhere".to_owned(),
        FieldKind::Finding if is_search => {
            format!("; `{field} = redundant` is true if one of them is redundant")
        }
        FieldKind::Warning if is_search => {
            format!("; `{field} = expired` is true if one of them is expired")
        }
        FieldKind::Integer
        | FieldKind::Text
        | FieldKind::Timestamp
        | FieldKind::Boolean
        | FieldKind::Action
        | FieldKind::State
        | FieldKind::AuditAction
        | FieldKind::Resource
        | FieldKind::Label
        | FieldKind::Warning
        | FieldKind::Finding
        | FieldKind::Protocol
        | FieldKind::Family
        | FieldKind::Ports
        | FieldKind::Addresses => String::new(),
    }
}

/// The example of a kind, without its backquotes.
pub(super) fn bare(kind: FieldKind) -> &'static str {
    kind.example().trim_matches('`')
}
