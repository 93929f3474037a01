//! Bodies of firewalls.

use std::collections::BTreeMap;

use poem_openapi::Object;

/// A firewall to create.
#[derive(Debug, Object)]
#[oai(rename = "NewFirewall", example, skip_serializing_if_is_none)]
pub struct FirewallBody {
    /// Unique among the live firewalls of a tenant; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: String,
    /// The tenant that owns it. Only admins may name any; others must name one of their token's.
    #[oai(validator(max_length = 63))]
    pub tenant: Option<String>,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    #[oai(validator(max_properties = 64))]
    pub labels: Option<BTreeMap<String, String>>,
}

impl poem_openapi::types::Example for FirewallBody {
    fn example() -> Self {
        Self {
            name: "edge-fra".into(),
            tenant: None,
            description: Some("Border of the Frankfurt site".into()),
            labels: Some([("site".to_owned(), "fra".to_owned())].into()),
        }
    }
}

/// A change of a firewall (RFC 7396): omitted members keep their values; null removes a label.
#[derive(Debug, Object)]
#[oai(rename = "FirewallPatch", example, skip_serializing_if_is_none)]
pub struct FirewallPatchBody {
    /// Unique among the live firewalls of a tenant; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// The tenant that owns it. Only admins may change it.
    #[oai(validator(max_length = 63))]
    pub tenant: Option<String>,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    pub labels: Option<BTreeMap<String, Option<String>>>,
}

impl poem_openapi::types::Example for FirewallPatchBody {
    fn example() -> Self {
        Self {
            name: None,
            tenant: None,
            description: None,
            // If a reader sends the example unchanged, it only adds a label.
            labels: Some([("reviewed".to_owned(), Some("2026-11".to_owned()))].into()),
        }
    }
}
