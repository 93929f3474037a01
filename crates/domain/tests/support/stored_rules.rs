//! Rules as the storage returns them.

use fireflow_domain::firewall::FirewallRef;
use fireflow_domain::ids::{FirewallId, PolicyId, Revision, RuleId};
use fireflow_domain::mark::Mark;
use fireflow_domain::policy::PolicyRef;
use fireflow_domain::rule::{Action, Rule, RuleSpec};
use fireflow_domain::text::Name;
use fireflow_domain::time::Instant;

/// A rule with this id and content, which was created at a moment and never changed.
pub(crate) fn stored(id: i64, spec: RuleSpec, at: Instant) -> Rule {
    let (name, header_revision) = (Name::parse("edge").unwrap(), Revision::FIRST);
    let id_of_firewall = FirewallId::new(1).unwrap();
    let firewall = FirewallRef { id: id_of_firewall, name: name.clone(), header_revision };
    let (id_of_policy, default_action) = (PolicyId::new(1).unwrap(), Action::Deny);
    Rule {
        id: RuleId::new(id).unwrap(),
        policy: PolicyRef { id: id_of_policy, name, default_action, header_revision, firewall },
        spec,
        revision: Revision::FIRST,
        mark: Mark::NONE,
        created_at: at,
        created_by: String::new(),
        updated_at: at,
        updated_by: String::new(),
        deleted: None,
    }
}
