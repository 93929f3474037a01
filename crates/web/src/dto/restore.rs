//! How deleted things come back.

use fireflow_domain::error::Violations;
use fireflow_domain::patch::Patch;
use fireflow_domain::text::{Name, excerpt};
use fireflow_domain::usecase::rule::{Duplicates, RuleRestoration};
use fireflow_formats::members::{Given, Members};
use poem_openapi::Object;
use serde_json::Value;

/// How a firewall or a filtering policy comes back: all that is left out is as it was.
#[derive(Debug, Object)]
#[oai(rename = "Restoration", example, skip_serializing_if_is_none)]
pub struct RestoreBody {
    /// Its name from then on, where the old one is taken meanwhile.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
}

impl poem_openapi::types::Example for RestoreBody {
    fn example() -> Self {
        Self { name: None }
    }
}

/// How a rule comes back: all that is left out is as it was.
#[derive(Debug, Object)]
#[oai(rename = "RuleRestoration", example, skip_serializing_if_is_none)]
pub struct RuleRestoreBody {
    /// Its name from then on, where the old one is taken meanwhile; null: none.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// `keep` restores the rule though an equal one is there.
    pub duplicates: Option<String>,
}

impl poem_openapi::types::Example for RuleRestoreBody {
    fn example() -> Self {
        Self { name: None, duplicates: None }
    }
}

/// Reads how a firewall or a policy comes back: its new name, if it is given one.
pub fn restoration(value: Value, violations: &mut Violations) -> Option<Option<Name>> {
    let mut members = Members::open(value, "", violations)?;
    let name = members.text("name", Name::parse).map(Some);
    let name = members.or("name", name, None);
    members.finish();
    Some(name)
}

/// Reads how a rule comes back.
pub fn rule_restoration(value: Value, violations: &mut Violations) -> Option<RuleRestoration> {
    let mut members = Members::open(value, "", violations)?;
    let (name, duplicates) = name_and_duplicates(&mut members);
    members.finish();
    Some(RuleRestoration { name, duplicates })
}

/// The two members of a rule's restoration.
pub(super) fn name_and_duplicates(members: &mut Members<'_>) -> (Patch<Option<Name>>, Duplicates) {
    let name = members.text("name", Name::parse).nullable_patch();
    let duplicates = members.text("duplicates", |word| match word {
        "keep" => Ok(Duplicates::Keep),
        _ => Err(format!("must be `keep`, not `{}`", excerpt(word))),
    });
    let duplicates = match duplicates {
        Given::Is(duplicates) => duplicates,
        Given::Absent | Given::Null | Given::Bad => Duplicates::Refuse,
    };
    (name, duplicates)
}
