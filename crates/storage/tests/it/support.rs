//! Callers, contents, and shortcuts for the use cases.

use std::collections::BTreeMap;

use fireflow_domain::actor::{Actor, Caller, Role, Visibility};
use fireflow_domain::error::Error;
use fireflow_domain::firewall::Firewall;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::labels::Labels;
use fireflow_domain::net::{AddressRange, PortRange, Protocol, Protocols};
use fireflow_domain::page::PageRequest;
use fireflow_domain::policy::{Policy, PolicySpec};
use fireflow_domain::rule::{Action, Duplicates, Endpoint, Rule, RuleParts, RuleSpec};
use fireflow_domain::store::{ReadKind, ReadUnit, Storage, Terms, WriteKind, WriteUnit};
use fireflow_domain::testing::rules::everything;
use fireflow_domain::text::{Description, Name, Tenant};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::firewall::NewFirewall;
use fireflow_domain::usecase::rule::NewRule;
use fireflow_domain::usecase::{firewall, policy, rule};
use fireflow_storage::testing::TestDatabase;

/// Takes the schema back to what it was before a step.
pub(crate) async fn migrate_before(db: &TestDatabase, step: &str) {
    let steps = db.database.migration_status().await.unwrap();
    let undone = steps.iter().skip_while(|it| it.name != step).count();
    assert!(undone > 0, "{step}");
    db.database.migrate_down(Some(u32::try_from(undone).unwrap())).await.unwrap();
}

pub(crate) fn now() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

pub(crate) fn caller() -> Caller {
    caller_of(Visibility::All)
}

pub(crate) fn caller_of(visibility: Visibility) -> Caller {
    Caller {
        actor: Actor { subject: "tester".into(), roles: vec![Role::Admin], visibility },
        now: now(),
        request_id: "request-1".into(),
        client_address: "192.0.2.1".into(),
        reason: "because".into(),
    }
}

pub(crate) fn tenant(word: &str) -> Tenant {
    Tenant::parse(word).unwrap()
}

pub(crate) fn name(word: &str) -> Name {
    Name::parse(word).unwrap()
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let map: BTreeMap<String, String> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Labels::new(map).unwrap()
}

pub(crate) fn new_firewall(word: &str) -> NewFirewall {
    NewFirewall {
        name: name(word),
        tenant: None,
        description: Description::parse("a\nb").unwrap(),
        labels: labels(&[("site", "fra")]),
    }
}

pub(crate) fn policy_spec(word: &str) -> PolicySpec {
    PolicySpec {
        name: name(word),
        description: Description::default(),
        labels: labels(&[("env", "prod")]),
        default_action: Action::Deny,
    }
}

pub(crate) fn endpoint(text: &str) -> Endpoint {
    let (address, port) = text.split_once(' ').map_or((text, None), |(a, p)| (a, Some(p)));
    Endpoint {
        address: AddressRange::parse(address).unwrap(),
        port: port.map(|port| PortRange::parse(port).unwrap()),
    }
}

pub(crate) fn parts(source: &str, destination: &str) -> RuleParts {
    RuleParts {
        priority: 10,
        protocols: Protocols::from_iter([Protocol::TCP]),
        sources: vec![endpoint(source)],
        destinations: vec![endpoint(destination)],
        ..everything()
    }
}

pub(crate) fn spec(parts: RuleParts) -> RuleSpec {
    RuleSpec::new(parts).unwrap()
}

/// A rule that is neither placed nor a duplicate.
pub(crate) fn plain(spec: RuleSpec) -> NewRule {
    NewRule { spec, placement: None, duplicates: Duplicates::Refuse }
}

pub(crate) fn first_page() -> PageRequest {
    PageRequest::new(1, 1_000).unwrap()
}

pub(crate) async fn read(db: &TestDatabase, kind: ReadKind) -> Box<dyn ReadUnit> {
    db.database.read(kind, &Terms::default()).await.unwrap()
}

pub(crate) async fn write(db: &TestDatabase) -> Box<dyn WriteUnit> {
    db.database.write(WriteKind::Few, &Terms::default()).await.unwrap()
}

pub(crate) async fn make_firewall(db: &TestDatabase, word: &str) -> Firewall {
    let mut uow = write(db).await;
    let made = firewall::create(&mut *uow, &caller(), new_firewall(word)).await.unwrap();
    uow.commit().await.unwrap();
    made
}

pub(crate) async fn make_policy(db: &TestDatabase, parent: FirewallId, word: &str) -> Policy {
    let mut uow = write(db).await;
    let made = policy::create(&mut *uow, &caller(), parent, policy_spec(word)).await.unwrap();
    uow.commit().await.unwrap();
    made
}

pub(crate) async fn make_rule(
    db: &TestDatabase,
    policy: &Policy,
    parts: RuleParts,
) -> Result<Rule, Error> {
    make_rule_in(db, policy.firewall.id, policy.id, parts).await
}

pub(crate) async fn make_rule_in(
    db: &TestDatabase,
    firewall: FirewallId,
    policy: PolicyId,
    parts: RuleParts,
) -> Result<Rule, Error> {
    let mut uow = write(db).await;
    let made = rule::create(&mut *uow, &caller(), firewall, policy, plain(spec(parts))).await?;
    uow.commit().await.unwrap();
    Ok(made.rule)
}
