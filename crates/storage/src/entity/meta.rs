//! `fireflow_meta`: what the database knows of itself.

use sea_orm::entity::prelude::*;

/// The key under which stands the environment that the database was made in.
pub(crate) const ENVIRONMENT: &str = "environment";

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "fireflow_meta")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
