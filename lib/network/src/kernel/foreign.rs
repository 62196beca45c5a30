//! Chains of others through which our guests' packets go: asked of the kernel, which has those of `iptables` (as of
//! Debian 10 and later) in the same place as those of `nft`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::elements::family_number;
use super::nfnetlink::{DUMP, NFTABLES, Request, Wire, attributes, attributes_of, find, number_of, text_of};
use crate::backend::{BackendError, ForeignChain};
use crate::element::Family;

const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const IPV4: u8 = 2;
const FORWARD: u32 = 2;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// `NFTA_CHAIN_*`, `NFTA_HOOK_HOOKNUM`.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;

/// `NFTA_RULE_*`, `NFTA_EXPR_*`, `NFTA_META_KEY`, `NFTA_CMP_DATA`, `NFTA_IMMEDIATE_DATA`, `NFTA_DATA_*`,
/// `NFTA_VERDICT_*`.
const RULE_TABLE: u16 = 1;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const META_KEY: u16 = 2;
const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const CMP_DATA: u16 = 3;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// Family, table and chain.
type Place = (u8, String, String);

/// Which ways a chain accepts: from the bridge, to the bridge.
type Ways = BTreeSet<u32>;

pub(super) fn dropping(wire: &mut Wire, table: &str, bridge: &str) -> Result<Vec<ForeignChain>, BackendError> {
    ask(wire, table, bridge).map_err(|source| BackendError::Netlink {
        act: "list",
        subject: "foreign chains".to_owned(),
        source,
    })
}

fn ask(wire: &mut Wire, table: &str, bridge: &str) -> io::Result<Vec<ForeignChain>> {
    let mut found = Vec::new();
    for family in [family_number(Family::Inet), IPV4] {
        let mut chains: Vec<Place> = Vec::new();
        dump(wire, GET_CHAIN, family, |kind, body| {
            chains.extend(
                read_chain(body)
                    .filter(|(theirs, _)| kind == NEW_CHAIN && theirs != table)
                    .map(|(theirs, name)| (family, theirs, name)),
            );
        })?;
        if chains.is_empty() {
            continue;
        }
        // A rule in a chain that these jump to counts as theirs: engines have chains for the operator's own rules.
        let mut accepted: BTreeMap<String, Ways> = BTreeMap::new();
        dump(wire, GET_RULE, family, |kind, body| {
            if let Some((theirs, way)) = read_rule(body, bridge).filter(|_| kind == NEW_RULE) {
                accepted.entry(theirs).or_default().insert(way);
            }
        })?;
        found.extend(chains.into_iter().map(|(family, theirs, name)| {
            let ways = accepted.get(&theirs);
            let lets_through =
                ways.is_some_and(|ways| ways.contains(&META_INPUT_NAME) && ways.contains(&META_OUTPUT_NAME));
            let family = if family == IPV4 { "ip" } else { "inet" };
            ForeignChain { name: format!("{family} {theirs} {name}"), lets_through }
        }));
    }
    Ok(found)
}

fn dump(wire: &mut Wire, what: u16, family: u8, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut request = Request::default();
    request.message(NFTABLES, what, DUMP, family);
    request.send(wire, |kind, body| take(kind & 0xff, body))
}

/// Table and name of a chain that is asked about what is forwarded, and drops what it does not accept.
fn read_chain(body: &[u8]) -> Option<(String, String)> {
    let (mut table, mut name, mut forward, mut drops) = (None, None, false, false);
    for (kind, value) in attributes_of(body) {
        match kind {
            CHAIN_TABLE => table = Some(text_of(value)),
            CHAIN_NAME => name = Some(text_of(value)),
            CHAIN_HOOK => forward = find(value, HOOK_NUMBER).and_then(number_of) == Some(FORWARD),
            CHAIN_POLICY => drops = number_of(value) == Some(DROP),
            _ => {}
        }
    }
    Some((table?, name?)).filter(|_| forward && drops)
}

/// Table of a rule that accepts, and which of its interfaces has to be the bridge for that.
fn read_rule(body: &[u8], bridge: &str) -> Option<(String, u32)> {
    let (mut table, mut accepts) = (None, None);
    for (kind, value) in attributes_of(body) {
        match kind {
            RULE_TABLE => table = Some(text_of(value)),
            RULE_EXPRESSIONS => accepts = read_expressions(value, bridge),
            _ => {}
        }
    }
    table.zip(accepts)
}

fn read_expressions(list: &[u8], bridge: &str) -> Option<u32> {
    let (mut loaded, mut way, mut accepts) = (None, None, false);
    for (_, expression) in attributes(list) {
        let name = find(expression, EXPRESSION_NAME).map(text_of).unwrap_or_default();
        let data = find(expression, EXPRESSION_DATA).unwrap_or_default();
        match name.as_str() {
            "meta" => {
                let key = find(data, META_KEY).and_then(number_of);
                loaded = key.filter(|key| [META_INPUT_NAME, META_OUTPUT_NAME].contains(key));
            }
            "cmp" => {
                let compared = find(data, CMP_DATA).and_then(|value| find(value, DATA_VALUE)).map(text_of);
                way = way.or(loaded.take().filter(|_| compared.as_deref() == Some(bridge)));
            }
            "immediate" => {
                let verdict = find(data, IMMEDIATE_DATA).and_then(|value| find(value, DATA_VERDICT));
                accepts |= verdict.and_then(|value| find(value, VERDICT_CODE)).and_then(number_of) == Some(ACCEPT);
            }
            _ => {}
        }
    }
    way.filter(|_| accepts)
}
