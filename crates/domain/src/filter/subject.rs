//! What a filter is applied to.

use crate::audit::AuditRecord;
use crate::firewall::Firewall;
use crate::list_fields::Resources;
use crate::policy::Policy;
use crate::rule::Rule;

/// The subject of a filter: a firewall, a policy with its firewall, a rule with both, or an audit
/// event.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A firewall.
    Firewall(&'a Firewall),
    /// A policy.
    Policy(&'a Firewall, &'a Policy),
    /// A rule.
    Rule(&'a Firewall, &'a Policy, &'a Rule),
    /// An audit event.
    Event(&'a AuditRecord),
}

impl<'a> Subject<'a> {
    /// The resources whose values a filter can test.
    pub(super) const fn resources(self) -> Resources<'a> {
        Resources {
            firewall: self.firewall(),
            policy: self.policy(),
            rule: self.rule(),
            event: self.event(),
        }
    }

    /// Its firewall, if it has one.
    pub(super) const fn firewall(self) -> Option<&'a Firewall> {
        match self {
            Self::Firewall(firewall) | Self::Policy(firewall, _) | Self::Rule(firewall, ..) => {
                Some(firewall)
            }
            Self::Event(_) => None,
        }
    }

    /// Its policy, if it has one.
    pub(super) const fn policy(self) -> Option<&'a Policy> {
        match self {
            Self::Policy(_, policy) | Self::Rule(_, policy, ..) => Some(policy),
            Self::Firewall(_) | Self::Event(_) => None,
        }
    }

    /// Its rule, if it has one.
    pub(super) const fn rule(self) -> Option<&'a Rule> {
        match self {
            Self::Rule(.., rule) => Some(rule),
            Self::Firewall(_) | Self::Policy(..) | Self::Event(_) => None,
        }
    }

    /// Its event, if it has one.
    pub(super) const fn event(self) -> Option<&'a AuditRecord> {
        match self {
            Self::Event(event) => Some(event),
            Self::Firewall(_) | Self::Policy(..) | Self::Rule(..) => None,
        }
    }
}
