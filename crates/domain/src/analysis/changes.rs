//! What differs between a policy and a later state of it, and which rules that can matter to.

use super::extents::{Hull, Hulls};
use super::grounds::{Ground, Grounds, Proves};
use super::merged::merge;
use super::report::{Finding, RuleIndex};
use super::request::AnalysedPolicy;
use super::space::takes_part;
use super::until::is_hidden;
use crate::engine::naive;
use crate::rule::{Action, RuleSpec, RuleState};
use crate::time::Instant;

/// A rule that is in one of two states of a policy only, that differs between them, or that starts or
/// expires in the meantime.
struct Changed<'a> {
    /// Its place among the rules of both states.
    place: usize,
    spec: &'a RuleSpec,
    hull: Hull,
    /// The index of a rule that is gone; none if the rule is new.
    gone: Option<RuleIndex>,
    is_active: bool,
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
        former: (&AnalysedPolicy<'a>, Instant),
        later: (&AnalysedPolicy<'a>, Instant),
    ) -> Self {
        let ((before, then), (after, now)) = (former, later);
        let mut changes = Self {
            changed: Vec::new(),
            after: vec![None; before.rules.len()],
            before: vec![None; after.rules.len()],
            places: vec![0; before.rules.len()],
            has_times: false,
            later: now,
        };
        for (place, merged) in merge(before.rules, after.rules).into_iter().enumerate() {
            let left = merged.left.and_then(|it| before.spec(it));
            let right = merged.right.and_then(|it| after.spec(it));
            if let (Some(own), Some(at)) = (merged.left, merged.left.map(|_| place))
                && let Some(known) = changes.places.get_mut(own)
            {
                *known = at;
            }
            let times = [left.map(|it| (it, then)), right.map(|it| (it, now))];
            changes.has_times |= times.into_iter().flatten().any(|(spec, at)| {
                let is_timed = spec.starts_at.is_some() || spec.expires_at.is_some();
                is_timed && takes_part(spec, at)
            });
            if let (Some(own), Some(its), Some(left), Some(right)) =
                (merged.left, merged.right, left, right)
                && (std::ptr::eq(left, right) || left == right)
                && left.state(then) == right.state(now)
            {
                if let Some(known) = changes.after.get_mut(own) {
                    *known = Some(its);
                }
                if let Some(known) = changes.before.get_mut(its) {
                    *known = Some(own);
                }
                continue;
            }
            for (index, spec, at) in [(merged.left, left, then), (None, right, now)] {
                if let Some(spec) = spec.filter(|spec| takes_part(spec, at)) {
                    changes.changed.push(Changed {
                        place,
                        spec,
                        hull: Hull::of(spec),
                        gone: index,
                        is_active: spec.state(at) == RuleState::Active,
                    });
                }
            }
        }
        changes
    }

    /// The bounds of all rules that differ.
    pub(super) fn hulls(&self) -> Hulls {
        self.changed.iter().map(|it| it.hull).collect()
    }

    /// The rules that differ, as far as they take part.
    pub(super) fn specs(&self) -> impl Iterator<Item = &'a RuleSpec> {
        self.changed.iter().map(|it| it.spec)
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
        for new in self.changed.iter().filter(|it| it.gone.is_none() && it.is_active) {
            if new.place > end {
                continue;
            }
            let packet = match &packet {
                Some(packet) => packet,
                None => packet.insert(ground.spot.packet(self.later)?),
            };
            let has = naive::matches(new.spec, packet);
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
                        || new.spec.action == own.action
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
        former: &AnalysedPolicy<'_>,
        hulls: &[Hull],
        findings: &[Option<&Finding>],
    ) -> (Vec<RuleIndex>, Grounds) {
        let mut again = Vec::new();
        let mut kept = Grounds::none(self.before.len());
        for (index, (before, hull)) in self.before.iter().zip(hulls).enumerate() {
            let Some(before) = *before else {
                again.push(index);
                continue;
            };
            let finding = findings.get(before).copied().flatten();
            let ground = grounds.by_rule.get(before).and_then(Option::as_ref);
            let own = former.spec(before);
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

/// The action of a default that differs.
pub(super) fn has_other_default(a: &AnalysedPolicy<'_>, b: &AnalysedPolicy<'_>) -> bool {
    let of = |policy: &AnalysedPolicy<'_>| -> Action { policy.default_action };
    of(a) != of(b)
}
