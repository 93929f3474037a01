//! How the files of keys are, for `/health/` and metrics.

use std::sync::{PoisonError, RwLock};

use super::KeyFile;

/// What is in force of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFileState {
    /// What it holds.
    Current,
    /// What it held before: it cannot be read, or proves nothing.
    Kept,
    /// Nothing: it could not be read, or proved nothing, for too long.
    Withdrawn,
}

impl KeyFileState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Current, Self::Kept, Self::Withdrawn];

    /// A word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Kept => "kept",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// How a file is.
#[derive(Debug, Clone)]
pub struct KeyFileStatus {
    /// Which.
    pub file: KeyFile,
    /// What is in force of it.
    pub state: KeyFileState,
    /// What is wrong with it; also set if only a part of it cannot be used.
    pub fault: Option<String>,
    /// How many keys, secrets or revocations of it are in force.
    pub entries: usize,
    /// How often it was read and something was wrong with it.
    pub failures: u64,
}

/// How all of them are.
#[derive(Debug, Default)]
pub(super) struct KeyFileStatuses(RwLock<Vec<KeyFileStatus>>);

impl KeyFileStatuses {
    pub(super) fn all(&self) -> Vec<KeyFileStatus> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace(&self, all: Vec<KeyFileStatus>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}
