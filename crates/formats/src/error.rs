//! Errors in the lines and records of a file.

use fireflow_domain::text::excerpt;

use crate::flow_log::LayoutError;

/// Why a line or record could not be read. The message is one sentence without a full stop, and
/// includes what would be right. It does not include the line number, which the caller knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A column holds a value that it does not accept.
    #[error("the {place} must be {needs}, not `{found}`")]
    Value {
        /// The column, in words.
        place: String,
        /// The values that it accepts.
        needs: &'static str,
        /// The value that it holds, shortened.
        found: String,
    },
    /// A column is empty.
    #[error("the {place} is missing: it must be {needs}")]
    Missing {
        /// The column, in words.
        place: String,
        /// The values that it accepts.
        needs: &'static str,
    },
    /// Two ports in the wrong order.
    #[error("the {place} must have the lower port first: `{last} : {first}`")]
    Reversed {
        /// The column, in words.
        place: String,
        /// The port that comes first.
        first: u16,
        /// The port that comes last.
        last: u16,
    },
    /// A record with fewer columns than its header names.
    #[error("the record must have {needs} columns, not {found}")]
    Short {
        /// The number of columns up to the last one that is read.
        needs: usize,
        /// The number of columns in the record.
        found: usize,
    },
    /// A record with more columns than its header names. One empty column at the end is allowed.
    #[error("only {most} columns have a name, but the record has {found}")]
    Wide {
        /// The number of columns that have a name.
        most: usize,
        /// The number of columns in the record.
        found: usize,
    },
    /// A line with more text than a line of its kind has.
    #[error("the line must end after {end}, but continues with `{found}`")]
    Rest {
        /// The last column, in words.
        end: &'static str,
        /// The text after the last column, shortened.
        found: String,
    },
    /// More rules than can be numbered.
    #[error("a file must have fewer than {} rules", u32::MAX)]
    TooManyRules,
    /// A value whose quote is not closed. A value cannot continue on the next line.
    #[error("a quote must be closed on its line")]
    OpenQuote,
    /// A line of a flow log that is too long to keep in memory.
    #[error("a line must not be longer than {} KiB", crate::flow_log::MAX_RECORD_BYTES / 1024)]
    TooLong,
    /// A later header names columns that cannot be read. The rest of the file is not read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl LineError {
    /// A value that is missing or wrong.
    pub(crate) fn value(place: impl Into<String>, needs: &'static str, found: &[u8]) -> Self {
        let found = shown(found.trim_ascii());
        let place = place.into();
        if found.is_empty() {
            Self::Missing { place, needs }
        } else {
            Self::Value { place, needs, found }
        }
    }

    /// Text after the end of the last column.
    pub(crate) fn rest(end: &'static str, found: &[u8]) -> Self {
        Self::Rest { end, found: shown(found.trim_ascii()) }
    }
}

/// Converts bytes to the form that messages show: escaped and shortened.
pub(crate) fn shown(bytes: &[u8]) -> String {
    // A longer text is shortened anyway, so not all of it needs to be decoded.
    const MOST_BYTES: usize = 400;
    excerpt(&String::from_utf8_lossy(bytes.get(..MOST_BYTES).unwrap_or(bytes)))
}
