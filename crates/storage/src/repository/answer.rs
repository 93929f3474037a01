use async_trait::async_trait;
use fireflow_domain::error::StoreError;
use fireflow_domain::store::{AnswerStore, Claim, Claimed, KeptAnswer, StoreResult};
use fireflow_domain::usecase::retention::answers_kept_since;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};

use super::one_row;
use crate::entity::answer::{self, ActiveModel, Column, Entity, Model};
use crate::error::{Corrupt, store_error};
use crate::query::AtMostOne;
use crate::unit_of_work::SeaUnitOfWork;

#[async_trait]
impl AnswerStore for SeaUnitOfWork {
    /// One statement, one more if the key is known. If two requests claim a key, PostgreSQL makes
    /// the second wait for the first; SQLite has one writer.
    async fn claim(&mut self, claim: &Claim) -> StoreResult<Claimed> {
        let row = ActiveModel {
            subject: Set(claim.subject.clone()),
            key: Set(claim.key.clone()),
            fingerprint: Set(claim.fingerprint.to_vec()),
            created_at: Set(claim.at.micros()),
            // Nobody ever sees these values: the transaction replaces them later.
            status: Set(0),
            headers: Set("[]".to_owned()),
            body: Set(Vec::new()),
        };
        let is_old =
            Expr::col((Entity, Column::CreatedAt)).lte(answers_kept_since(claim.at).micros());
        let mut over_old = OnConflict::columns([Column::Subject, Column::Key]);
        over_old
            .update_columns([
                Column::Fingerprint,
                Column::CreatedAt,
                Column::Status,
                Column::Headers,
                Column::Body,
            ])
            .action_and_where(is_old);
        let taken = Entity::insert(row)
            .on_conflict(over_old)
            .exec_without_returning(&self.db())
            .await
            .map_err(store_error)?;
        if taken == 1 {
            return Ok(Claimed::First);
        }
        let kept =
            answer::of(&claim.subject, &claim.key).only(&self.db()).await.map_err(store_error)?;
        match kept {
            Some(kept) if kept.fingerprint == claim.fingerprint => {
                Ok(Claimed::Repeated(kept_answer(kept)?))
            }
            Some(_) => Ok(Claimed::Other),
            // Purged in between: the client retries.
            None => Err(StoreError::Unavailable("a stored response has just been removed".into())),
        }
    }

    /// One statement.
    async fn keep(&mut self, claim: &Claim, answer: &KeptAnswer) -> StoreResult<()> {
        // Pairs of plain strings: writing them cannot fail.
        let headers = serde_json::to_string(&answer.headers).unwrap_or_default();
        let row = ActiveModel {
            status: Set(answer.status.into()),
            headers: Set(headers),
            body: Set(answer.body.clone()),
            ..ActiveModel::default()
        };
        let result = Entity::update_many()
            .set(row)
            .filter(Column::Subject.eq(claim.subject.as_str()))
            .filter(Column::Key.eq(claim.key.as_str()))
            .exec(&self.db())
            .await
            .map_err(store_error)?;
        one_row("kept_answer", 0, &result)
    }
}

fn kept_answer(kept: Model) -> Result<KeptAnswer, Corrupt> {
    let corrupt = |column, why| Corrupt { table: "kept_answer", column, row: kept.created_at, why };
    let status =
        u16::try_from(kept.status).map_err(|error| corrupt("status", error.to_string()))?;
    let headers = serde_json::from_str(&kept.headers)
        .map_err(|error| corrupt("headers", error.to_string()))?;
    Ok(KeptAnswer { status, headers, body: kept.body })
}
