//! The search rows derived from a rule's content: its addresses and ports as keys.

use fireflow_domain::filter::tree::Side;
use fireflow_domain::net::{AddressRange, PortRange};
use fireflow_domain::rule::{Endpoint, RuleSpec};
use fireflow_domain::store::StoreResult;
use sea_orm::sea_query::SelectStatement;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, NotSet, QueryFilter, QuerySelect, QueryTrait, Set,
};

use super::label_rows;
use crate::entity::label::of_rule as label;
use crate::entity::{rule_address, rule_port};
use crate::error::store_error;
use crate::index::{address_keys, port_key};
use crate::unit_of_work::SeaUnitOfWork;

fn addresses_where(side: Side, condition: Condition) -> SelectStatement {
    rule_address::Entity::find()
        .select_only()
        .column(rule_address::Column::RuleId)
        .filter(rule_address::Column::Side.eq(rule_address::letter(side)))
        .filter(condition)
        .into_query()
}

/// The rules with an entry of exactly these addresses.
pub(super) fn with_address(side: Side, range: AddressRange) -> SelectStatement {
    use rule_address::Column as Address;
    let is_any = range == AddressRange::Any;
    let mut one_of = Condition::any();
    for key in address_keys(range) {
        one_of =
            one_of.add(Condition::all().add(Address::Lo.eq(key.lo)).add(Address::Hi.eq(key.hi)));
    }
    addresses_where(side, Condition::all().add(Address::OfAny.eq(is_any)).add(one_of))
}

/// The rules with an entry that itself names exactly these ports.
pub(super) fn with_entry_port(side: Side, range: PortRange) -> SelectStatement {
    use rule_address::Column as Address;
    let key = port_key(range);
    let condition = Condition::all()
        .add(Address::PortFork.eq(key.fork))
        .add(Address::PortLo.eq(key.lo))
        .add(Address::PortHi.eq(key.hi));
    addresses_where(side, condition)
}

/// The rules with exactly these ports among their own.
pub(super) fn with_port(range: PortRange) -> SelectStatement {
    use rule_port::Column as Port;
    let key = port_key(range);
    rule_port::Entity::find()
        .select_only()
        .column(Port::RuleId)
        .filter(Port::Fork.eq(key.fork))
        .filter(Port::Lo.eq(key.lo))
        .filter(Port::Hi.eq(key.hi))
        .into_query()
}

/// The rows of the addresses.
pub(crate) fn address_rows(
    rule: i64,
    firewall: i64,
    spec: &RuleSpec,
) -> Vec<rule_address::ActiveModel> {
    let mut rows = Vec::new();
    for (side, endpoints) in
        [(Side::Source, &spec.sources), (Side::Destination, &spec.destinations)]
    {
        for (entry, endpoint) in (0..).zip(endpoints) {
            endpoint_rows(&mut rows, rule, firewall, side, entry, endpoint);
        }
    }
    rows
}

fn endpoint_rows(
    rows: &mut Vec<rule_address::ActiveModel>,
    rule: i64,
    firewall: i64,
    side: Side,
    entry: i32,
    endpoint: &Endpoint,
) {
    let port = endpoint.port.map(port_key);
    for key in address_keys(endpoint.address) {
        rows.push(rule_address::ActiveModel {
            id: NotSet,
            rule_id: Set(rule),
            firewall_id: Set(firewall),
            side: Set(rule_address::letter(side).to_owned()),
            entry: Set(entry),
            of_any: Set(endpoint.address == AddressRange::Any),
            fork: Set(key.fork),
            lo: Set(key.lo),
            hi: Set(key.hi),
            port_fork: Set(port.map(|port| port.fork)),
            port_lo: Set(port.map(|port| port.lo)),
            port_hi: Set(port.map(|port| port.hi)),
        });
    }
}

/// The rows of the rule's own ports.
pub(crate) fn port_rows(rule: i64, firewall: i64, spec: &RuleSpec) -> Vec<rule_port::ActiveModel> {
    (0..)
        .zip(&spec.ports)
        .map(|(entry, port)| {
            let key = port_key(*port);
            rule_port::ActiveModel {
                id: NotSet,
                rule_id: Set(rule),
                firewall_id: Set(firewall),
                entry: Set(entry),
                fork: Set(key.fork),
                lo: Set(key.lo),
                hi: Set(key.hi),
            }
        })
        .collect()
}

impl SeaUnitOfWork {
    pub(super) async fn index_addresses(
        &self,
        rule: i64,
        firewall: i64,
        spec: &RuleSpec,
    ) -> StoreResult<()> {
        self.insert_all(address_rows(rule, firewall, spec)).await
    }

    pub(super) async fn index_ports(
        &self,
        rule: i64,
        firewall: i64,
        spec: &RuleSpec,
    ) -> StoreResult<()> {
        self.insert_all(port_rows(rule, firewall, spec)).await
    }

    pub(super) async fn index_labels(
        &self,
        rule: i64,
        firewall: i64,
        spec: &RuleSpec,
    ) -> StoreResult<()> {
        self.insert_all(label_rows!(of_rule, rule, firewall, spec.labels)).await
    }

    pub(super) async fn unindex_addresses(&self, rule: i64) -> StoreResult<()> {
        use rule_address::{Column, Entity};
        let delete = Entity::delete_many().filter(Column::RuleId.eq(rule));
        delete.exec(&self.db()).await.map(drop).map_err(store_error)
    }

    pub(super) async fn unindex_ports(&self, rule: i64) -> StoreResult<()> {
        use rule_port::{Column, Entity};
        let delete = Entity::delete_many().filter(Column::RuleId.eq(rule));
        delete.exec(&self.db()).await.map(drop).map_err(store_error)
    }

    pub(super) async fn unindex_labels(&self, rule: i64) -> StoreResult<()> {
        let delete = label::Entity::delete_many().filter(label::Column::OwnerId.eq(rule));
        delete.exec(&self.db()).await.map(drop).map_err(store_error)
    }
}
