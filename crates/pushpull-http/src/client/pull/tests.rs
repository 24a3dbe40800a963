use super::*;

fn pull(endpoint: fn(HttpClient) -> HttpPull) -> HttpPull {
    endpoint(HttpClient::new("http://127.0.0.1:1".parse().unwrap()).unwrap())
}

fn asked() -> Fetch {
    Fetch::like(&Subscribe::to("a").unwrap()).with_wait(Duration::from_secs(30))
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_before_its_contexts_deadline() {
    let cx = |seconds| Context::default().with_deadline(Instant::now() + Duration::from_secs(seconds));
    for (pull, cx, query, patience) in [
        (pull(HttpPull::long_polling), Context::default(), "/longpoll?topic=a&limit=100&wait=30", 40),
        (pull(HttpPull::long_polling), cx(90), "/longpoll?topic=a&limit=100&wait=30", 90),
        (pull(HttpPull::long_polling), cx(20), "/longpoll?topic=a&limit=100&wait=19", 20),
        (pull(HttpPull::long_polling), cx(1), "/longpoll?topic=a&limit=100&wait=0", 1),
        (pull(HttpPull::polling), cx(5), "/poll?topic=a&limit=100", 5),
    ] {
        let (path, deadline) = pull.question(&cx, &asked());
        assert_eq!((path.as_str(), (deadline - Instant::now()).as_secs()), (query, patience));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_does_not_grant_the_wait_it_cannot_ask_for() {
    let (_, deadline) = pull(HttpPull::polling).question(&Context::default(), &asked());
    assert_eq!(deadline - Instant::now(), PATIENCE);
}

#[test]
fn a_304_keeps_the_place_or_tells_another() {
    let told = HeaderMap::from_iter([(PUSHPULL_CURSOR, HeaderValue::from_static("e-7"))]);
    let at = |text: &str| Some(text.parse::<Cursor>().unwrap());
    assert_eq!(nothing_new(&told, at("e-3")).unwrap().place, at("e-7"));
    assert_eq!(nothing_new(&HeaderMap::new(), at("e-3")).unwrap().place, at("e-3"));
    assert_eq!(nothing_new(&HeaderMap::new(), None).unwrap_err().kind(), ErrorKind::Protocol);
}
