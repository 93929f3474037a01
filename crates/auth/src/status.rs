//! The state of the key files, for `/health/` and metrics.

use std::sync::{PoisonError, RwLock};

use super::KeyFile;

/// Which contents of a file are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFileState {
    /// Its current contents.
    Current,
    /// Its previous contents: the file cannot be read, or proves nothing.
    Kept,
    /// Nothing: for too long, the file could not be read or proved nothing.
    Withdrawn,
}

impl KeyFileState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Current, Self::Kept, Self::Withdrawn];

    /// The state's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Kept => "kept",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// The state of a file.
#[derive(Debug, Clone)]
pub struct KeyFileStatus {
    /// The file.
    pub file: KeyFile,
    /// Which of its contents are in force.
    pub state: KeyFileState,
    /// The fault of the file; also set if only a part of the file cannot be used.
    pub fault: Option<String>,
    /// How many of its keys, secrets or revocations are in force.
    pub entries: usize,
    /// How many times it was read with a fault.
    pub failures: u64,
}

/// The states of all files.
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
