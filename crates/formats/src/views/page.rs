//! Pages of lists as JSON.

use fireflow_domain::page::Page;
use schemars::JsonSchema;
use serde::Serialize;

use super::audit::AuditEventView;
use super::inspection::PolicyInspectionView;
use super::left_out::LeftOutView;
use super::resources::{FirewallView, PolicyView};
use super::rule::RuleView;
use crate::cursor;

macro_rules! pages {
    ($(#[$doc:meta])* $name:ident, $schema:literal, $item:ty
     $(, $(#[$more_doc:meta])* $more:ident: $more_type:ty)*) => {
        $(#[$doc])*
        #[derive(Debug, Serialize, JsonSchema)]
        #[schemars(rename = $schema)]
        pub struct $name {
            /// The items on the page.
            pub items: Vec<$item>,
            /// How many items the whole list has, if they were counted.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub total: Option<u64>,
            /// False if counting stopped at `total` and the list has more items.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub total_is_exact: Option<bool>,
            /// The page's number, from 1, if the page was requested by number.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub page: Option<u32>,
            /// The maximum number of items on a page.
            pub page_size: u32,
            /// Another name for `page_size`.
            pub per_page: u32,
            /// The `cursor` of the next page; omitted on the last page.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub next_cursor: Option<String>,
            $($(#[$more_doc])* pub $more: $more_type,)*
        }

        impl $name {
            /// Converts a page of the domain, with the views of its items.
            #[must_use]
            pub fn with<T>(page: &Page<T>, scope: &str, items: Vec<$item>) -> Self {
                Self {
                    items,
                    total: page.total.map(|total| total.count),
                    total_is_exact: page.total.map(|total| total.is_exact),
                    page: page.request.number(),
                    page_size: page.request.size(),
                    per_page: page.request.size(),
                    next_cursor: page
                        .next
                        .as_ref()
                        .map(|next| cursor::encode(scope, next)),
                    $($more: <$more_type>::default(),)*
                }
            }
        }
    };
}
pages! {
    /// A page of firewalls.
    FirewallPage, "FirewallPage", FirewallView,
    /// The policies that are not embedded, if there are any; with
    /// `expand=filtering_policies.rules`.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutView>
}
pages! {
    /// A page of policies.
    PolicyPage, "FilteringPolicyPage", PolicyView,
    /// The policies that are not on the page, if there are any; with `expand=rules`.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutView>
}

pages! {
    /// A page of rules.
    RulePage, "FirewallRulePage", RuleView,
    /// Why the page is incomplete: `page` (rules on other pages), `filter` (rules that do not
    /// match), `fields` (members). Empty: it is complete. PUT refuses an incomplete list.
    partial: Vec<String>,
    /// The policies whose rules are not in the list, if there are any; in the list across policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutView>
}

pages! {
    /// The verdicts of a page of policies.
    PolicyInspectionPage, "PolicyInspectionPage", PolicyInspectionView,
    /// The policies that are not on the page, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutView>
}

pages! {
    /// A page of audit events.
    AuditEventPage, "AuditEventPage", AuditEventView
}

/// What an answer omits of a list of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Rules on other pages.
    Page,
    /// Rules that do not match the filter.
    Filter,
    /// Members.
    Fields,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Page, Self::Filter, Self::Fields];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Filter => "filter",
            Self::Fields => "fields",
        }
    }
}
