//! What each input does in each phase of the connection. The function below is the table that the client obeys; the
//! text is the same for people, and a test compares them.
//!
//! | input | Fresh | Waiting | Token | Dialling | Greeting | Online | Stopped |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | Restored | acts | ignored | ignored | ignored | ignored | ignored | ignored |
//! | Token | ignored | keeps | acts | keeps | keeps | acts | ignored |
//! | Opened | ignored | ignored | ignored | acts | ignored | ignored | ignored |
//! | Frame | ignored | ignored | ignored | ignored | acts | acts | ignored |
//! | Closed | ignored | ignored | ignored | acts | acts | acts | ignored |
//! | Saved | ignored | acts | acts | acts | acts | acts | acts |
//! | SaveFailed | ignored | acts | acts | acts | acts | acts | acts |
//! | Loaded | ignored | acts | acts | acts | acts | acts | acts |
//! | Command | refused | acts | acts | acts | acts | acts | acts |
//! | Host | keeps | acts | acts | acts | acts | acts | ignored |
//! | Tick | ignored | acts | acts | acts | acts | acts | acts |
//!
//! A frame, opening or closing of a generation other than the present one is ignored in every phase. In `Stopped`,
//! a command is answered from what is here or with the reason of the stop. When the page left, the phase is `Waiting`
//! and stays so until it wakes, whatever else comes.
//!
//! Invariants, and the tests that hold them:
//!
//! 1. Each message of the queue is told once, in order, and only when it is durable; a cursor never moves back
//!    (R1, R2) — `each_message_is_told_once_in_order_whatever_happens`
//! 2. A hello gives the cursor that is durable, so it is never taken back; what is streamed again is passed over (R1) —
//!    `a_hello_gives_what_is_durable_and_what_is_streamed_again_is_passed_over`
//! 3. A gap is asked for once, and never hidden — `what_was_applied_is_skipped_and_a_gap_is_asked_for_once`,
//!    `a_reset_replaces_everything_but_the_outbox_in_one_transaction_and_names_the_gap`
//! 4. What was written here is in the log once and in its order (R4, R5, R6) —
//!    `the_log_has_each_message_once_and_in_order_whatever_happens`
//! 5. A send is on the wire only when it is durable here —
//!    `a_send_is_shown_at_once_persisted_then_transmitted_and_answered_when_that_is_durable`
//! 6. One of a conversation is on the wire — `one_of_a_conversation_is_on_the_wire_and_a_bounded_number_in_all`
//! 7. What is not durable yet is bounded (R7) — `too_much_that_is_not_durable_is_passed_over_and_asked_for_again`,
//!    `a_full_outbox_refuses_and_keeps_what_it_has`, `requests_end_by_their_deadline_and_are_bounded`
//! 8. A socket ends by its own end or by an unanswered probe, never by a late timer alone —
//!    `a_probe_ends_a_socket_only_when_it_is_not_answered`,
//!    `a_timer_that_comes_late_asks_before_it_ends_a_socket`
//! 9. The relay's wish to come later is obeyed, and tries grow rare —
//!    `the_relays_retry_after_is_the_least_wait_also_when_the_host_wakes`,
//!    `back_off_doubles_to_its_cap_with_full_jitter_and_starts_again_after_a_good_connection`
//! 10. The token provider is asked once at a time — `login_asks_once_for_a_token_and_says_who_it_is`,
//!     `the_token_is_renewed_on_the_open_connection`
//! 11. A read mark never moves back and reaches the relay —
//!     `read_marks_move_at_once_never_back_and_reach_the_relay_after_a_reconnect`
//! 12. Every command is answered exactly once — each test: the bed fails on a second reply;
//!     `close_says_goodbye_persists_and_answers_what_waits`
//! 13. No bytes make the client panic (R9) — `no_bytes_of_a_relay_make_the_client_panic`,
//!     `no_bytes_of_a_cache_make_the_client_panic`,
//!     `a_cache_that_cannot_be_trusted_is_dropped_and_keeps_its_device_only_for_its_user`
//! 14. What is shown of a watched user is the relay's word of this connection, or of one that ended a short while ago,
//!     or unknown; each change is told once — `presence_is_the_relays_or_unknown_whatever_happens`,
//!     `what_was_heard_on_a_connection_that_is_gone_becomes_unknown`,
//!     `a_short_loss_shows_nothing_but_real_differences`
//! 15. Who is watched and who writes is bounded (R7) —
//!     `watching_is_bounded_and_goes_in_requests_within_their_limit`,
//!     `those_who_write_are_bounded_and_others_than_the_user`
//! 16. Whoever writes ceases — `who_writes_is_told_once_and_ceases_when_that_expires`,
//!     `a_message_or_the_end_of_the_connection_ends_it_at_once`
//! 17. The relay knows whether somebody looks — `whether_somebody_looks_is_told_at_each_change_and_in_each_hello`
//! 18. Who goes on purpose says so, and does not come back before it is to —
//!     `a_page_that_leaves_says_goodbye_on_the_socket_and_by_beacon`,
//!     `a_page_that_left_does_not_dial_whatever_comes_until_it_wakes`, `a_client_that_closes_does_not_come_back`
//! 19. A code that ends the session stops; one that does not, dials ever more rarely: nothing loops —
//!     `a_code_that_ends_the_session_stops_for_good_wherever_it_comes`,
//!     `a_hello_that_came_too_late_is_said_again_ever_more_rarely`
//! 20. Other tabs are told before each save what it will tell —
//!     `each_transaction_is_announced_right_before_its_save_with_all_that_will_be_told`
//! 21. Each change of a message is told once, in its order and after the message; what is cached and shown is of now —
//!     `messages_and_changes_are_told_once_and_what_is_cached_is_of_now`,
//!     `a_change_that_comes_while_a_page_is_made_is_in_it`
//! 22. What may have changed unnoticed is let go of, and that is told —
//!     `who_lacks_too_many_changes_lets_go_of_what_is_cached_and_is_told_so`,
//!     `who_joins_again_keeps_what_is_cached_only_if_nothing_has_changed`
//! 23. Of each profile a version is told once, when it is durable, and none after a newer one; what is given is never older
//!     than what was told: in one epoch, and while the user is among those who are kept. Of another epoch what was known is
//!     given until the relay told what there is — `profiles_are_told_once_and_never_go_back_whatever_happens`,
//!     `a_profile_is_told_when_it_is_durable_and_other_tabs_before`,
//!     `a_restored_relay_is_asked_for_all_and_what_was_known_is_shown_until_it_answers`,
//!     `what_may_be_old_since_a_reset_is_asked_for_by_the_next_process`
//! 24. Profiles that are kept and requests for them are bounded, and whoever waits for one is answered (R7) —
//!     `what_is_known_asked_and_on_the_wire_is_bounded`, `who_is_waited_for_stays`,
//!     `who_waits_is_answered_with_what_is_known_when_nothing_comes`
//! 25. What is to be saved is saved at once. Entries of the queue may wait for more of them, for a short while and where as
//!     many as are to gather are known to come; with them what nobody waits for — `a_save_waits_for_many_entries_while_as_many_are_known_to_come`,
//!     `what_gathers_is_saved_after_a_while_whatever_comes`,
//!     `only_entries_of_the_queue_wait_and_only_on_a_connection_that_somebody_looks_at`

use crate::io::Input;
use crate::session::Phase;

/// What an input does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is handled.
    Acts,
    /// It is remembered and nothing else happens.
    Keeps,
    /// It means nothing here.
    Ignored,
    /// It is answered with an error.
    Refused,
}

/// The kinds of inputs: the table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Restored,
    Token,
    Opened,
    Frame,
    Closed,
    Saved,
    SaveFailed,
    Loaded,
    Command,
    Host,
    Tick,
}

impl Kind {
    pub(crate) const fn of(input: &Input) -> Self {
        match input {
            Input::Restored(_) => Kind::Restored,
            Input::Token(_) => Kind::Token,
            Input::Opened(_) => Kind::Opened,
            Input::Frame(..) => Kind::Frame,
            Input::Closed { .. } => Kind::Closed,
            Input::Saved(_) => Kind::Saved,
            Input::SaveFailed(..) => Kind::SaveFailed,
            Input::Loaded(..) => Kind::Loaded,
            Input::Command(..) => Kind::Command,
            Input::Host(_) => Kind::Host,
            Input::Tick => Kind::Tick,
        }
    }
}

/// The table.
pub(crate) const fn rule(phase: Phase, kind: Kind) -> Rule {
    use Phase::{Dialling, Fresh, Greeting, Online, Stopped, Token, Waiting};
    match (kind, phase) {
        (Kind::Restored, Fresh) => Rule::Acts,
        (Kind::Restored, Waiting | Token | Dialling | Greeting | Online | Stopped) => Rule::Ignored,

        (Kind::Token, Token | Online) => Rule::Acts,
        (Kind::Token, Waiting | Dialling | Greeting) => Rule::Keeps,
        (Kind::Token, Fresh | Stopped) => Rule::Ignored,

        (Kind::Opened, Dialling) => Rule::Acts,
        (Kind::Opened, Fresh | Waiting | Token | Greeting | Online | Stopped) => Rule::Ignored,

        (Kind::Frame, Greeting | Online) => Rule::Acts,
        (Kind::Frame, Fresh | Waiting | Token | Dialling | Stopped) => Rule::Ignored,

        (Kind::Closed, Dialling | Greeting | Online) => Rule::Acts,
        (Kind::Closed, Fresh | Waiting | Token | Stopped) => Rule::Ignored,

        (
            Kind::Saved | Kind::SaveFailed | Kind::Loaded,
            Waiting | Token | Dialling | Greeting | Online | Stopped,
        ) => Rule::Acts,
        (Kind::Saved | Kind::SaveFailed | Kind::Loaded, Fresh) => Rule::Ignored,

        (Kind::Command, Waiting | Token | Dialling | Greeting | Online | Stopped) => Rule::Acts,
        (Kind::Command, Fresh) => Rule::Refused,

        (Kind::Host, Waiting | Token | Dialling | Greeting | Online) => Rule::Acts,
        (Kind::Host, Fresh) => Rule::Keeps,
        (Kind::Host, Stopped) => Rule::Ignored,

        // Also when stopped: a page of history that waits for the cache has its deadline.
        (Kind::Tick, Waiting | Token | Dialling | Greeting | Online | Stopped) => Rule::Acts,
        (Kind::Tick, Fresh) => Rule::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 7] = [
        Phase::Fresh,
        Phase::Waiting,
        Phase::Token,
        Phase::Dialling,
        Phase::Greeting,
        Phase::Online,
        Phase::Stopped,
    ];
    const KINDS: [Kind; 11] = [
        Kind::Restored,
        Kind::Token,
        Kind::Opened,
        Kind::Frame,
        Kind::Closed,
        Kind::Saved,
        Kind::SaveFailed,
        Kind::Loaded,
        Kind::Command,
        Kind::Host,
        Kind::Tick,
    ];

    #[test]
    fn the_text_is_the_table() {
        let text = include_str!("table.rs");
        for kind in KINDS {
            let rules: Vec<_> =
                PHASES.map(|phase| format!("{:?}", rule(phase, kind)).to_lowercase()).into_iter().collect();
            let row = format!("//! | {kind:?} | {} |\n", rules.join(" | "));
            assert!(text.contains(&row), "{row}");
        }
    }

    #[test]
    fn the_tests_that_invariants_name_exist() {
        let tests = [
            include_str!("../tests/session.rs"),
            include_str!("../tests/queue.rs"),
            include_str!("../tests/gathering.rs"),
            include_str!("../tests/outbox.rs"),
            include_str!("../tests/requests.rs"),
            include_str!("../tests/presence.rs"),
            include_str!("../tests/changes.rs"),
            include_str!("../tests/log_changes.rs"),
            include_str!("../tests/reset.rs"),
            include_str!("../tests/conversations.rs"),
            include_str!("../tests/profiles.rs"),
            include_str!("../tests/device.rs"),
            include_str!("../tests/typing.rs"),
            include_str!("../tests/prepare.rs"),
        ]
        .concat();
        let named = include_str!("table.rs")
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .flat_map(|line| line.split('`').skip(1).step_by(2))
            .filter(|name| name.contains('_'));
        let mut count = 0;
        for name in named {
            assert!(tests.contains(&format!("fn {name}(")), "{name}");
            count += 1;
        }
        assert!(count >= 34, "{count}");
    }
}
