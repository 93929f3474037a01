//! Accepted findings in a storage.

use async_trait::async_trait;

use super::StoreResult;
use crate::acceptance::Acceptance;
use crate::analysis::FindingId;
use crate::ids::PolicyId;
use crate::policy::Policy;

/// Reads of accepted findings, of policies that were read in the same unit of work or are visible to
/// the caller.
#[async_trait]
pub trait AcceptanceReader: Send {
    /// The acceptance of one finding of a policy, lapsed or not.
    async fn get(
        &mut self,
        policy: PolicyId,
        finding: FindingId,
    ) -> StoreResult<Option<Acceptance>>;
    /// All of a policy, lapsed or not, in the order in which they were accepted.
    async fn all(&mut self, policy: PolicyId) -> StoreResult<Vec<Acceptance>>;
    /// How many a policy has.
    async fn count(&mut self, policy: PolicyId) -> StoreResult<u64>;
}

/// Writes of accepted findings. The caller holds the policy's lock, and has appended the audit event:
/// each write also stores the head of the policy's audit chain. It is no change of the policy, so
/// neither its revision nor its state changes.
#[async_trait]
pub trait AcceptanceWriter: Send {
    /// Stores an acceptance, and replaces a former one of the same finding.
    async fn put(&mut self, policy: &Policy, acceptance: &Acceptance) -> StoreResult<()>;
    /// Removes the acceptance of a finding, which exists.
    async fn remove(&mut self, policy: &Policy, finding: FindingId) -> StoreResult<()>;
}
