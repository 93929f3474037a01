//! Who asks, what they may do, and what they may see.

use std::fmt;

use crate::text::Tenant;

/// What a caller may do. `admin` ⊇ `editor` ⊇ `viewer`; `health_check` stands apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads and inspects.
    Viewer,
    /// Also writes, restores what was deleted, and reads the audit trail.
    Editor,
    /// Also sets tenants.
    Admin,
    /// Reads the detailed health, and nothing else.
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

    /// Reads the word of a token; none where FireFlow does not know it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// Whether this role holds another one.
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

/// Which firewalls a caller can see: an argument of the only door to the rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Those of every tenant.
    All,
    /// Those of these tenants alone.
    Tenants(Vec<Tenant>),
}

impl Visibility {
    /// Whether firewalls of a tenant can be seen.
    #[must_use]
    pub fn allows(&self, tenant: &Tenant) -> bool {
        match self {
            Self::All => true,
            Self::Tenants(tenants) => tenants.contains(tenant),
        }
    }
}

/// Who asks: made from a checked token, and from nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The token's subject.
    pub subject: String,
    /// The roles that FireFlow knows, at least one.
    pub roles: Vec<Role>,
    /// What can be seen.
    pub visibility: Visibility,
}

impl Actor {
    /// Whether one of the roles holds the one needed.
    #[must_use]
    pub fn may(&self, needed: Role) -> bool {
        self.roles.iter().any(|role| role.holds(needed))
    }
}

/// One call of a use case: who, when, and what the audit trail says of it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who asks.
    pub actor: Actor,
    /// When: the one instant of the whole call.
    pub now: crate::time::Instant,
    /// The request's id, as in the log and the answer.
    pub request_id: String,
    /// The client's address.
    pub client_address: String,
    /// The `Change-Reason` header; empty where none was given.
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
