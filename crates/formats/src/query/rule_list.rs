//! Requests for lists of rules.

use fireflow_domain::filter::Level;
use fireflow_domain::ids::PolicyId;
use fireflow_domain::net::{AddressRange, PortRange};
use fireflow_domain::page::{Page, PageRequest, SortKey, Start};
use fireflow_domain::read_only::RULE;
use fireflow_domain::rule::Rule;
use fireflow_domain::store::{RuleField, RuleFilter};
use fireflow_domain::text::Name;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::rule::EVALUATION;

use super::{ListError, Query};
use crate::rule::action;
use crate::selected::Fields;
use crate::views::{Part, RuleView};

/// Which rules a request asks for, in which order, and what of them.
#[derive(Debug, Clone)]
pub struct RuleListQuery {
    /// Whether the whole list is requested, as lines.
    pub is_whole: bool,
    /// The requested page.
    pub request: PageRequest,
    /// The members that are shown; none: all.
    pub fields: Option<Fields>,
    /// The order.
    pub order: Vec<SortKey<RuleField>>,
    /// Whether it is one policy's list, in order of evaluation and without a filter.
    pub has_positions: bool,
    /// The filter.
    pub filter: RuleFilter,
    /// The scope of its cursors.
    pub scope: String,
}

fn rule_filter(query: &mut Query, as_lines: bool, now: Instant) -> RuleFilter {
    RuleFilter {
        deleted: query.deleted(as_lines),
        name: query.parse("name", Name::parse),
        action: query.parse("action", action),
        priority: query
            .integer("priority", i32::MIN.into(), i32::MAX.into())
            .and_then(|priority| i32::try_from(priority).ok()),
        source_address: query.parse("source_address", AddressRange::parse),
        source_port: query.parse("source_port", PortRange::parse),
        destination_address: query.parse("destination_address", AddressRange::parse),
        destination_port: query.parse("destination_port", PortRange::parse),
        port: query.parse("port", PortRange::parse),
        expression: query.expression(Level::Rule, now),
    }
}

impl RuleListQuery {
    /// Reads the parameters of a list, as lines or not: that of one policy, or if there is none, that
    /// across all policies.
    ///
    /// # Errors
    /// Returns all violations.
    pub fn read(
        mut query: Query,
        policy: Option<PolicyId>,
        as_lines: bool,
        now: Instant,
    ) -> Result<Self, ListError> {
        let mut filter = rule_filter(&mut query, as_lines, now);
        let mut order = query.order(RuleField::parse, RuleField::WORDS);
        let is_evaluation = order.is_empty() && policy.is_some();
        if is_evaluation {
            order = EVALUATION.to_vec();
        }
        let list = match policy {
            Some(policy) => format!("rules of {policy}"),
            None => "rules".to_owned(),
        };
        let (scope, request) = query.part(&list, &mut filter.expression, &order, now);
        let list = Self {
            is_whole: query.is_whole(as_lines),
            request,
            fields: query.fields(RuleView::MEMBERS),
            has_positions: is_evaluation && filter == RuleFilter::default(),
            order,
            filter,
            scope,
        };
        if policy.is_none() {
            list.check_across_policies(&mut query);
        }
        query.finish_list()?;
        Ok(list)
    }

    /// Whether the filter names moments that move with the clock.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        self.filter.expression.as_ref().is_some_and(|it| it.filter.is_relative())
    }

    /// Notes what only the list of one policy accepts.
    fn check_across_policies(&self, query: &mut Query) {
        use RuleField::{CreatedAt, ExpiresAt, Id, Name as ByName, UpdatedAt};
        if (RuleFilter { deleted: false, ..self.filter.clone() }) == RuleFilter::default() {
            let allowed = [Id, ByName, CreatedAt, UpdatedAt, ExpiresAt];
            query.only_ordered_by(&self.order, &allowed, RuleField::as_str);
        }
        let expression = self.filter.expression.as_ref();
        if expression.is_some_and(|it| it.filter.finding_kinds().is_some()) {
            let detail = "has `finding`, which needs the list of one policy: `GET \
                          /firewalls/{id}/filtering-policies/{id}/rules/`";
            query.fault("filter", detail);
        }
    }

    /// The parts of the whole list that a page omits. The last of several pages has no next page,
    /// but it omits the pages before it.
    pub fn partial(&self, page: &Page<Rule>) -> impl Iterator<Item = Part> {
        let is_first = match page.request.start() {
            Start::Page(number) => *number <= 1,
            Start::First => true,
            Start::Behind(_) => false,
        };
        let has_all_members = self.fields.as_ref().is_none_or(|fields| {
            // Read-only members are not lost if they are missing in a PUT.
            let is_read_only = |name: &str| RULE.iter().any(|member| member.name() == name);
            RuleView::MEMBERS.iter().all(|name| fields.has(name) || is_read_only(name))
        });
        let leaves_out = [
            (Part::Page, !is_first || page.next.is_some()),
            (Part::Filter, self.filter != RuleFilter::default()),
            (Part::Fields, !has_all_members),
        ];
        leaves_out.into_iter().filter_map(|(part, leaves)| leaves.then_some(part))
    }
}
