use super::*;
use crate::{report::Faults, subscriber::Received, wire::Transport};

const LIVE: Option<Asks> = Some(Asks::Live(Transport::Ws));

fn run(rate: f64, foreign_cores: f64) -> Run {
    Run { figures: vec![("a/s", rate), ("b", f64::NAN)], foreign_cores, faults: Faults::default() }
}

fn contest(peers: &[String], rounds: usize) -> Contest<'_> {
    Contest { peers, rounds, quiet: 0.2, patience: Duration::ZERO, over: Over::Tcp }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().copied().map(str::to_owned).collect()
}

fn rates(contestants: &[Contestant]) -> Vec<(&'static str, Vec<f64>)> {
    let rates = |contestant: &Contestant| contestant.runs.iter().map(|run| run.figures[0].1).collect();
    contestants.iter().map(|contestant| (contestant.name, rates(contestant))).collect()
}

#[test]
fn hub_and_peers_run_in_turns() {
    let mut order = Vec::new();
    let peers = names(&["nchan", "axum-ws"]);
    let contestants = contest(&peers, 2).hold(LIVE, |peer| {
        order.push(peer.map_or("hub", Peer::name));
        Ok(run(order.len() as f64, 0.0))
    });
    assert_eq!(order, ["hub", "nchan", "axum-ws", "hub", "nchan", "axum-ws"]);
    let told = rates(&contestants.unwrap());
    assert_eq!(told, [(HUB, vec![1.0, 4.0]), ("nchan", vec![2.0, 5.0]), ("axum-ws", vec![3.0, 6.0])]);
}

#[test]
fn a_round_counts_as_a_whole() {
    // The load of the hub's and the peer's run in each round.
    let mut loads = [0.1, 0.9, 0.3, 0.1, 0.0, 0.0, 0.0, 0.8, 0.7, 0.0].into_iter();
    let mut number = 0.0;
    let peers = names(&["axum-ws"]);
    let contestants = contest(&peers, 2).hold(LIVE, |_| {
        number += 1.0;
        Ok(run(number, loads.next().unwrap()))
    });
    // Five rounds, twice as many and one; of them the second and the third.
    assert_eq!(number, 10.0);
    assert_eq!(rates(&contestants.unwrap()), [(HUB, vec![3.0, 5.0]), ("axum-ws", vec![4.0, 6.0])]);
}

#[test]
fn a_peer_that_fails_is_left_out_of_all_rounds() {
    let mut number = 0.0;
    let peers = names(&["axum-ws", "fastwebsockets", "nchan"]);
    let contestants = contest(&peers, 2).hold(LIVE, |peer| {
        number += 1.0;
        match peer {
            Some(Peer::Fastwebsockets) if number > 4.0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(run(number, 0.0)),
        }
    });
    let told = rates(&contestants.unwrap());
    assert_eq!(told, [(HUB, vec![1.0, 5.0]), ("axum-ws", vec![2.0, 6.0]), ("nchan", vec![4.0, 8.0])]);
}

#[test]
fn without_hub_or_peers_there_is_no_comparison() {
    let fails = |peers: &[&str], asks, failing: Option<Peer>, is_hub: bool| {
        let peers = names(peers);
        let held = contest(&peers, 1).hold(asks, |peer| match peer {
            None if is_hub => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(peer) if Some(peer) == failing => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(run(1.0, 0.0)),
        });
        held.is_err()
    };
    assert!(!fails(&["nchan"], LIVE, None, false));
    assert!(!fails(&["all"], LIVE, Some(Peer::Nchan), false));
    assert!(fails(&["nchan"], LIVE, None, true));
    assert!(fails(&["nchan"], LIVE, Some(Peer::Nchan), false));
    assert!(fails(&["tonic"], LIVE, None, false), "it has no WebSocket");
    assert!(fails(&["nobody"], LIVE, None, false));
    assert!(fails(&["all"], None, None, false));
}

#[test]
fn all_are_rivals_and_the_rest_is_chosen_by_name() {
    let chosen = |peers: &[&str]| chosen(&names(peers), LIVE, Over::Tcp).unwrap().into_iter().map(Peer::name);
    let chosen = |peers: &[&str]| chosen(peers).collect::<Vec<_>>();
    assert_eq!(chosen(&["all"]), ["axum-ws", "fastwebsockets", "nchan"]);
    assert_eq!(chosen(&["mounted", "raw-writes"]), ["mounted", "raw-writes"]);
    assert_eq!(chosen(&["all", "mounted", "nchan"]), ["axum-ws", "fastwebsockets", "nchan", "mounted"]);
    assert_eq!(chosen(&["tonic"]), [""; 0]);
}

#[test]
fn who_speaks_no_tls_is_left_out() {
    let chosen = chosen(&names(&["all", "mounted", "raw-writes"]), LIVE, Over::Tls).unwrap();
    let chosen: Vec<&str> = chosen.into_iter().map(Peer::name).collect();
    assert_eq!(chosen, ["axum-ws", "fastwebsockets", "nchan", "mounted"]);
}

#[test]
fn a_fault_of_the_hub_is_an_error_and_one_of_a_peer_is_not() {
    let lost = Faults::of(&Received::default(), 1);
    let held = |faulty: Option<Peer>| {
        let peers = names(&["axum-ws"]);
        let run =
            |peer| Run { faults: if peer == faulty { lost } else { Faults::default() }, ..run(1.0, 0.0) };
        contest(&peers, 1).hold(LIVE, |peer| Ok(run(peer))).is_ok()
    };
    assert_eq!([held(None), held(Some(Peer::AxumWs))], [false, true]);
}

#[test]
fn nothing_runs_where_nobody_can_be_compared_with() {
    let mut number = 0;
    let peers = names(&["tonic"]);
    let held = contest(&peers, 1).hold(LIVE, |_| {
        number += 1;
        Ok(run(1.0, 0.0))
    });
    assert!(held.is_err());
    assert_eq!(number, 0);
}

fn compared() -> Vec<Contestant> {
    let lost = Faults::of(&Received::default(), 1);
    let peer = vec![run(100.0, 0.25), Run { faults: lost, ..run(300.0, 0.0) }, run(200.0, 0.5)];
    let hub = vec![run(500.0, 0.0), run(400.0, 0.0), run(900.0, 0.0)];
    vec![Contestant { name: HUB, runs: hub }, Contestant { name: "nchan", runs: peer }]
}

#[test]
fn ratios_are_of_medians() {
    let told = markdown("ws", &compared());
    let wanted = "\
| ws | pushpull | nchan | pushpull/nchan |
|---|--:|--:|--:|
| a/s | 500 | 200 | 2.50 |
| b | – | – | – |
| foreign cores | 0.00 | 0.25 | – |
| runs with faults | 0 of 3 | 1 of 3 |  |
";
    assert_eq!(told, wanted);
}

#[test]
fn columns_stand_below_each_other() {
    let told = lines("ws", &compared());
    let told: Vec<&str> = told.lines().take(2).collect();
    assert_eq!(
        told,
        [
            "ws                pushpull   nchan  pushpull/nchan",
            "a/s                    500     200            2.50"
        ]
    );
}

#[test]
fn json_has_every_run_and_the_ratios() {
    let told = json("ws", &compared());
    assert_eq!(told["ratios"], serde_json::json!({ "nchan": { "a/s": 2.5 } }));
    assert_eq!(told["contestants"][1]["name"], "nchan");
    assert_eq!(told["contestants"][1]["median"]["a/s"], 200.0);
    assert_eq!(told["contestants"][1]["runs"].as_array().unwrap().len(), 3);
}
