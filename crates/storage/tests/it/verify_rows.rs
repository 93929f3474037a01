//! Verifies and repairs derived data. After any writes there is nothing to repair, and everything
//! that is corrupted is found and repaired.

use fireflow_domain::features::Features;
use fireflow_domain::firewall::FirewallPatch;
use fireflow_domain::ids::{FirewallId, PolicyId, RuleId};
use fireflow_domain::policy::PolicyPatch;
use fireflow_domain::rule::order::Placement;
use fireflow_domain::rule::{Duplicates, RuleParts, RulePatch};
use fireflow_domain::store::WriteUnit;
use fireflow_domain::testing::random::Random;
use fireflow_domain::text::Description;
use fireflow_domain::usecase::rule::{NewRule, RulePath, RuleRestoration};
use fireflow_domain::usecase::rule_set::{self, GivenRule, ReplaceOptions};
use fireflow_domain::usecase::{Expected, firewall, policy, retention, rule};
use fireflow_storage::testing::{TestDatabase, options};
use fireflow_storage::{
    AuditTrail, DatabaseKind, RowCounts, RowFault, RowFinding, db_test, newer_policies,
    repair_rows, verify_rows,
};

use crate::support::*;

#[derive(Default)]
struct Found {
    counts: RowCounts,
    faults: Vec<RowFault>,
    left_out: Vec<(i64, Features)>,
}

impl Found {
    fn note(&mut self, finding: RowFinding) {
        match finding {
            RowFinding::Fault(fault) => self.faults.push(fault),
            RowFinding::LeftOut { policy, features } => self.left_out.push((policy, features)),
            RowFinding::Progress(_) => {}
        }
    }
}

async fn verify(db: &TestDatabase) -> Found {
    let mut found = Found::default();
    found.counts = verify_rows(&options(&db.url), &mut |it| found.note(it)).await.unwrap();
    found
}

async fn repair(db: &TestDatabase) -> Found {
    let mut found = Found::default();
    found.counts = repair_rows(&db.database, &mut |it| found.note(it)).await.unwrap();
    found
}

async fn audit_faults(db: &TestDatabase) -> usize {
    let mut faults = 0;
    let trail = AuditTrail::open(&options(&db.url)).await.unwrap();
    let mut report = |finding| {
        faults += usize::from(matches!(finding, fireflow_storage::AuditFinding::Fault(_)));
    };
    trail.verify(&mut report).await.unwrap();
    trail.close().await.unwrap();
    faults
}

const ENDS: [&str; 6] =
    ["any", "10.0.0.0/8", "192.0.2.1-192.0.2.9 1024-65535", "2001:db8::/32", "any 53", "10.1.2.3"];
const PORTS: [&str; 4] = ["443", "8000-8100", "0-65535", "22"];
const TEXTS: [&str; 3] = ["", "Straße", "ÄRGER\nin two lines"];

fn pick(random: &mut Random, words: &[&'static str]) -> &'static str {
    random.pick(words).unwrap()
}

fn some_parts(random: &mut Random) -> RuleParts {
    let mut many = |most: u32| {
        let count = 1 + random.below(most);
        (0..count).map(|_| endpoint(pick(random, &ENDS))).collect::<Vec<_>>()
    };
    // One source is any address, so that there is always a packet that matches.
    let (mut sources, destinations) = (many(3), vec![endpoint("any")]);
    sources.push(endpoint("any"));
    let ports = (0..random.below(3))
        .map(|_| fireflow_domain::net::PortRange::parse(pick(random, &PORTS)).unwrap());
    let ports = ports.collect();
    let labeled = labels(&[("site", "fra"), ("env", "Prod")][..random.below(3) as usize]);
    RuleParts {
        name: random.happens(30).then(|| name(&format!("Rule {}", random.next()))),
        ports,
        priority: i32::try_from(random.below(50)).unwrap(),
        description: Description::parse(pick(random, &TEXTS)).unwrap(),
        labels: labeled,
        sources,
        destinations,
        ..parts("any", "any")
    }
}

async fn ids(db: &TestDatabase, sql: &str) -> Vec<i64> {
    db.integers(sql).await
}

/// The path of some existing rule.
async fn some_path(db: &TestDatabase, random: &mut Random, of: &str) -> Option<RulePath> {
    let rules = ids(db, &format!("SELECT id FROM rule WHERE {of} ORDER BY id")).await;
    let id = random.pick(&rules).copied()?;
    let one = async |column: &str| {
        ids(db, &format!("SELECT {column} FROM rule WHERE id = {id}")).await[0]
    };
    Some(RulePath {
        firewall: FirewallId::new(one("firewall_id").await).unwrap(),
        policy: PolicyId::new(one("policy_id").await).unwrap(),
        rule: RuleId::new(id).unwrap(),
    })
}

/// Performs a random write. It is fine if the write is refused because the resource already exists
/// or is gone.
async fn write_something(db: &TestDatabase, random: &mut Random) {
    const LIVE: &str = "deleted_at IS NULL";
    const DELETED: &str = "deleted_at IS NOT NULL";
    let policies = ids(db, "SELECT id FROM policy ORDER BY id").await;
    let id = random.pick(&policies).copied().unwrap();
    let parent = ids(db, &format!("SELECT firewall_id FROM policy WHERE id = {id}")).await[0];
    let parent = (FirewallId::new(parent).unwrap(), PolicyId::new(id).unwrap());
    let mut uow: Box<dyn WriteUnit> = write(db).await;
    let (any, caller) = (Expected::ANYTHING, caller());
    let is_written = match random.below(12) {
        0..=3 => {
            let duplicates = if random.happens(30) { Duplicates::Keep } else { Duplicates::Refuse };
            let new = NewRule { spec: spec(some_parts(random)), placement: None, duplicates };
            rule::create(&mut *uow, &caller, parent.0, parent.1, new).await.is_ok()
        }
        4 => {
            let given = (0..random.below(6)).map(|_| GivenRule::from(spec(some_parts(random))));
            let how = ReplaceOptions { duplicates: Duplicates::Keep, max_deletions: Some(1_000) };
            let given = given.collect();
            rule_set::replace(&mut *uow, &caller, parent, &any, given, how).await.is_ok()
        }
        kind @ 5..=9 => {
            uow.rollback().await.unwrap();
            let of = if kind == 9 { DELETED } else { LIVE };
            let Some(path) = some_path(db, random, of).await else { return };
            uow = write(db).await;
            match kind {
                5 | 6 => {
                    let RuleParts { name, sources, ports, description, .. } = some_parts(random);
                    let patch = RulePatch {
                        name: fireflow_domain::patch::Patch::Set(name),
                        sources: fireflow_domain::patch::Patch::Set(sources),
                        ports: fireflow_domain::patch::Patch::Set(ports),
                        description: fireflow_domain::patch::Patch::Set(description),
                        ..RulePatch::default()
                    };
                    rule::update(&mut *uow, &caller, path, &any, patch).await.is_ok()
                }
                7 => {
                    let (parent, rules) = ((path.firewall, path.policy), [path.rule]);
                    let to = Placement::First;
                    rule::move_rules(&mut *uow, &caller, parent, &any, &rules, to).await.is_ok()
                }
                8 => rule::delete(&mut *uow, &caller, path, &any).await.is_ok(),
                _ => {
                    let how =
                        RuleRestoration { duplicates: Duplicates::Keep, ..Default::default() };
                    rule::restore(&mut *uow, &caller, path, how).await.is_ok()
                }
            }
        }
        10 => {
            let description = Description::parse(pick(random, &TEXTS)).unwrap();
            let description = fireflow_domain::patch::Patch::Set(description);
            if random.happens(50) {
                let patch = FirewallPatch { description, ..FirewallPatch::default() };
                firewall::update(&mut *uow, &caller, parent.0, &any, patch).await.is_ok()
            } else {
                let patch = PolicyPatch { description, ..PolicyPatch::default() };
                policy::update(&mut *uow, &caller, parent.0, parent.1, &any, patch).await.is_ok()
            }
        }
        _ if random.happens(50) => {
            policy::delete(&mut *uow, &caller, parent.0, parent.1, &any).await.is_ok()
        }
        _ => policy::restore(&mut *uow, &caller, parent.0, parent.1, None).await.is_ok(),
    };
    if is_written {
        uow.commit().await.unwrap();
    } else {
        uow.rollback().await.unwrap();
    }
}

/// Statements that corrupt something, each on an existing row, with the condition for that row.
fn spoilers(kind: DatabaseKind) -> Vec<(&'static str, &'static str, &'static str)> {
    const LIVE: &str = "deleted_at IS NULL";
    let zeroes = match kind {
        DatabaseKind::Sqlite => "UPDATE rule SET fingerprint = zeroblob(32) WHERE id = {id}",
        DatabaseKind::Postgres => {
            "UPDATE rule SET fingerprint = decode(repeat('00', 32), 'hex') WHERE id = {id}"
        }
    };
    vec![
        ("firewall", "true", "UPDATE firewall SET policy_count = policy_count + 1 WHERE id = {id}"),
        ("firewall", "true", "UPDATE firewall SET name_folded = name || 'x' WHERE id = {id}"),
        ("firewall", "true", "UPDATE firewall SET description_folded = 'x' WHERE id = {id}"),
        ("firewall", "true", "DELETE FROM firewall_label WHERE owner_id = {id}"),
        ("policy", "true", "UPDATE policy SET rule_count = rule_count + 3 WHERE id = {id}"),
        ("policy", "true", "UPDATE policy SET entry_count = entry_count + 1 WHERE id = {id}"),
        ("policy", "true", "UPDATE policy SET name_folded = 'x' WHERE id = {id}"),
        ("policy", "true", "UPDATE policy_label SET value = value || 'x' WHERE owner_id = {id}"),
        ("policy", "true", "UPDATE policy_label SET firewall_id = 77 WHERE owner_id = {id}"),
        ("rule", LIVE, "DELETE FROM rule_address WHERE rule_id = {id}"),
        ("rule", LIVE, "UPDATE rule_address SET entry = entry + 1 WHERE rule_id = {id}"),
        ("rule", LIVE, "UPDATE rule_address SET lo = hi, of_any = NOT of_any WHERE rule_id = {id}"),
        (
            "rule",
            "true",
            "INSERT INTO rule_port (rule_id, firewall_id, entry, fork, lo, hi)
                VALUES ({id}, 1, 0, 0, 1, 2)",
        ),
        (
            "rule",
            "true",
            "INSERT INTO rule_label (owner_id, firewall_id, key, value)
                VALUES ({id}, 1, 'made-up', '')",
        ),
        ("rule", LIVE, "UPDATE rule SET fingerprint = NULL WHERE id = {id}"),
        ("rule", LIVE, zeroes),
        ("rule", "name IS NOT NULL", "UPDATE rule SET name_folded = NULL WHERE id = {id}"),
        ("rule", "true", "UPDATE rule SET description_folded = 'x' WHERE id = {id}"),
        ("rule", "true", "UPDATE rule SET firewall_id = 3 - firewall_id WHERE id = {id}"),
    ]
}

db_test! {
    committed("verification opens the database again")
    async fn what_is_spoiled_is_found_and_repaired_and_writes_leave_nothing_to_repair(db: TestDatabase) {
        let seed = rand_seed();
        eprintln!("seed {seed}");
        let mut random = Random::new(seed);
        for word in ["One", "Two"] {
            let parent = make_firewall(&db, word).await;
            for policy in ["In", "Out"] {
                let policy = make_policy(&db, parent.id, policy).await;
                for _ in 0..4 {
                    let _made = make_rule(&db, &policy, some_parts(&mut random)).await.is_ok();
                }
            }
        }
        for round in 0..3 {
            for _ in 0..25 {
                write_something(&db, &mut random).await;
            }
            let found = verify(&db).await;
            assert_eq!(found.faults, [], "after writes, round {round}");
            assert_eq!((found.counts.firewalls, found.counts.policies), (2, 4));
            let rules = ids(&db, "SELECT count(*) FROM rule").await[0];
            assert_eq!(found.counts.rules, u64::try_from(rules).unwrap());
            let events = ids(&db, "SELECT count(*) FROM audit_event").await;
            for (table, condition, sql) in spoilers(db.database.kind()) {
                let rows = ids(&db, &format!("SELECT id FROM {table} WHERE {condition}")).await;
                let Some(id) = random.pick(&rows) else { continue };
                db.execute(&sql.replace("{id}", &id.to_string())).await;
                let found = verify(&db).await.faults;
                assert!(!found.is_empty(), "{sql} of {id}");
                // One after the other, or all of them at once.
                if round == 2 {
                    continue;
                }
                assert_eq!(repair(&db).await.faults, found, "{sql} of {id}");
                assert_eq!(verify(&db).await.faults, [], "{sql} of {id}");
            }
            let found = verify(&db).await.faults;
            assert_eq!(repair(&db).await.faults, found);
            assert_eq!(verify(&db).await.faults, [], "all at once");
            assert_eq!(repair(&db).await.faults, []);
            assert_eq!(ids(&db, "SELECT count(*) FROM audit_event").await, events);
            assert_eq!(audit_faults(&db).await, 0);
        }
        // The rows that a purge leaves are consistent too.
        let later = now().plus_micros(1);
        retention::purge(&db.database, later, later).await.unwrap();
        assert_eq!(verify(&db).await.faults, []);
    }
}

fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

db_test! {
    committed("verification opens the database again")
    async fn two_rules_whose_fingerprints_were_swapped_are_told_apart_again(db: TestDatabase) {
        let parent = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, parent.id, "in").await;
        let first = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        let second = make_rule(&db, &policy, parts("10.0.0.2", "any")).await.unwrap();
        let states = "SELECT count(*) FROM policy WHERE states = (SELECT states FROM policy)";
        assert_eq!(ids(&db, states).await, [1]);
        // The second rule is mistaken for the first.
        db.execute("UPDATE rule SET fingerprint = NULL WHERE id = 1").await;
        let fingerprint = match db.database.kind() {
            DatabaseKind::Sqlite => "x'",
            DatabaseKind::Postgres => "'\\x",
        };
        let of_first = fireflow_domain::rule::fingerprint::Fingerprint::of(&first.spec).to_hex();
        db.execute(&format!("UPDATE rule SET fingerprint = {fingerprint}{of_first}' WHERE id = 2"))
            .await;
        let found = repair(&db).await.faults;
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(verify(&db).await.faults, []);
        // Both rules are recognized again.
        for spec in [first.spec, second.spec] {
            let again = make_rule(&db, &policy, spec.into_parts()).await;
            assert!(matches!(again, Err(fireflow_domain::error::Error::AlreadyExists(_))));
        }
    }
}

db_test! {
    committed("verification opens the database again")
    async fn what_cannot_be_read_is_reported_and_the_rest_is_repaired(db: TestDatabase) {
        let parent = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, parent.id, "in").await;
        make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        make_rule(&db, &policy, parts("10.0.0.2", "any")).await.unwrap();
        db.execute("UPDATE rule SET sources = 'nonsense' WHERE id = 1").await;
        db.execute("DELETE FROM rule_address WHERE rule_id = 2").await;
        let found = repair(&db).await.faults;
        let [RowFault::Unreadable { owner, .. }, mended] = &found[..] else { panic!("{found:?}") };
        assert_eq!((owner.id, mended.is_repairable()), (1, true));
        let left = verify(&db).await.faults;
        assert_eq!(left, found[..1]);
        assert!(left[0].to_string().starts_with("firewall_rule 1: rule.sources of row 1"), "{left:?}");
    }
}

db_test! {
    committed("verification opens the database again")
    async fn what_a_newer_version_wrote_is_left_as_it_is(db: TestDatabase) {
        let parent = make_firewall(&db, "edge").await;
        let newer = make_policy(&db, parent.id, "newer").await;
        let deleted = make_policy(&db, parent.id, "deleted").await;
        make_rule(&db, &newer, parts("10.0.0.1", "any")).await.unwrap();
        let mut uow = write(&db).await;
        let any = Expected::ANYTHING;
        policy::delete(&mut *uow, &caller(), parent.id, deleted.id, &any).await.unwrap();
        uow.commit().await.unwrap();
        let mut listed = Vec::new();
        let options = options(&db.url);
        newer_policies(&options, Features::NONE, &mut |it| listed.push(it)).await.unwrap();
        assert_eq!(listed, []);
        db.execute("UPDATE policy SET features = 5, rule_count = 9").await;
        db.execute("UPDATE rule SET fingerprint = NULL").await;
        for found in [verify(&db).await, repair(&db).await] {
            assert_eq!(found.faults, []);
            assert_eq!(found.left_out, [(1, Features::from_bits(5)), (2, Features::from_bits(5))]);
            assert_eq!((found.counts.policies, found.counts.rules), (0, 0));
        }
        let known = Features::from_bits(1);
        newer_policies(&options, known, &mut |it| listed.push(it)).await.unwrap();
        let seen: Vec<(i64, &str, bool, u64)> = listed
            .iter()
            .map(|it| (it.policy, it.name.as_str(), it.is_deleted, it.features.bits()))
            .collect();
        assert_eq!(seen, [(1, "newer", false, 4), (2, "deleted", true, 4)]);
        newer_policies(&options, Features::from_bits(5), &mut |_| panic!("all is known"))
            .await
            .unwrap();
    }
}
