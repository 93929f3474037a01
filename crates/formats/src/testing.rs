//! Properties that hold for any text that this crate reads. The fuzz targets search for texts that
//! break them, and a test replays the stored texts.

use std::ops::ControlFlow;

use fireflow_domain::error::{FaultLocation, MAX_VIOLATIONS, Violations};
use fireflow_domain::filter::Level;
use fireflow_domain::ids::{FirewallId, PolicyId, RuleId};
use fireflow_domain::store::RuleField;
use fireflow_domain::testing::fuzz::{Reader, Target};
use fireflow_domain::time::Instant;
use serde_json::Value;

use crate::firewall::{firewall_patch, new_firewall};
use crate::flow_log::Mapping;
use crate::format::{FileReader, PacketRecord, RuleRecord};
use crate::json::Meter;
use crate::members::read_json;
use crate::packet::packets;
use crate::packet_lines::PacketLines;
use crate::policy::{new_policy, policy_patch};
use crate::query::{Query, packet};
use crate::read_only::ReadOnly;
use crate::restoration::{restoration, rule_restoration};
use crate::rule::{SetReading, new_rule, rule_patch};
use crate::rule_batch::operations;
use crate::rule_order::move_body;
use crate::rule_set::{RuleSetFormat, rule_set};
use crate::{FORMATS, ReadError, cursor, entity_tags, sniff};

/// The targets of this crate.
pub const TARGETS: [Target; 3] = [BODIES, FILES, REQUESTS];

/// The bodies of requests. Reading never panics. A refusal has a reason, in bounded text, and pointers
/// into the body.
pub const BODIES: Target = Target {
    name: "bodies",
    readers: &[
        Reader {
            name: "firewall",
            check: |text| body(text, |value, faults| new_firewall(value, ReadOnly::Refuse, faults)),
        },
        Reader {
            name: "firewall_patch",
            check: |text| body(text, |value, faults| firewall_patch(value, firewall(), faults)),
        },
        Reader {
            name: "policy",
            check: |text| body(text, |value, faults| new_policy(value, ReadOnly::Refuse, faults)),
        },
        Reader {
            name: "policy_patch",
            check: |text| {
                body(text, |value, faults| policy_patch(value, firewall(), policy(), faults))
            },
        },
        Reader {
            name: "rule",
            check: |text| {
                body(text, |value, faults| new_rule(value, "", false, ReadOnly::Refuse, faults))
            },
        },
        Reader {
            name: "rule_patch",
            check: |text| {
                body(text, |value, faults| rule_patch(value, "", policy(), rule(), faults))
            },
        },
        Reader {
            name: "batch",
            check: |text| taken(operations(text.as_bytes(), policy(), ReadOnly::Refuse, &meter())),
        },
        Reader {
            name: "move",
            check: |text| body(text, |value, faults| move_body(value, 100, faults)),
        },
        Reader { name: "restoration", check: |text| body(text, restoration) },
        Reader { name: "rule_restoration", check: |text| body(text, rule_restoration) },
        Reader {
            name: "packets",
            check: |text| taken(packets(text.as_bytes(), Instant::EPOCH, false, &meter())),
        },
        Reader { name: "packet_lines", check: packet_lines },
        Reader { name: "json_set", check: |text| set(text, RuleSetFormat::Json) },
        Reader { name: "ndjson_set", check: |text| set(text, RuleSetFormat::Ndjson) },
        Reader { name: "csv_set", check: |text| set(text, RuleSetFormat::Csv) },
    ],
};

/// Files of rules and packets, of every format. Reading never panics. Lines are within the file and
/// in order, and a fault is one line of text.
pub const FILES: Target = Target {
    name: "files",
    readers: &[
        Reader { name: "rules", check: |text| file(text).rules > 0 },
        Reader {
            name: "packets",
            check: |text| {
                let read = file(text);
                read.packets > 0 && read.faults == 0
            },
        },
        Reader { name: "mapping", check: mapping },
    ],
};

/// What requests carry in addition to a body: query parameters, cursors, entity tags.
pub const REQUESTS: Target = Target {
    name: "requests",
    readers: &[
        Reader { name: "list", check: list },
        Reader { name: "packet", check: |text| valid(packet(query(text), Instant::EPOCH)) },
        Reader { name: "cursor", check: position },
        Reader { name: "tags", check: tags },
    ],
};

/// The longest message of a fault, in characters.
const MAX_DETAIL: usize = 2_000;

#[expect(clippy::unwrap_used, reason = "1 is an id")]
fn firewall() -> FirewallId {
    FirewallId::new(1).unwrap()
}

#[expect(clippy::unwrap_used, reason = "1 is an id")]
fn policy() -> PolicyId {
    PolicyId::new(1).unwrap()
}

#[expect(clippy::unwrap_used, reason = "1 is an id")]
fn rule() -> RuleId {
    RuleId::new(1).unwrap()
}

const fn meter() -> Meter {
    Meter::unlimited()
}

fn check_faults(violations: &Violations) {
    assert!(!violations.is_empty(), "it is refused without a reason");
    assert!(violations.items().len() <= MAX_VIOLATIONS);
    for violation in violations.items() {
        let is_place = match &violation.place {
            FaultLocation::Body(pointer) => pointer.is_empty() || pointer.starts_with('/'),
            FaultLocation::Query(name) | FaultLocation::Header(name) => !name.is_empty(),
        };
        assert!(is_place, "{violation:?}");
        let detail = &violation.detail;
        assert!((1..=MAX_DETAIL).contains(&detail.chars().count()), "{violation:?}");
        assert!(!detail.contains('\n'), "{violation:?}");
    }
}

fn valid<T>(read: Result<T, Violations>) -> bool {
    if let Err(violations) = &read {
        check_faults(violations);
    }
    read.is_ok()
}

fn taken<T>(read: Result<T, ReadError>) -> bool {
    match &read {
        Ok(_) => {}
        Err(ReadError::Invalid(violations)) => check_faults(violations),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    read.is_ok()
}

fn body<T>(text: &str, read: impl FnOnce(Value, &mut Violations) -> Option<T>) -> bool {
    taken(read_json(text.as_bytes(), &meter(), read))
}

fn set(text: &str, format: RuleSetFormat) -> bool {
    taken(rule_set(text.as_bytes(), format, policy(), SetReading::default(), &meter()))
}

/// Lines of packets. They are the same however they arrive in pieces.
fn packet_lines(text: &str) -> bool {
    let in_pieces = |length: usize| {
        let (mut lines, mut read) = (PacketLines::default(), Vec::new());
        let mut visit = |line: u64, packet: Result<_, crate::packet_lines::LineFault>| {
            read.push((line, packet.map_err(|fault| fault.to_string())));
            ControlFlow::Continue(())
        };
        for piece in text.as_bytes().chunks(length) {
            lines.read(piece, Instant::EPOCH, &mut visit);
        }
        let _flow = lines.end(Instant::EPOCH, &mut visit);
        read
    };
    let whole = in_pieces(text.len().max(1));
    assert_eq!(in_pieces(1), whole, "{text:?}");
    assert_eq!(in_pieces(7), whole, "{text:?}");
    !whole.is_empty() && whole.iter().all(|(_, packet)| packet.is_ok())
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    rules: usize,
    packets: usize,
    faults: usize,
}

/// Reads a text in the format that it has, and in every other format.
fn file(text: &str) -> Content {
    for sample in FORMATS.into_iter().flat_map(|format| format.samples) {
        if let Ok(file) = sniff(sample.text.as_bytes()) {
            content(text, &*file);
        }
    }
    match sniff(text.as_bytes()) {
        Ok(file) => content(text, &*file),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Content::default()
        }
    }
}

fn content(text: &str, file: &dyn FileReader) -> Content {
    let lines = text.split('\n').count() as u64;
    let mut content = Content::default();
    let read = file.rules(&mut text.as_bytes(), &mut |place, record| {
        assert!((1..=lines).contains(&place.line), "{place} of {lines}: {text:?}");
        match record {
            RuleRecord::Api(_) | RuleRecord::Cuboid(_) => content.rules += 1,
            RuleRecord::Page(_) | RuleRecord::Policy(_) => {}
        }
        ControlFlow::Continue(())
    });
    // A file of packets is no file of rules, and the rules before a fault are not used.
    if read.is_err() {
        content.rules = 0;
    }
    let mut last = 0;
    let read = file.packets(&mut text.as_bytes(), Instant::EPOCH, &mut |line, record| {
        assert!(line > last, "{line} after {last}: {text:?}");
        last = line;
        match record {
            PacketRecord::Packet(Ok(_), _) | PacketRecord::Benchmark(_) => content.packets += 1,
            PacketRecord::Packet(Err(fault), _) => {
                let said = fault.to_string();
                assert!(!said.is_empty() && !said.contains('\n'), "{said:?}");
                content.faults += 1;
            }
            PacketRecord::Skipped(_) => {}
        }
        ControlFlow::Continue(())
    });
    if read.is_err() {
        content.packets = 0;
    }
    content
}

/// The columns of a table without a known header.
fn mapping(text: &str) -> bool {
    match Mapping::parse(text) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

const PARAMETERS: [&str; 22] = [
    "page",
    "page_size",
    "per_page",
    "cursor",
    "with_total",
    "deleted",
    "order_by",
    "fields",
    "filter",
    "expand",
    "before",
    "after",
    "name",
    "source_address",
    "destination_address",
    "protocol",
    "source_port",
    "destination_port",
    "icmp_type",
    "icmp_code",
    "at",
    "read_only",
];

fn query(text: &str) -> Query {
    Query::open(text, PARAMETERS.into_iter())
}

/// The query of a list. The scope of a list, which cursors belong to, does not depend on the order
/// of the parameters.
fn list(text: &str) -> bool {
    let read = |text: &str| {
        let mut query = query(text);
        let fields = query.fields(&["id", "name", "action"]);
        let order = query.order(RuleField::parse, RuleField::WORDS);
        let _place = query.placement();
        let _read_only = query.read_only();
        let _expands = (query.expand_firewalls(), query.expand_policies());
        let _is_whole = query.is_whole(query.has("per_page"));
        let _deleted = query.deleted(false);
        let mut expression = query.expression(Level::Rule, Instant::EPOCH);
        let (scope, request) = query.part("rules", &mut expression, &order, Instant::EPOCH);
        (valid(query.finish()), scope, request, fields, order.len())
    };
    let (is_valid, scope, ..) = read(text);
    if is_valid {
        let mut pairs: Vec<&str> = text.split('&').collect();
        pairs.reverse();
        assert_eq!(read(&pairs.join("&")).1, scope, "{text:?}");
    }
    is_valid
}

/// A cursor of the list `rules`. One position has one cursor.
fn position(text: &str) -> bool {
    let Some(position) = cursor::decode("rules", text) else { return false };
    assert_eq!(cursor::encode("rules", &position), text);
    assert_eq!(cursor::decode("policies", text), None, "{text:?}");
    true
}

/// The value of `If-Match`. A list says the same on several lines.
fn tags(text: &str) -> bool {
    match entity_tags::list(text.as_bytes()) {
        Ok(tags) => {
            let lines = [b"".as_slice(), text.as_bytes()];
            assert_eq!(entity_tags::read(lines.into_iter()).ok().flatten(), Some(tags), "{text:?}");
            true
        }
        Err(why) => {
            assert!(!why.is_empty() && why.chars().count() <= MAX_DETAIL, "{why}");
            false
        }
    }
}
