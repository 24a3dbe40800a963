mod refusals;
mod world;

use std::num::NonZeroU32;

use tokio::time::{Instant, timeout};

use super::*;
use crate::{
    Backoff, Delivery, ErrorKind, Pattern, Polling, Problem, Reconnecting, Schedule, Start, StartAt,
    Subscribe, Topics,
    testing::{FakePull, Step, at, batch, down, event, event_of, refused, take},
};
use world::{Mood, World, seconds};

fn asks() -> Subscribe {
    Subscribe::to("a").unwrap()
}

fn unsupported() -> Problem {
    Problem::new(ErrorKind::Unsupported, "not here")
}

fn bare(kind: ErrorKind) -> Mood {
    Mood::Refuses(Problem::new(kind, "refused"))
}

#[tokio::test(start_paused = true)]
async fn the_best_that_opens_is_taken_and_named() {
    let mut told = World::new(&[Mood::Works, Mood::Works]).begin(asks()).await;
    told.run(3).await;
    assert_eq!(told.links(), ["connected by one"]);
    for mood in [
        bare(ErrorKind::NotFound),
        bare(ErrorKind::Unsupported),
        bare(ErrorKind::Unavailable),
        bare(ErrorKind::Protocol),
        bare(ErrorKind::Invalid),
        Mood::Mute,
        Mood::Holds,
        Mood::EndsUnheard,
    ] {
        let shown = format!("{mood:?}");
        let begun = Instant::now();
        let mut told = World::new(&[mood.clone(), mood, Mood::Works]).begin(asks()).await;
        assert!(begun.elapsed() <= seconds(20), "{shown}");
        told.run(3).await;
        assert_eq!(told.links(), ["connected by three"], "{shown}");
        told.check();
    }
}

#[tokio::test(start_paused = true)]
async fn what_did_not_open_is_told_with_its_cause_before_what_did() {
    let world = World::new(&[Mood::Refuses(unsupported()), Mood::Mute, Mood::Works]);
    let mut told = world.begin(asks()).await;
    let first: Vec<_> = take(&mut told.subscription, 3).await;
    assert_eq!(
        first,
        ["one passed over (not here)", "two passed over (no first word within the deadline)", "connected"]
    );
    told.run(3).await;
    assert_eq!(told.passed(), [""; 0], "once");
    // A step up passes nothing over, and a step down by dying twice is told as it always was.
    world.set(0, Mood::Dies(seconds(2), down()));
    world.set(1, Mood::Refuses(down()));
    told.run(60).await;
    assert_eq!(told.subscription.transport(), Some("three"));
    assert_eq!(told.passed(), ["two passed over (down)"]);
    told.check();
    // With every way down nothing is taken instead; what was in vain is told once one opens.
    (0..3).for_each(|way| world.set(way, Mood::Refuses(down())));
    world.cut(2);
    told.run(60).await;
    assert_eq!(told.passed().len(), 1);
    world.set(2, Mood::Works);
    told.run(40).await;
    assert_eq!(told.passed()[1..], ["one passed over (down)", "two passed over (down)"]);
    told.check();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_who_asks_or_of_what_for_is_final_on_every_way() {
    for problem in
        [Problem::new(ErrorKind::Unauthenticated, "who?"), refused(), Problem::invalid("topic", "no topic")]
    {
        let world = World::new(&[bare(ErrorKind::NotFound), Mood::Refuses(problem.clone()), Mood::Works]);
        let error = world.start(asks()).await.unwrap_err();
        assert_eq!(error.problem().to_string(), problem.to_string());
        assert_eq!(world.dialled(), [1, 1, 0]);
    }
    let nowhere = World::new(&[bare(ErrorKind::NotFound), Mood::Refuses(unsupported())]);
    assert_eq!(nowhere.start(asks()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let none = World::new(&[]).start(asks()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn two_connections_that_die_young_are_a_step_down() {
    let world = World::new(&[Mood::Dies(seconds(4), down()), Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.run(20).await;
    assert_eq!(
        told.links(),
        [
            "connected by one",
            "reconnecting (down)",
            "connecting",
            "connected by one",
            "reconnecting (down)",
            "connecting",
            "connected by two"
        ]
    );
    assert_eq!(world.dialled(), [2, 1]);
    told.check();
}

#[tokio::test(start_paused = true)]
async fn connections_that_held_or_ended_as_announced_do_not_count() {
    for mood in [
        Mood::Dies(seconds(11), down()),
        Mood::Dies(seconds(1), Problem::new(ErrorKind::Busy, "full")),
        Mood::Dies(seconds(1), down().with_retry(seconds(2))),
        Mood::Leaves(seconds(1)),
    ] {
        let shown = format!("{mood:?}");
        let world = World::new(&[mood, Mood::Works]);
        let mut told = world.begin(asks()).await;
        told.run(120).await;
        assert!(world.dialled()[0] > 8 && world.dialled()[1] == 0, "{shown}: {:?}", world.dialled());
        told.check();
    }
    let world = World::new(&[Mood::Works, Mood::Works]);
    let mut told = world.begin(asks()).await;
    world.set(0, Mood::Refuses(Problem::new(ErrorKind::Busy, "full")));
    world.cut(0);
    told.run(60).await;
    assert_eq!(world.dialled()[1], 0, "who is full is asked again");
}

#[tokio::test(start_paused = true)]
async fn one_found_silent_counts_up_to_what_it_brought_last() {
    let silent = Mood::FallsSilent(seconds(3), seconds(37));
    let world = World::new(&[silent, Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.run(100).await;
    assert_eq!(world.dialled()[1], 1);
    assert_eq!(told.subscription.transport(), Some("two"));
    told.check();
    let world = World::new(&[Mood::FallsSilent(seconds(12), seconds(37)), Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.run(300).await;
    assert_eq!(world.dialled()[1], 0);
    told.check();
}

#[tokio::test(start_paused = true)]
async fn with_all_ways_down_it_begins_again_with_the_best() {
    let world = World::new(&[Mood::Refuses(unsupported()), Mood::Works, Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.run(3).await;
    (0..3).for_each(|way| world.set(way, Mood::Refuses(down())));
    world.cut(1);
    told.run(300).await;
    let attempts = world.dialled()[2];
    assert!((15..60).contains(&attempts), "no busy loop: {attempts}");
    assert_eq!(
        world.dialled()[0],
        attempts,
        "once at first, then at every attempt but that by which two was lost"
    );
    let links = told.links();
    assert_eq!(links[..3], ["connected by two", "reconnecting (cut)", "connecting"]);
    assert!(links[3..].iter().all(|link| ["reconnecting (down)", "connecting"].contains(&&**link)));
    (0..3).for_each(|way| world.set(way, Mood::Works));
    told.run(25).await;
    let connected = told.links().into_iter().filter(|link| link.starts_with("connected"));
    assert_eq!(connected.collect::<Vec<_>>(), ["connected by two", "connected by one"]);
    told.check();
}

#[tokio::test(start_paused = true)]
async fn of_all_failures_the_one_with_most_hope_is_told() {
    let world = World::new(&[bare(ErrorKind::Protocol), Mood::Refuses(down()), bare(ErrorKind::NotFound)]);
    let mut told = world.begin(asks()).await;
    told.run(1).await;
    assert_eq!(told.links()[0], "reconnecting (down)");
}

#[tokio::test(start_paused = true)]
async fn when_a_better_way_heals_it_goes_up_without_a_word_lost() {
    let world = World::new(&[Mood::Refuses(down()), Mood::Mute, Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.run(100).await;
    assert_eq!(told.links(), ["connected by three"], "a probe that fails is not told");
    let probes = world.dialled()[0] - 1;
    assert!((2..=4).contains(&probes), "{probes}");
    world.set(1, Mood::Works);
    told.run(50).await;
    assert_eq!(told.links(), ["connected by three", "connecting", "connected by two"]);
    world.set(0, Mood::Works);
    told.run(40).await;
    assert_eq!(told.links().last().unwrap(), "connected by one");
    let dialled = world.dialled();
    told.run(600).await;
    assert_eq!(world.dialled(), dialled, "at the top nothing is probed");
    assert_eq!(world.open(), [1, 0, 0]);
    told.check();
}

#[tokio::test(start_paused = true)]
async fn probes_come_a_jittered_interval_apart_and_ask_for_little() {
    let world = World::new(&[Mood::Refuses(down()), Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.run(900).await;
    let asked = world.asked(0);
    let pauses: Vec<_> = asked.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_millis()).collect();
    assert!(pauses.iter().all(|pause| (22_500..=37_510).contains(pause)), "{pauses:?}");
    assert!(pauses.iter().max().unwrap() - pauses.iter().min().unwrap() > 2_000, "{pauses:?}");
    for (_, request) in &asked[1..] {
        assert_eq!(request.window, NonZeroU32::new(1));
        assert!(matches!(request.start, StartAt::After(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn each_step_down_begins_the_wait_for_a_probe_anew() {
    let world = World::new(&[Mood::Refuses(down()), Mood::Works, Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.run(20).await;
    world.set(1, Mood::Refuses(down()));
    world.cut(1);
    told.run(20).await;
    assert_eq!((told.subscription.transport(), world.dialled()[0]), (Some("three"), 1));
    told.run(20).await;
    assert_eq!(world.dialled()[0], 2);
    told.check();
}

#[tokio::test(start_paused = true)]
async fn steps_up_that_are_taken_back_grow_rare() {
    let world = World::new(&[Mood::Dies(seconds(2), down()), Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.run(1800).await;
    let ups = told.links().iter().filter(|link| *link == "connected by one").count() / 2 - 1;
    assert!((6..=10).contains(&ups), "30, 60, 120, 240 s and then every 300: {ups}");
    told.check();
    world.set(0, Mood::Works);
    told.run(400).await;
    assert_eq!(told.links().last().unwrap(), "connected by one");
    told.run(60).await;
    world.set(0, Mood::Refuses(down()));
    world.cut(0);
    told.run(30).await;
    world.set(0, Mood::Works);
    told.run(38).await;
    assert_eq!(told.subscription.transport(), Some("one"), "it held, so the next probe comes soon again");
    told.check();
}

#[tokio::test(start_paused = true)]
async fn credit_goes_along_over_every_step() {
    let window = |events| NonZeroU32::new(events).unwrap();
    let world = World::new(&[Mood::Dies(seconds(3), down()), Mood::Works]);
    let mut told = world.begin(asks().from(at(0)).with_window(window(4))).await;
    told.run(15).await;
    world.set(0, Mood::Refuses(down()));
    assert_eq!((told.events(), told.subscription.credit()), (vec![1, 2, 3, 4], Some(0)));
    assert_eq!(told.subscription.transport(), Some("two"), "though nothing was taken by it");
    told.subscription.grant(5);
    told.run(60).await;
    assert_eq!(told.events(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    world.set(0, Mood::Works);
    told.run(200).await;
    assert_eq!((told.subscription.transport(), told.events().len()), (Some("one"), 9));
    told.subscription.grant(2);
    told.run(1).await;
    assert_eq!(told.events().last(), Some(&11));
    told.check();
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_whole_and_probed_only_behind_it() {
    let world = World::new(&[Mood::Refuses(down()), Mood::Works]);
    world.take_for_a_snapshot(seconds(120));
    let mut told = world.begin(asks().from(Start::Snapshot)).await;
    world.set(0, Mood::Works);
    told.run(115).await;
    assert_eq!((told.subscription.place(), world.dialled()), (None, vec![1, 1]), "no place, no probe");
    told.run(60).await;
    assert_eq!(told.links(), ["connected by two", "connecting", "connected by one"]);
    assert!(matches!(world.asked(0).last().unwrap().1.start, StartAt::After(_)));
    told.check();
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_broke_is_asked_for_anew_by_the_next_way() {
    let world = World::new(&[Mood::Dies(seconds(1), down()), Mood::Works]);
    world.take_for_a_snapshot(seconds(5));
    let mut told = world.begin(asks().from(Start::Snapshot)).await;
    told.run(20).await;
    assert_eq!(told.subscription.transport(), Some("two"));
    let starts: Vec<_> = world.asked(1).iter().map(|(_, request)| request.start).collect();
    assert_eq!(starts, [StartAt::Start(Start::Snapshot)]);
    assert_eq!(told.snapshots(), 4, "two were cut off after their first event");
    told.check();
}

#[tokio::test(start_paused = true)]
async fn topics_may_change_at_any_time() {
    let target = || Topics::from(Pattern::new("b").unwrap());
    let world = World::new(&[Mood::Refuses(down()), Mood::Works]);
    let mut told = world.begin(asks()).await;
    told.subscription.retarget(target()).unwrap();
    told.run(5).await;
    assert_eq!(told.links(), ["connecting", "connected by two"]);
    world.set(0, Mood::Works);
    told.run(40).await;
    assert_eq!(told.subscription.transport(), Some("one"));
    assert_eq!(world.asked(0).last().unwrap().1.topics, target());
    told.check();
}

/// A way that is polled.
struct Asked(Arc<FakePull>);

impl Dial for Asked {
    fn dial(&self, request: Subscribe) -> Dialing {
        Polling::dial(self.0.clone(), request, Schedule::default())
    }

    fn transport(&self) -> Option<&'static str> {
        Some("asked")
    }
}

#[tokio::test(start_paused = true)]
async fn topics_change_on_the_connection_where_it_can_and_nothing_waits_for_the_old_ones() {
    let target = || Topics::from(Pattern::new("b").unwrap());
    let other = |seq| Delivery::Event(event_of("b", seq));
    let begin = async |start: StartAt, first| {
        let second = batch([other(6), other(8)], 8);
        let pull = FakePull::new([Step::Answer(first), Step::Answer(second)]);
        let fallback = Fallback::new(vec![Arc::new(Asked(pull.clone()))]);
        let subscription = Reconnecting::start(fallback, asks().from(start), Backoff::default()).await;
        (subscription.unwrap(), pull)
    };
    let (mut told, pull) = begin(Start::Latest.into(), batch([], 5)).await;
    told.retarget(target()).unwrap();
    assert_eq!(
        take(&mut told, 4).await,
        ["connected", "place 5", "b 6", "b 8"],
        "what was the start stays it"
    );
    assert_eq!(pull.asked()[1].start, at(5).into());
    let (mut told, pull) = begin(at(5).into(), batch([event(7)], 7)).await;
    told.retarget(target()).unwrap();
    assert_eq!(take(&mut told, 5).await, ["connecting", "connected", "place 5", "b 6", "b 8"]);
    assert_eq!(pull.asked()[1].start, at(5).into());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_wait_or_the_subscription_leaves_nothing_behind() {
    let world = World::new(&[Mood::Refuses(down()), Mood::Works]);
    let mut told = world.begin(asks()).await;
    world.set(0, Mood::Mute);
    let begun = Instant::now();
    while begun.elapsed() < seconds(38) {
        told.run_for(Duration::from_millis(7)).await;
        if world.open() == [1, 1] {
            break;
        }
    }
    assert_eq!(world.open(), [1, 1], "a probe waits for its first word");
    told.check();
    drop(told);
    assert_eq!(world.open(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_one_that_only_says_goodbye_is_no_success() {
    let world = World::new(&[Mood::Refuses(down()), Mood::Works]);
    let mut told = world.begin(asks()).await;
    world.set(0, Mood::Declines);
    told.run(120).await;
    assert_eq!(told.links(), ["connected by two"]);
    assert!(world.dialled()[0] > 2);
}

#[tokio::test(start_paused = true)]
async fn the_first_event_waits_for_credit_and_has_its_place() {
    let world = World::new(&[Mood::Works]);
    let mut request = asks().from(at(3));
    request.window = NonZeroU32::new(1);
    sleep(seconds(5)).await;
    let mut feed = Fallback::new(world.ways()).dial(request).await.unwrap();
    let mut out = crate::Batch::default();
    let mut poll = async |events, out: &mut crate::Batch| {
        let bounds = crate::Bounds::new(events, 1000);
        let polled = std::future::poll_fn(|cx| feed.poll_batch(cx, bounds, out));
        let came = timeout(Duration::from_millis(1), polled).await.is_ok();
        (came, feed.place())
    };
    assert_eq!(poll(0, &mut out).await, (true, Some(at(3))));
    assert!(matches!(out.deliveries[..], [Delivery::Place(_)]));
    assert_eq!(poll(0, &mut out).await, (false, Some(at(3))));
    assert_eq!(poll(1, &mut out).await, (true, Some(at(4))));
}
