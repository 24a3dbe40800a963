//! Whose word a refusal is, and how often one is believed.

use super::*;

/// What somebody in between says.
fn doubtful(kind: ErrorKind) -> Problem {
    Problem::new(kind, "who knows").with_doubt()
}

#[tokio::test(start_paused = true)]
async fn what_may_be_said_by_somebody_in_between_is_a_way_that_does_not_open() {
    for problem in [
        doubtful(ErrorKind::Unauthenticated),
        doubtful(ErrorKind::Forbidden),
        doubtful(ErrorKind::Busy),
        doubtful(ErrorKind::Invalid).with_parameter("topic"),
        doubtful(ErrorKind::Unavailable).with_retry(seconds(60)),
    ] {
        let shown = format!("{problem:?}");
        let mood = Mood::Refuses(problem);
        let world = World::new(&[mood.clone(), mood, Mood::Works]);
        let mut told = world.begin(asks()).await;
        told.run(3).await;
        assert_eq!(
            (told.links(), world.dialled()),
            (vec!["connected by three".to_owned()], vec![1, 1, 1]),
            "{shown}"
        );
    }
    let nobody = Mood::Refuses(doubtful(ErrorKind::Forbidden));
    let world = World::new(&[nobody.clone(), nobody]);
    assert_eq!(world.start(asks()).await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(world.dialled(), [1, 1], "where every way says the same it is believed");
}

#[tokio::test(start_paused = true)]
async fn how_long_to_stay_away_is_for_the_source_to_say() {
    let away = doubtful(ErrorKind::Unavailable).with_retry(seconds(3600));
    let world = World::new(&[Mood::Refuses(away), Mood::Refuses(down())]);
    let mut told = world.begin(asks()).await;
    told.run(10).await;
    assert_eq!(told.links()[..2], ["reconnecting (down)", "connecting"]);
}

#[tokio::test(start_paused = true)]
async fn a_way_that_never_was_open_may_ask_for_patience_twice() {
    for problem in [Problem::new(ErrorKind::Busy, "full"), down().with_retry(seconds(2))] {
        let world = World::new(&[Mood::Refuses(problem.clone()), Mood::Works]);
        let mut told = world.begin(asks()).await;
        told.run(20).await;
        assert_eq!((world.dialled()[0], told.links().last().unwrap().as_str()), (3, "connected by two"));
        told.check();
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_full_on_every_way_is_asked_on_every_way() {
    let full = Mood::Refuses(Problem::new(ErrorKind::Busy, "full"));
    let world = World::new(&[full.clone(), full.clone(), full]);
    let mut told = world.begin(asks()).await;
    told.run(600).await;
    let dialled = world.dialled();
    assert!(dialled.iter().all(|count| (15..60).contains(count)), "{dialled:?}");
    assert!(dialled[0].abs_diff(dialled[2]) <= 3, "{dialled:?}");
    (0..3).for_each(|way| world.set(way, Mood::Works));
    told.run(120).await;
    assert_eq!(told.subscription.transport(), Some("one"));
    told.check();
}

#[tokio::test(start_paused = true)]
async fn a_live_connection_that_somebody_in_between_ended_is_lost() {
    for problem in [doubtful(ErrorKind::Forbidden), doubtful(ErrorKind::Unavailable).with_retry(seconds(1))] {
        let world = World::new(&[Mood::Dies(seconds(3), problem), Mood::Works]);
        let mut told = world.begin(asks()).await;
        told.run(20).await;
        let lost = ["connected by one", "reconnecting (who knows)", "connecting"];
        assert_eq!(told.links(), [&lost[..], &lost[..], &["connected by two"]].concat());
        told.check();
    }
}
