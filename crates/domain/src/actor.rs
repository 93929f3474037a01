//! Callers: their identity, their roles, and the tenants that they can see.

use std::fmt;

use crate::text::Tenant;

/// A role of a caller. `admin` ⊇ `editor` ⊇ `viewer`; `health_check` is separate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads and inspects.
    Viewer,
    /// Also writes, restores deleted resources, and reads the audit trail.
    Editor,
    /// Also sets tenants.
    Admin,
    /// Only reads the detailed health.
    HealthCheck,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Editor, Self::Admin, Self::HealthCheck];

    /// The word in a token.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
            Self::HealthCheck => "health_check",
        }
    }

    /// Reads the word of a token; none if FireFlow does not know it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// Whether this role includes another one.
    #[must_use]
    pub const fn holds(self, other: Self) -> bool {
        match (self, other) {
            (Self::Admin, Self::Admin | Self::Editor | Self::Viewer)
            | (Self::Editor, Self::Editor | Self::Viewer)
            | (Self::Viewer, Self::Viewer)
            | (Self::HealthCheck, Self::HealthCheck) => true,
            (Self::Admin | Self::Editor | Self::Viewer, _) | (Self::HealthCheck, _) => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The firewalls that a caller can see. Every lookup takes it as an argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Those of every tenant.
    All,
    /// Only those of these tenants.
    Tenants(Vec<Tenant>),
}

impl Visibility {
    /// Whether the caller can see a tenant's firewalls.
    #[must_use]
    pub fn allows(&self, tenant: &Tenant) -> bool {
        match self {
            Self::All => true,
            Self::Tenants(tenants) => tenants.contains(tenant),
        }
    }
}

/// The identity of a caller. It is only made from a checked token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The token's subject.
    pub subject: String,
    /// The roles that FireFlow knows, at least one.
    pub roles: Vec<Role>,
    /// The firewalls that it can see.
    pub visibility: Visibility,
}

impl Actor {
    /// Whether one of the roles includes the needed one.
    #[must_use]
    pub fn may(&self, needed: Role) -> bool {
        self.roles.iter().any(|role| role.holds(needed))
    }
}

/// One call of a use case: the actor, the time, and what the audit trail records of the request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The actor.
    pub actor: Actor,
    /// The time of the call; it does not change during the call.
    pub now: crate::time::Instant,
    /// The request's id, as in the log and the answer.
    pub request_id: String,
    /// The client's address.
    pub client_address: String,
    /// The `Change-Reason` header; empty if the request has none.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_hold_the_ones_below_and_the_probe_none() {
        assert!(Role::Admin.holds(Role::Viewer));
        assert!(Role::Editor.holds(Role::Viewer));
        assert!(!Role::Viewer.holds(Role::Editor));
        assert!(!Role::Admin.holds(Role::HealthCheck));
        assert!(!Role::HealthCheck.holds(Role::Viewer));
    }
}
