//! What an analysis is asked: the policy, the kinds of findings, the time, and the limits.

use std::borrow::Cow;
use std::fmt;

use super::packets::PacketSet;
use super::report::{FindingKind, RuleIndex};
use crate::net::{PortRange, Protocol};
use crate::rule::{Action, RuleSpec};
use crate::text::excerpt;
use crate::time::{Instant, MICROS_PER_SECOND};

/// A rule of an analyzed policy.
#[derive(Debug, Clone, Copy)]
pub struct AnalysedRule<'a> {
    /// Its content.
    pub spec: &'a RuleSpec,
    /// Whether it has a `reference`.
    pub has_reference: bool,
    /// When it was last changed, if that is known. A disabled rule has been disabled since then or
    /// longer.
    pub updated_at: Option<Instant>,
}

impl<'a> AnalysedRule<'a> {
    /// A rule with its content. It is not known when it was last changed.
    #[must_use]
    pub fn of(spec: &'a RuleSpec) -> Self {
        Self { spec, has_reference: !spec.reference.as_str().is_empty(), updated_at: None }
    }
}

/// A policy to analyze: all rules in order of evaluation, inactive ones included, and the default.
#[derive(Debug, Clone, Copy)]
pub struct AnalysedPolicy<'a> {
    /// The rules in order of evaluation. A [`RuleIndex`] is a place in this list.
    pub rules: &'a [AnalysedRule<'a>],
    /// The action on packets that no rule matches.
    pub default_action: Action,
}

impl<'a> AnalysedPolicy<'a> {
    /// The content of a rule; none if the index is beyond the end.
    #[must_use]
    pub fn spec(&self, rule: RuleIndex) -> Option<&'a RuleSpec> {
        self.rules.get(rule).map(|rule| rule.spec)
    }
}

/// A set of [`FindingKind`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FindingKinds(u32);

impl FindingKinds {
    /// No kind.
    pub const NONE: Self = Self(0);

    /// The kinds that are searched unless others are named: all except those that are only
    /// searched on request.
    #[must_use]
    pub fn usual() -> Self {
        FindingKind::ALL.into_iter().filter(|kind| !kind.is_on_request()).collect()
    }

    /// Every kind.
    #[must_use]
    pub fn all() -> Self {
        FindingKind::ALL.into_iter().collect()
    }

    /// The set with one more kind.
    #[must_use]
    pub const fn with(self, kind: FindingKind) -> Self {
        Self(self.0 | 1 << kind as u32)
    }

    /// Whether a kind is in the set.
    #[must_use]
    pub const fn contains(self, kind: FindingKind) -> bool {
        self.0 & (1 << kind as u32) != 0
    }

    /// The kinds to search for findings of this set. All usual kinds are searched together, because
    /// their findings are kept together.
    #[must_use]
    pub fn searched(self) -> Self {
        if self.iter().any(FindingKind::is_on_request) { Self::all() } else { Self::usual() }
    }

    /// Whether there is no kind in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds of the set, in the order of [`FindingKind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = FindingKind> {
        FindingKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<FindingKind> for FindingKinds {
    fn from_iter<T: IntoIterator<Item = FindingKind>>(kinds: T) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for FindingKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(FindingKind::as_str)).finish()
    }
}

/// A service whose exposure to public addresses is a finding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExposedService {
    /// Its name, such as `ssh`.
    pub name: Cow<'static, str>,
    /// Its protocol, one with ports.
    pub protocol: Protocol,
    /// Its destination ports.
    pub ports: PortRange,
}

impl ExposedService {
    /// Reads `ssh`, `ssh=tcp/22`, `tcp/8000-8100` or `22`. The protocol is tcp if it is left out. The
    /// names of the usual services are known, in any case; any other service without a name is named by
    /// its protocol and ports.
    ///
    /// # Errors
    /// Returns what is wrong, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_named = |it: &Self| it.name.eq_ignore_ascii_case(text.trim());
        if let Some(known) = EXPOSED_SERVICES.into_iter().find(is_named) {
            return Ok(known);
        }
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) => (Some(name.trim()), rest.trim()),
            None => (None, text.trim()),
        };
        let (protocol, ports) = rest.split_once('/').unwrap_or(("tcp", rest));
        let protocol = Protocol::parse(protocol).map_err(|error| error.to_string())?;
        if !protocol.has_ports() {
            return Err(format!("`{protocol}` has no ports; use a protocol that has, such as tcp"));
        }
        let ports = PortRange::parse(ports).map_err(|error| error.to_string())?;
        let name = match name {
            Some("") => return Err("the name before `=` is empty".to_owned()),
            Some(name) => Cow::Owned(name.to_owned()),
            None => EXPOSED_SERVICES
                .into_iter()
                .find(|known| (known.protocol, known.ports) == (protocol, ports))
                .map_or_else(|| Cow::Owned(format!("{protocol}/{ports}")), |known| known.name),
        };
        Ok(Self { name, protocol, ports })
    }

    /// Reads services that are separated by commas. `usual` is all usual ones, and `none`
    /// alone is no service.
    ///
    /// # Errors
    /// Returns what is wrong, as a sentence.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Vec::new());
        }
        let mut services: Vec<Self> = Vec::new();
        for word in text.split(',').map(str::trim) {
            let named = if word.eq_ignore_ascii_case("usual") {
                EXPOSED_SERVICES.to_vec()
            } else {
                vec![Self::parse(word).map_err(|why| {
                    let word = excerpt(word);
                    format!("`{word}` is not a service such as `ssh`, `winrm=tcp/5985` or `usual`: {why}")
                })?]
            };
            for service in named {
                if !services.contains(&service) {
                    services.push(service);
                }
            }
        }
        Ok(services)
    }
}

/// Services for administration and services that send clear text: the usual list.
pub const EXPOSED_SERVICES: [ExposedService; 16] = [
    service("ftp", 21),
    service("ssh", 22),
    service("telnet", 23),
    service("rpcbind", 111),
    service("msrpc", 135),
    service("netbios", 139),
    service("ldap", 389),
    service("smb", 445),
    service("mssql", 1433),
    service("oracle", 1521),
    service("nfs", 2049),
    service("mysql", 3306),
    service("rdp", 3389),
    service("postgresql", 5432),
    service("vnc", 5900),
    service("redis", 6379),
];

const fn service(name: &'static str, port: u16) -> ExposedService {
    let name = Cow::Borrowed(name);
    ExposedService { name, protocol: Protocol::TCP, ports: PortRange::single(port) }
}

/// A day in microseconds.
const DAY: i64 = 24 * 60 * 60 * MICROS_PER_SECOND;

/// From which size or age on a rule is a finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// An ALLOW rule is permissive from this share of all pairs of IPv4 addresses on.
    pub permissive_v4: f64,
    /// An ALLOW rule is permissive from this share of all pairs of IPv6 addresses on.
    pub permissive_v6: f64,
    /// How long before its expiry a rule is reported as `expires_soon`, in microseconds.
    pub expires_soon: i64,
    /// How long an expired rule is only informative, in microseconds.
    pub expired_recently: i64,
    /// How long a rule is disabled before it is reported, in microseconds.
    pub disabled_long: i64,
    /// A conflict below this share of a hidden rule is a warning, not an error.
    pub small_conflict: f64,
    /// A destination is exposed if this share of all public addresses can reach it.
    pub exposed_sources: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            permissive_v4: 0.25,
            permissive_v6: 0.25,
            expires_soon: 30 * DAY,
            expired_recently: 30 * DAY,
            disabled_long: 180 * DAY,
            small_conflict: 0.01,
            exposed_sources: 0.5,
        }
    }
}

/// What an analysis looks for.
#[derive(Debug, Clone)]
pub struct AnalysisOptions {
    /// The kinds of findings.
    pub kinds: FindingKinds,
    /// The instant at which the findings hold.
    pub at: Instant,
    /// From which size or age on a rule is a finding.
    pub thresholds: Thresholds,
    /// The services for [`FindingKind::Exposed`].
    pub services: Vec<ExposedService>,
}

impl AnalysisOptions {
    /// The usual kinds, thresholds and services, at an instant.
    #[must_use]
    pub fn at(at: Instant) -> Self {
        Self {
            kinds: FindingKinds::usual(),
            at,
            thresholds: Thresholds::default(),
            services: EXPOSED_SERVICES.to_vec(),
        }
    }
}

/// How much an analysis may take.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a function has nothing to show")]
pub struct AnalysisLimits<'a> {
    /// The most steps for each question. A step looks at one rule or range and takes 10 to 60 ns.
    /// Steps, not time, bound a question, so that the same question has the same answer twice.
    pub steps: u64,
    /// The most memory in bytes, in addition to the policy itself.
    pub bytes: usize,
    /// The most sets of packets in one finding.
    pub packets: usize,
    /// The most parts of a comparison, search or partition.
    pub parts: usize,
    /// Called again and again, from several threads. Once it returns false, the analysis ends with
    /// what is decided so far.
    pub should_continue: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> AnalysisLimits<'a> {
    /// The usual limits, with a function that ends the analysis.
    #[must_use]
    pub fn usual(should_continue: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { steps: 10_000_000, bytes: 512 << 20, packets: 20, parts: 1_000, should_continue }
    }
}

/// When a comparison holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparisonOptions {
    /// The first instant.
    pub from: Instant,
    /// The last instant. The answer holds over the whole interval. A difference at any instant of
    /// the interval is in the answer, and its witness carries an instant at which it exists.
    pub until: Instant,
}

impl ComparisonOptions {
    /// A comparison at one instant.
    #[must_use]
    pub const fn at(at: Instant) -> Self {
        Self { from: at, until: at }
    }
}

/// What a search looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Packets with this action.
    Action(Action),
    /// Packets that do not pass, by DENY or REJECT.
    Blocked,
    /// Packets that a rule decides.
    Rule(RuleIndex),
    /// Packets that no rule matches.
    Default,
}

/// A search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchRequest {
    /// The set to search.
    pub packets: PacketSet,
    /// The outcome to find.
    pub outcome: Outcome,
    /// The first instant.
    pub from: Instant,
    /// The last instant. Parts are packets with the outcome at some instant of the interval.
    pub until: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_with_and_without_its_name_and_protocol() {
        let read = |text: &str| {
            let ExposedService { name, protocol, ports } = ExposedService::parse(text).unwrap();
            format!("{name} {protocol} {ports}")
        };
        assert_eq!(read("22"), "ssh tcp 22");
        assert_eq!(read(" ssh"), "ssh tcp 22");
        assert_eq!(read("SSH"), "ssh tcp 22");
        assert_eq!(read("tcp/3389"), "rdp tcp 3389");
        assert_eq!(read("udp/161-162"), "udp/161-162 udp 161-162");
        assert_eq!(read("snmp = udp/161"), "snmp udp 161");
        for bad in ["", "icmp/8", "sssh", "=22", "tcp/", "tcp/70000"] {
            assert!(ExposedService::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_of_services_names_each_once() {
        let names = |text: &str| -> Vec<String> {
            let services = ExposedService::parse_list(text).unwrap();
            services.into_iter().map(|it| it.name.into_owned()).collect()
        };
        assert_eq!(names("none"), [""; 0]);
        assert_eq!(names("None"), [""; 0]);
        assert_eq!(names("rdp, udp/161, 3389"), ["rdp", "udp/161"]);
        assert_eq!(names("Usual, ssh").len(), EXPOSED_SERVICES.len());
        for bad in ["", "ssh,", "none, ssh", "usual; ssh"] {
            assert!(ExposedService::parse_list(bad).is_err(), "{bad}");
        }
    }
}
