//! `kept_answer`: stored answers of idempotent requests, by subject and key.

use sea_orm::QueryFilter;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "kept_answer")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) subject: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) key: String,
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) created_at: i64,
    pub(crate) status: i32,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The answer stored under a subject's key.
pub(crate) fn of(subject: &str, key: &str) -> Select<Entity> {
    Entity::find().filter(Column::Subject.eq(subject)).filter(Column::Key.eq(key))
}

/// The answers stored at or before an instant, in microseconds: for the purge.
pub(crate) fn old(before: i64) -> Select<Entity> {
    Entity::find().filter(Column::CreatedAt.lte(before))
}
