//! The query parameters of each operation, as one table per operation. The reader checks names
//! against these tables, and the API description is generated from them.

use fireflow_domain::audit::AuditAction;
use fireflow_domain::error::Resource;
use fireflow_domain::filter::parse::MAX_FILTER_CHARS;
use fireflow_domain::ids::MAX_ID;
use fireflow_domain::page::MAX_PAGE_SIZE;
use fireflow_domain::store::{AuditField, FirewallField, PolicyField, RuleField};
use fireflow_service::cursor::MAX_CURSOR_CHARS;
use serde_json::{Value, json};

use crate::dto::audit::AuditEventView;
use crate::dto::view::{FirewallView, PolicyView, RuleView};
use crate::openapi::{patterns, schemas};

/// A query parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// The name.
    pub name: &'static str,
    /// The values that it accepts.
    pub kind: ParamKind,
    /// What it is for.
    pub description: &'static str,
    /// A value with which the operation works unchanged. Swagger UI fills it in, so it must not
    /// leave anything out of an answer.
    pub example: Option<&'static str>,
    /// A value that only appears in the description.
    pub shown: Option<&'static str>,
}

/// The values that a parameter accepts, as far as the description can express them.
#[derive(Debug, Clone, Copy)]
pub enum ParamKind {
    /// An integer within bounds. A default is only mentioned in the description's text: Swagger UI
    /// would fill it in and send it, and the answer would be a page instead of the whole list.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// An action, in any case.
    Action,
    /// One of the given words.
    Words(&'static [&'static str]),
    /// A name of at most this many characters.
    Name(usize),
    /// Any text of at most this many characters.
    Text(usize),
    /// An address, block, range or `any`.
    AddressRange,
    /// A single address; required.
    Address,
    /// A port or `first-last`.
    Ports,
    /// A protocol by name or number.
    Protocol,
    /// An RFC 3339 instant.
    Instant,
    /// Fields separated by commas, with `-` before a descending one.
    OrderBy(&'static [&'static str]),
    /// An expression of the filter language.
    Filter,
    /// The `next_cursor` of a page.
    Cursor,
    /// Members of the answer, separated by commas.
    Fields(&'static [&'static str]),
}

impl Param {
    /// Whether the parameter is required.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        matches!(self.kind, ParamKind::Address)
    }

    /// The parameter in the description.
    #[must_use]
    pub fn describe(&self) -> Value {
        let schema = match self.kind {
            ParamKind::Integer(min, max) => {
                json!({"type": "integer", "minimum": min, "maximum": max})
            }
            ParamKind::Boolean => json!({"type": "boolean"}),
            ParamKind::Action => json!({"$ref": schemas::ACTION}),
            ParamKind::Words(words) => json!({"type": "string", "enum": words}),
            ParamKind::Name(max) => {
                json!({"type": "string", "minLength": 1, "maxLength": max, "pattern": patterns::NAME})
            }
            ParamKind::Text(max) => {
                let pattern = patterns::NO_CONTROLS;
                json!({"type": "string", "minLength": 1, "maxLength": max, "pattern": pattern})
            }
            ParamKind::AddressRange => {
                json!({"type": "string", "pattern": patterns::ADDRESS_RANGE})
            }
            ParamKind::Address => json!({"type": "string", "pattern": patterns::ADDRESS}),
            ParamKind::Ports => json!({"type": "string", "pattern": patterns::PORTS}),
            ParamKind::Protocol => {
                let pattern = patterns::protocol(false);
                json!({"type": "string", "pattern": pattern})
            }
            ParamKind::Instant => json!({"type": "string", "format": "date-time"}),
            ParamKind::Filter => {
                json!({"type": "string", "minLength": 1, "maxLength": MAX_FILTER_CHARS})
            }
            ParamKind::Cursor => {
                json!({"type": "string", "maxLength": MAX_CURSOR_CHARS, "pattern": "^[A-Za-z0-9_-]*$"})
            }
            ParamKind::Fields(members) => {
                let one = format!("({})", members.join("|"));
                json!({"type": "string", "pattern": format!("^{one}(,{one})*$")})
            }
            ParamKind::OrderBy(fields) => {
                let one = format!("-?({})", fields.join("|"));
                json!({"type": "string", "pattern": format!("^{one}(,{one})*$")})
            }
        };
        let description = match self.shown {
            Some(text) => format!("{} For example: `{text}`.", self.description),
            None => self.description.to_owned(),
        };
        let param = json!({
            "name": self.name,
            "in": "query",
            "required": self.is_required(),
            "description": description,
            "schema": schema,
        });
        let example = self.example.map(|text| match self.kind {
            ParamKind::Integer(..) => text.parse::<i64>().map_or(Value::Null, Value::from),
            _ => Value::from(text),
        });
        with(param, "example", example)
    }
}

/// Adds a member to an object if there is a value for it.
fn with(mut object: Value, name: &str, value: Option<impl serde::Serialize>) -> Value {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(name.to_owned(), json!(value));
    }
    object
}

const fn param(name: &'static str, kind: ParamKind, description: &'static str) -> Param {
    Param { name, kind, description, example: None, shown: None }
}

impl Param {
    const fn example(self, text: &'static str) -> Self {
        Self { example: Some(text), ..self }
    }

    const fn shown(self, text: &'static str) -> Self {
        Self { shown: Some(text), ..self }
    }
}

const PAGE: Param =
    param("page", ParamKind::Integer(1, 100_000), "The page's number, from 1. Default: 1.");
const PAGE_SIZE: Param = param(
    "page_size",
    ParamKind::Integer(1, MAX_PAGE_SIZE as i64),
    "The most items on a page. Default: 10.",
);
const PER_PAGE: Param =
    param("per_page", ParamKind::Integer(1, MAX_PAGE_SIZE as i64), "Another name of `page_size`.");
const CURSOR: Param = param(
    "cursor",
    ParamKind::Cursor,
    "Continues after a page: its `next_cursor`. The cost does not depend on the position. An \
     empty cursor starts at the beginning, without page numbers.",
);
const WITH_TOTAL: Param = param(
    "with_total",
    ParamKind::Boolean,
    "Whether to count the list: `true` counts all of it, `false` nothing. Default: with a filter, up to \
     1,000; not with a cursor.",
);
const FILTER: &str = "Returns items that match an expression of the filter language; \
                      `/docs/filter-schema.json` lists its fields. `:` searches texts in any \
                      case; `now`, `now + 30d` and `now - 12h` are times. If the filter depends on \
                      the clock, all pages of a cursor are of the time of the first page.";
const NAME: Param = param("name", ParamKind::Name(255), "Returns items with exactly this name.");

const DELETED: Param = param(
    "deleted",
    ParamKind::Boolean,
    "Returns deleted items of live parents instead of live ones: those can be restored. Requires \
     `editor`; can be combined only with plain filters of scalar fields.",
);

const ORDER: &str = "The order: fields separated by commas, `-` before a descending one; null \
                     comes first in ascending order, and `id` breaks ties, in the direction of \
                     the last field.";

const FIELDS: &str = "Returns only these members of each item, separated by commas; `id` is \
                      always included.";
const FIREWALL_FIELDS: Param = param("fields", ParamKind::Fields(FirewallView::MEMBERS), FIELDS);
const POLICY_FIELDS: Param = param("fields", ParamKind::Fields(PolicyView::MEMBERS), FIELDS);
const RULE_FIELDS: Param = param("fields", ParamKind::Fields(RuleView::MEMBERS), FIELDS);

const EXPAND: &str = "Embeds children, at most 10,000 rules; more are 413.";
const FIREWALL_EXPAND: Param =
    param("expand", ParamKind::Words(&["filtering_policies", "filtering_policies.rules"]), EXPAND);
const POLICY_EXPAND: Param = param("expand", ParamKind::Words(&["rules"]), EXPAND);

/// The parameters of a firewall.
pub const FIREWALL: &[Param] = &[FIREWALL_FIELDS, FIREWALL_EXPAND];
/// The parameters of a filtering policy.
pub const POLICY: &[Param] = &[POLICY_FIELDS, POLICY_EXPAND];
/// The parameters of a rule.
pub const RULE: &[Param] = &[RULE_FIELDS];

/// The parameters of the list of firewalls.
pub const FIREWALLS: &[Param] = &[
    PAGE,
    PAGE_SIZE,
    PER_PAGE,
    param("order_by", ParamKind::OrderBy(FirewallField::WORDS), ORDER),
    NAME,
    FIREWALL_FIELDS,
    FIREWALL_EXPAND,
    param("filter", ParamKind::Filter, FILTER).shown("name = \"edge-*\" AND labels.site = fra"),
    CURSOR,
    WITH_TOTAL,
    DELETED,
];

/// The parameters of the list of a firewall's policies.
pub const POLICIES: &[Param] = &[
    PAGE,
    PAGE_SIZE,
    PER_PAGE,
    POLICY_FIELDS,
    POLICY_EXPAND,
    param("order_by", ParamKind::OrderBy(PolicyField::WORDS), ORDER),
    NAME,
    param("default_action", ParamKind::Action, "Returns policies with this default action."),
    param("filter", ParamKind::Filter, FILTER)
        .shown("rule_count > 0 AND firewall.name = \"edge-*\""),
    CURSOR,
    WITH_TOTAL,
    DELETED,
];

/// The parameters of the list of a policy's rules.
pub const RULES: &[Param] = &[
    PAGE,
    PAGE_SIZE,
    PER_PAGE,
    RULE_FIELDS,
    param(
        "order_by",
        ParamKind::OrderBy(RuleField::WORDS),
        "The order: fields separated by commas, `-` before a descending one. Default: the order \
         of evaluation. `state` orders as scheduled, active, expired, disabled, at the time of \
         the request.",
    ),
    NAME,
    param("action", ParamKind::Action, "Returns rules with this action."),
    param(
        "priority",
        ParamKind::Integer(i32::MIN as i64, i32::MAX as i64),
        "Returns rules with this priority.",
    ),
    param(
        "source_address",
        ParamKind::AddressRange,
        "Returns rules with a source of exactly these addresses.",
    ),
    param("source_port", ParamKind::Ports, "Returns rules with a source of exactly these ports."),
    param(
        "destination_address",
        ParamKind::AddressRange,
        "Returns rules with a destination of exactly these addresses.",
    ),
    param(
        "destination_port",
        ParamKind::Ports,
        "Returns rules with a destination that itself has exactly these ports.",
    ),
    param("port", ParamKind::Ports, "Returns rules with exactly this entry in `ports`."),
    param("filter", ParamKind::Filter, FILTER)
        .shown("traffic:(source = 10.0.0.0/8 AND protocol = tcp AND destination_port = 443)"),
    CURSOR,
    WITH_TOTAL,
    DELETED,
];

/// The parameters of the audit trail.
pub const AUDIT_EVENTS: &[Param] = &[
    PAGE,
    PAGE_SIZE,
    PER_PAGE,
    param("fields", ParamKind::Fields(AuditEventView::MEMBERS), FIELDS),
    param("order_by", ParamKind::OrderBy(AuditField::WORDS), ORDER),
    param("subject", ParamKind::Text(255), "Returns events of this subject."),
    param("action", ParamKind::Words(&AuditAction::WORDS), "Returns events with this action."),
    param(
        "resource",
        ParamKind::Words(&Resource::WORDS),
        "Returns events of this kind of resource.",
    ),
    param(
        "resource_id",
        ParamKind::Integer(1, MAX_ID),
        "Returns events of the resource with this id.",
    ),
    param(
        "firewall_id",
        ParamKind::Integer(1, MAX_ID),
        "Returns events of this firewall, its policies and their rules.",
    ),
    param(
        "filtering_policy_id",
        ParamKind::Integer(1, MAX_ID),
        "Returns events of this filtering policy and its rules.",
    ),
    param("request_id", ParamKind::Text(64), "Returns events of the request with this id."),
    param("since", ParamKind::Instant, "Returns events at this instant or later."),
    param("until", ParamKind::Instant, "Returns events before this instant."),
    param("filter", ParamKind::Filter, FILTER)
        .shown("action = delete AND resource IN (firewall, filtering_policy)"),
    CURSOR,
    WITH_TOTAL,
];

const READ_ONLY: Param = param(
    "read_only",
    ParamKind::Words(&["ignore"]),
    "`ignore` accepts and ignores read-only members in new resources, such as `revision` from an \
     earlier answer; by default they are refused.",
);

/// The parameters of the creation of a firewall or a policy.
pub const NEW: &[Param] = &[READ_ONLY];

/// The parameters of the creation of a rule.
pub const NEW_RULE: &[Param] = &[
    READ_ONLY,
    param(
        "before",
        ParamKind::Integer(1, MAX_ID),
        "Places the rule before the one with this id; `priority` is then not allowed.",
    ),
    param(
        "after",
        ParamKind::Integer(1, MAX_ID),
        "Places the rule after the one with this id; `priority` is then not allowed.",
    ),
    param(
        "at",
        ParamKind::Words(&["first", "last"]),
        "Places the rule before or after all others; `priority` is then not allowed.",
    ),
    param(
        "duplicates",
        ParamKind::Words(&["keep"]),
        "`keep` stores the rule even if an equivalent rule exists.",
    ),
];

const DUPLICATES: Param =
    param("duplicates", ParamKind::Words(&["keep"]), "`keep` stores equivalent rules.");

/// The parameters of the replacement of a rule set.
pub const RULE_SET: &[Param] = &[
    DUPLICATES,
    param(
        "max_deletions",
        ParamKind::Integer(0, u32::MAX as i64),
        "The most rules that may be deleted. Default: ten, and at most a tenth of the stored \
         rules. (With fewer than ten rules, none.)",
    ),
    param(
        "identity",
        ParamKind::Words(&["name"]),
        "`name` finds the stored rules by name or content only, and ignores read-only members. \
         Use it to copy the rules of one policy to another.",
    ),
    param(
        "read_only",
        ParamKind::Words(&["ignore"]),
        "`ignore` ignores read-only members other than `id`, such as `revision` in an older \
         export; by default they must match the stored rules.",
    ),
];

/// The parameters of a batch.
pub const BATCH: &[Param] = &[DUPLICATES, READ_ONLY];

/// The parameters of the restoration of a rule.
pub const RULE_RESTORATION: &[Param] = &[param(
    "duplicates",
    ParamKind::Words(&["keep"]),
    "`keep` restores the rule even if an equivalent rule exists.",
)];

/// The parameters of the inspection of one packet.
pub const INSPECTION: &[Param] = &[
    param("source_address", ParamKind::Address, "The packet's source address.").example("10.1.2.3"),
    param(
        "source_port",
        ParamKind::Integer(0, 65_535),
        "The packet's source port; refused if the protocol has no ports. If it is omitted, the \
         packet is evaluated with each port from 49152 to 65535, and the answer has \
         `ports_assumed`.",
    )
    .example("40000"),
    param("destination_address", ParamKind::Address, "The packet's destination address.")
        .example("198.51.100.10"),
    param(
        "destination_port",
        ParamKind::Integer(0, 65_535),
        "The packet's destination port; required if the protocol has ports, otherwise refused.",
    )
    .example("443"),
    param("protocol", ParamKind::Protocol, "The packet's protocol, by name or number."),
    param("icmp_type", ParamKind::Integer(0, 255), "The ICMP type. Default: echo request."),
    param("icmp_code", ParamKind::Integer(0, 255), "The ICMP code. Default: 0."),
    param("at", ParamKind::Instant, "The packet's time. Default: now."),
    param(
        "explain",
        ParamKind::Boolean,
        "Also explains the verdict: what matched, and what did \
                                          not.",
    ),
];

/// The parameters of the inspection of many packets.
pub const INSPECTIONS: &[Param] =
    &[param("explain", ParamKind::Boolean, "Also explains the verdicts, for at most 100 packets.")];

/// For operations without query parameters.
pub const NONE: &[Param] = &[];
