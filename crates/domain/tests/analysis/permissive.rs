//! Tests of findings about rules that permit much.

use fireflow_domain::analysis::{
    AnalysedPolicy, AnalysisLimits, AnalysisOptions, Evidence, FindingKind, FindingKinds, Severity,
    analyse,
};
use fireflow_domain::net::{AddressRange, Family, PortRange, Protocol};
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::rules::everything;

use super::small_world::{analysed, noon};

/// An ALLOW rule from everywhere to one address.
fn to_one_address(protocols: &[&str], ports: &[&str]) -> RuleParts {
    RuleParts {
        protocols: protocols.iter().map(|it| Protocol::parse(it).unwrap()).collect(),
        destinations: vec![endpoint("192.0.2.10")],
        ports: ports.iter().map(|it| PortRange::parse(it).unwrap()).collect(),
        ..everything()
    }
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint { address: AddressRange::parse(address).unwrap(), port: None }
}

/// The severity of the finding about IPv4, whether the rule permits every service, and whether every
/// destination.
fn permits(parts: RuleParts) -> Option<(Severity, bool, bool)> {
    let rules = [RuleSpec::new(parts).unwrap()];
    let rules = analysed(&rules);
    let policy = AnalysedPolicy { default_action: Action::Deny, rules: &rules };
    let kinds = FindingKinds::NONE.with(FindingKind::Permissive);
    let options = AnalysisOptions { kinds, ..AnalysisOptions::at(noon()) };
    let analysis = analyse(&policy, &options, &AnalysisLimits::usual(&|| true));
    assert_eq!(analysis.incomplete, []);
    analysis.findings.into_iter().find_map(|it| match it.evidence {
        Evidence::Permits { family: Family::V4, any_service, any_destination, .. } => {
            Some((it.severity, any_service, any_destination))
        }
        _ => None,
    })
}

#[test]
fn every_service_is_all_ports_of_tcp_and_of_udp() {
    for (protocols, ports) in [
        (&[] as &[&str], &[] as &[&str]),
        (&["tcp", "udp"], &[]),
        (&["tcp", "udp", "icmp"], &["0-1023", "1024-65535"]),
    ] {
        let found = permits(to_one_address(protocols, ports));
        assert_eq!(found, Some((Severity::Info, true, false)), "{protocols:?} {ports:?}");
    }
    for (protocols, ports) in [
        (&["tcp"] as &[&str], &[] as &[&str]),
        (&["udp", "icmp", "esp"], &[]),
        (&["sctp"], &[]),
        (&["tcp", "udp"], &["1-65535"]),
        (&["icmp"], &[]),
    ] {
        assert_eq!(permits(to_one_address(protocols, ports)), None, "{protocols:?} {ports:?}");
    }
}

#[test]
fn any_service_to_any_destination_is_a_warning_and_one_of_them_information() {
    let from_one = |protocols: &[&str]| RuleParts {
        sources: vec![endpoint("192.0.2.10")],
        destinations: vec![endpoint("any")],
        ..to_one_address(protocols, &[])
    };
    assert_eq!(permits(from_one(&[])), Some((Severity::Warning, true, true)));
    assert_eq!(permits(from_one(&["udp"])), Some((Severity::Info, false, true)));
    assert_eq!(permits(from_one(&["icmp"])), Some((Severity::Info, false, true)));
}

#[test]
fn entries_with_their_own_ports_do_not_hide_how_much_a_rule_permits() {
    let with_port = |address: &str, port: &str| Endpoint {
        port: Some(PortRange::parse(port).unwrap()),
        ..endpoint(address)
    };
    let to = |protocols: &[&str], destinations: Vec<Endpoint>| RuleParts {
        sources: vec![endpoint("192.0.2.10")],
        destinations,
        ..to_one_address(protocols, &[])
    };
    // The ports of one entry divide the addresses of the other.
    let web = vec![with_port("any", "80"), with_port("198.51.100.0/24", "81")];
    assert_eq!(permits(to(&["tcp"], web)), Some((Severity::Info, false, true)));
    // Every service to one destination, and one service to all.
    let both = vec![with_port("any", "80"), endpoint("198.51.100.1")];
    assert_eq!(permits(to(&["tcp", "udp"], both)), Some((Severity::Info, true, true)));
}
