//! What guests get to know.

use crate::host::{CLIENT, Host, STRANGER, WEB};
use crate::upstream::{Upstream, one, truncated};

pub(crate) fn guests_resolve_each_other_forwards_and_backwards() {
    let host = Host::new();
    let running = host.serve(host.config("127.0.0.1:9".parse().unwrap()));
    assert_eq!(running.status(), Ok("10.1.0.1:53".parse().unwrap()));
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(host.dig(&format!("{transport} +short web.dataplane.internal")), format!("{WEB}\n"));
        assert_eq!(host.dig(&format!("{transport} +short CLIENT.dataplane.internal")), format!("{CLIENT}\n"));
        assert_eq!(host.dig(&format!("{transport} +short -x 10.1.0.2")), "web.dataplane.internal.\n");
    }
    let whole = host.dig("web.dataplane.internal");
    for part in
        ["status: NOERROR", "flags: qr aa rd ra", "EDNS: version: 0", "web.dataplane.internal.\t5\tIN\tA\t10.1.0.2"]
    {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    assert!(!whole.contains("WARNING"), "{whole}");
    let other_type = host.dig("web.dataplane.internal AAAA");
    assert!(other_type.contains("status: NOERROR") && other_type.contains("ANSWER: 0, AUTHORITY: 1"), "{other_type}");
    assert!(host.dig("nobody.dataplane.internal").contains("status: NXDOMAIN"));
    assert!(host.dig("-x 10.1.3.254").contains("status: NXDOMAIN"));
    assert!(host.dig("version.bind TXT CH").contains("status: REFUSED"));
}

pub(crate) fn other_names_come_from_upstream() {
    let host = Host::new();
    let world = host.uplinked();
    let upstream = Upstream::start(&world, STRANGER, |question| vec![one(question)]);
    let _running = host.serve(host.config(upstream.address));
    assert_eq!(host.dig("+short www.example.com"), "9.9.9.9\n");
    assert_eq!(host.dig("+short -x 8.8.8.8"), "9.9.9.9\n", "an address of somebody else");
    assert_eq!(upstream.asked(), 2);
    host.dig("web.dataplane.internal");
    host.dig("nobody.dataplane.internal");
    host.dig("-x 10.1.0.9");
    assert_eq!(upstream.asked(), 2, "what is ours is asked of nobody");
}

pub(crate) fn a_long_answer_comes_by_tcp() {
    let host = Host::new();
    let upstream = Upstream::start(&host.ns, "127.0.0.1".parse().unwrap(), |question| vec![truncated(question)]);
    let _running = host.serve(host.config(upstream.address));
    let answer = host.dig("long.example.com");
    assert!(answer.contains("Truncated, retrying in TCP mode"), "{answer}");
    assert!(answer.contains("ANSWER: 375,") && answer.contains("9.9.1.118"), "{answer}");
}

pub(crate) fn names_of_the_domain_need_no_upstream() {
    let host = Host::new();
    // No route leads there.
    let _running = host.serve(host.config("192.0.2.1:53".parse().unwrap()));
    assert_eq!(host.dig("+short web.dataplane.internal"), format!("{WEB}\n"));
    let answer = host.dig("www.example.com");
    assert!(answer.contains("status: SERVFAIL"), "at once, so that a resolver asks its next server: {answer}");
    assert!(host.dig("+tcp www.example.com").contains("status: SERVFAIL"));
}
