//! Checks the rules after a batch as a whole: no duplicate names, no duplicate contents.

use std::collections::HashMap;

use super::{FIRST_PROVISIONAL, Working, WorkingRule};
use crate::error::{Rival, Violation, ViolationCode};
use crate::ids::RuleId;
use crate::rule::Duplicates;
use crate::rule::fingerprint::Fingerprint;

/// Two rules with the same name or equivalent contents after the batch.
struct Clash {
    /// The operation that is to blame.
    operation: usize,
    detail: String,
    /// The other rule, or the operation that made it.
    rival: Rival,
}

impl Working {
    /// Checks the end state: no duplicate names, and no duplicate contents unless they are kept.
    /// Returns [`Duplicates::Keep`] if there are duplicates: rules that were equivalent before the
    /// batch are not refused.
    pub(super) fn judge(&mut self, duplicates: Duplicates) -> Duplicates {
        let mut names: HashMap<&str, RuleId> = HashMap::new();
        let mut contents: HashMap<Fingerprint, RuleId> = HashMap::new();
        let mut clashes: Vec<(Clash, ViolationCode)> = Vec::new();
        let mut found = duplicates;
        for (id, entry) in
            self.order.iter().filter_map(|(id, _)| Some((*id, self.entries.get(id)?)))
        {
            if let Some(name) = &entry.spec.name
                && let Some(other) = names.insert(name.as_str(), id)
            {
                let clash =
                    self.clash(other, id, "has the same name as", WorkingRule::has_new_name);
                clashes.extend(clash.map(|clash| (clash, ViolationCode::NameTaken)));
            }
            if let Some(other) = contents.insert(Fingerprint::of(&entry.spec), id) {
                found = Duplicates::Keep;
                let is_kept =
                    |id: RuleId| self.entries.get(&id).is_some_and(|it| it.keeps_duplicate);
                if duplicates == Duplicates::Refuse && !is_kept(id) && !is_kept(other) {
                    let clash =
                        self.clash(other, id, "is equivalent to", WorkingRule::has_new_content);
                    clashes.extend(clash.map(|clash| (clash, ViolationCode::EqualRule)));
                }
            }
        }
        clashes.sort_by(|(one, _), (other, _)| {
            (one.operation, &one.detail).cmp(&(other.operation, &other.detail))
        });
        for (Clash { operation, detail, rival }, code) in clashes {
            let pointer = format!("/operations/{operation}");
            self.violations.push(Violation::body(pointer, detail).coded(code).against(rival));
        }
        found
    }

    /// The clash of two rules. It blames the later one of the operations that caused it.
    fn clash(
        &self,
        one: RuleId,
        other: RuleId,
        what: &str,
        is_new: impl Fn(&WorkingRule) -> bool,
    ) -> Option<Clash> {
        let blame = |id: RuleId| {
            let entry = self.entries.get(&id)?;
            entry.asked_by.filter(|_| is_new(entry))
        };
        let (index, with) = match (blame(one), blame(other)) {
            (None, None) => return None,
            (Some(first), Some(second)) if first > second => (first, other),
            (Some(first), None) => (first, other),
            (_, Some(second)) => (second, one),
        };
        let (with, rival) = match blame(with).filter(|_| with.get() >= FIRST_PROVISIONAL) {
            Some(operation) => {
                let pointer = format!("/operations/{operation}");
                (format!("that of #{pointer}"), Rival::Body(pointer))
            }
            None => (format!("the one with id={with}"), Rival::Stored(with.get())),
        };
        Some(Clash { operation: index, detail: format!("the rule {what} {with}"), rival })
    }
}
