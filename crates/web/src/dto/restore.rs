//! Bodies of restorations.

use fireflow_domain::error::Violations;
use fireflow_domain::patch::Patch;
use fireflow_domain::text::{Name, excerpt};
use fireflow_domain::usecase::rule::{Duplicates, RuleRestoration};
use fireflow_formats::members::{MemberValue, Members};
use poem_openapi::Object;
use serde_json::Value;

/// How a firewall or a filtering policy is restored: omitted members are as before the deletion.
#[derive(Debug, Object)]
#[oai(rename = "Restoration", example, skip_serializing_if_is_none)]
pub struct RestoreBody {
    /// The new name, if another resource has taken the old one.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
}

impl poem_openapi::types::Example for RestoreBody {
    fn example() -> Self {
        Self { name: None }
    }
}

/// How a rule is restored: omitted members are as before the deletion.
#[derive(Debug, Object)]
#[oai(rename = "RuleRestoration", example, skip_serializing_if_is_none)]
pub struct RuleRestoreBody {
    /// The new name, if another rule has taken the old one; null: none.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// `keep` restores the rule even if an equivalent rule exists.
    pub duplicates: Option<String>,
}

impl poem_openapi::types::Example for RuleRestoreBody {
    fn example() -> Self {
        Self { name: None, duplicates: None }
    }
}

/// Reads the restoration of a firewall or a policy: its new name, if there is one.
pub fn restoration(value: Value, violations: &mut Violations) -> Option<Option<Name>> {
    let mut members = Members::open(value, "", violations)?;
    let name = members.text("name", Name::parse).map(Some);
    let name = members.or("name", name, None);
    members.finish();
    Some(name)
}

/// Reads the restoration of a rule.
pub fn rule_restoration(value: Value, violations: &mut Violations) -> Option<RuleRestoration> {
    let mut members = Members::open(value, "", violations)?;
    let (name, duplicates) = name_and_duplicates(&mut members);
    members.finish();
    Some(RuleRestoration { name, duplicates })
}

/// Reads the two members of a rule's restoration.
pub(super) fn name_and_duplicates(members: &mut Members<'_>) -> (Patch<Option<Name>>, Duplicates) {
    let name = members.text("name", Name::parse).nullable_patch();
    let duplicates = members.text("duplicates", |word| match word {
        "keep" => Ok(Duplicates::Keep),
        _ => Err(format!("must be `keep`, not `{}`", excerpt(word))),
    });
    let duplicates = match duplicates {
        MemberValue::Is(duplicates) => duplicates,
        MemberValue::Absent | MemberValue::Null | MemberValue::Bad => Duplicates::Refuse,
    };
    (name, duplicates)
}
