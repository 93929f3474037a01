use std::sync::Arc;

use async_trait::async_trait;
use fireflow_domain::actor::Visibility;
use fireflow_domain::engine::compact::{ChangedRule, CompactRule};
use fireflow_domain::error::StoreError;
use fireflow_domain::filter::Expression;
use fireflow_domain::ids::{FirewallId, PolicyId, Revision, RuleId};
use fireflow_domain::page::{Counting, Page, PageRequest, SortKey};
use fireflow_domain::policy::PolicyRef;
use fireflow_domain::rule::fingerprint::Fingerprint;
use fireflow_domain::rule::order::RulePlace;
use fireflow_domain::rule::{Duplicates, Rule, RuleChanges, RuleSpec, RuleState};
use fireflow_domain::sort;
use fireflow_domain::store::{
    RuleField, RuleFilter, RuleInState, RuleReader, RuleUpkeep, RuleWriter, Stamp, StoreResult,
    Turns,
};
use fireflow_domain::text::Name;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::rule::EVALUATION;
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoSimpleExpr, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Set, Statement,
};

use super::rule_list::{filtered, listed};
use super::rule_set::{new_row, new_rule};
use super::{all_rows, labels_differ, mapped, new_mark, one_row, random_mark};
use crate::entity::policy;
use crate::entity::rule::{
    ActiveModel, Column, Entity, WithParents, among, changed_of, column_of, deleted_of, live,
    live_of, live_or_deleted, parent_columns, with_parents,
};
use crate::error::store_error;
use crate::filter::state_rank;
use crate::query::{AtMostOne, Key, OrderBy, Rendered};
use crate::statement_size::ROWS_PER_INSERT;
use crate::unit_of_work::SeaUnitOfWork;
use crate::{mapping, query};

/// What a field is ordered by, at a time.
fn key(field: RuleField, at: Instant) -> Key {
    column_of(field).map_or_else(|| Key::computed(state_rank(at)), Key::column)
}

impl SeaUnitOfWork {
    /// Writes a rule, if it is live or deleted as `mark` requires.
    async fn write_rule(&self, id: i64, row: ActiveModel, mark: Expr) -> StoreResult<()> {
        let result = Entity::update_many()
            .set(row)
            .filter(Column::Id.eq(id))
            .filter(mark)
            .exec(&self.db())
            .await
            .map_err(store_error)?;
        one_row("rule", id, &result)
    }
}

#[async_trait]
impl RuleReader for SeaUnitOfWork {
    /// One statement.
    async fn get(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        policy: PolicyId,
        id: RuleId,
    ) -> StoreResult<Option<Rule>> {
        static BY_ID: Rendered = Rendered::new();
        let known = self.features;
        let select = || {
            live(who)
                .filter(Column::FirewallId.eq(firewall.get()))
                .filter(Column::PolicyId.eq(policy.get()))
                .filter(Column::Id.eq(id.get()))
                .filter(policy::uses_only(known))
        };
        if *who != Visibility::All {
            let row = with_parents(select()).only(&self.db()).await.map_err(store_error)?;
            return Ok(row.map(mapping::rule).transpose()?);
        }
        let unknown = !known.bits().cast_signed();
        let values = [firewall.get(), policy.get(), id.get(), unknown, 0];
        let backend = self.db().get_database_backend();
        let statement = BY_ID.with(backend, values, || parent_columns(select()));
        let row = WithParents::find_by_statement(statement)
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(row.map(mapping::rule).transpose()?)
    }

    /// One statement, or two after a position whose value is absent. At most one more for the total,
    /// and at most two more to choose how a filter is answered.
    async fn page(
        &mut self,
        who: &Visibility,
        parent: Option<(FirewallId, PolicyId)>,
        filter: &RuleFilter,
        order: &[SortKey<RuleField>],
        request: &PageRequest,
    ) -> StoreResult<Page<Rule>> {
        let order = match (order, parent) {
            ([], Some(_)) => &EVALUATION,
            _ => order,
        };
        let select = filtered(listed(who, parent, filter.deleted, self.features), filter);
        let planned = self.planned(select, filter.expression.as_ref(), Column::Id).await?;
        let by = OrderBy::new(order, |field| key(field, sort::time_of(request)), Column::Id);
        let (rows, has_more) = query::rows(&self.db(), planned.listed, &by, request, with_parents)
            .await
            .map_err(store_error)?;
        let implied = query::implied_total(request, rows.len(), has_more);
        let total = if implied.is_some() || request.counting == Counting::Skipped {
            implied
        } else if *filter == RuleFilter::default() {
            Some(query::counted(self.rule_counter(who, parent).await?))
        } else {
            query::total(&self.db(), planned.counted, Column::Id, request.counting)
                .await
                .map_err(store_error)?
        };
        let items: Vec<Rule> = mapped(rows, mapping::rule).await?;
        Ok(sort::page(items, has_more, order, request, total))
    }

    /// One statement, and at most two more to choose how the filter is answered.
    async fn matching(
        &mut self,
        who: &Visibility,
        parent: (FirewallId, PolicyId),
        expression: &Expression,
    ) -> StoreResult<Vec<RuleId>> {
        self.matching_rules(who, parent, expression).await
    }

    /// One statement.
    async fn last_turns(&mut self, policy: PolicyId, at: Instant) -> StoreResult<Turns> {
        self.turns(policy, at).await
    }

    /// One statement.
    async fn count_to(&mut self, policy: PolicyId, (id, priority): RulePlace) -> StoreResult<u64> {
        let key = Expr::tuple([Column::Priority.into_simple_expr(), Column::Id.into_simple_expr()]);
        let place = Expr::tuple([Expr::val(priority), Expr::val(id.get())]);
        live_of(policy.get()).filter(key.lte(place)).count(&self.db()).await.map_err(store_error)
    }

    /// One statement, and at most two more to choose how a filter is answered.
    async fn following(
        &mut self,
        who: &Visibility,
        parent: Option<(FirewallId, PolicyId)>,
        filter: &RuleFilter,
        after: Option<RulePlace>,
        limit: u32,
    ) -> StoreResult<Vec<Rule>> {
        let select = filtered(listed(who, parent, filter.deleted, self.features), filter);
        let planned = self.planned(select, filter.expression.as_ref(), Column::Id).await?;
        let mut select = planned.listed;
        if parent.is_some() {
            if let Some((id, priority)) = after {
                // Comparing a row value lets both databases start at the position in their index.
                let key = Expr::tuple([
                    Expr::col((Entity, Column::Priority)),
                    Expr::col((Entity, Column::Id)),
                ]);
                let place = Expr::tuple([Expr::val(priority), Expr::val(id.get())]);
                select = select.filter(key.gt(place));
            }
            select = select.order_by_asc(Column::Priority);
        } else if let Some((id, _)) = after {
            select = select.filter(Column::Id.gt(id.get()));
        }
        let select = select.order_by_asc(Column::Id).limit(u64::from(limit));
        let rows = with_parents(select).all(&self.db()).await.map_err(store_error)?;
        mapped(rows, mapping::rule).await
    }

    /// One statement.
    async fn all(&mut self, policy: &PolicyRef) -> StoreResult<Vec<Rule>> {
        let select =
            live_of(policy.id.get()).order_by_asc(Column::Priority).order_by_asc(Column::Id);
        self.converted(select, |row| mapping::rule_of(policy.clone(), row)).await
    }

    /// One statement: there are at most as many policies as an expansion returns.
    async fn text_of_policies(&mut self, policies: &[PolicyId]) -> StoreResult<u64> {
        let length = |column: Column| Func::char_length(column.into_expr().cast_as("text"));
        let text = Expr::expr(length(Column::Description)).add(length(Column::Labels));
        let ids = policies.iter().map(|id| id.get());
        let sum: Option<Option<i64>> = live(&Visibility::All)
            .filter(Column::PolicyId.is_in(ids))
            .select_only()
            .column_as(text.sum().cast_as("bigint"), "text")
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(sum.flatten().and_then(|sum| u64::try_from(sum).ok()).unwrap_or(0))
    }

    /// One statement: there are at most as many policies as an expansion returns.
    async fn of_policies(&mut self, policies: &[PolicyId]) -> StoreResult<Vec<Rule>> {
        let ids = policies.iter().map(|id| id.get());
        let select = live(&Visibility::All)
            .filter(Column::PolicyId.is_in(ids))
            .order_by_asc(Column::PolicyId)
            .order_by_asc(Column::Priority)
            .order_by_asc(Column::Id);
        let rows = with_parents(select).all(&self.db()).await.map_err(store_error)?;
        mapped(rows, mapping::rule).await
    }

    /// One statement.
    async fn changed_since(
        &mut self,
        policy: &PolicyRef,
        revision: Revision,
        at_most: usize,
    ) -> StoreResult<Vec<Rule>> {
        let rows = changed_of(policy.id.get(), revision.0)
            .limit(u64::try_from(at_most).unwrap_or(u64::MAX))
            .all(&self.db())
            .await
            .map_err(store_error)?;
        mapped(rows, |row| mapping::rule_of(policy.clone(), row)).await
    }

    /// One statement.
    async fn all_compact(
        &mut self,
        policy: PolicyId,
        revision: Revision,
    ) -> StoreResult<Vec<Arc<CompactRule>>> {
        self.compact_rules(policy, revision).await
    }

    /// One statement.
    async fn upkeep(&mut self, policy: PolicyId) -> StoreResult<Vec<RuleUpkeep>> {
        self.rule_upkeep(policy).await
    }

    /// One statement.
    async fn changed_compact(
        &mut self,
        policy: PolicyId,
        since: Revision,
        now: Revision,
        at_most: usize,
    ) -> StoreResult<Vec<ChangedRule>> {
        self.changed_rules(policy, since, now, at_most).await
    }

    /// One statement.
    async fn get_in_state(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        policy: PolicyId,
        id: RuleId,
    ) -> StoreResult<Option<RuleInState>> {
        self.rule_in_state(who, firewall, policy, id).await
    }

    /// One statement.
    async fn policies_of(
        &mut self,
        who: &Visibility,
        rules: &[RuleId],
    ) -> StoreResult<Vec<(RuleId, PolicyId)>> {
        let rows: Vec<(i64, i64)> = live_or_deleted(who)
            .select_only()
            .columns([Column::Id, Column::PolicyId])
            .filter(Column::Id.is_in(rules.iter().map(|rule| rule.get())))
            .into_tuple()
            .all(&self.db())
            .await
            .map_err(store_error)?;
        let ids = |(rule, policy)| RuleId::new(rule).zip(PolicyId::new(policy));
        Ok(rows.into_iter().filter_map(ids).collect())
    }
}

#[async_trait]
impl RuleWriter for SeaUnitOfWork {
    /// One statement.
    async fn order(&mut self, policy: PolicyId) -> StoreResult<Vec<RulePlace>> {
        let rows: Vec<(i64, i32)> = live_of(policy.get())
            .select_only()
            .columns([Column::Id, Column::Priority])
            .order_by_asc(Column::Priority)
            .order_by_asc(Column::Id)
            .into_tuple()
            .all(&self.db())
            .await
            .map_err(store_error)?;
        let place = |(id, priority)| RuleId::new(id).map(|id| (id, priority));
        Ok(rows.into_iter().filter_map(place).collect())
    }

    /// One statement for each 1,000 rules.
    async fn renumber(
        &mut self,
        policy: PolicyId,
        places: &[RulePlace],
        revision: Revision,
    ) -> StoreResult<()> {
        for chunk in places.chunks(ROWS_PER_INSERT) {
            // These are our own numbers, so they are written into the text: as parameters they
            // would be text to PostgreSQL.
            let rows: Vec<String> =
                chunk.iter().map(|(id, priority)| format!("({id},{priority})")).collect();
            let sql = format!(
                "UPDATE rule SET priority = given.column2, changed_revision = {revision} \
                 FROM (VALUES {}) AS given \
                 WHERE rule.id = given.column1 AND rule.policy_id = {policy} \
                 AND rule.deleted_at IS NULL",
                rows.join(",")
            );
            let statement = Statement::from_string(self.db().get_database_backend(), sql);
            let result = self.db().execute_raw(statement).await.map_err(store_error)?;
            all_rows("rule", policy.get(), chunk.len(), result.rows_affected())?;
        }
        Ok(())
    }

    /// One statement for each 1,000 rules.
    async fn touch(
        &mut self,
        policy: PolicyId,
        rules: &[RuleId],
        revision: Revision,
        stamp: &Stamp,
    ) -> StoreResult<()> {
        for chunk in rules.chunks(ROWS_PER_INSERT) {
            let row = ActiveModel {
                revision: Set(revision.0),
                changed_revision: Set(revision.0),
                updated_at: Set(stamp.at.micros()),
                updated_by: Set(stamp.by.clone()),
                ..ActiveModel::default()
            };
            let result = Entity::update_many()
                .set(row)
                .col_expr(Column::Mark, random_mark(self.db().get_database_backend()))
                .filter(Column::Id.is_in(chunk.iter().map(|id| id.get())))
                .filter(Column::PolicyId.eq(policy.get()))
                .filter(Column::DeletedAt.is_null())
                .exec(&self.db())
                .await
                .map_err(store_error)?;
            all_rows("rule", policy.get(), chunk.len(), result.rows_affected)?;
        }
        Ok(())
    }

    /// One statement.
    async fn find_by_name(&mut self, policy: PolicyId, name: &Name) -> StoreResult<Option<RuleId>> {
        let holder: Option<i64> = live_of(policy.get())
            .filter(Column::Name.eq(name.as_str()))
            .select_only()
            .column(Column::Id)
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(holder.and_then(RuleId::new))
    }

    /// One statement.
    async fn find_equal(
        &mut self,
        policy: PolicyId,
        fingerprint: Fingerprint,
        except: Option<RuleId>,
        at: Instant,
    ) -> StoreResult<Option<(RuleId, RuleState)>> {
        let mut equal =
            live_of(policy.get()).filter(Column::Fingerprint.eq(fingerprint.0.to_vec()));
        if let Some(except) = except {
            equal = equal.filter(Column::Id.ne(except.get()));
        }
        let first = equal.select_only().column_as(Column::Id.min(), "first").into_query();
        let found: Option<(i64, bool, Option<i64>, Option<i64>)> = among(first)
            .select_only()
            .columns([Column::Id, Column::Enabled, Column::StartsAt, Column::ExpiresAt])
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(found.and_then(|(id, enabled, starts_at, expires_at)| {
            let [starts_at, expires_at] =
                [starts_at, expires_at].map(|micros| micros.and_then(Instant::from_micros));
            Some((RuleId::new(id)?, RuleState::of(enabled, starts_at, expires_at, at)))
        }))
    }

    /// Two statements; one more each for ports, for labels, and for keeping duplicates; and one per
    /// further 1,000 entries.
    async fn insert(
        &mut self,
        policy: &PolicyRef,
        spec: &RuleSpec,
        revision: Revision,
        duplicates: Duplicates,
        stamp: &Stamp,
    ) -> StoreResult<Rule> {
        let firewall = policy.firewall.id.get();
        let copy = match duplicates {
            Duplicates::Refuse => 0,
            Duplicates::Keep => self.next_copy(policy.id, Fingerprint::of(spec)).await?,
        };
        let mark = new_mark()?;
        let row = new_row(policy, spec, revision, mark, copy, stamp);
        let id = Entity::insert(row).exec(&self.db()).await.map_err(store_error)?.last_insert_id;
        self.index_addresses(id, firewall, spec).await?;
        self.index_ports(id, firewall, spec).await?;
        self.index_labels(id, firewall, spec).await?;
        let id =
            RuleId::new(id).ok_or_else(|| StoreError::Failed("there are no more ids".into()))?;
        Ok(new_rule(id, policy, spec.clone(), revision, mark, stamp))
    }

    /// One statement; two more for each of addresses, ports and labels that change.
    async fn update(&mut self, before: &Rule, after: Rule) -> StoreResult<Rule> {
        let id = after.id.get();
        let after = Rule { mark: new_mark()?, ..after };
        let firewall = after.policy.firewall.id.get();
        let row = ActiveModel {
            revision: Set(after.revision.0),
            changed_revision: Set(after.revision.0),
            mark: Set(after.mark.get().cast_signed()),
            updated_at: Set(after.updated_at.micros()),
            updated_by: Set(after.updated_by.clone()),
            ..mapping::rule_content(&after.spec)
        };
        self.write_rule(id, row, Column::DeletedAt.is_null()).await?;
        let (old, new) = (&before.spec, &after.spec);
        if (&old.sources, &old.destinations) != (&new.sources, &new.destinations) {
            self.unindex_addresses(id).await?;
            self.index_addresses(id, firewall, new).await?;
        }
        if old.ports != new.ports {
            self.unindex_ports(id).await?;
            self.index_ports(id, firewall, new).await?;
        }
        if labels_differ(&old.labels, &new.labels) {
            self.unindex_labels(id).await?;
            self.index_labels(id, firewall, new).await?;
        }
        Ok(after)
    }

    /// A constant number of statements for each 1,000 rules and derived rows.
    async fn apply(
        &mut self,
        policy: &PolicyRef,
        changes: &mut RuleChanges,
        revision: Revision,
        duplicates: Duplicates,
        stamp: &Stamp,
    ) -> StoreResult<Vec<Rule>> {
        self.apply_changes(policy, changes, revision, duplicates, stamp).await
    }

    /// Four statements: one marks the rule, the others remove its derived rows.
    async fn delete(&mut self, rule: &Rule, revision: Revision, stamp: &Stamp) -> StoreResult<()> {
        let id = rule.id.get();
        let row = ActiveModel {
            revision: Set(revision.0),
            changed_revision: Set(revision.0),
            mark: Set(new_mark()?.get().cast_signed()),
            deleted_at: Set(Some(stamp.at.micros())),
            deleted_by: Set(Some(stamp.by.clone())),
            ..ActiveModel::default()
        };
        self.write_rule(id, row, Column::DeletedAt.is_null()).await?;
        self.unindex_addresses(id).await?;
        self.unindex_ports(id).await?;
        self.unindex_labels(id).await
    }

    /// One statement.
    async fn get_deleted(&mut self, policy: &PolicyRef, id: RuleId) -> StoreResult<Option<Rule>> {
        let select = deleted_of(policy.id.get()).filter(Column::Id.eq(id.get()));
        let row = select.only(&self.db()).await.map_err(store_error)?;
        Ok(row.map(|row| mapping::rule_of(policy.clone(), row)).transpose()?)
    }

    /// One statement for each 1,000 rules.
    async fn get_all_deleted(
        &mut self,
        policy: &PolicyRef,
        ids: &[RuleId],
    ) -> StoreResult<Vec<Rule>> {
        let mut rules = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(ROWS_PER_INSERT) {
            let ids = chunk.iter().map(|id| id.get());
            let select = deleted_of(policy.id.get()).filter(Column::Id.is_in(ids));
            for row in select.all(&self.db()).await.map_err(store_error)? {
                rules.push(mapping::rule_of(policy.clone(), row)?);
            }
        }
        Ok(rules)
    }

    /// Two statements; one more each for ports, for labels, and for keeping duplicates. The derived
    /// rows are written again.
    async fn restore(&mut self, rule: Rule, duplicates: Duplicates) -> StoreResult<Rule> {
        let rule = Rule { mark: new_mark()?, ..rule };
        let (id, firewall) = (rule.id.get(), rule.policy.firewall.id.get());
        let copy = match duplicates {
            Duplicates::Refuse => 0,
            Duplicates::Keep => self.next_copy(rule.policy.id, Fingerprint::of(&rule.spec)).await?,
        };
        let row = ActiveModel {
            copy: Set(copy),
            revision: Set(rule.revision.0),
            changed_revision: Set(rule.revision.0),
            updated_at: Set(rule.updated_at.micros()),
            updated_by: Set(rule.updated_by.clone()),
            mark: Set(rule.mark.get().cast_signed()),
            deleted_at: Set(None),
            deleted_by: Set(None),
            ..mapping::rule_content(&rule.spec)
        };
        self.write_rule(id, row, Column::DeletedAt.is_not_null()).await?;
        self.index_addresses(id, firewall, &rule.spec).await?;
        self.index_ports(id, firewall, &rule.spec).await?;
        self.index_labels(id, firewall, &rule.spec).await?;
        Ok(rule)
    }
}
