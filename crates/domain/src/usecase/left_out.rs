//! The policies that lists across policies leave out, since this version cannot read their rules.

use crate::actor::{Caller, Role};
use crate::error::Result;
use crate::policy::{Policy, PolicyRef};
use crate::store::ReadUnit;

/// The policies whose rules a list across policies leaves out, since this version cannot read them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOutPolicies {
    /// The first of them, by id; at most [`MAX_LEFT_OUT`].
    pub policies: Vec<PolicyRef>,
    /// Whether there are more.
    pub has_more: bool,
}

/// The most policies that a list names as left out.
pub const MAX_LEFT_OUT: usize = 100;

impl LeftOutPolicies {
    /// Names the given policies, which must be distinct.
    #[must_use]
    pub fn of(mut policies: Vec<PolicyRef>) -> Self {
        let has_more = policies.len() > MAX_LEFT_OUT;
        policies.truncate(MAX_LEFT_OUT);
        Self { policies, has_more }
    }
}

/// The policies of all firewalls that a list of rules across policies leaves out. Costs one
/// statement.
///
/// # Errors
/// Returns an error if the caller lacks the role.
pub async fn left_out(uow: &mut dyn ReadUnit, caller: &Caller) -> Result<LeftOutPolicies> {
    caller.require(Role::Viewer)?;
    let limit = u32::try_from(MAX_LEFT_OUT).unwrap_or(u32::MAX).saturating_add(1);
    let newer = uow.policies().newer(&caller.actor.visibility, limit).await?;
    Ok(LeftOutPolicies::of(newer.iter().map(Policy::reference).collect()))
}
