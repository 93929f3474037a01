//! What differs between a policy and a later state of it, and which rules that can matter to.

use super::again::Former;
use super::exposure::can_expose;
use super::extents::{Hull, Hulls};
use super::grounds::{Ground, Grounds, Proves, Shape};
use super::merged::longest_increasing;
use super::report::{Finding, RuleIndex};
use super::request::{AnalysedPolicy, AnalysisOptions};
use super::space::takes_part;
use super::until::is_hidden;
use crate::engine::naive;
use crate::rule::{RuleSpec, RuleState};
use crate::time::Instant;

/// A rule that is in one of two states of a policy only, that differs between them, or that starts or
/// expires in the meantime.
struct Changed<'a> {
    /// Its place among the rules of both states.
    place: usize,
    hull: Hull,
    can_expose: bool,
    /// The content of a new rule that is active.
    active: Option<&'a RuleSpec>,
}

/// What differs between a policy and a later state of it.
pub(super) struct Changes<'a> {
    changed: Vec<Changed<'a>>,
    /// For each rule of the former state, the index of the same rule in the later one.
    pub(super) after: Vec<Option<RuleIndex>>,
    /// For each rule of the later state, its index in the former one.
    pub(super) before: Vec<Option<RuleIndex>>,
    /// The places of the rules of the former state among the rules of both.
    places: Vec<usize>,
    /// Whether a rule of one of them starts or expires some time.
    pub(super) has_times: bool,
    later: Instant,
}

impl<'a> Changes<'a> {
    pub(super) fn between(
        former: &Former<'_>,
        policy: &AnalysedPolicy<'a>,
        options: &AnalysisOptions,
    ) -> Self {
        let shapes = &former.grounds.shapes;
        let mut changes = Self {
            changed: Vec::new(),
            after: vec![None; shapes.len()],
            before: vec![None; policy.rules.len()],
            places: vec![0; shapes.len()],
            has_times: false,
            later: options.at,
        };
        let same = former.same.iter().enumerate().take(shapes.len());
        let same: Vec<(RuleIndex, RuleIndex)> =
            same.filter_map(|(own, other)| Some((own, (*other)?))).collect();
        let (mut next, mut next_now, mut place) = (0, 0, 0);
        // Rules that were moved are changed rules.
        let mut pairs = longest_increasing(&same).into_iter();
        loop {
            let pair = pairs.next();
            let (to, to_now) = pair.unwrap_or((shapes.len(), policy.rules.len()));
            for index in next..to {
                changes.add_gone(index, place, shapes.get(index));
                place += 1;
            }
            for index in next_now..to_now {
                changes.add_new(place, policy.spec(index), options);
                place += 1;
            }
            let Some(pair) = pair else { break };
            changes.add_pair(pair, place, (former, policy), options);
            place += 1;
            (next, next_now) = (to + 1, to_now + 1);
        }
        changes
    }

    fn add_gone(&mut self, index: RuleIndex, place: usize, shape: Option<&Shape>) {
        self.set_place(index, place);
        let Some(shape) = shape.filter(|it| it.takes_part) else { return };
        self.has_times |= shape.is_timed;
        let (hull, can_expose) = (shape.hull(), shape.can_expose);
        self.changed.push(Changed { place, hull, can_expose, active: None });
    }

    fn add_new(&mut self, place: usize, spec: Option<&'a RuleSpec>, options: &AnalysisOptions) {
        let at = options.at;
        let Some(spec) = spec.filter(|it| takes_part(it, at)) else { return };
        self.has_times |= spec.starts_at.is_some() || spec.expires_at.is_some();
        let can_expose = can_expose(spec, &options.services);
        let active = Some(spec).filter(|it| it.state(at) == RuleState::Active);
        self.changed.push(Changed { place, hull: Hull::of(spec), can_expose, active });
    }

    fn add_pair(
        &mut self,
        (index, now): (RuleIndex, RuleIndex),
        place: usize,
        (former, policy): (&Former<'_>, &AnalysedPolicy<'a>),
        options: &AnalysisOptions,
    ) {
        let spec = policy.spec(now);
        let state = |at| spec.map(|it| it.state(at));
        if state(former.analysis.at) != state(options.at) {
            self.add_gone(index, place, former.grounds.shapes.get(index));
            self.add_new(place, spec, options);
            return;
        }
        self.set_place(index, place);
        if let Some(known) = self.after.get_mut(index) {
            *known = Some(now);
        }
        if let Some(known) = self.before.get_mut(now) {
            *known = Some(index);
        }
        self.has_times |= spec.is_some_and(|it| {
            (it.starts_at.is_some() || it.expires_at.is_some()) && takes_part(it, options.at)
        });
    }

    fn set_place(&mut self, index: RuleIndex, place: usize) {
        if let Some(known) = self.places.get_mut(index) {
            *known = place;
        }
    }

    /// The bounds of all rules that differ.
    pub(super) fn hulls(&self) -> Hulls {
        self.changed.iter().map(|it| it.hull).collect()
    }

    /// Whether a rule that differs can matter to what is exposed.
    pub(super) fn can_expose(&self) -> bool {
        self.changed.iter().any(|it| it.can_expose)
    }

    /// Whether what is known about a rule of the former state still holds, as its ground shows. Returns
    /// the ground as it is now.
    pub(super) fn still_holds(
        &self,
        rule: RuleIndex,
        own: &RuleSpec,
        ground: &Ground,
    ) -> Option<Ground> {
        let place = self.places.get(rule).copied()?;
        let named = ground.rule();
        if named.is_some_and(|it| self.after.get(it).copied().flatten().is_none()) {
            return None;
        }
        let end = named.and_then(|it| self.places.get(it).copied()).unwrap_or(usize::MAX);
        if ground.proves != Proves::Needed(named.map(super::intern::as_u32)) && self.has_times {
            return None;
        }
        let mut packet = None;
        let new = self.changed.iter().filter_map(|it| Some((it, it.active?)));
        for (new, spec) in new.filter(|it| it.0.place <= end) {
            let packet = match &packet {
                Some(packet) => packet,
                None => packet.insert(ground.spot.packet(self.later)?),
            };
            let has = naive::matches(spec, packet);
            let is_fine = match ground.proves {
                // Another rule of the other action in between would do as well; but then the rule that the
                // ground names is another one.
                Proves::Needed(_) => !has,
                Proves::Redundant(_) => {
                    if new.place < place {
                        !has
                    } else {
                        !new.hull.meets(&Hull::of(own))
                    }
                }
                Proves::RestatesDefault => {
                    !has && (new.place < place
                        || spec.action == own.action
                        || !new.hull.meets(&Hull::of(own)))
                }
            };
            if !is_fine {
                return None;
            }
        }
        let named = named.and_then(|it| self.after.get(it).copied().flatten());
        ground.clone().with_rule(named)
    }

    /// Whether a rule that differs can matter to a rule of the former state that has a finding, or of which
    /// nothing is known.
    pub(super) fn can_matter(
        &self,
        rule: RuleIndex,
        hull: &Hull,
        finding: Option<&Finding>,
    ) -> bool {
        let place = self.places.get(rule).copied().unwrap_or(0);
        // Later rules do not matter to a rule that no packet reaches.
        let is_hidden = !self.has_times && finding.is_some_and(|it| is_hidden(it.kind));
        let mut matter = self.changed.iter().filter(|it| !is_hidden || it.place <= place);
        matter.any(|it| it.hull.meets(hull))
    }

    /// Which rules of the later state are to be searched again, and the grounds of the others.
    pub(super) fn to_search(
        &self,
        grounds: &Grounds,
        policy: &AnalysedPolicy<'_>,
        hulls: &[Hull],
        findings: &[Option<&Finding>],
        options: &AnalysisOptions,
    ) -> (Vec<RuleIndex>, Grounds) {
        let mut again = Vec::new();
        let mut kept = Grounds::none(policy, options);
        for (index, (before, hull)) in self.before.iter().zip(hulls).enumerate() {
            let Some(before) = *before else {
                again.push(index);
                continue;
            };
            let finding = findings.get(before).copied().flatten();
            let ground = grounds.by_rule.get(before).and_then(Option::as_ref);
            let own = policy.spec(index);
            if let (Some(ground), Some(own)) = (ground, own)
                && let Some(now) = self.still_holds(before, own, ground)
            {
                if let Some(kept) = kept.by_rule.get_mut(index) {
                    *kept = Some(now);
                }
            } else if self.can_matter(before, hull, finding) {
                again.push(index);
            } else if let (Some(ground), Some(kept)) = (ground, kept.by_rule.get_mut(index)) {
                // The ground is of another time or names a rule that is gone; it only saves work.
                let named = ground.rule().map(|it| self.after.get(it).copied().flatten());
                *kept = match named {
                    None => Some(ground.clone()),
                    Some(None) => None,
                    Some(now) => ground.clone().with_rule(now),
                };
            }
        }
        (again, kept)
    }
}
