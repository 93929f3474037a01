//! Services that anybody can reach: a search on the whole policy.
//!
//! A destination is exposed if most public addresses can reach it. Rules count together, each with the
//! packets that it decides, and so does the default action. Rules whose sources are most of the public
//! addresses are walked through first. Those with smaller sources matter only at destinations where
//! all of them together could be enough, so the rules for partners of a usual policy are never walked
//! through.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bounds::{DESTINATION, SECOND_FIELD, SOURCE};
use super::breadth::public;
use super::budget::Meter;
use super::cell::{Cell, Product};
use super::collect::Piece;
use super::context::Context;
use super::explore::{Exploration, decided_by};
use super::findings::Outcome;
use super::let_in::{Exposure, LetIn, are_alike, let_in};
use super::packets::PacketSet;
use super::ranges::{Range, difference, intersection, meets, normalized, union};
use super::ranks::Ranks;
use super::report::{Cover, Evidence, Finding, FindingKind, Obstacle, Severity, Task};
use super::request::{AnalysisOptions, ExposedService};
use super::space::{Part, Slot};
use super::spell::{cells, packet_set};
use super::walk::{Label, Last, NO_LABEL, OnSides};
use crate::net::{Family, Protocol};
use crate::rule::{Criteria, RuleSpec};
use crate::time::Instant;
use crate::worlds::{Kind, RuleProduct};

/// The default action among the rules that let packets in: it comes after all of them.
const DEFAULT: Slot = Slot::MAX;
/// How many times as many pieces as an answer may have parts are kept.
const KEPT_PIECES: usize = 20;
/// Sums of sizes are floats.
const NEARLY: f64 = 1.0 - 1e-9;

/// Adds the findings about services that most public addresses can reach.
pub(super) fn exposed(context: &Context<'_>, options: &AnalysisOptions, outcome: &mut Outcome) {
    let mut protocols: Vec<Protocol> = options.services.iter().map(|it| it.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    for family in Family::ALL {
        let public = public(context, family);
        let anybody = context.space.family(family).ranks.size(&public)
            * options.thresholds.exposed_sources
            * NEARLY;
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

/// Packets from few addresses each, the destinations in question, and those that enough can reach by each.
type Answered = (Vec<LetIn>, Vec<Range>, Vec<Vec<Range>>);

/// A search for services of one protocol in a family.
struct Search<'a> {
    family: Family,
    kind: Kind,
    services: Vec<&'a ExposedService>,
    /// All packets of the services from public addresses.
    cell: Cell,
    public: &'a [Range],
    /// From how many addresses on a service can be reached by anybody.
    anybody: f64,
}

/// The exposed destinations at an instant, for each service, and the rules for which they are undecided.
struct Exposures {
    services: Vec<Exposure>,
    undecided: Vec<(Obstacle, Option<Slot>)>,
}

impl Search<'_> {
    fn add(&self, context: &Context<'_>, outcome: &mut Outcome) {
        let mut steps = u64::MAX;
        let found = self.run(context, &mut steps);
        for (obstacle, slot) in found.undecided {
            match slot {
                Some(slot) => outcome.undecided(Task::Exposed, obstacle, slot),
                None => outcome.undecided_whole(Task::Exposed, obstacle),
            }
        }
        let rules = found.services.iter().map(Exposure::named).collect();
        let ends = match self.ends(context, rules) {
            Ok(ends) => ends,
            Err(obstacle) => {
                outcome.undecided_whole(Task::Until, obstacle);
                Vec::new()
            }
        };
        let until = ends.into_iter().chain(std::iter::repeat(None));
        for ((service, exposure), until) in self.services.iter().zip(found.services).zip(until) {
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
            let found = self.run(&then, &mut steps);
            if let Some((obstacle, _)) = found.undecided.first() {
                return Err(*obstacle);
            }
            for ((rules, exposure), until) in rules.iter_mut().zip(&found.services).zip(&mut ends) {
                if !rules.is_empty() && *rules != exposure.named() {
                    rules.clear();
                    *until = Some(at);
                }
            }
        }
        Ok(ends)
    }

    /// Searches what is exposed. Takes steps from those that are left.
    fn run(&self, context: &Context<'_>, steps: &mut u64) -> Exposures {
        let services = self.services.iter().map(|_| Exposure::default()).collect();
        let mut found = Exposures { services, undecided: Vec::new() };
        let mut wide: Vec<Slot> = Vec::new();
        let mut narrow: Vec<(Slot, &Part, f64)> = Vec::new();
        for slot in context.active().filter(|slot| context.action(Some(*slot)).permits()) {
            let parts = context.space.parts(slot, self.family).iter();
            let sized: Vec<(&Part, f64)> = parts
                .map(|part| (part, self.sources(context, part)))
                .filter(|(_, size)| *size > 0.0)
                .collect();
            if sized.iter().any(|(_, size)| *size >= self.anybody) {
                wide.push(slot);
            } else {
                narrow.extend(sized.into_iter().map(|(part, size)| (slot, part, size)));
            }
        }
        if context.policy.default_action.permits() {
            wide.push(DEFAULT);
        }
        for rule in wide {
            self.walk(context, rule, &self.cell, steps, &mut found, true);
        }
        let open = self.candidates(context, &narrow, &found.services);
        if open.is_empty() {
            return found;
        }
        let cell = self.cell.with(DESTINATION, open.clone());
        let mut slots: Vec<Slot> = narrow.iter().map(|it| it.0).collect();
        slots.dedup();
        let bounds = cell.bounds();
        for slot in slots {
            let mut parts = context.space.parts(slot, self.family).iter();
            if parts.any(|part| part.bounds.meets(&bounds)) {
                self.walk(context, slot, &cell, steps, &mut found, false);
            }
        }
        let ranks = &context.space.family(self.family).ranks;
        let most = context.limits().packets;
        // Most rules let in several services alike, so most services have the answer of another one.
        let mut former: Vec<Answered> = Vec::new();
        for exposure in &mut found.services {
            let few = std::mem::take(&mut exposure.few);
            let left = difference(&open, &exposure.destinations);
            let known =
                former.iter().find(|(its, within, _)| *within == left && are_alike(its, &few));
            if let Some((_, _, shares)) = known {
                exposure.add(few, shares.clone(), most);
                continue;
            }
            let mut meter = context.budget.meter(context.limits().steps.min(*steps));
            match together(&few, &left, self.anybody, ranks, &mut meter) {
                Ok(shares) => {
                    exposure.add(few.clone(), shares.clone(), most);
                    former.push((few, left, shares));
                }
                Err(obstacle) => found.undecided.push((obstacle, None)),
            }
            *steps = steps.saturating_sub(meter.steps);
        }
        found
    }

    /// How many public addresses can reach services by a part, as far as its own entries say.
    fn sources(&self, context: &Context<'_>, part: &Part) -> f64 {
        let space = &context.space;
        if !part.bounds.meets(&self.cell.bounds()) {
            return 0.0;
        }
        let ports = self.cell.set(SECOND_FIELD);
        let mut destinations = space.sides.groups(part.destination).iter();
        if !destinations.any(|it| meets(space.sets.get(it.field), ports)) {
            return 0.0;
        }
        let ranks = &space.family(self.family).ranks;
        let sources = space.sides.groups(part.source).iter();
        let sources =
            sources.map(|it| ranks.size(&intersection(space.sets.get(it.addresses), self.public)));
        sources.sum()
    }

    /// Adds what a rule, or the default, lets in to destinations. If it can let anybody in alone, these
    /// destinations are settled.
    fn walk(
        &self,
        context: &Context<'_>,
        rule: Slot,
        cell: &Cell,
        steps: &mut u64,
        found: &mut Exposures,
        can_alone: bool,
    ) {
        let mut meter = context.budget.meter(context.limits().steps.min(*steps));
        let mut pieces = Vec::new();
        let mut walked = match rule {
            DEFAULT => self.undecided_by_rules(context, cell, &mut meter, &mut pieces),
            rule => self.decided_by_rule(context, rule, cell, &mut meter, &mut pieces),
        };
        let ranks = &context.space.family(self.family).ranks;
        let limits = context.limits();
        for (service, exposure) in self.services.iter().zip(&mut found.services) {
            let own: Vec<LetIn> = let_in(rule, service, &pieces);
            if !can_alone {
                exposure.few.extend(own);
            } else if let Err(obstacle) =
                exposure.add_alone(own, self.anybody, ranks, limits.packets, &mut meter)
            {
                walked = walked.and(Err(obstacle));
            }
            if exposure.few.len() > limits.parts.saturating_mul(KEPT_PIECES) {
                exposure.few.clear();
                walked = walked.and(Err(Obstacle::Steps));
            }
        }
        *steps = steps.saturating_sub(meter.steps);
        if let Err(obstacle) = walked {
            found.undecided.push((obstacle, (rule != DEFAULT).then_some(rule)));
        }
    }

    /// Adds the packets of a cell that a rule decides.
    fn decided_by_rule(
        &self,
        context: &Context<'_>,
        rule: Slot,
        cell: &Cell,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Obstacle> {
        let space = &context.space;
        decided_by(context, rule, context.limits().parts, |exploration| {
            for part in space.parts(rule, self.family) {
                for product in Product::of_part(space, part, &cell.bounds()) {
                    let inside = cell.intersection(&space.sets, &product.sets);
                    if !inside.is_empty()
                        && !exploration.run(self.family, &inside, meter, pieces)?
                    {
                        return Err(Obstacle::Steps);
                    }
                }
            }
            Ok(())
        })
    }

    /// Adds the packets of a cell that no rule matches.
    fn undecided_by_rules(
        &self,
        context: &Context<'_>,
        cell: &Cell,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Obstacle> {
        const DEFAULTS: Label = 1;
        let exploration = Exploration {
            space: &context.space,
            at: context.at,
            last: [Last { label: DEFAULTS, rule: None }, Last { label: NO_LABEL, rule: None }],
            of: &|_| Some((OnSides::LEFT, 0)),
            is_done: &|_| false,
            done: &[],
            wants: &|label| label == DEFAULTS,
            names_rules: false,
            most: context.limits().parts.saturating_mul(KEPT_PIECES),
        };
        if exploration.run(self.family, cell, meter, pieces)? {
            Ok(())
        } else {
            Err(Obstacle::Steps)
        }
    }

    /// The destinations at which rules with few sources, and what is left of the others, could together
    /// be enough. Packets that other rules decide are not taken off, so these can be too many.
    fn candidates(
        &self,
        context: &Context<'_>,
        narrow: &[(Slot, &Part, f64)],
        services: &[Exposure],
    ) -> Vec<Range> {
        let space = &context.space;
        let ranks = &space.family(self.family).ranks;
        // Equal sources count once. A source has a number, and so has each piece after all of these.
        let mut sources: HashMap<u32, usize> = HashMap::new();
        let mut sizes: Vec<f64> = Vec::new();
        let mut ends: Vec<(u32, bool, usize)> = Vec::new();
        for (_, part, size) in narrow {
            let number = *sources.entry(part.source).or_insert_with(|| {
                sizes.push(*size);
                sizes.len() - 1
            });
            for group in space.sides.groups(part.destination) {
                if meets(space.sets.get(group.field), self.cell.set(SECOND_FIELD)) {
                    let ranges = space.sets.get(group.addresses).iter();
                    ends.extend(
                        ranges.flat_map(|it| [(it.0, true, number), (it.1, false, number)]),
                    );
                }
            }
        }
        for few in services.iter().flat_map(|exposure| &exposure.few) {
            let number = sizes.len();
            sizes.push(ranks.size(few.cell.set(SOURCE)));
            let ranges = few.cell.set(DESTINATION).iter();
            ends.extend(ranges.flat_map(|it| [(it.0, true, number), (it.1, false, number)]));
        }
        if sizes.iter().sum::<f64>() < self.anybody {
            return Vec::new();
        }
        ends.sort_unstable();
        let mut counts = vec![0_usize; sizes.len()];
        let (mut sum, mut from) = (0.0, 0);
        let mut open: Vec<Range> = Vec::new();
        for (at, begins, number) in ends {
            if from < at && sum >= self.anybody {
                open.push((from, at));
            }
            from = at;
            let (Some(count), Some(size)) = (counts.get_mut(number), sizes.get(number)) else {
                continue;
            };
            if begins {
                *count += 1;
                sum += if *count == 1 { *size } else { 0.0 };
            } else {
                *count = count.saturating_sub(1);
                sum -= if *count == 0 { *size } else { 0.0 };
            }
        }
        let open = normalized(open);
        // A destination that is settled for all services is not open.
        let mut left: Vec<Range> = Vec::new();
        for exposure in services {
            left.extend(difference(&open, &exposure.destinations));
        }
        normalized(left)
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
        let because = exposure.rules.into_iter().map(|(slot, sources)| {
            let share = (ranks.size(&sources) / public).min(1.0);
            Cover { rule: index(slot), share }
        });
        let sets = exposure.shown.iter();
        Some(Ok(Finding {
            because: because.collect(),
            witness,
            packets: sets.map(|it| packet_set(space, self.family, self.kind, &it.cell)).collect(),
            is_packets_complete: exposure.count <= context.limits().packets,
            evidence: Evidence::Service {
                service: service.clone(),
                family: self.family,
                destinations: ranks.size(&exposure.destinations),
            },
            ..Finding::new(FindingKind::Exposed, Severity::Error, index(first))
        }))
    }
}

/// The destinations among some that enough addresses can reach by all packets together, for each of
/// the packets that is needed for that: those of the rules that let in most come first.
pub(super) fn together(
    all: &[LetIn],
    within: &[Range],
    anybody: f64,
    ranks: &Ranks,
    meter: &mut Meter<'_>,
) -> Result<Vec<Vec<Range>>, Obstacle> {
    let mut needed: Vec<Vec<Range>> = vec![Vec::new(); all.len()];
    let mut ends: Vec<(u32, bool, usize)> = Vec::new();
    for (number, it) in all.iter().enumerate() {
        let ranges = intersection(it.cell.set(DESTINATION), within);
        ends.extend(ranges.iter().flat_map(|it| [(it.0, true, number), (it.1, false, number)]));
        meter.steps += 1 + ranges.len() as u64;
        meter.check()?;
    }
    ends.sort_unstable();
    let mut here = Here::default();
    // More than this many addresses must come before what is here can be enough.
    let mut lacking = 0.0;
    let mut from = 0;
    for (at, begins, number) in ends {
        let Some(it) = all.get(number) else { continue };
        if from < at && lacking <= 0.0 && here.sum() >= anybody {
            match here.enough(all, anybody, ranks, meter)? {
                Ok(numbers) => {
                    for number in numbers {
                        if let Some(ranges) = needed.get_mut(number) {
                            ranges.push((from, at));
                        }
                    }
                }
                Err(addresses) => lacking = (anybody - addresses) * NEARLY,
            }
        }
        from = at;
        let size = ranks.size(it.cell.set(SOURCE));
        if begins {
            here.add(number, it.rule, size);
            lacking -= size;
        } else {
            here.remove(number, it.rule, size);
        }
    }
    Ok(needed.into_iter().map(normalized).collect())
}

/// The packets to one destination, by the rules that let them in.
#[derive(Default)]
struct Here(BTreeMap<Slot, OfRule>);

/// The packets that one rule lets in.
#[derive(Default)]
struct OfRule {
    numbers: BTreeSet<usize>,
    /// The sum of the sizes of their sources, which can overlap.
    sum: f64,
    /// Their sources and how many these are, until the packets change.
    sources: Option<(Vec<Range>, f64)>,
}

impl Here {
    /// At least as many as there are sources.
    fn sum(&self) -> f64 {
        self.0.values().map(|it| it.sum).sum()
    }

    fn add(&mut self, number: usize, rule: Slot, size: f64) {
        let own = self.0.entry(rule).or_default();
        own.numbers.insert(number);
        own.sum += size;
        own.sources = None;
    }

    fn remove(&mut self, number: usize, rule: Slot, size: f64) {
        if let Some(own) = self.0.get_mut(&rule) {
            own.numbers.remove(&number);
            own.sum -= size;
            own.sources = None;
            if own.numbers.is_empty() {
                self.0.remove(&rule);
            }
        }
    }

    /// The packets whose rules let in most, if that is enough addresses; else how many addresses all of
    /// them let in.
    fn enough(
        &mut self,
        all: &[LetIn],
        anybody: f64,
        ranks: &Ranks,
        meter: &mut Meter<'_>,
    ) -> Result<Result<Vec<usize>, f64>, Obstacle> {
        let mut sized: Vec<(f64, &[Range], &BTreeSet<usize>)> = Vec::with_capacity(self.0.len());
        for own in self.0.values_mut() {
            meter.steps += 1;
            if own.sources.is_none() {
                let cells = own.numbers.iter().filter_map(|number| all.get(*number));
                let mut sources: Vec<Range> = Vec::new();
                cells.for_each(|it| sources.extend_from_slice(it.cell.set(SOURCE)));
                meter.steps += sources.len() as u64;
                meter.check()?;
                let sources = normalized(sources);
                let size = ranks.size(&sources);
                own.sources = Some((sources, size));
            }
            if let Some((sources, size)) = &own.sources {
                sized.push((*size, sources, &own.numbers));
            }
        }
        // Rules of the same size stay in order.
        sized.sort_by(|a, b| b.0.total_cmp(&a.0));
        let of_all: usize = sized.iter().map(|it| it.1.len()).sum();
        if sized.first().is_none_or(|first| first.0 < anybody) {
            meter.steps += of_all as u64;
            meter.check()?;
            let mut all: Vec<Range> = Vec::with_capacity(of_all);
            sized.iter().for_each(|it| all.extend_from_slice(it.1));
            let addresses = ranks.size(&normalized(all));
            if addresses < anybody {
                return Ok(Err(addresses));
            }
        }
        let mut sources: Vec<Range> = Vec::new();
        let mut needed = Vec::new();
        for (_, its, numbers) in sized {
            needed.extend(numbers.iter().copied());
            sources = union(&sources, its);
            meter.steps += sources.len() as u64;
            meter.check()?;
            if ranks.size(&sources) >= anybody {
                break;
            }
        }
        Ok(Ok(needed))
    }
}
