//! The settings of analyses: what they may take, and what counts as a finding.

use std::time::Duration;

use fireflow_domain::analysis::{ExposedService, Thresholds};
use fireflow_service::analyses::AnalysisBounds;
use fireflow_service::analyses::AnalysisSettings as ServiceSettings;

use super::parse::{number, parse_duration};
use super::row::DefaultValue::{Number, Text};
use super::row::settings;

settings! {
    /// The settings of analyses.
    #[derive(Debug, Clone)]
    pub(crate) struct AnalysisSettings, rows ANALYSIS: AnalysisRows;

    ANALYSIS_SECTION {
        /// the longest time for the analysis of a policy, a comparison or a search; above it, the
        /// answer has what is decided so far, and names what is undecided
        max_time: Duration = "analysis.max_time" {
            parse: parse_duration,
            default: Text("30s"),
        }

        /// the most memory for an analysis, in addition to the policy; above it, the answer names
        /// what is undecided. This memory counts towards `memory.work_bytes`, of which one subject
        /// may take half
        max_bytes: u64 = "analysis.max_bytes" {
            parse: number,
            default: Number(512 * 1024 * 1024),
        }

        /// the services whose exposure to the internet is a finding, separated by commas: `ssh`,
        /// `winrm=tcp/5985`, `udp/161`; `usual` is ftp, ssh, telnet, rpcbind, msrpc, netbios,
        /// ldap, smb, mssql, oracle, nfs, mysql, rdp, postgresql, vnc and redis; `none` for no
        /// service
        exposed_services: Vec<ExposedService> = "analysis.exposed_services" {
            parse: ExposedService::parse_list,
            default: Text("usual"),
        }

        /// the share of all public addresses, above 0 and up to 1, that must be able to reach a
        /// service before that is a finding
        exposed_sources: f64 = "analysis.exposed_sources" {
            parse: share,
            default: Text("0.5"),
        }

        /// the share of all pairs of IPv4 addresses, above 0 and up to 1, from which on a rule that
        /// allows them is permissive
        permissive_ipv4: f64 = "analysis.permissive_ipv4" {
            parse: share,
            default: Text("0.25"),
        }

        /// the same share of all pairs of IPv6 addresses
        permissive_ipv6: f64 = "analysis.permissive_ipv6" {
            parse: share,
            default: Text("0.25"),
        }
    }
}

impl From<AnalysisSettings> for ServiceSettings {
    fn from(settings: AnalysisSettings) -> Self {
        let AnalysisSettings {
            max_time,
            max_bytes,
            exposed_services,
            exposed_sources,
            permissive_ipv4,
            permissive_ipv6,
        } = settings;
        Self {
            bounds: AnalysisBounds { max_time, max_bytes },
            services: exposed_services,
            thresholds: Thresholds {
                exposed_sources,
                permissive_v4: permissive_ipv4,
                permissive_v6: permissive_ipv6,
                ..Thresholds::default()
            },
        }
    }
}

/// Reads a share above 0 and up to 1.
fn share(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "must be a number above 0 and up to 1, such as 0.25".to_owned())
}
