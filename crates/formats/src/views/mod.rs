//! Resources, and the results of operations on them, as JSON. Each view is the text of an answer and the
//! source of its schema in the API's description.

/// Adds the names of the members to a view, in their order, for `fields`.
macro_rules! with_members {
    ($(#[$about:meta])* pub struct $name:ident {
        $($(#[$member_about:meta])* pub $member:ident: $type:ty,)+
    }) => {
        $(#[$about])*
        pub struct $name {
            $($(#[$member_about])* pub $member: $type,)+
        }

        impl $name {
            /// The names of its members, in their order.
            pub const MEMBERS: &'static [&'static str] = &[$(stringify!($member)),+];
        }
    };
}

mod audit;
mod changes;
mod expansion;
mod inspection;
mod left_out;
mod page;
mod resources;
mod rule;

pub use audit::AuditEventView;
pub use changes::{BatchView, MovedView, OutcomeView, PlaceView, ReplacedView};
pub use expansion::{firewall_views, policy_views, rows, weight};
pub use inspection::{
    ExplanationView, FailedRuleView, InactiveRuleView, InspectingPolicyView, InspectionItemView,
    InspectionView, MatchedView, PolicyInspectionView, PolicyStateView, RuleSummaryView,
};
pub use left_out::{LeftOutPolicyView, LeftOutView, NEWER_POLICY, ShowLeftOut};
pub use page::{AuditEventPage, FirewallPage, Part, PolicyInspectionPage, PolicyPage, RulePage};
pub use resources::{FirewallReferenceView, FirewallView, PolicyReferenceView, PolicyView};
pub use rule::{EndpointView, PortEntryView, PortValue, RuleView, WarningView, rule_json};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use fireflow_domain::read_only::{FIREWALL, POLICY, RULE};

    use super::*;

    #[test]
    fn names_are_unique_and_what_to_write_instead_is_writable() {
        for (read_only, members) in [
            (FIREWALL, FirewallView::MEMBERS),
            (POLICY, PolicyView::MEMBERS),
            (RULE, RuleView::MEMBERS),
        ] {
            let unique: HashSet<&str> = members.iter().copied().collect();
            assert_eq!(unique.len(), members.len(), "{members:?}");
            let is_written = |word: &str| {
                unique.contains(word) && read_only.iter().all(|member| member.name() != word)
            };
            // Both are in the order of answers.
            let shown = members.iter().filter(|name| !is_written(name));
            assert!(
                shown.eq(read_only.iter().map(|member| member.name()).collect::<Vec<_>>().iter())
            );
            for member in read_only {
                // Words in backticks are members to write, paths, or other parts of a request.
                for word in member.instead().split('`').skip(1).step_by(2) {
                    let is_path_or_header = word.contains('/') || word == "If-Match";
                    assert!(is_path_or_header || is_written(word), "{word}");
                }
            }
        }
        assert_eq!(PolicyView::MEMBERS[1], "firewall");
        assert_eq!(RuleView::MEMBERS.last(), Some(&"deleted_by"));
    }
}
