//! `pushpull.v1.json`.

use std::time::Duration;

use pushpull_broker::{Broker, Retention};
use pushpull_core::{Message, ProducerExt};
use pushpull_http::{Gate, Transport};
use serde_json::json;

use crate::peer::{BINARY, Peer, Server, publish};

fn text_event(broker: &Broker, seq: u64, prev: Option<u64>, topic: &str) -> (String, serde_json::Value) {
    let epoch = broker.place().epoch();
    let prev = prev.map(|prev| format!("{epoch}-{prev}"));
    (format!("{epoch}-{seq}"), json!({ "topic": topic, "prev": prev }))
}

async fn expect_event(peer: &mut Peer, broker: &Broker, seq: u64, prev: Option<u64>, topic: &str) {
    let event = peer.value().await;
    let (cursor, rest) = text_event(broker, seq, prev, topic);
    assert_eq!((event["cursor"].as_str(), &event["topic"]), (Some(&*cursor), &rest["topic"]), "{event}");
    assert_eq!(event["prev"], rest["prev"], "{event}");
}

#[tokio::test]
async fn a_query_opens_the_subscription_and_a_heartbeat_comes_first() {
    let broker = Broker::memory();
    publish(&broker, "a", &["1", "2"]).await;
    let epoch = broker.place().epoch();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::json(&server, "topic=a").await;
    assert_eq!(peer.text().await, format!(r#"{{"heartbeat":{{"cursor":"{epoch}-2","conflated":0}}}}"#));
    broker.publish_one(&"a".parse().unwrap(), Message::json(&[1]).unwrap().with_name("n")).await.unwrap();
    let text = peer.text().await;
    let head = format!(r#"{{"topic":"a","cursor":"{epoch}-3","prev":"{epoch}-2","time":"#);
    assert!(text.starts_with(&head), "{text}");
    assert!(text.ends_with(r#","event":"n","type":"application/json","data":[1]}"#), "{text}");
    let mut resumed = Peer::json(&server, &format!("topic=a&after={epoch}-1")).await;
    assert_eq!(resumed.value().await["heartbeat"]["cursor"], format!("{epoch}-1"));
    expect_event(&mut resumed, &broker, 2, Some(1), "a").await;
    expect_event(&mut resumed, &broker, 3, Some(2), "a").await;
}

#[tokio::test]
async fn topics_come_and_go_on_a_live_connection() {
    let broker = Broker::memory();
    let epoch = broker.place().epoch();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::json(&server, "").await;
    publish(&broker, "a", &["before"]).await;
    peer.say(r#"{"subscribe":{"id":1,"topics":["a"],"start":"earliest"}}"#).await;
    assert_eq!(peer.text().await, format!(r#"{{"ok":{{"id":1,"cursor":"{epoch}-0"}}}}"#));
    expect_event(&mut peer, &broker, 1, None, "a").await;
    publish(&broker, "b.x", &["missed"]).await;
    peer.say(r#"{"subscribe":{"id":"two","topics":["b.*","b.>","a"]}}"#).await;
    let ok = peer.value().await;
    assert_eq!(ok["ok"]["id"], "two");
    let place: u64 = ok["ok"]["cursor"].as_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap();
    assert!((1..=2).contains(&place));
    if place == 1 {
        expect_event(&mut peer, &broker, 2, None, "b.x").await;
    }
    publish(&broker, "b.x", &["once, though two entries match"]).await;
    expect_event(&mut peer, &broker, 3, Some(2), "b.x").await;
    peer.say(r#"[{"unsubscribe":{"id":3,"topics":["b.*"]}},{"unsubscribe":{"id":4,"topics":["b.>"]}}]"#)
        .await;
    assert_eq!(peer.value().await["ok"], json!({"id": 3, "cursor": format!("{epoch}-3")}));
    assert_eq!(peer.value().await["ok"], json!({"id": 4, "cursor": format!("{epoch}-3")}));
    publish(&broker, "b.x", &["not asked for"]).await;
    publish(&broker, "a", &["asked for"]).await;
    expect_event(&mut peer, &broker, 5, Some(1), "a").await;
    peer.say(r#"{"unsubscribe":{"id":5,"topics":["a"]}}"#).await;
    assert_eq!(peer.value().await["ok"]["id"], 5);
    publish(&broker, "a", &["nobody"]).await;
    peer.say(r#"{"subscribe":{"id":6,"topics":["a"],"start":"last"}}"#).await;
    assert_eq!(peer.text().await, r#"{"ok":{"id":6}}"#);
    let last = peer.value().await;
    assert_eq!((&last["cursor"], &last["snapshot"]), (&json!(format!("{epoch}-6")), &json!(true)));
    assert_eq!(peer.value().await["heartbeat"]["cursor"], format!("{epoch}-6"));
}

#[tokio::test]
async fn answers_and_errors_bear_the_id_of_what_they_answer() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::builder().with_max_payload(100).build().unwrap()).await;
    let epoch = broker.place().epoch();
    let mut peer = Peer::json(&server, "").await;
    let (bad, large) = ("bad-request", "too-large");
    let long = format!(r#"{{"publish":{{"id":20,"topic":"a","data":"{}"}}}}"#, "x".repeat(120));
    for (said, id, slug, parameter) in [
        (r#"{"subscribe":{"id":1,"topics":["a..b"]}}"#, json!(1), bad, "topic"),
        (r#"{"subscribe":{"id":2,"topics":[]}}"#, json!(2), bad, "topic"),
        (r#"{"subscribe":{"id":3}}"#, json!(3), bad, "topic"),
        (r#"{"subscribe":{"id":4,"topics":["a"],"after":"x"}}"#, json!(4), bad, "after"),
        (r#"{"subscribe":{"id":"5","topics":["a"],"start":"new"}}"#, json!("5"), bad, "start"),
        (r#"{"subscribe":{"id":6,"topics":["a"],"start":"last","after":"e-1"}}"#, json!(6), bad, "start"),
        (r#"{"subscribe":{"id":7,"topics":["a"],"limit":5}}"#, json!(7), bad, "limit"),
        (r#"{"subscribe":{"id":8,"topics":["a"],"format":"json"}}"#, json!(8), bad, "format"),
        (r#"{"subscribe":{"id":9,"topics":["a"],"window":0}}"#, json!(9), bad, "window"),
        (r#"{"subscribe":{"id":10,"topics":["a"],"rate":1e3}}"#, json!(10), bad, "rate"),
        (r#"{"subscribe":{"id":11,"topics":["a"],"access_token":"t"}}"#, json!(11), bad, "access_token"),
        (r#"{"unsubscribe":{"id":12,"topics":["*x"]}}"#, json!(12), bad, "topic"),
        (r#"{"credit":{"id":13,"events":5}}"#, json!(13), bad, "events"),
        (r#"{"credit":{"id":14,"events":0}}"#, json!(14), bad, "events"),
        (r#"{"publish":{"id":15,"topic":"a.*","data":1}}"#, json!(15), bad, "topic"),
        (r#"{"publish":{"id":16,"data":1}}"#, json!(16), bad, "topic"),
        (r#"{"publish":{"id":17,"topic":"a"}}"#, json!(17), bad, "data"),
        (r#"{"publish":{"id":18,"topic":"a","type":"text/plain","data":1}}"#, json!(18), bad, "data"),
        (r#"{"publish":{"id":19,"topic":"a","data":1,"event":"open"}}"#, json!(19), bad, "event"),
        (long.as_str(), json!(20), large, ""),
        (r#"{"publish":{"topic":"a","data64":"?"}}"#, json!(null), bad, "data"),
    ] {
        peer.say(said).await;
        let told = peer.value().await;
        let error = &told["error"];
        assert_eq!(error["id"], id, "{said} {told}");
        assert!(error["type"].as_str().unwrap().ends_with(&format!("/{slug}")), "{said} {told}");
        assert_eq!(error["parameter"].as_str().unwrap_or_default(), parameter, "{said} {told}");
        let outcome = said.contains("publish").then_some("not-applied");
        assert_eq!(error["outcome"].as_str(), outcome, "{said} {told}");
    }
    assert_eq!(broker.place().seq(), 0);
    for said in [
        r#"{"publish":{"id":1,"topic":"a","data":{ "x" : 1.0 }}}"#,
        r#"{"publish":{"id":2,"topic":"a","type":"text/plain","data":"h\u00e4"}}"#,
        r#"{"publish":{"id":3,"topic":"a","type":"application/octet-stream","data64":"/wA="}}"#,
        r#"{"publish":{"id":4,"topic":"a","key":"k","event":"e","idempotency":"i","data":null}}"#,
    ] {
        peer.say(said).await;
        let told = peer.value().await;
        assert_eq!(told["published"]["cursor"], format!("{epoch}-{}", told["published"]["id"]), "{told}");
    }
    peer.say(r#"{"publish":{"id":5,"topic":"a","key":"k","event":"e","idempotency":"i","data":null}}"#).await;
    assert_eq!(peer.value().await["published"], json!({"id": 5, "cursor": format!("{epoch}-4")}), "a repeat");
    peer.say(r#"{"publish":{"topic":"a","data":"without an id"}}"#).await;
    peer.say(r#"{"subscribe":{"id":6,"topics":["a"],"start":"earliest"}}"#).await;
    assert_eq!(peer.value().await["ok"]["id"], 6, "only errors are told without an id");
    let shown = [r#""data":{ "x" : 1.0 }}"#, r#""data":"hä"}"#, r#""data64":"/wA="}"#, r#""data":null}"#];
    for end in shown {
        let text = peer.text().await;
        assert!(text.ends_with(end), "{text}");
    }
    assert_eq!(server.gate.metrics().connections(Transport::Ws), 1);
}

#[tokio::test]
async fn later_subscribes_bear_topics_only() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut peer = Peer::json(&server, "topic=a").await;
    peer.value().await;
    for (said, parameter) in [
        (r#"{"subscribe":{"id":1,"topics":["b"],"after":"e-1"}}"#, "after"),
        (r#"{"subscribe":{"id":1,"topics":["b"],"start":"latest"}}"#, "start"),
        (r#"{"subscribe":{"id":1,"topics":["b"],"conflate":"key"}}"#, "conflate"),
    ] {
        peer.say(said).await;
        assert_eq!(peer.value().await["error"]["parameter"], parameter);
    }
    let many: Vec<String> = (0..64).map(|n| format!("\"t{n}\"")).collect();
    peer.say(&format!(r#"{{"subscribe":{{"id":2,"topics":[{}]}}}}"#, many.join(","))).await;
    assert_eq!(peer.value().await["error"]["parameter"], "topic", "64 and one are too many");
}

#[tokio::test]
async fn what_is_no_frame_closes_with_4400() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    for said in [
        "",
        "hello",
        "1",
        "null",
        "[1]",
        "{}",
        r#"{"hello":{}}"#,
        r#"{"subscribe":1}"#,
        r#"{"subscribe":{"topics":"a"}}"#,
        r#"{"subscribe":{"topics":["a"],"nonsense":1}}"#,
        r#"{"subscribe":{"topics":["a"]},"publish":{"topic":"a","data":1}}"#,
        r#"{"subscribe":{"id":[1],"topics":["a"]}}"#,
        r#"{"subscribe":{"topics":["a"],"topics":["b"]}}"#,
        r#"{"unsubscribe":{"topics":["a"],"start":"latest"}}"#,
        r#"{"publish":{"topic":"a","data":1,"more":2}}"#,
        r#"{"publish":{"topic":7,"data":1}}"#,
        r#"{"credit":{"events":[1]}}"#,
        r#"[{"publish":{"topic":"a","data":1}},{"nonsense":1}]"#,
        r#"{"publish":{"topic":"a","data":1}} x"#,
    ] {
        let mut peer = Peer::json(&server, "").await;
        peer.say(said).await;
        assert_eq!(peer.closed().await, (4400, "bad-request".to_owned()), "{said}");
    }
    let mut peer = Peer::json(&server, "").await;
    peer.say(&format!("[{}]", vec![r#"{"publish":{"topic":"a","data":1}}"#; 10_001].join(","))).await;
    assert_eq!(peer.closed().await, (1009, "too-large".to_owned()));
    let mut peer = Peer::json(&server, "").await;
    peer.send(BINARY, "{}").await;
    assert_eq!(peer.closed().await.0, 1003);
    assert_eq!(broker.place().seq(), 0, "of a bad array nothing counts");
}

#[tokio::test]
async fn a_window_holds_events_back_and_heartbeats_run_on() {
    let broker = Broker::memory();
    let epoch = broker.place().epoch();
    let gate = Gate::builder().with_keep_alive(Duration::from_millis(20)).build().unwrap();
    let server = Server::start(&broker, gate).await;
    let mut peer = Peer::json(&server, "topic=a&window=2").await;
    assert_eq!(peer.value().await["heartbeat"]["cursor"], format!("{epoch}-0"));
    publish(&broker, "a", &["1", "2", "3", "4", "5"]).await;
    let mut events = 0;
    let mut heartbeats = 0;
    while heartbeats < 3 {
        let told = peer.value().await;
        match told.get("heartbeat") {
            Some(heartbeat) if events == 2 => {
                assert_eq!(heartbeat["cursor"], format!("{epoch}-2"), "the place stays with the credit");
                heartbeats += 1;
            }
            Some(_) => {}
            None => events += 1,
        }
    }
    assert_eq!(events, 2);
    peer.say(r#"{"credit":{"id":9,"events":2}}"#).await;
    let (mut told, mut has_ok) = (Vec::new(), false);
    while told.len() < 2 {
        let value = peer.value().await;
        has_ok |= value["ok"] == json!({"id": 9, "cursor": format!("{epoch}-2")});
        told.extend(value.get("data").cloned());
    }
    assert_eq!((told, has_ok), (vec![json!("3"), json!("4")], true));
    peer.say(r#"{"credit":{"id":10,"events":18446744073709551616}}"#).await;
    peer.say(r#"{"credit":{"id":11,"events":18446744073709551615}}"#).await;
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let value = peer.value().await;
        answers.extend(value.get("error").or(value.get("ok")).map(|answer| answer.get("parameter").cloned()));
    }
    assert_eq!(answers, [Some(json!("events")), None], "a credit may be of any number of 64 bits");
}

#[tokio::test]
async fn a_snapshot_has_no_place_until_it_is_complete() {
    let broker = Broker::memory();
    let epoch = broker.place().epoch();
    for key in ["k1", "k2", "k1"] {
        broker.publish_one(&"a".parse().unwrap(), Message::text(key).with_key(key)).await.unwrap();
    }
    let gate = Gate::builder().with_keep_alive(Duration::from_millis(20)).build().unwrap();
    let server = Server::start(&broker, gate).await;
    let mut peer = Peer::json(&server, "topic=a&start=snapshot&window=1").await;
    let first = peer.value().await;
    assert_eq!((&first["snapshot"], &first["cursor"]), (&json!(true), &json!(format!("{epoch}-2"))));
    assert!(first.get("prev").is_none());
    assert_eq!(peer.text().await, r#"{"heartbeat":{"conflated":0}}"#, "in the middle there is no place");
    peer.say(r#"{"credit":{"id":1,"events":9}}"#).await;
    let mut told = peer.value().await;
    while told.get("heartbeat").is_some() {
        assert_eq!(told["heartbeat"].get("cursor"), None);
        told = peer.value().await;
    }
    assert_eq!(told, json!({"ok": {"id": 1}}));
    assert_eq!(peer.value().await["cursor"], format!("{epoch}-3"));
    assert_eq!(peer.value().await["heartbeat"]["cursor"], format!("{epoch}-3"));
    let mut cut = Peer::json(&server, "").await;
    cut.say(r#"{"subscribe":{"id":1,"topics":["a"],"start":"snapshot"}}"#).await;
    assert_eq!(cut.text().await, r#"{"ok":{"id":1}}"#);
    assert_eq!(cut.value().await["snapshot"], true);
}

#[tokio::test]
async fn gaps_are_told_and_overflow_close_ends_behind_them() {
    let broker = Broker::memory_with(Retention::default().with_messages(2));
    publish(&broker, "a", &["1", "2", "3", "4"]).await;
    let epoch = broker.place().epoch();
    let server = Server::start(&broker, Gate::open()).await;
    let gap = format!(
        r#"{{"gap":{{"after":"{epoch}-1","before":"{epoch}-3","cursor":"{epoch}-1","reason":"evicted"}}}}"#
    );
    let mut peer = Peer::json(&server, &format!("topic=a&after={epoch}-1")).await;
    assert_eq!(peer.value().await["heartbeat"]["cursor"], format!("{epoch}-1"));
    assert_eq!(peer.text().await, gap);
    expect_event(&mut peer, &broker, 3, Some(2), "a").await;
    let mut peer = Peer::json(&server, &format!("topic=a&after={epoch}-1&overflow=close")).await;
    peer.value().await;
    assert_eq!(peer.text().await, gap);
    assert_eq!(peer.closed().await, (4409, format!("lagged cursor={epoch}-1")));
    let mut unknown = Peer::json(&server, "topic=a&after=zzz-9").await;
    assert_eq!(unknown.value().await["gap"]["reason"], "reset");
}

#[tokio::test]
async fn conflation_is_counted() {
    let broker = Broker::memory();
    let topic = "a".parse().unwrap();
    for text in ["1", "2", "3"] {
        broker.publish_one(&topic, Message::text(text).with_key("k")).await.unwrap();
    }
    let gate = Gate::builder().with_keep_alive(Duration::from_millis(20)).build().unwrap();
    let server = Server::start(&broker, gate).await;
    let mut peer = Peer::json(&server, "topic=a&start=earliest&conflate=key").await;
    assert_eq!(peer.value().await["heartbeat"]["conflated"], 0);
    let survivor = peer.value().await;
    assert_eq!((&survivor["data"], survivor.get("prev")), (&json!("3"), None));
    assert_eq!(peer.value().await["heartbeat"]["conflated"], 2);
}
