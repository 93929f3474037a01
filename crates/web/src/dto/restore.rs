//! Bodies of restorations.

use poem_openapi::Object;

/// How to restore a firewall or a filtering policy: omitted members are as before the deletion.
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

/// How to restore a rule: omitted members are as before the deletion.
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
