//! The schema of what somebody says to accept a finding.

use poem_openapi::Object;
use poem_openapi::types::Example;

/// Why a finding may stay.
#[derive(Debug, Object)]
#[oai(rename = "NewAcceptance", example, skip_serializing_if_is_none)]
pub struct AcceptanceBody {
    /// Why the finding may stay.
    #[oai(validator(min_length = 1, max_length = 1000))]
    pub reason: String,
    /// When it is reported again, RFC 3339; omitted or null: never by time alone.
    pub until: Option<String>,
    /// The `proof` of the finding that you have seen. If it has changed since, the answer is 409.
    pub proof: Option<String>,
}

impl Example for AcceptanceBody {
    fn example() -> Self {
        Self { reason: "CHG-1042: known until the migration".to_owned(), until: None, proof: None }
    }
}
