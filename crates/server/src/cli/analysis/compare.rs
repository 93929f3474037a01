//! The packets on which two policies in files disagree.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use fireflow_domain::analysis::{ComparisonOptions, compare as compare_policies};
use fireflow_domain::rule::Action;
use fireflow_domain::time::{Clock, Instant};
use fireflow_formats::analysis::{ComparisonView, comparison_text};

use super::super::{Failure, clock, print};
use super::{
    AnswerFormat, Progress, action, colors, instant, print_json, read_policy, rules_help, status,
};

#[derive(Debug, Args)]
pub(in super::super) struct Arguments {
    #[arg(value_name = "LEFT", help = rules_help())]
    left: PathBuf,
    /// The rules to compare with, in a file of any of these formats.
    #[arg(value_name = "RIGHT")]
    right: PathBuf,
    /// Compare only the rules of the policy with this name, in both files.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The action for packets that no rule matches, in both policies: ALLOW, DENY or REJECT.
    /// Default: the default action in each file, else DENY.
    #[arg(long, value_name = "ACTION", value_parser = action)]
    default_action: Option<Action>,
    /// The output.
    #[arg(long, value_enum, default_value_t = AnswerFormat::Text)]
    format: AnswerFormat,
    /// The instant at which the policies are compared (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Instant>,
}

pub(in super::super) fn compare(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.left.as_os_str() == "-" && arguments.right.as_os_str() == "-" {
        return Err(Failure::usage(anyhow!("only one of the files can be standard input")));
    }
    let read = |path| read_policy(path, arguments.policy.as_deref(), arguments.default_action);
    let (left, right) = (read(&arguments.left)?, read(&arguments.right)?);
    let options = ComparisonOptions::at(arguments.at.unwrap_or_else(|| clock().now()));
    left.ask(|left_policy, left| {
        right.ask(|right_policy, right| {
            let comparison = Progress::run("comparing", |limits| {
                compare_policies(left_policy, right_policy, &options, limits)
            });
            match arguments.format {
                AnswerFormat::Text => {
                    print(comparison_text(&comparison, left, right, colors()).trim_end())?;
                }
                AnswerFormat::Json => print_json(&ComparisonView::new(&comparison, left, right))?,
            }
            let is_found = !comparison.differences.is_empty();
            status(is_found, comparison.is_proven_equal() || is_found)
        })
    })
}
