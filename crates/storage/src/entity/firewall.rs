//! `firewall`.

use fireflow_domain::actor::Visibility;
use sea_orm::entity::prelude::*;
use sea_orm::{FromQueryResult, QuerySelect};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "firewall")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) name_folded: String,
    pub(crate) tenant: String,
    pub(crate) description: String,
    pub(crate) description_folded: String,
    pub(crate) labels: String,
    pub(crate) policy_count: i64,
    pub(crate) revision: i64,
    pub(crate) header_revision: i64,
    pub(crate) mark: i64,
    pub(crate) created_at: i64,
    pub(crate) created_by: String,
    pub(crate) updated_at: i64,
    pub(crate) updated_by: String,
    pub(crate) deleted_at: Option<i64>,
    pub(crate) deleted_by: Option<String>,
    /// The head of its audit chain: the number of events, and the last event's hash.
    pub(crate) audit_sequence: i64,
    pub(crate) audit_hash: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The live firewalls that a caller may see.
pub(crate) fn live(who: &Visibility) -> Select<Entity> {
    Entity::find().filter(super::visible(who))
}

/// The deleted firewalls that a caller may see.
pub(crate) fn deleted(who: &Visibility) -> Select<Entity> {
    Entity::find()
        .filter(super::of_tenants(who))
        .filter(Column::DeletedAt.is_not_null())
        .filter(Column::DeletedAt.ne(super::BEING_PURGED))
}

/// The firewalls that were deleted before an instant, in microseconds: for the purge.
pub(crate) fn old(before: i64) -> Select<Entity> {
    Entity::find().filter(Column::DeletedAt.is_not_null()).filter(Column::DeletedAt.lt(before))
}

/// The shown columns of a live firewall. Columns that are only searched are omitted, since the
/// driver copies every column that is read.
#[derive(Debug, FromQueryResult)]
pub(crate) struct Shown {
    id: i64,
    name: String,
    tenant: String,
    description: String,
    labels: String,
    policy_count: i64,
    revision: i64,
    header_revision: i64,
    mark: i64,
    created_at: i64,
    created_by: String,
    updated_at: i64,
    updated_by: String,
}

/// The columns of [`Shown`].
pub(crate) fn shown(select: Select<Entity>) -> Select<Entity> {
    select.select_only().columns([
        Column::Id,
        Column::Name,
        Column::Tenant,
        Column::Description,
        Column::Labels,
        Column::PolicyCount,
        Column::Revision,
        Column::HeaderRevision,
        Column::Mark,
        Column::CreatedAt,
        Column::CreatedBy,
        Column::UpdatedAt,
        Column::UpdatedBy,
    ])
}

impl From<Shown> for Model {
    fn from(shown: Shown) -> Self {
        Self {
            id: shown.id,
            name: shown.name,
            name_folded: String::new(),
            tenant: shown.tenant,
            description: shown.description,
            description_folded: String::new(),
            labels: shown.labels,
            policy_count: shown.policy_count,
            revision: shown.revision,
            header_revision: shown.header_revision,
            mark: shown.mark,
            created_at: shown.created_at,
            created_by: shown.created_by,
            updated_at: shown.updated_at,
            updated_by: shown.updated_by,
            deleted_at: None,
            deleted_by: None,
            audit_sequence: 0,
            audit_hash: None,
        }
    }
}
