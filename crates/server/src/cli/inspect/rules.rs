//! The rules of a file.

use std::collections::HashSet;
use std::ops::ControlFlow;

use anyhow::{Context as _, Result, anyhow, bail};
use fireflow_domain::engine::classifier::{Budget, Cuboid, Index, Key, NO_CUBOID, kind};
use fireflow_domain::engine::naive::Entry;
use fireflow_domain::engine::port_map::{PortAnswer, PortMap};
use fireflow_domain::engine::{Evaluator, Limits};
use fireflow_domain::error::Violations;
use fireflow_domain::ids::{PolicyId, RuleId};
use fireflow_domain::net::{PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts, Payload};
use fireflow_domain::rule::{Action, RuleSpec};
use fireflow_domain::time::Instant;
use fireflow_formats::benchmark::BenchmarkPacket;
use fireflow_formats::format::{FileError, RuleRecord};
use fireflow_formats::read_only::ReadOnly;
use fireflow_formats::rule::{SetReading, given_rule};
use fireflow_formats::rule_set::{numbered, page_members};
use fireflow_formats::{Source, listed, sniff};
use serde_json::{Map, Value};

use super::packets::{Fault, Queries, described};

/// Rules, compiled.
pub(super) enum Rules {
    /// The rules of a policy.
    Policy(Box<PolicyRules>),
    /// The rules of a benchmark: cuboids of IPv4, without actions.
    Benchmark(BenchmarkRules),
}

pub(super) struct PolicyRules {
    /// In order of evaluation.
    specs: Vec<RuleSpec>,
    /// The position of each rule in the file, and its id if it has one.
    places: Vec<(usize, Option<RuleId>)>,
    evaluator: Evaluator,
    default: Action,
    /// Whether the default was given, not assumed.
    is_default_known: bool,
}

pub(super) struct BenchmarkRules {
    index: Index<u32>,
    count: usize,
}

/// A rule as answers show it.
pub(super) struct About<'a> {
    /// Its position in the file, counted from 0.
    pub(super) number: usize,
    pub(super) id: Option<i64>,
    pub(super) spec: Option<&'a RuleSpec>,
}

/// A packet in the form that the rules are evaluated with.
pub(super) enum Query {
    Packet(Packet),
    Key(Key<u32>),
}

impl Rules {
    /// Reads and compiles the rules. `default` is the action for packets that no rule matches; it
    /// overrides the default in the file.
    ///
    /// # Errors
    /// Returns the first fault of a line, or all faults of a rule.
    pub(super) fn read(mut source: Source, default: Option<Action>) -> Result<Self> {
        let file = sniff(&source.first)?;
        let (mut read, mut cuboids) = (ReadRules::default(), Vec::new());
        let mut fault = Ok(());
        let done = file.rules(&mut source.reader, &mut |place, record| {
            fault = match record {
                RuleRecord::Api(rule) => read.read(rule, &place.to_string()),
                RuleRecord::Page(others) => read.page(others).with_context(|| place.to_string()),
                RuleRecord::Cuboid(cuboid) => {
                    cuboids.push(cuboid);
                    Ok(())
                }
            };
            if fault.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match done {
            Err(FileError::NotRules) => {
                let rules = listed("or", |format| format.rules_in_short);
                bail!("these are packets; rules are {rules}");
            }
            done => done?,
        }
        fault?;
        // A benchmark has at least the rule by which it was recognized.
        if cuboids.is_empty() {
            Self::policy(read.all()?, default)
        } else {
            Self::benchmark(&cuboids)
        }
    }

    fn benchmark(cuboids: &[Cuboid<u32>]) -> Result<Self> {
        let index = Index::build(cuboids, Budget { cuboids: usize::MAX, bytes: usize::MAX })?;
        Ok(Self::Benchmark(BenchmarkRules { index, count: cuboids.len() }))
    }

    fn policy(read: ReadRules, default: Option<Action>) -> Result<Self> {
        let mut violations = Violations::new();
        let rules = numbered(read.rules, &mut violations);
        if !violations.is_empty() {
            return Err(anyhow!(described(&violations)));
        }
        let count = rules.len();
        let mut order: Vec<(usize, Option<RuleId>, RuleSpec)> =
            rules.into_iter().enumerate().map(|(place, it)| (place, it.id, it.spec)).collect();
        // The service would give the rules without an id the next ids, in the order of the file.
        order.sort_by_key(|(place, id, spec)| {
            (spec.priority, id.map_or(i64::MAX, RuleId::get), *place)
        });
        let (mut specs, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (place, id, spec) in order {
            specs.push(spec);
            places.push((place, id));
        }
        let budget = Budget { cuboids: 50_000_000, bytes: 4 << 30 };
        let limits = Limits { budget, should_continue: &|| true };
        let evaluator = Evaluator::compile(&entries(&specs), limits);
        let known = default.or(read.default);
        let default = known.unwrap_or(Action::Deny);
        let is_default_known = known.is_some();
        let rules = PolicyRules { specs, places, evaluator, default, is_default_known };
        Ok(Self::Policy(Box::new(rules)))
    }

    /// Whether the rules are not compiled, so that each packet is compared with each rule.
    pub(super) const fn is_over_budget(&self) -> bool {
        matches!(self, Self::Policy(rules) if rules.evaluator.is_over_budget())
    }

    /// The number of rules.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Policy(rules) => rules.specs.len(),
            Self::Benchmark(rules) => rules.count,
        }
    }

    /// The action for packets that no rule matches; none for a benchmark.
    pub(super) const fn default(&self) -> Option<Action> {
        match self {
            Self::Policy(rules) => Some(rules.default),
            Self::Benchmark(_) => None,
        }
    }

    /// Whether the default action is only assumed.
    pub(super) const fn assumes_default(&self) -> bool {
        matches!(self, Self::Policy(rules) if !rules.is_default_known)
    }

    /// The rule at a position in the order of evaluation.
    pub(super) fn about(&self, position: usize) -> About<'_> {
        match self {
            Self::Policy(rules) => {
                let (number, id) = rules.places.get(position).copied().unwrap_or((position, None));
                About { number, id: id.map(RuleId::get), spec: rules.specs.get(position) }
            }
            Self::Benchmark(_) => About { number: position, id: None, spec: None },
        }
    }

    /// An empty list of queries for these rules.
    pub(super) const fn queries(&self) -> Queries {
        match self {
            Self::Policy(_) => Queries::Packets(Vec::new()),
            Self::Benchmark(_) => Queries::Keys(Vec::new()),
        }
    }

    /// The positions of the deciding rules, computed on all processors.
    pub(super) fn decide(&self, queries: &Queries) -> Vec<Option<usize>> {
        match (self, queries) {
            (Self::Policy(rules), Queries::Packets(packets)) => {
                rules.evaluator.classify_many(packets, &rules.specs)
            }
            (Self::Benchmark(rules), Queries::Keys(keys)) => {
                let found = |place: u32| (place != NO_CUBOID).then_some(place as usize);
                rules.index.find_many(keys).into_iter().map(found).collect()
            }
            // Cannot happen: `queries` creates the list that fits the rules.
            (Self::Policy(_), Queries::Keys(_)) | (Self::Benchmark(_), Queries::Packets(_)) => {
                Vec::new()
            }
        }
    }

    /// The deciding rules of queries whose source port is unknown: their positions at the ports that
    /// the packets may have. The rules of a benchmark have no actions, so none is the strictest.
    pub(super) fn decide_by_port(&self, queries: &Queries) -> Vec<PortAnswer<Option<usize>>> {
        let ports = PortRange::EPHEMERAL;
        let answer = |map: &PortMap<Option<usize>>| {
            PortAnswer::new(ports, map, |position| self.action(position))
        };
        match (self, queries) {
            (Self::Policy(rules), Queries::Packets(packets)) => {
                rules.evaluator.classify_many_by_port(packets, ports, &rules.specs, answer)
            }
            (Self::Benchmark(rules), Queries::Keys(keys)) => {
                keys.iter().map(|key| answer(&rules.index.find_by_port(key, ports))).collect()
            }
            // Cannot happen: `queries` creates the list that fits the rules.
            (Self::Policy(_), Queries::Keys(_)) | (Self::Benchmark(_), Queries::Packets(_)) => {
                Vec::new()
            }
        }
    }

    /// The action of the rule at a position, or the default action without a rule; none for a
    /// benchmark.
    pub(super) fn action(&self, position: Option<usize>) -> Option<Action> {
        match (self, position) {
            (Self::Policy(rules), Some(position)) => {
                rules.specs.get(position).map(|spec| spec.action)
            }
            (Self::Policy(_) | Self::Benchmark(_), _) => self.default(),
        }
    }

    /// The query for a packet.
    pub(super) fn query(&self, packet: Packet) -> Result<Query, Fault> {
        if let Self::Policy(_) = self {
            return Ok(Query::Packet(packet));
        }
        let (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) =
            (packet.source(), packet.destination())
        else {
            return Err(Fault::invalid("the packet must be IPv4, like the benchmark's rules"));
        };
        let (first, second) = match packet.payload() {
            Payload::Ports { source, destination } => (source, destination),
            Payload::Icmp { icmp_type, icmp_code } => (icmp_type.into(), icmp_code.into()),
            Payload::Opaque => (0, 0),
        };
        Ok(Query::Key(Key {
            source: source.to_bits(),
            destination: destination.to_bits(),
            first,
            second,
            protocol: packet.protocol().0,
            kind: kind::PORTS,
        }))
    }

    /// The query for a benchmark's packet. For a policy's rules, it has only the fields that a real
    /// packet of its protocol carries.
    pub(super) fn query_of(&self, packet: &BenchmarkPacket, now: Instant) -> Result<Query, Fault> {
        if let Self::Benchmark(_) = self {
            return Ok(Query::Key(packet.key()));
        }
        let protocol = Protocol(packet.protocol);
        let port = |port: u16| protocol.has_ports().then_some(port);
        let parts = PacketParts {
            source_address: std::net::Ipv4Addr::from_bits(packet.source).into(),
            destination_address: std::net::Ipv4Addr::from_bits(packet.destination).into(),
            protocol,
            source_port: port(packet.source_port),
            destination_port: port(packet.destination_port),
            icmp_type: None,
            icmp_code: None,
            at: now,
        };
        Packet::new(parts).map(Query::Packet).map_err(|faults| Fault::from(&faults))
    }
}

fn entries(specs: &[RuleSpec]) -> Vec<Entry<'_>> {
    let ids = (1..).filter_map(RuleId::new);
    specs.iter().zip(ids).map(|(spec, id)| Entry { id, spec }).collect()
}

/// Rules as they were read from a file.
#[derive(Default)]
struct ReadRules {
    rules: Vec<(fireflow_domain::usecase::rule_set::GivenRule, bool)>,
    /// The policy that the rules name.
    policy: Option<PolicyId>,
    /// The policy's default action, if the rules name it.
    default: Option<Action>,
    ids: HashSet<RuleId>,
    /// The total number of rules according to the pages, and whether that number is exact.
    total: Option<u64>,
    is_total_exact: bool,
    /// Whether more rules follow the last page.
    has_more: bool,
}

impl ReadRules {
    /// Reads one rule. Rules in the service's answers name their policy; all must name the same
    /// one.
    fn read(&mut self, value: Value, at: &str) -> Result<()> {
        let parent = value.get("filtering_policy").filter(|it| !it.is_null());
        let id = parent.and_then(|it| it.get("id").unwrap_or(it).as_i64()).and_then(PolicyId::new);
        if let (Some(one), Some(other)) = (self.policy, id)
            && one != other
        {
            bail!(
                "{at}: the rules belong to several policies, {one} and {other}; use the rules \
                   of one policy"
            );
        }
        self.policy = self.policy.or(id);
        let default = parent.and_then(|it| Action::parse(it.get("default_action")?.as_str()?));
        if let (Some(one), Some(other)) = (self.default, default)
            && one != other
        {
            bail!("{at}: the policy's default action is {other} here, but {one} earlier");
        }
        self.default = self.default.or(default);
        if value.get("deleted_at").is_some_and(|it| !it.is_null()) {
            bail!("{at}: the rule is deleted and has no effect; remove it");
        }
        let policy = id.or_else(|| PolicyId::new(1)).ok_or_else(|| anyhow!("no policy"))?;
        let mut violations = Violations::new();
        // Rules are not moved here, so the read-only members of an answer are ignored.
        let reading = SetReading { read_only: ReadOnly::Ignore, ..SetReading::default() };
        match given_rule(value, "", policy, reading, &mut violations) {
            Some(rule) if violations.is_empty() => {
                if let Some(id) = rule.0.id.filter(|id| !self.ids.insert(*id)) {
                    bail!("{at}: duplicate rule with id={id}");
                }
                self.rules.push(rule);
                Ok(())
            }
            _ => Err(anyhow!(described(&violations)).context(at.to_owned())),
        }
    }

    /// Reads the members of a page other than its items.
    fn page(&mut self, others: Map<String, Value>) -> Result<()> {
        // A plain list has no such members.
        if others.is_empty() {
            return Ok(());
        }
        if let Some(total) = others.get("total").and_then(Value::as_u64) {
            self.total = self.total.max(Some(total));
            self.is_total_exact = others.get("total_is_exact") != Some(&Value::Bool(false));
        }
        let goes_on = self.has_more;
        self.has_more = others.get("next_cursor").is_some_and(|it| !it.is_null());
        let parts = others.get("partial").and_then(Value::as_array).into_iter().flatten();
        let parts: Vec<&str> = parts.filter_map(Value::as_str).collect();
        // The file can contain further pages, but no other part of a partial answer can be added.
        if let Some(part) = parts.iter().find(|part| **part != "page") {
            bail!(
                "the list is not complete: its `partial` names `{part}`; read it without `{part}`"
            );
        }
        // The last page of a list that was read with cursors.
        let is_end = !self.has_more && !others.contains_key("page") && parts.contains(&"page");
        if is_end && !goes_on {
            bail!("the list is not complete: pages before it are missing");
        }
        let mut violations = Violations::new();
        page_members(others, &mut violations);
        if violations.is_empty() { Ok(()) } else { Err(anyhow!(described(&violations))) }
    }

    /// Returns all rules, or an error if the pages indicate that some are missing.
    fn all(self) -> Result<Self> {
        let count = u64::try_from(self.rules.len()).unwrap_or(u64::MAX);
        let all = "read all of them as lines: `Accept: application/x-ndjson`, without `page`";
        match self.total {
            Some(total) if total > count => bail!("the file has {count} of {total} rules; {all}"),
            Some(_) if self.is_total_exact => Ok(self),
            _ if self.has_more => bail!("the list has more rules than these {count}; {all}"),
            _ => Ok(self),
        }
    }
}
