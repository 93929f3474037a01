//! Why a token is refused.

/// Why a token was refused. Before the signature holds, nothing is said of what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// The `Authorization` header does not begin with `Bearer`.
    NotBearer,
    /// Not a token, or not one of ours.
    Invalid,
    /// Signed by us, but not good; says why.
    Unfit(Fault, String),
    /// Signed and good, but names no role at all.
    NoRole,
}

/// What is wrong with a token that is signed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It lives for too long.
    Lifetime,
    /// Somebody else made it.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It was revoked.
    Revoked,
    /// None of its roles is one of ours.
    Roles,
    /// It has to name tenants, and does not.
    Tenants,
    /// A claim is missing, or not what it should be.
    Claims,
}

impl Refusal {
    /// A word for it, of which there are a few.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotBearer => "not_bearer",
            Self::Invalid => "invalid",
            Self::NoRole => "no_role",
            Self::Unfit(fault, _) => match fault {
                Fault::Expired => "expired",
                Fault::NotYetValid => "not_yet_valid",
                Fault::Lifetime => "lifetime",
                Fault::Issuer => "issuer",
                Fault::Audience => "audience",
                Fault::Revoked => "revoked",
                Fault::Roles => "roles",
                Fault::Tenants => "tenants",
                Fault::Claims => "claims",
            },
        }
    }
}
