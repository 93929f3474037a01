//! The schemas of accepted findings. The formats crate reads and writes them.

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::Serialize;

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

/// An accepted finding. It is reported again if its proof changes, if it becomes more severe, or at
/// `until`.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Acceptance")]
pub struct AcceptanceView {
    /// Identifies the finding.
    pub finding_id: String,
    /// Its proof when it was accepted.
    pub proof: String,
    /// Its severity when it was accepted.
    pub severity: String,
    /// Why it may stay.
    pub reason: String,
    /// When it is reported again; null: never by time alone.
    pub until: Option<String>,
    /// When it was accepted.
    pub accepted_at: String,
    /// The subject who accepted it.
    pub accepted_by: String,
}

/// All accepted findings of a policy.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "AcceptanceList")]
pub struct AcceptanceListView {
    /// The acceptances, in the order in which they were made.
    pub items: Vec<AcceptanceView>,
}
