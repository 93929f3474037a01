use std::borrow::Cow;
use std::sync::Arc;

use fireflow_domain::engine::compact::{ChangedRule, CompactRule};
use fireflow_domain::ids::{PolicyId, Revision, RuleId};
use fireflow_domain::labels::Labels;
use fireflow_domain::net::{AddressRange, PortRange, Protocol, Protocols};
use fireflow_domain::policy::{PolicyRef, States};
use fireflow_domain::rule::fingerprint::Fingerprint;
use fireflow_domain::rule::{Action, Endpoint, Rule, RuleParts, RuleSpec};
use fireflow_domain::store::{RuleInState, RuleUpkeep};
use fireflow_domain::text::{Description, Name, Reference, fold};
use sea_orm::Set;
use serde::{Deserialize, Serialize};

use super::{Row, firewall_reference, json, labels_json, mark};
use crate::entity::rule::{
    ActiveModel, Criteria, CriteriaOrDeleted, Model, Upkeep, WithParents, WithState,
};
use crate::error::Corrupt;

/// A source or destination as its column stores it.
#[derive(Serialize, Deserialize)]
struct EntryJson<'a> {
    #[serde(borrow)]
    address: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    port: Option<Cow<'a, str>>,
}

/// Converts a row to a rule.
pub(crate) fn rule(found: WithParents) -> Result<Rule, Corrupt> {
    let row = Row { table: "policy", id: found.rule.policy_id };
    let parent = PolicyRef {
        id: row.known("id", PolicyId::new(found.rule.policy_id))?,
        name: row.read("name", Name::stored(&found.policy_name))?,
        default_action: row.known("default_action", Action::parse(&found.policy_default_action))?,
        header_revision: Revision(found.policy_header_revision),
        firewall: firewall_reference(
            found.rule.firewall_id,
            &found.firewall_name,
            found.firewall_header_revision,
        )?,
    };
    rule_of(parent, found.rule)
}

/// The content of a row that a user writes.
pub(crate) fn rule_spec(model: &Model) -> Result<RuleSpec, Corrupt> {
    let row = Row { table: "rule", id: model.id };
    let parts = RuleParts {
        name: model.name.as_deref().map(|name| row.read("name", Name::stored(name))).transpose()?,
        action: row.known("action", Action::parse(&model.action))?,
        priority: model.priority,
        protocols: protocols(row, &model.protocols)?,
        icmp_type: byte(row, "icmp_type", model.icmp_type)?,
        icmp_code: byte(row, "icmp_code", model.icmp_code)?,
        sources: endpoints(row, "sources", &model.sources)?,
        destinations: endpoints(row, "destinations", &model.destinations)?,
        ports: ports(row, &model.ports)?,
        enabled: model.enabled,
        log: model.log,
        starts_at: row.optional_instant("starts_at", model.starts_at)?,
        expires_at: row.optional_instant("expires_at", model.expires_at)?,
        description: row.read("description", Description::stored(&model.description))?,
        reference: row.read("reference", Reference::stored(&model.reference))?,
        labels: row.labels(&model.labels)?,
    };
    checked(row, parts)
}

/// Converts a row of a known policy to a rule.
pub(crate) fn rule_of(policy: PolicyRef, model: Model) -> Result<Rule, Corrupt> {
    let row = Row { table: "rule", id: model.id };
    let spec = rule_spec(&model)?;
    Ok(Rule {
        id: row.known("id", RuleId::new(model.id))?,
        policy,
        spec,
        revision: Revision(model.revision),
        mark: mark(model.mark),
        created_at: row.instant("created_at", model.created_at)?,
        created_by: model.created_by,
        updated_at: row.instant("updated_at", model.updated_at)?,
        updated_by: model.updated_by,
        deleted: row.deleted(model.deleted_at, model.deleted_by)?,
    })
}

/// Converts a row to a rule with the state of its policy.
pub(crate) fn rule_in_state(row: WithState) -> Result<RuleInState, Corrupt> {
    let changed = Revision(row.found.rule.changed_revision);
    Ok(RuleInState {
        rule: rule(row.found)?,
        changed,
        revision: Revision(row.policy_revision),
        states: States::new(row.policy_states),
    })
}

/// Converts the columns that decide packets. The policy is at the given revision.
pub(crate) fn compact_rule(model: Criteria, since: Revision) -> Result<CompactRule, Corrupt> {
    let row = Row { table: "rule", id: model.id };
    let parts = RuleParts {
        name: model.name.as_deref().map(|name| row.read("name", Name::stored(name))).transpose()?,
        action: row.known("action", Action::parse(&model.action))?,
        priority: model.priority,
        protocols: protocols(row, &model.protocols)?,
        icmp_type: byte(row, "icmp_type", model.icmp_type)?,
        icmp_code: byte(row, "icmp_code", model.icmp_code)?,
        sources: endpoints(row, "sources", &model.sources)?,
        destinations: endpoints(row, "destinations", &model.destinations)?,
        ports: ports(row, &model.ports)?,
        enabled: model.enabled,
        starts_at: row.optional_instant("starts_at", model.starts_at)?,
        expires_at: row.optional_instant("expires_at", model.expires_at)?,
        log: model.log,
        // No verdict depends on these.
        description: Description::default(),
        reference: Reference::default(),
        labels: Labels::default(),
    };
    let spec = checked(row, parts)?;
    Ok(CompactRule::new(row.known("id", RuleId::new(model.id))?, &spec, since))
}

/// Converts what analyses need besides.
pub(crate) fn rule_upkeep(model: Upkeep) -> Result<RuleUpkeep, Corrupt> {
    let row = Row { table: "rule", id: model.id };
    Ok(RuleUpkeep {
        has_reference: model.has_reference,
        updated_at: row.instant("updated_at", model.updated_at)?,
    })
}

/// Converts the same columns of a rule that may be deleted.
pub(crate) fn changed_rule(
    model: CriteriaOrDeleted,
    since: Revision,
) -> Result<ChangedRule, Corrupt> {
    let row = Row { table: "rule", id: model.criteria.id };
    let id = row.known("id", RuleId::new(model.criteria.id))?;
    let rule = match model.deleted_at {
        Some(_) => None,
        None => Some(Arc::new(compact_rule(model.criteria, since)?)),
    };
    Ok(ChangedRule { id, rule })
}

/// A rule whose members fit together.
fn checked(row: Row, parts: RuleParts) -> Result<RuleSpec, Corrupt> {
    RuleSpec::new(parts).map_err(|violations| {
        let first = violations.items().first().map(ToString::to_string);
        row.corrupt("sources", first.unwrap_or_default())
    })
}

fn byte(row: Row, column: &'static str, value: Option<i32>) -> Result<Option<u8>, Corrupt> {
    value.map(|value| row.read(column, u8::try_from(value))).transpose()
}

/// Rows of earlier versions may name a protocol twice.
fn protocols(row: Row, text: &str) -> Result<Protocols, Corrupt> {
    let words: Vec<Cow<'_, str>> = row.read("protocols", serde_json::from_str(text))?;
    words.iter().map(|word| row.read("protocols", Protocol::parse(word))).collect()
}

fn ports(row: Row, text: &str) -> Result<Vec<PortRange>, Corrupt> {
    let words: Vec<Cow<'_, str>> = row.read("ports", serde_json::from_str(text))?;
    words.iter().map(|word| row.read("ports", PortRange::parse(word))).collect()
}

fn endpoints(row: Row, column: &'static str, text: &str) -> Result<Vec<Endpoint>, Corrupt> {
    let entries: Vec<EntryJson<'_>> = row.read(column, serde_json::from_str(text))?;
    entries
        .iter()
        .map(|entry| {
            let port = entry.port.as_deref().map(PortRange::parse).transpose();
            Ok(Endpoint {
                address: row.read(column, AddressRange::parse(&entry.address))?,
                port: row.read(column, port)?,
            })
        })
        .collect()
}

fn endpoints_json(endpoints: &[Endpoint]) -> String {
    let entries: Vec<EntryJson<'_>> = endpoints
        .iter()
        .map(|entry| EntryJson {
            address: entry.address.to_string().into(),
            port: entry.port.map(|port| port.to_string().into()),
        })
        .collect();
    json(&entries)
}

/// The columns that a user writes, and their fingerprint.
pub(crate) fn rule_content(spec: &RuleSpec) -> ActiveModel {
    let spell_all = |words: &mut dyn Iterator<Item = String>| json(&words.collect::<Vec<_>>());
    // No `..`: the compiler demands a decision here for each new member.
    let RuleParts {
        name,
        action,
        priority,
        protocols,
        icmp_type,
        icmp_code,
        sources,
        destinations,
        ports,
        enabled,
        log,
        starts_at,
        expires_at,
        description,
        reference,
        labels,
    } = &**spec;
    ActiveModel {
        name: Set(name.as_ref().map(|name| name.as_str().to_owned())),
        name_folded: Set(name.as_ref().map(|name| fold(name.as_str()))),
        action: Set(action.as_str().to_owned()),
        priority: Set(*priority),
        protocols: Set(spell_all(&mut protocols.iter().map(ToString::to_string))),
        icmp_type: Set(icmp_type.map(i32::from)),
        icmp_code: Set(icmp_code.map(i32::from)),
        sources: Set(endpoints_json(sources)),
        destinations: Set(endpoints_json(destinations)),
        ports: Set(spell_all(&mut ports.iter().map(ToString::to_string))),
        enabled: Set(*enabled),
        log: Set(*log),
        starts_at: Set(starts_at.map(|instant| instant.micros())),
        expires_at: Set(expires_at.map(|instant| instant.micros())),
        description: Set(description.as_str().to_owned()),
        description_folded: Set(fold(description.as_str())),
        reference: Set(reference.as_str().to_owned()),
        labels: Set(labels_json(labels)),
        fingerprint: Set(Some(Fingerprint::of(spec).0.to_vec())),
        ..ActiveModel::default()
    }
}
