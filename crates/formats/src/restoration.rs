//! How something that was deleted is restored.

use fireflow_domain::error::Violations;
use fireflow_domain::patch::Patch;
use fireflow_domain::rule::Duplicates;
use fireflow_domain::text::{Name, excerpt};
use fireflow_domain::usecase::rule::RuleRestoration;
use serde_json::Value;

use crate::members::{MemberValue, Members};

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
pub(crate) fn name_and_duplicates(members: &mut Members<'_>) -> (Patch<Option<Name>>, Duplicates) {
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
