//! The audit chains that one unit of work continues. It knows the heads of the rows that it has
//! locked or created, and writes the new heads together with the rows that it changes anyway.

use std::collections::BTreeMap;

use fireflow_domain::audit::{AuditAction, AuditEvent};
use fireflow_domain::audit_chain::{Chain, ChainedEvent, EventHash, Head};
use fireflow_domain::error::StoreError;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::store::StoreResult;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};

use crate::audit_log::AuditLine;
use crate::entity::{audit_event, firewall, policy};
use crate::error::store_error;
use crate::mapping::{EventTexts, audit_row};
use crate::repository::one_row;
use crate::unit_of_work::SeaUnitOfWork;

/// The chains that a unit of work may continue, as far as it knows them.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    known: BTreeMap<Chain, KnownHead>,
    tenants: BTreeMap<FirewallId, String>,
}

#[derive(Debug)]
struct KnownHead {
    /// `None` before the first event.
    head: Option<Head>,
    /// Whether the unit of work has appended to the chain.
    has_grown: bool,
    /// Whether the row of the chain's resource has the head.
    is_written: bool,
}

/// The head as its two columns store it.
pub(crate) struct HeadColumns {
    pub(crate) sequence: i64,
    pub(crate) hash: Option<Vec<u8>>,
}

impl Chains {
    /// Records the head of a locked row, unless its chain is already known.
    pub(crate) fn note(&mut self, chain: Chain, columns: &HeadColumns) -> StoreResult<()> {
        let head = match (&columns.hash, columns.sequence) {
            (None, 0) => None,
            (Some(bytes), sequence) => {
                let hash = EventHash::from_bytes(bytes);
                Some(Head { sequence, hash: hash.ok_or_else(|| unreadable(chain))? })
            }
            (None, _) => return Err(unreadable(chain)),
        };
        let known = KnownHead { head, has_grown: false, is_written: true };
        self.known.entry(chain).or_insert(known);
        Ok(())
    }

    /// Records that a resource was created: its chain begins.
    pub(crate) fn note_new(&mut self, chain: Chain) {
        let known = KnownHead { head: None, has_grown: false, is_written: true };
        self.known.entry(chain).or_insert(known);
    }

    /// The head of a chain that the unit of work knows, with the events that it has appended.
    pub(crate) fn head(&self, chain: Chain) -> Option<Head> {
        self.known.get(&chain)?.head
    }

    /// Records the tenant of a firewall.
    pub(crate) fn note_tenant(&mut self, firewall: FirewallId, tenant: &str) {
        self.tenants.entry(firewall).or_insert_with(|| tenant.to_owned());
    }

    /// Appends an event to its chain. Returns `None` if it concerns no resource.
    fn append(
        &mut self,
        event: &AuditEvent,
    ) -> StoreResult<Option<(audit_event::ActiveModel, AuditLine)>> {
        let Some(subject) = event.subject() else { return Ok(None) };
        let chain = subject.chain();
        let tenant = match subject.tenant() {
            Some(tenant) => Some(tenant.as_str()),
            None => self.tenants.get(&subject.firewall_id()).map(String::as_str),
        };
        let (Some(known), Some(tenant)) = (self.known.get_mut(&chain), tenant) else {
            let why = format!("an audit event of {chain}, which was not locked");
            return Err(StoreError::Failed(why.into()));
        };
        let (sequence, predecessor) = match known.head {
            Some(Head { sequence, hash }) => (sequence.saturating_add(1), hash),
            None => (1, EventHash::genesis(chain, event.action == AuditAction::Create)),
        };
        let texts = EventTexts::of(event);
        let caller = &event.caller;
        let hash = EventHash::of(&ChainedEvent {
            chain,
            sequence,
            predecessor: &predecessor,
            at: caller.now.micros(),
            subject: &caller.actor.subject,
            request_id: &caller.request_id,
            client_address: &caller.client_address,
            reason: &caller.reason,
            action: event.action.as_str(),
            resource: subject.resource().as_str(),
            resource_id: subject.id(),
            firewall_id: subject.firewall_id().get(),
            policy_id: subject.policy_id().map(PolicyId::get),
            tenant: Some(tenant),
            former_tenant: event.former_tenant().map(|tenant| tenant.as_str()),
            before: texts.before.as_deref(),
            after: texts.after.as_deref(),
        });
        let row = audit_event::ActiveModel {
            tenant: Set(Some(tenant.to_owned())),
            former_tenant: Set(event.former_tenant().map(|tenant| tenant.as_str().to_owned())),
            policy_id: Set(subject.policy_id().map(PolicyId::get)),
            sequence: Set(Some(sequence)),
            predecessor: Set(Some(predecessor.as_bytes().to_vec())),
            hash: Set(Some(hash.as_bytes().to_vec())),
            ..audit_row(event, subject, texts)
        };
        *known =
            KnownHead { head: Some(Head { sequence, hash }), has_grown: true, is_written: false };
        Ok(Some((row, AuditLine::of(event, subject))))
    }

    /// The head of a chain that has grown, for the caller that writes the row of the chain's
    /// resource now.
    pub(crate) fn take_unwritten(&mut self, chain: Chain) -> Option<HeadColumns> {
        let known = self.known.get_mut(&chain).filter(|known| !known.is_written)?;
        known.is_written = true;
        known.head.map(|Head { sequence, hash }| HeadColumns {
            sequence,
            hash: Some(hash.as_bytes().to_vec()),
        })
    }

    /// The chains whose new heads are in no row yet.
    fn unwritten(&self) -> Vec<Chain> {
        let unwritten = self.known.iter().filter(|(_, known)| !known.is_written);
        unwritten.map(|(chain, _)| *chain).collect()
    }

    /// The heads of the chains that have grown.
    pub(crate) fn grown(&self) -> Vec<(Chain, Head)> {
        let grown = self.known.iter().filter(|(_, known)| known.has_grown);
        grown.filter_map(|(chain, known)| Some((*chain, known.head?))).collect()
    }
}

fn unreadable(chain: Chain) -> StoreError {
    StoreError::Failed(format!("the head of the audit chain of {chain} cannot be read").into())
}

impl SeaUnitOfWork {
    /// Appends events to their chains. One statement for each 1,000 events.
    pub(crate) async fn append_events(&mut self, events: &[AuditEvent]) -> StoreResult<()> {
        let (mut chains, mut lines) = (std::mem::take(&mut self.chains), Vec::new());
        let rows = events.iter().filter_map(|event| match chains.append(event) {
            Ok(Some((row, line))) => {
                lines.push(line);
                Some(Ok(row))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        });
        let written = self.insert_each::<audit_event::ActiveModel>(rows).await;
        self.chains = chains;
        self.events.append(&mut lines);
        written
    }

    /// Writes the heads that no other write has included, those of created rows. One statement for
    /// each chain, of which a unit of work has one or two.
    pub(crate) async fn write_heads(&mut self) -> StoreResult<()> {
        for chain in self.chains.unwritten() {
            let Some(HeadColumns { sequence, hash }) = self.chains.take_unwritten(chain) else {
                continue;
            };
            let id = chain.id();
            let result = match chain {
                Chain::Firewall(_) => {
                    let row = firewall::ActiveModel {
                        audit_sequence: Set(sequence),
                        audit_hash: Set(hash),
                        ..Default::default()
                    };
                    let update = firewall::Entity::update_many().set(row);
                    update.filter(firewall::Column::Id.eq(id)).exec(&self.db()).await
                }
                Chain::Policy(_) => {
                    let row = policy::ActiveModel {
                        audit_sequence: Set(sequence),
                        audit_hash: Set(hash),
                        ..Default::default()
                    };
                    let update = policy::Entity::update_many().set(row);
                    update.filter(policy::Column::Id.eq(id)).exec(&self.db()).await
                }
            };
            one_row(chain.resource().as_str(), id, &result.map_err(store_error)?)?;
        }
        Ok(())
    }
}
