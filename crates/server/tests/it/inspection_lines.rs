//! Packets in lines: the service inspects them as they arrive, and answers as fast as the client
//! reads.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fireflow_domain::actor::Role;
use fireflow_service::streams::Streams;
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, db_test};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::inspections::{measured, metric};
use crate::service::{Place, Service, binary};
use crate::support::{Answer, Api, plain_rule, record_in};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

async fn inspect(api: &Api, policy: &str, lines: &str) -> Answer {
    let authorization = format!("Bearer {}", api.token());
    let headers = [NDJSON, ("authorization", &authorization)];
    api.raw("POST", &format!("{policy}inspections/"), &headers, lines.as_bytes().to_vec()).await
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    assert!(answer.text.is_empty() || answer.text.ends_with('\n'));
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

db_test! {
    async fn lines_are_answered_as_the_array_is(api: Api) {
        let policy = api.policy().await;
        for (index, action) in ["ALLOW", "REJECT", "DENY"].into_iter().enumerate() {
            let name = if index == 0 { json!("web \"one\" ä") } else { Value::Null };
            api.rule(&policy, &json!({
                "name": name, "action": action, "priority": index,
                "protocols": ["tcp", "udp", "icmp", "icmpv6", "47"],
                "sources": [{"address": "any"}],
                "destinations": [{"address": format!("10.0.{index}.0/24")}, {"address": format!("2001:db8:{index}::/48")}],
                "expires_at": if index == 1 { json!("2026-11-24T13:00:00Z") } else { Value::Null },
            }))
            .await;
        }
        let mut packets = Vec::new();
        for network in 0..5 {
            for protocol in [json!("tcp"), json!("UDP"), json!(6), json!("17"), Value::Null] {
                packets.push(json!({
                    "source_address": "192.0.2.1", "destination_address": format!("10.0.{network}.7"),
                    "protocol": protocol, "source_port": 1, "destination_port": 65_535,
                    "at": if network % 2 == 0 { Value::Null } else { json!("2026-11-24T14:00:00+00:30") },
                }));
            }
            packets.push(json!({
                "source_address": "2001:DB8::0:1", "destination_address": format!("2001:db8:{network}::9"),
                "protocol": "icmpv6", "icmp_type": 1, "icmp_code": null,
            }));
            packets.push(json!({
                "source_address": "192.0.2.1", "destination_address": format!("10.0.{network}.7"), "protocol": 47,
            }));
        }
        let path = format!("{policy}inspections/");
        let array = api.post(&path, &json!(packets)).await.expect(200);
        let text: String = packets.iter().map(|packet| format!("{packet}\r\n")).collect();
        let answer = inspect(&api, &policy, &text).await;
        let revision = array[0]["policy"]["revision"].to_string();
        assert_eq!(answer.headers["x-policy-revision"], revision.as_str());
        let lines = lines(&answer);
        assert_eq!(lines.len(), packets.len());
        let mut actions = std::collections::BTreeSet::new();
        for (index, (line, item)) in lines.iter().zip(array.as_array().unwrap()).enumerate() {
            let expected = json!({
                "line": index + 1, "action": item["action"], "permitted": item["permitted"],
                "reason": item["reason"], "active_rule": item["active_rule"],
            });
            assert_eq!(*line, expected);
            actions.insert(item["action"].as_str().unwrap());
        }
        assert_eq!(actions.len(), 3, "every action is met");
    }
}

fn errors(line: &Value) -> &[Value] {
    line["error"]["errors"].as_array().unwrap()
}

db_test! {
    async fn a_line_that_is_no_packet_does_not_end_the_stream(api: Api) {
        let policy = api.policy().await;
        api.rule(&policy, &plain_rule()).await;
        let right = r#"{"source_address":"10.0.0.1","destination_address":"10.0.0.2","source_port":1,"destination_port":2}"#;
        let long = format!("{{\"source_address\":\"{}\"}}", "1".repeat(70_000));
        let wrong = [
            ("{", "malformed_json"),
            ("[]", "invalid"),
            (r#"["10.0.0.1","10.0.0.2","tcp",1,443]"#, "invalid"),
            (r#" ["10.0.0.1","10.0.0.2",47]"#, "invalid"),
            ("null", "invalid"),
            (r#"{"source_address":"10.0.0.1"}"#, "invalid"),
            (r#"{"source_address":"10.0.0.1","source_address":"10.0.0.1"}"#, "malformed_json"),
            (&right.replace("source_port", "sport"), "invalid"),
            (&right.replace(":2", ":65536"), "invalid"),
            (&right.replace(":2", ":2.0"), "invalid"),
            (&right.replace("10.0.0.2", "::1"), "invalid"),
            (&right.replace("10.0.0.2", "::ffff:10.0.0.2"), "invalid"),
            (&right.replace("10.0.0.2", "10.0.0.02"), "invalid"),
            (&format!("{right} {right}"), "malformed_json"),
            (&long, "too_large"),
        ]
        .map(|(line, code)| (line.to_owned(), code));
        let mut text = String::new();
        for (line, _) in &wrong {
            write!(text, "{right}\n{line}\n \n").unwrap();
        }
        // The last line has no line end.
        text.push_str(right);
        let answers = lines(&inspect(&api, &policy, &text).await);
        assert_eq!(answers.len(), 2 * wrong.len() + 1);
        for (index, (pair, (line, code))) in answers.chunks(2).zip(&wrong).enumerate() {
            let number = 3 * index + 1;
            assert_eq!(pair[0]["line"], number);
            assert_eq!(pair[0]["action"], "ALLOW");
            assert_eq!(pair[1]["line"], number + 1, "{line}");
            assert_eq!(pair[1]["error"]["code"], *code, "{line}: {}", pair[1]);
            assert!(pair[1]["error"]["detail"].as_str().unwrap().len() < 300, "{}", pair[1]);
            // A packet in a line has the same faults as in an array.
            if *code == "invalid" {
                let value: Value = serde_json::from_str(line).unwrap();
                let array = api.post(&format!("{policy}inspections/"), &json!([value])).await;
                let array = array.expect(422);
                assert_eq!(array["errors"].as_array().unwrap().len(), errors(&pair[1]).len());
                for (one, other) in array["errors"].as_array().unwrap().iter().zip(errors(&pair[1])) {
                    assert_eq!(one["detail"], other["detail"]);
                    let pointer = one["pointer"].as_str().unwrap().replacen("#/0", "#", 1);
                    assert_eq!(pointer, other["pointer"].as_str().unwrap());
                }
            }
        }
        assert_eq!(answers.last().unwrap()["line"], 3 * wrong.len() + 1);
        assert_eq!(answers[11]["error"]["errors"][0]["pointer"], "#/destination_address");
        for nothing in ["", "\n", "\r\n \n\n"] {
            assert!(lines(&inspect(&api, &policy, nothing).await).is_empty());
        }
        // These requests are refused before the service reads any line.
        let authorization = format!("Bearer {}", api.token());
        let headers = [NDJSON, ("authorization", &authorization)];
        for (path, status) in [
            (format!("{policy}inspections/?explain=true"), 422),
            ("/firewalls/1/filtering-policies/999/inspections/".to_owned(), 404),
        ] {
            let answer = api.raw("POST", &path, &headers, right.into()).await;
            assert_eq!(answer.status, status, "{}", answer.text);
        }
        let unnamed = [("content-type", "text/plain"), ("authorization", &authorization)];
        let answer =
            api.raw("POST", &format!("{policy}inspections/"), &unnamed, right.into()).await;
        assert_eq!(answer.status, 415);
        assert!(answer.text.contains("`application/json` or `application/x-ndjson`"), "{}", answer.text);
    }
}

/// The resident memory of a process in kB.
fn resident(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A service with a rule that allows all TCP. Returns a connection with the head of a packet
/// stream.
fn stream(service: &Service) -> TcpStream {
    let mut connection = service.connect();
    let policies = "/firewalls/1/filtering-policies/";
    for (path, body) in [
        ("/firewalls/", json!({"name": "edge"})),
        (policies, json!({"name": "in", "default_action": "DENY"})),
        (&format!("{policies}1/rules/"), plain_rule()),
    ] {
        assert_eq!(connection.ask("POST", path, &body.to_string()).unwrap().0, 201);
    }
    let mut stream = TcpStream::connect(&service.address).unwrap();
    let head = format!(
        "POST {policies}1/inspections/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        service.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// A chunk of packets, one per line.
fn chunk(packets: usize) -> Vec<u8> {
    let line = "{\"source_address\":\"10.0.0.1\",\"destination_address\":\"10.0.0.2\",\"source_port\":1,\"destination_port\":2}\n";
    let text = line.repeat(packets);
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_not_asked_for() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut command = binary(folder);
    // Freed memory is released at once, so the remaining memory is in use.
    command.env("MIMALLOC_PURGE_DELAY", "0").env("FIREFLOW_DATABASE_URL", &place.url);
    let service = Service::spawn(folder, command.stderr(Stdio::null()));
    let mut stream = stream(&service);
    // Sends without reading until the service accepts no more.
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let piece = chunk(1_000);
    let (mut chunks, mut sent) = (0_usize, 0);
    let rest = loop {
        let mut from = 0;
        while from < piece.len() {
            match stream.write(&piece[from..]) {
                Ok(written) => from += written,
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                    break;
                }
            }
        }
        sent += from;
        assert!(sent < 100_000_000, "the service takes without an end");
        if from < piece.len() {
            break piece[from..].to_vec();
        }
        chunks += 1;
    };
    // Then the test reads, and the rest passes through: many times as much data in the same memory.
    stream.set_write_timeout(None).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        stream.write_all(&rest).unwrap();
        for _ in 0..1_500 {
            stream.write_all(&chunk(1_000)).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let mut answer = Vec::new();
    reader.set_read_timeout(Some(crate::service::PATIENCE)).unwrap();
    // The first bytes fill the heaps and buffers of the threads. On a busy machine up to 25 MB of
    // that happened after this point. It does not grow with the amount of data.
    let first = 40_000_000;
    Read::by_ref(&mut reader).take(first).read_to_end(&mut answer).unwrap();
    let before = resident(&service);
    let mut most = before;
    // Measures to the end of the stream, since memory that is released by then was still taken.
    while Read::by_ref(&mut reader).take(10_000_000).read_to_end(&mut answer).unwrap() > 0 {
        most = most.max(resident(&service));
    }
    writer.join().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:.300}");
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "the stream came to its end");
    let taken = most - before;
    assert!(taken < 43_000, "{taken} kB more, half of 87 MB of packets, and 170 MB of answers");
    let count = 1_000 * (chunks + 1_501);
    assert_eq!(answer.matches("\"action\":\"ALLOW\",\"permitted\"").count(), count);
    assert!(answer.contains(&format!("{{\"line\":{count},")));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_no_packets_take_no_more_memory_than_others() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut command = binary(folder);
    command.env("MIMALLOC_PURGE_DELAY", "0").env("FIREFLOW_DATABASE_URL", &place.url);
    let service = Service::spawn(folder, command.stderr(Stdio::null()));
    let mut stream = stream(&service);
    let before = resident(&service);
    // The answer to each line is a hundred times as large, and nothing reads it.
    let text = "0\n".repeat(32_000);
    let piece = format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut sent = 0;
    while let Ok(written) = stream.write(&piece[sent % piece.len()..]) {
        sent += written;
        assert!(sent < 100_000_000, "the service takes without an end");
    }
    let taken = resident(&service).saturating_sub(before);
    assert!(taken < 20_000, "{taken} kB for {sent} bytes that are not taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_answered_while_others_are_yet_to_come() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let service = Service::start(place.folder.path(), &place.url);
    let mut stream = stream(&service);
    stream.set_read_timeout(Some(crate::service::PATIENCE)).unwrap();
    let mut seen = String::new();
    for line in 1..=3 {
        stream.write_all(&chunk(1)).unwrap();
        let expected = format!("{{\"line\":{line},");
        let mut piece = [0; 4_096];
        while !seen.contains(&expected) {
            let read = stream.read(&mut piece).unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
    }
    // If the client closes the stream early, the answer must not end as if it were complete.
    stream.write_all(b"7\r\n{\"sourc").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ended = stream.read_to_end(&mut rest).is_ok();
    assert!(!String::from_utf8_lossy(&rest).contains("\r\n0\r\n\r\n"));
    // The service keeps running.
    assert_eq!(service.connect().ask("GET", "/health/", "").unwrap().0, 200);
}

/// A stream whose packets are sent one by one.
async fn open(api: &Api, policy: &str) -> (mpsc::UnboundedSender<Bytes>, poem::Response) {
    let (sender, packets) = mpsc::unbounded_channel();
    let packets = stream::unfold(packets, |mut packets| async move {
        let piece: Bytes = packets.recv().await?;
        Some((std::io::Result::Ok(piece), packets))
    });
    let authorization = format!("Bearer {}", api.token_for(&[Role::Viewer], None));
    let request = api.client.post(format!("{policy}inspections/"));
    let request = request.header("authorization", authorization).header(NDJSON.0, NDJSON.1);
    let response = request.body(poem::Body::from_bytes_stream(packets)).send().await.0;
    (sender, response)
}

async fn becomes(api: &Api, series: &str, value: u64) {
    let patience = crate::service::PATIENCE;
    let waited = tokio::time::timeout(patience, async {
        while metric(api, series).await != value {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{series} does not become {value}");
}

db_test! {
    committed("requests have connections of their own")
    async fn a_stream_without_packets_is_given_up(db: TestDatabase) {
        let api = Api::built(db, |app, _| {
            record_in(app, &Arc::default());
            app.streams = Streams::new(Duration::from_millis(200));
        });
        let policy = api.policy().await;
        let (packets, response) = open(&api, &policy).await;
        assert_eq!(response.status(), 200);
        assert!(response.into_body().into_bytes().await.is_err(), "it has no end");
        drop(packets);
        // The service counts the end of a stream only after its answer has ended.
        let cut_off = r#"fireflow_inspection_streams_ended_total{result="cut_off"}"#;
        becomes(&api, cut_off, 1).await;
        inspect(&api, &policy, "").await;
        becomes(&api, r#"fireflow_inspection_streams_ended_total{result="answered"}"#, 1).await;
        becomes(&api, "fireflow_inspection_streams", 0).await;
        assert_eq!(metric(&api, cut_off).await, 1);
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn a_subject_has_a_number_of_streams(db: TestDatabase) {
        let api = measured(db);
        let policy = api.policy().await;
        let streams = futures_util::future::join_all((0..16).map(|_| open(&api, &policy))).await;
        assert!(streams.iter().all(|(_, response)| response.status() == 200));
        assert_eq!(metric(&api, "fireflow_inspection_streams").await, 16);
        let (_, refused) = open(&api, &policy).await;
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "5");
        // Other subjects are answered, and an ended stream frees its slot.
        let packet = crate::support::tcp("10.0.0.1", "10.0.0.2", 1);
        assert_eq!(api.verdict(&policy, &packet).await.0, "DENY");
        for (packets, response) in streams {
            drop(packets);
            assert_eq!(response.into_body().into_vec().await.unwrap(), b"");
        }
        let (packets, again) = open(&api, &policy).await;
        assert_eq!(again.status(), 200);
        drop(packets);
    }
}

db_test! {
    async fn a_stream_ends_with_its_token_and_packets_are_of_when_they_come(api: Api) {
        let policy = api.policy().await;
        let mut rule = plain_rule();
        rule["expires_at"] = json!("2026-11-24T12:30:00Z");
        api.rule(&policy, &rule).await;
        let (packets, response) = open(&api, &policy).await;
        let mut answers = response.into_body().into_bytes_stream();
        let line = || Bytes::from(
            "{\"source_address\":\"10.0.0.1\",\"destination_address\":\"10.0.0.2\",\"source_port\":1,\"destination_port\":2}\n"
        );
        for (action, minutes) in [("ALLOW", 45), ("DENY", 45)] {
            packets.send(line()).unwrap();
            let answer = answers.next().await.unwrap().unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["action"], action);
            api.clock.advance(Duration::from_secs(minutes * 60));
        }
        packets.send(line()).unwrap();
        assert!(answers.next().await.unwrap().is_err());
    }
}
