use super::*;
use proptest::prelude::*;
use pushpull_core::ErrorKind;

const ALL: [Endpoint; 8] = [
    Endpoint::WsRaw,
    Endpoint::WsSubprotocol,
    Endpoint::Sse,
    Endpoint::Longpoll,
    Endpoint::Poll,
    Endpoint::Publish,
    Endpoint::Latest,
    Endpoint::Webhooks,
];
const SUBSCRIBING: [Endpoint; 5] =
    [Endpoint::WsRaw, Endpoint::WsSubprotocol, Endpoint::Sse, Endpoint::Longpoll, Endpoint::Poll];

fn parse(raw: &str, endpoint: Endpoint) -> Query {
    Query::parse(Some(raw), endpoint).unwrap_or_else(|problem| panic!("{raw} at {endpoint:?}: {problem}"))
}

/// The parameter that the refusal of `raw` names.
fn refused(raw: &str, endpoint: Endpoint) -> String {
    let Err(problem) = Query::parse(Some(raw), endpoint) else { panic!("{raw} at {endpoint:?} was taken") };
    assert_eq!(problem.kind(), ErrorKind::Invalid, "{raw}");
    problem.parameter().unwrap_or_default().to_owned()
}

fn texts(query: &Query) -> Vec<String> {
    query.topics.iter().flat_map(|topics| topics.iter().map(ToString::to_string)).collect()
}

fn cursor(text: &str) -> Cursor {
    text.parse().unwrap()
}

#[test]
fn defaults_are_those_of_the_contract() {
    for endpoint in SUBSCRIBING {
        let query = parse("topic=a", endpoint);
        let overflow = if endpoint == Endpoint::WsRaw { Overflow::Close } else { Overflow::Gap };
        assert_eq!((query.start, query.overflow), (StartAt::Start(Start::Latest), overflow));
        assert_eq!((query.limit, query.wait, query.conflate), (100, None, Conflate::Off));
        assert_eq!((query.rate, query.window, query.batch), (None, None, None));
        assert_eq!((query.keepalive, query.access_token.is_none()), (KeepAlive::Place, true));
    }
    assert_eq!(parse("topic=a", Endpoint::Longpoll).fetch(None).unwrap().wait, Duration::from_secs(25));
    assert_eq!(parse("topic=a", Endpoint::Poll).fetch(None).unwrap().wait, Duration::ZERO);
    assert_eq!(parse("topic=a", Endpoint::Poll).fetch(None).unwrap().limit, 100);
}

#[test]
fn each_parameter_belongs_where_the_contract_says() {
    use Endpoint::*;
    let places: [(&str, &[Endpoint]); 15] = [
        ("after=e-1", &SUBSCRIBING),
        ("lastEventId=e-1", &SUBSCRIBING),
        ("start=earliest", &SUBSCRIBING),
        ("limit=5", &[Longpoll, Poll]),
        ("wait=5", &[Longpoll]),
        ("overflow=close", &SUBSCRIBING),
        ("overflow=gap", &[WsSubprotocol, Sse, Longpoll, Poll]),
        ("overflow=latest", &[WsSubprotocol, Sse]),
        ("conflate=key", &SUBSCRIBING),
        ("rate=5", &[WsRaw, WsSubprotocol, Sse]),
        ("window=5", &[WsSubprotocol]),
        ("format=json", &[WsRaw, Sse]),
        ("keepalive=comment", &[Sse]),
        ("access_token=t", &ALL),
        ("batch=ndjson", &[Publish]),
    ];
    for (pair, places) in places {
        let name = pair.split('=').next().unwrap();
        for endpoint in ALL {
            let raw =
                if SUBSCRIBING.contains(&endpoint) { format!("topic=a&{pair}") } else { pair.to_owned() };
            match Query::parse(Some(&raw), endpoint) {
                Ok(_) => assert!(places.contains(&endpoint), "{raw} at {endpoint:?}"),
                Err(problem) => {
                    assert_eq!(problem.parameter(), Some(name), "{raw} at {endpoint:?}");
                    assert!(!places.contains(&endpoint), "{raw} at {endpoint:?}: {problem}");
                }
            }
        }
    }
    for endpoint in [Publish, Latest] {
        assert_eq!(refused("topic=a", endpoint), "topic");
    }
}

#[test]
fn values_are_taken() {
    let sse = |raw: &str| parse(&format!("topic=a&{raw}"), Endpoint::Sse);
    let poll = |raw: &str| parse(&format!("topic=a&{raw}"), Endpoint::Longpoll);
    for start in [Start::Latest, Start::Earliest, Start::Last, Start::Snapshot] {
        assert_eq!(sse(&format!("start={}", start.as_str())).start, StartAt::Start(start));
    }
    assert_eq!(sse("after=6qz3k1-1042").start, StartAt::After(cursor("6qz3k1-1042")));
    assert_eq!(sse("after=%36qz3k1%2D1042").start, StartAt::After(cursor("6qz3k1-1042")));
    assert_eq!(sse("overflow=latest").overflow, Overflow::Latest);
    assert_eq!(sse("conflate=key").conflate, Conflate::Key);
    for (text, rate) in
        [("0.1", 0.1), ("0.10", 0.1), ("1", 1.0), ("2.5", 2.5), ("1000", 1000.0), ("1000.0", 1000.0)]
    {
        assert_eq!(sse(&format!("rate={text}")).rate, Rate::per_second(rate), "{text}");
    }
    for text in ["1", "1000"] {
        assert_eq!(poll(&format!("limit={text}")).fetch(None).unwrap().limit.to_string(), text);
    }
    for text in ["0", "1", "60"] {
        assert_eq!(poll(&format!("wait={text}")).fetch(None).unwrap().wait.as_secs().to_string(), text);
    }
    for (text, window) in [("1", 1), ("4294967295", u32::MAX)] {
        let query = parse(&format!("window={text}"), Endpoint::WsSubprotocol);
        assert_eq!(query.window, NonZeroU32::new(window));
    }
    assert_eq!(sse("keepalive=comment").keepalive, KeepAlive::Comment);
    assert_eq!(sse("keepalive=place").keepalive, KeepAlive::Place);
    assert_eq!(sse("access_token=a+b/c%3D%3D").access_token.unwrap().as_str(), "a+b/c==");
    assert_eq!(parse("batch=ndjson", Endpoint::Publish).batch, Some(BatchFormat::Ndjson));
}

#[test]
fn bad_values_name_their_parameter() {
    for (endpoint, raws) in [
        (
            Endpoint::Sse,
            &[
                "after",
                "after=",
                "after=1042",
                "after=E-1",
                "after=e-01",
                "after=e-99999999999999999999",
                "after=e-1%20",
                "after=e-1+",
                "lastEventId=x",
                "start=",
                "start=Latest",
                "start=newest",
                "overflow=",
                "overflow=drop",
                "conflate",
                "conflate=off",
                "conflate=keys",
                "rate=0",
                "rate=0.09",
                "rate=1000.01",
                "rate=01",
                "rate=.5",
                "rate=1.",
                "rate=1e2",
                "rate=+1",
                "rate=-1",
                "rate=NaN",
                "rate=inf",
                "rate=1.5.5",
                "rate=1,5",
                "rate=",
                "format=",
                "format=RAW",
                "format=text",
                "keepalive=",
                "keepalive=off",
                "access_token=",
                "access_token=a%20b",
                "access_token=a%0Ab",
                "access_token=%FF",
                "access_token=%C3%A4",
                "after=%FF",
            ][..],
        ),
        (
            Endpoint::Longpoll,
            &[
                "limit=0",
                "limit=1001",
                "limit=01",
                "limit=-1",
                "limit=+1",
                "limit=1.0",
                "limit=1e2",
                "limit=",
                "limit=99999999999999999999",
                "limit=%D9%A1",
                "wait=61",
                "wait=-1",
                "wait=1.5",
                "wait=00",
                "wait=05",
                "wait=",
                "wait=1e1",
                "wait=0x1",
                "wait=%201",
            ],
        ),
        (
            Endpoint::WsSubprotocol,
            &["window=0", "window=01", "window=4294967296", "window=-1", "window=", "window=1.5"],
        ),
        (Endpoint::WsRaw, &["overflow=gap", "overflow=latest", "format=xml"]),
    ] {
        for raw in raws {
            let name = raw.split('=').next().unwrap();
            assert_eq!(refused(&format!("topic=a&{raw}"), endpoint), name, "{raw}");
        }
    }
    for raw in ["batch=", "batch=json", "batch"] {
        assert_eq!(refused(raw, Endpoint::Publish), "batch");
    }
    let long = format!("access_token={}", "x".repeat(Token::MAX + 1));
    assert_eq!(refused(&long, Endpoint::Latest), "access_token");
}

#[test]
fn names_are_known_or_begin_with_an_underscore() {
    for raw in ["_=1", "_", "_=%FF&_=2", "_cache=x&_cache=y", "%5Fx=1"] {
        assert_eq!(texts(&parse(&format!("topic=a&{raw}"), Endpoint::Sse)), ["a"], "{raw}");
    }
    for (raw, name) in [
        ("topics=a", "topics"),
        ("Topic=a", "Topic"),
        ("=a", ""),
        ("%74opix=1", "topix"),
        ("a%00b=1", "a\0b"),
    ] {
        assert_eq!(refused(&format!("topic=a&{raw}"), Endpoint::Sse), name, "{raw}");
    }
    let long = refused(&format!("topic=a&{}=1", "ä".repeat(500)), Endpoint::Sse);
    assert_eq!(long, "ä".repeat(64), "what is repeated has a bound");
}

#[test]
fn nothing_but_topic_comes_twice() {
    for (endpoint, pairs) in [
        (
            Endpoint::Sse,
            &[
                "after=e-1",
                "lastEventId=",
                "start=last",
                "overflow=gap",
                "conflate=key",
                "rate=1",
                "format=json",
                "keepalive=place",
                "access_token=t",
            ][..],
        ),
        (Endpoint::Longpoll, &["limit=1", "wait=1"]),
        (Endpoint::WsSubprotocol, &["window=1"]),
    ] {
        for pair in pairs {
            let name = pair.split('=').next().unwrap();
            assert_eq!(refused(&format!("{pair}&topic=a&{pair}"), endpoint), name);
        }
    }
    assert_eq!(texts(&parse("topic=b&topic=a&topic=b&topic=%62", Endpoint::Sse)), ["b", "a"]);
}

#[test]
fn topics_are_checked_and_counted() {
    for endpoint in SUBSCRIBING {
        for raw in [
            "topic=",
            "topic",
            "topic=a..b",
            "topic=a+b",
            "topic=a%2Fb",
            "topic=%FF",
            "topic=%3E.a",
            "topic=a&topic=.",
        ] {
            assert_eq!(refused(raw, endpoint), "topic", "{raw}");
        }
        if endpoint != Endpoint::WsSubprotocol {
            for raw in ["", "&&", "start=latest", "_=1"] {
                assert_eq!(refused(raw, endpoint), "topic", "{raw:?}");
            }
        }
    }
    assert_eq!(Query::parse(None, Endpoint::Sse).unwrap_err().parameter(), Some("topic"));
    let many = |count: usize| (0..count).map(|n| format!("topic=t{n}")).collect::<Vec<_>>().join("&");
    assert_eq!(texts(&parse(&many(64), Endpoint::Sse)).len(), 64);
    assert_eq!(texts(&parse(&format!("{}&{}", many(64), many(64)), Endpoint::Poll)).len(), 64);
    assert_eq!(refused(&many(65), Endpoint::Sse), "topic");
    assert_eq!(
        texts(&parse("topic=quotes.*&topic=sport.%3E&topic=%3e", Endpoint::Poll)),
        ["quotes.*", "sport.>", ">"]
    );
    assert_eq!(texts(&parse("topic=quotes.>", Endpoint::Poll)), ["quotes.>"], "a raw > is read too");
    for raw in ["topic=a&topic=b", "topic=a.*"] {
        assert_eq!(refused(raw, Endpoint::WsRaw), "topic");
    }
}

#[test]
fn topics_may_come_later_to_a_websocket_with_a_subprotocol() {
    let query = Query::parse(None, Endpoint::WsSubprotocol).unwrap();
    assert!(query.topics.is_none());
    assert_eq!(query.subscribe(None).unwrap_err().parameter(), Some("topic"));
    assert_eq!(query.format(), Format::Json);
}

#[test]
fn resume_points_have_their_order() {
    let (header, after, last, start) = (cursor("h-1"), cursor("a-1"), cursor("l-1"), Start::Earliest);
    for (raw, resume, expected) in [
        ("after=a-1&lastEventId=l-1", Some(header), StartAt::After(header)),
        ("start=earliest", Some(header), StartAt::After(header)),
        ("after=a-1&lastEventId=l-1", None, StartAt::After(after)),
        ("lastEventId=l-1&start=earliest", None, StartAt::After(last)),
        ("lastEventId=&start=earliest", None, StartAt::Start(start)),
        ("start=earliest", None, StartAt::Start(start)),
        ("", Some(Cursor::UNKNOWN), StartAt::After(Cursor::UNKNOWN)),
    ] {
        let raw = format!("topic=a&{raw}");
        assert_eq!(parse(&raw, Endpoint::Sse).subscribe(resume).unwrap().start, expected, "{raw}");
        assert_eq!(parse(&raw, Endpoint::Poll).fetch(resume).unwrap().start, expected, "{raw}");
    }
    for raw in ["after=a-1&start=latest", "start=earliest&after=a-1", "start=last&after=a-1&lastEventId=l-1"]
    {
        assert_eq!(refused(&format!("topic=a&{raw}"), Endpoint::Sse), "start", "{raw}");
    }
}

#[test]
fn the_format_follows_from_the_topics() {
    use Format::{Json, Raw};
    for (raw, endpoint, expected) in [
        ("topic=a", Endpoint::Sse, Raw),
        ("topic=a&topic=a", Endpoint::Sse, Raw),
        ("topic=a&topic=b", Endpoint::Sse, Json),
        ("topic=a.*", Endpoint::Sse, Json),
        ("topic=a&format=json", Endpoint::Sse, Json),
        ("topic=a&format=raw", Endpoint::Sse, Raw),
        ("topic=a&topic=b&format=raw", Endpoint::Sse, Raw),
        ("format=raw&topic=a.*", Endpoint::Sse, Raw),
        ("topic=a.*&format=json", Endpoint::Sse, Json),
        ("topic=a", Endpoint::WsRaw, Raw),
        ("topic=a&format=json", Endpoint::WsRaw, Json),
        ("topic=a", Endpoint::WsSubprotocol, Json),
        ("topic=a", Endpoint::Poll, Json),
        ("topic=a", Endpoint::Longpoll, Json),
    ] {
        assert_eq!(parse(raw, endpoint).format(), expected, "{raw}");
    }
}

#[test]
fn pairs_are_taken_as_they_are() {
    let pairs = [("topic", "a.>"), ("_x", "%"), ("window", "3"), ("start", "snapshot")];
    let query = Query::from_pairs(pairs, Endpoint::WsSubprotocol).unwrap();
    let asked = query.subscribe(None).unwrap();
    assert_eq!((texts(&query), asked.window.unwrap().get()), (vec!["a.>".to_owned()], 3));
    assert_eq!(asked.start, StartAt::Start(Start::Snapshot));
    let refused = Query::from_pairs([("topic", "%61")], Endpoint::Sse).unwrap_err();
    assert_eq!(refused.parameter(), Some("topic"));
}

#[test]
fn a_token_is_not_shown() {
    let query = parse("access_token=topsecret", Endpoint::Latest);
    assert!(!format!("{query:?}").contains("topsecret"));
    let bad = Query::parse(Some("access_token=top%20secret"), Endpoint::Latest).unwrap_err();
    assert!(!format!("{bad:?} {bad}").contains("secret"));
}

fn any_start() -> impl Strategy<Value = StartAt> {
    prop_oneof![
        Just(Start::Latest.into()),
        Just(Start::Earliest.into()),
        Just(Start::Last.into()),
        Just(Start::Snapshot.into()),
        any::<u64>().prop_map(|seq| StartAt::After(Cursor::new(pushpull_core::Epoch::from_random(seq), seq))),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_parses_back(
        topics in proptest::collection::hash_set("([a-zA-Z0-9_-]{1,8}|\\*)(\\.[a-z]{1,3}){0,2}(\\.>)?", 1..=8),
        start in any_start(),
        overflow in prop_oneof![Just(Overflow::Gap), Just(Overflow::Close), Just(Overflow::Latest)],
        conflate: bool,
        rate in proptest::option::of(0.1f64..=1000.0),
        window in proptest::option::of(1u32..),
        limit in 1usize..=1000,
        wait in 0u64..=60,
    ) {
        let topics = Topics::new(topics.iter().map(|topic| Pattern::new(topic).unwrap())).unwrap();
        let mut asked = Subscribe::new(topics).from(start).on_overflow(overflow);
        asked.conflate = if conflate { Conflate::Key } else { Conflate::Off };
        asked.rate = rate.and_then(Rate::per_second);
        asked.window = window.and_then(NonZeroU32::new);
        for endpoint in [Endpoint::WsSubprotocol, Endpoint::Sse] {
            let query = parse(&encode_query(&asked, endpoint), endpoint);
            let read = query.subscribe(None).unwrap();
            prop_assert_eq!((&read.topics, read.start, read.overflow), (&asked.topics, start, overflow));
            prop_assert_eq!((read.conflate, read.rate), (asked.conflate, asked.rate));
            prop_assert_eq!(query.format(), Format::Json);
            prop_assert_eq!(read.window, asked.window.filter(|_| endpoint == Endpoint::WsSubprotocol));
        }
        if overflow != Overflow::Latest {
            let fetch = Fetch::like(&asked).with_limit(limit).with_wait(Duration::from_secs(wait));
            for endpoint in [Endpoint::Longpoll, Endpoint::Poll] {
                let read = parse(&encode_fetch(&fetch, endpoint), endpoint).fetch(None).unwrap();
                prop_assert_eq!((&read.topics, read.start, read.limit), (&fetch.topics, start, limit));
                prop_assert_eq!((read.overflow, read.conflate), (overflow, fetch.conflate));
                let waits = if endpoint == Endpoint::Longpoll { fetch.wait } else { Duration::ZERO };
                prop_assert_eq!(read.wait, waits);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic_and_every_refusal_names_a_parameter(raw: String, at in 0..ALL.len()) {
        if let Err(problem) = Query::parse(Some(&raw), ALL[at]) {
            prop_assert!(problem.parameter().is_some());
        }
    }

    #[test]
    fn no_pairs_make_it_panic(
        raw in "((topic|after|start|limit|rate|wait|_x|%[0-9A-F]{0,2}|format)(=[ -~]{0,6})?[&=;+%]?){0,6}",
        at in 0..ALL.len(),
    ) {
        if let Err(problem) = Query::parse(Some(&raw), ALL[at]) {
            prop_assert!(problem.parameter().is_some());
        }
    }
}
