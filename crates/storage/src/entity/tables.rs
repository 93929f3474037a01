//! The tables as the entities define them, to compare them with the schema.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, EntityName, EntityTrait, IdenStatic, Iterable};

use crate::entity::{
    acceptance, answer, audit_event, audit_head, firewall, label, meta, policy, rule, rule_address,
    rule_port,
};

/// The columns of a table, and whether each is nullable.
pub type Columns = BTreeMap<String, bool>;

/// The tables as the entities define them.
#[must_use]
pub fn entity_tables() -> BTreeMap<String, Columns> {
    fn columns<E: EntityTrait + EntityName>(table: E) -> (String, Columns) {
        let columns = E::Column::iter()
            .map(|column| (IdenStatic::as_str(&column).to_owned(), column.def().is_null()));
        (table.table_name().to_owned(), columns.collect())
    }
    BTreeMap::from([
        columns(acceptance::Entity),
        columns(answer::Entity),
        columns(audit_event::Entity),
        columns(audit_head::Entity),
        columns(firewall::Entity),
        columns(label::of_firewall::Entity),
        columns(label::of_policy::Entity),
        columns(label::of_rule::Entity),
        columns(meta::Entity),
        columns(policy::Entity),
        columns(rule::Entity),
        columns(rule_address::Entity),
        columns(rule_port::Entity),
    ])
}
