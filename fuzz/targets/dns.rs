//! Bytes from a guest into the name server, and bytes from its upstream.
//!
//! Input: the length of a packet, the packet, and what the upstream says to it where it is passed on. Held against it:
//! nothing panics; whatever comes back is an answer under the guest's id and fits it; and what is passed on is what came.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use dataplane_dns::{LARGEST_QUERY, LARGEST_UDP, Names, Outcome, Query, Zone};
use libfuzzer_sys::fuzz_target;

/// The id under which a question is passed on.
const OTHER_ID: u16 = 0x5aa5;

struct Everybody;

impl Names for Everybody {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        assert!(host.len() <= 63 && !host.bytes().any(|byte| byte.is_ascii_uppercase()), "{host:?}");
        host.starts_with('w').then_some(Ipv4Addr::new(10, 1, 0, 2))
    }

    fn host_of(&self, address: Ipv4Addr) -> Option<String> {
        assert_eq!(address.octets()[..2], [10, 1], "of our subnet");
        (address.octets()[3] != 0).then(|| "web".to_owned())
    }
}

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    Zone::new("dp.internal", "10.1.0.0/22".parse().unwrap(), Arc::new(Everybody)).unwrap()
});

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first_chunk() else { return };
    let (packet, upstream) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    match ZONE.handle(packet) {
        Outcome::Silence => assert!(packet.len() < 12 || packet[2] & 0x80 != 0, "a question has an answer"),
        Outcome::Reply(reply) => check(packet, &reply, 512),
        Outcome::Forward(query) => pass_on(packet, &query, upstream),
    }
});

fn pass_on(packet: &[u8], query: &Query, upstream: &[u8]) {
    let sent = query.with_id(OTHER_ID);
    assert!(packet.len() <= LARGEST_QUERY && sent[2..] == packet[2..], "passed on as it came");
    check(packet, &query.failed(), 512);
    // As it says itself, and made to look like an answer.
    let mut forged = sent.clone();
    forged[2] |= 0x80;
    forged.extend_from_slice(upstream);
    for reply in [upstream, &forged] {
        if let Some(answer) = query.accept(OTHER_ID, reply) {
            assert_eq!(reply[..2], OTHER_ID.to_be_bytes());
            assert_eq!(answer[2..], reply[2..]);
            check(packet, &query.fit(answer), LARGEST_UDP);
        }
    }
    assert!(query.accept(OTHER_ID, &forged).is_some());
}

fn check(packet: &[u8], reply: &[u8], most: usize) {
    assert!(reply.len() >= 12 && reply.len() <= most, "{} bytes", reply.len());
    assert_eq!(reply[..2], packet[..2], "the guest's id");
    assert!(reply[2] & 0x80 != 0, "an answer");
}
