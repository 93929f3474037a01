//! Entity tags and conditional requests (RFC 9110, 13).

use fireflow_domain::error::{Error, Resource};
use fireflow_domain::firewall::Firewall;
use fireflow_domain::ids::Revision;
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::Rule;
use fireflow_domain::store::ReadKind;
use fireflow_domain::usecase::Expected;
use poem::http::{HeaderMap, header};
use poem::{FromRequest, Request, RequestBody};

use crate::dto::lines::LineFormat;

/// A strong entity tag: the resource's revision, then the header revisions of the parents it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// Of a firewall: `"F"`.
    #[must_use]
    pub fn of_firewall(firewall: &Firewall) -> Self {
        Self(format!("\"{}\"", firewall.revision))
    }

    /// Of a policy and of its rule list: `"P.Fh"`.
    #[must_use]
    pub fn of_policy(policy: &Policy) -> Self {
        Self(format!("\"{}.{}\"", policy.revision, policy.firewall.header_revision))
    }

    /// Of a rule: `"R.Ph.Fh"`.
    #[must_use]
    pub fn of_rule(rule: &Rule) -> Self {
        let (policy, firewall) = (&rule.policy, &rule.policy.firewall);
        Self(format!(
            "\"{}.{}.{}\"",
            rule.revision, policy.header_revision, firewall.header_revision
        ))
    }

    /// Of the same state in another format: its bytes differ, so its tag does (RFC 9110, 8.8.1).
    #[must_use]
    pub fn of_format(&self, format: LineFormat) -> Self {
        let word = match format {
            LineFormat::Csv => "csv",
            LineFormat::Ndjson => "ndjson",
        };
        Self(format!("{}.{word}\"", self.0.trim_end_matches('"')))
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One side of a condition: `*`, or tags.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<String>),
}

impl Tags {
    fn read(headers: &HeaderMap, name: header::HeaderName) -> Option<Self> {
        let mut tags = Vec::new();
        let mut is_given = false;
        for value in headers.get_all(name) {
            is_given = true;
            // What is not text is a tag that we never gave.
            let Ok(text) = value.to_str() else { continue };
            // Our tags hold no comma, so that splitting there never cuts one of them.
            for tag in text.split(',').map(str::trim) {
                if tag == "*" {
                    return Some(Self::Any);
                }
                tags.push(tag.to_owned());
            }
        }
        is_given.then_some(Self::Listed(tags))
    }
}

/// The conditions of a request.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

impl Conditions {
    /// What `If-Match` demands of the revision before a change: the first number of its tags. A
    /// weak or foreign tag matches nothing.
    #[must_use]
    pub fn expected(&self) -> Expected {
        match &self.if_match {
            None | Some(Tags::Any) => Expected::Anything,
            Some(Tags::Listed(tags)) => {
                Expected::OneOf(tags.iter().filter_map(|tag| revision(tag)).collect())
            }
        }
    }

    /// How a page of a list, or a whole one, is read: who compares it with a state wants the
    /// newest, never a replica's.
    #[must_use]
    pub const fn list_mode(&self, is_whole: bool) -> ReadKind {
        let is_conditional = self.if_match.is_some() || self.if_none_match.is_some();
        match (is_conditional, is_whole) {
            (false, false) => ReadKind::Page,
            (true, false) => ReadKind::FreshPage,
            (false, true) => ReadKind::Export,
            (true, true) => ReadKind::FreshExport,
        }
    }

    /// Whether `If-None-Match` names the state: the answer is `304`.
    ///
    /// # Errors
    /// Where `If-Match` does not hold.
    pub fn is_unchanged(
        &self,
        what: Resource,
        revision: Revision,
        tag: &EntityTag,
    ) -> Result<bool, Error> {
        self.expected().check(what, revision)?;
        Ok(match &self.if_none_match {
            None => false,
            Some(Tags::Any) => true,
            // Weak comparison, as RFC 9110 says for this header.
            Some(Tags::Listed(tags)) => {
                tags.iter().any(|given| given.strip_prefix("W/").unwrap_or(given) == tag.as_str())
            }
        })
    }
}

fn revision(tag: &str) -> Option<Revision> {
    let inside = tag.strip_prefix('"')?.strip_suffix('"')?;
    let (first, _) = inside.split_once('.').unwrap_or((inside, ""));
    let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| first.parse().ok().map(Revision)).flatten()
}

impl<'a> FromRequest<'a> for Conditions {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self {
            if_match: Tags::read(request.headers(), header::IF_MATCH),
            if_none_match: Tags::read(request.headers(), header::IF_NONE_MATCH),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(name: header::HeaderName, value: &str) -> Conditions {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Conditions {
            if_match: Tags::read(&headers, header::IF_MATCH),
            if_none_match: Tags::read(&headers, header::IF_NONE_MATCH),
        }
    }

    #[test]
    fn if_match_compares_the_first_number() {
        let expected = |value| conditions(header::IF_MATCH, value).expected();
        assert_eq!(expected("*"), Expected::Anything);
        assert_eq!(expected("\"7.1.2\""), Expected::OneOf(vec![Revision(7)]));
        assert_eq!(expected("\"7\", \"8.1\""), Expected::OneOf(vec![Revision(7), Revision(8)]));
        for foreign in ["W/\"7\"", "7", "\"\"", "\"x\"", "\"+7\"", "\"99999999999999999999\""] {
            assert_eq!(expected(foreign), Expected::OneOf(vec![]), "{foreign}");
        }
    }

    #[test]
    fn if_none_match_compares_all_of_a_tag() {
        let tag = EntityTag("\"7.1\"".to_owned());
        let unchanged = |value| {
            conditions(header::IF_NONE_MATCH, value)
                .is_unchanged(Resource::Policy, Revision(7), &tag)
                .unwrap()
        };
        assert!(unchanged("\"7.1\""));
        assert!(unchanged("\"6\", W/\"7.1\""));
        assert!(unchanged("*"));
        assert!(!unchanged("\"7\""));
        assert!(!unchanged("\"7.2\""));
    }
}
