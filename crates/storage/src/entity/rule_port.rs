//! `rule_port`: the `ports` of live rules, for searching. They are derived, and never read for an
//! answer.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rule_port")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) rule_id: i64,
    pub(crate) firewall_id: i64,
    pub(crate) entry: i32,
    pub(crate) fork: i32,
    pub(crate) lo: i32,
    pub(crate) hi: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
