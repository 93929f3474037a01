//! Lists with the expression of a filter, in the form that fits how many rows meet it.

use fireflow_domain::error::StoreError;
use fireflow_domain::filter::Expression;
use fireflow_domain::store::StoreResult;
use sea_orm::sea_query::Expr;
use sea_orm::{ConnectionTrait, EntityTrait, IntoSimpleExpr, QueryFilter, Select};

use super::{Dialect, Plan, condition, seeds};
use crate::error::store_error;
use crate::unit_of_work::SeaUnitOfWork;

/// A list with its filter, as it is best read and as it is best counted.
pub(crate) struct Planned<E: EntityTrait> {
    pub(crate) listed: Select<E>,
    pub(crate) counted: Select<E>,
}

impl SeaUnitOfWork {
    /// Puts the expression of a filter to a list, in the form that fits how many rows meet it: at
    /// most two statements, none without one.
    pub(crate) async fn planned<E: EntityTrait>(
        &self,
        select: Select<E>,
        expression: Option<&Expression>,
        id: E::Column,
    ) -> StoreResult<Planned<E>> {
        let Some(expression) = expression else {
            return Ok(Planned { listed: select.clone(), counted: select });
        };
        if expression.filter.lacks_findings() {
            return Err(StoreError::Failed("a filter was not given the findings of rules".into()));
        }
        let dialect = Dialect::of(self.db().get_database_backend(), expression);
        let seeds = seeds(dialect, &expression.filter);
        let most = self.max_candidates;
        let plan = Plan::make(&self.db(), dialect, seeds, most).await.map_err(store_error)?;
        let select = select.filter(condition(dialect, &expression.filter));
        let with = |restriction: Option<Expr>| match restriction {
            Some(restriction) => select.clone().filter(restriction),
            None => select.clone(),
        };
        Ok(Planned {
            listed: with(plan.restriction(dialect, id.into_simple_expr())),
            counted: with(plan.counted(dialect, id.into_simple_expr())),
        })
    }
}
