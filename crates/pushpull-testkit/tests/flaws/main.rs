//! The promises are proved by a harness that breaks them, one at a time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{Flaw, FlawedHarness};
use pushpull_testkit::{PROMISES, Promise, Verdict};

/// Whether a harness of that flaw is found out by the promise of that name. Time is paused, so waiting for what
/// never comes costs none.
async fn breaks(flaw: Flaw, name: &str) -> bool {
    let promise = Promise::named(name).unwrap_or_else(|| panic!("no promise {name}"));
    match promise.verify(&FlawedHarness::new(flaw)).await {
        Verdict::Failed(_) => true,
        Verdict::Kept => false,
        Verdict::Skipped(reason) => panic!("{name} was skipped: {reason}"),
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_flaw_every_promise_is_kept() {
    let harness = FlawedHarness::new(Flaw::None);
    let mut skipped = Vec::new();
    for promise in PROMISES {
        match promise.verify(&harness).await {
            Verdict::Kept => {}
            Verdict::Skipped(_) => skipped.push(promise.name),
            Verdict::Failed(failure) => panic!("{}: {failure}", promise.name),
        }
    }
    assert_eq!(skipped, ["survives_cuts", "snapshot_survives_cuts"]);
}

macro_rules! flaws {
    ($($test:ident $flaw:ident: $($promise:ident)*;)*) => {
        $(#[tokio::test(start_paused = true)]
        async fn $test() {
            $(assert!(breaks(Flaw::$flaw, stringify!($promise)).await, stringify!($promise));)*
        })*
    };
}

flaws! {
    dropped_events_are_found DropsEvents: order each_once acknowledged_is_readable race_free_attach isolation;
    repeated_events_are_found RepeatsEvents: order each_once race_free_attach snapshot_is_a_unit;
    swapped_events_are_found SwapsEvents: order each_once;
    a_missing_first_word_is_found NoFirstWord: first_word order provable;
    hidden_gaps_are_found HidesGaps: gap_is_told overflow_skips unknown_cursor_is_reset isolation;
    a_missing_chain_is_found NoPrev: provable;
    early_places_are_found PlaceAhead: order each_once race_free_attach;
    a_resume_from_the_newest_is_found ForgetsPlace: each_once first_word gap_is_told conflation;
    a_torn_snapshot_is_found TearsSnapshots: snapshot_is_a_unit;
    unthinned_events_are_found NeverConflates: conflation;
    unlimited_credit_is_found IgnoresCredit: credit;
    a_consumer_that_is_never_closed_is_found NeverCloses: overflow_closes;
    a_consumer_that_never_skips_is_found NeverSkips: overflow_skips;
    forgotten_ids_are_found ForgetsIds: idempotent;
    acknowledged_but_lost_is_found LosesPublishes: acknowledged_is_readable each_once;
    torn_batches_are_found TearsBatches: batch_is_atomic;
    a_hole_while_attaching_is_found AttachesLate: race_free_attach;
    a_silent_place_is_found NoHeartbeat: heartbeat;
}
