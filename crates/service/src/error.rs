//! The reasons why a request is not served, in addition to the errors of the domain.

use fireflow_domain::error::{BoxError, Error};

use crate::budget::Shortage;

/// Why a request is not served. The crate that serves HTTP turns it into a message, in one place.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The error of the use case or of the storage.
    #[error(transparent)]
    Domain(#[from] Error),
    /// Memory or a turn on a processor was not available in time.
    #[error(transparent)]
    Shortage(#[from] Shortage),
    /// The answer depends on findings of a policy that are not known yet, or not completely.
    #[error("{detail}")]
    AnalysisPending {
        /// A sentence that explains what is missing.
        detail: String,
        /// When to ask again, in seconds.
        retry_after_s: i64,
    },
    /// The maximum number of requests is already being served.
    #[error("too many requests are being served")]
    TooManyRequests,
    /// The maximum number of streams of packets is already being inspected, in total or for this
    /// subject.
    #[error("too many streams of packets are being inspected")]
    TooManyStreams,
    /// Another request already used the key of an idempotent request.
    #[error("the key was used for another request")]
    KeyReused,
}

impl ServiceError {
    /// Reports a defect of the service.
    pub(crate) fn internal(source: impl Into<BoxError>) -> Self {
        Self::Domain(internal(source))
    }
}

/// Reports a defect of the service.
pub(crate) fn internal(source: impl Into<BoxError>) -> Error {
    Error::Internal(source.into())
}
