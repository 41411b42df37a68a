//! The stories, by what they are about.

mod adopt;
mod any_process;
mod apply;
mod attach;
mod bad_input;
mod bandwidth;
mod boot;
mod closed;
mod cni;
mod cni_chain;
mod cni_runtimes;
mod cni_several;
mod crash;
mod debian;
mod decisions;
mod dhcp;
mod dhcp_life;
mod dhcp_storm;
mod dhcp_zone;
mod errors;
mod escapes;
mod escapes_live;
mod explain;
mod files;
mod flat;
mod groups;
mod harness;
mod images;
mod inits;
mod layouts;
mod limits;
mod names;
pub mod netavark;
mod notes;
mod nspawn;
mod nspawn_units;
mod oci;
mod oci_life;
mod opened;
mod policies;
mod prefix;
mod proof;
mod publish;
mod publish_bound;
mod publish_conflict;
mod publish_live;
mod publish_policy;
mod reachability;
mod resolv;
mod resolv_inside;
mod restart;
mod run;
mod run_more;
mod run_options;
mod several;
mod several_dhcp;
mod six;
mod six_life;
mod spoofing;
mod stage;
mod tamper;
mod varlink;
mod verbs;
mod visit;

use crate::runner::Story;

/// Lists stories as `file::function`.
macro_rules! stories {
    ($($file:ident: $($story:ident),+;)*) => {
        /// Every story.
        pub const ALL: &[Story] = &[$($(
            Story { name: concat!(stringify!($file), "::", stringify!($story)), run: $file::$story },
        )+)*];
    };
}

stories! {
    harness: a_private_host_is_ready_at_once, probes_tell_the_four_outcomes_apart, traps_catch_forged_frames,
        steady_flows_measure_gaps_and_storms_arrive;
    attach: what_attach_tells_and_makes, long_names_are_shortened, by_process_and_with_wishes,
        nobody_is_attached_twice, many_at_once;
    reachability: zone_defaults, the_world_sees_the_host_and_containers_see_who_asks,
        zones_meet_only_where_both_sides_say_so, internal_zones_have_no_world, a_zone_keeps_to_its_uplink, beside_bridge_netfilter;
    publish: published_ports_are_open_to_world_and_host, the_loopback_of_v6_leads_to_the_container_too,
        policy_judges_what_comes_through_a_published_port, a_port_is_published_once, an_internal_zone_publishes_nothing;
    publish_bound: a_range_is_one_element_and_leads_port_by_port, bound_addresses_are_met_there_only,
        nobody_but_the_host_reaches_its_loopback, hairpins_in_both_families_by_host_and_by_gateway;
    publish_conflict: programs_of_the_host_are_named, containers_are_named_and_nothing_is_half_made;
    publish_live: a_client_that_keeps_its_port_reaches_who_is_there_now,
        connections_live_through_restarts_and_end_with_the_container, the_loopback_of_v6_carries_whatever_the_host_is_like;
    publish_policy: a_closed_port_is_warned_of_everywhere, a_published_port_opens_to_world_and_host_in_any_default,
        run_and_runtimes_publish_alike, an_internal_zone_refuses_and_a_zone_that_becomes_internal_closes;
    policies: labels_zones_and_names_as_peers, addresses_and_ranges_as_peers, a_deny_always_wins,
        files_add_up_and_an_empty_direction_is_closed, tightening_cuts_live_connections_both_ways,
        a_label_that_is_named_later_cuts_nobody_and_lets_nobody_through;
    apply: a_set_opens_and_closes_in_one_step_and_rolls_back, one_bad_file_refuses_all,
        who_does_not_confirm_in_time_gets_the_old_set_back, a_daemon_that_starts_after_the_deadline_brings_the_old_set_back_first,
        a_file_that_is_bad_stays_as_good_as_it_was, groups_go_with_their_set, killed_while_applying, a_diff_says_what_explain_says_before_and_after;
    explain: published_ports_lead_to_the_container, a_zone_off_its_uplink_is_explained, other_tables_are_read,
        what_cannot_be_known_of_other_tables_may_drop, what_is_suggested_opens_it, files_alone_are_enough;
    bandwidth: each_direction_has_its_rate_and_an_edit_cuts_nobody,
        limits_outlive_daemons_and_tampering_and_nothing_is_left_of_them;
    limits: a_rate_is_each_sources_and_outlives_edits_and_daemons, connections_are_counted_while_they_last,
        hours_are_those_of_the_host;
    files: a_bad_file_leaves_the_last_good_one_in_force, without_a_good_file_an_attach_is_refused,
        an_edit_comes_into_force_by_itself, checking_needs_no_daemon, files_have_a_ceiling_together,
        links_and_folders_count, zone_files_that_cannot_be_followed_are_told;
    groups: one_edit_changes_every_file_that_uses_them, bad_ones_leave_the_last_good_ones_in_force,
        without_good_ones_what_uses_them_is_refused, a_check_asks_the_daemon_who_is_there;
    restart: a_new_daemon_takes_over_without_a_packet_lost, what_netd_made_it_removes, two_daemons_share_a_machine,
        a_command_that_needs_a_daemon_starts_one;
    dhcp: clients_work_with_another_server, real_clients_get_what_netd_told, an_address_survives_restarts_of_daemon_and_container,
        a_lease_is_renewed_by_a_new_daemon, static_containers_need_no_client;
    six: the_kernel_follows_advertisements, statically_configured_ones_are_told_nothing, real_clients_get_their_address,
        a_lease_is_renewed_released_and_survives_the_daemon, a_zone_that_goes_takes_its_routes_along, a_zone_of_ipv6_alone, nobody_touches_anothers_lease, private_subnets_are_translated_and_global_ones_are_not, leases_end_and_are_declined;
    six_life: a_whole_life_of_each_client, who_can_do_without_ipv4_is_told_to;
    prefix: privacy_addresses_are_the_container, nobody_uses_anothers_prefix, ways_come_and_go,
        a_nested_zone_has_a_delegated_prefix;
    dhcp_life: a_whole_life_of_each_client, an_address_in_use_is_declined, a_remembered_address_is_confirmed_or_refused;
    dhcp_storm: kill_9_under_load_loses_no_acknowledged_lease, garbage_and_floods_cost_no_lease;
    dhcp_zone: options_and_reservations_reach_a_client, relay_agents_are_heard_where_the_zone_names_them, silence_has_a_reason;
    names: a_zones_names_are_known_to_its_containers, attach_and_detach_change_names_at_once, what_is_not_known_is_asked_upstream,
        the_resolver_is_no_way_out, upstream_that_does_not_answer_is_told_in_time, the_hosts_resolvers_are_followed,
        domains_and_zones_have_resolvers_of_their_own, nobody_outside_is_answered, connections_are_counted_by_container, the_resolver_outlives_bridges_and_daemons;
    resolv: a_container_that_is_run_has_the_file_that_is_asked_for, what_ip_netns_starts_finds_names;
    resolv_inside: a_process_that_is_attached_finds_its_zones_resolvers, an_attach_writes_nothing_of_the_hosts,
        a_runtimes_container_finds_its_zones_resolvers;
    opened: a_name_opens_what_it_resolves_to, conditions_count_for_names_too, no_name_leads_back, a_name_is_no_tunnel,
        what_a_name_opened_ends, a_name_on_trial_opens_nothing_and_is_known;
    spoofing: without_a_guard_every_lie_arrives, hardware_and_ip_addresses, frames_past_the_host, arp_and_neighbour_discovery, rogue_dhcp_servers_and_routers;
    flat: rules_and_chains_stay_the_same, an_attach_execs_nothing;
    errors: nobody_breaks_the_connections_of_others, what_waits_for_an_address_is_not_for_who_gets_it;
    tamper: with_the_daemon_alive, with_the_daemon_dead, with_every_process_of_netd_dead, one_element_after_the_other;
    crash: killed_at_random_moments;
    bad_input: wrong_requests, wrong_zone_files, garbage_on_the_socket, garbage_in_dhcp, a_full_disk, a_truncated_store;
    decisions: a_file_on_trial_changes_nothing_and_is_recorded, a_rule_that_logs_is_recorded_with_what_it_did,
        what_is_over_a_rate_is_told_with_it, rules_count_what_they_match, a_flood_harms_no_packet_and_no_disk,
        what_is_learned_allows_what_was_seen_and_nothing_else, the_journal_is_told_and_a_log_can_be_followed;
    adopt: nothing_passes_before_a_port_is_adopted,
        a_bridge_that_goes_and_comes_back_brings_the_next_port_of_that_name, an_adopted_port_is_a_container_like_any_other,
        what_stands_in_the_way_is_told_and_nothing_passes, a_virtual_machine_is_known_by_what_it_asks,
        adopted_ports_outlive_daemons_and_tampering;
    closed: what_is_plugged_in_without_a_daemon_is_apart;
    nspawn: machines_find_the_zone_and_the_zone_stays, the_unit_gets_its_network_from_netd;
    nspawn_units: networkd_leaves_our_bridges_alone, the_drop_in_is_a_unit;
    run: the_network_is_there_before_the_command, exit_codes_and_signals_pass_through,
        policy_holds_before_the_first_packet, a_hook_that_fails_stops_the_start,
        users_of_its_own_and_a_dhcp_client_inside, published_ports_and_labels, the_network_outlives_the_daemon;
    run_options: a_settings_file_runs_as_it_stands_and_is_its_command_line, many_options_in_one_start, interfaces_beside_zones,
        bundles_and_scopes;
    escapes: the_table_says_what_the_probe_says, the_program_of_the_host_cannot_be_overwritten,
        no_descriptor_of_the_caller_comes_along, no_mount_is_led_out_of_the_root,
        cgroups_keys_and_the_kernels_files_lead_nowhere;
    escapes_live: who_enters_is_not_looked_into, no_key_is_pushed_into_the_callers_terminal,
        handles_and_other_calling_conventions_lead_nowhere, places_that_change_meanwhile_lead_nowhere,
        a_container_that_hides_its_proc_is_visited_all_the_same;
    run_more: words_mean_what_they_mean_for_systemd_nspawn, what_is_not_done_is_refused_by_name;
    several: each_network_is_reached_by_its_own_interface, a_second_network_comes_and_goes_and_outlives_the_daemon, both_go_with_whoever_had_them,
        a_program_is_run_in_two_zones,
        rules_say_for_which_network_they_are, a_port_published_on_the_second_network_answers_by_it,
        names_of_all_its_zones_are_known, nobody_is_a_way_from_one_zone_to_the_other;
    several_dhcp: clients_of_two_networks_get_their_addresses;
    oci: runtimes_work_at_all, crun_and_runc_get_their_network_by_hook, a_refused_hook_stops_the_container;
    oci_life: the_hosts_own_network_is_refused, a_crash_of_either_side_leaves_nothing, podman_runs_the_installed_hook,
        podman_does_not_start_what_the_hook_refuses, a_late_poststop_leaves_the_next_one_alone;
    any_process: only_the_network_is_new, names_are_asked_of_the_zone, policy_holds_before_the_program,
        it_ends_with_netd_and_netd_with_it, bubblewrap_waits_for_its_network, unshare_and_ip_netns_are_attached;
    netavark: a_network_is_a_zone, netavark_sets_a_container_up, a_container_is_in_two_networks;
    cni: a_whole_life_in_every_version, what_is_asked_for_is_given_or_refused, check_sees_what_is_missing,
        gc_reclaims_what_is_of_the_network_and_not_valid, status_tells_of_daemon_zone_and_addresses,
        killed_at_any_moment_a_del_leaves_nothing;
    cni_several: two_networks_are_two_attachments, what_runtimes_do_at_the_same_time_leaves_one_or_none;
    cni_chain: containers_of_a_foreign_bridge_are_under_policy, both_families_of_a_foreign_bridge_are_under_policy,
        nothing_passes_before_netd_policy_whoever_is_dead;
    cni_runtimes: podman_starts_containers_in_a_zone, containerd_starts_containers_in_a_zone;
    proof: worlds_of_chance_agree_three_ways, a_lie_is_found_and_made_small, packets_that_should_not_pass_are_found,
        packets_are_heard_without_answers;
    varlink: a_foreign_client_finds_its_way;
    boot: a_machine_boots_and_stops_in_order, disks_are_roots_too;
    layouts: skopeo_and_umoci_make_images_of_netds, what_docker_exports_is_a_root, the_bundle_of_an_image_runs;
    debian: what_debootstrap_makes_is_a_root;
    inits: systemd_boots_asks_for_its_address_and_stops, openrc_boots_and_stops,
        an_init_that_asks_for_it_is_started_again, a_machine_is_stopped_by_the_signal_it_was_started_with, machinectl_lists_what_runs_beside_systemd;
    notes: a_self_hosters_notes_command_by_command;
    images: a_whole_life, archives_of_strangers_stay_in_their_tree, pulled_verified_and_resumed, a_unit_starts_a_machine_at_boot;
    visit: a_visitor_may_what_the_container_may, words_codes_and_streams_pass_through, a_container_that_lies_catches_no_visitor,
        files_go_in_and_out_and_links_lead_nowhere, a_folder_of_the_host_is_shown_in_a_running_container,
        what_runs_is_told_and_ends_in_order;
    verbs: a_login_asks_for_name_and_password, a_shell_has_job_control_and_is_left_by_its_escape,
        disks_come_by_https_and_from_nobody_unknown, every_document_keeps_to_its_schema;
}
