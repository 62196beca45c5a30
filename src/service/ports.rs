//! Port mappings and places to go: from the wire's form and back.

use std::collections::BTreeSet;

use dataplane_api::{Problem, types};
use dataplane_network::check_egress;
use dataplane_types::{EgressProtocol, EgressRule, PortMapping, Transport};
use ipnet::Ipv4Net;

/// The mappings that a client wants; each port of the host once.
pub(super) fn mappings(wanted: Vec<types::PortMapping>) -> Result<Vec<PortMapping>, Problem> {
    let mut seen = BTreeSet::new();
    let mut mappings = Vec::with_capacity(wanted.len());
    for (index, types::PortMapping { host_port, guest_port, protocol }) in wanted.into_iter().enumerate() {
        let protocol = match protocol {
            types::Transport::Tcp => Transport::Tcp,
            types::Transport::Udp => Transport::Udp,
        };
        let mapping = PortMapping { host_port, guest_port, protocol };
        if !seen.insert(mapping.host()) {
            return Err(Problem::invalid_field(&format!("port_mappings[{index}].host_port"), "is there twice"));
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

pub(super) fn mappings_to_wire(mappings: &[PortMapping]) -> Vec<types::PortMapping> {
    let one = |mapping: &PortMapping| types::PortMapping {
        host_port: mapping.host_port,
        guest_port: mapping.guest_port,
        protocol: match mapping.protocol {
            Transport::Tcp => types::Transport::Tcp,
            Transport::Udp => types::Transport::Udp,
        },
    };
    mappings.iter().map(one).collect()
}

/// Where a guest may go.
pub(super) fn egress(list: Vec<types::EgressRule>) -> Result<Vec<EgressRule>, Problem> {
    let rules: Vec<_> = list.into_iter().enumerate().map(|(index, rule)| one(index, rule)).collect::<Result<_, _>>()?;
    check_egress(&rules).map_err(|error| Problem::invalid_field("network.egress", &error.to_string()))?;
    Ok(rules)
}

fn one(index: usize, rule: types::EgressRule) -> Result<EgressRule, Problem> {
    let wrong =
        |field: &str, message: &str| Problem::invalid_field(&format!("network.egress[{index}].{field}"), message);
    let net = rule.cidr.parse::<Ipv4Net>().ok().filter(|net| net.trunc() == *net);
    let cidr = net.ok_or_else(|| wrong("cidr", "must be an IPv4 network without bits set behind its prefix"))?;
    let protocol = rule.protocol.map(|protocol| match protocol {
        types::EgressProtocol::Tcp => EgressProtocol::Tcp,
        types::EgressProtocol::Udp => EgressProtocol::Udp,
        types::EgressProtocol::Icmp => EgressProtocol::Icmp,
    });
    if protocol == Some(EgressProtocol::Icmp) && rule.ports.is_some() {
        return Err(wrong("ports", "are not what ICMP has"));
    }
    let parse =
        |text: &String| text.parse().map_err(|error: dataplane_types::ParseError| wrong("ports", &error.to_string()));
    let ports = rule.ports.unwrap_or_default().iter().map(parse).collect::<Result<_, _>>()?;
    Ok(EgressRule { cidr, protocol, ports })
}

pub(super) fn egress_to_wire(list: &[EgressRule]) -> Vec<types::EgressRule> {
    let one = |rule: &EgressRule| types::EgressRule {
        cidr: rule.cidr.to_string(),
        protocol: rule.protocol.map(|protocol| match protocol {
            EgressProtocol::Tcp => types::EgressProtocol::Tcp,
            EgressProtocol::Udp => types::EgressProtocol::Udp,
            EgressProtocol::Icmp => types::EgressProtocol::Icmp,
        }),
        ports: (!rule.ports.is_empty()).then(|| rule.ports.iter().map(ToString::to_string).collect()),
    };
    list.iter().map(one).collect()
}
