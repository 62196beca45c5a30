use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn ledger(subnet: &str, gateway: &str) -> Ledger {
    Ledger::new(AddressPlan::new(subnet.parse().unwrap(), gateway.parse().unwrap()).unwrap())
}

fn id(number: usize) -> InstanceId {
    format!("i{number}").parse().unwrap()
}

fn last(link: &Link) -> u8 {
    link.ip.octets()[3]
}

#[test]
fn addresses_come_in_rotation_and_never_the_hosts() {
    let mut ledger = ledger("10.0.0.0/29", "10.0.0.1");
    let given: Vec<u8> = (0..3).map(|n| last(&ledger.claim(&id(n), None, None).unwrap())).collect();
    assert_eq!(given, [2, 3, 4]);
    ledger.release(&id(1));
    assert_eq!(last(&ledger.claim(&id(3), None, None).unwrap()), 5, "a released address rests");
    assert_eq!(last(&ledger.claim(&id(4), None, None).unwrap()), 6);
    assert_eq!(last(&ledger.claim(&id(5), None, None).unwrap()), 3, "until the rotation comes round");
    let subnet = "10.0.0.0/29".parse().unwrap();
    assert_eq!(ledger.claim(&id(6), None, None), Err(ClaimError::Full { subnet, held: 5 }));
}

#[test]
fn a_wanted_address_or_mac_is_given_or_refused_by_name() {
    let mut ledger = ledger("10.0.0.0/24", "10.0.0.1");
    let want = |text: &str| Some(text.parse::<Ipv4Addr>().unwrap());
    let mac: Mac = "52:54:00:00:00:01".parse().unwrap();
    let link = ledger.claim(&id(0), want("10.0.0.9"), Some(mac)).unwrap();
    assert_eq!((link.ip, link.mac, link.tap.as_str()), (Ipv4Addr::new(10, 0, 0, 9), mac, "tap0a000009"));
    assert_eq!(link.host_mac().to_string(), "02:d1:0a:00:00:09");
    assert!(
        matches!(ledger.claim(&id(1), want("10.0.0.9"), None), Err(ClaimError::AddressInUse { holder, .. }) if holder == id(0))
    );
    assert!(
        matches!(ledger.claim(&id(1), None, Some(mac)), Err(ClaimError::MacInUse { holder, .. }) if holder == id(0))
    );
    for bad in ["10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.2", "0.0.0.0"] {
        assert!(matches!(ledger.claim(&id(1), want(bad), None), Err(ClaimError::NotInSubnet { .. })), "{bad}");
    }
    let host = Mac::of_host(Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(ledger.claim(&id(1), None, Some(host)), Err(ClaimError::MacReserved { mac: host }));
    assert_eq!(ledger.claim(&id(0), None, None), Ok(link.clone()), "asking again gives the same");
    assert!(matches!(ledger.claim(&id(0), want("10.0.0.8"), None), Err(ClaimError::AlreadyHolds { .. })));
    assert_eq!(ledger.links.len(), 1, "a refusal holds nothing");
    assert!(ledger.holds_tap("tap0a000009"));
    for other in ["tap0a000008", "tapa000009", "tap0A000009", "eth0", ""] {
        assert!(!ledger.holds_tap(other), "{other}");
    }
}

#[test]
fn an_address_whose_default_mac_somebody_wears_is_passed_over() {
    let mut ledger = ledger("10.0.0.0/29", "10.0.0.1");
    let worn = Mac::of_guest(Ipv4Addr::new(10, 0, 0, 3));
    assert_eq!(last(&ledger.claim(&id(0), None, Some(worn)).unwrap()), 2);
    assert_eq!(last(&ledger.claim(&id(1), None, None).unwrap()), 4);
    let explicit = ledger.claim(&id(2), Some(Ipv4Addr::new(10, 0, 0, 3)), None);
    assert!(matches!(explicit, Err(ClaimError::MacInUse { .. })));
}

#[test]
fn records_are_adopted_once_and_checked() {
    let mut old = ledger("10.0.0.0/24", "10.0.0.1");
    let link = old.claim(&id(0), None, None).unwrap();
    let mut ledger = ledger("10.0.0.0/24", "10.0.0.1");
    assert_eq!(ledger.adopt(&id(0), &link), Ok(()));
    assert_eq!(ledger.adopt(&id(0), &link), Ok(()));
    assert!(matches!(ledger.adopt(&id(1), &link), Err(ClaimError::AddressInUse { .. })));
    assert_eq!(last(&ledger.claim(&id(2), None, None).unwrap()), 3, "the rotation goes on behind it");
    let moved = Link { ip: Ipv4Addr::new(10, 0, 0, 77), ..link.clone() };
    assert!(matches!(ledger.adopt(&id(3), &moved), Err(ClaimError::OtherTap { .. })));
    let plan = Link { gateway: Ipv4Addr::new(10, 0, 0, 254), ip: moved.ip, tap: TapName::of(moved.ip), ..link.clone() };
    assert!(matches!(ledger.adopt(&id(3), &plan), Err(ClaimError::OtherPlan { .. })));
    let outside = Ipv4Addr::new(10, 9, 0, 2);
    let foreign = Link { ip: outside, tap: TapName::of(outside), ..link };
    assert!(matches!(ledger.adopt(&id(3), &foreign), Err(ClaimError::NotInSubnet { .. })));
}

#[test]
fn a_large_subnet_serves_what_a_bridge_can_hold_and_then_refuses() {
    for subnet in ["10.4.0.0/16", "10.0.0.0/8"] {
        let mut ledger = ledger(subnet, subnet.replace(".0/", ".1/").split('/').next().unwrap());
        let mut seen = HashSet::new();
        for number in 0..MAX_GUESTS {
            assert!(seen.insert(ledger.claim(&id(number), None, None).unwrap().ip));
        }
        assert!(matches!(ledger.claim(&id(MAX_GUESTS), None, None), Err(ClaimError::Full { held: MAX_GUESTS, .. })));
    }
    let mut small = ledger("10.0.0.0/22", "10.0.3.254");
    let given = (0..2000).take_while(|number| small.claim(&id(*number), None, None).is_ok()).count();
    assert_eq!(given, 1021, "a /22 without network, broadcast and gateway");
}

#[derive(Debug, Clone)]
enum Step {
    Claim { id: usize, ip: Option<u8>, mac: Option<u8> },
    Release { id: usize },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8_usize, proptest::option::weighted(0.3, 0..20_u8), proptest::option::weighted(0.3, 0..20_u8))
            .prop_map(|(id, ip, mac)| Step::Claim { id, ip, mac }),
        3 => (0..8_usize).prop_map(|id| Step::Release { id }),
        1 => Just(Step::Restart),
    ]
}

fn mapping(number: u16) -> PortMapping {
    PortMapping { host_port: number, guest_port: 80, protocol: dataplane_types::Transport::Tcp }
}

proptest! {
    /// Ports are claimed all or none, kept in part, and let go with the instance; a restart knows what records name.
    #[test]
    fn no_port_ever_has_two_holders(
        steps in proptest::collection::vec((0..3_u8, 0..5_usize, proptest::collection::vec(1..9_u16, 0..4)), 1..100)
    ) {
        let mut ledger = ledger("10.0.0.0/28", "10.0.0.1");
        let mut model: HashMap<u16, usize> = HashMap::new();
        for (what, number, ports) in steps {
            let wanted: Vec<_> = ports.iter().copied().map(mapping).collect();
            match what {
                0 => {
                    let rival = ports.iter().find(|port| model.get(port).is_some_and(|holder| *holder != number));
                    match ledger.claim_ports(&id(number), &wanted) {
                        Ok(()) => {
                            prop_assert_eq!(rival, None);
                            model.extend(ports.iter().map(|port| (*port, number)));
                        }
                        Err(ClaimError::PortInUse { port, holder }) => {
                            prop_assert!(model.get(&port.number).is_some_and(|held| id(*held) == holder));
                            prop_assert!(rival.is_some());
                        }
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                1 => {
                    ledger.keep_ports(&id(number), &wanted);
                    model.retain(|port, holder| *holder != number || ports.contains(port));
                }
                _ => {
                    ledger.release(&id(number));
                    model.retain(|_, holder| *holder != number);
                }
            }
            for port in 1..9 {
                let holders: Vec<_> = (0..5).filter(|holder| ledger.holds_port(&id(*holder), mapping(port).host())).collect();
                prop_assert_eq!(holders, model.get(&port).copied().into_iter().collect::<Vec<_>>());
            }
            prop_assert_eq!(ledger.ports.values().map(BTreeSet::len).sum::<usize>(), model.len());
        }
    }

    /// Whatever is asked in whatever order: one holder of each address and MAC, and the three maps agree.
    #[test]
    fn nothing_ever_has_two_holders(steps in proptest::collection::vec(step(), 1..200)) {
        let make = || ledger("10.0.0.0/28", "10.0.0.1");
        let mut ledger = make();
        let mut model: HashMap<usize, Link> = HashMap::new();
        for step in steps {
            match step {
                Step::Claim { id: number, ip, mac } => {
                    let ip = ip.map(|byte| Ipv4Addr::new(10, 0, 0, byte));
                    // Worst case: MACs that are the defaults of other addresses.
                    let mac = mac.map(|byte| Mac::of_guest(Ipv4Addr::new(10, 0, 0, byte)));
                    match ledger.claim(&id(number), ip, mac) {
                        Ok(link) => {
                            prop_assert!(ip.is_none_or(|ip| ip == link.ip) && mac.is_none_or(|mac| mac == link.mac));
                            if let Some(held) = model.insert(number, link.clone()) {
                                prop_assert_eq!(held, link);
                            }
                        }
                        Err(ClaimError::Full { .. }) => {
                            // Every one of the 13 guest addresses is held, or its default MAC is worn.
                            for byte in 2..15 {
                                let address = Ipv4Addr::new(10, 0, 0, byte);
                                prop_assert!(model.values().any(|l| l.ip == address || l.mac == Mac::of_guest(address)));
                            }
                        }
                        Err(ClaimError::AddressInUse { address, holder }) => {
                            prop_assert!(model.iter().any(|(n, l)| id(*n) == holder && l.ip == address));
                        }
                        Err(ClaimError::MacInUse { mac, holder }) => {
                            prop_assert!(model.iter().any(|(n, l)| id(*n) == holder && l.mac == mac));
                        }
                        Err(ClaimError::AlreadyHolds { .. }) => prop_assert!(model.contains_key(&number)),
                        Err(ClaimError::NotInSubnet { address, .. }) => {
                            prop_assert!([0, 1].contains(&address.octets()[3]) || address.octets()[3] >= 15);
                        }
                        Err(other) => prop_assert!(false, "{}", other),
                    }
                }
                Step::Release { id: number } => {
                    ledger.release(&id(number));
                    model.remove(&number);
                }
                Step::Restart => {
                    ledger = make();
                    for (number, link) in &model {
                        prop_assert_eq!(ledger.adopt(&id(*number), link), Ok(()));
                    }
                }
            }
            let addresses: HashSet<_> = model.values().map(|link| link.ip).collect();
            let macs: HashSet<_> = model.values().map(|link| link.mac).collect();
            prop_assert_eq!((addresses.len(), macs.len()), (model.len(), model.len()));
            prop_assert_eq!((ledger.links.len(), ledger.by_address.len(), ledger.by_mac.len()),
                (model.len(), model.len(), model.len()));
        }
    }
}
