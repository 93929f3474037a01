//! The settings of memory, and of compiled policies, which take most of it.

use std::time::Duration;

use fireflow_domain::engine::classifier::Budget;
use fireflow_service::inspections::CompilationLimits;

use super::parse::{number, parse_duration};
use super::row::DefaultValue::{Number, Text};
use super::row::settings;

/// The smallest memory of requests that can be set. A subject may take half of it, and a body of
/// 10 MiB must fit into that half.
const MIN_WORK_BYTES: u64 = 32 * 1024 * 1024;

settings! {
    /// The settings of memory.
    #[derive(Debug, Clone)]
    pub(crate) struct MemorySettings, rows MEMORY: MemoryRows;

    MEMORY_SECTION {
        /// how much memory all requests together may take, 33554432 bytes or more: bodies and their
        /// parsed form, policies during compilation, analyses, unsent responses, exports and streams.
        /// One subject may take half of it. If it is used up, requests wait for up to 5 s, then are
        /// refused with 503 and `Retry-After`
        work_bytes: u64 = "memory.work_bytes" {
            parse: work_bytes,
            default: Number(256 * 1024 * 1024),
        }

        /// roughly how much memory the cache of compiled policies may take; a rule takes roughly
        /// 450 bytes without its description and other texts, which may take a sixteenth of this
        /// in addition. A policy that does not fit is read for each inspection
        cache_bytes: u64 = "inspection.cache_bytes" {
            parse: number,
            default: Number(256 * 1024 * 1024),
        }

        /// the maximum number of combinations of entries, over all rules, for which a policy is
        /// compiled; above it, each packet is compared with each rule
        max_boxes: usize = "inspection.max_boxes" {
            parse: number,
            default: Number(4_000_000),
        }

        /// the maximum memory for compiling a policy, in addition to its rules; above it, each
        /// packet is compared with each rule. This memory counts towards `memory.work_bytes`
        max_bytes: usize = "inspection.max_bytes" {
            parse: number,
            default: Number(128 * 1024 * 1024),
        }

        /// the maximum time for compiling a policy in the background; until it is compiled, and
        /// above this time, each packet is compared with each rule
        max_time: Duration = "inspection.max_time" {
            parse: parse_duration,
            default: Text("5s"),
        }
    }
}

impl MemorySettings {
    /// The limits of compiling one policy.
    pub(crate) const fn compilation_limits(&self) -> CompilationLimits {
        let budget = Budget { cuboids: self.max_boxes, bytes: self.max_bytes };
        CompilationLimits { budget, time: self.max_time }
    }
}

fn work_bytes(text: &str) -> Result<u64, String> {
    text.parse::<u64>().ok().filter(|bytes| (MIN_WORK_BYTES..=1 << 40).contains(bytes)).ok_or_else(
        || format!("must be a number of bytes from {MIN_WORK_BYTES} to {}", 1_u64 << 40),
    )
}
