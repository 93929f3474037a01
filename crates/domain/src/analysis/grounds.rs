//! What an analysis rests on, rule by rule: packets that prove what it says, so that a later analysis
//! need not search again what a change leaves as it was.

use super::context::Context;
use super::exposure::can_expose;
use super::extents::{Extent, Hull, is_nothing, nothing};
use super::intern::as_u32;
use super::points::Decides;
use super::reach::{Decided, Effectiveness};
use super::report::RuleIndex;
use super::request::{AnalysedPolicy, AnalysisOptions};
use super::space::takes_part;
use super::witness::made;
use crate::net::{Family, Protocol};
use crate::packet::{Packet, Payload};
use crate::rule::RuleSpec;
use crate::time::Instant;

/// What an analysis rests on. It belongs to one [`Analysis`](super::Analysis) of one policy.
#[derive(Debug, Clone, Default)]
pub struct Grounds {
    /// For each rule of the policy, in order.
    pub(super) by_rule: Vec<Option<Ground>>,
    /// The bounds of each rule, and what else matters if the rule is gone some day.
    pub(super) shapes: Vec<Shape>,
}

/// What matters of a rule that is gone.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    v4: Extent<u32>,
    v6: Option<Box<Extent<u128>>>,
    /// Whether it took part in the analysis.
    pub(super) takes_part: bool,
    /// Whether it had packets of an exposed service.
    pub(super) can_expose: bool,
    /// Whether it started or expired some time.
    pub(super) is_timed: bool,
}

impl Shape {
    fn of(spec: &RuleSpec, options: &AnalysisOptions) -> Self {
        let Hull { v4, v6 } = Hull::of(spec);
        Self {
            v4,
            v6: (!is_nothing(&v6)).then(|| Box::new(v6)),
            takes_part: takes_part(spec, options.at),
            can_expose: can_expose(spec, &options.services),
            is_timed: spec.starts_at.is_some() || spec.expires_at.is_some(),
        }
    }

    /// The bounds of the rule.
    pub(super) fn hull(&self) -> Hull {
        Hull { v4: self.v4, v6: self.v6.as_deref().copied().unwrap_or_else(|| nothing(1, 0)) }
    }
}

impl Grounds {
    /// Roughly how much memory it takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let wide = self.by_rule.iter().flatten().filter(|it| it.spot.wide.is_some()).count();
        let wide_shapes = self.shapes.iter().filter(|it| it.v6.is_some()).count();
        self.by_rule.capacity() * size_of::<Option<Ground>>()
            + self.shapes.capacity() * size_of::<Shape>()
            + wide * size_of::<[u128; 2]>()
            + wide_shapes * size_of::<Extent<u128>>()
    }

    /// The grounds of nothing yet.
    pub(super) fn none(policy: &AnalysedPolicy<'_>, options: &AnalysisOptions) -> Self {
        let shapes = policy.rules.iter().map(|rule| Shape::of(rule.spec, options)).collect();
        Self { by_rule: vec![None; policy.rules.len()], shapes }
    }

    /// Adds what was found out about a rule of a context.
    pub(super) fn add(&mut self, context: &Context<'_>, decided: &Decided) {
        let ground = Ground::of(context, decided);
        if let Some(own) = self.by_rule.get_mut(context.index(decided.slot)) {
            *own = ground;
        }
    }
}

/// Why a rule has no finding about its reach, or has one that is easily proven.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    /// A packet that the rule decides.
    pub(super) spot: Spot,
    pub(super) proves: Proves,
}

/// What the packet of a [`Ground`] proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proves {
    /// Without the rule, the packet would have another action: by this rule, or by the default.
    Needed(Option<u32>),
    /// The rule is redundant, since all later rules that meet it have its action, up to this one, which
    /// contains it.
    Redundant(u32),
    /// The rule restates the default, since all later rules that meet it have its action, and none of
    /// them has the packet.
    RestatesDefault,
}

/// A packet in few bytes, without its time.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    narrow: [u32; 2],
    /// The addresses of a packet of IPv6.
    wide: Option<Box<[u128; 2]>>,
    fields: [u16; 2],
    protocol: u8,
}

impl Spot {
    fn of(packet: &Packet) -> Option<Self> {
        let (narrow, wide) = match (packet.source(), packet.destination()) {
            (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
                ([source.to_bits(), destination.to_bits()], None)
            }
            (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
                ([0; 2], Some(Box::new([source.to_bits(), destination.to_bits()])))
            }
            _ => return None,
        };
        let fields = match packet.payload() {
            Payload::Ports { source, destination } => [source, destination],
            Payload::Icmp { icmp_type, icmp_code } => [icmp_type.into(), icmp_code.into()],
            Payload::Opaque => [0; 2],
        };
        Some(Self { narrow, wide, fields, protocol: packet.protocol().0 })
    }

    /// The packet, at a time.
    pub(super) fn packet(&self, at: Instant) -> Option<Packet> {
        let (family, [source, destination]) = match &self.wide {
            Some(wide) => (Family::V6, **wide),
            None => (Family::V4, self.narrow.map(u128::from)),
        };
        let [first, second] = self.fields.map(u32::from);
        made(family, source, destination, first, second, Protocol(self.protocol), at)
    }
}

impl Ground {
    fn of(context: &Context<'_>, decided: &Decided) -> Option<Self> {
        let sampled = &decided.sampled;
        let index = |slot| as_u32(context.index(slot));
        let (decides, proves) = match decided.effectiveness {
            Some(Ok(Effectiveness::Needed)) => {
                let decides = sampled.needed?;
                (decides, Proves::Needed(decides.next.map(index)))
            }
            Some(Ok(Effectiveness::Redundant { needs_default: true })) => {
                sampled.settled.filter(Option::is_none)?;
                (sampled.open?, Proves::RestatesDefault)
            }
            Some(Ok(Effectiveness::Redundant { needs_default: false })) => {
                (sampled.reached?, Proves::Redundant(index(sampled.settled??)))
            }
            Some(Err(_)) | None => return None,
        };
        let Decides { family, point, next: _ } = decides;
        let packet = super::witness::at_point(&context.space, family, &point, 0, context.at)?;
        Some(Self { spot: Spot::of(&packet)?, proves })
    }

    /// The rule that the proof names.
    pub(super) fn rule(&self) -> Option<RuleIndex> {
        match self.proves {
            Proves::Needed(rule) => rule.map(|it| it as RuleIndex),
            Proves::Redundant(rule) => Some(rule as RuleIndex),
            Proves::RestatesDefault => None,
        }
    }

    /// The same proof with another number of the rule that it names.
    pub(super) fn with_rule(self, rule: Option<RuleIndex>) -> Option<Self> {
        let proves = match self.proves {
            Proves::Needed(_) => Proves::Needed(rule.map(as_u32)),
            Proves::Redundant(_) => Proves::Redundant(as_u32(rule?)),
            Proves::RestatesDefault => Proves::RestatesDefault,
        };
        Some(Self { proves, ..self })
    }
}
