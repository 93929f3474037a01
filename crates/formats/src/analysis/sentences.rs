//! Findings as sentences that a person can act on.

use fireflow_domain::analysis::{
    Conflict, Effect, Evidence, ExposedService, Finding, FindingKind, Fix, RuleIndex,
};
use fireflow_domain::net::Family;

use super::packets::packet_in_words;
use super::{Subject, counted, listed};

/// How many rules a sentence names.
const NAMED: usize = 3;

/// A kind of finding, in words.
#[derive(Debug, Clone, Copy)]
pub struct KindText {
    /// The kind.
    pub kind: FindingKind,
    /// A short title.
    pub title: &'static str,
    /// When a rule has such a finding, in one sentence.
    pub meaning: &'static str,
}

/// Every kind, in the order of [`FindingKind::ALL`].
pub const KINDS: [KindText; FindingKind::ALL.len()] = [
    kind(
        FindingKind::Contradiction,
        "Contradicts an earlier rule",
        "An earlier rule matches the same packets and has another action.",
    ),
    kind(
        FindingKind::Duplicate,
        "Repeats an earlier rule",
        "An earlier rule matches the same packets and has the same action.",
    ),
    kind(
        FindingKind::Unreachable,
        "Unreachable rule",
        "Earlier rules decide every packet that the rule matches.",
    ),
    kind(
        FindingKind::Redundant,
        "Redundant rule",
        "The rule decides packets, but each has the same verdict without it.",
    ),
    kind(
        FindingKind::RestatesDefault,
        "Restates the default action",
        "The rule does to its packets what the default action does.",
    ),
    kind(
        FindingKind::NeverMatches,
        "Matches no packet",
        "No packet that a network can carry has the fields that the rule requires.",
    ),
    kind(FindingKind::Expired, "Expired rule", "The rule has expired, so it no longer matches."),
    kind(FindingKind::ExpiresSoon, "Expires soon", "The rule expires within the next 30 days."),
    kind(
        FindingKind::DisabledLong,
        "Disabled for a long time",
        "The rule is disabled and has not changed for 180 days.",
    ),
    kind(FindingKind::NoReference, "No reference", "The rule names no ticket or change."),
    kind(
        FindingKind::Ineffective,
        "Part without effect",
        "A part of the rule can match no packet of the rule.",
    ),
    kind(
        FindingKind::Permissive,
        "Permissive rule",
        "The rule allows any service, any destination, or a large share of all addresses.",
    ),
    kind(
        FindingKind::Exposed,
        "Exposed service",
        "Most public addresses can reach a service for administration or with clear text.",
    ),
    kind(
        FindingKind::Correlated,
        "Depends on the order",
        "The rule and an earlier rule of another action overlap, and neither contains the other.",
    ),
    kind(
        FindingKind::Generalises,
        "Has exceptions",
        "The rule contains an earlier rule of another action, which is an exception to it.",
    ),
    kind(
        FindingKind::Mergeable,
        "Can be merged",
        "The rule and the previous one can be written as one rule.",
    ),
];

const fn kind(kind: FindingKind, title: &'static str, meaning: &'static str) -> KindText {
    KindText { kind, title, meaning }
}

/// A finding in one or a few sentences: what is wrong, why, and what to do. Rules are named by their
/// position in the order of evaluation, from 1.
#[must_use]
pub fn detail(finding: &Finding, subject: &Subject<'_>) -> String {
    let rule = subject.named(finding.rule);
    let action = subject.action(finding.rule);
    let because: Vec<RuleIndex> = finding.because.iter().map(|cover| cover.rule).collect();
    let mut text = match finding.kind {
        FindingKind::Contradiction => contradiction(finding, subject),
        FindingKind::Duplicate => {
            let earlier = rules(subject, &because);
            format!(
                "Rule {rule} ({action}) repeats rule {earlier}: the same packets and the same \
                 action.{}",
                deletion(finding)
            )
        }
        FindingKind::Unreachable => unreachable(finding, subject),
        FindingKind::Redundant => redundant(finding, subject),
        FindingKind::RestatesDefault => format!(
            "Rule {rule} ({action}) does to its packets what the default action does, so no verdict \
             changes without it."
        ),
        FindingKind::NeverMatches => format!(
            "Rule {rule} ({action}) matches no packet: none that a network can carry has the fields \
             that it requires. Correct or delete it."
        ),
        FindingKind::Expired => match finding.evidence {
            Evidence::Since(since) => format!(
                "Rule {rule} ({action}) expired at {since} and no longer matches. Change its \
                 `expires_at`, or delete it."
            ),
            _ => format!("Rule {rule} ({action}) has expired and no longer matches."),
        },
        FindingKind::ExpiresSoon => match finding.evidence {
            Evidence::Expires(at) => format!(
                "Rule {rule} ({action}) expires at {at}. Change its `expires_at` if it is needed \
                 longer."
            ),
            _ => format!("Rule {rule} ({action}) expires soon."),
        },
        FindingKind::DisabledLong => match finding.evidence {
            Evidence::Since(since) => format!(
                "Rule {rule} ({action}) is disabled and was last changed at {since}. Enable or \
                 delete it."
            ),
            _ => format!("Rule {rule} ({action}) has been disabled for a long time."),
        },
        FindingKind::NoReference => format!(
            "Rule {rule} ({action}) has no `reference`. Name the ticket or change that it belongs \
             to."
        ),
        FindingKind::Ineffective => match &finding.evidence {
            Evidence::Warning(warning) => format!(
                "A part of rule {rule} ({action}) has no effect, `{}`: {}.",
                warning.pointer,
                warning.detail.trim_end_matches('.'),
            ),
            _ => format!("A part of rule {rule} ({action}) has no effect."),
        },
        FindingKind::Permissive => permissive(finding, subject),
        FindingKind::Exposed => exposed(finding, subject),
        FindingKind::Correlated => format!(
            "Rule {rule} ({action}) overlaps {}. Neither contains the other, so their order decides \
             the packets that both match.",
            others(finding, subject)
        ),
        FindingKind::Generalises => format!(
            "Rule {rule} ({action}) contains {}. This is usual for an exception that precedes a \
             general rule.",
            others(finding, subject)
        ),
        FindingKind::Mergeable => format!(
            "Rules {} and {rule} ({action}) can be written as one rule. No verdict changes.",
            rules(subject, &because)
        ),
    };
    if let Some(until) = finding.until {
        text.push_str(&format!(" This holds until {until}, when a rule starts or expires."));
    }
    text
}

/// The advice to delete a rule, unless it may be needed later.
const fn deletion(finding: &Finding) -> &'static str {
    if finding.until.is_none() { " Delete it; no verdict changes." } else { "" }
}

fn contradiction(finding: &Finding, subject: &Subject<'_>) -> String {
    let rule = subject.named(finding.rule);
    let Some(Conflict { rule: earlier, .. }) = finding.conflicts_with else {
        return format!("Rule {rule} contradicts an earlier rule for the same packets.");
    };
    format!(
        "Rule {rule} ({}) never decides a packet: rule {} ({}) comes first and matches the same \
         packets. Decide which action is right, and delete the other rule.",
        subject.action(finding.rule),
        subject.named(earlier),
        subject.action(earlier)
    )
}

fn unreachable(finding: &Finding, subject: &Subject<'_>) -> String {
    let rule = subject.named(finding.rule);
    let action = subject.action(finding.rule);
    let because: Vec<RuleIndex> = finding.because.iter().map(|cover| cover.rule).collect();
    let (noun, verb) = if because.len() == 1 { ("rule", "matches") } else { ("rules", "match") };
    let mut text = format!(
        "No packet reaches rule {rule} ({action}): earlier {noun} {} {verb} all its packets.",
        rules(subject, &because)
    );
    let Some(conflict) = finding.conflicts_with else {
        text.push_str(deletion(finding));
        return text;
    };
    let earlier = subject.named(conflict.rule);
    let other = subject.action(conflict.rule);
    let does = match finding.effect {
        Some(Effect::Opens) => "lets through packets that it would stop",
        Some(Effect::Closes) => "stops packets that it would let through",
        None => "decides packets that it would treat otherwise",
    };
    text.push_str(&format!(" Rule {earlier} ({other}) {does}"));
    if let Some(witness) = &finding.witness {
        text.push_str(&format!(", such as {}", packet_in_words(witness)));
    }
    text.push_str(&match &finding.fix {
        Some(Fix::Move { rule: _, before }) => {
            format!(". Move rule {rule} before rule {}, or delete it.", subject.named(*before))
        }
        _ => format!(
            ". If it should decide these packets, move it before rule {earlier}; otherwise delete \
             it, which changes no verdict."
        ),
    });
    text
}

fn redundant(finding: &Finding, subject: &Subject<'_>) -> String {
    let rule = subject.named(finding.rule);
    let action = subject.action(finding.rule);
    let because: Vec<RuleIndex> = finding.because.iter().map(|cover| cover.rule).collect();
    let who = match because.len() {
        0 => "later rules decide".to_owned(),
        1 => format!("rule {} decides", rules(subject, &because)),
        _ => format!("rules {} decide", rules(subject, &because)),
    };
    let mut text = format!(
        "No verdict changes without rule {rule} ({action}): {who} its packets the same way."
    );
    if finding.logs {
        text.push_str(" It logs its matches; without it, these log lines end.");
    }
    if !finding.together.is_empty() {
        text.push_str(&format!(
            " Do not delete it together with {} {}: some packets would then have another verdict.",
            if finding.together.len() == 1 { "rule" } else { "rules" },
            rules(subject, &finding.together)
        ));
    }
    text
}

fn permissive(finding: &Finding, subject: &Subject<'_>) -> String {
    let rule = subject.named(finding.rule);
    let action = subject.action(finding.rule);
    let Evidence::Permits {
        family,
        addresses,
        any_service,
        any_destination,
        is_any_service_everywhere,
    } = finding.evidence
    else {
        return format!("Rule {rule} ({action}) permits more than a rule should.");
    };
    let destinations = if any_destination { "every destination" } else { "its destinations" };
    let services = match (any_service, is_any_service_everywhere) {
        (true, true) => format!("every service to {destinations}"),
        (true, false) => {
            format!("some services to {destinations}, and every service to some of them")
        }
        (false, _) => format!("its services to {destinations}"),
    };
    format!(
        "Rule {rule} ({action}) permits {services}: {} of all pairs of {} addresses. Name the \
         addresses and services that are needed.",
        percent(addresses),
        in_words(family)
    )
}

fn exposed(finding: &Finding, subject: &Subject<'_>) -> String {
    let Evidence::Service { service, family, destinations } = &finding.evidence else {
        return "Most public addresses can reach a service.".to_owned();
    };
    let because: Vec<RuleIndex> = finding.because.iter().map(|cover| cover.rule).collect();
    let by = match because.as_slice() {
        [only] => format!("{} permits", subject.titled(*only)),
        several => {
            let (last, others) = several.split_last().unwrap_or((&0, &[]));
            match others {
                // The default comes last.
                [only] if subject.is_default(*last) => {
                    format!("{} and the default action together permit", subject.titled(*only))
                }
                others if subject.is_default(*last) => {
                    format!("Rules {}, with the default action, permit", rules(subject, others))
                }
                _ => format!("Rules {} permit", rules(subject, several)),
            }
        }
    };
    let ExposedService { name, protocol, ports } = service;
    let packets = format!("{protocol}/{ports}");
    let service = if *name == packets { packets } else { format!("{name} ({packets})") };
    let destinations = *destinations;
    let reached = if destinations < 2.0 {
        "1 address".to_owned()
    } else if destinations < 1e6 {
        format!("{destinations:.0} addresses")
    } else {
        format!("{destinations:.1e} addresses")
    };
    format!(
        "Most public {} addresses can reach {service} on {reached}. {by} it. Limit the \
         sources to those that need it.",
        in_words(*family)
    )
}

/// The earlier rules of a finding about pairs.
fn others(finding: &Finding, subject: &Subject<'_>) -> String {
    let named: Vec<RuleIndex> = finding.because.iter().map(|cover| cover.rule).collect();
    let count = match finding.evidence {
        Evidence::Pairs(count) => usize::try_from(count).unwrap_or(usize::MAX),
        _ => named.len(),
    };
    let all = counted(count, "earlier rule");
    match named.as_slice() {
        [] => format!("{all} of another action"),
        [first, ..] if count > 1 => {
            format!("{all} of another action, the first of them rule {}", subject.named(*first))
        }
        [only, ..] => format!("the earlier rule {} of another action", subject.named(*only)),
    }
}

/// The first of some rules by name, and the number of the others.
fn rules(subject: &Subject<'_>, rules: &[RuleIndex]) -> String {
    let mut items: Vec<String> =
        rules.iter().take(NAMED).map(|rule| subject.named(*rule).to_string()).collect();
    if rules.len() > NAMED {
        items.push(format!("{} more", rules.len() - NAMED));
    }
    listed(&items)
}

/// A share in percent: two digits that count.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if (99.5..100.0).contains(&percent) {
        "more than 99 %".to_owned()
    } else if percent >= 10.0 || percent == 0.0 {
        format!("{percent:.0} %")
    } else if percent >= 0.01 {
        format!("{percent:.2} %")
    } else {
        "less than 0.01 %".to_owned()
    }
}

const fn in_words(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
