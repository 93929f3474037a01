use async_trait::async_trait;
use fireflow_domain::actor::Visibility;
use fireflow_domain::audit_chain::Chain;
use fireflow_domain::error::StoreError;
use fireflow_domain::firewall::{Firewall, FirewallSpec};
use fireflow_domain::ids::{FirewallId, Revision};
use fireflow_domain::labels::Labels;
use fireflow_domain::page::{Counting, Page, PageRequest, SortKey};
use fireflow_domain::sort;
use fireflow_domain::store::{
    FirewallField, FirewallFilter, FirewallReader, FirewallWriter, Stamp, StoreResult,
};
use sea_orm::sea_query::{LockType, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QuerySelect,
    Select, Set, TransactionTrait,
};

use super::{label_rows, labels_differ, new_mark, one_row};
use crate::chains::HeadColumns;
use crate::entity::firewall::{ActiveModel, Column, Entity, Model, Shown, deleted, live, shown};
use crate::entity::label::of_firewall as label;
use crate::error::{is_unique_violation, store_error};
use crate::query::{AtMostOne, Key, OrderBy, Rendered};
use crate::unit_of_work::SeaUnitOfWork;
use crate::{mapping, query};

const fn column(field: FirewallField) -> Column {
    match field {
        FirewallField::Id => Column::Id,
        FirewallField::Name => Column::Name,
        FirewallField::Tenant => Column::Tenant,
        FirewallField::Description => Column::Description,
        FirewallField::PolicyCount => Column::PolicyCount,
        FirewallField::Revision => Column::Revision,
        FirewallField::CreatedAt => Column::CreatedAt,
        FirewallField::CreatedBy => Column::CreatedBy,
        FirewallField::UpdatedAt => Column::UpdatedAt,
        FirewallField::UpdatedBy => Column::UpdatedBy,
    }
}

impl SeaUnitOfWork {
    async fn one_firewall(&self, select: Select<Entity>) -> StoreResult<Option<Firewall>> {
        let row = select.only(&self.db()).await.map_err(store_error)?;
        Ok(row.map(mapping::firewall).transpose()?)
    }

    /// A firewall to be changed, or with a child to be changed: its audit chain may grow.
    async fn locked_firewall(&mut self, select: Select<Entity>) -> StoreResult<Option<Firewall>> {
        let Some(row) = select.only(&self.db()).await.map_err(store_error)? else {
            return Ok(None);
        };
        let head = HeadColumns { sequence: row.audit_sequence, hash: row.audit_hash.clone() };
        let firewall = mapping::firewall(row)?;
        self.chains.note(Chain::Firewall(firewall.id), &head)?;
        self.chains.note_tenant(firewall.id, firewall.spec.tenant.as_str());
        Ok(Some(firewall))
    }

    /// The row, with the head of its audit chain if the chain has grown.
    fn with_firewall_head(&mut self, id: FirewallId, row: ActiveModel) -> ActiveModel {
        match self.chains.take_unwritten(Chain::Firewall(id)) {
            Some(HeadColumns { sequence, hash }) => {
                ActiveModel { audit_sequence: Set(sequence), audit_hash: Set(hash), ..row }
            }
            None => row,
        }
    }

    /// The live firewall with the same tenant and name. One statement.
    async fn firewall_name_holder(&self, spec: &FirewallSpec) -> StoreResult<Option<FirewallId>> {
        let holder: Option<i64> = live(&Visibility::All)
            .filter(Column::Tenant.eq(spec.tenant.as_str()))
            .filter(Column::Name.eq(spec.name.as_str()))
            .select_only()
            .column(Column::Id)
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(holder.and_then(FirewallId::new))
    }

    /// The holder of a name that an index found taken. It can only be gone again if another writer
    /// created and removed it in between.
    async fn taken_by(&self, spec: &FirewallSpec) -> StoreResult<FirewallId> {
        let holder = self.firewall_name_holder(spec).await?;
        holder.ok_or_else(|| {
            StoreError::Unavailable("a firewall's name was taken and freed at once".into())
        })
    }

    async fn write_firewall(&self, id: i64, row: ActiveModel) -> Result<(), StoreError> {
        let result = Entity::update_many()
            .set(row)
            .filter(Column::Id.eq(id))
            .filter(Column::DeletedAt.is_null())
            .exec(&self.db())
            .await
            .map_err(store_error)?;
        one_row("firewall", id, &result)
    }

    /// Names a live or a deleted firewall in a savepoint, where the index decides between two that
    /// want the same name. The savepoint is needed because PostgreSQL aborts a whole transaction on
    /// an error.
    async fn name_firewall(
        &self,
        id: i64,
        row: ActiveModel,
        spec: &FirewallSpec,
        is_live: bool,
    ) -> StoreResult<Result<(), FirewallId>> {
        let savepoint = self.transaction()?.begin().await.map_err(store_error)?;
        let mark =
            if is_live { Column::DeletedAt.is_null() } else { Column::DeletedAt.is_not_null() };
        let written: Result<_, DbErr> = Entity::update_many()
            .set(row)
            .filter(Column::Id.eq(id))
            .filter(mark)
            .exec(&savepoint)
            .await;
        match written {
            Ok(result) => {
                savepoint.commit().await.map_err(store_error)?;
                one_row("firewall", id, &result)?;
                Ok(Ok(()))
            }
            Err(error) if is_unique_violation(&error) => {
                savepoint.rollback().await.map_err(store_error)?;
                Ok(Err(self.taken_by(spec).await?))
            }
            Err(error) => Err(store_error(error)),
        }
    }

    async fn write_firewall_labels(&self, id: i64, labels: &Labels) -> StoreResult<()> {
        self.insert_all(label_rows!(of_firewall, id, id, labels)).await
    }

    async fn clear_firewall_labels(&self, id: i64) -> StoreResult<()> {
        label::Entity::delete_many()
            .filter(label::Column::OwnerId.eq(id))
            .exec(&self.db())
            .await
            .map_err(store_error)?;
        Ok(())
    }
}

#[async_trait]
impl FirewallReader for SeaUnitOfWork {
    /// One statement.
    async fn get(&mut self, who: &Visibility, id: FirewallId) -> StoreResult<Option<Firewall>> {
        static BY_ID: Rendered = Rendered::new();
        let select = || live(who).filter(Column::Id.eq(id.get()));
        if *who != Visibility::All {
            return self.one_firewall(select()).await;
        }
        let backend = self.db().get_database_backend();
        let statement = BY_ID.with(backend, [id.get()], || shown(select()));
        let row =
            Shown::find_by_statement(statement).only(&self.db()).await.map_err(store_error)?;
        Ok(row.map(Model::from).map(mapping::firewall).transpose()?)
    }

    /// One statement, at most one more for the total, and at most two more to find out how a filter is
    /// best answered.
    async fn page(
        &mut self,
        who: &Visibility,
        filter: &FirewallFilter,
        order: &[SortKey<FirewallField>],
        request: &PageRequest,
    ) -> StoreResult<Page<Firewall>> {
        let mut select = if filter.deleted { deleted(who) } else { live(who) };
        if let Some(name) = &filter.name {
            select = select.filter(Column::Name.eq(name.as_str()));
        }
        // No counter knows how many firewalls a caller sees. They are few, and an index counts
        // them.
        let counting = match request.counting {
            Counting::Bounded if *filter == FirewallFilter::default() => Counting::Exact,
            counting => counting,
        };
        let planned = self.planned(select, filter.expression.as_ref(), Column::Id).await?;
        let by = OrderBy::new(order, |field| Key::column(column(field)), Column::Id);
        let (rows, has_more) =
            query::rows(&self.db(), planned.listed, &by, request, |it| it.into_model::<Model>())
                .await
                .map_err(store_error)?;
        let total = match query::implied_total(request, rows.len(), has_more) {
            None => query::total(&self.db(), planned.counted, Column::Id, counting)
                .await
                .map_err(store_error)?,
            implied => implied,
        };
        let items: Vec<Firewall> =
            rows.into_iter().map(mapping::firewall).collect::<Result<_, _>>()?;
        Ok(sort::page(items, has_more, order, request, total))
    }
}

#[async_trait]
impl FirewallWriter for SeaUnitOfWork {
    /// One statement.
    async fn lock(&mut self, who: &Visibility, id: FirewallId) -> StoreResult<Option<Firewall>> {
        let mut select = live(who).filter(Column::Id.eq(id.get()));
        if self.locks_rows() {
            // NO KEY: a child's foreign key must not wait for this lock, or two writers would wait
            // for each other.
            select = select.lock(LockType::NoKeyUpdate);
        }
        self.locked_firewall(select).await
    }

    /// One statement, one more with labels, one more if the name is taken.
    async fn insert(
        &mut self,
        spec: &FirewallSpec,
        stamp: &Stamp,
    ) -> StoreResult<Result<Firewall, FirewallId>> {
        let mark = new_mark()?;
        let row = ActiveModel {
            policy_count: Set(0),
            revision: Set(Revision::FIRST.0),
            header_revision: Set(Revision::FIRST.0),
            mark: Set(mark.get().cast_signed()),
            created_at: Set(stamp.at.micros()),
            created_by: Set(stamp.by.clone()),
            updated_at: Set(stamp.at.micros()),
            updated_by: Set(stamp.by.clone()),
            audit_sequence: Set(0),
            ..mapping::firewall_content(spec)
        };
        // No conflict target: SeaORM's own "do nothing" names the primary key, which is never in
        // conflict.
        let inserted = Entity::insert(row)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec(&self.db())
            .await;
        let id = match inserted {
            Ok(inserted) => inserted.last_insert_id,
            Err(DbErr::RecordNotInserted) => return Ok(Err(self.taken_by(spec).await?)),
            Err(error) => return Err(store_error(error)),
        };
        self.write_firewall_labels(id, &spec.labels).await?;
        let id = FirewallId::new(id)
            .ok_or_else(|| StoreError::Failed("there are no more ids".into()))?;
        self.chains.note_new(Chain::Firewall(id));
        Ok(Ok(Firewall {
            id,
            spec: spec.clone(),
            policy_count: 0,
            revision: Revision::FIRST,
            header_revision: Revision::FIRST,
            mark,
            created_at: stamp.at,
            created_by: stamp.by.clone(),
            updated_at: stamp.at,
            updated_by: stamp.by.clone(),
            deleted: None,
        }))
    }

    /// One statement; three if the name changes, and one more if that name is taken; two more if
    /// the labels change.
    async fn update(
        &mut self,
        before: &Firewall,
        after: Firewall,
    ) -> StoreResult<Result<Firewall, FirewallId>> {
        let id = after.id.get();
        let after = Firewall { mark: new_mark()?, ..after };
        let content = if before.spec == after.spec {
            ActiveModel::default()
        } else {
            mapping::firewall_content(&after.spec)
        };
        let row = ActiveModel {
            policy_count: Set(i64::try_from(after.policy_count).unwrap_or(i64::MAX)),
            revision: Set(after.revision.0),
            header_revision: Set(after.header_revision.0),
            mark: Set(after.mark.get().cast_signed()),
            updated_at: Set(after.updated_at.micros()),
            updated_by: Set(after.updated_by.clone()),
            ..content
        };
        let row = self.with_firewall_head(after.id, row);
        let (old, new) = (&before.spec, &after.spec);
        if (&old.tenant, &old.name) == (&new.tenant, &new.name) {
            self.write_firewall(id, row).await?;
        } else if let Err(holder) = self.name_firewall(id, row, new, true).await? {
            return Ok(Err(holder));
        }
        if labels_differ(&old.labels, &new.labels) {
            self.clear_firewall_labels(id).await?;
            self.write_firewall_labels(id, &new.labels).await?;
        }
        Ok(Ok(after))
    }

    /// One statement. The data derived from it and its children stays until it is purged, since it
    /// may be restored.
    async fn delete(&mut self, firewall: &Firewall, stamp: &Stamp) -> StoreResult<()> {
        let row = ActiveModel {
            revision: Set(firewall.revision.0.saturating_add(1)),
            mark: Set(new_mark()?.get().cast_signed()),
            deleted_at: Set(Some(stamp.at.micros())),
            deleted_by: Set(Some(stamp.by.clone())),
            ..ActiveModel::default()
        };
        let row = self.with_firewall_head(firewall.id, row);
        self.write_firewall(firewall.id.get(), row).await
    }

    /// One statement.
    async fn lock_deleted(
        &mut self,
        who: &Visibility,
        id: FirewallId,
    ) -> StoreResult<Option<Firewall>> {
        let mut select = deleted(who).filter(Column::Id.eq(id.get()));
        if self.locks_rows() {
            select = select.lock(LockType::NoKeyUpdate);
        }
        self.locked_firewall(select).await
    }

    /// Three statements, and one more if the name is taken.
    async fn restore(&mut self, firewall: Firewall) -> StoreResult<Result<Firewall, FirewallId>> {
        let firewall = Firewall { mark: new_mark()?, ..firewall };
        let row = ActiveModel {
            revision: Set(firewall.revision.0),
            header_revision: Set(firewall.header_revision.0),
            updated_at: Set(firewall.updated_at.micros()),
            updated_by: Set(firewall.updated_by.clone()),
            mark: Set(firewall.mark.get().cast_signed()),
            deleted_at: Set(None),
            deleted_by: Set(None),
            ..mapping::firewall_content(&firewall.spec)
        };
        let row = self.with_firewall_head(firewall.id, row);
        let named = self.name_firewall(firewall.id.get(), row, &firewall.spec, false).await?;
        Ok(named.map(|()| firewall))
    }
}
