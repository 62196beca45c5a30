use std::collections::BTreeMap;

use domain::rdata::{A, Ptr, Soa};
use proptest::prelude::*;

use super::*;
use crate::query::tests::asking;

struct Table(BTreeMap<&'static str, Ipv4Addr>);

impl Names for Table {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        self.0.get(host).copied()
    }

    fn host_of(&self, address: Ipv4Addr) -> Option<String> {
        self.0.iter().find(|(_, held)| **held == address).map(|(host, _)| (*host).to_owned())
    }
}

const WEB: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

fn zone() -> Zone {
    let table = Table(BTreeMap::from([("web-1", WEB)]));
    Zone::new("dataplane.internal", "10.1.0.0/22".parse().unwrap(), Arc::new(table)).unwrap()
}

fn reply(name: &str, rtype: Rtype) -> Message<Vec<u8>> {
    let outcome = zone().handle(&asking(name, rtype, None));
    let Outcome::Reply(reply) = outcome else { panic!("{name}: {outcome:?}") };
    let message = Message::from_octets(reply).unwrap();
    assert!(message.header().qr() && message.header().id() == 7 && message.header().rd());
    message
}

fn addresses(message: &Message<Vec<u8>>) -> Vec<Ipv4Addr> {
    let answers = message.answer().unwrap().limit_to::<A>();
    answers.map(|record| record.unwrap().data().addr()).collect()
}

#[test]
fn an_instance_has_an_address_and_nothing_else() {
    for name in ["web-1.dataplane.internal", "WEB-1.Dataplane.INTERNAL"] {
        let message = reply(name, Rtype::A);
        assert_eq!((message.header().rcode(), message.header().aa()), (Rcode::NOERROR, true));
        assert_eq!(addresses(&message), [WEB]);
        let answer = message.answer().unwrap().limit_to::<A>().next().unwrap().unwrap();
        assert_eq!(answer.ttl().as_secs(), TTL);
        assert_eq!(answer.owner().to_string(), name, "as it was asked");
    }
    for rtype in [Rtype::AAAA, Rtype::MX, Rtype::SOA, Rtype::from_int(65280)] {
        let message = reply("web-1.dataplane.internal", rtype);
        assert_eq!((message.header().rcode(), message.header_counts().ancount()), (Rcode::NOERROR, 0));
        assert_eq!(message.authority().unwrap().limit_to::<Soa<_>>().count(), 1, "how long that may be believed");
    }
}

#[test]
fn what_is_not_in_the_domain_is_said_not_to_be() {
    for name in ["web-2.dataplane.internal", "a.web-1.dataplane.internal", "\\255.dataplane.internal"] {
        let message = reply(name, Rtype::A);
        assert_eq!((message.header().rcode(), message.header().aa()), (Rcode::NXDOMAIN, true), "{name}");
        assert_eq!(message.authority().unwrap().limit_to::<Soa<_>>().count(), 1);
    }
    let apex = reply("dataplane.internal", Rtype::A);
    assert_eq!((apex.header().rcode(), apex.header_counts().ancount()), (Rcode::NOERROR, 0), "it has names below it");
    assert_eq!(reply("dataplane.internal", Rtype::SOA).answer().unwrap().limit_to::<Soa<_>>().count(), 1);
}

#[test]
fn addresses_of_the_subnet_have_names() {
    let message = reply("2.0.1.10.in-addr.arpa", Rtype::PTR);
    let found: Vec<_> = message
        .answer()
        .unwrap()
        .limit_to::<Ptr<_>>()
        .map(|record| record.unwrap().data().ptrdname().to_string())
        .collect();
    assert_eq!(found, ["web-1.dataplane.internal"]);
    assert_eq!(reply("2.0.1.10.in-addr.arpa", Rtype::A).header_counts().ancount(), 0);
    for nobody in ["3.0.1.10.in-addr.arpa", "255.3.1.10.IN-ADDR.ARPA", "x.2.0.1.10.in-addr.arpa"] {
        assert_eq!(reply(nobody, Rtype::PTR).header().rcode(), Rcode::NXDOMAIN, "{nobody}");
    }
}

#[test]
fn all_else_is_passed_on() {
    for name in [
        "example.com",
        ".",
        "internal",
        "xdataplane.internal",
        "dataplane.internal.example.com",
        "in-addr.arpa",
        "2.0.1.11.in-addr.arpa",
        "0.1.10.in-addr.arpa",
        "02.0.1.10.in-addr.arpa",
        "2.0.1.10.in-addr.arpa.example.com",
        "+2.0.1.10.in-addr.arpa",
        "2.0.1.10.ip6.arpa",
    ] {
        let packet = asking(name, Rtype::A, Some(1232));
        let outcome = zone().handle(&packet);
        let Outcome::Forward(query) = outcome else { panic!("{name}: {outcome:?}") };
        assert_eq!(query.with_id(7), packet, "{name}: byte for byte");
    }
}

#[test]
fn what_we_do_not_do_is_refused_by_name() {
    let code = |packet: &[u8]| {
        let outcome = zone().handle(packet);
        let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
        Message::from_octets(reply).unwrap().opt_rcode()
    };
    let good = asking("example.com", Rtype::A, Some(1232));
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    assert_eq!(code(&with(2, 0x28)), OptRcode::NOTIMP, "an update");
    assert_eq!(code(&with(5, 0)), OptRcode::FORMERR, "no question");
    assert_eq!(code(&with(good.len() - 12, 3)), OptRcode::REFUSED, "class CHAOS: {good:?}");
    assert_eq!(code(&with(good.len() - 5, 1)), OptRcode::BADVERS, "EDNS version 1");
    assert_eq!(code(&asking("example.com", Rtype::AXFR, None)), OptRcode::REFUSED);
    assert_eq!(zone().handle(&with(2, 0x81)), Outcome::Silence, "an answer");
    assert_eq!(zone().handle(&good[..11]), Outcome::Silence, "no header");
}

#[test]
fn our_answers_fit_the_smallest_client() {
    // As long as names may be: a domain of 189 characters, and a host of 63.
    let labels = [["a"; 47].concat(), ["b"; 47].concat(), ["c"; 47].concat(), ["d"; 45].concat()].join(".");
    assert_eq!(labels.len(), 189);
    let host: &'static str = Box::leak(["h"; 63].concat().into_boxed_str());
    let table = Table(BTreeMap::from([(host, WEB)]));
    let zone = Zone::new(&labels, "10.1.0.0/22".parse().unwrap(), Arc::new(table)).unwrap();
    let missing = ["x"; 63].concat();
    for (name, rtype) in [
        (format!("{host}.{labels}"), Rtype::A),
        (format!("{missing}.{labels}"), Rtype::A),
        (labels.clone(), Rtype::SOA),
        ("2.0.1.10.in-addr.arpa".to_owned(), Rtype::PTR),
    ] {
        let Outcome::Reply(reply) = zone.handle(&asking(&name, rtype, Some(512))) else { panic!("{name}") };
        let message = Message::from_slice(&reply).unwrap();
        assert!(reply.len() <= 512, "{} bytes", reply.len());
        assert_eq!(message.header_counts().ancount() + message.header_counts().nscount(), 1, "{name}");
    }
}

#[test]
fn no_zone_of_no_name() {
    let table = || Arc::new(Table(BTreeMap::new()));
    for domain in ["", ".", "a..b"] {
        assert!(Zone::new(domain, "10.1.0.0/22".parse().unwrap(), table()).is_err(), "{domain:?}");
    }
}

proptest! {
    #[test]
    fn no_packet_breaks_it(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = zone().handle(&packet);
    }

    #[test]
    fn nor_does_one_that_is_nearly_good(at in 0..64_usize, value: u8, cut in 0..64_usize) {
        let mut packet = asking("web-1.dataplane.internal", Rtype::A, Some(1232));
        let length = packet.len();
        packet[at % length] = value;
        packet.truncate(length - cut % length);
        match zone().handle(&packet) {
            Outcome::Reply(reply) => prop_assert!(Message::from_slice(&reply).unwrap().header().qr()),
            Outcome::Forward(query) => prop_assert_eq!(query.with_id(u16::from_be_bytes([packet[0], packet[1]])), packet),
            Outcome::Silence => {}
        }
    }
}
