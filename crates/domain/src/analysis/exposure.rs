//! Services that anybody can reach: a search on the whole policy.
//!
//! A destination is exposed if most public addresses can reach it. Rules count together, each with the
//! packets that it decides, and so does the default action. First, [`sweep`] finds the destinations and
//! the rules that expose them. Then the packets of these rules are searched for, as far as they are
//! shown.

use std::collections::{BTreeMap, BTreeSet};

use super::bounds::{DESTINATION, FIRST_FIELD, SECOND_FIELD, SOURCE};
use super::breadth::public;
use super::budget::Meter;
use super::cell::{Cell, Product};
use super::collect::Piece;
use super::context::Context;
use super::explore::{Exploration, decided_by};
use super::findings::Outcome;
use super::let_in::{Exposure, LetIn, let_in, numbers};
use super::packets::PacketSet;
use super::ranges::{Range, difference, intersection, normalized};
use super::report::{Cover, Evidence, Finding, FindingKind, Obstacle, Severity, Task};
use super::request::{AnalysisOptions, ExposedService};
use super::space::Slot;
use super::spell::{cells, packet_set};
use super::sweep::{DEFAULT, Exposing, Question, Reached, sweep};
use super::walk::{Label, Last, NO_LABEL};
use super::ways_in::{self, count, ways_in};
use crate::net::{Family, Protocol};
use crate::rule::{Criteria, RuleSpec};
use crate::time::Instant;
use crate::worlds::{Kind, RuleProduct};

/// How many times as many pieces as are shown are searched for: they are of several services.
const SEARCHED_PIECES: usize = 10;
/// The most pieces whose sources are looked at together.
const PIECES: usize = 32;
/// How many times as many steps as a question, a search for the destinations of a service may take. It is
/// one question about all rules.
const SHARE_OF_STEPS: u64 = 100;

/// Adds the findings about services that most public addresses can reach.
pub(super) fn exposed(context: &Context<'_>, options: &AnalysisOptions, outcome: &mut Outcome) {
    let mut protocols: Vec<Protocol> = options.services.iter().map(|it| it.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    for family in Family::ALL {
        let public = public(context, family);
        let all = count(&public, &context.space.family(family).ranks);
        let anybody = at_least(all, options.thresholds.exposed_sources);
        for protocol in &protocols {
            let services: Vec<&ExposedService> =
                options.services.iter().filter(|it| it.protocol == *protocol).collect();
            let asked = PacketSet {
                family: Some(family),
                protocols: vec![*protocol],
                destination_ports: services.iter().map(|it| it.ports).collect(),
                ..PacketSet::everything()
            };
            // All services of a protocol are searched at once.
            let Some((_, kind, cell)) = cells(&context.space, &asked).into_iter().next() else {
                continue;
            };
            let cell = cell.with(SOURCE, public.clone());
            Search { family, kind, services, cell, public: &public, anybody }.add(context, outcome);
        }
    }
}

/// The smallest number of addresses that is at least a share of all. What may be missing is rounded, so
/// that all addresses are exactly all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
#[expect(clippy::cast_precision_loss, reason = "the rounding is below the precision of the share")]
fn at_least(all: u128, share: f64) -> u128 {
    let missing = (all as f64 * (1.0 - share)).floor() as u128;
    all.saturating_sub(missing).max(1)
}

/// Whether a rule has packets of a service, so that it can matter to what is exposed.
pub(super) fn can_expose(spec: &RuleSpec, services: &[ExposedService]) -> bool {
    let product = RuleProduct::new(Criteria::of(spec));
    let is_listed = |protocol: Protocol| {
        product.listed_protocols().is_none_or(|listed| listed.contains(&protocol))
    };
    services.iter().filter(|service| is_listed(service.protocol)).any(|service| {
        let kind = Kind::of(service.protocol);
        product.destinations().iter().any(|entry| {
            let fields = product.destination_fields(kind, entry);
            let (first, last) = (service.ports.first(), service.ports.last());
            fields.as_slice().iter().any(|field| field.0 <= last && first <= field.1)
        })
    })
}

/// What a rule exposes of some services that have the same ways in, by number.
struct OfRule<'a> {
    reached: &'a Reached,
    exposing: &'a Exposing,
    services: &'a [usize],
}

/// The sources that a rule lets in to some destinations.
struct Seen {
    /// Services with the same sources, as far as these are known.
    classes: Vec<(Vec<usize>, Vec<Range>)>,
}

impl Seen {
    fn new(services: Vec<usize>) -> Self {
        Self { classes: vec![(services, Vec::new())] }
    }

    /// Adds the sources of pieces. Returns whether some are new.
    fn add(&mut self, services: &[&ExposedService], pieces: &[Piece]) -> bool {
        let mut has_more = false;
        let mut classes: Vec<(Vec<usize>, Vec<Range>)> = Vec::new();
        for (members, sources) in std::mem::take(&mut self.classes) {
            // By the numbers of the pieces that they have.
            let mut divided: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
            for number in members {
                let of = |service: &&ExposedService| numbers(service, pieces);
                let key = services.get(number).map_or_else(Vec::new, of);
                divided.entry(key).or_default().push(number);
            }
            for (numbers, members) in divided {
                let own = numbers.iter().filter_map(|it| pieces.get(*it));
                let own = own.flat_map(|piece| piece.cell.set(SOURCE)).chain(&sources);
                let own = normalized(own.copied().collect());
                has_more |= own != sources;
                classes.push((members, own));
            }
        }
        self.classes = classes;
        has_more
    }

    /// The sources that are seen for all services.
    fn by_all(&self) -> Vec<Range> {
        let mut sets = self.classes.iter().map(|it| &it.1);
        let first = sets.next().cloned().unwrap_or_default();
        sets.fold(first, |all, own| intersection(&all, own))
    }
}

/// A search for services of one protocol in a family.
struct Search<'a> {
    family: Family,
    kind: Kind,
    services: Vec<&'a ExposedService>,
    /// All packets of the services from public addresses.
    cell: Cell,
    public: &'a [Range],
    /// From how many addresses on a service can be reached by anybody.
    anybody: u128,
}

/// The exposed destinations at an instant, each with the numbers of the services that they are of, and
/// why others are undecided.
struct Exposures {
    found: Vec<(Vec<usize>, Exposing)>,
    undecided: Option<Obstacle>,
}

impl Exposures {
    /// The rules that expose each service, in order.
    fn named(&self, services: usize) -> Vec<Vec<Slot>> {
        let mut named = vec![Vec::new(); services];
        for (services, exposing) in &self.found {
            for service in services {
                if let Some(own) = named.get_mut(*service) {
                    *own = exposing.rules.keys().copied().collect();
                }
            }
        }
        named
    }
}

impl Search<'_> {
    fn add(&self, context: &Context<'_>, outcome: &mut Outcome) {
        let mut steps = u64::MAX;
        let exposures = self.run(context, &mut steps);
        if let Some(obstacle) = exposures.undecided {
            outcome.undecided_whole(Task::Exposed, obstacle);
        }
        let ends = match self.ends(context, exposures.named(self.services.len())) {
            Ok(ends) => ends,
            Err(obstacle) => {
                outcome.undecided_whole(Task::Until, obstacle);
                Vec::new()
            }
        };
        let found = self.shown(context, &exposures, outcome);
        let until = ends.into_iter().chain(std::iter::repeat(None));
        for ((service, exposure), until) in self.services.iter().zip(found).zip(until) {
            match self.finding(context, service, exposure) {
                Some(Ok(finding)) => outcome.findings.push(Finding { until, ..finding }),
                Some(Err(DEFAULT)) => {
                    outcome.undecided_whole(Task::Witness, Obstacle::Defect);
                }
                Some(Err(slot)) => outcome.undecided(Task::Witness, Obstacle::Defect, slot),
                None => {}
            }
        }
    }

    /// The first instant ahead at which other rules expose each service than these do; none if there is
    /// no such instant.
    fn ends(
        &self,
        context: &Context<'_>,
        mut rules: Vec<Vec<Slot>>,
    ) -> Result<Vec<Option<Instant>>, Obstacle> {
        let space = &context.space;
        let mut ends = vec![None; rules.len()];
        if !space.has_times || rules.iter().all(Vec::is_empty) {
            return Ok(ends);
        }
        let bounds = self.cell.bounds();
        let slots = 0..super::intern::as_u32(space.rules.len());
        let near = slots.filter(|slot| {
            space.parts(*slot, self.family).iter().any(|part| part.bounds.meets(&bounds))
        });
        let lives = near.filter_map(|slot| space.rules.get(slot as usize)).map(|rule| rule.life);
        let boundaries: BTreeSet<Instant> = lives
            .flat_map(|life| [life.starts_at, life.expires_at])
            .flatten()
            .filter(|at| context.at < *at)
            .collect();
        let mut steps = context.limits().steps;
        for at in boundaries {
            let then = context.later(at);
            if rules.iter().all(Vec::is_empty) {
                break;
            }
            let exposures = self.run(&then, &mut steps);
            if let Some(obstacle) = exposures.undecided {
                return Err(obstacle);
            }
            let named = exposures.named(self.services.len());
            for ((rules, named), until) in rules.iter_mut().zip(named).zip(&mut ends) {
                if !rules.is_empty() && *rules != named {
                    rules.clear();
                    *until = Some(at);
                }
            }
        }
        Ok(ends)
    }

    /// Searches what is exposed. Takes steps from those that are left.
    fn run(&self, context: &Context<'_>, steps: &mut u64) -> Exposures {
        let mut exposures = Exposures { found: Vec::new(), undecided: None };
        let most = context.limits().steps.saturating_mul(SHARE_OF_STEPS);
        let mut making = context.budget.meter(most.min(*steps));
        let public = (self.public, self.anybody);
        let made = ways_in(context, self.family, &self.services, &self.cell, public, &mut making);
        *steps = steps.saturating_sub(making.steps);
        let all = match made {
            Ok(all) => all,
            Err(obstacle) => {
                exposures.undecided = Some(obstacle);
                return exposures;
            }
        };
        for ways in all {
            let mut meter = context.budget.meter(most.min(*steps));
            let question = Question {
                ways: &ways,
                anybody: self.anybody,
                default_permits: context.policy.default_action.permits(),
            };
            match sweep(context, &self.cell, &question, &mut meter) {
                Ok(exposing) => {
                    exposures.found.push((ways.services, exposing));
                }
                Err(obstacle) => exposures.undecided = Some(obstacle),
            }
            *steps = steps.saturating_sub(meter.steps);
        }
        exposures
    }

    /// What is to be shown of each service.
    fn shown(
        &self,
        context: &Context<'_>,
        exposures: &Exposures,
        outcome: &mut Outcome,
    ) -> Vec<Exposure> {
        let mut shown: Vec<Exposure> = self.services.iter().map(|_| Exposure::default()).collect();
        // A rule that exposes several services at the same destinations is searched once.
        let mut asked: BTreeMap<(Slot, &[Range]), Vec<OfRule<'_>>> = BTreeMap::new();
        for (services, exposing) in &exposures.found {
            for service in services {
                if let Some(exposure) = shown.get_mut(*service) {
                    exposure.destinations.clone_from(&exposing.destinations);
                }
            }
            for (rule, reached) in &exposing.rules {
                let same = asked.entry((*rule, &reached.destinations)).or_default();
                same.push(OfRule { reached, exposing, services });
            }
        }
        for ((rule, _), same) in asked {
            if let Err(obstacle) = self.show(context, rule, &same, &mut shown) {
                match rule {
                    DEFAULT => outcome.undecided_whole(Task::Exposed, obstacle),
                    rule => outcome.undecided(Task::Exposed, obstacle, rule),
                }
            }
        }
        shown
    }

    /// Adds what a rule lets in to destinations of some services.
    fn show(
        &self,
        context: &Context<'_>,
        rule: Slot,
        same: &[OfRule<'_>],
        shown: &mut [Exposure],
    ) -> Result<(), Obstacle> {
        let limits = context.limits();
        let Some(of_first) = same.first() else { return Ok(()) };
        let services: Vec<usize> = same.iter().flat_map(|it| it.services).copied().collect();
        let ports = services.iter().filter_map(|it| self.services.get(*it));
        let ports = normalized(ports.map(|it| ways_in::ports(it)).collect());
        let cell = self.cell.with(SECOND_FIELD, ports);
        let mut meter = context.budget.meter(limits.steps);
        let is_full = |number: &usize| {
            shown.get(*number).is_none_or(|own| {
                own.first.is_some() && own.has_more && own.shown.len() >= limits.packets
            })
        };
        let mut seen = Seen::new(services.clone());
        let mut is_whole = Ok(false);
        if !services.iter().all(is_full) {
            let cell = cell.with(DESTINATION, of_first.reached.destinations.clone());
            let mut pieces = Vec::new();
            let most = limits.packets.saturating_mul(SEARCHED_PIECES).saturating_add(1);
            is_whole = self.decided(context, rule, &cell, most, &mut meter, &mut pieces);
            for number in &services {
                let both = self.services.get(*number).zip(shown.get_mut(*number));
                if let Some((service, exposure)) = both {
                    let own = let_in(rule, service, &pieces);
                    exposure.add(own, is_whole == Ok(true), limits.packets);
                }
            }
            seen.add(&self.services, &pieces);
        }
        let walked = match is_whole {
            Ok(true) => Ok(()),
            Ok(false) => self.see(context, rule, same, &cell, &mut seen, &mut meter),
            Err(obstacle) => Err(obstacle),
        };
        let ranks = &context.space.family(self.family).ranks;
        for (services, sources) in seen.classes {
            let size = ranks.size(&sources);
            for number in services {
                if let Some(exposure) = shown.get_mut(number)
                    && size > 0.0
                {
                    exposure.rules.insert(rule, size);
                }
            }
        }
        walked
    }

    /// Finds all sources that a rule lets in to some destinations.
    fn see(
        &self,
        context: &Context<'_>,
        rule: Slot,
        same: &[OfRule<'_>],
        cell: &Cell,
        seen: &mut Seen,
        meter: &mut Meter<'_>,
    ) -> Result<(), Obstacle> {
        let Some(first) = same.first() else { return Ok(()) };
        let common = |of: &dyn Fn(&Exposing) -> Vec<Range>| {
            same.iter().fold(cell.set(FIRST_FIELD).to_vec(), |all, own| {
                intersection(&all, &of(own.exposing))
            })
        };
        let usual = common(&|it| it.usual_ports.clone());
        let is_usual = same.iter().all(|own| own.reached.takes_all_ports) && !usual.is_empty();
        let all = cell.set(FIRST_FIELD).to_vec();
        let (some, all) = if is_usual {
            // A rule that takes all ports decides what it decides at all with these.
            (usual.clone(), usual)
        } else {
            (common(&|it| it.other_ports.clone()), all)
        };
        let first = (vec![first.reached.first], first.reached.destinations.clone());
        // With few ports and at one destination, nearly all sources are found in few pieces.
        let mut steps = vec![(some, first.0), (all, first.1)];
        steps.dedup();
        for (ports, destinations) in steps {
            let cell = cell.with(FIRST_FIELD, ports).with(DESTINATION, destinations);
            loop {
                let left = cell.with(SOURCE, difference(self.public, &seen.by_all()));
                let mut pieces = Vec::new();
                let is_whole = left.is_empty()
                    || self.decided(context, rule, &left, PIECES, meter, &mut pieces)?;
                let has_more = seen.add(&self.services, &pieces);
                meter.steps +=
                    pieces.iter().map(|it| it.cell.set(SOURCE).len() as u64).sum::<u64>();
                meter.check()?;
                if is_whole {
                    break;
                }
                if !has_more {
                    // The pieces were all of some services, and hide those of others.
                    return self.see_apart(context, rule, same, seen, meter);
                }
            }
        }
        Ok(())
    }

    /// Finds all sources that a rule lets in, service by service.
    fn see_apart(
        &self,
        context: &Context<'_>,
        rule: Slot,
        same: &[OfRule<'_>],
        seen: &mut Seen,
        meter: &mut Meter<'_>,
    ) -> Result<(), Obstacle> {
        let before = std::mem::take(&mut seen.classes);
        for (services, sources) in before {
            for number in services {
                let own = same.iter().find(|it| it.services.contains(&number));
                let both = own.zip(self.services.get(number));
                let Some((own, service)) = both else { continue };
                let cell = self.cell.with(SECOND_FIELD, vec![ways_in::ports(service)]);
                let cell = cell.with(DESTINATION, own.reached.destinations.clone());
                let mut sources = sources.clone();
                loop {
                    let left = cell.with(SOURCE, difference(self.public, &sources));
                    let mut pieces = Vec::new();
                    let is_whole = left.is_empty()
                        || self.decided(context, rule, &left, PIECES, meter, &mut pieces)?;
                    let all = pieces.iter().flat_map(|piece| piece.cell.set(SOURCE));
                    sources.extend(all.copied());
                    sources = normalized(sources);
                    meter.steps += sources.len() as u64;
                    meter.check()?;
                    if is_whole {
                        break;
                    }
                }
                seen.classes.push((vec![number], sources));
            }
        }
        Ok(())
    }

    /// Adds packets of a cell that a rule decides, or the default, up to a number of pieces. Returns
    /// whether these are all.
    fn decided(
        &self,
        context: &Context<'_>,
        rule: Slot,
        cell: &Cell,
        most: usize,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Obstacle> {
        if rule == DEFAULT {
            return self.undecided_by_rules(context, cell, most, meter, pieces);
        }
        let space = &context.space;
        decided_by(context, rule, most, |exploration| {
            for part in space.parts(rule, self.family) {
                for product in Product::of_part(space, part, &cell.bounds()) {
                    let inside = cell.intersection(&space.sets, &product.sets);
                    if !inside.is_empty()
                        && !exploration.run(self.family, &inside, meter, pieces)?
                    {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        })
    }

    /// Adds the packets of a cell that no rule matches.
    fn undecided_by_rules(
        &self,
        context: &Context<'_>,
        cell: &Cell,
        most: usize,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Obstacle> {
        const DEFAULTS: Label = 1;
        let exploration = Exploration {
            space: &context.space,
            at: context.at,
            last: [Last { label: DEFAULTS, rule: None }, Last { label: NO_LABEL, rule: None }],
            of: &|_| None,
            is_done: &|_| true,
            done: &[],
            wants: &|label| label == DEFAULTS,
            names_rules: false,
            most,
        };
        exploration.run(self.family, cell, meter, pieces)
    }

    /// The finding; none if not everybody can reach the service, and an error with the rule if its
    /// witness is refuted.
    fn finding(
        &self,
        context: &Context<'_>,
        service: &ExposedService,
        exposure: Exposure,
    ) -> Option<Result<Finding, Slot>> {
        let LetIn { rule: first, cell } = exposure.first?;
        let space = &context.space;
        let index = |slot: Slot| match slot {
            DEFAULT => context.policy.rules.len(),
            slot => context.index(slot),
        };
        let matches = (first != DEFAULT).then_some(first);
        let decides = matches.map(index);
        let witness = super::witness::packet(space, self.family, &cell, context.at);
        if !witness.is_some_and(|packet| context.verifies(decides, matches, &packet)) {
            return Some(Err(first));
        }
        let ranks = &space.family(self.family).ranks;
        let public = ranks.size(self.public);
        let because = exposure
            .rules
            .into_iter()
            .map(|(slot, sources)| Cover { rule: index(slot), share: (sources / public).min(1.0) });
        let sets = exposure.shown.iter();
        Some(Ok(Finding {
            because: because.collect(),
            witness,
            packets: sets.map(|it| packet_set(space, self.family, self.kind, &it.cell)).collect(),
            is_packets_complete: !exposure.has_more,
            evidence: Evidence::Service {
                service: service.clone(),
                family: self.family,
                destinations: ranks.size(&exposure.destinations),
            },
            ..Finding::new(FindingKind::Exposed, Severity::Error, index(first))
        }))
    }
}
