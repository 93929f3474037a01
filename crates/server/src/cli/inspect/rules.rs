//! The rules of a file.

use anyhow::Result;
use fireflow_domain::engine::classifier::{Budget, Cuboid, Index, Key, NO_CUBOID, kind};
use fireflow_domain::engine::naive::RuleRef;
use fireflow_domain::engine::port_map::{PortAnswer, PortMap};
use fireflow_domain::engine::{Evaluator, Limits};
use fireflow_domain::ids::RuleId;
use fireflow_domain::net::{PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts, Payload};
use fireflow_domain::rule::{Action, RuleSpec};
use fireflow_domain::time::Instant;
use fireflow_formats::Source;
use fireflow_formats::benchmark::BenchmarkPacket;

use super::super::rule_file::{self, BenchmarkRule, PolicyFile, RuleFile, RulePlace};
use super::packets::{Fault, Queries};

/// Rules, compiled.
pub(super) enum Rules {
    /// The rules of a policy.
    Policy(Box<PolicyRules>),
    /// The rules of a benchmark: cuboids of IPv4, without actions.
    Benchmark(Box<BenchmarkRules>),
}

pub(super) struct PolicyRules {
    /// In order of evaluation.
    specs: Vec<RuleSpec>,
    /// The place of each rule in the file.
    places: Vec<RulePlace>,
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
    pub(super) fn read(source: Source, default: Option<Action>) -> Result<Self> {
        match rule_file::read(source, None)? {
            RuleFile::Policy(policy) => Ok(Self::policy(policy, default)),
            RuleFile::Benchmark(rules) => Self::benchmark(&rules),
        }
    }

    fn benchmark(rules: &[BenchmarkRule]) -> Result<Self> {
        let cuboids: Vec<Cuboid<u32>> = rules.iter().map(|it| Cuboid::new(&it.parts)).collect();
        let index = Index::build(&cuboids, Budget { cuboids: usize::MAX, bytes: usize::MAX })?;
        Ok(Self::Benchmark(Box::new(BenchmarkRules { index, count: cuboids.len() })))
    }

    fn policy(policy: PolicyFile, default: Option<Action>) -> Self {
        let PolicyFile { specs, places, default: named, is_blank: _ } = policy;
        let budget = Budget { cuboids: 50_000_000, bytes: 4 << 30 };
        let limits = Limits { budget, should_continue: &|| true };
        let evaluator = Evaluator::compile(&entries(&specs), limits);
        let known = default.or(named);
        let default = known.unwrap_or(Action::Deny);
        let is_default_known = known.is_some();
        let rules = PolicyRules { specs, places, evaluator, default, is_default_known };
        Self::Policy(Box::new(rules))
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
                let place = rules.places.get(position);
                let number = place.map_or(position, |place| place.number);
                let id = place.and_then(|place| place.id).map(RuleId::get);
                About { number, id, spec: rules.specs.get(position) }
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

fn entries(specs: &[RuleSpec]) -> Vec<RuleRef<'_>> {
    let ids = (1..).filter_map(RuleId::new);
    specs.iter().zip(ids).map(|(spec, id)| RuleRef { id, spec }).collect()
}
