//! `rule_address`: the sources and destinations of live rules, for searching. They are derived, and
//! never read for an answer.

use fireflow_domain::filter::tree::Side;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rule_address")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) rule_id: i64,
    pub(crate) firewall_id: i64,
    pub(crate) side: String,
    pub(crate) entry: i32,
    pub(crate) of_any: bool,
    pub(crate) fork: Vec<u8>,
    pub(crate) lo: Vec<u8>,
    pub(crate) hi: Vec<u8>,
    pub(crate) port_fork: Option<i32>,
    pub(crate) port_lo: Option<i32>,
    pub(crate) port_hi: Option<i32>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The letter of a side in the column `side`.
pub(crate) const fn letter(side: Side) -> &'static str {
    match side {
        Side::Source => "s",
        Side::Destination => "d",
    }
}
