//! The source or the destination of a rule: a set of pairs of an address and a port, in canonical
//! form.

use super::intern::{FxHashMap, Interned, ListId};
use super::ranges::{Range, contains, has, meets, normalized};

/// Addresses of a side that have the same set of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    pub(super) first: u32,
    pub(super) end: u32,
    /// The set of ports, or of ICMP types or codes.
    pub(super) field: ListId,
}

/// All addresses of a side that have the same set of ports: a product of two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub(super) addresses: ListId,
    pub(super) field: ListId,
}

/// Sides, each stored once. Two sides with the same meaning have the same number, whatever their
/// spelling.
#[derive(Debug, Default)]
pub(super) struct Sides {
    /// Disjoint and in order, and neighbors have different fields.
    segments: Interned<Segment>,
    /// The groups of each side.
    groups: Vec<Vec<Group>>,
}

impl Sides {
    /// The number of a side that is given by its entries, each with the set of its ports.
    pub(super) fn id(
        &mut self,
        sets: &mut Interned<Range>,
        entries: &mut [(ListId, Range)],
    ) -> ListId {
        let first = entries.first().map_or(0, |entry| entry.0);
        let segments = if entries.iter().all(|entry| entry.0 == first) {
            let addresses = normalized(entries.iter().map(|entry| entry.1).collect());
            addresses.iter().map(|it| Segment { first: it.0, end: it.1, field: first }).collect()
        } else {
            entries.sort_unstable();
            divided(sets, entries)
        };
        self.id_of_segments(sets, &segments)
    }

    fn id_of_segments(&mut self, sets: &mut Interned<Range>, segments: &[Segment]) -> ListId {
        let id = self.segments.id(segments);
        if id as usize == self.groups.len() {
            let groups = grouped(sets, segments);
            self.groups.push(groups);
        }
        id
    }

    /// The segments of a side, in order.
    #[inline]
    pub(super) fn segments(&self, side: ListId) -> &[Segment] {
        self.segments.get(side)
    }

    /// The groups of a side. Their addresses are disjoint.
    #[inline]
    pub(super) fn groups(&self, side: ListId) -> &[Group] {
        self.groups.get(side as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether a pair is in a side.
    pub(super) fn has(
        &self,
        sets: &Interned<Range>,
        side: ListId,
        address: u32,
        port: u32,
    ) -> bool {
        let segments = self.segments(side);
        let skipped = segments.partition_point(|it| it.end <= address);
        segments.get(skipped).is_some_and(|it| it.first <= address && has(sets.get(it.field), port))
    }

    /// Whether two sides have a pair in common. Adds to `steps` what it looked at.
    pub(super) fn meet(
        &self,
        sets: &Interned<Range>,
        a: ListId,
        b: ListId,
        steps: &mut u64,
    ) -> bool {
        if a == b {
            return true;
        }
        let (a, b) = (self.segments(a), self.segments(b));
        let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        let mut rest = long;
        short.iter().any(|own| {
            let skipped = rest.partition_point(|it| it.end <= own.first);
            rest = rest.get(skipped..).unwrap_or_default();
            *steps += 1;
            rest.iter().take_while(|it| it.first < own.end).any(|it| {
                *steps += 1;
                own.field == it.field || meets(sets.get(own.field), sets.get(it.field))
            })
        })
    }

    /// Whether one side contains another. Adds to `steps` what it looked at.
    pub(super) fn contain(
        &self,
        sets: &Interned<Range>,
        a: ListId,
        b: ListId,
        steps: &mut u64,
    ) -> bool {
        if a == b {
            return true;
        }
        let mut rest = self.segments(a);
        self.segments(b).iter().all(|own| {
            let skipped = rest.partition_point(|it| it.end <= own.first);
            rest = rest.get(skipped..).unwrap_or_default();
            let mut at = own.first;
            for it in rest.iter().take_while(|it| it.first < own.end) {
                *steps += 1;
                let has_ports =
                    it.field == own.field || contains(sets.get(it.field), sets.get(own.field));
                if it.first > at || !has_ports {
                    return false;
                }
                at = it.end;
            }
            at >= own.end
        })
    }
}

/// Divides overlapping entries into segments. The entries are in order of their fields.
fn divided(sets: &mut Interned<Range>, entries: &[(ListId, Range)]) -> Vec<Segment> {
    // The first address of each range of a field, and the first after it.
    let mut events: Vec<(u32, bool, ListId)> = Vec::with_capacity(entries.len() * 2);
    for same in entries.chunk_by(|a, b| a.0 == b.0) {
        let Some((field, _)) = same.first() else { continue };
        for range in normalized(same.iter().map(|entry| entry.1).collect()) {
            events.push((range.0, true, *field));
            events.push((range.1, false, *field));
        }
    }
    events.sort_unstable();
    let mut segments: Vec<Segment> = Vec::with_capacity(events.len());
    let mut unions: FxHashMap<Vec<ListId>, ListId> = FxHashMap::default();
    let mut active: Vec<ListId> = Vec::new();
    let mut from = 0;
    for (at, begins, field) in events {
        if at > from
            && let Some(field) = union_of(sets, &mut unions, &active)
        {
            match segments.last_mut() {
                Some(last) if last.end == from && last.field == field => last.end = at,
                _ => segments.push(Segment { first: from, end: at, field }),
            }
        }
        from = at;
        match (active.binary_search(&field), begins) {
            (Err(place), true) => active.insert(place, field),
            (Ok(place), false) => {
                active.remove(place);
            }
            // The ranges of one field are apart.
            (Ok(_), true) | (Err(_), false) => {}
        }
    }
    segments
}

/// The set of all ports of some fields; none if there are no fields.
fn union_of(
    sets: &mut Interned<Range>,
    unions: &mut FxHashMap<Vec<ListId>, ListId>,
    fields: &[ListId],
) -> Option<ListId> {
    match fields {
        [] => None,
        [field] => Some(*field),
        _ => Some(unions.get(fields).copied().unwrap_or_else(|| {
            let all = fields.iter().flat_map(|field| sets.get(*field)).copied().collect();
            let union = sets.id(&normalized(all));
            unions.insert(fields.to_vec(), union);
            union
        })),
    }
}

/// The segments of a side, grouped by their fields.
fn grouped(sets: &mut Interned<Range>, segments: &[Segment]) -> Vec<Group> {
    let mut by_field: Vec<&Segment> = segments.iter().collect();
    by_field.sort_by_key(|segment| segment.field);
    let mut groups = Vec::new();
    for same in by_field.chunk_by(|a, b| a.field == b.field) {
        let Some(first) = same.first() else { continue };
        let addresses: Vec<Range> = same.iter().map(|it| (it.first, it.end)).collect();
        let from = first.first;
        let addresses = sets.id(&normalized(addresses));
        groups.push((from, Group { addresses, field: first.field }));
    }
    // Their order must not depend on the numbers of sets, which depend on all rules.
    groups.sort_unstable_by_key(|it| it.0);
    groups.into_iter().map(|it| it.1).collect()
}
