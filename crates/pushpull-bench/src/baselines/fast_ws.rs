//! fastwebsockets in axum, with its defaults: a text frame an event, written by itself.
//!
//! The bytes of a message are shared; their UTF-8 is not checked. What a client says is read, so that pings are
//! answered, and dropped; a read that is given up for a message goes on where it was.

use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use fastwebsockets::{
    Frame, OpCode, Payload, WebSocketError,
    upgrade::{IncomingUpgrade, UpgradeFut},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::topics::{Asked, Topics};

pub(crate) fn app() -> Router {
    let app = Router::new().route("/topics/{topic}", post(publish)).route("/ws", get(subscribe));
    app.with_state(Topics::<Bytes>::new())
}

async fn publish(State(topics): State<Topics<Bytes>>, Path(topic): Path<String>, body: Bytes) -> StatusCode {
    topics.publish(&topic, body);
    StatusCode::CREATED
}

async fn subscribe(
    State(topics): State<Topics<Bytes>>,
    Query(asked): Query<Asked>,
    upgrade: IncomingUpgrade,
) -> Response {
    let Ok((response, socket)) = upgrade.upgrade() else { return StatusCode::BAD_REQUEST.into_response() };
    let receiver = topics.subscribe(asked.topic);
    tokio::spawn(tell(socket, receiver));
    response.into_response()
}

async fn tell(socket: UpgradeFut, mut receiver: Receiver<Bytes>) -> Result<(), WebSocketError> {
    let mut socket = socket.await?;
    loop {
        tokio::select! {
            message = receiver.recv() => match message {
                Ok(message) => socket.write_frame(Frame::text(Payload::Borrowed(&message))).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            said = socket.read_frame() => if said?.opcode == OpCode::Close { return Ok(()) },
        }
    }
}
