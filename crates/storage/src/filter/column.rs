//! The columns of the fields of filters: one row for each.

use fireflow_domain::filter::tree::{ActionField, FlagField, InstantField, NumberField, TextField};
use sea_orm::IntoSimpleExpr;
use sea_orm::sea_query::Expr;

use crate::entity::{audit_event, firewall, policy, rule};

/// The place of a field in the database.
#[derive(Debug)]
pub(super) struct FieldColumn {
    pub(super) column: Expr,
    /// The column with the domain's `fold` of a text, if there is one.
    pub(super) folded: Option<Expr>,
    /// Whether an index begins with the column, so that it can find the candidates of a filter. A
    /// test asks the databases for their plans.
    pub(super) is_indexed: bool,
}

impl FieldColumn {
    fn folded(self, folded: impl IntoSimpleExpr) -> Self {
        Self { folded: Some(folded.into_simple_expr()), ..self }
    }
}

fn plain(column: impl IntoSimpleExpr) -> FieldColumn {
    FieldColumn { column: column.into_simple_expr(), folded: None, is_indexed: false }
}

fn indexed(column: impl IntoSimpleExpr) -> FieldColumn {
    FieldColumn { is_indexed: true, ..plain(column) }
}

/// The column of an integer.
pub(super) fn number(field: NumberField) -> FieldColumn {
    use NumberField as F;
    match field {
        F::FirewallId => indexed(firewall::Column::Id),
        F::PolicyCount => plain(firewall::Column::PolicyCount),
        F::FirewallRevision => plain(firewall::Column::Revision),
        F::PolicyId => indexed(policy::Column::Id),
        F::RuleCount => plain(policy::Column::RuleCount),
        F::PolicyRevision => plain(policy::Column::Revision),
        F::RuleId => indexed(rule::Column::Id),
        F::Priority => plain(rule::Column::Priority),
        F::IcmpType => plain(rule::Column::IcmpType),
        F::IcmpCode => plain(rule::Column::IcmpCode),
        F::RuleRevision => plain(rule::Column::Revision),
        F::EventId => indexed(audit_event::Column::Id),
        F::EventResourceId => plain(audit_event::Column::ResourceId),
        F::EventFirewallId => indexed(audit_event::Column::FirewallId),
        F::EventPolicyId => indexed(audit_event::Column::PolicyId),
        F::EventSequence => plain(audit_event::Column::Sequence),
    }
}

/// The column of an instant.
pub(super) fn instant(field: InstantField) -> FieldColumn {
    use InstantField as F;
    match field {
        F::FirewallCreatedAt => indexed(firewall::Column::CreatedAt),
        F::FirewallUpdatedAt => indexed(firewall::Column::UpdatedAt),
        F::PolicyCreatedAt => indexed(policy::Column::CreatedAt),
        F::PolicyUpdatedAt => indexed(policy::Column::UpdatedAt),
        F::RuleCreatedAt => indexed(rule::Column::CreatedAt),
        F::RuleUpdatedAt => indexed(rule::Column::UpdatedAt),
        F::StartsAt => plain(rule::Column::StartsAt),
        F::ExpiresAt => indexed(rule::Column::ExpiresAt),
        F::EventAt => indexed(audit_event::Column::At),
    }
}

/// The column of a text.
pub(super) fn text(field: TextField) -> FieldColumn {
    use TextField as F;
    match field {
        F::FirewallName => indexed(firewall::Column::Name).folded(firewall::Column::NameFolded),
        F::Tenant => indexed(firewall::Column::Tenant),
        F::FirewallDescription => {
            plain(firewall::Column::Description).folded(firewall::Column::DescriptionFolded)
        }
        F::FirewallCreatedBy => plain(firewall::Column::CreatedBy),
        F::FirewallUpdatedBy => plain(firewall::Column::UpdatedBy),
        F::PolicyName => indexed(policy::Column::Name).folded(policy::Column::NameFolded),
        F::PolicyDescription => {
            plain(policy::Column::Description).folded(policy::Column::DescriptionFolded)
        }
        F::PolicyCreatedBy => plain(policy::Column::CreatedBy),
        F::PolicyUpdatedBy => plain(policy::Column::UpdatedBy),
        F::RuleName => indexed(rule::Column::Name).folded(rule::Column::NameFolded),
        F::RuleDescription => {
            plain(rule::Column::Description).folded(rule::Column::DescriptionFolded)
        }
        F::Reference => plain(rule::Column::Reference),
        F::RuleCreatedBy => plain(rule::Column::CreatedBy),
        F::RuleUpdatedBy => plain(rule::Column::UpdatedBy),
        F::EventSubject => indexed(audit_event::Column::Subject),
        F::EventRequestId => indexed(audit_event::Column::RequestId),
        F::EventClientAddress => plain(audit_event::Column::ClientAddress),
        F::EventReason => plain(audit_event::Column::Reason),
        F::EventTenant => indexed(audit_event::Column::Tenant),
    }
}

/// The column of a boolean.
pub(super) fn flag(field: FlagField) -> FieldColumn {
    use FlagField as F;
    match field {
        F::Enabled => plain(rule::Column::Enabled),
        F::Log => plain(rule::Column::Log),
    }
}

/// The column of an action.
pub(super) fn action(field: ActionField) -> FieldColumn {
    use ActionField as F;
    match field {
        F::DefaultAction => plain(policy::Column::DefaultAction),
        F::Action => plain(rule::Column::Action),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_a_folded_column_exactly_if_the_domain_folds_it() {
        for field in TextField::ALL {
            assert_eq!(text(*field).folded.is_some(), field.is_folded(), "{field:?}");
        }
    }
}
