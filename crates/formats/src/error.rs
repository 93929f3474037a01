//! What can be wrong with a line.

use fireflow_domain::text::excerpt;

use crate::flow_log::LayoutError;

/// Why a line or record could not be read: one sentence, without full stop, that says what would be
/// right. Which line it is, the caller knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A column holds what it does not take.
    #[error("the {place} must be {needs}, not `{found}`")]
    Value {
        /// Which column, in words.
        place: String,
        /// What it takes.
        needs: &'static str,
        /// What it holds, shortened.
        found: String,
    },
    /// A column holds nothing.
    #[error("the {place} is missing: it must be {needs}")]
    Missing {
        /// Which column, in words.
        place: String,
        /// What it takes.
        needs: &'static str,
    },
    /// Ports that are the wrong way round.
    #[error("the {place} must be the lower port first, as `{last} : {first}`")]
    Reversed {
        /// Which column, in words.
        place: String,
        /// The port that stands first.
        first: u16,
        /// The port that stands last.
        last: u16,
    },
    /// A record with fewer columns than its header promises.
    #[error("the record must have {needs} columns, not {found}")]
    Short {
        /// The number of columns up to the last one that is read.
        needs: usize,
        /// The number that there is.
        found: usize,
    },
    /// A record with more columns than its header names, one at the end that is empty aside.
    #[error("the record must have {most} columns at most, as many as have a name, not {found}")]
    Wide {
        /// The number of columns that have a name.
        most: usize,
        /// The number that there is.
        found: usize,
    },
    /// More than a line of its kind holds.
    #[error("the line must end behind {end}, not go on with `{found}`")]
    Rest {
        /// The last column, in words.
        end: &'static str,
        /// What comes behind it, shortened.
        found: String,
    },
    /// More rules than can be numbered.
    #[error("a file must have fewer than {} rules", u32::MAX)]
    TooManyRules,
    /// A value whose quote is not closed: values end with their line.
    #[error("a quote must be closed on its line")]
    OpenQuote,
    /// A line of a flow log that is not kept.
    #[error("a line must not be longer than {} KiB", crate::flow_log::MAX_RECORD_BYTES / 1024)]
    TooLong,
    /// A header amid the file names columns that cannot be read; nothing behind it is read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl LineError {
    /// A value that is absent or not right.
    pub(crate) fn value(place: impl Into<String>, needs: &'static str, found: &[u8]) -> Self {
        let found = shown(found.trim_ascii());
        let place = place.into();
        if found.is_empty() {
            Self::Missing { place, needs }
        } else {
            Self::Value { place, needs, found }
        }
    }

    /// What stands behind the end.
    pub(crate) fn rest(end: &'static str, found: &[u8]) -> Self {
        Self::Rest { end, found: shown(found.trim_ascii()) }
    }
}

/// Bytes as a message shows them: escaped and shortened.
pub(crate) fn shown(bytes: &[u8]) -> String {
    // A longer text is shortened anyway; not all of it has to be decoded.
    const MOST_BYTES: usize = 400;
    excerpt(&String::from_utf8_lossy(bytes.get(..MOST_BYTES).unwrap_or(bytes)))
}
