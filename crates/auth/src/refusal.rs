//! Why a token is refused.

/// Why a token was refused. Until the signature is verified, a refusal reveals nothing about the
/// token's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token.
    Missing,
    /// The `Authorization` header does not begin with `Bearer`.
    NotBearer,
    /// Not a token, or not signed with a trusted key.
    Invalid,
    /// Signed with a trusted key but not acceptable, with the reason.
    Unfit(TokenFault, String),
    /// Signed and acceptable, but names no role at all.
    NoRole,
}

/// The fault of a token that is signed with a trusted key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFault {
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// Its lifetime is too long.
    Lifetime,
    /// Another issuer made it.
    Issuer,
    /// It is for another audience.
    Audience,
    /// It was revoked.
    Revoked,
    /// None of its roles is a role of FireFlow.
    Roles,
    /// It must name tenants, but does not.
    Tenants,
    /// A claim is missing or malformed.
    Claims,
}

impl Refusal {
    /// A word for the reason, from a small fixed set.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotBearer => "not_bearer",
            Self::Invalid => "invalid",
            Self::NoRole => "no_role",
            Self::Unfit(fault, _) => match fault {
                TokenFault::Expired => "expired",
                TokenFault::NotYetValid => "not_yet_valid",
                TokenFault::Lifetime => "lifetime",
                TokenFault::Issuer => "issuer",
                TokenFault::Audience => "audience",
                TokenFault::Revoked => "revoked",
                TokenFault::Roles => "roles",
                TokenFault::Tenants => "tenants",
                TokenFault::Claims => "claims",
            },
        }
    }
}
