use async_trait::async_trait;
use fireflow_domain::error::Resource;
use fireflow_domain::store::{Purged, StoreResult, Upkeep};
use fireflow_domain::time::Instant;
use sea_orm::sea_query::{Expr, ExprTrait, LockType};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select, Statement,
};

use crate::entity::{
    BEING_PURGED, acceptance, answer, firewall, label, policy, rule, rule_address, rule_port,
};
use crate::error::store_error;
use crate::unit_of_work::SeaUnitOfWork;

/// How many parents have their children removed at once.
const PARENTS: u64 = 50;

/// Removes the rows of a table whose ids are in a list.
macro_rules! remove {
    ($uow:expr, $module:path, $column:expr, $ids:expr) => {{
        use $module as table;
        table::Entity::delete_many()
            .filter($column.is_in($ids.iter().copied()))
            .exec(&$uow.db())
            .await
            .map_err(store_error)?
            .rows_affected
    }};
}

#[async_trait]
impl Upkeep for SeaUnitOfWork {
    /// A constant number of statements. Each call removes from the bottom up. It begins with rules
    /// that were deleted themselves. If there are none, it removes the children of deleted
    /// policies, and then these policies; then the same for deleted firewalls; then stored answers.
    async fn purge(
        &mut self,
        deleted_before: Instant,
        kept_before: Instant,
        rows: u32,
    ) -> StoreResult<Purged> {
        self.wait_for_other_purges().await?;
        let (before, rows) = (deleted_before.micros(), u64::from(rows));
        let purged = self.purge_rules(before, rows).await?;
        if purged != Purged::default() {
            return Ok(purged);
        }
        let old = policy::old(before).select_only().column(policy::Column::Id).limit(PARENTS);
        let policies = self.held_ids(old).await?;
        let purged = self.purge_policies(&policies, rows).await?;
        if purged != Purged::default() {
            return Ok(purged);
        }
        let purged = self.purge_firewalls(before, rows).await?;
        if purged != Purged::default() {
            return Ok(purged);
        }
        let answers = self.purge_answers(kept_before.micros(), rows).await?;
        Ok(Purged { answers, ..Purged::default() })
    }
}

impl SeaUnitOfWork {
    /// Waits until no other process is purging: each transaction is short.
    pub(crate) async fn wait_for_other_purges(&self) -> StoreResult<()> {
        if self.db().get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        let lock = Statement::from_string(
            DbBackend::Postgres,
            "SELECT pg_advisory_xact_lock(hashtext('fireflow purge'), \
             hashtext(current_schema()))",
        );
        self.db().execute_raw(lock).await.map(drop).map_err(store_error)
    }

    /// Ids of rows, locked so that nobody restores them.
    async fn held_ids<E: EntityTrait>(&self, mut select: Select<E>) -> StoreResult<Vec<i64>> {
        if self.locks_rows() {
            select = select.lock(LockType::Update);
        }
        select.into_tuple().all(&self.db()).await.map_err(store_error)
    }

    async fn purge_rules(&self, before: i64, rows: u64) -> StoreResult<Purged> {
        let policies: Vec<i64> = rule::old(before)
            .select_only()
            .column(rule::Column::PolicyId)
            .order_by_asc(rule::Column::DeletedAt)
            .limit(rows)
            .into_tuple()
            .all(&self.db())
            .await
            .map_err(store_error)?;
        if policies.is_empty() {
            return Ok(Purged::default());
        }
        // Policies are locked ahead of their rules, in the same order as everywhere else.
        let policies = policy::among(&policies)
            .select_only()
            .column(policy::Column::Id)
            .order_by_asc(policy::Column::Id);
        let policies = self.held_ids(policies).await?;
        let old = rule::old(before)
            .filter(rule::Column::PolicyId.is_in(policies.iter().copied()))
            .select_only()
            .column(rule::Column::Id)
            .order_by_asc(rule::Column::DeletedAt)
            .limit(rows);
        let ids = self.held_ids(old).await?;
        let rules = self.remove_rules(&ids).await?;
        // A client with an older state of the policy can no longer learn what has been removed
        // since.
        policy::Entity::update_many()
            .col_expr(policy::Column::PurgedRevision, Expr::col(policy::Column::Revision))
            .filter(policy::Column::Id.is_in(policies))
            .exec(&self.db())
            .await
            .map_err(store_error)?;
        Ok(Purged { rules, ..Purged::default() })
    }

    /// Removes rules, and their derived rows.
    async fn remove_rules(&self, ids: &[i64]) -> StoreResult<u64> {
        remove!(self, rule_address, table::Column::RuleId, ids);
        remove!(self, rule_port, table::Column::RuleId, ids);
        remove!(self, label::of_rule, table::Column::OwnerId, ids);
        Ok(remove!(self, rule, table::Column::Id, ids))
    }

    /// Removes rules of policies, or the policies if no rule is left.
    async fn purge_policies(&self, policies: &[i64], rows: u64) -> StoreResult<Purged> {
        if policies.is_empty() {
            return Ok(Purged::default());
        }
        let rules: Vec<i64> = rule::of_policies(policies)
            .select_only()
            .column(rule::Column::Id)
            .limit(rows)
            .into_tuple()
            .all(&self.db())
            .await
            .map_err(store_error)?;
        if !rules.is_empty() {
            // From now on the policy can no longer be restored as a whole.
            policy::Entity::update_many()
                .col_expr(policy::Column::DeletedAt, Expr::val(BEING_PURGED))
                .filter(policy::Column::Id.is_in(policies.iter().copied()))
                .filter(policy::Column::DeletedAt.is_not_null())
                .exec(&self.db())
                .await
                .map_err(store_error)?;
            let rules = self.remove_rules(&rules).await?;
            return Ok(Purged { rules, ..Purged::default() });
        }
        self.keep_heads("policy", Resource::Policy, policies).await?;
        remove!(self, label::of_policy, table::Column::OwnerId, policies);
        remove!(self, acceptance, table::Column::PolicyId, policies);
        let policies = remove!(self, policy, table::Column::Id, policies);
        Ok(Purged { policies, ..Purged::default() })
    }

    /// Removes the children of old firewalls, or the firewalls if no child is left.
    async fn purge_firewalls(&self, before: i64, rows: u64) -> StoreResult<Purged> {
        let firewalls = self.held_ids(
            firewall::old(before).select_only().column(firewall::Column::Id).limit(PARENTS),
        );
        let firewalls = firewalls.await?;
        if firewalls.is_empty() {
            return Ok(Purged::default());
        }
        let policies: Vec<i64> = policy::of_firewalls(&firewalls)
            .select_only()
            .column(policy::Column::Id)
            .limit(PARENTS)
            .into_tuple()
            .all(&self.db())
            .await
            .map_err(store_error)?;
        if !policies.is_empty() {
            firewall::Entity::update_many()
                .col_expr(firewall::Column::DeletedAt, Expr::val(BEING_PURGED))
                .filter(firewall::Column::Id.is_in(firewalls.iter().copied()))
                .exec(&self.db())
                .await
                .map_err(store_error)?;
            return self.purge_policies(&policies, rows).await;
        }
        self.keep_heads("firewall", Resource::Firewall, &firewalls).await?;
        remove!(self, label::of_firewall, table::Column::OwnerId, firewalls);
        let firewalls = remove!(self, firewall, table::Column::Id, firewalls);
        Ok(Purged { firewalls, ..Purged::default() })
    }

    /// Keeps the heads of the removed resources' audit chains: their events stay.
    async fn keep_heads(&self, table: &str, kind: Resource, ids: &[i64]) -> StoreResult<()> {
        // These are our own numbers and words, so they are written into the text.
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let sql = format!(
            "INSERT INTO audit_head (resource, id, sequence, hash) \
             SELECT '{}', id, audit_sequence, audit_hash FROM {table} \
             WHERE id IN ({}) AND audit_hash IS NOT NULL",
            kind.as_str(),
            ids.join(",")
        );
        let statement = Statement::from_string(self.db().get_database_backend(), sql);
        self.db().execute_raw(statement).await.map(drop).map_err(store_error)
    }

    async fn purge_answers(&self, before: i64, rows: u64) -> StoreResult<u64> {
        use answer::Column::CreatedAt;
        let last: Vec<i64> = answer::old(before)
            .select_only()
            .column(CreatedAt)
            .order_by_asc(CreatedAt)
            .limit(rows)
            .into_tuple()
            .all(&self.db())
            .await
            .map_err(store_error)?;
        let Some(last) = last.last() else { return Ok(0) };
        let result = answer::Entity::delete_many()
            .filter(Expr::col(CreatedAt).lte(*last))
            .exec(&self.db())
            .await
            .map_err(store_error)?;
        Ok(result.rows_affected)
    }
}
