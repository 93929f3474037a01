//! The rules of a file, in the order of evaluation.

use std::collections::HashSet;
use std::ops::ControlFlow;

use anyhow::{Context as _, Result, anyhow, bail};
use fireflow_domain::engine::classifier::CuboidParts;
use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::{PolicyId, RuleId};
use fireflow_domain::rule::{Action, RuleSpec};
use fireflow_domain::text::excerpt;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::rule_set::GivenRule;
use fireflow_formats::format::{FileError, RuleLocation, RuleRecord};
use fireflow_formats::read_only::ReadOnly;
use fireflow_formats::rule::{SetReading, given_rule};
use fireflow_formats::rule_set::{numbered, page_members};
use fireflow_formats::{Source, UnknownFormat, listed, sniff};
use serde_json::{Map, Value};

/// What a file of rules has.
pub(super) enum RuleFile {
    /// The rules of a policy.
    Policy(PolicyFile),
    /// The rules of a benchmark, in order.
    Benchmark(Vec<BenchmarkRule>),
}

/// The rules of a policy.
pub(super) struct PolicyFile {
    /// In the order of evaluation.
    pub(super) specs: Vec<RuleSpec>,
    /// The place of each rule in the file.
    pub(super) places: Vec<RulePlace>,
    /// The policy's default action, if the file names it.
    pub(super) default: Option<Action>,
    /// Whether the file has no content at all.
    pub(super) is_blank: bool,
}

impl PolicyFile {
    /// What people should know about a file without content: that of a command that failed looks the
    /// same as that of a policy without rules.
    pub(super) fn notice(&self) -> Option<&'static str> {
        self.is_blank.then_some("the file is empty, so the policy has no rules")
    }
}

/// The place of a rule in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct RulePlace {
    /// Its number, counted from 0.
    pub(super) number: usize,
    /// The line in which it begins.
    pub(super) line: u64,
    /// Its id, if it has one.
    pub(super) id: Option<RuleId>,
    /// When it was last changed, if the file names that.
    pub(super) updated_at: Option<Instant>,
}

/// A rule of a benchmark.
pub(super) struct BenchmarkRule {
    /// Its ranges.
    pub(super) parts: CuboidParts<u32>,
    /// The line.
    pub(super) line: u64,
}

/// Reads the rules of a file. If a policy is named, rules of other policies are passed over.
///
/// # Errors
/// Returns the first fault of a line, or all faults of a rule.
pub(super) fn read(mut source: Source, policy: Option<&str>) -> Result<RuleFile> {
    let mut read = ReadRules { wanted: policy, ..ReadRules::default() };
    let file = match sniff(&source.first) {
        // The export of a policy without rules, one JSON object per line, has no lines.
        Err(UnknownFormat::Empty) => {
            return Ok(RuleFile::Policy(PolicyFile { is_blank: true, ..read.in_order()? }));
        }
        file => file?,
    };
    let mut benchmark = Vec::new();
    let mut fault = Ok(());
    let done = file.rules(&mut source.reader, &mut |place, record| {
        fault = match record {
            RuleRecord::Api(rule) => read.read(rule, place),
            RuleRecord::Page(others) => read.page(others).with_context(|| place.to_string()),
            RuleRecord::Policy(others) => read.policy(others).with_context(|| place.to_string()),
            RuleRecord::Cuboid(parts) => {
                benchmark.push(BenchmarkRule { parts, line: place.own_line });
                Ok(())
            }
        };
        if fault.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    match done {
        Err(FileError::NotRules) => {
            let rules = listed("or", |format| format.rules_in_short);
            bail!("these are packets; rules are {rules}");
        }
        done => done?,
    }
    fault?;
    // A benchmark has at least the rule by which it was recognized.
    if benchmark.is_empty() {
        Ok(RuleFile::Policy(read.all()?.in_order()?))
    } else {
        Ok(RuleFile::Benchmark(benchmark))
    }
}

/// Violations, each with its place, in one line.
pub(super) fn described(violations: &Violations) -> String {
    let one = |violation: &Violation| {
        let text = violation.to_string();
        let text = text.trim_start_matches(['#', '/']);
        text.strip_prefix(": ").unwrap_or(text).to_owned()
    };
    let all: Vec<String> = violations.items().iter().map(one).collect();
    all.join("; ")
}

/// Rules as they were read so far.
#[derive(Default)]
struct ReadRules<'a> {
    /// The name of the policy whose rules are read; none: all rules.
    wanted: Option<&'a str>,
    rules: Vec<(GivenRule, bool)>,
    /// The line of each rule, and when it was last changed.
    lines: Vec<(u64, Option<Instant>)>,
    /// How many rules of other policies the file has.
    others: u64,
    /// The policy that the rules name.
    policy: Option<PolicyId>,
    /// The policy's default action, if the rules name it.
    default: Option<Action>,
    ids: HashSet<RuleId>,
    /// The total number of rules according to the pages, and whether that number is exact.
    total: Option<u64>,
    is_total_exact: bool,
    /// Whether more rules follow the last page.
    has_more: bool,
}

impl ReadRules<'_> {
    /// Reads one rule. Rules in the service's answers name their policy; all must name the same
    /// one.
    fn read(&mut self, value: Value, place: RuleLocation) -> Result<()> {
        let at = place.to_string();
        let parent = value.get("filtering_policy").filter(|it| !it.is_null());
        if let Some(wanted) = self.wanted
            && parent.and_then(|it| it.get("name")?.as_str()) != Some(wanted)
        {
            self.others = self.others.saturating_add(1);
            return Ok(());
        }
        let id = parent.and_then(|it| it.get("id").unwrap_or(it).as_i64()).and_then(PolicyId::new);
        if let (Some(one), Some(other)) = (self.policy, id)
            && one != other
        {
            bail!(
                "{at}: the rules belong to several policies, {one} and {other}; use the rules \
                   of one policy"
            );
        }
        self.policy = self.policy.or(id);
        let default = parent.and_then(|it| Action::parse(it.get("default_action")?.as_str()?));
        self.note_default(default).with_context(|| at.clone())?;
        if value.get("deleted_at").is_some_and(|it| !it.is_null()) {
            bail!("{at}: the rule is deleted and has no effect; remove it");
        }
        let updated_at = value.get("updated_at").and_then(Value::as_str);
        let updated_at = updated_at.and_then(|text| Instant::parse(text).ok());
        let policy = id.or_else(|| PolicyId::new(1)).ok_or_else(|| anyhow!("no policy"))?;
        let mut violations = Violations::new();
        // Rules are not moved here, so the read-only members of an answer are ignored.
        let reading = SetReading { read_only: ReadOnly::Ignore, ..SetReading::default() };
        match given_rule(value, "", policy, reading, &mut violations) {
            Some(rule) if violations.is_empty() => {
                if let Some(id) = rule.0.id.filter(|id| !self.ids.insert(*id)) {
                    bail!("{at}: duplicate rule with id={id}");
                }
                self.rules.push(rule);
                self.lines.push((place.own_line, updated_at));
                Ok(())
            }
            _ => Err(anyhow!(described(&violations)).context(at)),
        }
    }

    /// Notes the policy's default action.
    fn note_default(&mut self, default: Option<Action>) -> Result<()> {
        if let (Some(one), Some(other)) = (self.default, default)
            && one != other
        {
            bail!("the policy's default action is {other} here, but {one} earlier");
        }
        self.default = self.default.or(default);
        Ok(())
    }

    /// Reads the members of a policy other than its rules.
    fn policy(&mut self, mut others: Map<String, Value>) -> Result<()> {
        let default = others.remove("default_action").filter(|it| !it.is_null());
        if let Some(name) = others.keys().next() {
            bail!("unknown member `{}`; a policy has `rules` and `default_action`", excerpt(name));
        }
        let Some(default) = default else { return Ok(()) };
        let action = default.as_str().and_then(Action::parse);
        self.note_default(Some(action.context("`default_action` must be ALLOW, DENY or REJECT")?))
    }

    /// Reads the members of a page other than its items.
    fn page(&mut self, others: Map<String, Value>) -> Result<()> {
        // A plain list has no such members.
        if others.is_empty() {
            return Ok(());
        }
        if let Some(total) = others.get("total").and_then(Value::as_u64) {
            self.total = self.total.max(Some(total));
            self.is_total_exact = others.get("total_is_exact") != Some(&Value::Bool(false));
        }
        let goes_on = self.has_more;
        self.has_more = others.get("next_cursor").is_some_and(|it| !it.is_null());
        let parts = others.get("partial").and_then(Value::as_array).into_iter().flatten();
        let parts: Vec<&str> = parts.filter_map(Value::as_str).collect();
        // The file can contain further pages, but no other part of a partial answer can be added.
        if let Some(part) = parts.iter().find(|part| **part != "page") {
            bail!(
                "the list is not complete: its `partial` names `{part}`; read it without `{part}`"
            );
        }
        // The last page of a list that was read with cursors.
        let is_end = !self.has_more && !others.contains_key("page") && parts.contains(&"page");
        if is_end && !goes_on {
            bail!("the list is not complete: pages before it are missing");
        }
        let mut violations = Violations::new();
        page_members(others, &mut violations);
        if violations.is_empty() { Ok(()) } else { Err(anyhow!(described(&violations))) }
    }

    /// Returns all rules, or an error if the pages indicate that some are missing.
    fn all(self) -> Result<Self> {
        let count = u64::try_from(self.rules.len()).unwrap_or(u64::MAX).saturating_add(self.others);
        let all = "read all of them as lines: `Accept: application/x-ndjson`, without `page`";
        match self.total {
            Some(total) if total > count => bail!("the file has {count} of {total} rules; {all}"),
            Some(_) if self.is_total_exact => Ok(self),
            _ if self.has_more => bail!("the list has more rules than these {count}; {all}"),
            _ => Ok(self),
        }
    }

    /// Puts the rules in the order of evaluation.
    fn in_order(self) -> Result<PolicyFile> {
        if let Some(wanted) = self.wanted.filter(|_| self.rules.is_empty() && self.others > 0) {
            bail!("no rule belongs to a policy with the name `{wanted}`");
        }
        let mut violations = Violations::new();
        let rules = numbered(self.rules, &mut violations);
        if !violations.is_empty() {
            return Err(anyhow!(described(&violations)));
        }
        let mut order: Vec<(RulePlace, RuleSpec)> = rules
            .into_iter()
            .zip(self.lines)
            .enumerate()
            .map(|(number, (rule, (line, updated_at)))| {
                (RulePlace { number, line, id: rule.id, updated_at }, rule.spec)
            })
            .collect();
        // The service would give the rules without an id the next ids, in the order of the file.
        order.sort_by_key(|(place, spec)| {
            (spec.priority, place.id.map_or(i64::MAX, RuleId::get), place.number)
        });
        let (places, specs) = order.into_iter().unzip();
        Ok(PolicyFile { specs, places, default: self.default, is_blank: false })
    }
}
