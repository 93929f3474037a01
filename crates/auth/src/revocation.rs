//! Revocations: single tokens, or all tokens of a subject issued up to an instant.
//!
//! One per line: `jti ID` or `sub SUBJECT UNTIL`. The latter refuses the subject's tokens that were
//! issued up to then, or that have no time of issue. Blank lines and lines that begin with `#` are
//! ignored.
//! not say when, is refused. Blank lines, and those that begin with `#`, say nothing.

use std::collections::{HashMap, HashSet};

use fireflow_domain::text::excerpt;
use fireflow_domain::time::Instant;

/// The revocations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    ids: HashSet<String>,
    subjects: HashMap<String, Instant>,
}

impl Revocations {
    /// Reads revocations. Returns the faults of unreadable lines, each with its line number; the
    /// other lines apply.
    #[must_use]
    pub fn read(text: &str) -> (Self, Vec<String>) {
        let (mut all, mut faults) = (Self::default(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(why) = all.add(line) {
                faults.push(format!("line {}: {why}", index + 1));
            }
        }
        (all, faults)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let takes = "must be `jti ID` or `sub SUBJECT 2026-11-24T12:00:00Z`";
        let (word, rest) = line.split_once(char::is_whitespace).ok_or(takes)?;
        let rest = rest.trim();
        match word {
            "jti" => {
                self.ids.insert(rest.to_owned());
            }
            "sub" => {
                // A subject may contain spaces; an instant does not.
                let (subject, until) = rest.rsplit_once(char::is_whitespace).ok_or(takes)?;
                let until = Instant::parse(until).map_err(|_| {
                    format!("`{}` is not an instant; the line {takes}", excerpt(until))
                })?;
                let noted = self.subjects.entry(subject.trim().to_owned()).or_insert(until);
                *noted = (*noted).max(until);
            }
            _ => return Err(takes.to_owned()),
        }
        Ok(())
    }

    /// The number of revocations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len() + self.subjects.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of another set's revocations are missing here, or are only partly covered.
    #[must_use]
    pub fn missing_of(&self, other: &Self) -> usize {
        let ids = other.ids.difference(&self.ids).count();
        let is_less = |(subject, until): &(&String, &Instant)| {
            self.subjects.get(*subject).is_none_or(|own| own < *until)
        };
        ids + other.subjects.iter().filter(is_less).count()
    }

    /// Adds the revocations of another set.
    pub fn extend(&mut self, other: Self) {
        self.ids.extend(other.ids);
        for (subject, until) in other.subjects {
            let noted = self.subjects.entry(subject).or_insert(until);
            *noted = (*noted).max(until);
        }
    }

    /// Whether a token is revoked: by its id, its subject and when it was issued.
    #[must_use]
    pub fn cover(&self, id: Option<&str>, subject: &str, issued_at: Option<Instant>) -> bool {
        id.is_some_and(|id| self.ids.contains(id))
            || self
                .subjects
                .get(subject)
                .is_some_and(|until| issued_at.is_none_or(|issued| issued <= *until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        Instant::parse(text).unwrap()
    }

    #[test]
    fn tokens_are_revoked_one_by_one_or_by_subject_and_instant() {
        let (all, faults) = Revocations::read(
            "# stolen laptop\njti 8e03-97\n\nsub ann 2026-11-24T12:00:00Z\n\
             sub svc deploy 2026-11-24T12:00:00Z\nsub ann 2026-11-23T12:00:00Z\n",
        );
        assert_eq!(faults, [""; 0]);
        assert!(all.cover(Some("8e03-97"), "bob", None));
        assert!(!all.cover(Some("8e03"), "bob", None));
        assert!(all.cover(None, "ann", Some(at("2026-11-24T12:00:00Z"))), "the later line holds");
        assert!(!all.cover(None, "ann", Some(at("2026-11-24T12:00:01Z"))));
        assert!(all.cover(None, "ann", None), "who does not say when");
        assert!(all.cover(None, "svc deploy", None) && !all.cover(None, "svc", None));
    }

    #[test]
    fn a_bad_line_is_told_and_the_others_hold() {
        let (all, faults) = Revocations::read("jti a\nsub ann\nann\nsub ann tomorrow\njti b");
        assert!(all.cover(Some("a"), "x", None) && all.cover(Some("b"), "x", None));
        assert_eq!(faults.len(), 3);
        assert!(faults[0].starts_with("line 2: must be `jti ID`"), "{faults:?}");
        assert!(faults[2].contains("`tomorrow` is not an instant"), "{faults:?}");
    }
}
