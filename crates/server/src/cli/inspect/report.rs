//! The output about the packets.

use std::io::{Result, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fireflow_domain::engine::port_map::PortAnswer;
use fireflow_domain::net::{PortRange, Protocol};
use fireflow_domain::packet::{Packet, Payload};
use fireflow_domain::rule::Action;
use fireflow_formats::assumed_ports::AssumedPorts;
use fireflow_formats::flow_log::Skipped;
use fireflow_formats::verdict_lines::FaultLine;
use serde::Serialize;

use super::super::counted;
use super::packets::{Batch, Fault, Guesses, LineContent, Queries};
use super::rules::{About, Rules};
use super::{Arguments, Format};

/// How many unreadable lines the summary lists.
const MAX_TOLD: usize = 10;

/// Writes packets as they are decided, and a summary at the end.
pub(super) struct Report<'a, W: Write> {
    rules: &'a Rules,
    out: W,
    format: Format,
    /// Whether to write the hits of each rule instead of the packets.
    counts_hits: bool,
    checks: bool,
    /// How many packets each rule decides, by position.
    hits: Vec<u64>,
    /// How many packets no rule decides.
    without_rule: u64,
    by_action: [u64; Action::ALL.len()],
    skipped: [u64; Skipped::ALL.len()],
    /// The first unreadable lines, with their faults.
    told: Vec<(u64, String)>,
    faults: u64,
    /// How many packets name a rule, and for how many of them another rule decides.
    expected: u64,
    otherwise: u64,
    guesses: Guesses,
    /// How many packets have no source port, and how many of their verdicts depend on it.
    without_port: u64,
    dependent: u64,
    /// A buffer for a line of JSON.
    line: Vec<u8>,
}

/// A rule in a line.
#[derive(Serialize)]
struct RuleLine<'a> {
    number: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    #[serde(flatten)]
    spec: Option<SpecInLine<'a>>,
}

#[derive(Serialize)]
struct SpecInLine<'a> {
    name: Option<&'a str>,
    action: &'static str,
    priority: i32,
}

#[derive(Serialize)]
struct VerdictLine<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permitted: Option<bool>,
    reason: &'static str,
    active_rule: Option<RuleLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports_assumed: Option<AssumedPorts<PortLine>>,
}

/// The verdict at a range of source ports.
#[derive(Serialize)]
struct PortLine {
    from: u16,
    to: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    rule_number: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_id: Option<i64>,
}

#[derive(Serialize)]
struct HitsLine<'a> {
    rule: Option<RuleLine<'a>>,
    hits: u64,
}

impl<'a> From<&About<'a>> for RuleLine<'a> {
    fn from(about: &About<'a>) -> Self {
        let spec = about.spec.map(|spec| SpecInLine {
            name: spec.name.as_ref().map(|name| name.as_str()),
            action: spec.action.as_str(),
            priority: spec.priority,
        });
        Self { number: about.number, id: about.id, spec }
    }
}

impl<'a, W: Write> Report<'a, W> {
    pub(super) fn new(arguments: &Arguments, rules: &'a Rules, out: W) -> Self {
        Self {
            rules,
            out,
            format: arguments.format,
            counts_hits: arguments.hits,
            checks: arguments.check,
            hits: vec![0; rules.len()],
            without_rule: 0,
            by_action: [0; Action::ALL.len()],
            skipped: [0; Skipped::ALL.len()],
            told: Vec::new(),
            faults: 0,
            expected: 0,
            otherwise: 0,
            guesses: Guesses::default(),
            without_port: 0,
            dependent: 0,
            line: Vec::new(),
        }
    }

    /// Writes the verdicts of a batch, and counts them.
    ///
    /// # Errors
    /// Returns an error if the output cannot be written.
    pub(super) fn add(&mut self, batch: &Batch) -> Result<()> {
        self.guesses.icmp += batch.guesses.icmp;
        self.guesses.tcp += batch.guesses.tcp;
        let (mut next, mut next_without_port) = (0, 0);
        for (line, said) in &batch.lines {
            match said {
                LineContent::Packet(expected) => {
                    let decided = batch.decided.get(next).copied().flatten();
                    let shown = || shown(&batch.queries, next, true);
                    self.packet(*line, shown, decided, None, *expected)?;
                    next += 1;
                }
                LineContent::PacketWithoutPort => {
                    let at = next_without_port;
                    let assumed = batch.assumed.get(at);
                    let decided = assumed.and_then(|assumed| assumed.decided);
                    self.without_port += 1;
                    self.dependent += u64::from(assumed.is_some_and(PortAnswer::is_dependent));
                    let shown = || shown(&batch.without_port, at, false);
                    self.packet(*line, shown, decided, assumed, None)?;
                    next_without_port += 1;
                }
                LineContent::Skipped(why) => {
                    if let Some(count) = self.skipped.get_mut(*why as usize) {
                        *count += 1;
                    }
                }
                LineContent::Fault(fault) => self.fault(*line, fault)?,
            }
        }
        Ok(())
    }

    fn packet(
        &mut self,
        line: u64,
        shown: impl Fn() -> String,
        decided: Option<usize>,
        assumed: Option<&PortAnswer<Option<usize>>>,
        expected: Option<i64>,
    ) -> Result<()> {
        match decided.and_then(|position| self.hits.get_mut(position)) {
            Some(hits) => *hits += 1,
            None => self.without_rule += 1,
        }
        let about = decided.map(|position| self.rules.about(position));
        let action = self.rules.action(decided);
        if let Some(count) = action.and_then(|action| self.by_action.get_mut(action as usize)) {
            *count += 1;
        }
        if let Some(expected) = expected {
            self.expected += 1;
            self.otherwise += u64::from(number(about.as_ref()) != expected);
        }
        if self.counts_hits {
            return Ok(());
        }
        match self.format {
            Format::Index => writeln!(self.out, "{}", number(about.as_ref()))?,
            Format::Ndjson => {
                let verdict = VerdictLine {
                    line,
                    action: action.map(Action::as_str),
                    permitted: action.map(Action::permits),
                    reason: if about.is_some() { "rule" } else { "default" },
                    active_rule: about.as_ref().map(Into::into),
                    ports_assumed: assumed.map(|assumed| {
                        AssumedPorts::new(assumed, |ports, it| self.port_line(ports, *it))
                    }),
                };
                self.json(&verdict)?;
            }
            Format::Text => {
                let action = action.map_or("-", Action::as_str);
                let mut rule = about.as_ref().map_or_else(|| "no rule".to_owned(), named);
                if let Some(assumed) = assumed.filter(|assumed| assumed.is_dependent()) {
                    rule.push_str(&self.by_port(assumed));
                }
                writeln!(self.out, "{line:>8}  {action:<6}  {:<60}  {rule}", shown())?;
            }
        }
        Ok(())
    }

    fn port_line(&self, ports: PortRange, position: Option<usize>) -> PortLine {
        let about = position.map(|position| self.rules.about(position));
        PortLine {
            from: ports.first(),
            to: ports.last(),
            action: self.rules.action(position).map(Action::as_str),
            rule_number: about.as_ref().map(|about| about.number),
            rule_id: about.and_then(|about| about.id),
        }
    }

    /// The verdicts at ranges of source ports, in words.
    fn by_port(&self, assumed: &PortAnswer<Option<usize>>) -> String {
        let one = |(ports, position): &(PortRange, Option<usize>)| {
            let rule = position.map(|position| self.rules.about(position));
            let rule = rule.as_ref().map_or_else(|| "no rule".to_owned(), short);
            let action = self.rules.action(*position).map_or("-", Action::as_str);
            format!("{ports} {action} by {rule}")
        };
        let mut all: Vec<String> = assumed.alternatives.iter().map(one).collect();
        if assumed.ranges > all.len() {
            all.push(format!("{} more ranges", assumed.ranges - all.len()));
        }
        format!("; depends on the source port: {}", all.join(", "))
    }

    fn fault(&mut self, line: u64, fault: &Fault) -> Result<()> {
        self.faults += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push((line, fault.detail.clone()));
        }
        if self.format == Format::Ndjson && !self.counts_hits {
            self.json(&FaultLine::new(line, fault.code, &fault.detail))?;
        }
        Ok(())
    }

    /// Writes the hits of the rules, if they are asked for, and flushes the output.
    ///
    /// # Errors
    /// Returns an error if the output cannot be written.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.counts_hits {
            // In the order of the file.
            let all = self.rules;
            let hits = self.hits.iter().enumerate();
            let mut rules: Vec<(About<'_>, u64)> =
                hits.map(|(position, hits)| (all.about(position), *hits)).collect();
            rules.sort_by_key(|(about, _)| about.number);
            for (about, hits) in &rules {
                match self.format {
                    Format::Index => writeln!(self.out, "{hits}")?,
                    Format::Ndjson => {
                        self.json(&HitsLine { rule: Some(about.into()), hits: *hits })?;
                    }
                    Format::Text => writeln!(self.out, "{hits:>12}  {}", named(about))?,
                }
            }
            let hits = self.without_rule;
            match self.format {
                Format::Index => {}
                Format::Ndjson => {
                    self.json(&HitsLine { rule: None, hits })?;
                }
                Format::Text => writeln!(self.out, "{hits:>12}  no rule")?,
            }
        }
        self.flush()
    }

    /// Flushes the output.
    ///
    /// # Errors
    /// Returns an error if the output cannot be written.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.flush()
    }

    /// Writes a line of JSON.
    fn json(&mut self, line: &impl Serialize) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn packets(&self) -> u64 {
        self.hits.iter().sum::<u64>() + self.without_rule
    }

    /// The summary, one text per line. `name` is the file of the packets.
    pub(super) fn summary(&self, took: Duration, name: &str) -> Vec<String> {
        let packets = self.packets();
        let mut all = format!("{} in {:.1} s", counted(packets, "packet"), took.as_secs_f64());
        let actions = Action::ALL.iter().zip(self.by_action).filter(|(_, count)| *count > 0);
        let actions: Vec<String> = actions.map(|(it, count)| format!("{count} {it}")).collect();
        if !actions.is_empty() {
            all.push_str(&format!(": {}", actions.join(", ")));
        }
        let idle = self.hits.iter().filter(|hits| **hits == 0).count();
        all.push_str(&format!(
            "; rules hit: {} of {}; packets without a match: {}",
            self.hits.len() - idle,
            self.hits.len(),
            self.without_rule
        ));
        let mut lines = vec![all];
        if self.rules.assumes_default() && self.without_rule > 0 {
            lines.push(
                "the rules have no default action and --default-action is not set: DENY is \
                        assumed for packets that no rule matches"
                    .to_owned(),
            );
        }
        for (why, count) in Skipped::ALL.into_iter().zip(self.skipped).filter(|it| it.1 > 0) {
            lines.push(format!("{} skipped: {}", counted(count, "record"), why.as_str()));
        }
        let Guesses { icmp, tcp } = self.guesses;
        if icmp > 0 {
            let packets = counted(icmp, "packet");
            lines.push(format!("{packets} of ICMP without a type: evaluated as echo requests"));
        }
        if tcp > 0 {
            let packets = counted(tcp, "packet");
            lines.push(format!(
                "{packets} of TCP without flags: replies among them are evaluated like requests"
            ));
        }
        if self.without_port > 0 {
            lines.push(format!(
                "{} without a source port: evaluated with each port from {} to {}; {} of the \
                 verdicts depend on the port",
                counted(self.without_port, "packet"),
                PortRange::EPHEMERAL.first(),
                PortRange::EPHEMERAL.last(),
                self.dependent,
            ));
        }
        lines.extend(self.told.iter().map(|(line, why)| format!("{name}:{line}: {why}")));
        if self.expected > 0 {
            let right = self.expected - self.otherwise;
            lines.push(format!(
                "{right} of {} packets match the rule that they name",
                self.expected
            ));
        }
        lines
    }

    /// Why the command fails, if it does.
    pub(super) fn failure(&self) -> Option<String> {
        let packets = self.packets();
        if self.faults > 0 {
            Some(format!("{} could not be read", counted(self.faults, "line")))
        } else if self.checks && self.expected == 0 {
            Some("no packet names the rule that decides".to_owned())
        } else if self.checks && self.expected < packets {
            Some(format!("only {} of {packets} packets name the rule that decides", self.expected))
        } else if self.checks && self.otherwise > 0 {
            Some(format!(
                "{} decided by another rule than the expected one",
                counted(self.otherwise, "packet")
            ))
        } else {
            None
        }
    }
}

/// The number of a rule in the file, -1 for none.
fn number(about: Option<&About<'_>>) -> i64 {
    about.and_then(|about| i64::try_from(about.number).ok()).unwrap_or(-1)
}

/// A rule in words.
fn named(about: &About<'_>) -> String {
    let mut text = short(about);
    if let Some(spec) = about.spec {
        if let Some(name) = &spec.name {
            text.push_str(&format!(" `{}`", name.as_str()));
        }
        text.push_str(&format!(" ({} at {})", spec.action, spec.priority));
    }
    text
}

/// A rule in few words.
fn short(about: &About<'_>) -> String {
    match about.id {
        Some(id) => format!("rule {id}"),
        None => format!("rule no. {}", about.number),
    }
}

/// A packet in words. A source port that is unknown is `*`.
fn shown(queries: &Queries, at: usize, is_port_known: bool) -> String {
    match queries {
        Queries::Packets(packets) => {
            packets.get(at).map(|it| packet(it, is_port_known)).unwrap_or_default()
        }
        Queries::Keys(keys) => keys
            .get(at)
            .map(|key| {
                let address = |address: u32| IpAddr::V4(Ipv4Addr::from_bits(address));
                let source = sender(address(key.source), key.first, is_port_known);
                let destination = SocketAddr::new(address(key.destination), key.second);
                format!("{} {source} -> {destination}", Protocol(key.protocol))
            })
            .unwrap_or_default(),
    }
}

/// A source with its port.
fn sender(address: IpAddr, port: u16, is_port_known: bool) -> String {
    match address {
        _ if is_port_known => SocketAddr::new(address, port).to_string(),
        IpAddr::V4(address) => format!("{address}:*"),
        IpAddr::V6(address) => format!("[{address}]:*"),
    }
}

fn packet(packet: &Packet, is_port_known: bool) -> String {
    let (source, destination, protocol) =
        (packet.source(), packet.destination(), packet.protocol());
    match packet.payload() {
        Payload::Ports { source: from, destination: to } => {
            let source = sender(source, from, is_port_known);
            let destination = SocketAddr::new(destination, to);
            format!("{protocol} {source} -> {destination}")
        }
        Payload::Icmp { icmp_type, icmp_code } => {
            format!("{protocol} {source} -> {destination} type {icmp_type} code {icmp_code}")
        }
        Payload::Opaque => format!("{protocol} {source} -> {destination}"),
    }
}
