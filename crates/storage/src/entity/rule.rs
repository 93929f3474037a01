//! `rule`, and rules with the shown columns of their policy and firewall.

use fireflow_domain::actor::Visibility;
use fireflow_domain::store::RuleField;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::SelectStatement;
use sea_orm::{FromQueryResult, JoinType, QuerySelect, SelectModel, Selector};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rule")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) policy_id: i64,
    pub(crate) firewall_id: i64,
    pub(crate) name: Option<String>,
    pub(crate) name_folded: Option<String>,
    pub(crate) action: String,
    pub(crate) priority: i32,
    pub(crate) protocols: String,
    pub(crate) icmp_type: Option<i32>,
    pub(crate) icmp_code: Option<i32>,
    pub(crate) sources: String,
    pub(crate) destinations: String,
    pub(crate) ports: String,
    pub(crate) enabled: bool,
    pub(crate) log: bool,
    pub(crate) starts_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) description: String,
    pub(crate) description_folded: String,
    pub(crate) reference: String,
    pub(crate) labels: String,
    pub(crate) fingerprint: Option<Vec<u8>>,
    pub(crate) copy: i64,
    pub(crate) revision: i64,
    pub(crate) changed_revision: i64,
    pub(crate) mark: i64,
    pub(crate) created_at: i64,
    pub(crate) created_by: String,
    pub(crate) updated_at: i64,
    pub(crate) updated_by: String,
    pub(crate) deleted_at: Option<i64>,
    pub(crate) deleted_by: Option<String>,
}

/// How many columns a row has: [`Model`]'s last field is the last of them.
pub(crate) const COLUMNS: usize = Column::DeletedBy as usize + 1;

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {
    #[sea_orm(
        belongs_to = "super::policy::Entity",
        from = "Column::PolicyId",
        to = "super::policy::Column::Id"
    )]
    Policy,
    #[sea_orm(
        belongs_to = "super::firewall::Entity",
        from = "Column::FirewallId",
        to = "super::firewall::Column::Id"
    )]
    Firewall,
}

impl ActiveModelBehavior for ActiveModel {}

/// The live rules that a caller may see.
pub(crate) fn live(who: &Visibility) -> Select<Entity> {
    live_or_deleted(who).filter(Column::DeletedAt.is_null())
}

/// The live rules of one policy. The caller holds its lock, or has read it in the same snapshot, so
/// its parents are known to be live and visible.
pub(crate) fn live_of(policy: i64) -> Select<Entity> {
    Entity::find().filter(Column::PolicyId.eq(policy)).filter(Column::DeletedAt.is_null())
}

/// The deleted rules of the live policies that a caller may see.
pub(crate) fn deleted(who: &Visibility) -> Select<Entity> {
    live_or_deleted(who).filter(Column::DeletedAt.is_not_null())
}

/// The rules, live or deleted, of the live policies that a caller may see.
pub(crate) fn live_or_deleted(who: &Visibility) -> Select<Entity> {
    Entity::find()
        .join(JoinType::InnerJoin, Relation::Policy.def())
        .join(JoinType::InnerJoin, Relation::Firewall.def())
        .filter(super::visible(who))
        .filter(super::policy::Column::DeletedAt.is_null())
}

/// The deleted rules of one policy, whose lock the caller holds.
pub(crate) fn deleted_of(policy: i64) -> Select<Entity> {
    Entity::find().filter(Column::PolicyId.eq(policy)).filter(Column::DeletedAt.is_not_null())
}

/// The column by which a field is ordered; none for the state, which is computed.
pub(crate) const fn column_of(field: RuleField) -> Option<Column> {
    Some(match field {
        RuleField::State => return None,
        RuleField::Id => Column::Id,
        RuleField::Name => Column::Name,
        RuleField::Action => Column::Action,
        RuleField::Priority => Column::Priority,
        RuleField::IcmpType => Column::IcmpType,
        RuleField::IcmpCode => Column::IcmpCode,
        RuleField::Enabled => Column::Enabled,
        RuleField::Log => Column::Log,
        RuleField::StartsAt => Column::StartsAt,
        RuleField::ExpiresAt => Column::ExpiresAt,
        RuleField::Description => Column::Description,
        RuleField::Reference => Column::Reference,
        RuleField::Revision => Column::Revision,
        RuleField::CreatedAt => Column::CreatedAt,
        RuleField::CreatedBy => Column::CreatedBy,
        RuleField::UpdatedAt => Column::UpdatedAt,
        RuleField::UpdatedBy => Column::UpdatedBy,
    })
}

/// A rule with the shown columns of its policy and firewall.
#[derive(Debug, FromQueryResult)]
pub(crate) struct WithParents {
    #[sea_orm(nested)]
    pub(crate) rule: Model,
    pub(crate) policy_name: String,
    pub(crate) policy_default_action: String,
    pub(crate) policy_header_revision: i64,
    pub(crate) firewall_name: String,
    pub(crate) firewall_header_revision: i64,
}

/// Also reads the parents' columns, in the same statement.
pub(crate) fn with_parents(select: Select<Entity>) -> Selector<SelectModel<WithParents>> {
    parent_columns(select).into_model()
}

/// The same as an unexecuted query.
pub(crate) fn parent_columns(select: Select<Entity>) -> Select<Entity> {
    use super::firewall::Column as Firewall;
    use super::policy::Column as Policy;
    select
        .column_as(Policy::Name, "policy_name")
        .column_as(Policy::DefaultAction, "policy_default_action")
        .column_as(Policy::HeaderRevision, "policy_header_revision")
        .column_as(Firewall::Name, "firewall_name")
        .column_as(Firewall::HeaderRevision, "firewall_header_revision")
}

/// A rule with its parents, and the state of its policy.
#[derive(Debug, FromQueryResult)]
pub(crate) struct WithState {
    #[sea_orm(nested)]
    pub(crate) found: WithParents,
    pub(crate) policy_revision: i64,
    pub(crate) policy_states: String,
}

/// Also reads the parents' columns and the policy's state, in the same statement.
pub(crate) fn with_state(select: Select<Entity>) -> Selector<SelectModel<WithState>> {
    use super::policy::Column as Policy;
    parent_columns(select)
        .column_as(Policy::Revision, "policy_revision")
        .column_as(Policy::States, "policy_states")
        .into_model()
}

/// The columns that decide packets, and the name. In a row, the long texts come after them, so
/// SQLite reads none of the pages that only hold texts.
#[derive(Debug, FromQueryResult)]
pub(crate) struct Criteria {
    pub(crate) id: i64,
    pub(crate) name: Option<String>,
    pub(crate) action: String,
    pub(crate) priority: i32,
    pub(crate) protocols: String,
    pub(crate) icmp_type: Option<i32>,
    pub(crate) icmp_code: Option<i32>,
    pub(crate) sources: String,
    pub(crate) destinations: String,
    pub(crate) ports: String,
    pub(crate) enabled: bool,
    pub(crate) log: bool,
    pub(crate) starts_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
}

/// The same of a rule that may be deleted.
#[derive(Debug, FromQueryResult)]
pub(crate) struct CriteriaOrDeleted {
    #[sea_orm(nested)]
    pub(crate) criteria: Criteria,
    pub(crate) deleted_at: Option<i64>,
}

/// What analyses need besides [`Criteria`].
#[derive(Debug, FromQueryResult)]
pub(crate) struct Upkeep {
    pub(crate) id: i64,
    pub(crate) has_reference: bool,
    pub(crate) updated_at: i64,
}

/// Reads only the columns of [`Upkeep`].
pub(crate) fn upkeep(select: Select<Entity>) -> Select<Entity> {
    select
        .select_only()
        .columns([Column::Id, Column::UpdatedAt])
        .column_as(Column::Reference.ne(""), "has_reference")
}

/// Reads only the columns of [`Criteria`].
pub(crate) fn criteria(select: Select<Entity>) -> Select<Entity> {
    select.select_only().columns([
        Column::Id,
        Column::Name,
        Column::Action,
        Column::Priority,
        Column::Protocols,
        Column::IcmpType,
        Column::IcmpCode,
        Column::Sources,
        Column::Destinations,
        Column::Ports,
        Column::Enabled,
        Column::Log,
        Column::StartsAt,
        Column::ExpiresAt,
    ])
}

/// The rules whose ids another select finds. That select sees only live rules.
pub(crate) fn among(ids: SelectStatement) -> Select<Entity> {
    Entity::find().filter(Column::Id.in_subquery(ids))
}

/// The rules that were deleted before an instant, in microseconds: for the purge.
pub(crate) fn old(before: i64) -> Select<Entity> {
    Entity::find().filter(Column::DeletedAt.is_not_null()).filter(Column::DeletedAt.lt(before))
}

/// The rules of policies, live or not: for the purge.
pub(crate) fn of_policies(policies: &[i64]) -> Select<Entity> {
    Entity::find().filter(Column::PolicyId.is_in(policies.iter().copied()))
}

/// The rules of one policy, live or not, that changed after one of its revisions. The caller has
/// read the policy in the same snapshot.
pub(crate) fn changed_of(policy: i64, revision: i64) -> Select<Entity> {
    Entity::find().filter(Column::PolicyId.eq(policy)).filter(Column::ChangedRevision.gt(revision))
}
