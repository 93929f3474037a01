//! The packets of a set that have an outcome under a policy in a file.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use fireflow_domain::analysis::{Outcome, PacketSet, SearchRequest, search as search_policy};
use fireflow_domain::rule::Action;
use fireflow_domain::time::{Clock, Instant};
use fireflow_formats::analysis::{packet_set_of_words, search_text, search_view};

use super::super::rule_file::described;
use super::super::{Failure, clock, print};
use super::{
    AnswerFormat, Progress, action, colors, instant, print_json, read_policy, rules_help, status,
};

#[derive(Debug, Args)]
pub(in super::super) struct Arguments {
    #[arg(value_name = "FILE", help = rules_help())]
    file: PathBuf,
    /// The set to search: members with their values, such as `sources=10.0.0.0/8 protocols=tcp
    /// destination_ports=22,3389`, or a JSON object of them. Members: family, protocols, sources,
    /// source_ports, destinations, destination_ports, icmp_types, icmp_codes. `any` is every packet.
    #[arg(long, value_name = "SET", value_parser = packets)]
    packets: PacketSet,
    /// What to search for: ALLOW, DENY, REJECT, BLOCKED (DENY or REJECT), `default` (no rule
    /// matches), or `rule:N`, packets that the rule in position N decides.
    #[arg(long, value_name = "OUTCOME", value_parser = outcome, default_value = "ALLOW")]
    outcome: Outcome,
    /// The most sets of packets to print.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
    /// Search only the rules of the policy with this name.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The action for packets that no rule matches: ALLOW, DENY or REJECT. Default: the default
    /// action in the file, else DENY.
    #[arg(long, value_name = "ACTION", value_parser = action)]
    default_action: Option<Action>,
    /// The output.
    #[arg(long, value_enum, default_value_t = AnswerFormat::Text)]
    format: AnswerFormat,
    /// The time of the packets (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Instant>,
}

fn packets(text: &str) -> Result<PacketSet, String> {
    packet_set_of_words(text).map_err(|violations| described(&violations))
}

fn outcome(word: &str) -> Result<Outcome, String> {
    let position = || word.strip_prefix("rule:")?.parse::<usize>().ok()?.checked_sub(1);
    if let Some(action) = Action::parse(word) {
        Ok(Outcome::Action(action))
    } else if word.eq_ignore_ascii_case("blocked") {
        Ok(Outcome::Blocked)
    } else if word.eq_ignore_ascii_case("default") {
        Ok(Outcome::Default)
    } else if let Some(rule) = position() {
        Ok(Outcome::Rule(rule))
    } else {
        Err("must be ALLOW, DENY, REJECT, BLOCKED, default, or rule:N with N from 1".to_owned())
    }
}

pub(in super::super) fn search(arguments: &Arguments) -> Result<(), Failure> {
    let policy =
        read_policy(&arguments.file, arguments.policy.as_deref(), arguments.default_action)?;
    let count = policy.rule_count();
    if let Outcome::Rule(rule) = arguments.outcome
        && u64::try_from(rule).is_ok_and(|rule| rule >= count)
    {
        let why = format!("--outcome: there are only {count} rules");
        return Err(Failure::usage(anyhow!(why)));
    }
    let at = arguments.at.unwrap_or_else(|| clock().now());
    let request = SearchRequest {
        packets: arguments.packets.clone(),
        outcome: arguments.outcome,
        from: at,
        until: at,
    };
    policy.ask(|policy, subject| {
        let answer = Progress::run("searching", |limits| search_policy(policy, &request, limits));
        let limit = arguments.limit;
        match arguments.format {
            AnswerFormat::Text => {
                print(search_text(&answer, subject, limit, colors()).trim_end())?;
            }
            AnswerFormat::Json => print_json(&search_view(&answer, subject, limit))?,
        }
        let is_found = !answer.found.is_empty();
        status(is_found, answer.is_none() || is_found)
    })
}
