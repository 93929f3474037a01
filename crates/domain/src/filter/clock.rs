//! What the clock alone changes about a filter.

use super::moment::Moment;
use super::tree::{Filter, Logic, Ordered, Test};
use crate::rule::WarningCode;

impl Filter {
    /// Whether what fits changes by the clock alone: it asks for states, for
    /// warnings that come with time, for findings, or for moments that move.
    #[must_use]
    pub fn depends_on_clock(&self) -> bool {
        self.condition.has(&|test| match test {
            Test::State(_) | Test::Warning(None) | Test::Finding(_) => true,
            Test::Warning(Some(codes)) => codes.contains(&WarningCode::Expired),
            other => other.is_relative(),
        })
    }

    /// Whether it asks for moments that move with the clock.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        self.condition.has(&Test::is_relative)
    }
}

impl Test {
    fn is_relative(&self) -> bool {
        let moves = |moment: &Moment| matches!(moment, Moment::FromNow(_));
        let Self::Instant(_, test) = self else { return false };
        match test {
            Ordered::Absent => false,
            Ordered::OneOf(moments) => moments.iter().any(moves),
            Ordered::Less(moment)
            | Ordered::AtMost(moment)
            | Ordered::Greater(moment)
            | Ordered::AtLeast(moment) => moves(moment),
        }
    }
}

impl<T> Logic<T> {
    /// Whether some test of it is such.
    pub(super) fn has(&self, such: &dyn Fn(&T) -> bool) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.has(such)),
            Self::Not(part) => part.has(such),
            Self::Is(test) => such(test),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Level;

    #[test]
    fn a_filter_knows_whether_the_clock_changes_what_fits() {
        for (text, is_relative, depends) in [
            ("expires_at < 2027-01-01T00:00:00Z", false, false),
            ("expires_at = null", false, false),
            ("NOT (log = true AND expires_at IN (null, now))", true, true),
            ("firewall.updated_at >= now - 1d OR log = true", true, true),
            ("NOT state = expired", false, true),
            ("warnings = null", false, true),
            ("warnings IN (ports_without_effect, expired)", false, true),
            ("warnings = ports_without_effect", false, false),
            ("finding = unreachable", false, true),
        ] {
            let filter = Filter::parse(Level::Rule, text).unwrap();
            assert_eq!((filter.is_relative(), filter.depends_on_clock()), (is_relative, depends));
        }
    }
}
