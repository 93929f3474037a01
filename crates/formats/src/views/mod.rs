//! Resources, and the results of operations on them, as JSON. Each view is the text of an answer and the
//! source of its schema in the API's description.

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
pub use rule::{EndpointView, PortEntryView, PortValue, RuleView, WarningView};
