//! The step over rules: their columns, and the rows derived from them.

use std::collections::{BTreeSet, HashMap};

use fireflow_domain::error::Resource;
use fireflow_domain::features::Features;
use fireflow_domain::labels::Labels;
use fireflow_domain::rule::RuleSpec;
use fireflow_domain::rule::fingerprint::Fingerprint;
use fireflow_domain::text::fold;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, Set,
    TryIntoModel,
};

use super::steps::{LabelRow, check_labels, compare, list};
use super::{Done, RowFault, RowOwner, Step};
use crate::entity::{rule, rule_address, rule_port};
use crate::mapping;
use crate::repository::{address_rows, label_rows, port_rows};
use crate::verify::{VerifyError, rows};

/// How many rules a step reads; each can have thousands of entries.
const RULES_AT_ONCE: usize = 50;
/// Roughly the number of derived rows whose stored rows are read at once.
const DERIVED_AT_ONCE: usize = 5_000;
/// How many rows a repair writes before it ends its transaction, at the end of a rule.
const ROWS_AT_ONCE: usize = 2_000;

/// A derived address row, without its id.
type AddressRow = (i64, i64, String, i32, bool, Vec<u8>, Vec<u8>, Vec<u8>, [Option<i32>; 3]);
/// A derived port row.
type PortRow = (i64, i64, i32, i32, i32, i32);

fn address_row(row: rule_address::Model) -> AddressRow {
    let rule_address::Model {
        id: _,
        rule_id,
        firewall_id,
        side,
        entry,
        of_any,
        fork,
        lo,
        hi,
        port_fork,
        port_lo,
        port_hi,
    } = row;
    let ports = [port_fork, port_lo, port_hi];
    (rule_id, firewall_id, side, entry, of_any, fork, lo, hi, ports)
}

fn port_row(row: rule_port::Model) -> PortRow {
    let rule_port::Model { id: _, rule_id, firewall_id, entry, fork, lo, hi } = row;
    (rule_id, firewall_id, entry, fork, lo, hi)
}

/// A rule with its policy's firewall, and its content or the reason why that cannot be read.
struct Found {
    model: rule::Model,
    firewall: i64,
    spec: Result<RuleSpec, String>,
}

/// The stored rows that are derived from a rule.
#[derive(Default)]
struct Stored {
    addresses: Vec<AddressRow>,
    ports: Vec<PortRow>,
    labels: Vec<LabelRow>,
}

impl Found {
    const fn owner(&self) -> RowOwner {
        RowOwner { kind: Resource::Rule, id: self.model.id }
    }

    /// Roughly how many rows are derived from it.
    fn derived(&self) -> usize {
        let entries = self.spec.as_ref().map_or(0, |spec| spec.entry_count());
        usize::try_from(entries).unwrap_or(usize::MAX)
    }
}

impl Step<'_> {
    pub(super) async fn rules(&self, after: i64) -> Result<Done, VerifyError> {
        let sql = format!(
            "SELECT id, policy_id FROM rule WHERE id > {after} ORDER BY id LIMIT {RULES_AT_ONCE}"
        );
        let (mut ids, mut policies) = (Vec::new(), BTreeSet::new());
        for row in rows(&self.db, sql).await? {
            ids.push(row.try_get_by_index::<i64>(0)?);
            policies.insert(row.try_get_by_index::<i64>(1)?);
        }
        let mut done = Done::default();
        let Some(last) = ids.last() else { return Ok(done) };
        done.next = (ids.len() >= RULES_AT_ONCE).then_some(*last);
        let policies = self.known_policies(policies).await?;
        let mut found = self.found(&ids, &policies).await?.into_iter().peekable();
        let mut renewed = BTreeSet::new();
        let mut written = 0_usize;
        while found.peek().is_some() && written < ROWS_AT_ONCE {
            let mut part = Vec::new();
            let mut derived = 0_usize;
            while let Some(rule) = found.next_if(|_| derived < DERIVED_AT_ONCE) {
                derived = derived.saturating_add(rule.derived());
                part.push(rule);
            }
            let mut stored = self.stored(&part).await?;
            for rule in part {
                let (id, policy) = (rule.model.id, rule.model.policy_id);
                done.count = done.count.saturating_add(1);
                let before = done.faults.len();
                let stored = stored.remove(&id).unwrap_or_default();
                let rows = self.rule(rule, stored, &mut done).await?;
                written = written.saturating_add(rows);
                let new = done.faults.get(before..).unwrap_or_default();
                if self.repairs && new.iter().any(RowFault::is_repairable) {
                    renewed.insert(policy);
                }
                // If a part is not repaired to its end, its rest comes next.
                if written >= ROWS_AT_ONCE {
                    done.next = Some(id);
                    break;
                }
            }
        }
        self.renew(renewed).await?;
        Ok(done)
    }

    /// Rules by id, of policies that this process can read, each with its content.
    async fn found(&self, ids: &[i64], policies: &HashMap<i64, i64>) -> Result<Vec<Found>, DbErr> {
        let sql =
            format!("SELECT * FROM rule WHERE id IN ({}) ORDER BY id", list(ids.iter().copied()));
        let mut found = Vec::with_capacity(ids.len());
        for row in rows(&self.db, sql).await? {
            let model = rule::Model::from_query_result(&row, "")?;
            if let Some(firewall) = policies.get(&model.policy_id).copied() {
                let spec = mapping::rule_spec(&model).map_err(|fault| fault.to_string());
                found.push(Found { model, firewall, spec });
            }
        }
        Ok(found)
    }

    /// The stored rows that are derived from rules.
    async fn stored(&self, rules: &[Found]) -> Result<HashMap<i64, Stored>, DbErr> {
        let ids: Vec<i64> = rules.iter().map(|rule| rule.model.id).collect();
        let among = list(ids.iter().copied());
        let mut stored: HashMap<i64, Stored> = HashMap::new();
        let sql = format!("SELECT * FROM rule_address WHERE rule_id IN ({among})");
        for row in rows(&self.db, sql).await? {
            let row = rule_address::Model::from_query_result(&row, "")?;
            stored.entry(row.rule_id).or_default().addresses.push(address_row(row));
        }
        let sql = format!("SELECT * FROM rule_port WHERE rule_id IN ({among})");
        for row in rows(&self.db, sql).await? {
            let row = rule_port::Model::from_query_result(&row, "")?;
            stored.entry(row.rule_id).or_default().ports.push(port_row(row));
        }
        for (id, labels) in self.labels("rule_label", &ids).await? {
            stored.entry(id).or_default().labels = labels;
        }
        Ok(stored)
    }

    /// The firewalls of policies, locked against other writers. Omits policies that this process
    /// cannot read.
    async fn known_policies(&self, ids: BTreeSet<i64>) -> Result<HashMap<i64, i64>, DbErr> {
        let sql = format!(
            "SELECT id, firewall_id, features FROM policy WHERE id IN ({}) ORDER BY id{}",
            list(ids),
            self.lock()
        );
        let mut known = HashMap::new();
        for row in rows(&self.db, sql).await? {
            let bits: i64 = row.try_get_by_index(2)?;
            if Features::from_bits(bits.cast_unsigned()).without(self.known).is_empty() {
                known.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            }
        }
        Ok(known)
    }

    /// Returns how many rows were written.
    async fn rule(
        &self,
        found: Found,
        stored: Stored,
        done: &mut Done,
    ) -> Result<usize, VerifyError> {
        let owner = found.owner();
        let spec = match &found.spec {
            Ok(spec) => spec,
            Err(why) => {
                done.faults.push(RowFault::Unreadable { owner, why: why.clone() });
                return Ok(0);
            }
        };
        let mut written = self.columns(&found, spec, done).await?;
        // The derived rows of a deleted rule are removed with the deletion.
        let live = found.model.deleted_at.is_none().then_some(spec);
        written =
            written.saturating_add(self.addresses(&found, live, stored.addresses, done).await?);
        written = written.saturating_add(self.ports(&found, live, stored.ports, done).await?);
        let (id, firewall) = (found.model.id, found.firewall);
        let labels = Ok(live.map_or_else(Labels::default, |spec| spec.labels.clone()));
        let faults = &mut done.faults;
        let differ = check_labels(owner, "rule_label", firewall, labels, stored.labels, faults);
        if let Some(labels) = differ
            && self.repairs
        {
            self.clear("rule_label", "owner_id", id).await?;
            self.insert(label_rows!(of_rule, id, firewall, labels)).await?;
            written = written.saturating_add(1).saturating_add(labels.as_map().len());
        }
        Ok(written)
    }

    async fn columns(
        &self,
        found: &Found,
        spec: &RuleSpec,
        done: &mut Done,
    ) -> Result<usize, DbErr> {
        let (owner, model) = (found.owner(), &found.model);
        let mut mended = <rule::ActiveModel as Default>::default();
        let mut fault = |column| done.faults.push(RowFault::Column { owner, column });
        if model.firewall_id != found.firewall {
            mended.firewall_id = Set(found.firewall);
            fault("firewall_id");
        }
        let name = model.name.as_deref().map(fold);
        if model.name_folded != name {
            mended.name_folded = Set(name);
            fault("name_folded");
        }
        let description = fold(&model.description);
        if model.description_folded != description {
            mended.description_folded = Set(description);
            fault("description_folded");
        }
        let fingerprint = Fingerprint::of(spec).0.to_vec();
        // A restored rule gets a fingerprint of its own again.
        if model.deleted_at.is_none() && model.fingerprint.as_ref() != Some(&fingerprint) {
            fault("fingerprint");
            if self.repairs {
                mended.copy = Set(self.free_copy(model, &fingerprint).await?);
            }
            mended.fingerprint = Set(Some(fingerprint));
        }
        if !self.repairs || !mended.is_changed() {
            return Ok(0);
        }
        let update = rule::Entity::update_many().set(mended);
        update.filter(rule::Column::Id.eq(model.id)).exec(&self.db).await?;
        Ok(1)
    }

    /// A copy number that no other live rule of the policy has with this fingerprint; preferably
    /// the rule's own.
    async fn free_copy(&self, model: &rule::Model, fingerprint: &[u8]) -> Result<i64, DbErr> {
        use sea_orm::QuerySelect;
        let others: Vec<i64> = rule::live_of(model.policy_id)
            .filter(rule::Column::Fingerprint.eq(fingerprint.to_vec()))
            .filter(rule::Column::Id.ne(model.id))
            .select_only()
            .column(rule::Column::Copy)
            .into_tuple()
            .all(&self.db)
            .await?;
        if !others.contains(&model.copy) {
            return Ok(model.copy);
        }
        Ok(others.iter().max().map_or(0, |last| last.saturating_add(1)))
    }

    async fn addresses(
        &self,
        found: &Found,
        live: Option<&RuleSpec>,
        stored: Vec<AddressRow>,
        done: &mut Done,
    ) -> Result<usize, DbErr> {
        let (id, owner) = (found.model.id, found.owner());
        let expected = live.map_or_else(Vec::new, |spec| address_rows(id, found.firewall, spec));
        let models = expected.iter().map(|row| {
            let row = rule_address::ActiveModel { id: Set(0), ..row.clone() };
            row.try_into_model().map(address_row)
        });
        let (missing, surplus) = compare(models.collect::<Result<Vec<_>, _>>()?, stored);
        if (missing, surplus) == (0, 0) {
            return Ok(0);
        }
        done.faults.push(RowFault::Rows { owner, table: "rule_address", missing, surplus });
        if !self.repairs {
            return Ok(0);
        }
        let written = expected.len().max(surplus);
        self.clear("rule_address", "rule_id", id).await?;
        self.insert(expected).await?;
        Ok(written)
    }

    async fn ports(
        &self,
        found: &Found,
        live: Option<&RuleSpec>,
        stored: Vec<PortRow>,
        done: &mut Done,
    ) -> Result<usize, DbErr> {
        let (id, owner) = (found.model.id, found.owner());
        let expected = live.map_or_else(Vec::new, |spec| port_rows(id, found.firewall, spec));
        let models = expected.iter().map(|row| {
            let row = rule_port::ActiveModel { id: Set(0), ..row.clone() };
            row.try_into_model().map(port_row)
        });
        let (missing, surplus) = compare(models.collect::<Result<Vec<_>, _>>()?, stored);
        if (missing, surplus) == (0, 0) {
            return Ok(0);
        }
        done.faults.push(RowFault::Rows { owner, table: "rule_port", missing, surplus });
        if !self.repairs {
            return Ok(0);
        }
        let written = expected.len().max(surplus);
        self.clear("rule_port", "rule_id", id).await?;
        self.insert(expected).await?;
        Ok(written)
    }
}
