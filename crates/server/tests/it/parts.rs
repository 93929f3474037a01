//! PUT of a rule set: a part of a list is not accepted as the whole set.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::generated_rules::{full_icmp_rule, full_rule};
use crate::support::{Answer, Api, changed, encoded, plain_rule, written_members};

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

async fn export(api: &Api, path: &str, format: &str) -> String {
    let answer = api.with("GET", path, &[("accept", format)], None).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    answer.text
}

async fn put(api: &Api, path: &str, format: &str, text: &str) -> Answer {
    let authorization = format!("Bearer {}", api.token());
    let headers = [("authorization", authorization.as_str()), ("content-type", format)];
    api.raw("PUT", path, &headers, text.as_bytes().to_vec()).await
}

/// `count` plain rules, with names in their order.
async fn fill(api: &Api, policy: &str, count: usize) -> Vec<Value> {
    let rule = |index: usize| {
        let mut rule = plain_rule();
        rule["name"] = json!(format!("r{index}"));
        rule["priority"] = json!(index);
        rule["sources"] = json!([{"address": format!("10.0.{}.{}", index / 256, index % 256)}]);
        rule
    };
    let set: Vec<Value> = (0..count).map(rule).collect();
    api.put(&format!("{policy}rules/"), &json!(set)).await.expect(200);
    let list = api.get(&format!("{policy}rules/?page_size=1000")).await.expect(200);
    assert_eq!(list["partial"], json!([]), "it is all");
    list["items"].as_array().unwrap().clone()
}

/// Rules that use all members, and texts that are hard to encode.
fn varied() -> Vec<Value> {
    let any = json!([{"address": "any"}]);
    let texts = [
        "plain",
        "=SUM(A1)",
        "'=quoted",
        "''+1",
        "-1",
        "@x",
        "a, b; c",
        "\"quoted\"",
        "größe 東京 😀",
        "it's",
        "'",
        "[]",
        "null",
        "443",
    ];
    let mut rules: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            // A member that is not named here is that of the full rule.
            changed(full_rule(), &json!({
                "name": format!("{text}"), "action": (["ALLOW", "DENY", "REJECT"][index % 3]),
                "sources": [
                    {"address": format!("10.{index}.0.0/16"), "port": "1024-65535"},
                    {"address": format!("192.0.2.{index}")},
                    {"address": "2001:db8::/32"},
                ],
                "destinations": [{"address": "198.51.100.1-198.51.100.9", "port": 8443}, {"address": "any"}],
                "protocols": (if index % 2 == 0 { json!(["udp", "tcp"]) } else { json!([]) }),
                "ports": (if index % 4 == 0 { json!([]) } else { json!([{"number": 0}, {"from": 8000, "to": 8100}]) }),
                "description": format!("{text}\n=second line\r\n\tthird, \"{text}\"\u{200d}"),
                "reference": text, "labels": {"site": text, "team": "net;ops"},
                "enabled": index % 5 != 0, "log": index % 2 == 1,
                "starts_at": (if index % 3 == 0 { json!("2026-01-01T00:00:00.5Z") } else { Value::Null }),
                "expires_at": (if index % 3 == 1 { json!("2026-02-01T00:00:00Z") } else { Value::Null }),
            }))
        })
        .collect();
    rules.push(changed(full_icmp_rule(), &json!({
        "action": "ALLOW", "sources": any, "destinations": any, "protocols": ["icmp"], "icmp_type": 8,
        "icmp_code": 0,
    })));
    rules.push(
        json!({"action": "DENY", "sources": any, "destinations": any, "protocols": ["gre", 200]}),
    );
    // A rule with a warning.
    rules.push(json!({
        "name": "warns", "action": "DENY", "sources": [{"address": "10.9.9.9"}],
        "destinations": [{"address": "10.9.9.8"}, {"address": "2001:db8::8"}], "log": true,
    }));
    rules
}

/// The members that must be equal in both rules.
fn content(rule: &Value) -> Value {
    let mut rule = rule.clone();
    for name in [
        "id",
        "filtering_policy",
        "revision",
        "created_at",
        "created_by",
        "updated_at",
        "updated_by",
    ] {
        rule.as_object_mut().unwrap().remove(name).unwrap();
    }
    rule
}

#[track_caller]
fn assert_counts(answer: &Value, counts: [usize; 4]) {
    let names = ["created", "updated", "deleted", "unchanged"];
    assert_eq!(
        names.map(|name| answer[name].clone()),
        counts.map(|count| json!(count)),
        "{answer}"
    );
}

db_test! {
    async fn a_part_of_a_list_says_so_and_is_refused_as_the_whole(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        fill(&api, &policy, 25).await;
        let beginning = api.get(&format!("{path}?cursor=&page_size=20")).await.expect(200);
        let cursor = beginning["next_cursor"].as_str().unwrap().to_owned();
        for (query, parts) in [
            ("", vec!["page"]),
            ("page=3", vec!["page"]),
            ("page=9", vec!["page"]),
            ("page_size=24", vec!["page"]),
            ("cursor=&page_size=20", vec!["page"]),
            // The last page of a walk by cursor has neither a page number nor a next cursor.
            (format!("cursor={cursor}&page_size=20").as_str(), vec!["page"]),
            ("page_size=25&name=r1", vec!["filter"]),
            ("page_size=25&action=ALLOW", vec!["filter"]),
            ("page_size=25&deleted=true", vec!["filter"]),
            (format!("page_size=25&filter={}", encoded("enabled = true")).as_str(), vec!["filter"]),
            ("page_size=25&fields=name,action,sources,destinations", vec!["fields"]),
            ("fields=name&action=ALLOW&page_size=9", vec!["page", "filter", "fields"]),
        ] {
            for list in [path.as_str(), "/rules/"] {
                let list_path = format!("{list}?{query}");
                let answer = api.get(&list_path).await;
                if answer.status.as_u16() != 200 {
                    // A cursor belongs to its list.
                    assert!(query.starts_with(&format!("cursor={cursor}")) && list == "/rules/");
                    continue;
                }
                let list = answer.expect(200);
                assert_eq!(list["partial"], json!(parts), "{list_path}");
                let mut refused = vec![list.clone()];
                // Earlier versions had no such mark; the other signs of a partial list are enough.
                let mut unmarked = list;
                unmarked.as_object_mut().unwrap().remove("partial");
                if !unmarked["next_cursor"].is_null() || unmarked["page"].as_u64() > Some(1) {
                    refused.push(unmarked);
                }
                for body in refused {
                    let all = format!("{path}?max_deletions=25");
                    let problem = api.put(&all, &body).await.problem(422, "partial");
                    let detail = problem["detail"].as_str().unwrap();
                    assert!(detail.contains("part of a list") && !detail.contains('\\'), "{detail}");
                }
            }
        }
        let written: Vec<&str> = written_members().collect();
        let every = format!("page_size=25&fields=priority,{}", written.join(","));
        for query in ["page_size=25", "cursor=&page_size=1000", &every, "page_size=25&order_by=-name"] {
            let list = api.get(&format!("{path}?{query}")).await.expect(200);
            assert_eq!(list["partial"], json!([]), "{query}");
            assert_counts(&api.put(&path, &list).await.expect(200), [0, 0, 0, 25]);
        }
        for odd in [json!("page"), json!(7), json!({"page": true}), json!(["anything"])] {
            let body = json!({"items": [], "partial": odd});
            api.put(&format!("{path}?max_deletions=25"), &body).await.problem(422, "partial");
        }
        // A client that read all rules may add one, because `total` is ignored.
        let mut list = api.get(&format!("{path}?page_size=100")).await.expect(200);
        let mut new = plain_rule();
        new["priority"] = json!(1_000);
        list["items"].as_array_mut().unwrap().push(new);
        assert_counts(&api.put(&path, &list).await.expect(200), [1, 0, 0, 25]);
    }
}

db_test! {
    async fn exports_of_all_rules_can_be_put_back_and_into_another_policy(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        let set = varied();
        let count = set.len();
        api.put(&path, &json!(set)).await.expect(200);
        let whole = api.get(&format!("{path}?page_size=1000")).await.expect(200);
        let revision = api.get(&policy).await.expect(200)["revision"].clone();
        let list = policy.rsplit_once("filtering-policies").unwrap().0.to_owned() + "filtering-policies/";
        for (number, format) in ["application/json", NDJSON, "application/ndjson", CSV].iter().enumerate() {
            let text = match number {
                0 => whole.to_string(),
                _ => export(&api, &path, format).await,
            };
            let media_type = format!("{format}; charset=utf-8");
            let answer = put(&api, &path, &media_type, &text).await.expect(200);
            assert_counts(&answer, [0, 0, 0, count]);
            assert_eq!(answer["revision"], revision, "{format}");
            let other = json!({"name": format!("copy {number}"), "default_action": "DENY"});
            let other = api.post(&list, &other).await.expect(201);
            let other = format!("{list}{}/rules/", other["id"]);
            // A set from another policy is only accepted with `identity=name`.
            put(&api, &other, format, &text).await.problem(422, "invalid");
            let by_name = format!("{other}?identity=name");
            let answer = put(&api, &by_name, format, &text).await.expect(200);
            assert_counts(&answer, [count, 0, 0, 0]);
            let answer = put(&api, &by_name, format, &text).await.expect(200);
            assert_counts(&answer, [0, 0, 0, count]);
            let copy = api.get(&format!("{other}?page_size=1000")).await.expect(200);
            let all = |list: &Value| list["items"].as_array().unwrap().iter().map(content).collect::<Vec<_>>();
            assert_eq!(all(&copy), all(&whole), "{format}");
        }
    }
}

db_test! {
    async fn csv_is_read_by_its_header(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        fill(&api, &policy, 12).await;
        let text = export(&api, &path, CSV).await;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows: Vec<Vec<String>> = reader
            .records()
            .map(|row| row.unwrap().iter().map(str::to_owned).collect())
            .collect();
        let write = |columns: &[&str], change: &dyn Fn(usize, &str, &str) -> String| {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(columns).unwrap();
            for (number, row) in rows.iter().enumerate() {
                let cell = |name: &&str| {
                    let at = header.iter().position(|it| it == name);
                    change(number, name, at.map_or("", |at| row[at].as_str()))
                };
                writer.write_record(columns.iter().map(cell)).unwrap();
            }
            String::from_utf8(writer.into_inner().unwrap()).unwrap()
        };
        let as_it_is = |_: usize, _: &str, cell: &str| cell.to_owned();
        let mut turned: Vec<&str> = header.iter().map(String::as_str).collect();
        turned.reverse();
        // The columns have another order, and the file has a spreadsheet's byte order mark.
        let marked = format!("\u{feff}{}", write(&turned, &as_it_is));
        assert_counts(&put(&api, &path, CSV, &marked).await.expect(200), [0, 0, 0, 12]);
        // A member may lack its column if all rules have the default.
        let few = ["id", "name", "action", "priority", "protocols", "sources", "destinations"];
        assert_counts(&put(&api, &path, CSV, &write(&few, &as_it_is)).await.expect(200), [0, 0, 0, 12]);
        let fewer: Vec<&str> = few.into_iter().filter(|name| *name != "protocols").collect();
        let problem = put(&api, &path, CSV, &write(&fewer, &as_it_is)).await.problem(422, "invalid");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 12);
        assert_eq!(problem["errors"][3]["pointer"], "#/3/protocols");
        assert!(problem["errors"][3]["detail"].as_str().unwrap().contains("`[]`"), "{problem}");
        // Rows can be added without the members that clients do not write.
        let added = format!(
            "{}\r\n,new,DENY,999,tcp,192.0.2.1,any\r\n",
            write(&few, &as_it_is).trim_end()
        );
        assert_counts(&put(&api, &path, CSV, &added).await.expect(200), [1, 0, 0, 12]);
        let back = format!("{path}?max_deletions=1");
        assert_counts(&put(&api, &back, CSV, &text).await.expect(200), [0, 0, 1, 12]);

        let unknown = |name: &'static str| {
            let mut columns = few.to_vec();
            columns.push(name);
            write(&columns, &as_it_is)
        };
        for (text, words) in [
            (unknown("protocl"), "`protocl` is not a column of an export; did you mean `protocols`?"),
            (unknown("name"), "duplicate column `name`"),
            (unknown(""), "`` is not a column"),
        ] {
            let problem = put(&api, &path, CSV, &text).await.problem(422, "invalid");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.starts_with("line 1: ") && detail.contains(words), "{detail}");
        }
        // Each fault names its rule and its line.
        for (column, bad, pointer) in [
            ("action", "PERMIT", "#/2/action"),
            ("priority", "first", "#/2/priority"),
            ("protocols", "tcp; tpc", "#/2/protocols/1"),
            ("sources", "10.0.0.1/8", "#/2/sources/0/address"),
            ("sources", "", "#/2/sources"),
            ("sources", "any;;any", "#/2/sources/1/address"),
            ("destinations", "any 70000", "#/2/destinations/0/port"),
            ("id", "x", "#/2/id"),
        ] {
            let text = write(&few, &|number, name, cell| {
                if number == 2 && name == column { bad.to_owned() } else { cell.to_owned() }
            });
            let problem = put(&api, &path, CSV, &text).await.problem(422, "invalid");
            let fault = &problem["errors"][0];
            assert_eq!(fault["pointer"], pointer, "{bad}: {problem}");
            assert!(fault["detail"].as_str().unwrap().starts_with("line 4: "), "{problem}");
        }
        let short = format!("{}\r\n1,2,3\r\n", write(&few, &as_it_is).trim_end());
        let problem = put(&api, &path, CSV, &short).await.problem(422, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains("line 14: has 3 cells"), "{problem}");
        // The lines of an export end with CR LF, and cells may contain line ends.
        let ends = text.replacen(",ALLOW,", ",\"PER\nMIT\",", 3).replacen("\r\n", "\r\n\r\n", 1);
        let problem = put(&api, &path, CSV, &ends).await.problem(422, "invalid");
        for (fault, line) in problem["errors"].as_array().unwrap().iter().zip([3, 5, 7]) {
            let detail = fault["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("line {line}: `PER")), "{problem}");
        }
        let cut = text.replacen(",ALLOW,", ",", 2);
        let problem = put(&api, &path, CSV, &cut).await.problem(422, "invalid");
        assert_eq!(problem["errors"][1]["pointer"], "#/1");
        assert!(problem["errors"][1]["detail"].as_str().unwrap().starts_with("line 3: has "));
        let cells = [("enabled", "yes"), ("labels", "{\"a\""), ("ports", "x"), ("state", "established")];
        for (column, bad) in cells {
            let mut columns = few.to_vec();
            columns.push(column);
            let text = write(&columns, &|_, name, cell| {
                if name == column { bad.to_owned() } else { cell.to_owned() }
            });
            let problem = put(&api, &path, CSV, &text).await.problem(422, "invalid");
            assert_eq!(problem["errors"].as_array().unwrap().len(), 12, "{column}");
        }
        assert_eq!(export(&api, &path, CSV).await, text, "nothing was changed by any of them");
    }
}

db_test! {
    async fn a_body_that_is_no_set_says_what_it_is(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/?max_deletions=1000");
        fill(&api, &policy, 3).await;
        for format in ["application/json", NDJSON, CSV] {
            for empty in ["", " \r\n "] {
                let answer = put(&api, &path, format, empty).await;
                let problem = answer.problem(400, "malformed_json");
                assert!(problem["detail"].as_str().unwrap().contains("the request body is empty"));
            }
        }
        for (body, pointer) in [("{}", "#"), ("{\"rules\": []}", "#"), ("{\"items\": 7}", "#"), ("{\"items\": {}}", "#"), ("7", "#")] {
            let problem = put(&api, &path, "application/json", body).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
        for (format, body) in [
            ("application/json", "[1"),
            (NDJSON, "{\"action\": \"DENY\"}\n{"),
            (NDJSON, "[]\nnonsense"),
        ] {
            let problem = put(&api, &path, format, body).await.problem(400, "malformed_json");
            assert!(problem["detail"].as_str().unwrap().contains("line "), "{problem}");
        }
        let problem = put(&api, &path, NDJSON, "{\"action\": \"ALLOW\"}\n\n7\n").await;
        let problem = problem.problem(422, "invalid");
        let last = problem["errors"].as_array().unwrap().last().unwrap();
        assert_eq!(last["pointer"], "#/1");
        assert!(last["detail"].as_str().unwrap().starts_with("line 3: "), "{problem}");
        put(&api, &path, "text/plain", "[]").await.problem(415, "unsupported_media_type");
        let empty = put(&api, &policy, "application/json", "").await;
        assert_ne!(empty.status.as_u16(), 200);
        assert_eq!(api.get(&policy).await.expect(200)["rule_count"], 3);
        // Both bodies explicitly contain no rules.
        let header = export(&api, &format!("{policy}rules/?name=none"), CSV).await;
        assert_counts(&put(&api, &path, CSV, &header).await.expect(200), [0, 0, 3, 0]);
        assert_counts(&put(&api, &path, "application/json", "[]").await.expect(200), [0, 0, 0, 0]);
    }
}

db_test! {
    async fn a_rule_that_is_there_must_carry_what_decides(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        let mut rules = Vec::new();
        for (index, decisive) in [
            json!({
                "name": "ping", "protocols": ["icmp"], "enabled": false,
                "starts_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z",
            }),
            json!({"name": "echo", "protocols": ["icmp"], "icmp_type": 8}),
            json!({"name": "unreachable", "protocols": ["icmp"], "icmp_type": 3, "icmp_code": 1}),
            json!({"name": "web", "ports": [{"number": 443}], "log": true}),
        ].into_iter().enumerate() {
            let mut decisive = decisive;
            decisive["priority"] = json!(index);
            decisive["sources"] = json!([{"address": format!("192.0.2.{index}")}]);
            rules.push(api.rule(&policy, &decisive).await);
        }
        for (index, member, cleared) in [
            (0, "protocols", json!([])), (0, "enabled", json!(true)), (0, "starts_at", json!(null)),
            (0, "expires_at", json!(null)), (1, "icmp_type", json!(null)),
            (2, "icmp_code", json!(null)), (3, "ports", json!([])), (3, "protocols", json!([])),
            (3, "action", json!("DENY")), (3, "sources", json!([])), (3, "destinations", json!([])),
        ] {
            for by in ["id", "name"] {
                let mut set = rules.clone();
                // The rules are identified by only one of the two members.
                for given in &mut set {
                    given.as_object_mut().unwrap().remove(if by == "id" { "name" } else { "id" });
                }
                set[index].as_object_mut().unwrap().remove(member);
                let problem = api.put(&path, &json!(set)).await.problem(422, "invalid");
                let [fault] = &problem["errors"].as_array().unwrap()[..] else { panic!("{problem}") };
                assert_eq!(fault["pointer"], format!("#/{index}/{member}"), "{problem}");
                let detail = fault["detail"].as_str().unwrap();
                let is_required = detail == "is required";
                assert!(is_required || detail.contains(&format!("`{cleared}`")), "{detail}");
            }
        }
        for rule in &rules {
            assert_eq!(api.get(&format!("{path}{}/", rule["id"])).await.expect(200), *rule);
        }
        // Members that do not decide may be omitted, and explicit values clear the others.
        let mut set = rules.clone();
        set[0]["enabled"] = json!(true);
        set[1]["icmp_type"] = json!(null);
        set[3].as_object_mut().unwrap().remove("log");
        set[3]["ports"] = json!([]);
        assert_counts(&api.put(&path, &json!(set)).await.expect(200), [0, 3, 0, 1]);
        // A rule that is identified by its content is treated in the same way.
        let twin = api.rule(&policy, &json!({"sources": [{"address": "192.0.2.77"}], "enabled": false})).await;
        let mut list = api.get(&format!("{path}?page_size=100")).await.expect(200)["items"].clone();
        let last = list.as_array_mut().unwrap().iter_mut().find(|it| it["id"] == twin["id"]).unwrap();
        for member in ["id", "name", "enabled"] {
            last.as_object_mut().unwrap().remove(member);
        }
        api.put(&path, &list).await.problem(422, "invalid");
    }
}

db_test! {
    async fn deletions_of_many_need_their_number(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        for (count, free) in [(1_usize, 0_usize), (5, 0), (9, 0), (10, 1), (25, 2), (120, 10)] {
            let put_count = async |left: usize, number: Option<usize>| {
                let list = api.get(&format!("{path}?page_size=1000")).await.expect(200);
                let set: Vec<Value> = list["items"].as_array().unwrap().iter().take(left).cloned().collect();
                let number = number.map(|it| format!("?max_deletions={it}")).unwrap_or_default();
                api.put(&format!("{path}{number}"), &json!(set)).await
            };
            api.put(&format!("{path}?max_deletions=1000"), &json!([])).await.expect(200);
            fill(&api, &policy, count).await;
            let problem = put_count(count - free - 1, None).await.problem(428, "deletion_count_required");
            let detail = problem["detail"].as_str().unwrap();
            let deleted = free + 1;
            assert!(detail.contains(&format!("leaves out {deleted} of the {count} rules")), "{detail}");
            assert!(detail.contains(&format!("`r{}`", count - free - 1)), "{detail}");
            assert!(detail.contains(&format!("max_deletions={deleted}")), "{detail}");
            let problem = put_count(0, Some(count - 1)).await;
            problem.problem(428, "deletion_count_required");
            let dry = put_count(count - free, Some(0)).await;
            if free > 0 {
                dry.problem(428, "deletion_count_required");
            } else {
                assert_counts(&dry.expect(200), [0, 0, 0, count]);
            }
            assert_eq!(api.get(&policy).await.expect(200)["rule_count"], count);
            assert_counts(&put_count(count - free, None).await.expect(200), [0, 0, free, count - free]);
            let left = count - free;
            assert_counts(&put_count(0, Some(left)).await.expect(200), [0, 0, left, 0]);
        }
        for bad in ["-1", "many", ""] {
            api.put(&format!("{path}?max_deletions={bad}"), &json!([])).await.problem(422, "invalid");
        }
        // A batch names each rule that it deletes.
        let rules = fill(&api, &policy, 12).await;
        let all: Vec<Value> =
            rules.iter().map(|rule| json!({"op": "delete", "rule_id": rule["id"]})).collect();
        api.post(&format!("{path}batch/"), &json!({"operations": all})).await.expect(200);
    }
}

db_test! {
    async fn rules_of_a_set_repeat_read_only_members_as_they_are(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        let read = fill(&api, &policy, 3).await;
        let with = |index: usize, member: &str, value: Value| {
            let mut set = read.clone();
            set[index][member] = value;
            json!(set)
        };
        for (member, value, words) in [
            ("state", json!("disabled"), "`enabled`"),
            ("position", json!(3), "`rules/move/`"),
            ("created_at", json!("2001-01-01T00:00:00Z"), "the service records"),
            ("created_by", json!("somebody"), "the service records"),
            ("revision", json!(77), "the service counts"),
            ("warnings", json!([{"code": "expired", "pointer": "#/expires_at", "detail": "x"}]), "points to"),
            ("deleted_at", json!("2001-01-01T00:00:00Z"), "DELETE"),
        ] {
            let problem = api.put(&path, &with(1, member, value)).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], format!("#/1/{member}"));
            assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
        }
        let problem = api.put(&path, &with(1, "filtering_policy", json!({"id": 77}))).await;
        problem.problem(422, "invalid");
        // A new rule may not repeat read-only members.
        let mut copied = read.clone();
        let mut copy = read[0].clone();
        copy.as_object_mut().unwrap().remove("id");
        copy["name"] = json!("copy");
        copy["sources"] = json!([{"address": "192.0.2.3"}]);
        copied.push(copy);
        let problem = api.put(&path, &json!(copied)).await.problem(422, "invalid");
        let pointers: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|it| it["pointer"].as_str().unwrap()).collect();
        assert!(pointers.contains(&"#/3/created_at") && pointers.iter().all(|it| it.starts_with("#/3/")), "{problem}");
        let ignoring = format!("{path}?read_only=ignore");
        assert_counts(&api.put(&ignoring, &json!(copied)).await.expect(200), [1, 0, 0, 3]);
        // Another change increased the rule's revision after it was read.
        let rule = format!("{path}{}/", read[1]["id"]);
        api.patch(&rule, &json!({"description": "in the meantime"})).await.expect(200);
        let back = format!("{path}?max_deletions=1");
        api.put(&back, &json!(read)).await.problem(412, "revision_mismatch");
        let ignoring = format!("{path}?max_deletions=1&read_only=ignore");
        assert_counts(&api.put(&ignoring, &json!(read)).await.expect(200), [0, 1, 1, 2]);
    }
}
