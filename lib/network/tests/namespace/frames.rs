//! Ethernet frames by hand: ARP, IPv4 with ICMP echo and UDP. Just enough to be a guest.

use std::net::Ipv4Addr;

use dataplane_types::Mac;

pub(crate) const BROADCAST: Mac = Mac::new([0xff; 6]);
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const ICMP: u8 = 1;
const UDP: u8 = 17;

fn ethernet(to: Mac, from: Mac, kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&to.bytes()[..], &from.bytes()[..], &kind[..], payload].concat()
}

fn arp(operation: u8, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &from.0.bytes(), &from.1.octets(), &to.0.bytes(), &to.1.octets()].concat()
}

pub(crate) fn arp_request(from: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    ethernet(BROADCAST, from.0, ARP, &arp(1, from, (Mac::new([0; 6]), target)))
}

/// An ARP message to whomever, in which `from` says who it is.
pub(crate) fn arp_message(operation: u8, to: Mac, from: (Mac, Ipv4Addr), about: (Mac, Ipv4Addr)) -> Vec<u8> {
    ethernet(to, from.0, ARP, &arp(operation, from, about))
}

/// The same frame in a VLAN.
pub(crate) fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

/// A router advertisement for a prefix, from a link-local address to all nodes.
pub(crate) fn router_advertisement(from: Mac) -> Vec<u8> {
    let mut advertisement = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    advertisement.extend([3, 4, 64, 0xc0, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    advertisement.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (mut source, mut all) = ([0; 16], [0; 16]);
    source[..2].copy_from_slice(&[0xfe, 0x80]);
    source[15] = 7;
    all[..2].copy_from_slice(&[0xff, 0x02]);
    all[15] = 1;
    let length = u32::try_from(advertisement.len()).unwrap();
    let pseudo = [&source[..], &all, &length.to_be_bytes(), &[0, 0, 0, 58], &advertisement].concat();
    let sum = checksum(&pseudo);
    advertisement[2..4].copy_from_slice(&sum);
    let head = [0x60, 0, 0, 0, 0, u8::try_from(length).unwrap(), 58, 255];
    let packet = [&head[..], &source, &all, &advertisement].concat();
    ethernet(Mac::new([0x33, 0x33, 0, 0, 0, 1]), from, [0x86, 0xdd], &packet)
}

/// The answer to an ARP request for `mine`, if it is one.
pub(crate) fn arp_answer(frame: &[u8], mine: (Mac, Ipv4Addr)) -> Option<Vec<u8>> {
    let asked = frame.get(12..14)? == ARP && frame.get(20..22)? == [0, 1] && frame.get(38..42)? == mine.1.octets();
    let asker = (mac_at(frame, 22)?, address_at(frame, 28)?);
    asked.then(|| ethernet(asker.0, mine.0, ARP, &arp(2, mine, asker)))
}

/// Who an ARP reply says has the address.
pub(crate) fn arp_reply(frame: &[u8], asked: Ipv4Addr) -> Option<Mac> {
    let is_reply = frame.get(12..14)? == ARP && frame.get(20..22)? == [0, 2];
    (is_reply && address_at(frame, 28)? == asked).then(|| mac_at(frame, 22))?
}

fn ipv4(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut head = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    head.extend(from.octets());
    head.extend(to.octets());
    let sum = checksum(&head);
    head[10..12].copy_from_slice(&sum);
    [head, payload.to_vec()].concat()
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

/// The two ends of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) from: (Mac, Ipv4Addr),
    pub(crate) to: (Mac, Ipv4Addr),
}

pub(crate) fn echo_request(way: Way, number: u8) -> Vec<u8> {
    let mut echo = vec![8, 0, 0, 0, 0x12, 0x34, 0, number];
    echo.extend(b"a payload");
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum);
    ethernet(way.to.0, way.from.0, IPV4, &ipv4(ICMP, way.from.1, way.to.1, &echo))
}

pub(crate) fn udp(way: Way, text: &[u8]) -> Vec<u8> {
    udp_to(0x2000, way, text)
}

pub(crate) fn udp_to(port: u16, way: Way, text: &[u8]) -> Vec<u8> {
    let (port, length) = (port.to_be_bytes(), u16::try_from(8 + text.len()).unwrap().to_be_bytes());
    let head = [0x10, 0, port[0], port[1], length[0], length[1], 0, 0];
    ethernet(way.to.0, way.from.0, IPV4, &ipv4(UDP, way.from.1, way.to.1, &[&head[..], text].concat()))
}

/// Whether a frame is the answer to [`echo_request`] of this number, and from whom.
pub(crate) fn echo_reply(frame: &[u8], number: u8) -> Option<Ipv4Addr> {
    let is_icmp = frame.get(12..14)? == IPV4 && *frame.get(23)? == ICMP;
    let is_ours = frame.get(34..36)? == [0, 0] && frame.get(38..42)? == [0x12, 0x34, 0, number];
    (is_icmp && is_ours).then(|| address_at(frame, 26))?
}

/// Whether these bytes occur in a frame.
pub(crate) fn holds(frame: &[u8], text: &[u8]) -> bool {
    frame.windows(text.len()).any(|window| window == text)
}

pub(crate) fn source(frame: &[u8]) -> Option<Mac> {
    mac_at(frame, 6)
}

fn mac_at(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok().map(Mac::new)
}

fn address_at(frame: &[u8], at: usize) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok().map(Ipv4Addr::from)
}
