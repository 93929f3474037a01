//! Lists on a thousand firewalls and a million rules: `cargo xtask bench lists`.
//!
//! Fills both databases, then requests pages with filters of every form, and walks a list to its
//! end. Prints the median, the 99th percentile and the worst of many pages of 100 rules, each with
//! different values.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a failed measurement panics with its cause, and its figures are for people"
)]

use std::time::{Duration, Instant as Stopwatch};

use fireflow_domain::actor::{Actor, Caller, Role, Visibility};
use fireflow_domain::error::Error;
use fireflow_domain::filter::{Expression, Filter, Level};
use fireflow_domain::labels::Labels;
use fireflow_domain::page::{Counting, Direction, PageRequest, Position, SortKey};
use fireflow_domain::policy::PolicySpec;
use fireflow_domain::rule::{Action, Duplicates, Rule};
use fireflow_domain::store::{ReadKind, RuleField, RuleFilter, Storage, Terms, WriteKind};
use fireflow_domain::testing::random::Random;
use fireflow_domain::testing::rule_sets::rule_set;
use fireflow_domain::text::{Description, Name, Tenant};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::firewall::NewFirewall;
use fireflow_domain::usecase::rule_set::{GivenRule, ReplaceOptions, replace};
use fireflow_domain::usecase::{Expected, firewall, policy, rule};
use fireflow_storage::{Database, DatabaseOptions, DatabaseUrl};

const RULES: usize = 1_000;
const PAGES: usize = 300;
const PAGE: u32 = 100;

fn now() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

fn caller() -> Caller {
    Caller {
        actor: Actor {
            subject: "bench".into(),
            roles: vec![Role::Admin],
            visibility: Visibility::All,
        },
        now: now(),
        request_id: "bench".into(),
        client_address: "127.0.0.1".into(),
        reason: String::new(),
    }
}

async fn fill(database: &Database, firewalls: u32) {
    let start = Stopwatch::now();
    for number in 0..firewalls {
        // One firewall per minute.
        let caller = Caller { now: now().plus_micros(i64::from(number) * 60_000_000), ..caller() };
        let mut uow = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
        let env = ["prod", "staging"][usize::from(number % 5 == 0)];
        let labels = [("env".to_owned(), env.to_owned())].into_iter().collect();
        let new = NewFirewall {
            name: Name::parse(&format!("edge-{number:04}")).unwrap(),
            tenant: Some(Tenant::parse(["", "retail"][usize::from(number % 10 == 0)]).unwrap()),
            description: Description::default(),
            labels: Labels::new(labels).unwrap(),
        };
        let made = firewall::create(&mut *uow, &caller, new).await.unwrap();
        let spec = PolicySpec {
            name: Name::parse("inbound").unwrap(),
            description: Description::default(),
            labels: Labels::default(),
            default_action: Action::Deny,
        };
        let policy = policy::create(&mut *uow, &caller, made.id, spec).await.unwrap();
        let given = rule_set(1, number, RULES, now()).into_iter().map(GivenRule::from).collect();
        let parent = (made.id, policy.id);
        let options = ReplaceOptions { duplicates: Duplicates::Keep, ..ReplaceOptions::default() };
        replace(&mut *uow, &caller, parent, &Expected::ANYTHING, given, options).await.unwrap();
        uow.commit().await.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let rules = f64::from(firewalls) * RULES as f64;
    println!("filled with {rules:.0} rules in {seconds:.0} s ({:.0} a second)", rules / seconds);
}

/// A form of filter, and the function that creates its text.
struct Form {
    name: &'static str,
    /// Whether more rules meet its conditions than the limit of candidates. Counting them all then
    /// takes its time, and is measured for only a few pages.
    is_dense: bool,
    text: fn(&mut Random, &[Rule]) -> String,
}

fn some<'a>(random: &mut Random, rules: &'a [Rule]) -> &'a Rule {
    random.pick(rules).unwrap()
}

/// A host at which the source of some rule begins.
fn host(random: &mut Random, rules: &[Rule]) -> String {
    some(random, rules).spec.sources[0].address.first().to_string()
}

fn network(random: &mut Random) -> String {
    format!("10.{}.{}.0/24", random.below(64), random.below(256))
}

const FORMS: &[Form] = &[
    Form {
        name: "traffic from a /24 to tcp port 22",
        is_dense: false,
        text: |random, _| {
            let source = network(random);
            format!("traffic:(source = {source} AND protocol = tcp AND destination_port = 22)")
        },
    },
    Form {
        name: "traffic between two hosts, port 443",
        is_dense: false,
        text: |random, rules| {
            let rule = some(random, rules);
            let (source, destination) =
                (rule.spec.sources[0].address.first(), rule.spec.destinations[0].address.first());
            if source.is_ipv4() != destination.is_ipv4() || destination.is_unspecified() {
                return "traffic:(source = 10.1.2.3 AND destination = 10.4.5.6 AND \
                        destination_port = 443)"
                    .to_owned();
            }
            format!(
                "traffic:(source = {source} AND destination = {destination} AND protocol = tcp \
                 AND destination_port = 443)"
            )
        },
    },
    Form {
        name: "sources.address CONTAINS a host",
        is_dense: false,
        text: |random, rules| format!("sources.address CONTAINS {}", host(random, rules)),
    },
    Form {
        name: "destinations.address OVERLAPS a /24",
        is_dense: false,
        text: |random, _| format!("destinations.address OVERLAPS {}", network(random)),
    },
    Form {
        name: "destinations.address WITHIN a /24",
        is_dense: false,
        text: |random, _| format!("destinations.address WITHIN {}", network(random)),
    },
    Form {
        name: "destinations.address = a block",
        is_dense: false,
        text: |random, rules| {
            format!("destinations.address = {}", some(random, rules).spec.destinations[0].address)
        },
    },
    Form {
        name: "an own port of a destination",
        is_dense: false,
        text: |random, _| format!("destinations:(port = {})", 8_000 + random.below(999)),
    },
    Form {
        name: "name = \"prefix*\"",
        is_dense: false,
        text: |random, _| format!("name = \"db-{}-*\"", 10 * random.below(1_000)),
    },
    Form {
        name: "labels.audit = q1",
        is_dense: false,
        text: |random, _| format!("labels.audit = q{}", 1 + random.below(4)),
    },
    Form {
        name: "expires within an hour",
        is_dense: false,
        text: |random, _| {
            let from = now().plus_micros(i64::from(random.below(200)) * 86_400_000_000);
            let to = from.plus_micros(3_600_000_000);
            format!("expires_at >= {from} AND expires_at < {to} AND enabled = true")
        },
    },
    Form {
        name: "one firewall, by name, and priority",
        is_dense: false,
        text: |random, _| {
            format!("firewall.name = edge-{:04} AND priority < 5000", random.below(1_000))
        },
    },
    Form {
        name: "a host in a source, or a name",
        is_dense: false,
        text: |random, rules| {
            format!(
                "sources.address CONTAINS {} OR name = \"vpn-{}-*\"",
                host(random, rules),
                10 * random.below(1_000)
            )
        },
    },
    Form {
        name: "a host in a source, and a text",
        is_dense: false,
        text: |random, rules| {
            format!("description : ticket AND sources.address CONTAINS {}", host(random, rules))
        },
    },
    Form {
        name: "many, evenly: labels.team = web AND action = ALLOW",
        is_dense: true,
        text: |_, _| "labels.team = web AND action = ALLOW".to_owned(),
    },
    Form {
        name: "many, evenly: destinations.port CONTAINS 443",
        is_dense: true,
        text: |random, _| {
            format!("destinations.port CONTAINS {}", [443, 80, 22][random.below(3) as usize])
        },
    },
    Form {
        name: "many, evenly: NOT enabled = true AND state != expired",
        is_dense: true,
        text: |_, _| "NOT enabled = true AND state != expired".to_owned(),
    },
];

/// Filters without a promised time: no index helps, and the matches are far away or missing.
const WORST: &[(&str, &str)] = &[
    ("no index: reference = \"*99999x\"", "reference = \"*99999x\""),
    (
        "many candidates, none fits: labels.team = web AND name = \"*x\"",
        "labels.team = web AND name = \"*x\"",
    ),
    ("a /16 of a site: sources.address WITHIN 10.7.0.0/16", "sources.address WITHIN 10.7.0.0/16"),
];

async fn ask(
    database: &Database,
    text: &str,
    counting: Counting,
) -> (Duration, Result<usize, Error>) {
    let filter = Filter::parse(Level::Rule, text).unwrap();
    let expression = Some(Expression { filter, at: now() });
    let filter = RuleFilter { expression, ..RuleFilter::default() };
    let mut request = PageRequest::behind(None, PAGE).unwrap();
    request.counting = counting;
    let start = Stopwatch::now();
    let mut uow = database.read(ReadKind::Page, &Terms::default()).await.unwrap();
    let page = rule::page_of_all(&mut *uow, &caller(), &filter, &[], &request).await;
    drop(uow);
    (start.elapsed(), page.map(|page| page.items.len()))
}

fn line(name: &str, mut times: Vec<Duration>, note: &str) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{name:55} {:8.2} {:8.2} {:8.2}   {note}",
        ms(at(50)),
        ms(at(99)),
        ms(times[times.len() - 1])
    );
}

async fn measure(database: &Database) {
    let mut random = Random::new(42);
    // Values that occur, from rules all over the list.
    let mut samples = Vec::new();
    for number in 1..=100 {
        let mut uow = database.read(ReadKind::Snapshot, &Terms::default()).await.unwrap();
        let request = PageRequest::new(number * 9, PAGE).unwrap();
        let filter = RuleFilter::default();
        let page = rule::page_of_all(&mut *uow, &caller(), &filter, &[], &request).await.unwrap();
        samples.extend(page.items);
    }
    println!("{:55} {:>8} {:>8} {:>8}   ms a page of {PAGE}", "", "p50", "p99", "worst");
    for form in FORMS {
        for counting in [Counting::Skipped, Counting::Bounded, Counting::Exact] {
            let pages =
                if form.is_dense && counting == Counting::Exact { PAGES / 20 } else { PAGES };
            let mut times = Vec::new();
            let mut found = 0;
            for _ in 0..pages {
                let text = (form.text)(&mut random, &samples);
                let (time, items) = ask(database, &text, counting).await;
                found += items.unwrap();
                times.push(time);
            }
            let total = words(counting);
            let note = format!("{total}{:.1} rules a page", found as f64 / pages as f64);
            line(form.name, times, &note);
        }
    }
    for (name, text) in WORST {
        for counting in [Counting::Skipped, Counting::Bounded, Counting::Exact] {
            let (time, items) = ask(database, text, counting).await;
            let items = items.map_or_else(|error| error.to_string(), |it| format!("{it} rules"));
            let total = words(counting);
            line(name, vec![time], &format!("{total}{items}"));
        }
    }
}

const fn words(counting: Counting) -> &'static str {
    match counting {
        Counting::Skipped => "",
        Counting::Bounded => "total up to 1,000, ",
        Counting::Exact => "exact total, ",
    }
}

fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// One page of all rules in an order, and its time.
async fn page(
    database: &Database,
    order: &[SortKey<RuleField>],
    request: &PageRequest,
) -> (Duration, Option<Position>) {
    let start = Stopwatch::now();
    let mut uow = database.read(ReadKind::Page, &Terms::default()).await.unwrap();
    let filter = RuleFilter::default();
    let page = rule::page_of_all(&mut *uow, &caller(), &filter, order, request).await.unwrap();
    drop(uow);
    (start.elapsed(), page.next)
}

/// Walks the list of all rules to its end by cursor. Then compares the list's last page, by its
/// cursor, with the first page of the opposite order, which contains the same rules. The two are
/// measured alternately, since the machine's speed varies.
async fn walk(database: &Database, field: RuleField, direction: Direction) {
    let opposite = match direction {
        Direction::Ascending => Direction::Descending,
        Direction::Descending => Direction::Ascending,
    };
    let order = [SortKey { field, direction }];
    let opposite = [SortKey { field, direction: opposite }];
    let first = PageRequest::behind(None, PAGE).unwrap();
    let (mut deep, mut count, mut memory) = (first.clone(), 0, Vec::new());
    let start = Stopwatch::now();
    loop {
        let (_, next) = page(database, &order, &deep).await;
        count += 1;
        if count % 1_000 == 0 {
            memory.push(memory_kib() / 1024);
        }
        let Some(next) = next else { break };
        deep = PageRequest::behind(Some(next), PAGE).unwrap();
    }
    let whole = start.elapsed().as_secs_f64();
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        firsts.push(page(database, &opposite, &first).await.0);
        lasts.push(page(database, &order, &deep).await.0);
    }
    let middle = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let (first, last) = (middle(firsts), middle(lasts));
    println!(
        "by {} {direction:?}: {count} pages in {whole:.0} s; the last page {last:.2} ms, the same \
         rules as a first page {first:.2} ms: {:.2} times; memory {} to {} MB",
        field.as_str(),
        last / first,
        memory.iter().min().unwrap_or(&0),
        memory.iter().max().unwrap_or(&0),
    );
}

async fn run(url: &str, firewalls: u32) {
    let options = DatabaseOptions {
        url: DatabaseUrl::parse(url).unwrap(),
        read_url: None,
        max_connections: 4,
        list_timeout: Duration::from_secs(5),
        acquire_timeout: Duration::from_secs(60),
        turn_timeout: Duration::from_secs(60),
        write_group: fireflow_storage::WRITE_GROUP,
        observer: None,
        features: fireflow_domain::features::FEATURES_KNOWN,
        policy_limits: fireflow_domain::limits::PolicyLimits::default(),
        purpose: fireflow_storage::Purpose::Serve,
    };
    let database = Database::open(options).await.unwrap();
    database.migrate_up("local").await.unwrap();
    let mut uow = database.read(ReadKind::Snapshot, &Terms::default()).await.unwrap();
    let first = PageRequest::first();
    let filter = RuleFilter::default();
    let page = rule::page_of_all(&mut *uow, &caller(), &filter, &[], &first).await.unwrap();
    drop(uow);
    if page.items.is_empty() {
        fill(&database, firewalls).await;
        // PostgreSQL does this by itself a minute later.
        database.analyze().await.unwrap();
    }
    measure(&database).await;
    walk(&database, RuleField::Id, Direction::Ascending).await;
    walk(&database, RuleField::Name, Direction::Ascending).await;
    walk(&database, RuleField::CreatedAt, Direction::Descending).await;
    walk(&database, RuleField::ExpiresAt, Direction::Ascending).await;
    database.close().await.unwrap();
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let firewalls = std::env::var("FIREFLOW_BENCH_FIREWALLS").ok();
    let firewalls = firewalls.and_then(|it| it.parse().ok()).unwrap_or(1_000);
    for variable in ["FIREFLOW_BENCH_SQLITE_URL", "FIREFLOW_BENCH_POSTGRES_URL"] {
        if let Ok(url) = std::env::var(variable) {
            println!("\n{variable}");
            runtime.block_on(run(&url, firewalls));
        }
    }
}
