use domain::base::iana::Rtype;
use proptest::prelude::*;

use super::*;

/// A question as a client sends it: id 7, recursion desired, with EDNS of this size where there is one.
pub(crate) fn asking(name: &str, rtype: Rtype, edns: Option<u16>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(7);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((Name::vec_from_str(name).unwrap(), rtype)).unwrap();
    let mut builder = builder.additional();
    if let Some(size) = edns {
        builder
            .opt(|opt| {
                opt.set_udp_payload_size(size);
                Ok(())
            })
            .unwrap();
    }
    builder.finish()
}

/// The upstream's answer to what it was sent, with so many addresses.
fn answering(sent: &[u8], addresses: u8) -> Vec<u8> {
    let message = Message::from_slice(sent).unwrap();
    let target = StaticCompressor::new(Vec::new());
    let mut builder = MessageBuilder::from_target(target).unwrap().start_answer(message, Rcode::NOERROR).unwrap();
    let name = message.sole_question().unwrap().into_qname();
    for last in 0..addresses {
        builder.push((&name, Class::IN, Ttl::from_secs(60), A::new(Ipv4Addr::new(9, 9, 9, last)))).unwrap();
    }
    builder.finish().into_target()
}

fn query(edns: Option<u16>) -> Query {
    Query::read(&asking("www.Example.com", Rtype::A, edns)).unwrap()
}

#[test]
fn an_answer_comes_back_under_the_clients_id() {
    let query = query(None);
    let sent = query.with_id(0xbeef);
    assert_eq!(Message::from_slice(&sent).unwrap().header().id(), 0xbeef);
    let accepted = query.accept(0xbeef, &answering(&sent, 3)).unwrap();
    let message = Message::from_slice(&accepted).unwrap();
    assert_eq!((message.header().id(), message.header_counts().ancount()), (7, 3));
    assert_eq!(query.fit(accepted.clone()), accepted);
}

#[test]
fn an_answer_to_another_question_is_none() {
    let query = query(None);
    let sent = query.with_id(1);
    let good = answering(&sent, 1);
    assert!(query.accept(2, &good).is_none(), "another id");
    assert!(query.accept(1, &sent).is_none(), "a question");
    assert!(query.accept(1, &answering(&asking("example.com", Rtype::A, None), 1)).is_none(), "another name");
    let mut other_type = Query::read(&asking("www.example.com", Rtype::AAAA, None)).unwrap().with_id(1);
    other_type = answering(&other_type, 0);
    assert!(query.accept(1, &other_type).is_none(), "another type");
    assert!(query.accept(1, &good[..11]).is_none(), "no header");
    assert!(query.accept(1, b"").is_none());
    let lower = Query::read(&asking("www.example.com", Rtype::A, None)).unwrap().with_id(1);
    assert!(query.accept(1, &answering(&lower, 1)).is_some(), "capitals do not matter");
}

#[test]
fn an_answer_that_is_too_long_for_udp_is_cut_with_the_sign_for_it() {
    for (edns, addresses, whole) in
        [(None, 29, true), (None, 30, false), (Some(100), 30, false), (Some(1232), 60, true), (Some(65535), 255, false)]
    {
        let query = query(edns);
        let answer = query.accept(1, &answering(&query.with_id(1), addresses)).unwrap();
        let fitted = query.fit(answer.clone());
        assert_eq!(fitted == answer, whole, "{edns:?} {addresses}");
        let message = Message::from_slice(&fitted).unwrap();
        assert_eq!(message.header().tc(), !whole);
        assert_eq!(message.header().id(), 7);
        assert_eq!(message.opt().is_some(), edns.is_some() && !whole, "the answer given here has no EDNS of its own");
        assert_eq!(message.sole_question().unwrap(), query.question());
    }
}

#[test]
fn what_is_not_whole_is_no_query() {
    let good = asking("a.b", Rtype::A, Some(1232));
    assert!(Query::read(&good).is_some());
    for length in 0..good.len() {
        assert!(Query::read(&good[..length]).is_none(), "cut to {length}");
    }
    let mut two = good.clone();
    two[5] = 2;
    assert!(Query::read(&two).is_none(), "two questions are promised");
    let mut to_itself = good.clone();
    to_itself[12..14].copy_from_slice(&[0xc0, 12]);
    assert!(Query::read(&to_itself).is_none(), "a name that leads to itself");
    let mut into_the_header = good[..14].to_vec();
    into_the_header[11] = 0;
    into_the_header[12..].copy_from_slice(&[0xc0, 0]);
    into_the_header.extend_from_slice(&[0, 1, 0, 1]);
    assert!(Query::read(&into_the_header).is_none(), "a name that is the id");
    let mut long = good;
    long.resize(LARGEST_QUERY + 1, 0);
    assert!(Query::read(&long).is_none());
}

proptest! {
    #[test]
    fn no_bytes_break_it(packet in proptest::collection::vec(any::<u8>(), 0..600), reply: Vec<u8>) {
        if let Some(query) = Query::read(&packet) {
            let _ = query.accept(0, &reply).map(|answer| query.fit(answer));
            prop_assert!(Message::from_slice(&query.failed()).unwrap().header().qr());
        }
    }
}
