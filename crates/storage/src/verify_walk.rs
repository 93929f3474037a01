//! The walk along all chains of a kind: events and stored heads, both in the order of the chains'
//! resources.

use std::collections::{HashMap, VecDeque};

use fireflow_domain::audit::AuditAction;
use fireflow_domain::audit_chain::{Chain, ChainedEvent, EventHash, Head};
use fireflow_domain::error::Resource;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, FromQueryResult};

use crate::entity::audit_event::Model;
use crate::verify::{AuditFault, AuditFinding, Report, hash, owner, rows};

/// How many events or heads are looked up at once.
const ROWS_AT_ONCE: usize = 1_000;
/// How many bytes of states are read at once; a single event may have more.
const BYTES_AT_ONCE: i64 = 4 * 1024 * 1024;

/// The position of an event, and the size of its states.
struct Found {
    owner: i64,
    sequence: i64,
    id: i64,
    bytes: i64,
}

/// The chain that is being walked.
struct Current {
    chain: Chain,
    /// Its last event: the position, the id and the hash.
    last: Option<(i64, i64, Vec<u8>)>,
}

/// A walk along all chains of firewalls, or of policies.
pub(crate) struct Walk<'a> {
    snapshot: &'a DatabaseTransaction,
    kind: Resource,
    after: Option<(i64, i64, i64)>,
    current: Option<Current>,
    heads: StoredHeads<'a>,
    chains: u64,
    events: u64,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(snapshot: &'a DatabaseTransaction, kind: Resource) -> Self {
        let heads = StoredHeads { snapshot, kind, page: VecDeque::new(), after: Some(i64::MIN) };
        Self { snapshot, kind, after: None, current: None, heads, chains: 0, events: 0 }
    }

    /// Walks to the end. Returns the numbers of chains and events.
    pub(crate) async fn run(mut self, report: Report<'_>) -> Result<(u64, u64), DbErr> {
        loop {
            let found = self.find().await?;
            let Some(last) = found.last() else { break };
            self.after = Some((last.owner, last.sequence, last.id));
            let mut rest = found.as_slice();
            while !rest.is_empty() {
                let mut bytes = 0_i64;
                let fits = |event: &&Found| {
                    bytes = bytes.saturating_add(event.bytes);
                    bytes <= BYTES_AT_ONCE
                };
                let count = rest.iter().take_while(fits).count().max(1);
                let (now, later) = rest.split_at(count);
                self.read(now, report).await?;
                rest = later;
            }
        }
        self.end_chain(report).await?;
        // Chains without any event left.
        while let Some((id, sequence, _)) = self.heads.next().await? {
            self.report_all_missing(id, sequence, report);
        }
        Ok((self.chains, self.events))
    }

    /// The next events, without their contents.
    async fn find(&self) -> Result<Vec<Found>, DbErr> {
        let (owner, of_kind) = owner(self.kind);
        let length = match self.snapshot.get_database_backend() {
            DbBackend::Postgres => "octet_length",
            // For a text, this counts characters: a text has up to four times as many bytes.
            _ => "length",
        };
        let behind = self.after.map_or_else(String::new, |(of, sequence, id)| {
            format!("AND ({owner}, sequence, id) > ({of}, {sequence}, {id})")
        });
        let sql = format!(
            "SELECT {owner}, sequence, id, CAST(coalesce({length}(state_before), 0) \
             + coalesce({length}(state_after), 0) AS bigint) FROM audit_event \
             WHERE {of_kind} {behind} ORDER BY {owner}, sequence, id LIMIT {ROWS_AT_ONCE}"
        );
        let found = rows(self.snapshot, sql).await?;
        found
            .iter()
            .map(|row| {
                Ok(Found {
                    owner: row.try_get_by_index(0)?,
                    sequence: row.try_get_by_index(1)?,
                    id: row.try_get_by_index(2)?,
                    bytes: row.try_get_by_index(3)?,
                })
            })
            .collect()
    }

    /// Reads events and checks each of them.
    async fn read(&mut self, found: &[Found], report: Report<'_>) -> Result<(), DbErr> {
        let ids: Vec<String> = found.iter().map(|event| event.id.to_string()).collect();
        let sql = format!("SELECT * FROM audit_event WHERE id IN ({})", ids.join(","));
        let mut models = HashMap::with_capacity(found.len());
        for row in rows(self.snapshot, sql).await? {
            // A row that another program wrote may not be an event.
            if let Ok(model) = Model::from_query_result(&row, "") {
                models.insert(model.id, model);
            }
        }
        for event in found {
            self.events = self.events.saturating_add(1);
            let chain = Chain::parse(self.kind.as_str(), event.owner);
            let (Some(chain), Some(model)) = (chain, models.remove(&event.id)) else {
                let event = Some(event.id);
                report(AuditFinding::Fault(AuditFault::Unreadable { event }));
                continue;
            };
            if self.current.as_ref().is_none_or(|current| current.chain != chain) {
                self.end_chain(report).await?;
                self.current = Some(Current { chain, last: None });
            }
            if let Some(current) = &mut self.current {
                current.check(event.sequence, &model, report);
            }
        }
        Ok(())
    }

    /// Compares the last event of the walked chain with the stored head.
    async fn end_chain(&mut self, report: Report<'_>) -> Result<(), DbErr> {
        let Some(Current { chain, last: Some((last, event, stored)) }) = self.current.take() else {
            return Ok(());
        };
        self.chains = self.chains.saturating_add(1);
        if let Some(hash) = hash(Some(&stored)) {
            report(AuditFinding::Chain(chain, Head { sequence: last, hash }));
        }
        let head = loop {
            match self.heads.next_to(chain.id()).await? {
                Some((id, sequence, _)) if id < chain.id() => {
                    self.report_all_missing(id, sequence, report);
                }
                head => break head,
            }
        };
        match head {
            Some((_, sequence, hash)) if sequence == last && hash == stored => {}
            Some((_, sequence, _)) if sequence > last => {
                let first = last.saturating_add(1);
                let missing = AuditFault::Missing { chain, first, last: sequence, before: None };
                report(AuditFinding::Fault(missing));
            }
            head => {
                let stored = head.map(|(_, sequence, _)| sequence);
                let differs = AuditFault::HeadDiffers { chain, last, event, stored };
                report(AuditFinding::Fault(differs));
            }
        }
        Ok(())
    }

    fn report_all_missing(&self, id: i64, sequence: i64, report: Report<'_>) {
        if sequence > 0
            && let Some(chain) = Chain::parse(self.kind.as_str(), id)
        {
            let missing = AuditFault::Missing { chain, first: 1, last: sequence, before: None };
            report(AuditFinding::Fault(missing));
        }
    }
}

impl Current {
    /// Checks an event against its hash and its predecessor.
    fn check(&mut self, sequence: i64, model: &Model, report: Report<'_>) {
        let (chain, event) = (self.chain, model.id);
        let mut fault = |fault| report(AuditFinding::Fault(fault));
        let (last, last_id) = self.last.as_ref().map_or((0, 0), |(last, id, _)| (*last, *id));
        let expected = last.saturating_add(1);
        let stored = model.hash.clone().unwrap_or_default();
        let predecessor = hash(model.predecessor.as_deref());
        if sequence > expected {
            let (first, last) = (expected, sequence.saturating_sub(1));
            fault(AuditFault::Missing { chain, first, last, before: Some(event) });
        } else if sequence < expected || event <= last_id {
            fault(AuditFault::OutOfOrder { chain, sequence, event });
        } else {
            let is_next = match &self.last {
                Some((_, _, hash)) => model.predecessor.as_ref() == Some(hash),
                None => {
                    let is_creation = model.action == AuditAction::Create.as_str();
                    predecessor == Some(EventHash::genesis(chain, is_creation))
                }
            };
            if !is_next {
                fault(AuditFault::PredecessorDiffers { chain, sequence, event });
            }
        }
        match (hash(Some(&stored)), predecessor) {
            (Some(hash), _) if !hash.is_known() => {
                fault(AuditFault::UnknownVersion { chain, event });
            }
            (Some(hash), Some(predecessor))
                if hash == EventHash::of(&chained(chain, sequence, &predecessor, model)) => {}
            _ => fault(AuditFault::HashDiffers { chain, sequence, event }),
        }
        self.last = Some((sequence, event, stored));
    }
}

/// The hashed content of a row.
fn chained<'a>(
    chain: Chain,
    sequence: i64,
    predecessor: &'a EventHash,
    model: &'a Model,
) -> ChainedEvent<'a> {
    ChainedEvent {
        chain,
        sequence,
        predecessor,
        at: model.at,
        subject: &model.subject,
        request_id: &model.request_id,
        client_address: &model.client_address,
        reason: &model.reason,
        action: &model.action,
        resource: &model.resource,
        resource_id: model.resource_id,
        firewall_id: model.firewall_id,
        policy_id: model.policy_id,
        tenant: model.tenant.as_deref(),
        former_tenant: model.former_tenant.as_deref(),
        before: model.state_before.as_deref(),
        after: model.state_after.as_deref(),
    }
}

/// A stored head: the id of its chain's resource, its position, its hash.
type StoredHead = (i64, i64, Vec<u8>);

/// The stored heads, of existing and of purged resources, in the order of ids.
struct StoredHeads<'a> {
    snapshot: &'a DatabaseTransaction,
    kind: Resource,
    page: VecDeque<StoredHead>,
    /// The id that the next page continues after; `None` after the last page.
    after: Option<i64>,
}

impl StoredHeads<'_> {
    /// The next head.
    async fn next(&mut self) -> Result<Option<StoredHead>, DbErr> {
        self.fill().await?;
        Ok(self.page.pop_front())
    }

    /// The next head up to an id.
    async fn next_to(&mut self, id: i64) -> Result<Option<StoredHead>, DbErr> {
        self.fill().await?;
        Ok(self.page.pop_front_if(|(next, _, _)| *next <= id))
    }

    async fn fill(&mut self) -> Result<(), DbErr> {
        let Some(after) = self.after.filter(|_| self.page.is_empty()) else { return Ok(()) };
        let table = match self.kind {
            Resource::Firewall => "firewall",
            Resource::Policy | Resource::Rule => "policy",
        };
        let sql = format!(
            "SELECT id, audit_sequence, audit_hash FROM {table} WHERE id > {after} \
             UNION ALL SELECT id, sequence, hash FROM audit_head \
             WHERE resource = '{}' AND id > {after} ORDER BY 1 LIMIT {ROWS_AT_ONCE}",
            self.kind.as_str()
        );
        let page = rows(self.snapshot, sql).await?;
        for row in &page {
            let hash: Option<Vec<u8>> = row.try_get_by_index(2)?;
            let head =
                (row.try_get_by_index(0)?, row.try_get_by_index(1)?, hash.unwrap_or_default());
            self.page.push_back(head);
        }
        let is_last = page.len() < ROWS_AT_ONCE;
        self.after = self.page.back().filter(|_| !is_last).map(|(id, _, _)| *id);
        Ok(())
    }
}
