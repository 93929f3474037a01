//! Changes of many rules at once: a constant number of statements for each 1,000 rows.

use std::collections::HashMap;

use fireflow_domain::error::StoreError;
use fireflow_domain::ids::{PolicyId, Revision, RuleId};
use fireflow_domain::mark::Mark;
use fireflow_domain::policy::PolicyRef;
use fireflow_domain::rule::fingerprint::Fingerprint;
use fireflow_domain::rule::{Duplicates, Rule, RuleChanges, RuleSpec};
use fireflow_domain::store::{Stamp, StoreResult};
use sea_orm::sea_query::{OnConflict, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait, Set, Statement,
};

use super::rule_index::{address_rows, port_rows};
use super::{all_rows, label_rows, new_mark};
use crate::entity::label::of_rule as label;
use crate::entity::rule::{ActiveModel, Column, Entity, live_of};
use crate::entity::{rule_address, rule_port};
use crate::error::store_error;
use crate::mapping;
use crate::query::AtMostOne;
use crate::statement_size::ROWS_PER_INSERT;
use crate::unit_of_work::SeaUnitOfWork;

/// Numbers for rules that may equal others. They are unique in their policy, since its revision
/// only grows, and a policy has fewer than a million rules.
struct Copies {
    next: i64,
    step: i64,
}

impl Copies {
    const RULES: i64 = 1 << 20;

    fn new(revision: Revision, duplicates: Duplicates) -> Self {
        match duplicates {
            Duplicates::Refuse => Self { next: 0, step: 0 },
            Duplicates::Keep => Self { next: revision.0.saturating_mul(Self::RULES), step: 1 },
        }
    }

    fn next(&mut self) -> i64 {
        let copy = self.next;
        self.next = copy.saturating_add(self.step);
        copy
    }
}

/// The columns that an update of a whole row writes: all except those that never change.
fn changing_columns() -> Vec<Column> {
    use sea_orm::Iterable;
    Column::iter()
        .filter(|column| {
            !matches!(
                column,
                Column::Id
                    | Column::PolicyId
                    | Column::FirewallId
                    | Column::CreatedAt
                    | Column::CreatedBy
                    | Column::DeletedAt
                    | Column::DeletedBy
            )
        })
        .collect()
}

impl SeaUnitOfWork {
    /// The number for one more rule with a fingerprint: 0 for the first. One statement.
    pub(super) async fn next_copy(
        &self,
        policy: PolicyId,
        fingerprint: Fingerprint,
    ) -> StoreResult<i64> {
        let last: Option<Option<i64>> = live_of(policy.get())
            .filter(Column::Fingerprint.eq(fingerprint.0.to_vec()))
            .select_only()
            .column_as(Column::Copy.max(), "last")
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(last.flatten().map_or(0, |last| last.saturating_add(1)))
    }

    /// See [`fireflow_domain::store::RuleWriter::apply`].
    pub(super) async fn apply_changes(
        &self,
        policy: &PolicyRef,
        changes: &mut RuleChanges,
        revision: Revision,
        duplicates: Duplicates,
        stamp: &Stamp,
    ) -> StoreResult<Vec<Rule>> {
        let mut copies = Copies::new(revision, duplicates);
        self.delete_rules(policy, &changes.deleted, revision, stamp).await?;
        self.update_rules(policy, &mut changes.updated, revision, &mut copies).await?;
        self.restore_rules(policy, &mut changes.restored, revision, &mut copies).await?;
        let created = std::mem::take(&mut changes.created);
        self.create_rules(policy, created, revision, &mut copies, stamp).await
    }

    async fn delete_rules(
        &self,
        policy: &PolicyRef,
        rules: &[Rule],
        revision: Revision,
        stamp: &Stamp,
    ) -> StoreResult<()> {
        let ids: Vec<i64> = rules.iter().map(|rule| rule.id.get()).collect();
        let row = ActiveModel {
            revision: Set(revision.0),
            changed_revision: Set(revision.0),
            // One mark for all: their ids distinguish them, and the mark is new to each.
            mark: Set(new_mark()?.get().cast_signed()),
            deleted_at: Set(Some(stamp.at.micros())),
            deleted_by: Set(Some(stamp.by.clone())),
            ..ActiveModel::default()
        };
        self.set_on(policy, &ids, &row).await?;
        self.unindex(&ids).await
    }

    async fn update_rules(
        &self,
        policy: &PolicyRef,
        rules: &mut [(Rule, Rule)],
        revision: Revision,
        copies: &mut Copies,
    ) -> StoreResult<()> {
        let ids: Vec<i64> = rules.iter().map(|(_, after)| after.id.get()).collect();
        // Rules may exchange names and contents, so all of them are cleared first.
        let nothing =
            ActiveModel { name: Set(None), fingerprint: Set(None), ..ActiveModel::default() };
        self.set_on(policy, &ids, &nothing).await?;
        for (_, after) in &mut *rules {
            after.mark = new_mark()?;
        }
        for chunk in rules.chunks(ROWS_PER_INSERT) {
            let rows = chunk.iter().map(|(_, after)| ActiveModel {
                id: Set(after.id.get()),
                created_at: Set(after.created_at.micros()),
                created_by: Set(after.created_by.clone()),
                updated_at: Set(after.updated_at.micros()),
                updated_by: Set(after.updated_by.clone()),
                changed_revision: Set(revision.0),
                ..row(policy, &after.spec, after.revision, after.mark, copies.next())
            });
            let replace =
                OnConflict::column(Column::Id).update_columns(changing_columns()).to_owned();
            let written = Entity::insert_many(rows)
                .on_conflict(replace)
                .exec_without_returning(&self.db())
                .await
                .map_err(store_error)?;
            all_rows("rule", policy.id.get(), chunk.len(), written)?;
        }
        let moved: Vec<&Rule> = rules
            .iter()
            .filter(|(before, after)| is_indexed_otherwise(&before.spec, &after.spec))
            .map(|(_, after)| after)
            .collect();
        self.unindex(&moved.iter().map(|rule| rule.id.get()).collect::<Vec<_>>()).await?;
        self.index(policy, moved.into_iter()).await
    }

    /// Writes deleted rules in their restored form: live, each with the mark of a new state. Also
    /// writes their derived rows.
    async fn restore_rules(
        &self,
        policy: &PolicyRef,
        rules: &mut [Rule],
        revision: Revision,
        copies: &mut Copies,
    ) -> StoreResult<()> {
        for rule in &mut *rules {
            rule.mark = new_mark()?;
        }
        for chunk in rules.chunks(ROWS_PER_INSERT) {
            let rows = chunk.iter().map(|rule| ActiveModel {
                id: Set(rule.id.get()),
                created_at: Set(rule.created_at.micros()),
                created_by: Set(rule.created_by.clone()),
                updated_at: Set(rule.updated_at.micros()),
                updated_by: Set(rule.updated_by.clone()),
                changed_revision: Set(revision.0),
                deleted_at: Set(None),
                deleted_by: Set(None),
                ..row(policy, &rule.spec, rule.revision, rule.mark, copies.next())
            });
            let mut columns = changing_columns();
            columns.extend([Column::DeletedAt, Column::DeletedBy]);
            let replace = OnConflict::column(Column::Id).update_columns(columns).to_owned();
            let written = Entity::insert_many(rows)
                .on_conflict(replace)
                .exec_without_returning(&self.db())
                .await
                .map_err(store_error)?;
            all_rows("rule", policy.id.get(), chunk.len(), written)?;
        }
        self.index(policy, rules.iter()).await
    }

    async fn create_rules(
        &self,
        policy: &PolicyRef,
        specs: Vec<RuleSpec>,
        revision: Revision,
        copies: &mut Copies,
        stamp: &Stamp,
    ) -> StoreResult<Vec<Rule>> {
        let backend = self.db().get_database_backend();
        let mut made: Vec<Rule> = Vec::with_capacity(specs.len());
        let mut left = specs.into_iter();
        let mut next = || -> StoreResult<Option<(Marked, Statement)>> {
            let chunk = left.by_ref().take(ROWS_PER_INSERT).map(|spec| Ok((new_mark()?, spec)));
            let chunk = chunk.collect::<StoreResult<Marked>>()?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let rows = chunk
                .iter()
                .map(|(mark, spec)| new_row(policy, spec, revision, *mark, copies.next(), stamp));
            let mut insert = Entity::insert_many(rows).into_query();
            insert.returning(Query::returning().columns([Column::Id, Column::Mark]));
            let statement = backend.build(&insert);
            Ok(Some((chunk, statement)))
        };
        let mut statement = next()?;
        while let Some((chunk, now)) = statement {
            let db = self.db();
            // While the database carries out one statement, the next one is made.
            let (rows, following) = tokio::join!(db.query_all_raw(now), async { next() });
            // The database returns the new rows in any order; their marks tell them apart.
            let mut ids: HashMap<i64, i64> = HashMap::with_capacity(chunk.len());
            for row in rows.map_err(store_error)? {
                let read = |index| row.try_get_by_index(index).map_err(store_error);
                ids.insert(read(1)?, read(0)?);
            }
            for (mark, spec) in chunk {
                let id = ids.remove(&mark.get().cast_signed()).and_then(RuleId::new);
                let id = id.ok_or_else(|| StoreError::Failed("a new rule has no id".into()))?;
                made.push(new_rule(id, policy, spec, revision, mark, stamp));
            }
            statement = following?;
        }
        self.index(policy, made.iter()).await?;
        Ok(made)
    }

    async fn set_on(&self, policy: &PolicyRef, ids: &[i64], row: &ActiveModel) -> StoreResult<()> {
        for chunk in ids.chunks(ROWS_PER_INSERT) {
            let result = Entity::update_many()
                .set(row.clone())
                .filter(Column::Id.is_in(chunk.iter().copied()))
                .filter(Column::PolicyId.eq(policy.id.get()))
                .filter(Column::DeletedAt.is_null())
                .exec(&self.db())
                .await
                .map_err(store_error)?;
            all_rows("rule", policy.id.get(), chunk.len(), result.rows_affected)?;
        }
        Ok(())
    }

    async fn unindex(&self, ids: &[i64]) -> StoreResult<()> {
        for chunk in ids.chunks(ROWS_PER_INSERT) {
            let ids = || chunk.iter().copied();
            rule_address::Entity::delete_many()
                .filter(rule_address::Column::RuleId.is_in(ids()))
                .exec(&self.db())
                .await
                .map_err(store_error)?;
            rule_port::Entity::delete_many()
                .filter(rule_port::Column::RuleId.is_in(ids()))
                .exec(&self.db())
                .await
                .map_err(store_error)?;
            label::Entity::delete_many()
                .filter(label::Column::OwnerId.is_in(ids()))
                .exec(&self.db())
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }

    async fn index<'a>(
        &self,
        policy: &PolicyRef,
        rules: impl Iterator<Item = &'a Rule> + Clone + Send,
    ) -> StoreResult<()> {
        let firewall = policy.firewall.id.get();
        let labels =
            |rule, firewall, spec: &RuleSpec| label_rows!(of_rule, rule, firewall, spec.labels);
        self.insert_all(Derived::new(rules.clone(), firewall, address_rows)).await?;
        self.insert_all(Derived::new(rules.clone(), firewall, port_rows)).await?;
        self.insert_all(Derived::new(rules, firewall, labels)).await
    }
}

/// New rules, each with the mark of its state.
type Marked = Vec<(Mark, RuleSpec)>;

/// The rows that are derived from some rules, made when they are needed.
struct Derived<I, A> {
    rules: I,
    firewall: i64,
    of_rule: fn(i64, i64, &RuleSpec) -> Vec<A>,
    rows: std::vec::IntoIter<A>,
}

impl<I, A> Derived<I, A> {
    fn new(rules: I, firewall: i64, of_rule: fn(i64, i64, &RuleSpec) -> Vec<A>) -> Self {
        Self { rules, firewall, of_rule, rows: Vec::new().into_iter() }
    }
}

impl<'a, I: Iterator<Item = &'a Rule>, A> Iterator for Derived<I, A> {
    type Item = A;

    fn next(&mut self) -> Option<A> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(row);
            }
            let rule = self.rules.next()?;
            self.rows = (self.of_rule)(rule.id.get(), self.firewall, &rule.spec).into_iter();
        }
    }
}

/// The row of a new rule, except its id.
pub(super) fn new_row(
    policy: &PolicyRef,
    spec: &RuleSpec,
    revision: Revision,
    mark: Mark,
    copy: i64,
    stamp: &Stamp,
) -> ActiveModel {
    ActiveModel {
        created_at: Set(stamp.at.micros()),
        created_by: Set(stamp.by.clone()),
        updated_at: Set(stamp.at.micros()),
        updated_by: Set(stamp.by.clone()),
        ..row(policy, spec, revision, mark, copy)
    }
}

/// A new rule, as its row has it.
pub(super) fn new_rule(
    id: RuleId,
    policy: &PolicyRef,
    spec: RuleSpec,
    revision: Revision,
    mark: Mark,
    stamp: &Stamp,
) -> Rule {
    Rule {
        id,
        policy: policy.clone(),
        spec,
        revision,
        mark,
        created_at: stamp.at,
        created_by: stamp.by.clone(),
        updated_at: stamp.at,
        updated_by: stamp.by.clone(),
        deleted: None,
    }
}

/// A whole row, except its id and its stamps.
fn row(
    policy: &PolicyRef,
    spec: &RuleSpec,
    revision: Revision,
    mark: Mark,
    copy: i64,
) -> ActiveModel {
    ActiveModel {
        policy_id: Set(policy.id.get()),
        firewall_id: Set(policy.firewall.id.get()),
        copy: Set(copy),
        revision: Set(revision.0),
        changed_revision: Set(revision.0),
        mark: Set(mark.get().cast_signed()),
        ..mapping::rule_content(spec)
    }
}

fn is_indexed_otherwise(before: &RuleSpec, after: &RuleSpec) -> bool {
    (&before.sources, &before.destinations, &before.ports, &before.labels)
        != (&after.sources, &after.destinations, &after.ports, &after.labels)
}
