//! Rules that are generated: the API accepts each of them in any spelling, and answers with the
//! canonical one.

use fireflow_domain::rule::{Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::random::{Random, cases, seed};
use fireflow_domain::testing::rules::{full, full_icmp};
use fireflow_storage::db_test;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::rule_spellings::{address_spellings, any_specs, port_spellings, protocol_spellings};
use crate::rule_strategies::names;
use crate::support::Api;

/// How many rules are written, unless `PROPTEST_CASES` gives another number.
const RULES: u32 = 60;

/// A rule that sets every member except the priority and the ICMP fields.
pub(crate) fn full_rule() -> Value {
    without_priority(&full())
}

/// A rule that sets the ICMP fields, without a priority.
pub(crate) fn full_icmp_rule() -> Value {
    without_priority(&full_icmp())
}

fn without_priority(parts: &RuleParts) -> Value {
    let mut body = body(parts, &mut |all| all[0].clone());
    body.as_object_mut().unwrap().remove("priority");
    body
}

/// A rule in JSON. `pick` chooses one of several spellings.
fn body(parts: &RuleParts, pick: &mut dyn FnMut(Vec<String>) -> String) -> Value {
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
    } = parts;
    let mut ends = |entries: &[Endpoint]| -> Value {
        let entry = |Endpoint { address, port }: &Endpoint| {
            let mut entry = json!({"address": pick(address_spellings(*address))});
            if let Some(port) = port {
                let text = pick(port_spellings(*port));
                entry["port"] = text.parse::<u16>().map_or_else(|_| json!(text), Value::from);
            }
            entry
        };
        entries.iter().map(entry).collect()
    };
    let (sources, destinations) = (ends(sources), ends(destinations));
    let ports: Value =
        ports.iter().map(|it| json!({"from": it.first(), "to": it.last()})).collect();
    let protocols: Vec<String> = protocols.iter().map(|it| pick(protocol_spellings(*it))).collect();
    json!({
        "name": name.as_ref().map(ToString::to_string),
        "action": pick(vec![action.to_string(), action.to_string().to_lowercase()]),
        "priority": priority,
        "protocols": protocols,
        "icmp_type": icmp_type,
        "icmp_code": icmp_code,
        "sources": sources,
        "destinations": destinations,
        "ports": ports,
        "enabled": enabled,
        "log": log,
        "starts_at": starts_at.map(|it| it.to_string()),
        "expires_at": expires_at.map(|it| it.to_string()),
        "description": description.to_string(),
        "reference": reference.to_string(),
        "labels": labels.as_map(),
    })
}

db_test! {
    async fn generated_rules_are_accepted_in_any_spelling_and_answered_in_one(api: Api) {
        let policy = api.policy().await;
        let seed = seed();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut random = Random::new(seed);
        for _ in 0..cases(RULES) {
            let mut parts = any_specs().new_tree(&mut runner).unwrap().current().into_parts();
            parts.name = Some(names().new_tree(&mut runner).unwrap().current());
            let spec = RuleSpec::new(parts).unwrap();
            let mut given = body(&spec, &mut |all| random.pick(&all).unwrap().clone());
            // The first protocol once more: the repetition is dropped.
            let protocols = given["protocols"].as_array_mut().unwrap();
            protocols.extend(protocols.first().cloned());
            let path = format!("{policy}rules/?duplicates=keep");
            let made = api.post(&path, &given).await.expect(201);
            let canonical = body(&spec, &mut |all| all[0].clone());
            for (member, expected) in canonical.as_object().unwrap() {
                let mut answered = made[member].clone();
                if member == "ports" {
                    // One port is answered as a number.
                    for port in answered.as_array_mut().unwrap() {
                        if let Some(number) = port["number"].as_u64() {
                            *port = json!({"from": number, "to": number});
                        }
                    }
                }
                assert_eq!(&answered, expected, "{member} of {given}");
            }
            // The next name could be equal by chance.
            let rule = format!("{policy}rules/{}/", made["id"]);
            let read = api.get(&rule).await.expect(200);
            assert_eq!(read["sources"], made["sources"]);
            api.delete(&rule).await.expect(204);
        }
    }
}
