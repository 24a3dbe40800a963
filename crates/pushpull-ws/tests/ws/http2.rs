//! Extended CONNECT over HTTP/2 (RFC 8441).

use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http2::SendRequest, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pushpull_broker::Broker;
use pushpull_http::Gate;
use tokio::net::TcpStream;

use crate::peer::{Peer, Server, publish, within};

type Client = SendRequest<Empty<bytes::Bytes>>;

async fn client(server: &Server) -> Client {
    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn connect(
    client: &mut Client,
    protocol: &'static str,
    headers: &[(&str, &str)],
) -> Response<Incoming> {
    let mut request = Request::connect("http://h/ws?topic=a").extension(Protocol::from_static(protocol));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    // The server's settings say whether it takes this; hyper waits for them only if it has to.
    within(client.ready()).await.unwrap();
    within(client.send_request(request.body(Empty::new()).unwrap())).await.unwrap()
}

#[tokio::test]
async fn several_websockets_share_a_connection() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut client = client(&server).await;
    let version = ("sec-websocket-version", "13");
    let first = connect(&mut client, "websocket", &[version]).await;
    assert_eq!(first.status(), StatusCode::OK);
    for absent in ["sec-websocket-accept", "upgrade", "connection", "sec-websocket-protocol"] {
        assert!(!first.headers().contains_key(absent), "{absent}");
    }
    let protocol = ("sec-websocket-protocol", "pushpull.v1.json");
    let second = connect(&mut client, "websocket", &[version, protocol]).await;
    assert_eq!(second.headers()["sec-websocket-protocol"], "pushpull.v1.json");
    let mut raw = Peer::over(TokioIo::new(hyper::upgrade::on(first).await.unwrap()));
    let mut json = Peer::over(TokioIo::new(hyper::upgrade::on(second).await.unwrap()));
    assert!(json.text().await.contains("heartbeat"));
    let texts: Vec<String> = (0..200).map(|n| format!("{n} {}", "x".repeat(n))).collect();
    let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
    publish(&broker, "a", &borrowed).await;
    for text in &texts {
        assert_eq!(raw.text().await, *text);
        assert_eq!(json.value().await["data"], **text);
    }
    raw.say("mine").await;
    assert_eq!((raw.text().await.as_str(), &json.value().await["data"]), ("mine", &"mine".into()));
    server.gate.drain().begin();
    assert_eq!(raw.closed().await.0, 1001);
    assert!(json.text().await.contains("goaway"));
    assert_eq!(json.closed().await.0, 1001);
    drop((raw, json, client));
    assert!(server.stop().await);
}

#[tokio::test]
async fn what_is_no_websocket_is_refused() {
    let broker = Broker::memory();
    let server = Server::start(&broker, Gate::open()).await;
    let mut client = client(&server).await;
    let version = ("sec-websocket-version", "13");
    for (protocol, headers, status) in [
        ("connect-udp", &[version][..], 501),
        ("websocket", &[], 426),
        ("websocket", &[("sec-websocket-version", "8")], 426),
        ("websocket", &[version, ("sec-websocket-protocol", "chat")], 400),
    ] {
        let answer = connect(&mut client, protocol, headers).await;
        assert_eq!(answer.status(), status, "{protocol} {headers:?}");
    }
    let get = Request::get("http://h/ws?topic=a").body(Empty::new()).unwrap();
    assert_eq!(within(client.send_request(get)).await.unwrap().status(), 400);
    let origin = ("origin", "http://evil.example");
    let answer = connect(&mut client, "websocket", &[version, origin]).await;
    assert_eq!(answer.status(), StatusCode::OK, "a browser is told by a close code");
    let mut peer = Peer::over(TokioIo::new(hyper::upgrade::on(answer).await.unwrap()));
    assert_eq!(peer.closed().await, (4403, "forbidden".to_owned()));
}
