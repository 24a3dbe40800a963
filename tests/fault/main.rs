//! Consumers of every transport under load while everything between them and the source fails, and the proof that the judge
//! of it would find a consumer that is wrong. See `docs/faults.md`.

mod board;
mod consumer;
mod report;
mod run;
mod settings;
mod traffic;
mod way;
mod weather;

use std::time::Duration;

use pushpull_testkit::history::Violation;

use crate::{
    board::LADDER,
    consumer::Flaw,
    report::{Row, blames},
    run::{Plan, run},
    settings::Settings,
    way::Way,
};

/// Runs, prints what came of it, and holds it to what every run must show.
async fn hold(settings: Settings) {
    eprintln!("{settings}");
    let report = run(settings, Plan::Whole).await.unwrap_or_else(|failure| panic!("{settings}: {failure}"));
    eprintln!("{report}");
    assert_eq!(report.violations, [], "{settings}");
    for row in &report.rows {
        assert!(row.deliveries > 0 && was_hit(row, report.polled), "{row:?}");
        // What is kept for longer than any fault lasts is never lost; what is not is told.
        assert_eq!(row.gaps > 0, row.way == Way::Late, "{row:?}");
    }
    for pair in LADDER.windows(2) {
        for step in [(pair[0], pair[1]), (pair[1], pair[0])] {
            assert!(report.steps.get(&step).is_some_and(|count| *count > 0), "never: {step:?}");
        }
    }
}

fn was_hit(row: &Row, polled: usize) -> bool {
    match row.way {
        // Lost webhooks are no lost connection: polls bring what they would have.
        Way::Hybrid => polled > 0,
        // Whoever is away for most of the time may be lucky.
        Way::Late => row.returns > 0,
        _ => row.reconnects > 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_comes_once_whatever_fails() {
    hold(Settings::short()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes, and a release build: see docs/faults.md"]
async fn every_event_comes_once_whatever_fails_for_two_minutes() {
    hold(Settings::full()).await;
}

/// What is wrong with whom.
const FLAWS: &[(Way, Flaw)] = &[
    (Way::Ws, Flaw::Loses),
    (Way::Sse, Flaw::Repeats),
    (Way::Longpoll, Flaw::StopsEarly),
    (Way::Late, Flaw::ResumesBehind),
];

fn shows(flaw: Flaw, violation: &Violation) -> bool {
    match flaw {
        Flaw::Loses | Flaw::ResumesBehind => matches!(violation, Violation::Missing { .. }),
        Flaw::Repeats => matches!(violation, Violation::Repeated { .. }),
        Flaw::StopsEarly => matches!(violation, Violation::Behind { .. }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_finds_the_consumers_that_are_wrong_and_no_others() {
    let settings = Settings { spell: Duration::from_secs(3), consumers: 16, ..Settings::short() };
    let report = run(settings, Plan::Flawed(FLAWS)).await;
    let report = report.unwrap_or_else(|failure| panic!("{settings}: {failure}"));
    let mut left = report.violations.clone();
    for (way, flaw) in FLAWS {
        let name = format!("{} 0", way.name());
        assert!(
            left.iter().any(|one| blames(one, &name) && shows(*flaw, one)),
            "not found: {flaw:?}\n{report}"
        );
        left.retain(|violation| !blames(violation, &name));
    }
    assert_eq!(left, [], "{report}");
}
