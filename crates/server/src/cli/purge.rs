//! Permanently removes resources that were deleted long ago.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use fireflow_domain::error::ErrorChain;
use fireflow_domain::store::{Purged, Storage};
use fireflow_domain::time::{Clock, Instant};
use fireflow_domain::usecase::retention;

use super::{Failure, clock, open, options_of, print};
use crate::settings::{Settings, parse_duration};

/// How often a service purges.
const EVERY: Duration = Duration::from_secs(3_600);

/// Purges once, and prints what was removed.
pub(super) async fn purge(settings: &Settings, older_than: Option<&str>) -> Result<(), Failure> {
    let age = match older_than {
        None => settings.keep_deleted,
        // `parse_duration` refuses zero, but here it means everything that was deleted.
        Some("0s") => Duration::ZERO,
        Some(text) => {
            parse_duration(text).map_err(|why| Failure::usage(anyhow!("--older-than {why}")))?
        }
    };
    let database = open(options_of(settings, "purge")).await?;
    let now = clock().now();
    let purged = retention::purge(&database, before(now, age), now).await;
    let closed = database.close().await;
    let Purged { rules, policies, firewalls, answers } = purged?;
    closed?;
    print(&format!(
        "removed {firewalls} firewalls, {policies} policies, {rules} rules and {answers} stored \
         answers"
    ))
}

/// Purges at regular intervals, for as long as the service runs.
pub(super) async fn purge_regularly(storage: Arc<dyn Storage>, age: Duration) {
    loop {
        let now = clock().now();
        match retention::purge(&*storage, before(now, age), now).await {
            Ok(purged) if purged == Purged::default() => {}
            Ok(purged) => tracing::info!(
                ?purged,
                "permanently removed resources that were \
                                                   deleted longer ago than the retention period"
            ),
            // The next run retries.
            Err(error) => tracing::warn!(cause = %ErrorChain(&error), "nothing was purged"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn before(now: Instant, age: Duration) -> Instant {
    now.plus_micros(-i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}
