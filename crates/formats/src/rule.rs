//! Rules as JSON, member by member.

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::{MAX_ID, PolicyId, RuleId};
use fireflow_domain::net::{AddressRange, PortRange, Protocol, Protocols};
use fireflow_domain::read_only::{RULE, ReadOnlyMember, Repeated};
use fireflow_domain::rule::{
    Action, Endpoint, LeftOut, MAX_ENDPOINTS, MAX_PORTS, MAX_PROTOCOLS, RuleParts, RulePatch,
    RuleSpec,
};
use fireflow_domain::text::{Description, Name, Reference, excerpt};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::rule_set::GivenRule;
use serde_json::Value;

use crate::json::kind;
use crate::members::{MemberValue, Members, integer};
use crate::read_only::ReadOnly;

/// How given rules are matched to stored ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Identity {
    /// By id, otherwise by name, otherwise by content.
    #[default]
    Id,
    /// By name, otherwise by content. Ids, parents and other read-only members belong to another
    /// policy and are ignored.
    Name,
}

/// How the rules of a set are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetReading {
    /// How they are matched to stored rules.
    pub identity: Identity,
    /// How their read-only members are handled.
    pub read_only: ReadOnly,
    /// The most rules that a set may have.
    pub max_rules: usize,
}

impl Default for SetReading {
    fn default() -> Self {
        let (identity, read_only) = (Identity::default(), ReadOnly::default());
        Self { identity, read_only, max_rules: usize::MAX }
    }
}

/// Reads an action.
///
/// # Errors
/// Returns a message that names the actions.
pub fn action(word: &str) -> Result<Action, String> {
    Action::parse(word)
        .ok_or_else(|| format!("`{}` is not an action; use ALLOW, DENY or REJECT", excerpt(word)))
}

/// The members of a rule, for a creation as well as a change.
struct RuleMembers {
    name: MemberValue<Name>,
    action: MemberValue<Action>,
    priority: MemberValue<i32>,
    protocols: MemberValue<Protocols>,
    icmp_type: MemberValue<u8>,
    icmp_code: MemberValue<u8>,
    sources: MemberValue<Vec<Endpoint>>,
    destinations: MemberValue<Vec<Endpoint>>,
    ports: MemberValue<Vec<PortRange>>,
    enabled: MemberValue<bool>,
    log: MemberValue<bool>,
    starts_at: MemberValue<Instant>,
    expires_at: MemberValue<Instant>,
    description: MemberValue<Description>,
    reference: MemberValue<Reference>,
}

fn fields(members: &mut Members<'_>) -> RuleMembers {
    let priority = members.integer("priority", i32::MIN.into(), i32::MAX.into());
    RuleMembers {
        name: members.text("name", Name::parse),
        action: members.text("action", action),
        // The bounds were checked above, so this cannot fail.
        priority: priority.map(|number| i32::try_from(number).unwrap_or_default()),
        protocols: protocols(members),
        icmp_type: byte(members, "icmp_type"),
        icmp_code: byte(members, "icmp_code"),
        sources: members.some("sources", MAX_ENDPOINTS, endpoint),
        destinations: members.some("destinations", MAX_ENDPOINTS, endpoint),
        ports: members.list("ports", MAX_PORTS, port_entry),
        enabled: members.boolean("enabled"),
        log: members.boolean("log"),
        starts_at: members.text("starts_at", Instant::parse),
        expires_at: members.text("expires_at", Instant::parse),
        description: members.text("description", Description::parse),
        reference: members.text("reference", Reference::parse),
    }
}

impl RuleMembers {
    /// Which of the members that decide what the rule matches and when are omitted. The pattern has
    /// no `..`, so that a new member does not compile until it is classified here.
    const fn left_out(&self) -> LeftOut {
        let Self {
            name: _,
            action: _,
            priority: _,
            protocols,
            icmp_type,
            icmp_code,
            sources: _,
            destinations: _,
            ports,
            enabled,
            log: _,
            starts_at,
            expires_at,
            description: _,
            reference: _,
        } = self;
        LeftOut {
            protocols: matches!(protocols, MemberValue::Absent),
            icmp_type: matches!(icmp_type, MemberValue::Absent),
            icmp_code: matches!(icmp_code, MemberValue::Absent),
            ports: matches!(ports, MemberValue::Absent),
            enabled: matches!(enabled, MemberValue::Absent),
            starts_at: matches!(starts_at, MemberValue::Absent),
            expires_at: matches!(expires_at, MemberValue::Absent),
        }
    }
}

fn byte(members: &mut Members<'_>, name: &'static str) -> MemberValue<u8> {
    members.integer(name, 0, u8::MAX.into()).map(|number| u8::try_from(number).unwrap_or_default())
}

/// Reads `protocols`, or `protocol` for a single one.
fn protocols(members: &mut Members<'_>) -> MemberValue<Protocols> {
    let many =
        members.list("protocols", MAX_PROTOCOLS, |value, at, violations| match protocol(&value) {
            Ok(protocol) => Some(protocol),
            Err(detail) => {
                violations.push(Violation::body(at, detail));
                None
            }
        });
    let one = members.value("protocol", |value| match value.as_str() {
        Some(word) if word.eq_ignore_ascii_case("any") => Ok(Protocols::ANY),
        _ => protocol(&value).map(|protocol| Protocols::from_iter([protocol])),
    });
    match (many, one) {
        (many, MemberValue::Absent) => many.map(Protocols::from_iter),
        (MemberValue::Absent, one) => one,
        _ => {
            members.fault("protocol", "cannot be combined with `protocols`");
            MemberValue::Bad
        }
    }
}

/// Reads a protocol by name or number.
fn protocol(value: &Value) -> Result<Protocol, String> {
    match value {
        Value::String(word) if word.eq_ignore_ascii_case("any") => {
            Err("`any` is not one of several protocols; write `\"protocols\": []` for any"
                .to_owned())
        }
        Value::String(word) => Protocol::parse(word).map_err(|error| error.to_string()),
        Value::Number(_) => {
            let number = integer(value, 0, u8::MAX.into())?;
            Protocol::parse(&number.to_string()).map_err(|error| error.to_string())
        }
        other => Err(format!("must be a protocol's name or number, not {}", kind(other))),
    }
}

fn endpoint(value: Value, at: &str, violations: &mut Violations) -> Option<Endpoint> {
    if let Value::String(text) = &value {
        // Other products write an endpoint as a bare address.
        let shown = AddressRange::parse(text).map(|it| it.to_string());
        let shown = shown.unwrap_or_else(|_| "10.0.0.0/8".to_owned());
        let detail = format!("must be an object such as {{\"address\": \"{shown}\"}}");
        violations.note(|| Violation::body(at, detail));
        return None;
    }
    let mut members = Members::open(value, at, violations)?;
    let address = members.text("address", AddressRange::parse);
    let address = members.required("address", address);
    let port = members.value("port", |value| match &value {
        Value::String(text) => PortRange::parse(text).map_err(|error| error.to_string()),
        Value::Number(_) => single_port(&value),
        other => Err(format!("must be a port number or a range as text, not {}", kind(other))),
    });
    members.finish();
    let is_good = port != MemberValue::Bad;
    is_good.then_some(Endpoint { address: address?, port: port.nullable() })
}

fn single_port(value: &Value) -> Result<PortRange, String> {
    let number = integer(value, 0, u16::MAX.into())?;
    u16::try_from(number).map(PortRange::single).map_err(|error| error.to_string())
}

/// Reads `{"number": 443}` or `{"from": 8000, "to": 8100}`.
fn port_entry(value: Value, at: &str, violations: &mut Violations) -> Option<PortRange> {
    let bare = match &value {
        Value::String(text) => Some(PortRange::parse(text).ok()),
        Value::Number(number) => Some(PortRange::parse(&number.to_string()).ok()),
        _ => None,
    };
    if let Some(range) = bare {
        let shown = match range.map(|range| (range.first(), range.last())) {
            Some((first, last)) if first != last => {
                format!("{{\"from\": {first}, \"to\": {last}}}")
            }
            Some((number, _)) => format!("{{\"number\": {number}}}"),
            None => "{\"number\": 443}".to_owned(),
        };
        violations.note(|| Violation::body(at, format!("must be an object such as {shown}")));
        return None;
    }
    let mut members = Members::open(value, at, violations)?;
    let mut port = |name| {
        members.integer(name, 0, u16::MAX.into()).map(|it| u16::try_from(it).unwrap_or_default())
    };
    let given = (port("number"), port("from"), port("to"));
    let range = match given {
        (MemberValue::Bad, _, _) | (_, MemberValue::Bad, _) | (_, _, MemberValue::Bad) => None,
        (
            MemberValue::Is(number),
            MemberValue::Absent | MemberValue::Null,
            MemberValue::Absent | MemberValue::Null,
        ) => Some(PortRange::single(number)),
        (MemberValue::Absent | MemberValue::Null, MemberValue::Is(from), MemberValue::Is(to)) => {
            match PortRange::new(from, to) {
                Ok(range) => Some(range),
                Err(error) => {
                    members.fault("to", error.to_string());
                    None
                }
            }
        }
        _ => {
            let detail = "must be either {\"number\": …} or {\"from\": …, \"to\": …}";
            members.fault_of_all(detail);
            None
        }
    };
    members.finish();
    range
}

/// Reads a rule to be created. A rule with a place has no priority yet.
pub fn new_rule(
    value: Value,
    at: &str,
    is_placed: bool,
    read_only: ReadOnly,
    violations: &mut Violations,
) -> Option<RuleSpec> {
    let mut members = Members::open(value, at, violations)?;
    let mut given = fields(&mut members);
    members.not_read_only(RULE, read_only);
    match (&given.priority, is_placed) {
        (MemberValue::Absent, true) => given.priority = MemberValue::Is(0),
        (_, true) => members.fault("priority", "cannot be combined with a position"),
        _ => {}
    }
    spec(members, given)
}

/// Reads a rule of a set, with pointers below `at`. Also returns whether it has a priority.
pub fn given_rule(
    value: Value,
    at: &str,
    policy: PolicyId,
    reading: SetReading,
    violations: &mut Violations,
) -> Option<(GivenRule, bool)> {
    let mut members = Members::open(value, at, violations)?;
    let mut given = fields(&mut members);
    let left_out = given.left_out();
    let id = match reading.identity {
        Identity::Id => members.value("id", |value| {
            let number = integer(&value, 1, MAX_ID)?;
            RuleId::new(number).ok_or_else(|| "is not an id".to_owned())
        }),
        Identity::Name => MemberValue::Absent,
    };
    let repeated = match (reading.identity, reading.read_only) {
        (Identity::Id, ReadOnly::Refuse) => {
            members.same_parent(ReadOnlyMember::FilteringPolicy, policy.get());
            members.repeated(RULE)
        }
        (Identity::Name, _) | (_, ReadOnly::Ignore) => {
            members.not_read_only(RULE, ReadOnly::Ignore);
            Repeated::default()
        }
    };
    let has_priority = given.priority != MemberValue::Absent;
    if !has_priority {
        given.priority = MemberValue::Is(0);
    }
    let spec = spec(members, given)?;
    Some((GivenRule { id: id.nullable(), spec, left_out, repeated }, has_priority))
}

/// The content of a rule whose members were read.
fn spec(mut members: Members<'_>, given: RuleMembers) -> Option<RuleSpec> {
    let labels = members.labels();
    let action = members.required("action", given.action);
    let priority = members.required("priority", given.priority);
    let sources = members.required("sources", given.sources);
    let destinations = members.required("destinations", given.destinations);
    let protocols = members.or("protocols", given.protocols, Protocols::ANY);
    let ports = members.or("ports", given.ports, Vec::new());
    let enabled = members.or("enabled", given.enabled, true);
    let log = members.or("log", given.log, false);
    let description = members.or("description", given.description, Description::default());
    let reference = members.or("reference", given.reference, Reference::default());
    let (at, violations) = members.finish();
    // The rule as a whole is checked only if all members are valid; otherwise defaults would cause
    // misleading faults.
    if !violations.is_empty() {
        return None;
    }
    let parts = RuleParts {
        name: given.name.nullable(),
        action: action?,
        priority: priority?,
        protocols,
        icmp_type: given.icmp_type.nullable(),
        icmp_code: given.icmp_code.nullable(),
        sources: sources?,
        destinations: destinations?,
        ports,
        enabled,
        log,
        starts_at: given.starts_at.nullable(),
        expires_at: given.expires_at.nullable(),
        description,
        reference,
        labels,
    };
    RuleSpec::new(parts).map_err(|faults| violations.extend_below(&at, faults)).ok()
}

/// Reads a change of a rule.
pub fn rule_patch(
    value: Value,
    at: &str,
    policy: PolicyId,
    id: RuleId,
    violations: &mut Violations,
) -> Option<RulePatch> {
    let mut members = Members::open(value, at, violations)?;
    let given = fields(&mut members);
    members.same_id(id.get());
    members.same_parent(ReadOnlyMember::FilteringPolicy, policy.get());
    let repeated = members.repeated(RULE);
    let patch = RulePatch {
        name: given.name.nullable_patch(),
        action: members.patch("action", given.action),
        priority: members.patch("priority", given.priority),
        protocols: given.protocols.patch_or(Protocols::ANY),
        icmp_type: given.icmp_type.nullable_patch(),
        icmp_code: given.icmp_code.nullable_patch(),
        sources: members.patch("sources", given.sources),
        destinations: members.patch("destinations", given.destinations),
        ports: given.ports.patch_or(Vec::new()),
        enabled: given.enabled.patch_or(true),
        log: given.log.patch_or(false),
        starts_at: given.starts_at.nullable_patch(),
        expires_at: given.expires_at.nullable_patch(),
        description: given.description.patch_or(Description::default()),
        reference: given.reference.patch_or(Reference::default()),
        labels: members.labels_patch(),
        repeated,
    };
    members.finish();
    Some(patch)
}
