//! The columns of a flow log, found by common names or assigned by the user.

use std::fmt;

use csv::ByteRecord;
use fireflow_domain::text::excerpt;

use super::values::ColumnValues;
use crate::error::{LineError, shown};

/// A column that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    SourceAddress,
    DestinationAddress,
    Protocol,
    SourcePort,
    DestinationPort,
    IcmpType,
    IcmpCode,
    At,
    TcpFlags,
    LogStatus,
}

impl Column {
    pub(super) const ALL: [Self; 10] = [
        Self::SourceAddress,
        Self::DestinationAddress,
        Self::Protocol,
        Self::SourcePort,
        Self::DestinationPort,
        Self::IcmpType,
        Self::IcmpCode,
        Self::At,
        Self::TcpFlags,
        Self::LogStatus,
    ];

    /// Its name in mappings, which is that of the packet's member; none if it cannot be mapped.
    fn key(self) -> Option<&'static str> {
        match self {
            Self::SourceAddress => Some("source_address"),
            Self::DestinationAddress => Some("destination_address"),
            Self::Protocol => Some("protocol"),
            Self::SourcePort => Some("source_port"),
            Self::DestinationPort => Some("destination_port"),
            Self::IcmpType => Some("icmp_type"),
            Self::IcmpCode => Some("icmp_code"),
            Self::At => Some("at"),
            Self::TcpFlags => Some("tcp_flags"),
            Self::LogStatus => None,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::SourceAddress => "source address",
            Self::DestinationAddress => "destination address",
            Self::Protocol => "protocol",
            Self::SourcePort => "source port",
            Self::DestinationPort => "destination port",
            Self::IcmpType => "ICMP type",
            Self::IcmpCode => "ICMP code",
            Self::At => "time",
            Self::TcpFlags => "TCP flags",
            Self::LogStatus => "log status",
        }
    }

    /// The common names, in the form of [`normal`], the best one first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::SourceAddress => &[
                "source_address",
                "src_ip",
                "source_ip",
                "src_addr",
                "srcaddr",
                "srcip",
                "sourceip",
                "sourceaddress",
                "src_address",
                "source_ip_address",
                "ip_src",
                "id_orig_h",
                "saddr",
                "src",
                "source",
            ],
            Self::DestinationAddress => &[
                "destination_address",
                "dst_ip",
                "dest_ip",
                "destination_ip",
                "dst_addr",
                "dstaddr",
                "dstip",
                "destip",
                "destinationip",
                "destinationaddress",
                "dst_address",
                "dest_address",
                "destination_ip_address",
                "ip_dst",
                "id_resp_h",
                "daddr",
                "dst",
                "dest",
                "destination",
            ],
            Self::Protocol => &[
                "protocol",
                "proto",
                "ip_protocol",
                "ip_proto",
                "transport",
                "network_transport",
                "network_iana_number",
            ],
            Self::SourcePort => {
                &["source_port", "src_port", "srcport", "sourceport", "id_orig_p", "sport"]
            }
            Self::DestinationPort => &[
                "destination_port",
                "dst_port",
                "dest_port",
                "dstport",
                "destport",
                "destinationport",
                "id_resp_p",
                "dport",
            ],
            Self::IcmpType => &["icmp_type", "icmptype"],
            Self::IcmpCode => &["icmp_code", "icmpcode"],
            Self::At => &["at", "timestamp", "time", "ts", "start", "start_time", "starttime"],
            Self::TcpFlags => &["tcp_flags"],
            Self::LogStatus => &["log_status"],
        }
    }

    /// Whether its name is recognized only in AWS's logs, since other logs fill such a column
    /// differently.
    pub(super) fn is_of_aws(self) -> bool {
        match self {
            Self::TcpFlags | Self::LogStatus => true,
            Self::SourceAddress
            | Self::DestinationAddress
            | Self::Protocol
            | Self::SourcePort
            | Self::DestinationPort
            | Self::IcmpType
            | Self::IcmpCode
            | Self::At => false,
        }
    }

    /// Its index among names in the form of [`normal`].
    pub(super) fn find_in(self, names: &[String]) -> Option<usize> {
        self.names().iter().find_map(|name| names.iter().position(|it| it == name))
    }

    /// The first two places with a name of this column, if there are two.
    fn find_two_in(self, names: &[String]) -> Option<(ColumnRef, ColumnRef)> {
        let is_own = |name: &str| self.names().contains(&name);
        let mut places = (0..).zip(names).filter(|(_, name)| is_own(name));
        let mut next = || places.next().map(|(place, name)| ColumnRef::new(place, name.as_bytes()));
        Some((next()?, next()?))
    }
}

/// The columns that a record must have.
const NEEDED: [Column; 3] = [Column::SourceAddress, Column::DestinationAddress, Column::Protocol];

/// Normalizes a name: case, `-`, `.`, space and `_`, and an `@` at the beginning make no
/// difference.
pub(super) fn normal(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
    name.trim_start_matches('@').replace(['-', '.', ' '], "_")
}

/// Why the columns of a file cannot be determined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The file has no header.
    #[error("the file must begin with the names of its columns")]
    NoHeader,
    /// A required column has no known name.
    #[error("no column has a name that is known for the {0}; choose the column with a mapping")]
    Unknown(&'static str),
    /// The mapping refers to a name that is not in the header.
    #[error("the file has no column `{0}`")]
    NoName(String),
    /// The mapping refers to a number beyond the last column.
    #[error("the file has no column {number}, since it has {count}")]
    NoNumber {
        /// The number, counted from 1.
        number: usize,
        /// The number of columns.
        count: usize,
    },
    /// Two columns can be a required column, and the header does not show which one is right.
    #[error("{one} and {other} can both be the {words}; choose one of them with a mapping")]
    Twice {
        /// The required column, in words.
        words: &'static str,
        /// The first candidate.
        one: ColumnRef,
        /// The second candidate.
        other: ColumnRef,
    },
    /// The mapping refers to a name that two columns have.
    #[error("{one} and {other} have the same name; choose one of them by its number")]
    SameName {
        /// The first column.
        one: ColumnRef,
        /// The second column.
        other: ColumnRef,
    },
    /// The separator of columns is longer than a byte.
    #[error("`#separator` must name one byte, such as `\\x09`")]
    Separator,
}

/// A column of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnRef {
    /// Its number, counted from 1.
    pub number: usize,
    /// Its name, shortened.
    pub name: String,
}

impl ColumnRef {
    /// Makes a place from an index that is counted from 0.
    fn new(place: usize, name: &[u8]) -> Self {
        Self { number: place.saturating_add(1), name: shown(name.trim_ascii()) }
    }
}

impl fmt::Display for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {} (`{}`)", self.number, self.name)
    }
}

/// The indices of the columns, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) source_address: usize,
    pub(super) destination_address: usize,
    pub(super) protocol: usize,
    pub(super) source_port: Option<usize>,
    pub(super) destination_port: Option<usize>,
    pub(super) icmp_type: Option<usize>,
    pub(super) icmp_code: Option<usize>,
    pub(super) at: Option<usize>,
    pub(super) tcp_flags: Option<usize>,
    pub(super) log_status: Option<usize>,
    width: usize,
    named: Option<usize>,
}

impl Columns {
    /// Finds the columns by their common names. The names are in the form of [`normal`].
    pub(super) fn by_names(names: &[String], is_of_aws: bool) -> Result<Self, LayoutError> {
        for column in NEEDED {
            if let Some((one, other)) = column.find_two_in(names) {
                return Err(LayoutError::Twice { words: column.words(), one, other });
            }
        }
        let find = |column: Column| {
            let is_known = is_of_aws || !column.is_of_aws();
            is_known.then(|| column.find_in(names)).flatten()
        };
        Self::gather(find, Some(names.len()))
    }

    /// Calls `find` for each column. `named` is the number of columns with a name.
    pub(super) fn gather(
        find: impl Fn(Column) -> Option<usize>,
        named: Option<usize>,
    ) -> Result<Self, LayoutError> {
        let needed = |column: Column| find(column).ok_or(LayoutError::Unknown(column.words()));
        let last = Column::ALL.into_iter().filter_map(&find).max();
        Ok(Self {
            source_address: needed(Column::SourceAddress)?,
            destination_address: needed(Column::DestinationAddress)?,
            protocol: needed(Column::Protocol)?,
            source_port: find(Column::SourcePort),
            destination_port: find(Column::DestinationPort),
            icmp_type: find(Column::IcmpType),
            icmp_code: find(Column::IcmpCode),
            at: find(Column::At),
            tcp_flags: find(Column::TcpFlags),
            log_status: find(Column::LogStatus),
            width: last.map_or(0, |last| last.saturating_add(1)),
            named,
        })
    }

    /// The number of columns that a record must have.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// The number of columns with a name, which is the most that a record may have; none without a
    /// header.
    pub(super) const fn named(&self) -> Option<usize> {
        self.named
    }

    /// Forgets the number of named columns, since the record that they were counted by is not a
    /// header.
    pub(super) const fn forget_named(&mut self) {
        self.named = None;
    }

    const fn place(&self, column: Column) -> Option<usize> {
        match column {
            Column::SourceAddress => Some(self.source_address),
            Column::DestinationAddress => Some(self.destination_address),
            Column::Protocol => Some(self.protocol),
            Column::SourcePort => self.source_port,
            Column::DestinationPort => self.destination_port,
            Column::IcmpType => self.icmp_type,
            Column::IcmpCode => self.icmp_code,
            Column::At => self.at,
            Column::TcpFlags => self.tcp_flags,
            Column::LogStatus => self.log_status,
        }
    }

    /// Parses a value that is required.
    pub(super) fn value<T>(
        &self,
        column: Column,
        value: Option<&[u8]>,
        taken: &ColumnValues<T>,
    ) -> Result<T, LineError> {
        let value = value.unwrap_or_default();
        (taken.read)(value).ok_or_else(|| {
            let words = column.words();
            let place = match self.place(column) {
                Some(place) => format!("{words} in column {}", place.saturating_add(1)),
                None => words.to_owned(),
            };
            LineError::value(place, taken.needs, value)
        })
    }

    /// Parses a value that may be absent.
    pub(super) fn optional<T>(
        &self,
        column: Column,
        value: Option<&[u8]>,
        taken: &ColumnValues<T>,
    ) -> Result<Option<T>, LineError> {
        value.map(|value| self.value(column, Some(value), taken)).transpose()
    }
}

/// The columns that the user assigns: `source_address=src,destination_address=dst,protocol=4`.
/// Columns that are not assigned are not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    choices: Vec<(Column, Choice)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Name(String),
    /// An index, counted from 0.
    Number(usize),
}

/// Why a text is not a [`Mapping`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// A part that is not a member, `=` and a column.
    #[error(
        "`{0}` is not of the form MEMBER=COLUMN, such as \
         `source_address=src,destination_address=dst,protocol=4`"
    )]
    Syntax(String),
    /// Packets have no such member.
    #[error("`{given}` is not a member of packets; the members are {known}")]
    UnknownMember {
        /// The member as it was given, shortened.
        given: String,
        /// The members of packets.
        known: String,
    },
    /// A member occurs twice.
    #[error("`{0}` is specified twice")]
    Twice(&'static str),
    /// A number of a column is out of range.
    #[error("columns are numbered from 1 to {}", Mapping::MAX_NUMBER)]
    Number,
    /// A required member has no column.
    #[error("the column of `{0}` is required")]
    Missing(&'static str),
}

impl Mapping {
    /// The highest number of a column.
    pub const MAX_NUMBER: usize = 10_000;

    /// The members that can be mapped.
    pub fn members() -> impl Iterator<Item = &'static str> {
        Column::ALL.into_iter().filter_map(Column::key)
    }

    /// Parses members and columns: `source_address=src,destination_address=dst,protocol=4`. A
    /// column that consists of digits is a number, counted from 1. Any other column is a name of
    /// the header, exactly or with differences only in case, `-`, `.`, spaces or `_`.
    ///
    /// # Errors
    /// Returns [`MappingError`] for the part that is wrong, or for a required member that is
    /// missing. The required members are `source_address`, `destination_address` and `protocol`.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let mut choices: Vec<(Column, Choice)> = Vec::new();
        for part in text.split(',') {
            let (member, column) = part
                .split_once('=')
                .map(|(member, column)| (member.trim(), column.trim()))
                .filter(|(_, column)| !column.is_empty())
                .ok_or_else(|| MappingError::Syntax(excerpt(part)))?;
            let mut all = Column::ALL.into_iter().filter_map(|it| Some((it, it.key()?)));
            let (what, key) = all.find(|(_, key)| *key == member).ok_or_else(|| {
                let known: Vec<_> = Self::members().collect();
                MappingError::UnknownMember { given: excerpt(member), known: known.join(", ") }
            })?;
            if choices.iter().any(|(it, _)| *it == what) {
                return Err(MappingError::Twice(key));
            }
            let choice = if column.bytes().all(|byte| byte.is_ascii_digit()) {
                let number: usize = column.parse().map_err(|_| MappingError::Number)?;
                let number = number.checked_sub(1).filter(|it| *it < Self::MAX_NUMBER);
                Choice::Number(number.ok_or(MappingError::Number)?)
            } else {
                Choice::Name(column.to_owned())
            };
            choices.push((what, choice));
        }
        for needed in NEEDED {
            if let Some(key) = needed.key()
                && !choices.iter().any(|(it, _)| *it == needed)
            {
                return Err(MappingError::Missing(key));
            }
        }
        Ok(Self { choices })
    }

    /// Whether at least one column is chosen by its name.
    pub(super) fn has_names(&self) -> bool {
        self.choices.iter().any(|(_, choice)| match choice {
            Choice::Name(_) => true,
            Choice::Number(_) => false,
        })
    }

    /// The columns of a file with this header or first record.
    pub(super) fn columns(&self, header: &ByteRecord) -> Result<Columns, LayoutError> {
        let mut found = Vec::new();
        for (column, choice) in &self.choices {
            let place = match choice {
                Choice::Name(name) => {
                    let wanted = normal(name.as_bytes());
                    let exact = find_once(header, |it| it.trim_ascii() == name.as_bytes())?;
                    match exact {
                        Some(place) => place,
                        None => find_once(header, |it| normal(it) == wanted)?
                            .ok_or_else(|| LayoutError::NoName(shown(name.as_bytes())))?,
                    }
                }
                Choice::Number(number) if *number < header.len() => *number,
                Choice::Number(number) => {
                    let number = number.saturating_add(1);
                    return Err(LayoutError::NoNumber { number, count: header.len() });
                }
            };
            found.push((*column, place));
        }
        let find = |column| found.iter().find(|(it, _)| *it == column).map(|(_, place)| *place);
        Columns::gather(find, Some(header.len()))
    }
}

/// The index of the only name that satisfies a predicate; none if no name does.
fn find_once(
    header: &ByteRecord,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Result<Option<usize>, LayoutError> {
    let mut found = (0..).zip(header).filter(|(_, name)| is_wanted(name));
    match (found.next(), found.next()) {
        (Some((one, name)), Some((other, again))) => Err(LayoutError::SameName {
            one: ColumnRef::new(one, name),
            other: ColumnRef::new(other, again),
        }),
        (one, _) => Ok(one.map(|(place, _)| place)),
    }
}

impl std::str::FromStr for Mapping {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_names_what_is_needed() {
        let text = "source_address=src, destination_address = dst,protocol=4,at=@time";
        let mapping = Mapping::parse(text).unwrap();
        let header = ByteRecord::from(vec!["@time", "SRC", "dst", "p"]);
        let columns = mapping.columns(&header).unwrap();
        assert_eq!((columns.source_address, columns.destination_address), (1, 2));
        assert_eq!((columns.protocol, columns.at, columns.source_port), (3, Some(0), None));
        assert_eq!(columns.width(), 4);
    }

    #[test]
    fn a_name_in_its_very_spelling_goes_first() {
        let mapping = Mapping::parse("source_address=a-b,destination_address=A_B,protocol=2");
        let header = ByteRecord::from(vec!["a_b", "a-b", "A_B"]);
        let columns = mapping.unwrap().columns(&header).unwrap();
        assert_eq!((columns.source_address, columns.destination_address), (1, 2));
    }

    #[test]
    fn a_bad_mapping_is_refused() {
        for (text, expected) in [
            ("", "is not of the form MEMBER=COLUMN, such as"),
            ("source_address", "`source_address` is not of the form MEMBER=COLUMN"),
            ("source_address=", "is not of the form MEMBER=COLUMN"),
            (
                "source=1",
                "`source` is not a member of packets; the members are source_address, dest",
            ),
            ("log_status=1", "is not a member of packets"),
            ("source_address=1,source_address=2", "`source_address` is specified twice"),
            ("source_address=0", "numbered from 1 to 10000"),
            ("source_address=10001", "numbered from 1 to 10000"),
            ("source_address=99999999999999999999999", "numbered from 1 to 10000"),
            ("source_address=1,protocol=2", "the column of `destination_address` is required"),
        ] {
            let error = Mapping::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(Mapping::members().count(), 9);
    }

    #[test]
    fn what_is_mapped_must_be_there() {
        let header = ByteRecord::from(vec!["src", "dst", "proto"]);
        let columns = |protocol: &str| {
            let text = format!("source_address=1,destination_address=2,protocol={protocol}");
            Mapping::parse(&text).unwrap().columns(&header).map(|columns| columns.protocol)
        };
        assert_eq!(columns("3"), Ok(2));
        assert_eq!(columns("4"), Err(LayoutError::NoNumber { number: 4, count: 3 }));
        assert_eq!(columns("p"), Err(LayoutError::NoName("p".to_owned())));
    }

    #[test]
    fn every_common_name_is_normal_and_of_one_column() {
        let mut names: Vec<_> = Column::ALL.iter().flat_map(|column| column.names()).collect();
        assert!(names.iter().all(|name| normal(name.as_bytes()) == **name));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
