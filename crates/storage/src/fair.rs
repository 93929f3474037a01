//! A fair queue: tenants take turns, subjects take turns within a tenant, and the entries of one
//! subject are served in order of arrival. A thousand entries of one subject thus delay another
//! subject's single entry by one.

use std::collections::VecDeque;

use fireflow_domain::store::Party;

/// The queue. Adding and taking cost time proportional to the number of waiting parties.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    tenants: VecDeque<TenantQueue<T>>,
    len: usize,
    next_id: u64,
}

#[derive(Debug)]
struct TenantQueue<T> {
    tenant: u64,
    parties: VecDeque<PartyQueue<T>>,
}

#[derive(Debug)]
struct PartyQueue<T> {
    party: Party,
    entries: VecDeque<(u64, T)>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { tenants: VecDeque::new(), len: 0, next_id: 0 }
    }
}

impl<T> FairQueue<T> {
    /// How many entries wait.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Appends an entry to its party's own queue. Returns its number, which removes it.
    pub(crate) fn push(&mut self, party: Party, entry: T) -> u64 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.len += 1;
        let tenant = party.tenant();
        let entries = VecDeque::from([(id, entry)]);
        let Some(tenant) = self.tenants.iter_mut().find(|it| it.tenant == tenant) else {
            let parties = VecDeque::from([PartyQueue { party, entries }]);
            self.tenants.push_back(TenantQueue { tenant, parties });
            return id;
        };
        match tenant.parties.iter_mut().find(|it| it.party == party) {
            Some(queue) => queue.entries.extend(entries),
            None => tenant.parties.push_back(PartyQueue { party, entries }),
        }
        id
    }

    /// Takes the first entry of the next party among those that are accepted.
    pub(crate) fn pop(&mut self, accepts: impl Fn(Party) -> bool) -> Option<(Party, T)> {
        let (at_tenant, at_party) = self.tenants.iter().enumerate().find_map(|(at, tenant)| {
            let found = tenant.parties.iter().position(|it| accepts(it.party));
            found.map(|party| (at, party))
        })?;
        // Both go to the end of their queues, if they still have waiting entries.
        let mut tenant = self.tenants.remove(at_tenant)?;
        let mut queue = tenant.parties.remove(at_party)?;
        let party = queue.party;
        let (_, entry) = queue.entries.pop_front()?;
        self.len -= 1;
        if !queue.entries.is_empty() {
            tenant.parties.push_back(queue);
        }
        if !tenant.parties.is_empty() {
            self.tenants.push_back(tenant);
        }
        Some((party, entry))
    }

    /// Removes an entry that nobody waits for any more; the others keep their positions.
    pub(crate) fn remove(&mut self, party: Party, id: u64) -> Option<T> {
        let at_tenant = self.tenants.iter().position(|it| it.tenant == party.tenant())?;
        let tenant = self.tenants.get_mut(at_tenant)?;
        let at_party = tenant.parties.iter().position(|it| it.party == party)?;
        let queue = tenant.parties.get_mut(at_party)?;
        let at = queue.entries.iter().position(|(of, _)| *of == id)?;
        let (_, entry) = queue.entries.remove(at)?;
        self.len -= 1;
        if queue.entries.is_empty() {
            tenant.parties.remove(at_party);
        }
        if tenant.parties.is_empty() {
            self.tenants.remove(at_tenant);
        }
        Some(entry)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use fireflow_domain::actor::{Actor, Visibility};
    use fireflow_domain::text::Tenant;

    use super::*;

    /// A subject of a tenant, or of all tenants if none is given.
    pub(crate) fn party(subject: &str, tenant: Option<&str>) -> Party {
        let visibility = tenant.map_or(Visibility::All, |tenant| {
            Visibility::Tenants(vec![Tenant::parse(tenant).unwrap()])
        });
        Party::of(&Actor { subject: subject.into(), roles: Vec::new(), visibility })
    }

    fn drain(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop(|_| true)).map(|(_, entry)| entry).collect()
    }

    #[test]
    fn one_entry_waits_for_one_of_each_other_subject_and_not_for_all() {
        let mut queue = FairQueue::default();
        let (ann, ben) = (party("ann", None), party("ben", None));
        for entry in ["a1", "a2", "a3", "a4"] {
            queue.push(ann, entry);
        }
        queue.push(ben, "b1");
        assert_eq!(queue.len(), 5);
        assert_eq!(drain(&mut queue), ["a1", "b1", "a2", "a3", "a4"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_tenant_with_many_subjects_has_one_share() {
        let mut queue = FairQueue::default();
        for (subject, entry) in [("s1", "x1"), ("s2", "x2"), ("s3", "x3")] {
            queue.push(party(subject, Some("x")), entry);
        }
        for entry in ["y1", "y2"] {
            queue.push(party("t", Some("y")), entry);
        }
        assert_eq!(drain(&mut queue), ["x1", "y1", "x2", "y2", "x3"]);
    }

    #[test]
    fn who_is_not_accepted_keeps_its_place_and_who_leaves_gives_it_up() {
        let mut queue = FairQueue::default();
        let (ann, ben) = (party("ann", None), party("ben", None));
        let first = queue.push(ann, "a1");
        queue.push(ann, "a2");
        queue.push(ben, "b1");
        assert_eq!(queue.pop(|it| it == ben), Some((ben, "b1")));
        assert_eq!(queue.remove(ben, 2), None);
        assert_eq!(queue.remove(ann, first), Some("a1"));
        assert_eq!(queue.remove(ann, first), None);
        assert_eq!(drain(&mut queue), ["a2"]);
    }
}
