//! The steps over firewalls, policies and their counters, and over rows without an owner.

use std::collections::HashMap;

use fireflow_domain::error::Resource;
use fireflow_domain::features::Features;
use fireflow_domain::labels::Labels;
use fireflow_domain::text::fold;
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter,
    Set,
};
use serde::de::IgnoredAny;

use super::{DerivedTable, Done, RowFault, RowOwner, SeenPolicy, Step};
use crate::entity::{BEING_PURGED, firewall, policy};
use crate::mapping;
use crate::repository::{label_rows, new_mark};
use crate::statement_size::ROWS_PER_INSERT;
use crate::verify::{VerifyError, rows};

/// How many firewalls or policies a step reads.
const PARENTS_AT_ONCE: usize = 100;
/// How many rules are counted at once: only their entries are read.
const COUNTED_AT_ONCE: usize = 500;
/// How many ids of owners a step over derived rows spans.
const OWNERS_AT_ONCE: i64 = 5_000;

/// A derived label row: owner, firewall, key, value.
pub(super) type LabelRow = (i64, i64, String, String);

/// How many expected rows are missing, and how many stored rows are surplus. The rows may be in any
/// order.
pub(super) fn compare<K: Eq + std::hash::Hash>(
    expected: impl IntoIterator<Item = K>,
    stored: impl IntoIterator<Item = K>,
) -> (usize, usize) {
    let mut balance: HashMap<K, i64> = HashMap::new();
    for row in expected {
        *balance.entry(row).or_default() += 1;
    }
    for row in stored {
        *balance.entry(row).or_default() -= 1;
    }
    let total = |sign: i64| {
        let sum: i64 = balance.values().map(|count| (count * sign).max(0)).sum();
        usize::try_from(sum).unwrap_or(usize::MAX)
    };
    (total(1), total(-1))
}

/// Formats our own numbers for a statement's text.
pub(super) fn list(ids: impl IntoIterator<Item = i64>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(",")
}

/// Compares the stored case-folded text with the fold of its source, and sets the correct value.
fn check_folded(
    owner: RowOwner,
    column: &'static str,
    (text, stored): (&str, &str),
    mended: &mut ActiveValue<String>,
    faults: &mut Vec<RowFault>,
) {
    let expected = fold(text);
    if stored != expected {
        *mended = Set(expected);
        faults.push(RowFault::Column { owner, column });
    }
}

/// The id that the next step continues after, if this step was full.
fn next(ids: &[i64], most: usize) -> Option<i64> {
    if ids.len() < most { None } else { ids.last().copied() }
}

impl Step<'_> {
    /// The label rows of some owners.
    pub(super) async fn labels(
        &self,
        table: &str,
        owners: &[i64],
    ) -> Result<HashMap<i64, Vec<LabelRow>>, DbErr> {
        let mut labels: HashMap<i64, Vec<LabelRow>> = HashMap::new();
        if owners.is_empty() {
            return Ok(labels);
        }
        let sql = format!(
            "SELECT owner_id, firewall_id, key, value FROM {table} WHERE owner_id IN ({})",
            list(owners.iter().copied())
        );
        for row in rows(&self.db, sql).await? {
            let owner: i64 = row.try_get_by_index(0)?;
            let firewall = row.try_get_by_index(1)?;
            let (key, value) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            labels.entry(owner).or_default().push((owner, firewall, key, value));
        }
        Ok(labels)
    }

    pub(super) async fn insert<A>(&self, mut rows: Vec<A>) -> Result<(), DbErr>
    where
        A: ActiveModelTrait + Send,
    {
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(ROWS_PER_INSERT));
            A::Entity::insert_many(rows).exec_without_returning(&self.db).await?;
            rows = rest;
        }
        Ok(())
    }

    pub(super) async fn clear(&self, table: &str, owner: &str, id: i64) -> Result<(), DbErr> {
        self.execute(format!("DELETE FROM {table} WHERE {owner} = {id}")).await
    }

    /// Gives a policy a new state: lists that were found through a repaired value still have its
    /// tags.
    pub(super) async fn renew(
        &self,
        policies: impl IntoIterator<Item = i64>,
    ) -> Result<(), VerifyError> {
        for id in policies {
            let mark = new_mark()?;
            self.execute(format!(
                "UPDATE policy SET states = '{mark}' || substr(states, 1, 240) WHERE id = {id}"
            ))
            .await?;
        }
        Ok(())
    }

    pub(super) async fn firewalls(&self, after: i64) -> Result<Done, VerifyError> {
        let sql = format!(
            "SELECT * FROM firewall WHERE id > {after} ORDER BY id LIMIT {PARENTS_AT_ONCE}{}",
            self.lock()
        );
        let found = rows(&self.db, sql).await?;
        let models = found.iter().map(|row| firewall::Model::from_query_result(row, ""));
        let models: Vec<firewall::Model> = models.collect::<Result<_, _>>()?;
        let ids: Vec<i64> = models.iter().map(|model| model.id).collect();
        let mut done = Done { next: next(&ids, PARENTS_AT_ONCE), ..Done::default() };
        done.count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        if ids.is_empty() {
            return Ok(done);
        }
        let mut labels = self.labels("firewall_label", &ids).await?;
        let mut counted: HashMap<i64, i64> = HashMap::new();
        let sql = format!(
            "SELECT firewall_id, count(*) FROM policy WHERE firewall_id IN ({}) \
             AND deleted_at IS NULL GROUP BY firewall_id",
            list(ids.iter().copied())
        );
        for row in rows(&self.db, sql).await? {
            counted.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
        for model in models {
            let id = model.id;
            let owner = RowOwner { kind: Resource::Firewall, id };
            let mut mended = <firewall::ActiveModel as Default>::default();
            let name = (model.name.as_str(), model.name_folded.as_str());
            let faults = &mut done.faults;
            check_folded(owner, "name_folded", name, &mut mended.name_folded, faults);
            let text = (model.description.as_str(), model.description_folded.as_str());
            check_folded(owner, "description_folded", text, &mut mended.description_folded, faults);
            let counted = counted.get(&id).copied().unwrap_or_default();
            // While a firewall is being purged, its policies disappear, and nobody counts them.
            if model.deleted_at != Some(BEING_PURGED) && model.policy_count != counted {
                mended.policy_count = Set(counted);
                let (column, stored) = ("policy_count", model.policy_count);
                done.faults.push(RowFault::Counter { owner, column, stored, counted });
            }
            if self.repairs && mended.is_changed() {
                let update = firewall::Entity::update_many().set(mended);
                update.filter(firewall::Column::Id.eq(id)).exec(&self.db).await?;
            }
            let stored = labels.remove(&id).unwrap_or_default();
            let parsed = mapping::stored_labels("firewall", id, &model.labels);
            let parsed = parsed.map_err(|fault| fault.to_string());
            if let Some(labels) =
                check_labels(owner, "firewall_label", id, parsed, stored, &mut done.faults)
                && self.repairs
            {
                self.clear("firewall_label", "owner_id", id).await?;
                self.insert(label_rows!(of_firewall, id, id, labels)).await?;
            }
        }
        Ok(done)
    }

    pub(super) async fn policies(&self, after: i64) -> Result<Done, VerifyError> {
        let sql = format!(
            "SELECT policy.*, (SELECT firewall.deleted_at FROM firewall \
             WHERE firewall.id = policy.firewall_id) AS parent_deleted_at \
             FROM policy WHERE id > {after} ORDER BY id LIMIT {PARENTS_AT_ONCE}{}",
            self.lock()
        );
        let mut models = Vec::new();
        for row in rows(&self.db, sql).await? {
            let parent: Option<i64> = row.try_get("", "parent_deleted_at")?;
            models.push((policy::Model::from_query_result(&row, "")?, parent));
        }
        let ids: Vec<i64> = models.iter().map(|(model, _)| model.id).collect();
        let mut done = Done { next: next(&ids, PARENTS_AT_ONCE), ..Done::default() };
        let mut labels = self.labels("policy_label", &ids).await?;
        let mut renewed = Vec::new();
        for (model, parent_deleted_at) in models {
            let id = model.id;
            let owner = RowOwner { kind: Resource::Policy, id };
            let unknown = Features::from_bits(model.features.cast_unsigned()).without(self.known);
            let is_purged = [model.deleted_at, parent_deleted_at].contains(&Some(BEING_PURGED));
            done.policies.push(SeenPolicy { id, unknown, has_counters: !is_purged });
            if !unknown.is_empty() {
                continue;
            }
            let mut mended = <policy::ActiveModel as Default>::default();
            let name = (model.name.as_str(), model.name_folded.as_str());
            let faults = &mut done.faults;
            check_folded(owner, "name_folded", name, &mut mended.name_folded, faults);
            let text = (model.description.as_str(), model.description_folded.as_str());
            check_folded(owner, "description_folded", text, &mut mended.description_folded, faults);
            if self.repairs && mended.is_changed() {
                let update = policy::Entity::update_many().set(mended);
                update.filter(policy::Column::Id.eq(id)).exec(&self.db).await?;
                renewed.push(id);
            }
            let stored = labels.remove(&id).unwrap_or_default();
            let parsed = mapping::stored_labels("policy", id, &model.labels);
            let parsed = parsed.map_err(|fault| fault.to_string());
            let firewall = model.firewall_id;
            if let Some(labels) =
                check_labels(owner, "policy_label", firewall, parsed, stored, &mut done.faults)
                && self.repairs
            {
                self.clear("policy_label", "owner_id", id).await?;
                self.insert(label_rows!(of_policy, id, firewall, labels)).await?;
                renewed.push(id);
            }
        }
        renewed.dedup();
        self.renew(renewed).await?;
        Ok(done)
    }

    /// Counts a policy's live rules and their entries, a page at a time, while holding the policy's
    /// lock.
    pub(super) async fn counters(&self, policy: i64) -> Result<Done, VerifyError> {
        let mut done = Done::default();
        let sql = format!(
            "SELECT rule_count, entry_count FROM policy WHERE id = {policy}{}",
            self.lock()
        );
        let Some(row) = rows(&self.db, sql).await?.into_iter().next() else { return Ok(done) };
        let stored: [i64; 2] = [row.try_get_by_index(0)?, row.try_get_by_index(1)?];
        let owner = RowOwner { kind: Resource::Policy, id: policy };
        let (mut rules, mut entries) = (0_i64, 0_i64);
        let mut after: Option<(i32, i64)> = None;
        loop {
            let behind = after.map_or_else(String::new, |(priority, id)| {
                format!("AND (priority, id) > ({priority}, {id})")
            });
            let sql = format!(
                "SELECT priority, id, sources, destinations, ports FROM rule \
                 WHERE policy_id = {policy} AND deleted_at IS NULL {behind} \
                 ORDER BY priority, id LIMIT {COUNTED_AT_ONCE}"
            );
            let page = rows(&self.db, sql).await?;
            for row in &page {
                let id: i64 = row.try_get_by_index(1)?;
                after = Some((row.try_get_by_index(0)?, id));
                rules = rules.saturating_add(1);
                for column in 2..5 {
                    let text: String = row.try_get_by_index(column)?;
                    let Ok(list) = serde_json::from_str::<Vec<IgnoredAny>>(&text) else {
                        // The step over rules reports it: an unreadable row cannot be counted.
                        return Ok(done);
                    };
                    entries = entries.saturating_add(i64::try_from(list.len()).unwrap_or(i64::MAX));
                }
            }
            if page.len() < COUNTED_AT_ONCE {
                break;
            }
        }
        let counted = [rules, entries];
        for ((column, stored), counted) in
            ["rule_count", "entry_count"].into_iter().zip(stored).zip(counted)
        {
            if stored != counted {
                done.faults.push(RowFault::Counter { owner, column, stored, counted });
            }
        }
        if self.repairs && !done.faults.is_empty() {
            self.execute(format!(
                "UPDATE policy SET rule_count = {rules}, entry_count = {entries} WHERE id = {policy}"
            ))
            .await?;
            self.renew([policy]).await?;
        }
        Ok(done)
    }

    pub(super) async fn strays(&self, table: DerivedTable, after: i64) -> Result<Done, DbErr> {
        let DerivedTable { name, owner, of } = table;
        let mut done = Done::default();
        let sql = format!("SELECT min({owner}) FROM {name} WHERE {owner} > {after}");
        let first = rows(&self.db, sql).await?.into_iter().next();
        let first: Option<i64> = first.map_or(Ok(None), |row| row.try_get_by_index(0))?;
        let Some(first) = first else { return Ok(done) };
        let last = first.saturating_add(OWNERS_AT_ONCE - 1);
        let strays = format!(
            "{owner} BETWEEN {first} AND {last} \
             AND NOT EXISTS (SELECT 1 FROM {of} WHERE {of}.id = {name}.{owner})"
        );
        let sql = format!("SELECT {owner}, count(*) FROM {name} WHERE {strays} GROUP BY {owner}");
        for row in rows(&self.db, sql).await? {
            let (owner, rows) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            done.faults.push(RowFault::Strays { table: name, owner, rows });
        }
        if self.repairs && !done.faults.is_empty() {
            self.execute(format!("DELETE FROM {name} WHERE {strays}")).await?;
        }
        done.next = Some(last);
        Ok(done)
    }
}

/// Compares label rows with their owner's labels. Returns the labels if the rows must be rewritten.
pub(super) fn check_labels(
    owner: RowOwner,
    table: &'static str,
    firewall: i64,
    labels: Result<Labels, String>,
    stored: Vec<LabelRow>,
    faults: &mut Vec<RowFault>,
) -> Option<Labels> {
    let labels = match labels {
        Ok(labels) => labels,
        Err(why) => {
            faults.push(RowFault::Unreadable { owner, why });
            return None;
        }
    };
    let expected = labels
        .iter()
        .map(|(key, value)| (owner.id, firewall, key.to_owned(), value.to_owned()))
        .collect::<Vec<LabelRow>>();
    let (missing, surplus) = compare(expected, stored);
    if (missing, surplus) == (0, 0) {
        return None;
    }
    faults.push(RowFault::Rows { owner, table, missing, surplus });
    Some(labels)
}
