//! Elements of our sets and maps: one transaction of the kernel for each change, without a program in between.

use std::io;
use std::net::Ipv4Addr;

use dataplane_types::TapName;
use nix::libc;

use super::nfnetlink::{ACK, CREATE, NFTABLES, Request, Wire};
use crate::backend::BackendError;
use crate::egress::Cell;
use crate::element::{Element, ElementChange, Family, Rule, protocol_number};

const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
/// `NFTA_SET_ELEM_LIST_*`, `NFTA_LIST_ELEM`, `NFTA_SET_ELEM_*`, `NFTA_DATA_VALUE`.
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const KEY_END: u16 = 10;
const VALUE: u16 = 1;

/// So many elements of some hundred bytes stay far below the 64 KiB of an attribute.
const PER_MESSAGE: usize = 200;

pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Bridge => 7,
    }
}

/// Makes the change, whole or not at all.
pub(super) fn change(wire: &mut Wire, change: &ElementChange) -> Result<(), BackendError> {
    let mut request = Request::transaction();
    // Taking out what is not there would undo everything: it is put in first, which changes nothing where it is there.
    write(&mut request, NEW_ELEMENT, &change.table, &change.remove);
    write(&mut request, DELETE_ELEMENT, &change.table, &change.remove);
    write(&mut request, NEW_ELEMENT, &change.table, &change.add);
    request.commit();
    match request.send(wire, |_, _| {}) {
        // Without our tables there is nothing to be taken out.
        Err(error) if change.add.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        outcome => outcome.map_err(|source: io::Error| BackendError::Elements { table: change.table.clone(), source }),
    }
}

fn write(request: &mut Request, kind: u16, table: &str, elements: &[Element]) {
    let mut rest = elements;
    while let Some(first) = rest.first() {
        let set = first.set();
        let same = rest.iter().take(PER_MESSAGE).take_while(|element| element.set() == set).count();
        let (now, later) = rest.split_at(same);
        rest = later;
        let flags = if kind == NEW_ELEMENT { ACK | CREATE } else { ACK };
        request.message(NFTABLES, kind, flags, family_number(set.family()));
        request.text(LIST_TABLE, table);
        request.text(LIST_SET, &set.to_string());
        request
            .nest(LIST_ELEMENTS, |list| now.iter().for_each(|element| list.nest(ELEMENT, |one| encode(one, element))));
    }
}

fn encode(request: &mut Request, element: &Element) {
    let mut put = |kind, bytes: &[u8]| request.nest(kind, |inside| inside.attribute(VALUE, bytes));
    match &element.0 {
        Rule::Guest { tap, mac, ip } => {
            put(KEY, &[&interface(tap)[..], &mac.bytes(), &[0; 2], &ip.octets()].concat());
        }
        Rule::Unlimited(ip) => put(KEY, &ip.octets()),
        Rule::Egress(ip, Cell { first, last, protocols, ports }) => {
            put(KEY, &corner(*ip, *first, protocols.0, ports.0));
            put(KEY_END, &corner(*ip, *last, protocols.1, ports.1));
        }
        Rule::Published(port, ip, guest_port) => {
            put(KEY, &[number(protocol_number(port.protocol)), service(port.number)].concat());
            put(DATA, &[ip.octets(), service(*guest_port)].concat());
        }
    }
}

/// A name fills all 16 bytes of its field.
fn interface(tap: &TapName) -> [u8; libc::IFNAMSIZ] {
    let mut field = [0; libc::IFNAMSIZ];
    for (to, from) in field.iter_mut().zip(tap.as_str().bytes()) {
        *to = from;
    }
    field
}

fn corner(guest: Ipv4Addr, to: Ipv4Addr, protocol: u8, port: u16) -> Vec<u8> {
    [guest.octets(), to.octets(), number(protocol), service(port)].concat()
}

/// Each field of a key takes whole words.
fn number(protocol: u8) -> [u8; 4] {
    [protocol, 0, 0, 0]
}

fn service(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}
