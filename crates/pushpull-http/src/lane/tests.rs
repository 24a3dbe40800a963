use std::{future::poll_fn, mem::size_of_val, pin::pin, sync::Arc, task::Context};

use tokio::{io::AsyncWriteExt, net::TcpListener, task::yield_now};

use super::*;
use crate::{
    Gate, ListenerConfig,
    listener::{Connection, Shared},
};

#[derive(Clone)]
struct Boxed;

impl Service<Incomings> for Boxed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Incomings) -> Self::Future {
        Box::pin(std::future::ready(Ok(Response::default())))
    }
}

fn shared() -> Arc<Shared<Boxed>> {
    Arc::new(Shared::new(Boxed, ListenerConfig::default(), Gate::open().drain().clone()))
}

/// A client, and the socket of its server.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_connection_is_small() {
    let (shared, (_client, stream)) = (shared(), pair().await);
    let peer = stream.local_addr().unwrap();
    let connection = size_of_val(&Connection::new(stream, peer, Place::take(&shared).unwrap()));
    assert!(connection <= 256, "an idle connection has a future of {connection} bytes");
}

#[tokio::test]
async fn a_connection_keeps_what_is_cut_and_nothing_else() {
    const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab";
    let (shared, (mut client, stream)) = (shared(), pair().await);
    let (peer, mut answers) = (client.local_addr().unwrap(), vec![0; 64 * 1024]);
    let mut lane = pin!(Lane::new(stream, peer, Place::take(&shared).unwrap()));
    let mut unanswered = 0;
    for sent in [REQUEST.len(), 3, REQUEST.len() - 1, 2 * REQUEST.len(), 0, 9 * REQUEST.len() + 7] {
        let bytes = REQUEST.repeat(10);
        client.write_all(&bytes[unanswered..unanswered + sent]).await.unwrap();
        unanswered += sent;
        let (mut answered, whole) = (0, unanswered / REQUEST.len());
        unanswered %= REQUEST.len();
        let kept = |lane: &Pin<&mut Lane<_, _>>| {
            let aside = lane.as_ref().project_ref().aside;
            aside.as_ref().and_then(|aside| aside.kept.as_ref()).map_or(0, |kept| kept.len())
        };
        while answered < whole || kept(&lane) != unanswered {
            let has_ended = poll_fn(|cx| Poll::Ready(lane.as_mut().poll(cx).is_ready())).await;
            assert!(!has_ended);
            let count = client.try_read(&mut answers).unwrap_or(0);
            answered += answers[..count].windows(4).filter(|four| *four == b"HTTP").count();
            yield_now().await;
        }
        assert_eq!(answered, whole);
        assert_eq!(lane.as_ref().project_ref().aside.is_some(), unanswered > 0);
    }
}
