//! The settings of policies: how large they may be, what they may use, how long they are kept.

use std::time::Duration;

use fireflow_domain::features::{FEATURES, FEATURES_BEFORE, Features};
use fireflow_domain::text::excerpt;
use fireflow_domain::usecase::rule::PolicyLimits;

use super::parse::{number_up_to, parse_duration};
use super::row::DefaultValue::{Number, Text, Words};
use super::row::settings;

settings! {
    pub(super) fills PolicyLimits, rows LIMITS: LimitRows;

    LIMITS_SECTION {
        /// the maximum number of live rules in a policy, up to 10000000; a policy that already has
        /// more keeps them, but accepts no new ones
        rules: u64 = "limits.max_rules" {
            parse: number_up_to::<10_000_000, _>,
            default: Number(PolicyLimits::DEFAULT.rules),
        }

        /// the maximum number of source, destination and port entries in a policy's live rules, up
        /// to 100000000; a policy that already has more keeps them, but accepts no new ones
        entries: u64 = "limits.max_entries" {
            parse: number_up_to::<100_000_000, _>,
            default: Number(PolicyLimits::DEFAULT.entries),
        }
    }
}

settings! {
    /// What policies may use, and how long they are kept.
    pub(super) struct PolicySettings, rows POLICIES: PolicyRows;

    POLICIES_SECTION {
        /// the names of the rule features that may be written, separated by commas: an older
        /// version cannot read a policy that uses a feature it does not know. Add features once you
        /// no longer plan a rollback to an older version. This version has no such features yet
        allowed_features: Features = "features.allow" {
            parse: features,
            default: Words("the features of the previous release", |_| FEATURES_BEFORE),
        }

        /// how long deleted resources can be restored before they are removed permanently
        keep_deleted: Duration = "retention.deleted" {
            parse: parse_duration,
            default: Text("90d"),
        }
    }
}

/// Reads names of features, separated by commas.
fn features(text: &str) -> Result<Features, String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).try_fold(
        Features::NONE,
        |set, name| match Features::named(name) {
            Some(feature) => Ok(set.union(feature)),
            None => {
                let names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
                let known = match names.as_slice() {
                    [] => "it has none yet".to_owned(),
                    names => format!("it has {}", names.join(", ")),
                };
                Err(format!("`{}` is not a feature of this version: {known}", excerpt(name)))
            }
        },
    )
}
