//! What happens to a packet, and why?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fireflow_domain::rule::Rule;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::{Tag, policy_ids};
use crate::auth::{As, Viewer};
use crate::dto::body::Body;
use crate::dto::inspection::{
    InspectionItemView, InspectionView, PacketBody, RuleSummaryView, packet_from_query, packets,
};
use crate::dto::view::RuleView;
use crate::params::{self, QueryString};
use crate::path_id::RawId;
use crate::problem::Problem;
use crate::reply::{Answered, Reply};

/// The inspections.
#[derive(Debug)]
pub struct Inspections;

#[OpenApi(tag = "Tag::Inspections")]
impl Inspections {
    /// Inspect one packet
    ///
    /// The verdict is that of the first active rule that matches, by priority and id, else the
    /// policy's default.
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
    ) -> Result<Reply<Answered, InspectionView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        let (start, now) = (Instant::now(), ctx.caller.now);
        let mut query = query.open(params::INSPECTION);
        let explains = query.boolean("explain");
        let packet = packet_from_query(query, now)?;
        let inspected = ctx.app.compiled.get(&ctx, firewall, policy).await?;
        // What a rule shows of its parents may have changed since it was compiled.
        let view = |rule: &Rule| {
            let rule = Rule { policy: inspected.policy.reference(), ..rule.clone() };
            RuleView::at(&rule, packet.at())
        };
        let view = InspectionView::new(&inspected, &packet, explains, view);
        ctx.app.telemetry.metrics.inspected([view.action.as_str()], start.elapsed());
        Reply::new(&view)
    }

    /// Inspect many packets
    ///
    /// Up to 10,000, at one state of the policy; the answers come in the same order.
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
        body: Body<Vec<PacketBody>>,
    ) -> Result<Reply<Answered, Vec<InspectionItemView>>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        let (start, now) = (Instant::now(), ctx.caller.now);
        let mut query = query.open(params::INSPECTIONS);
        let explains = query.boolean("explain");
        query.finish()?;
        let packets = body.read(|value, faults| packets(value, now, explains, faults))?;
        let inspected = ctx.app.compiled.get(&ctx, firewall, policy).await?;
        // Many packets over many rules take long: beside the threads that serve, and no longer than
        // somebody waits for it.
        let waits = Waits(Arc::new(AtomicBool::new(true)));
        let (is_awaited, telemetry) = (Arc::clone(&waits.0), Arc::clone(&ctx.app.telemetry));
        let inspect = move || {
            let views: Vec<InspectionItemView> = packets
                .iter()
                .take_while(|_| is_awaited.load(Ordering::Relaxed))
                .map(|packet| {
                    let view = |rule: &_| RuleSummaryView::from(rule);
                    InspectionItemView::new(&inspected, packet, explains, view)
                })
                .collect();
            let actions = views.iter().map(|view| view.action.as_str());
            telemetry.metrics.inspected(actions, start.elapsed());
            Reply::new(&views)
        };
        let reply = tokio::task::spawn_blocking(inspect).await.map_err(Problem::internal)?;
        drop(waits);
        reply
    }
}

/// Says, when it is dropped, that nobody waits any more.
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
