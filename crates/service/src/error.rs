//! Why a request is not served, apart from what the domain answers.

use fireflow_domain::error::{BoxError, Error};

use crate::budget::Shortage;

/// Why a request is not served. Whoever serves it makes a message of it, in one place.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The use case's error, or the storage's.
    #[error(transparent)]
    Domain(#[from] Error),
    /// There is no memory, or no turn on a processor, in time.
    #[error(transparent)]
    Shortage(#[from] Shortage),
    /// As many requests as may be are being served.
    #[error("too many requests are being served")]
    TooManyRequests,
    /// As many streams of packets as may be are being inspected, of all or of this subject.
    #[error("too many streams of packets are being inspected")]
    TooManyStreams,
    /// The key of an idempotent request is that of another request.
    #[error("the key was used for another request")]
    KeyReused,
}

impl ServiceError {
    /// A defect.
    pub(crate) fn internal(source: impl Into<BoxError>) -> Self {
        Self::Domain(internal(source))
    }
}

/// A defect.
pub(crate) fn internal(source: impl Into<BoxError>) -> Error {
    Error::Internal(source.into())
}
