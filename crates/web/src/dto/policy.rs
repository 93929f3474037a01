//! Bodies of filtering policies.

use std::collections::BTreeMap;

use poem_openapi::Object;

use super::rule::ActionWord;

/// A filtering policy to create.
#[derive(Debug, Object)]
#[oai(rename = "NewFilteringPolicy", example, skip_serializing_if_is_none)]
pub struct PolicyBody {
    /// Unique among the live policies of its firewall; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: String,
    /// What is done with packets that no rule matches.
    pub default_action: ActionWord,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    #[oai(validator(max_properties = 64))]
    pub labels: Option<BTreeMap<String, String>>,
}

impl poem_openapi::types::Example for PolicyBody {
    fn example() -> Self {
        Self {
            name: "inbound".into(),
            default_action: ActionWord::Deny,
            description: None,
            labels: None,
        }
    }
}

/// A change of a filtering policy (RFC 7396): omitted members keep their values; null removes a
/// label.
#[derive(Debug, Object)]
#[oai(rename = "FilteringPolicyPatch", example, skip_serializing_if_is_none)]
pub struct PolicyPatchBody {
    /// Unique among the live policies of its firewall; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// What is done with packets that no rule matches.
    pub default_action: Option<ActionWord>,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    pub labels: Option<BTreeMap<String, Option<String>>>,
}

impl poem_openapi::types::Example for PolicyPatchBody {
    fn example() -> Self {
        Self {
            name: None,
            default_action: None,
            description: None,
            // If a reader sends the example unchanged, it only adds a label.
            labels: Some([("reviewed".to_owned(), Some("2026-11".to_owned()))].into()),
        }
    }
}
