//! Over TLS, by ALPN.

use std::process::Command;

use pushpull_broker::Broker;
use pushpull_core::{Backoff, Delivery, Link, Message, ProducerExt, PushExt, Subscribe};
use pushpull_grpc_stream::GrpcClient;
use pushpull_http::{Gate, Listener, TlsConfig};
use pushpull_testkit::require_or_skip;

use crate::support::{Node, soon};

/// A certificate for this machine, and its key.
fn certificate() -> Option<(Vec<u8>, Vec<u8>)> {
    let folder = std::env::temp_dir().join(format!("pushpull-grpc-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '))
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output();
    let read = made.ok().filter(|output| output.status.success());
    let pair = read.map(|_| (std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap()));
    std::fs::remove_dir_all(folder).unwrap();
    if pair.is_none() {
        require_or_skip(&["openssl"], "there is no openssl");
    }
    pair
}

#[tokio::test]
async fn it_speaks_tls_to_whom_it_trusts() {
    let Some((certificate, key)) = certificate() else { return };
    let tls = TlsConfig::from_pem(&certificate, &key).unwrap();
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().with_tls(tls);
    let node = Node::over(listener, &Broker::memory(), Gate::open());
    let client = GrpcClient::new(&format!("grpcs://{}", node.address)).unwrap();
    let trusting = client.clone().with_authorities(&certificate).unwrap();
    let mut consumer = trusting.consume(Subscribe::to("a").unwrap()).await.unwrap();
    let published = trusting.publish_one(&"a".parse().unwrap(), Message::text("x")).await.unwrap();
    let mut next = async || soon(pushpull_core::ConsumerExt::next(&mut consumer)).await.unwrap().unwrap();
    let event = loop {
        if let Delivery::Event(event) = next().await {
            break event;
        }
    };
    assert_eq!(event.cursor(), published);
    let mut distrusting =
        client.with_backoff(Backoff::default()).consume(Subscribe::to("a").unwrap()).await.unwrap();
    let told = soon(pushpull_core::ConsumerExt::next(&mut distrusting)).await.unwrap().unwrap();
    assert!(matches!(told, Delivery::Link(Link::Reconnecting { cause: Some(_), .. })), "{told:?}");
}
