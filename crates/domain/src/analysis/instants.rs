//! The instants of an interval at which rules start or expire.

use crate::rule::RuleSpec;
use crate::time::Instant;

/// The first instant of an interval, and each later one up to the last at which a rule of the list
/// starts or expires. Between two of them, the same rules are active.
pub(super) fn instants<'a>(
    rules: impl Iterator<Item = &'a RuleSpec>,
    from: Instant,
    until: Instant,
) -> Vec<Instant> {
    let mut instants = vec![from];
    let changes = rules.filter(|rule| rule.enabled).flat_map(|it| [it.starts_at, it.expires_at]);
    instants.extend(changes.flatten().filter(|it| from < *it && *it <= until));
    instants.sort_unstable();
    instants.dedup();
    instants
}
