//! Filters: both databases, in both plans, return what the evaluator in memory returns.

use std::collections::BTreeSet;

use fireflow_domain::actor::Visibility;
use fireflow_domain::analysis::FindingKind;
use fireflow_domain::audit::AuditRecord;
use fireflow_domain::filter::eval::Subject;
use fireflow_domain::filter::parse::MAX_FILTER_CHARS;
use fireflow_domain::filter::{Expression, Filter, Level, RuleFindings};
use fireflow_domain::firewall::Firewall;
use fireflow_domain::labels::Labels;
use fireflow_domain::net::PortRange;
use fireflow_domain::page::PageRequest;
use fireflow_domain::policy::{Policy, PolicySpec};
use fireflow_domain::rule::{Action, Duplicates, Rule, RuleParts, RuleSpec};
use fireflow_domain::store::{AuditFilter, FirewallFilter, PolicyFilter, ReadKind, RuleFilter};
use fireflow_domain::testing::random::{cases, seed};
use fireflow_domain::testing::rule_sets::rule_set;
use fireflow_domain::text::{Description, Name, Reference};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::firewall::NewFirewall;
use fireflow_domain::usecase::rule::NewRule;
use fireflow_domain::usecase::rule_set::{GivenRule, ReplaceOptions, replace};
use fireflow_domain::usecase::{Expected, firewall, policy, rule};
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;
use proptest::collection::btree_map;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::filter_strategies::{
    FIRST_DAY, ICMP, LABEL_KEYS, LABEL_VALUES, PROTOCOLS, TEXTS, addresses, filters, instants,
    ports,
};
use crate::rule_strategies::{self, World, names};
use crate::support::{caller, make_firewall, make_policy, now, read, tenant, write};

/// How many filters are tested per level, unless `PROPTEST_CASES` gives another number.
const FILTERS: u32 = 250;
/// The seed of tests whose filters are written down, so that they always show something.
pub(crate) const SEED: u64 = 7;
const FIREWALLS: usize = 4;
const POLICIES: usize = 2;
const RULES: usize = 10;

/// The data and the filters follow from the seed.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}

fn draw<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).unwrap().current()
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(&LABEL_KEYS[..]), select(&LABEL_VALUES[..]), 0..3).prop_map(|map| {
        let map = map.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Labels::new(map.collect()).unwrap()
    })
}

fn texts() -> impl Strategy<Value = &'static str> {
    select(&TEXTS[..])
}

/// Contents of rules, without names. Their texts and labels are those that filters name.
fn specs() -> impl Strategy<Value = RuleSpec> {
    let specs = rule_strategies::specs(World {
        addresses: addresses().boxed(),
        ports: ports().boxed(),
        protocols: &PROTOCOLS,
        icmp: &ICMP,
        priorities: 0..6,
        instants: Some(instants().boxed()),
    });
    (specs, any::<bool>(), texts(), texts(), labels()).prop_filter_map(
        "the texts fit",
        |(spec, enabled, description, reference, labels)| {
            RuleSpec::new(RuleParts {
                name: None,
                enabled,
                description: Description::parse(description).ok()?,
                reference: Reference::parse(reference).ok()?,
                labels,
                ..spec.into_parts()
            })
            .ok()
        },
    )
}

/// All resources in a database.
pub(crate) struct Data {
    firewalls: Vec<Firewall>,
    policies: Vec<Policy>,
    rules: Vec<Rule>,
    events: Vec<AuditRecord>,
}

pub(crate) async fn fill(db: &TestDatabase, seed: u64) -> Data {
    let mut runner = runner(seed);
    let caller = caller();
    for index in 0..FIREWALLS {
        let mut uow = write(db).await;
        let new = NewFirewall {
            name: Name::parse(&format!("edge-{index}")).unwrap(),
            tenant: Some(tenant(["", "edge-1"][index % 2])),
            description: Description::parse(draw(&mut runner, texts())).unwrap(),
            labels: draw(&mut runner, labels()),
        };
        let firewall = firewall::create(&mut *uow, &caller, new).await.unwrap();
        for index in 0..POLICIES {
            let spec = PolicySpec {
                name: Name::parse(["web", "Web-in"][index]).unwrap(),
                description: Description::parse(draw(&mut runner, texts())).unwrap(),
                labels: draw(&mut runner, labels()),
                default_action: draw(&mut runner, select(&Action::ALL[..])),
            };
            let policy = policy::create(&mut *uow, &caller, firewall.id, spec).await.unwrap();
            for index in 0..RULES {
                let mut parts = draw(&mut runner, specs()).into_parts();
                // Names are unique in a policy. The text of two lines is no name; its rule gets one of
                // any characters. The rule of the empty text has none.
                let any_name = draw(&mut runner, names());
                parts.name = TEXTS
                    .get(index)
                    .filter(|text| !text.is_empty())
                    .map(|text| Name::parse(text).unwrap_or(any_name));
                let new = NewRule {
                    spec: RuleSpec::new(parts).unwrap(),
                    placement: None,
                    duplicates: Duplicates::Keep,
                };
                rule::create(&mut *uow, &caller, firewall.id, policy.id, new).await.unwrap();
            }
        }
        uow.commit().await.unwrap();
    }
    // Earlier versions kept a protocol that was named twice.
    let repeat = "UPDATE rule SET protocols = substr(protocols, 1, length(protocols) - 1) || ',' \
                  || substr(protocols, 2) WHERE protocols <> '[]' AND id % 2 = 0";
    db.execute(repeat).await;
    let repeated = db.integers("SELECT count(*) FROM rule WHERE protocols LIKE '%,%'").await;
    assert!(repeated[0] > 10, "{repeated:?}");
    // Deleted resources and their children match no filter.
    let mut uow = write(db).await;
    let anything = Expected::ANYTHING;
    let doomed = fireflow_domain::ids::FirewallId::new(FIREWALLS as i64).unwrap();
    firewall::delete(&mut *uow, &caller, doomed, &anything).await.unwrap();
    uow.commit().await.unwrap();
    let all = PageRequest::new(1, 1_000).unwrap();
    let mut uow = read(db, ReadKind::Snapshot).await;
    let (who, all) = (&Visibility::All, &all);
    let firewalls = uow.firewalls().page(who, &FirewallFilter::default(), &[], all).await.unwrap();
    let policies =
        uow.policies().page(who, None, &PolicyFilter::default(), &[], all).await.unwrap();
    let rules = uow.rules().page(who, None, &RuleFilter::default(), &[], all).await.unwrap();
    assert_eq!(rules.items.len(), (FIREWALLS - 1) * POLICIES * RULES);
    let events = uow.audit().page(who, &AuditFilter::default(), &[], all).await.unwrap();
    // A deleted resource leaves its events.
    assert_eq!(events.items.len(), FIREWALLS * (1 + POLICIES * (1 + RULES)) + 1);
    Data {
        firewalls: firewalls.items,
        policies: policies.items,
        rules: rules.items,
        events: events.items,
    }
}

impl Data {
    /// Findings about two of three rules, of every kind.
    fn findings(&self) -> RuleFindings {
        let rules = self.rules.iter().filter(|rule| rule.id.get() % 3 > 0);
        FindingKind::ALL
            .into_iter()
            .cycle()
            .zip(rules)
            .map(|(kind, rule)| (kind, rule.id))
            .collect()
    }

    /// The ids that the evaluator selects.
    pub(crate) fn fitting(&self, filter: &Filter, now: Instant) -> BTreeSet<i64> {
        let firewall = |id| self.firewalls.iter().find(|firewall| firewall.id == id).unwrap();
        let policy = |id| self.policies.iter().find(|policy| policy.id == id).unwrap();
        let mut ids = BTreeSet::new();
        match filter.level {
            Level::Firewall => ids.extend(self.firewalls.iter().filter_map(|firewall| {
                filter.fits(Subject::Firewall(firewall), now).then_some(firewall.id.get())
            })),
            Level::Policy => ids.extend(self.policies.iter().filter_map(|policy| {
                let firewall = firewall(policy.firewall.id);
                filter.fits(Subject::Policy(firewall, policy), now).then_some(policy.id.get())
            })),
            Level::Rule => ids.extend(self.rules.iter().filter_map(|rule| {
                let firewall = firewall(rule.policy.firewall.id);
                let policy = policy(rule.policy.id);
                filter.fits(Subject::Rule(firewall, policy, rule), now).then_some(rule.id.get())
            })),
            Level::Event => {
                ids.extend(self.events.iter().filter_map(|event| {
                    filter.fits(Subject::Event(event), now).then_some(event.id)
                }))
            }
        }
        ids
    }
}

/// The ids that the database finds, and the total that it counts.
pub(crate) async fn found(
    db: &TestDatabase,
    filter: &Filter,
    now: Instant,
) -> (BTreeSet<i64>, u64) {
    let all = PageRequest::new(1, 1_000).unwrap();
    let expression = Some(Expression { filter: filter.clone(), at: now });
    let mut uow = read(db, ReadKind::Page).await;
    let who = &Visibility::All;
    let (ids, total): (Vec<i64>, _) = match filter.level {
        Level::Firewall => {
            let filter = FirewallFilter { expression, ..FirewallFilter::default() };
            let page = uow.firewalls().page(who, &filter, &[], &all).await.unwrap();
            (page.items.iter().map(|it| it.id.get()).collect(), page.total)
        }
        Level::Policy => {
            let filter = PolicyFilter { expression, ..PolicyFilter::default() };
            let page = uow.policies().page(who, None, &filter, &[], &all).await.unwrap();
            (page.items.iter().map(|it| it.id.get()).collect(), page.total)
        }
        Level::Rule => {
            let filter = RuleFilter { expression, ..RuleFilter::default() };
            let page = uow.rules().page(who, None, &filter, &[], &all).await.unwrap();
            let exported = uow.rules().following(who, None, &filter, None, 1_000).await.unwrap();
            assert_eq!(exported, page.items);
            (page.items.iter().map(|it| it.id.get()).collect(), page.total)
        }
        Level::Event => {
            let filter = AuditFilter { expression, ..AuditFilter::default() };
            let page = uow.audit().page(who, &filter, &[], &all).await.unwrap();
            (page.items.iter().map(|it| it.id).collect(), page.total)
        }
    };
    (ids.into_iter().collect(), total.unwrap().count)
}

db_test! {
    committed("PostgreSQL plans by statistics of what is committed")
    async fn generated_filters_find_what_the_evaluator_does(db: TestDatabase) {
        let mut db = db;
        let seed = seed();
        let data = fill(&db, seed).await;
        let mut runner = runner(!seed);
        let count = cases(FILTERS);
        let now = Instant::parse(FIRST_DAY).unwrap().plus_micros(3 * 86_400_000_000);
        for level in Level::ALL {
            let (mut fitting, drawn) = (0, count.max(FILTERS));
            for number in 0..drawn {
                let mut filter = draw(&mut runner, filters(level));
                filter.give(&data.findings());
                let expected = data.fitting(&filter, now);
                fitting += u32::from(!expected.is_empty());
                // A share of few filters would be a matter of luck, so more are drawn than asked.
                if number >= count {
                    continue;
                }
                // By candidates of an index if there are any, by the index of the order, and in
                // between.
                for most in [1_000_000, 0, 7] {
                    db.database.set_max_candidates(most);
                    let (ids, total) = found(&db, &filter, now).await;
                    assert_eq!(ids, expected, "most {most}: {filter}");
                    assert_eq!(total, expected.len() as u64, "most {most}: {filter}");
                }
            }
            // A test whose filters find nothing would prove nothing.
            assert!(fitting > drawn / 4, "{level:?}: {fitting} of {drawn}");
        }
    }
}

db_test! {
    committed("PostgreSQL plans by what else the tables have held")
    async fn each_form_is_answered_from_its_index(db: TestDatabase) {
        // PostgreSQL chooses its plan by the contents of the tables.
        for number in 0..3 {
            let made = make_firewall(&db, &format!("edge-{number}")).await;
            let policy = make_policy(&db, made.id, "in").await;
            let given = rule_set(1, number, 1_000, now());
            let given = given.into_iter().map(GivenRule::from).collect();
            let mut uow = write(&db).await;
            let (parent, anything) = ((made.id, policy.id), Expected::ANYTHING);
            let options = ReplaceOptions { duplicates: Duplicates::Keep, ..ReplaceOptions::default() };
            replace(&mut *uow, &caller(), parent, &anything, given, options).await.unwrap();
            uow.commit().await.unwrap();
        }
        db.database.analyze().await.unwrap();
        let plans = |text: &str| {
            let filter = Filter::parse(Level::Rule, text).unwrap();
            Expression { filter, at: Instant::parse(FIRST_DAY).unwrap() }
        };
        for (text, indexes) in [
            ("sources.address CONTAINS 10.40.0.1", &["rule_address_fork"][..]),
            ("sources.address OVERLAPS 10.40.0.0/24", &["rule_address_fork", "rule_address_bounds"]),
            ("sources.address WITHIN 10.0.0.0/24", &["rule_address_bounds"]),
            ("destinations.address = 10.0.0.0/24", &["rule_address_bounds"]),
            ("destinations.address = any", &["rule_address_bounds"]),
            ("sources.port = 22", &["rule_address_port"]),
            ("sources:(port WITHIN 20-30)", &["rule_address_port_bounds"]),
            (
                "destinations.port CONTAINS 9000",
                &["rule_address_port", "rule_port_fork", "rule_without_ports"],
            ),
            (
                "destinations.port OVERLAPS 9000-9010",
                &["rule_address_port_bounds", "rule_port_fork", "rule_port_bounds"],
            ),
            ("ports WITHIN 20-30", &["rule_port_bounds"]),
            ("name = edge", &["rule_name"]),
            ("name = \"edge-*\"", &["rule_name"]),
            ("created_at < 2026-01-01T00:00:00Z", &["rule_created_at"]),
            ("updated_at >= 2027-01-01T00:00:00Z", &["rule_updated_at"]),
            ("expires_at <= 2026-01-01T00:00:00Z", &["rule_expires_at"]),
            ("labels:site", &["rule_label_value"]),
            ("labels.site : FR", &["rule_label_value"]),
            ("warnings = expired", &["rule_expires_at"]),
            ("expires_at < now + 30d", &["rule_expires_at"]),
            ("labels.site IN (fra, \"p*\")", &["rule_label_value"]),
            ("firewall.labels.site = fra", &["firewall_label"]),
            ("filtering_policy.name = web", &["policy_name"]),
            ("traffic:(source = 10.40.0.1)", &["rule_address_fork"]),
        ] {
            let (seeds, walk) = db.plans(&plans(text)).await;
            let [seed] = &seeds[..] else { panic!("{text} has {} seeds", seeds.len()) };
            for index in indexes {
                assert!(seed.contains(index), "{text} is not answered from {index}:\n{seed}");
            }
            // No table is read completely: SQLite calls that SCAN, PostgreSQL Seq Scan. A partial
            // index exists to be read completely.
            let is_scan = |line: &&str| {
                (line.contains("SCAN rule") && !line.contains("rule_without_ports"))
                    || line.contains("Seq Scan")
            };
            assert_eq!(seed.lines().find(is_scan), None, "{text}:\n{seed}");
            if text.starts_with("sources.") || text.starts_with("traffic") {
                assert!(walk.contains("rule_address_rule"), "{text}:\n{walk}");
            }
        }
        // Bounds of one field form one range, and each condition of AND is a seed.
        let (seeds, _) = db
            .plans(&plans(
                "expires_at >= 2026-01-01T00:00:00Z AND expires_at < 2026-02-01T00:00:00Z AND \
                 name = edge AND enabled = true",
            ))
            .await;
        assert_eq!(seeds.len(), 4, "{seeds:?}");
        // No index helps with these.
        for text in [
            "NOT name = edge", "name != edge", "name : edge", "name = \"*edge\"", "enabled = true",
            "name = edge OR enabled = true", "reference : chg", "warnings = ports_without_effect",
            "warnings != expired", "warnings = null", "expires_at = null", "labels.site = null",
        ] {
            assert_eq!(db.plans(&plans(text)).await.0, [] as [String; 0], "{text}");
        }
    }
}

db_test! {
    async fn the_examples_and_ports_in_effect_mean_the_same(db: TestDatabase) {
        let data = fill(&db, SEED).await;
        let now = Instant::parse(FIRST_DAY).unwrap();
        // The examples in the documentation mean the same there.
        let page = include_str!("../../../../docs/filters.md");
        let mut shown = 0;
        for block in page.split("```filter\n").skip(1) {
            let mut lines = block.lines();
            let level = match lines.next().unwrap() {
                "# rules" => Level::Rule,
                "# policies" => Level::Policy,
                "# firewalls" => Level::Firewall,
                "# audit events" => Level::Event,
                other => panic!("{other}"),
            };
            let mut filter = Filter::parse(level, lines.next().unwrap()).unwrap();
            filter.give(&data.findings());
            let expected = data.fitting(&filter, now);
            assert_eq!(found(&db, &filter, now).await.0, expected, "{filter}");
            shown += 1;
        }
        assert!(shown >= 20, "{shown}");
        for text in [
            "destinations.port CONTAINS 22",
            "destinations.port = 0-65535",
            "destinations.port = null",
            "destinations:(port CONTAINS 22 AND NOT port = null)",
            "ports OVERLAPS 22-23",
            "sources.port WITHIN 20-30",
            "traffic:(destination_port = 22)",
            "NOT traffic:(protocol = udp)",
        ] {
            let filter = Filter::parse(Level::Rule, text).unwrap();
            let expected = data.fitting(&filter, now);
            assert!(!expected.is_empty(), "{text} shows nothing");
            assert_eq!(found(&db, &filter, now).await.0, expected, "{text}");
        }
        assert_eq!(PortRange::ALL.to_string(), "0-65535");
    }
}

db_test! {
    async fn the_largest_filters_are_answered(db: TestDatabase) {
        let data = fill(&db, SEED).await;
        let now = Instant::parse(FIRST_DAY).unwrap();
        let many = |join: &str, one: &dyn Fn(usize) -> String| {
            let mut text = one(0);
            for index in 1..128 {
                let next = format!("{join}{}", one(index));
                if text.len() + next.len() > MAX_FILTER_CHARS {
                    break;
                }
                text += &next;
            }
            text
        };
        let v6 = |index: usize| format!("2001:db8::{index:x}");
        let deep = |inner: &str| format!("{}{inner}{}", "NOT (".repeat(32), ")".repeat(32));
        for text in [
            many(" OR ", &|index| format!("sources.address OVERLAPS {}", v6(index))),
            many(" AND ", &|index| format!("NOT destinations.address CONTAINS {}", v6(index))),
            many(" OR ", &|index| format!("destinations.port OVERLAPS {index}-{}", index + 9)),
            many(" AND ", &|index| format!("destinations.port OVERLAPS {index}-65535")),
            many(" OR ", &|index| format!("traffic:(source = {})", v6(index))),
            format!("destinations.address IN ({})", (0..128).map(v6).collect::<Vec<_>>().join(", ")),
            many(" OR ", &|index| format!("name = \"a{index}*\"")),
            format!("name = web OR {}", deep("priority > 1 AND sources.address CONTAINS 10.0.0.1")),
        ] {
            let filter = Filter::parse(Level::Rule, &text)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            let expected = data.fitting(&filter, now);
            assert_eq!(found(&db, &filter, now).await.0, expected, "{text}");
        }
    }
}

db_test! {
    async fn nothing_that_a_filter_holds_becomes_sql(db: TestDatabase) {
        let data = fill(&db, SEED).await;
        let now = Instant::parse(FIRST_DAY).unwrap();
        let injections = [
            "'", "''", "\\'", "' OR '1'='1", "'; DROP TABLE rule; --", "\"; DROP TABLE rule; --",
            "1 OR 1=1", "x' UNION SELECT name FROM firewall --", "%", "_", "%'", "?", "$1", "$1$",
            "{}", "\u{2019}", "/*", "*/ OR 1=1 /*", "\\", "name) OR (1=1", "E'\\x27'", "CHR(39)",
        ];
        for text in injections {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace('*', "\\*");
            for filter in [
                format!("name = \"{quoted}\""),
                format!("name = \"{quoted}*\""),
                format!("name = \"*{quoted}\""),
                format!("name = \"*{quoted}*\""),
                format!("name : \"{quoted}\""),
                format!("reference : \"{quoted}\" OR labels.site : \"{quoted}\""),
                format!("labels.site = \"{quoted}\""),
                format!("NOT firewall.name IN (\"{quoted}\", x)"),
                format!("created_by = \"{quoted}\" OR reference = \"*{quoted}*\""),
            ] {
                let filter = Filter::parse(Level::Rule, &filter)
                    .unwrap_or_else(|error| panic!("{filter}: {error}"));
                let expected = data.fitting(&filter, now);
                assert_eq!(found(&db, &filter, now).await.0, expected, "{filter}");
            }
        }
        // Everything is still there.
        let all = Filter::parse(Level::Rule, "id > 0").unwrap();
        assert_eq!(found(&db, &all, now).await.0.len(), data.rules.len());
    }
}
