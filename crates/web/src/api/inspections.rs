//! Inspections: the verdict on a packet, and its explanation.

use std::sync::Arc;
use std::time::Instant;

use fireflow_domain::error::{Error, Violation, Violations};
use fireflow_domain::filter::Level;
use fireflow_domain::packet::PacketParts;
use fireflow_domain::page::SortKey;
use fireflow_domain::store::{PolicyField, PolicyFilter};
use fireflow_domain::time::Instant as DomainInstant;
use fireflow_domain::usecase::policy::{self, LeftOutPolicies};
use fireflow_formats::packet::packets;
use fireflow_formats::query::{given_packet, packet, packet_parts};
use fireflow_formats::rule_export::LineFormat;
use fireflow_formats::views::{
    InspectionItemView, InspectionView, PolicyInspectionPage, PolicyInspectionView, ShowLeftOut,
};
use fireflow_service::budget::Shortage;
use fireflow_service::error::ServiceError;
use poem::http::HeaderName;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::{Tag, firewall_id, policy_ids};
use crate::auth::{As, Viewer};
use crate::dto::body::PacketsBody;
use crate::inspection_stream;
use crate::operation::Operation;
use crate::params::{self, Param, ParamKind, QueryString, param};
use crate::path_id::RawId;
use crate::problem::Problem;
use crate::reply::{Answered, Inspected, Listed, Reply};

/// The parameters of a packet.
const PACKET: &[Param] = &[
    param("source_address", ParamKind::Address, "The packet's source address.").example("10.1.2.3"),
    param(
        "source_port",
        params::PORT,
        "The packet's source port; refused if the protocol has no ports. If it is omitted, the \
         packet is evaluated with each port from 49152 to 65535, and the response has \
         `ports_assumed`.",
    )
    .example("40000"),
    param("destination_address", ParamKind::Address, "The packet's destination address.")
        .example("198.51.100.10"),
    param(
        "destination_port",
        params::PORT,
        "The packet's destination port; required if the protocol has ports, otherwise refused.",
    )
    .example("443"),
    param("protocol", ParamKind::Protocol, "The packet's protocol, by name or number."),
    param("icmp_type", params::BYTE, "The ICMP type. Default: echo request."),
    param("icmp_code", params::BYTE, "The ICMP code. Default: 0."),
    param("at", ParamKind::Instant, "The packet's time. Default: now."),
];
const EXPLAIN: Param = param(
    "explain",
    ParamKind::Boolean,
    "Also explains the verdict: what matched, and what did not.",
);
/// The parameters that select policies of a firewall.
const POLICIES: &[Param] =
    &[params::filter("labels.direction = in"), params::NEXT, params::WITH_TOTAL];

/// The header with the revision of the policy that a stream is evaluated against.
const POLICY_REVISION: HeaderName = HeaderName::from_static("x-policy-revision");

/// How often a packet is decided again because the rule that decides it has changed before it was
/// shown.
const ROUNDS: usize = 16;

/// The operations on inspections.
#[derive(Debug)]
pub struct Inspections;

#[OpenApi(tag = "Tag::Inspections")]
impl Inspections {
    /// The rows of these operations.
    pub const OPERATIONS: &[Operation] = &[Self::ONE, Self::MANY, Self::EACH];

    const ONE: Operation = Operation::reads("inspectPacket").takes(PACKET).and(&[EXPLAIN]);

    /// Inspect one packet
    ///
    /// The first active rule that matches, in order of priority and id, decides; if there is none,
    /// the policy's default action does.
    ///
    /// If the source port of a protocol with ports is omitted, it is unknown. The packet is then
    /// evaluated with each port from 49152 to 65535, and `ports_assumed` shows whether the verdict
    /// depends on the port. If it does, the response has the strictest verdict, so it is ALLOW only
    /// if every port is allowed.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/inspections/",
        method = "get",
        operation_id = "inspectPacket"
    )]
    async fn one(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
    ) -> Result<Reply<Answered, InspectionView<'static>>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        let (start, now) = (Instant::now(), ctx.caller.now);
        let mut query = query.open(&Self::ONE);
        let explains = query.boolean("explain");
        let given = packet(query, now)?;
        for _ in 0..ROUNDS {
            let inspected = ctx.compiled_policy(firewall, policy).await?;
            let decide = move |it: &_| InspectionView::new(it, &given, explains);
            let decided = ctx.app.inspections.decide(&ctx, &inspected, explains, decide).await?;
            let (mut answer, rule) = decided;
            let text = match rule {
                Some(rule) => {
                    let at = given.packet().at();
                    let text = ctx.app.written.text(&ctx, &inspected, &rule, at).await?;
                    // The rule has changed since the packet was decided, so it is decided again.
                    let Some(text) = text else { continue };
                    Some(text)
                }
                None => None,
            };
            answer.active_rule = text.as_deref();
            ctx.app.telemetry.metrics.inspected([answer.action], start.elapsed());
            return Reply::written(&answer);
        }
        let what = "the rule that decides changes faster than it can be read";
        Err(Shortage { what, retry_after_s: 1 }.into())
    }

    const MANY: Operation = Operation::reads("inspectPackets")
        .with_headers(&[(
            "X-Policy-Revision",
            "NDJSON only: the revision of the policy that evaluates the packets",
        )])
        .takes(&[param(
            "explain",
            ParamKind::Boolean,
            "Also explains the verdicts, for at most 100 packets.",
        )]);

    /// Inspect many packets
    ///
    /// Inspects up to 10,000 packets against one state of the policy; the verdicts have the same
    /// order. A source port may be omitted, as for one packet.
    ///
    /// As NDJSON (`Content-Type: application/x-ndjson`), it inspects any number of packets, one per
    /// line. Each is answered with a line while later ones arrive, against the state of the policy
    /// that `X-Policy-Revision` names, until the token expires. A line that is not a packet is
    /// answered with an error, and does not end the stream. Read the answers while you send: unread
    /// answers block the stream.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/inspections/",
        method = "post",
        operation_id = "inspectPackets"
    )]
    async fn many(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        body: PacketsBody,
    ) -> Result<Reply<Inspected, Vec<InspectionItemView>>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        let (start, now) = (Instant::now(), ctx.caller.now);
        let mut query = query.open(&Self::MANY);
        let explains = query.boolean("explain");
        query.finish()?;
        let body = match body {
            PacketsBody::Array(body) => body,
            PacketsBody::Lines(_) if explains => {
                let detail = "is not available for NDJSON: send the packets in question again as \
                              an array";
                return Err(Violations::from(Violation::query("explain", detail)).into());
            }
            PacketsBody::Lines(lines) => {
                let (streams, subject) = (&ctx.app.streams, &ctx.caller.actor.subject);
                let permit = streams.admit(&ctx.backend.budget, subject).await?;
                let inspected = ctx.compiled_policy(firewall, policy).await?;
                let revision = inspected.policy.revision.to_string();
                let answers = inspection_stream::answers(&ctx, inspected, lines, permit).await;
                return Ok(Reply::lines(LineFormat::Ndjson, answers)
                    .with_header(POLICY_REVISION, &revision));
            }
        };
        let packets = body.decode(move |bytes, meter| packets(bytes, now, explains, meter)).await?;
        let inspected = ctx.compiled_policy(firewall, policy).await?;
        let telemetry = Arc::clone(&ctx.app.telemetry);
        let finish = move |views: Vec<InspectionItemView>| {
            let actions = views.iter().map(|view| view.action);
            telemetry.metrics.inspected(actions, start.elapsed());
            Reply::new(&views)
        };
        let show = InspectionItemView::new;
        let all = ctx.app.inspections.decide_all(&ctx, inspected, packets, explains, show, finish);
        all.await?
    }

    const EACH: Operation = Operation::reads("inspectPacketOfFirewall").lists(PACKET, POLICIES);

    /// Inspect one packet in each policy of a firewall
    ///
    /// Returns a page of the firewall's policies by id, each with its own verdict. FireFlow does not
    /// know in which order a firewall applies its policies, so it does not combine the verdicts.
    /// `filter` selects policies, for example by label.
    #[oai(
        path = "/firewalls/:firewall_id/inspections/",
        method = "get",
        operation_id = "inspectPacketOfFirewall"
    )]
    async fn each(
        &self,
        ctx: As<Viewer>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        query: QueryString,
    ) -> Result<Reply<Listed, PolicyInspectionPage>, Problem> {
        let firewall = firewall_id(&firewall_id_raw)?;
        let (start, now) = (Instant::now(), ctx.caller.now);
        let address = query.address();
        let mut query = query.open(&Self::EACH);
        let parts = packet_parts(&mut query, now);
        // The time is not part of it, since it is usually that of the request.
        let shown = parts.map(|parts| PacketParts { at: DomainInstant::EPOCH, ..parts });
        let list = format!("policies of {firewall} for {shown:?}");
        let mut filter = PolicyFilter {
            expression: query.expression(Level::Policy, now),
            ..PolicyFilter::default()
        };
        let order: [SortKey<PolicyField>; 0] = [];
        let (scope, request) = query.part(&list, &mut filter.expression, &order, now);
        query.finish_list()?;
        let given = given_packet(parts)?;
        ctx.borrow_for_rows(request.size()).await?;
        let (page, known) = ctx
            .read_list(|uow, caller| {
                Box::pin(async move {
                    let page =
                        policy::page(uow, caller, firewall, &filter, &order, &request).await?;
                    Ok((page, uow.known_features()))
                })
            })
            .await?;
        let (mut items, mut newer) = (Vec::with_capacity(page.items.len()), Vec::new());
        for policy in &page.items {
            if !policy.features.without(known).is_empty() {
                newer.push(policy.reference());
                continue;
            }
            let inspected = match ctx.app.inspections.of(&ctx, Arc::new(policy.clone())).await {
                // It was deleted after the page was read.
                Err(ServiceError::Domain(Error::NotFound { .. })) => continue,
                found => found?,
            };
            let decide = move |it: &_| PolicyInspectionView::new(it, &given);
            items.push(ctx.app.inspections.decide(&ctx, &inspected, false, decide).await?);
        }
        let actions = items.iter().map(|item| item.action);
        ctx.app.telemetry.metrics.inspected(actions, start.elapsed());
        let left_out = LeftOutPolicies::of(newer);
        let view = PolicyInspectionPage {
            left_out: left_out.view(),
            ..PolicyInspectionPage::with(&page, &scope, items)
        };
        let reply = Reply::new(&view)?.with_pagination(&page, &address, &scope);
        Ok(reply.with_left_out(&left_out))
    }
}
