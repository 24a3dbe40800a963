//! axum's WebSocket, which is tokio-tungstenite with its defaults: a text message an event, written and flushed by
//! itself.
//!
//! The UTF-8 of a message is checked once, when it is published, and its bytes are shared. What a client says is read,
//! so that pings are answered, and dropped.

use axum::{
    Router,
    extract::{
        Path, Query, State,
        ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::topics::{Asked, Topics};

pub(crate) fn app() -> Router {
    let app = Router::new().route("/topics/{topic}", post(publish)).route("/ws", get(subscribe));
    app.with_state(Topics::<Utf8Bytes>::new())
}

async fn publish(
    State(topics): State<Topics<Utf8Bytes>>,
    Path(topic): Path<String>,
    body: String,
) -> StatusCode {
    topics.publish(&topic, body.into());
    StatusCode::CREATED
}

async fn subscribe(
    State(topics): State<Topics<Utf8Bytes>>,
    Query(asked): Query<Asked>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let receiver = topics.subscribe(asked.topic);
    upgrade.on_upgrade(|socket| tell(socket, receiver))
}

async fn tell(mut socket: WebSocket, mut receiver: Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            message = receiver.recv() => match message {
                Ok(message) => if socket.send(Message::Text(message)).await.is_err() { return },
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            said = socket.recv() => if !matches!(said, Some(Ok(_))) { return },
        }
    }
}
