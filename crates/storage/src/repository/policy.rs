use async_trait::async_trait;
use fireflow_domain::actor::Visibility;
use fireflow_domain::audit_chain::Chain;
use fireflow_domain::error::StoreError;
use fireflow_domain::features::Features;
use fireflow_domain::firewall::Firewall;
use fireflow_domain::ids::{FirewallId, PolicyId, Revision};
use fireflow_domain::page::{Counting, Page, PageRequest, SortKey};
use fireflow_domain::policy::{Policy, PolicySpec, States};
use fireflow_domain::sort;
use fireflow_domain::store::{
    PolicyField, PolicyFilter, PolicyReader, PolicyWriter, Stamp, StoreResult,
};
use fireflow_domain::text::Name;
use sea_orm::sea_query::{Expr, LockType};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Select, Set,
};

use super::{label_rows, labels_differ, mapped, new_mark, one_row};
use crate::chains::HeadColumns;
use crate::entity::label::of_policy as label;
use crate::entity::policy::{
    ActiveModel, Column, Entity, WithParent, deleted, live, newer, parent_columns, uses_only,
    with_parent,
};
use crate::entity::{firewall, policy};
use crate::error::store_error;
use crate::query::{AtMostOne, Key, OrderBy, Rendered};
use crate::unit_of_work::SeaUnitOfWork;
use crate::{mapping, query};

const fn column(field: PolicyField) -> Column {
    match field {
        PolicyField::Id => Column::Id,
        PolicyField::Name => Column::Name,
        PolicyField::Description => Column::Description,
        PolicyField::DefaultAction => Column::DefaultAction,
        PolicyField::RuleCount => Column::RuleCount,
        PolicyField::Revision => Column::Revision,
        PolicyField::CreatedAt => Column::CreatedAt,
        PolicyField::CreatedBy => Column::CreatedBy,
        PolicyField::UpdatedAt => Column::UpdatedAt,
        PolicyField::UpdatedBy => Column::UpdatedBy,
    }
}

fn filtered(mut select: Select<Entity>, filter: &PolicyFilter) -> Select<Entity> {
    if let Some(name) = &filter.name {
        select = select.filter(Column::Name.eq(name.as_str()));
    }
    if let Some(action) = filter.default_action {
        select = select.filter(Column::DefaultAction.eq(action.as_str()));
    }
    select
}

impl SeaUnitOfWork {
    async fn one_policy(&self, select: Select<Entity>) -> StoreResult<Option<Policy>> {
        let row = with_parent(select).only(&self.db()).await.map_err(store_error)?;
        Ok(row.map(mapping::policy).transpose()?)
    }

    /// A policy to be changed, or with a child to be changed: its audit chain may grow.
    async fn locked_policy(&mut self, select: Select<Entity>) -> StoreResult<Option<Policy>> {
        let row = with_parent(select).only(&self.db()).await.map_err(store_error)?;
        let Some(row) = row else { return Ok(None) };
        let model = &row.policy;
        let head = HeadColumns { sequence: model.audit_sequence, hash: model.audit_hash.clone() };
        let tenant = row.firewall_tenant.clone();
        let policy = mapping::policy(row)?;
        self.chains.note(Chain::Policy(policy.id), &head)?;
        self.chains.note_tenant(policy.firewall.id, &tenant);
        Ok(Some(policy))
    }

    /// The row, with the head of its audit chain if the chain has grown.
    fn with_policy_head(&mut self, id: PolicyId, row: ActiveModel) -> ActiveModel {
        match self.chains.take_unwritten(Chain::Policy(id)) {
            Some(HeadColumns { sequence, hash }) => {
                ActiveModel { audit_sequence: Set(sequence), audit_hash: Set(hash), ..row }
            }
            None => row,
        }
    }

    /// Writes the head of a policy's audit chain, and nothing else of the policy. One statement.
    pub(super) async fn write_policy_head(&mut self, id: PolicyId) -> StoreResult<()> {
        let row = self.with_policy_head(id, ActiveModel::default());
        self.write_policy(id.get(), row, Column::DeletedAt.is_null()).await
    }

    /// How many live policies a firewall has, or all firewalls together, from their counters. One
    /// statement.
    async fn policy_counter(
        &self,
        who: &Visibility,
        firewall: Option<FirewallId>,
    ) -> StoreResult<Option<i64>> {
        let mut select = firewall::live(who);
        if let Some(firewall) = firewall {
            select = select.filter(firewall::Column::Id.eq(firewall.get()));
        }
        let sum: Option<Option<i64>> = select
            .select_only()
            .column_as(query::sum(firewall::Column::PolicyCount), "counted")
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(sum.flatten())
    }

    /// How many live rules a policy has, or all policies together, from their counters. One
    /// statement.
    pub(super) async fn rule_counter(
        &self,
        who: &Visibility,
        parent: Option<(FirewallId, PolicyId)>,
    ) -> StoreResult<Option<i64>> {
        let mut select = live(who).filter(uses_only(self.features));
        if let Some((firewall, policy)) = parent {
            select = select
                .filter(Column::FirewallId.eq(firewall.get()))
                .filter(Column::Id.eq(policy.get()));
        }
        let sum: Option<Option<i64>> = select
            .select_only()
            .column_as(query::sum(Column::RuleCount), "counted")
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(sum.flatten())
    }

    /// Writes a policy, if it is live or deleted as `mark` requires.
    async fn write_policy(&self, id: i64, row: ActiveModel, mark: Expr) -> StoreResult<()> {
        let result = Entity::update_many()
            .set(row)
            .filter(Column::Id.eq(id))
            .filter(mark)
            .exec(&self.db())
            .await
            .map_err(store_error)?;
        one_row("policy", id, &result)
    }
}

#[async_trait]
impl PolicyReader for SeaUnitOfWork {
    /// One statement.
    async fn get(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        id: PolicyId,
    ) -> StoreResult<Option<Policy>> {
        static BY_ID: Rendered = Rendered::new();
        let select = || {
            live(who).filter(Column::FirewallId.eq(firewall.get())).filter(Column::Id.eq(id.get()))
        };
        if *who != Visibility::All {
            return self.one_policy(select()).await;
        }
        let values = [firewall.get(), id.get()];
        let backend = self.db().get_database_backend();
        let statement = BY_ID.with(backend, values, || parent_columns(select()));
        let row =
            WithParent::find_by_statement(statement).only(&self.db()).await.map_err(store_error)?;
        Ok(row.map(mapping::policy).transpose()?)
    }

    /// One statement, at most one more for the total, and at most two more to find out how a filter is
    /// best answered.
    async fn page(
        &mut self,
        who: &Visibility,
        firewall: Option<FirewallId>,
        filter: &PolicyFilter,
        order: &[SortKey<PolicyField>],
        request: &PageRequest,
    ) -> StoreResult<Page<Policy>> {
        let door = if filter.deleted { deleted(who) } else { live(who) };
        let mut select = filtered(door, filter);
        if let Some(firewall) = firewall {
            select = select.filter(Column::FirewallId.eq(firewall.get()));
        }
        let planned = self.planned(select, filter.expression.as_ref(), Column::Id).await?;
        let by = OrderBy::new(order, |field| Key::column(column(field)), Column::Id);
        let (rows, has_more) = query::rows(&self.db(), planned.listed, &by, request, with_parent)
            .await
            .map_err(store_error)?;
        let implied = query::implied_total(request, rows.len(), has_more);
        let total = if implied.is_some() || request.counting == Counting::Skipped {
            implied
        } else if *filter == PolicyFilter::default() {
            Some(query::counted(self.policy_counter(who, firewall).await?))
        } else {
            query::total(&self.db(), planned.counted, Column::Id, request.counting)
                .await
                .map_err(store_error)?
        };
        let items: Vec<Policy> = rows.into_iter().map(mapping::policy).collect::<Result<_, _>>()?;
        Ok(sort::page(items, has_more, order, request, total))
    }

    /// One statement: there are at most as many firewalls as on a page.
    async fn of_firewalls(&mut self, firewalls: &[FirewallId]) -> StoreResult<Vec<Policy>> {
        let ids = firewalls.iter().map(|id| id.get());
        let select = live(&Visibility::All)
            .filter(Column::FirewallId.is_in(ids))
            .order_by_asc(Column::FirewallId)
            .order_by_asc(Column::Id);
        let rows = with_parent(select).all(&self.db()).await.map_err(store_error)?;
        mapped(rows, mapping::policy).await
    }

    /// One statement.
    async fn newer(&mut self, who: &Visibility, limit: u32) -> StoreResult<Vec<Policy>> {
        let select = newer(who, self.features).order_by_asc(Column::Id).limit(u64::from(limit));
        let rows = with_parent(select).all(&self.db()).await.map_err(store_error)?;
        mapped(rows, mapping::policy).await
    }
}

#[async_trait]
impl PolicyWriter for SeaUnitOfWork {
    /// One statement.
    async fn lock(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        id: PolicyId,
    ) -> StoreResult<Option<Policy>> {
        let mut select =
            live(who).filter(Column::FirewallId.eq(firewall.get())).filter(Column::Id.eq(id.get()));
        if self.locks_rows() {
            // Locks only the policy's row; NO KEY, since rules refer to it.
            QuerySelect::query(&mut select)
                .lock_with_tables(LockType::NoKeyUpdate, [policy::Entity]);
        }
        self.locked_policy(select).await
    }

    /// One statement.
    async fn find_by_name(
        &mut self,
        firewall: FirewallId,
        name: &Name,
    ) -> StoreResult<Option<PolicyId>> {
        let holder: Option<i64> = live(&Visibility::All)
            .filter(Column::FirewallId.eq(firewall.get()))
            .filter(Column::Name.eq(name.as_str()))
            .select_only()
            .column(Column::Id)
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(holder.and_then(PolicyId::new))
    }

    /// One statement, one more with labels.
    async fn insert(
        &mut self,
        firewall: &Firewall,
        spec: &PolicySpec,
        stamp: &Stamp,
    ) -> StoreResult<Policy> {
        let states = next_state(&States::default())?;
        let row = ActiveModel {
            firewall_id: Set(firewall.id.get()),
            rule_count: Set(0),
            entry_count: Set(0),
            revision: Set(Revision::FIRST.0),
            header_revision: Set(Revision::FIRST.0),
            purged_revision: Set(0),
            states: Set(states.as_str().to_owned()),
            created_at: Set(stamp.at.micros()),
            created_by: Set(stamp.by.clone()),
            updated_at: Set(stamp.at.micros()),
            updated_by: Set(stamp.by.clone()),
            audit_sequence: Set(0),
            features: Set(0),
            ..mapping::policy_content(spec)
        };
        let id = Entity::insert(row).exec(&self.db()).await.map_err(store_error)?.last_insert_id;
        self.insert_all(label_rows!(of_policy, id, firewall.id.get(), spec.labels)).await?;
        let id =
            PolicyId::new(id).ok_or_else(|| StoreError::Failed("there are no more ids".into()))?;
        self.chains.note_new(Chain::Policy(id));
        self.chains.note_tenant(firewall.id, firewall.spec.tenant.as_str());
        Ok(Policy {
            id,
            firewall: firewall.reference(),
            spec: spec.clone(),
            rule_count: 0,
            entry_count: 0,
            features: Features::NONE,
            revision: Revision::FIRST,
            header_revision: Revision::FIRST,
            states,
            audit_head: None,
            created_at: stamp.at,
            created_by: stamp.by.clone(),
            updated_at: stamp.at,
            updated_by: stamp.by.clone(),
            deleted: None,
        })
    }

    /// One statement; two more if the labels change.
    async fn update(&mut self, before: &Policy, after: Policy) -> StoreResult<Policy> {
        let id = after.id.get();
        let after = Policy { states: next_state(&before.states)?, ..after };
        // Most updates only count a rule, so the content is written only if it differs.
        let content = if before.spec == after.spec {
            ActiveModel::default()
        } else {
            mapping::policy_content(&after.spec)
        };
        let row = ActiveModel {
            rule_count: Set(i64::try_from(after.rule_count).unwrap_or(i64::MAX)),
            entry_count: Set(i64::try_from(after.entry_count).unwrap_or(i64::MAX)),
            revision: Set(after.revision.0),
            header_revision: Set(after.header_revision.0),
            states: Set(after.states.as_str().to_owned()),
            updated_at: Set(after.updated_at.micros()),
            updated_by: Set(after.updated_by.clone()),
            ..content
        };
        let row = self.with_policy_head(after.id, row);
        let audit_head = self.chains.head(Chain::Policy(after.id));
        let after = Policy { audit_head, ..after };
        self.write_policy(id, row, Column::DeletedAt.is_null()).await?;
        if labels_differ(&before.spec.labels, &after.spec.labels) {
            label::Entity::delete_many()
                .filter(label::Column::OwnerId.eq(id))
                .exec(&self.db())
                .await
                .map_err(store_error)?;
            let firewall = after.firewall.id.get();
            self.insert_all(label_rows!(of_policy, id, firewall, after.spec.labels)).await?;
        }
        Ok(after)
    }

    /// One statement. The data derived from it and its children stays until it is purged, since it
    /// may be restored.
    async fn delete(&mut self, policy: &Policy, stamp: &Stamp) -> StoreResult<()> {
        let row = ActiveModel {
            revision: Set(policy.revision.0.saturating_add(1)),
            states: Set(next_state(&policy.states)?.as_str().to_owned()),
            deleted_at: Set(Some(stamp.at.micros())),
            deleted_by: Set(Some(stamp.by.clone())),
            ..ActiveModel::default()
        };
        let row = self.with_policy_head(policy.id, row);
        self.write_policy(policy.id.get(), row, Column::DeletedAt.is_null()).await
    }

    /// One statement.
    async fn lock_deleted(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        id: PolicyId,
    ) -> StoreResult<Option<Policy>> {
        let mut select = deleted(who)
            .filter(Column::FirewallId.eq(firewall.get()))
            .filter(Column::Id.eq(id.get()));
        if self.locks_rows() {
            QuerySelect::query(&mut select)
                .lock_with_tables(LockType::NoKeyUpdate, [policy::Entity]);
        }
        self.locked_policy(select).await
    }

    /// One statement.
    async fn restore(&mut self, policy: Policy) -> StoreResult<Policy> {
        let id = policy.id.get();
        let policy = Policy { states: next_state(&policy.states)?, ..policy };
        let row = ActiveModel {
            revision: Set(policy.revision.0),
            header_revision: Set(policy.header_revision.0),
            states: Set(policy.states.as_str().to_owned()),
            updated_at: Set(policy.updated_at.micros()),
            updated_by: Set(policy.updated_by.clone()),
            deleted_at: Set(None),
            deleted_by: Set(None),
            ..mapping::policy_content(&policy.spec)
        };
        let row = self.with_policy_head(policy.id, row);
        self.write_policy(id, row, Column::DeletedAt.is_not_null()).await?;
        let audit_head = self.chains.head(Chain::Policy(policy.id));
        Ok(Policy { audit_head, ..policy })
    }
}

/// The states of a policy when it is written: each write adds one that has never existed before.
fn next_state(former: &States) -> StoreResult<States> {
    Ok(former.followed_by(new_mark()?))
}
