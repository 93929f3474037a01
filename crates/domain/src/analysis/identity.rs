//! The identity of findings: made of kinds and contents of rules, not of their places.

use std::collections::{HashMap, HashSet};
use std::fmt;

use sha2::{Digest, Sha256};

use super::report::{Evidence, Finding};
use super::request::AnalysedPolicy;
use crate::rule::fingerprint::Fingerprint;

/// The version of the encoding, its first byte.
const VERSION: u8 = 1;

/// Identifies a finding of a policy, or its proof: a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingId([u8; 16]);

impl FindingId {
    /// The id of a finding that is not identified yet.
    pub const UNSET: Self = Self([0; 16]);

    /// Reads the 32 hexadecimal digits, in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_canonical =
            text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let bits = u128::from_str_radix(text, 16).ok().filter(|_| is_canonical)?;
        Some(Self(bits.to_be_bytes()))
    }

    fn of(hash: Sha256) -> Self {
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(id)
    }
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Puts findings in order, the most serious first, then in order of evaluation, and sets their ids
/// and proofs.
///
/// An id is a hash of the kind, the content of the rule, and what tells findings of this kind about
/// one rule apart. Equal findings about equal rules are numbered. So an id stays the same if other
/// rules change or if rules move. An exposed service is no matter of one rule: its id is made of all
/// rules that expose it, so that another way in is another finding. A proof also has the contents of the rules that prove the finding.
pub fn identify(findings: &mut [Finding], policy: &AnalysedPolicy<'_>) {
    sort(findings);
    let mut hashes = Hashes { policy, fingerprints: HashMap::new() };
    // Numbers follow the order of evaluation, not of severity, which time alone can change.
    let mut order: Vec<&mut Finding> = findings.iter_mut().collect();
    order.sort_by_key(|finding| finding.rule);
    let mut counts: HashMap<FindingId, u64> = HashMap::new();
    for finding in order {
        let hash = hashes.of_equals(finding);
        let count = counts.entry(FindingId::of(hash.clone())).or_default();
        hashes.set(finding, &hash, *count);
        *count += 1;
    }
}

/// Like [`identify`], if all findings without an id are new, and the others were identified before. Much
/// faster if few are new.
pub(super) fn identify_new(findings: &mut [Finding], policy: &AnalysedPolicy<'_>) {
    sort(findings);
    if !identified_new(findings, policy) {
        identify(findings, policy);
    }
}

/// Returns false if a finding that was identified before may need another number.
fn identified_new(findings: &mut [Finding], policy: &AnalysedPolicy<'_>) -> bool {
    let mut hashes = Hashes { policy, fingerprints: HashMap::new() };
    let is_known = |it: &Finding| it.id != FindingId::UNSET;
    let known: HashSet<FindingId> =
        findings.iter().filter(|it| is_known(it)).map(|it| it.id).collect();
    for finding in findings.iter().filter(|it| is_known(it)) {
        // The one before it may be gone.
        if let Some(before) = finding.number.checked_sub(1) {
            let hash = hashes.of_equals(finding);
            if !known.contains(&numbered(&hash, before)) {
                return false;
            }
        }
    }
    let mut order: Vec<&mut Finding> = findings.iter_mut().filter(|it| !is_known(it)).collect();
    order.sort_by_key(|finding| finding.rule);
    let mut counts: HashMap<FindingId, u64> = HashMap::new();
    for finding in order {
        let hash = hashes.of_equals(finding);
        let count = counts.entry(FindingId::of(hash.clone())).or_default();
        if known.contains(&numbered(&hash, 0)) {
            return false;
        }
        hashes.set(finding, &hash, *count);
        *count += 1;
    }
    true
}

fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| (finding.severity, finding.rule, finding.kind));
}

/// The id of a finding with a number.
fn numbered(hash: &Sha256, number: u64) -> FindingId {
    let mut hash = hash.clone();
    hash.update(number.to_be_bytes());
    FindingId::of(hash)
}

/// Hashes findings.
struct Hashes<'a> {
    policy: &'a AnalysedPolicy<'a>,
    fingerprints: HashMap<usize, Fingerprint>,
}

impl Hashes<'_> {
    fn fingerprint(&mut self, index: usize) -> Fingerprint {
        *self.fingerprints.entry(index).or_insert_with(|| {
            self.policy.spec(index).map_or(Fingerprint([0; 32]), |spec| Fingerprint::of(spec))
        })
    }

    /// The fingerprints of the rules of a proof. Their order depends on places, their meaning does not.
    fn of_proof(&mut self, finding: &Finding) -> Vec<[u8; 32]> {
        let mut rules: Vec<[u8; 32]> =
            finding.because.iter().map(|cover| self.fingerprint(cover.rule).0).collect();
        rules.sort_unstable();
        rules
    }

    /// What a finding has in common with those of its kind about equal rules.
    fn of_equals(&mut self, finding: &Finding) -> Sha256 {
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        hash.update(finding.kind.as_str());
        hash.update([0]);
        if matches!(finding.evidence, Evidence::Service { .. }) {
            self.of_proof(finding).iter().for_each(|rule| hash.update(rule));
        } else {
            hash.update(self.fingerprint(finding.rule).0);
        }
        distinguish(&mut hash, &finding.evidence);
        hash
    }

    fn set(&mut self, finding: &mut Finding, hash: &Sha256, number: u64) {
        finding.number = number;
        finding.id = numbered(hash, number);
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        hash.update(finding.id.0);
        for rule in self.of_proof(finding) {
            hash.update(rule);
        }
        if let Some(conflict) = finding.conflicts_with {
            hash.update([1]);
            hash.update(self.fingerprint(conflict.rule).0);
        }
        finding.proof = FindingId::of(hash);
    }
}

/// Adds what tells two findings of one kind about one rule apart.
fn distinguish(hash: &mut Sha256, evidence: &Evidence) {
    match evidence {
        Evidence::None | Evidence::Pairs(_) | Evidence::Since(_) | Evidence::Expires(_) => {}
        Evidence::Warning(warning) => {
            hash.update(warning.code.as_str());
            hash.update([0]);
            hash.update(&warning.pointer);
        }
        Evidence::Service { service, family, destinations: _ } => {
            hash.update(service.name.as_bytes());
            hash.update([0]);
            hash.update([service.protocol.0]);
            hash.update(service.ports.first().to_be_bytes());
            hash.update(service.ports.last().to_be_bytes());
            hash.update(family.as_str());
        }
        Evidence::Permits {
            family,
            addresses: _,
            any_service: _,
            any_destination: _,
            is_any_service_everywhere: _,
        } => {
            hash.update(family.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{Cover, FindingKind, Severity};
    use super::super::request::AnalysedRule;
    use super::*;
    use crate::net::PortRange;
    use crate::rule::{Action, RuleParts, RuleSpec};
    use crate::testing::rules::everything;

    /// A rule that differs by its port.
    fn rule(port: u16) -> RuleSpec {
        let ports = vec![PortRange::single(port)];
        RuleSpec::new(RuleParts { ports, ..everything() }).unwrap()
    }

    /// Identifies a redundant rule at each of some places, because of the rule at another one.
    fn identified(ports: &[u16], findings: &[(usize, usize)]) -> Vec<Finding> {
        let specs: Vec<RuleSpec> = ports.iter().map(|port| rule(*port)).collect();
        let rules: Vec<AnalysedRule<'_>> = specs.iter().map(AnalysedRule::of).collect();
        let policy = AnalysedPolicy { rules: &rules, default_action: Action::Deny };
        let mut findings: Vec<Finding> = findings
            .iter()
            .map(|(rule, because)| Finding {
                because: vec![Cover { rule: *because, share: 1.0 }],
                ..Finding::new(FindingKind::Redundant, Severity::Warning, *rule)
            })
            .collect();
        identify(&mut findings, &policy);
        findings
    }

    #[test]
    fn an_id_depends_on_contents_and_not_on_places() {
        let before = identified(&[1, 2, 3], &[(1, 2)]);
        let after = identified(&[9, 3, 8, 2], &[(3, 1)]);
        assert_eq!((before[0].id, before[0].proof), (after[0].id, after[0].proof));
        let other_rule = identified(&[1, 4, 3], &[(1, 2)]);
        assert_ne!(before[0].id, other_rule[0].id);
        let other_proof = identified(&[1, 2, 4], &[(1, 2)]);
        assert_eq!(before[0].id, other_proof[0].id);
        assert_ne!(before[0].proof, other_proof[0].proof);
    }

    #[test]
    fn equal_findings_about_equal_rules_are_numbered_in_order() {
        let twice = identified(&[1, 1, 2], &[(0, 2), (1, 2)]);
        assert_ne!(twice[0].id, twice[1].id);
        let once = identified(&[1, 2], &[(0, 1)]);
        assert_eq!(twice[0].id, once[0].id);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = identified(&[1, 2], &[(0, 1)])[0].id;
        let text = id.to_string();
        assert_eq!(FindingId::parse(&text), Some(id));
        let short = text.split_at(1).1;
        let upper = text.to_uppercase().replace('0', "A");
        for bad in [short, &upper, "", &format!("+{short}")] {
            assert_eq!(FindingId::parse(bad), None, "{bad}");
        }
    }
}
