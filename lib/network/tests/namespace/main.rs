//! The network manager on a real kernel: each test in namespaces of its own, with the test itself as the guests behind
//! the TAPs, and other namespaces as the world behind the uplink.
//!
//! That something does *not* arrive is proven by order, never by waiting: the forbidden frame goes first, a permitted
//! one follows by the same way, and when that is there the other would have been. Each such test also takes the
//! protection away and sees the same frame arrive, so that it cannot pass for a wrong reason.
#![expect(clippy::unwrap_used, reason = "these are tests, although not run by libtest")]

mod devices;
mod frames;
mod host;
mod limits;
mod mortality;
mod ownership;
mod publishing;
mod spoofing;
mod traffic;

use std::process::ExitCode;

fn main() -> ExitCode {
    dataplane_testkit::netns::main(dataplane_testkit::netns_tests![
        devices:
            start_makes_the_bridge_and_may_be_repeated,
            a_tap_is_as_promised_and_kept,
            a_tap_that_cannot_be_mended_is_made_anew,
            a_new_tap_is_free_while_others_fork,
            a_bridge_holds_as_many_guests_as_the_ledger_gives,
            flushed_rules_are_noticed_and_mended,
            odd_bridge_names_work_everywhere,
            the_gateway_follows_the_configuration;
        ownership:
            a_foreign_bridge_is_refused_and_untouched,
            a_bridge_cut_short_is_finished,
            a_foreign_tap_is_refused_and_untouched,
            sweep_takes_our_orphans_only,
            teardown_leaves_the_host_as_it_was,
            teardown_leaves_what_is_not_ours,
            forwarding_of_a_router_is_left_alone,
            an_overlap_is_refused_before_anything_is_made,
            uplinks_that_cannot_be_are_refused;
        traffic:
            a_guest_reaches_the_gateway,
            guests_do_not_meet_on_the_bridge,
            guests_do_not_meet_through_the_gateway,
            a_guest_leaves_by_the_uplink_with_the_hosts_address,
            a_stranger_does_not_reach_a_guest,
            a_guest_does_not_claim_foreign_addresses_towards_the_uplink,
            the_metadata_address_is_not_forwarded,
            loopback_is_out_of_reach,
            the_host_does_not_become_a_router;
        limits:
            a_limit_is_in_the_kernel_as_it_was_asked_for,
            limits_go_with_their_tap,
            a_device_that_is_not_ours_is_refused_and_untouched,
            what_a_limited_guest_sends_meets_every_rule,
            a_transfer_is_as_fast_as_the_limit_each_way,
            a_limit_changes_under_a_transfer;
        mortality:
            nothing_is_left_wherever_it_dies;
        publishing:
            published_ports_are_reached_from_everywhere,
            a_guest_gets_at_the_hosts_loopback_by_nothing,
            ports_that_anybody_has_are_refused_by_name,
            a_change_of_ports_is_at_once_and_whole,
            where_a_guest_may_go_is_its_list,
            answers_are_not_egress;
        spoofing:
            nothing_false_gets_to_a_neighbour,
            nothing_false_gets_out_by_the_gateway,
            the_hosts_neighbour_table_believes_no_guest,
            the_bridges_own_addresses_are_no_back_door,
            the_host_serves_names_and_echo_at_the_gateway_only,
            a_port_without_elements_is_mute;
    ])
}
