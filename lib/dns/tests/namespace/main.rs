//! The responder on real sockets: a bridge in a namespace, guests behind it in others, an upstream of the test's own, and
//! `dig` as a client that nobody here wrote.
#![expect(clippy::unwrap_used, reason = "these are tests, although not run by libtest")]

mod host;
mod names;
mod trouble;
mod upstream;

use std::process::ExitCode;

fn main() -> ExitCode {
    dataplane_testkit::netns::main(dataplane_testkit::netns_tests![
        names:
            guests_resolve_each_other_forwards_and_backwards,
            other_names_come_from_upstream,
            a_long_answer_comes_by_tcp,
            names_of_the_domain_need_no_upstream;
        trouble:
            nobody_else_is_answered,
            a_port_that_is_held_is_told_and_taken_later,
            hostile_packets_do_no_harm,
            a_guest_that_asks_too_much_is_not_heard_and_others_are,
            an_upstream_that_lies_is_not_believed,
            a_slow_upstream_holds_up_nobody,
            connections_are_counted_and_do_not_stay;
    ])
}
