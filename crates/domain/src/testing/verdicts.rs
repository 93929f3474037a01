//! The corpus of verdicts: policies, packets, and the verdict that each packet must get. It is in
//! `tests/corpus/verdicts`, whose README.md describes the files. Every evaluator is tested with it.
//!
//! Rules and packets keep the spelling of the file, so that a test can send it to the API.

mod members;

use std::fs;
use std::path::Path;

use self::members::Members;
use super::rules::everything;
use crate::engine::naive::{RuleRef, sort};
use crate::error::{FaultLocation, Violation};
use crate::ids::RuleId;
use crate::net::{AddressRange, PortRange, Protocol};
use crate::packet::{Packet, PacketParts};
use crate::rule::{Action, Endpoint, RuleParts, RuleSpec};
use crate::text::Name;
use crate::time::Instant;

/// A file of the corpus.
#[derive(Debug, Clone)]
pub struct Case {
    /// The name of the file, without its ending.
    pub name: String,
    /// What the file is about.
    pub subject: String,
    /// The default action of the policy, in the spelling of the file.
    pub default_action: String,
    /// The rules of the policy, in the order in which they are created.
    pub rules: Vec<WrittenRule>,
    /// The packets.
    pub packets: Vec<Expectation>,
}

/// A packet, and what must become of it.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The packet.
    pub packet: WrittenPacket,
    /// What must become of it.
    pub outcome: Outcome,
    /// The file, the line, and why: what a failed test reports.
    pub why: String,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It gets a verdict.
    Verdict {
        /// The action.
        action: Action,
        /// The place in the file of the rule that decides, from 0; none: the default action.
        rule: Option<usize>,
    },
    /// It is no packet, because of this member.
    Refused(String),
}

/// A source or destination, as it is written.
#[derive(Debug, Clone)]
pub struct WrittenEntry {
    /// The addresses.
    pub address: String,
    /// Its own ports.
    pub port: Option<String>,
}

/// A rule, as it is written. Absent members have the defaults of the API.
#[derive(Debug, Clone)]
pub struct WrittenRule {
    /// Its name. Every rule has one, since packets refer to it.
    pub name: String,
    /// Its action.
    pub action: String,
    /// Its priority.
    pub priority: i32,
    /// Its protocols.
    pub protocols: Vec<String>,
    /// The ICMP type.
    pub icmp_type: Option<u8>,
    /// The ICMP code.
    pub icmp_code: Option<u8>,
    /// Its sources.
    pub sources: Vec<WrittenEntry>,
    /// Its destinations.
    pub destinations: Vec<WrittenEntry>,
    /// Its ports.
    pub ports: Vec<String>,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// When it begins to be active.
    pub starts_at: Option<String>,
    /// When it ceases to be active.
    pub expires_at: Option<String>,
}

/// A packet, as it is written.
#[derive(Debug, Clone)]
pub struct WrittenPacket {
    /// The protocol.
    pub protocol: String,
    /// The source address.
    pub source_address: String,
    /// The source port.
    pub source_port: Option<u16>,
    /// The destination address.
    pub destination_address: String,
    /// The destination port.
    pub destination_port: Option<u16>,
    /// The ICMP type.
    pub icmp_type: Option<u8>,
    /// The ICMP code.
    pub icmp_code: Option<u8>,
    /// Its time.
    pub at: String,
}

/// All files of a folder, in order of their names.
///
/// # Errors
/// Returns the first fault, with its file and line: a folder that cannot be read or has no file, a
/// member that is unknown, missing or of the wrong type, a rule that is not valid, a packet without
/// an outcome, or an outcome that contradicts the file's own rules.
pub fn read_folder(folder: &Path) -> Result<Vec<Case>, String> {
    let in_folder = |why: &dyn std::fmt::Display| format!("{}: {why}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|why| in_folder(&why))? {
        let path = entry.map_err(|why| in_folder(&why))?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    files.sort_unstable();
    if files.is_empty() {
        return Err(in_folder(&"no file ends with .toml"));
    }
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
        Case::parse(&name, &text).map_err(|why| format!("{}: {why}", path.display()))
    };
    files.iter().map(read).collect()
}

impl Case {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Returns the first fault, with its line; see [`read_folder`].
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut members = Members::of_document(text)?;
        let subject = members.required_text("subject")?;
        let default_action = members.required_text("default_action")?;
        let at = members.required_text("at")?;
        let mut rules = Vec::new();
        for rule in members.tables("rules")? {
            let line = rule.line();
            let rule = WrittenRule::read(rule)?;
            rule.spec().map_err(|why| format!("line {line}: {why}"))?;
            rules.push(rule);
        }
        let mut packets = Vec::new();
        for packet in members.tables("packets")? {
            packets.push(expectation(packet, name, &at, &default_action, &rules)?);
        }
        members.finish()?;
        Ok(Self { name: name.to_owned(), subject, default_action, rules, packets })
    }

    /// The rules as the domain has them, in the order of the file.
    ///
    /// # Errors
    /// Returns why a rule is not valid. [`Case::parse`] refuses such rules.
    pub fn specs(&self) -> Result<Vec<RuleSpec>, String> {
        self.rules.iter().map(WrittenRule::spec).collect()
    }
}

/// Rules in order of evaluation, as a database would return them after it created them in this
/// order. Their ids count from 1.
#[must_use]
pub fn entries(specs: &[RuleSpec]) -> Vec<RuleRef<'_>> {
    let ids = (1..).map_while(RuleId::new);
    let mut entries: Vec<RuleRef<'_>> =
        specs.iter().zip(ids).map(|(spec, id)| RuleRef { id, spec }).collect();
    sort(&mut entries);
    entries
}

fn expectation(
    mut members: Members<'_>,
    file: &str,
    at: &str,
    default_action: &str,
    rules: &[WrittenRule],
) -> Result<Expectation, String> {
    let line = members.line();
    let packet = members.required_text("packet")?;
    let at = members.text("at")?.unwrap_or_else(|| at.to_owned());
    let why = members.required_text("why")?;
    let action = members.text("action")?;
    let rule = members.text("rule")?;
    let refused = members.text("refused")?;
    members.finish()?;
    let in_line = |what: String| format!("line {line}: {what}");
    let outcome = match (action, rule, refused) {
        (None, None, Some(member)) => Outcome::Refused(member),
        (Some(action), rule, None) => {
            let place = |name: &String| rules.iter().position(|it| it.name == *name);
            let place = match &rule {
                Some(name) => {
                    Some(place(name).ok_or_else(|| in_line(format!("no rule is named {name}")))?)
                }
                None => None,
            };
            let decides = place.and_then(|place| rules.get(place));
            let given = decides.map_or(default_action, |rule| rule.action.as_str());
            if !given.eq_ignore_ascii_case(&action) {
                return Err(in_line(format!("what decides has the action {given}, not {action}")));
            }
            let action = Action::parse(&action)
                .ok_or_else(|| in_line(format!("`{action}` is not an action")))?;
            Outcome::Verdict { action, rule: place }
        }
        (None, Some(_), _) | (Some(_), _, Some(_)) | (None, None, None) => {
            return Err(in_line("a packet has either an `action` or is `refused`".to_owned()));
        }
    };
    let packet = WrittenPacket::parse(&packet, at).ok_or_else(|| {
        in_line(format!("`{packet}` is not written as `protocol source -> destination`"))
    })?;
    Ok(Expectation { packet, outcome, why: format!("{file}.toml, line {line}: {why}") })
}

impl WrittenEntry {
    fn read(text: String) -> Self {
        match text.split_once(' ') {
            Some((address, port)) => {
                Self { address: address.to_owned(), port: Some(port.to_owned()) }
            }
            None => Self { address: text, port: None },
        }
    }

    fn endpoint(&self) -> Result<Endpoint, String> {
        let Self { address, port } = self;
        Ok(Endpoint {
            address: AddressRange::parse(address).map_err(shown)?,
            port: port.as_deref().map(PortRange::parse).transpose().map_err(shown)?,
        })
    }
}

impl WrittenRule {
    fn read(mut members: Members<'_>) -> Result<Self, String> {
        let entries = |texts: Vec<String>| texts.into_iter().map(WrittenEntry::read).collect();
        let rule = Self {
            name: members.required_text("name")?,
            action: members.required_text("action")?,
            priority: members
                .number("priority")?
                .ok_or_else(|| members.fault("`priority` is missing"))?,
            protocols: members.texts("protocols")?,
            icmp_type: members.number("icmp_type")?,
            icmp_code: members.number("icmp_code")?,
            sources: entries(members.texts("sources")?),
            destinations: entries(members.texts("destinations")?),
            ports: members.texts("ports")?,
            enabled: members.flag("enabled")?.unwrap_or(true),
            starts_at: members.text("starts_at")?,
            expires_at: members.text("expires_at")?,
        };
        members.finish()?;
        Ok(rule)
    }

    /// The rule as the domain has it.
    ///
    /// # Errors
    /// Returns why the rule is not valid.
    pub fn spec(&self) -> Result<RuleSpec, String> {
        let Self {
            name,
            action,
            priority,
            protocols,
            icmp_type,
            icmp_code,
            sources,
            destinations,
            ports,
            enabled,
            starts_at,
            expires_at,
        } = self;
        let instant =
            |text: &Option<String>| text.as_deref().map(Instant::parse).transpose().map_err(shown);
        let ends = |entries: &[WrittenEntry]| -> Result<Vec<Endpoint>, String> {
            entries.iter().map(WrittenEntry::endpoint).collect()
        };
        let parts = RuleParts {
            name: Some(Name::parse(name).map_err(shown)?),
            action: Action::parse(action).ok_or_else(|| format!("`{action}` is not an action"))?,
            priority: *priority,
            protocols: protocols
                .iter()
                .map(|text| Protocol::parse(text).map_err(shown))
                .collect::<Result<_, _>>()?,
            icmp_type: *icmp_type,
            icmp_code: *icmp_code,
            sources: ends(sources)?,
            destinations: ends(destinations)?,
            ports: ports
                .iter()
                .map(|text| PortRange::parse(text).map_err(shown))
                .collect::<Result<_, _>>()?,
            enabled: *enabled,
            starts_at: instant(starts_at)?,
            expires_at: instant(expires_at)?,
            // The others decide nothing about packets.
            ..everything()
        };
        RuleSpec::new(parts).map_err(|violations| {
            let all: Vec<String> = violations.items().iter().map(ToString::to_string).collect();
            all.join("; ")
        })
    }
}

impl WrittenPacket {
    /// Reads `tcp 10.0.0.1:40000 -> [2001:db8::1]:443` or `icmp 8/0 10.0.0.1 -> 10.0.0.2`.
    /// Addresses and protocols stay texts, since some packets of the corpus must be refused.
    fn parse(text: &str, at: String) -> Option<Self> {
        let (from, to) = text.split_once(" -> ")?;
        let words: Vec<&str> = from.split(' ').collect();
        let (protocol, icmp, from) = match *words.as_slice() {
            [protocol, from] => (protocol, None, from),
            [protocol, icmp, from] => (protocol, Some(icmp), from),
            _ => return None,
        };
        let (icmp_type, icmp_code) = match icmp.map(|icmp| icmp.split_once('/').ok_or(icmp)) {
            None => (None, None),
            Some(Ok((icmp_type, icmp_code))) => {
                (Some(icmp_type.parse().ok()?), Some(icmp_code.parse().ok()?))
            }
            Some(Err(icmp_type)) => (Some(icmp_type.parse().ok()?), None),
        };
        let (source_address, source_port) = socket(from)?;
        let (destination_address, destination_port) = socket(to)?;
        Some(Self {
            protocol: protocol.to_owned(),
            source_address,
            source_port,
            destination_address,
            destination_port,
            icmp_type,
            icmp_code,
            at,
        })
    }

    /// The packet as the domain has it.
    ///
    /// # Errors
    /// Returns the members because of which it is no packet.
    pub fn packet(&self) -> Result<Packet, Vec<String>> {
        let Self {
            protocol,
            source_address,
            source_port,
            destination_address,
            destination_port,
            icmp_type,
            icmp_code,
            at,
        } = self;
        let named = |member: &str| vec![member.to_owned()];
        let parts = PacketParts {
            source_address: source_address.parse().map_err(|_| named("source_address"))?,
            destination_address: destination_address
                .parse()
                .map_err(|_| named("destination_address"))?,
            protocol: Protocol::parse(protocol).map_err(|_| named("protocol"))?,
            source_port: *source_port,
            destination_port: *destination_port,
            icmp_type: *icmp_type,
            icmp_code: *icmp_code,
            at: Instant::parse(at).map_err(|_| named("at"))?,
        };
        Packet::new(parts).map_err(|violations| {
            let member = |it: &Violation| match &it.place {
                FaultLocation::Body(pointer) => pointer.trim_start_matches('/').to_owned(),
                FaultLocation::Query(name) | FaultLocation::Header(name) => name.clone(),
            };
            violations.items().iter().map(member).collect()
        })
    }
}

/// An address, and the port after it. An IPv6 address with a port is in brackets.
fn socket(text: &str) -> Option<(String, Option<u16>)> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").map(|(address, port)| (address, Some(port)))?,
        None if text.matches(':').count() == 1 => {
            text.split_once(':').map(|(address, port)| (address, Some(port)))?
        }
        None => (text, None),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    Some((address.to_owned(), port))
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn shown(error: impl ToString) -> String {
    error.to_string()
}
