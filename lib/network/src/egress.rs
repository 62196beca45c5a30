//! From a list of places that a guest may go to, to cells that do not overlap: the kernel's sets of ranges refuse
//! elements that do. Pure.
//!
//! Invariant: a packet is in one of the cells exactly when an entry of the list lets it through.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use dataplane_types::{EgressProtocol, EgressRule, PortRange};
use ipnet::Ipv4Net;

/// How many cells one guest may have: a list that needs more says too little in too many words.
pub const MAX_CELLS: usize = 256;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Addresses, protocols and ports that belong together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) first: Ipv4Addr,
    pub(crate) last: Ipv4Addr,
    pub(crate) protocols: (u8, u8),
    pub(crate) ports: (u16, u16),
}

/// The list needs more cells than a guest may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the egress list comes to more than {MAX_CELLS} separate ranges")]
pub struct EgressTooFine;

/// Whether a list comes to no more ranges than a guest may have.
///
/// # Errors
/// [`EgressTooFine`].
pub fn check_egress(list: &[EgressRule]) -> Result<(), EgressTooFine> {
    cells(list).map(drop)
}

/// The protocols and ports of one entry.
type Reach = Vec<(RangeInclusive<u8>, RangeInclusive<u16>)>;

/// Networks that are reached by the same protocols and ports.
type Group = (Vec<Ipv4Net>, (u8, u8), (u16, u16));

/// The cells of a list, in order.
pub(crate) fn cells(list: &[EgressRule]) -> Result<Vec<Cell>, EgressTooFine> {
    let entries: Vec<(Ipv4Net, Reach)> = list.iter().map(|entry| (entry.cidr.trunc(), reach(entry))).collect();
    let mut found: Vec<Group> = Vec::new();
    for protocols in
        pieces(&entries, |(protocols, _)| (u32::from(*protocols.start()), u32::from(*protocols.end())), 255)
    {
        let wanted = narrow8(protocols);
        let here: Vec<_> = entries
            .iter()
            .flat_map(|(net, reach)| reach.iter().map(move |part| (*net, part)))
            .filter(|(_, (protocols, _))| protocols.contains(&wanted.0))
            .collect();
        let edges = here.iter().map(|(_, (_, ports))| (u32::from(*ports.start()), u32::from(*ports.end())));
        for ports in between(edges, 65_535) {
            let ports = narrow16(ports);
            let nets: Vec<Ipv4Net> =
                here.iter().filter(|(_, (_, range))| range.contains(&ports.0)).map(|(net, _)| *net).collect();
            if nets.is_empty() {
                continue;
            }
            let nets = Ipv4Net::aggregate(&nets);
            match found.last_mut() {
                // What differs in nothing but the next port is one range.
                Some((last, by, until))
                    if *last == nets && *by == wanted && u32::from(until.1) + 1 == ports.0.into() =>
                {
                    until.1 = ports.1;
                }
                Some(_) | None => found.push((nets, wanted, ports)),
            }
            if found.len() > MAX_CELLS {
                return Err(EgressTooFine);
            }
        }
    }
    spread(join_protocols(found))
}

fn reach(entry: &EgressRule) -> Reach {
    let all = PortRange::ALL.ports();
    let ranges: Vec<_> =
        if entry.ports.is_empty() { vec![all] } else { entry.ports.iter().map(|range| range.ports()).collect() };
    let protocols = match entry.protocol {
        Some(EgressProtocol::Tcp) => vec![TCP..=TCP],
        Some(EgressProtocol::Udp) => vec![UDP..=UDP],
        // What stands where a port would be is ICMP's checksum.
        Some(EgressProtocol::Icmp) => return vec![(ICMP..=ICMP, PortRange::ALL.ports())],
        None if entry.ports.is_empty() => vec![0..=u8::MAX],
        None => vec![TCP..=TCP, UDP..=UDP],
    };
    protocols.iter().flat_map(|by| ranges.iter().map(|ports| (by.clone(), ports.clone()))).collect()
}

fn pieces(
    entries: &[(Ipv4Net, Reach)],
    edges: impl Fn(&(RangeInclusive<u8>, RangeInclusive<u16>)) -> (u32, u32),
    last: u32,
) -> Vec<(u32, u32)> {
    between(entries.iter().flat_map(|(_, reach)| reach.iter().map(&edges)), last)
}

/// The pieces into which ranges cut everything up to `last`; those outside all ranges too.
fn between(edges: impl Iterator<Item = (u32, u32)>, last: u32) -> Vec<(u32, u32)> {
    let mut starts = BTreeSet::from([0]);
    for (first, end) in edges {
        starts.insert(first);
        starts.insert(end + 1);
    }
    let starts: Vec<u32> = starts.into_iter().filter(|start| *start <= last).collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([last]);
    starts.iter().copied().zip(ends).collect()
}

fn narrow8((first, last): (u32, u32)) -> (u8, u8) {
    let narrow = |number| u8::try_from(number).unwrap_or(u8::MAX);
    (narrow(first), narrow(last))
}

fn narrow16((first, last): (u32, u32)) -> (u16, u16) {
    let narrow = |number| u16::try_from(number).unwrap_or(u16::MAX);
    (narrow(first), narrow(last))
}

/// Joins neighbouring protocols that have the same single group: "anything to there" is one cell, not seven.
fn join_protocols(found: Vec<Group>) -> Vec<Group> {
    let groups_of = |by: (u8, u8), all: &[Group]| all.iter().filter(|group| group.1 == by).count();
    let mut joined: Vec<Group> = Vec::new();
    for group in &found {
        match joined.last_mut() {
            Some((nets, by, ports))
                if *nets == group.0
                    && *ports == group.2
                    && u16::from(by.1) + 1 == u16::from(group.1.0)
                    && groups_of(group.1, &found) == 1
                    && found.iter().filter(|other| other.1.1 == by.1).count() == 1 =>
            {
                by.1 = group.1.1;
            }
            Some(_) | None => joined.push(group.clone()),
        }
    }
    joined
}

fn spread(groups: Vec<Group>) -> Result<Vec<Cell>, EgressTooFine> {
    let mut cells = Vec::new();
    for (nets, protocols, ports) in groups {
        for net in nets {
            cells.push(Cell { first: net.network(), last: net.broadcast(), protocols, ports });
        }
        if cells.len() > MAX_CELLS {
            return Err(EgressTooFine);
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(cidr: &str, protocol: Option<EgressProtocol>, ports: &[&str]) -> EgressRule {
        let ports = ports.iter().map(|range| range.parse().unwrap()).collect();
        EgressRule { cidr: cidr.parse().unwrap(), protocol, ports }
    }

    fn shown(list: &[EgressRule]) -> Vec<String> {
        let show = |cell: &Cell| {
            let ((a, b), (c, d)) = (cell.protocols, cell.ports);
            format!("{}-{} {a}-{b} {c}-{d}", cell.first, cell.last)
        };
        cells(list).unwrap().iter().map(show).collect()
    }

    #[test]
    fn plain_lists_stay_plain() {
        assert_eq!(shown(&[]), Vec::<String>::new());
        assert_eq!(shown(&[rule("10.0.0.0/8", None, &[])]), ["10.0.0.0-10.255.255.255 0-255 0-65535"]);
        assert_eq!(
            shown(&[rule("1.1.1.1/32", Some(EgressProtocol::Tcp), &["443", "80"])]),
            ["1.1.1.1-1.1.1.1 6-6 80-80", "1.1.1.1-1.1.1.1 6-6 443-443"]
        );
        assert_eq!(
            shown(&[rule("1.1.1.1/32", None, &["53"])]),
            ["1.1.1.1-1.1.1.1 6-6 53-53", "1.1.1.1-1.1.1.1 17-17 53-53"]
        );
        assert_eq!(
            shown(&[rule("10.0.0.0/8", None, &[]), rule("10.1.0.0/16", Some(EgressProtocol::Udp), &["53"])]),
            ["10.0.0.0-10.255.255.255 0-255 0-65535"],
            "what is contained adds nothing"
        );
    }

    #[test]
    fn a_list_that_falls_into_too_many_ranges_is_refused() {
        let ports: Vec<String> = (0..300).map(|number| (number * 2 + 1).to_string()).collect();
        let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
        assert_eq!(cells(&[rule("10.0.0.0/8", Some(EgressProtocol::Tcp), &ports)]), Err(EgressTooFine));
    }

    fn entry() -> impl Strategy<Value = EgressRule> {
        let protocol = prop_oneof![
            Just(None),
            Just(Some(EgressProtocol::Tcp)),
            Just(Some(EgressProtocol::Udp)),
            Just(Some(EgressProtocol::Icmp))
        ];
        let range =
            (1..12_u16, 0..4_u16).prop_map(|(first, more)| format!("{first}-{}", first + more).parse().unwrap());
        // Few bits and few ports, so that entries meet.
        (0..16_u8, 28..=32_u8, protocol, proptest::collection::vec(range, 0..3)).prop_map(
            |(low, prefix, protocol, ports)| EgressRule {
                cidr: Ipv4Net::new(Ipv4Addr::new(10, 0, 0, low), prefix).unwrap().trunc(),
                protocol,
                ports,
            },
        )
    }

    fn allows(entry: &EgressRule, to: Ipv4Addr, protocol: u8, port: u16) -> bool {
        let has_ports = matches!(protocol, TCP | UDP);
        let by = match entry.protocol {
            None => has_ports || entry.ports.is_empty(),
            Some(EgressProtocol::Tcp) => protocol == TCP,
            Some(EgressProtocol::Udp) => protocol == UDP,
            Some(EgressProtocol::Icmp) => return protocol == ICMP && entry.cidr.contains(&to),
        };
        let ports = entry.ports.is_empty() || entry.ports.iter().any(|range| range.ports().contains(&port));
        by && ports && entry.cidr.contains(&to)
    }

    proptest! {
        #[test]
        fn cells_are_the_list_and_never_overlap(list in proptest::collection::vec(entry(), 0..6)) {
            let cells = cells(&list).unwrap();
            for low in 0..20 {
                let to = Ipv4Addr::new(10, 0, 0, low);
                for protocol in [0, ICMP, 2, TCP, UDP, 47, 255] {
                    for port in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 65_535] {
                        let inside = |cell: &&Cell| {
                            (cell.first..=cell.last).contains(&to)
                                && (cell.protocols.0..=cell.protocols.1).contains(&protocol)
                                && (cell.ports.0..=cell.ports.1).contains(&port)
                        };
                        let hits = cells.iter().filter(inside).count();
                        let wanted = list.iter().any(|entry| allows(entry, to, protocol, port));
                        prop_assert_eq!(hits, usize::from(wanted), "{} {} {}", to, protocol, port);
                    }
                }
            }
        }
    }
}
