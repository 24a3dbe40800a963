use std::{mem::size_of_val, sync::Arc, task::Context};

use tokio::net::TcpListener;

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

async fn socket() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_connection_is_small() {
    let shared = Arc::new(Shared::new(Boxed, ListenerConfig::default(), Gate::open().drain().clone()));
    let stream = socket().await;
    let peer = stream.local_addr().unwrap();
    let connection = size_of_val(&Connection::new(stream, peer, Place::take(&shared).unwrap()));
    assert!(connection <= 256, "an idle connection has a future of {connection} bytes");
}
