//! axum's Server-Sent Events: a `data` line an event, no `id`, since nothing could be resumed.
//!
//! Each subscriber makes the event's text anew, as axum's [`Event`] does. There is no keep-alive.

use std::convert::Infallible;

use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::sse::{Event, Sse},
    routing::{get, post},
};
use futures_util::Stream;
use tokio_stream::{StreamExt as _, wrappers::BroadcastStream};

use crate::topics::{Asked, Topics};

/// A message: shared by all that are told of it.
type Text = std::sync::Arc<str>;

pub(crate) fn app() -> Router {
    let app = Router::new().route("/topics/{topic}", post(publish)).route("/sse", get(subscribe));
    app.with_state(Topics::<Text>::new())
}

async fn publish(State(topics): State<Topics<Text>>, Path(topic): Path<String>, body: String) -> StatusCode {
    topics.publish(&topic, body.into());
    StatusCode::CREATED
}

async fn subscribe(
    State(topics): State<Topics<Text>>,
    Query(asked): Query<Asked>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let messages = BroadcastStream::new(topics.subscribe(asked.topic));
    // An error says that messages were lost, of which a client without ids can make nothing.
    Sse::new(messages.filter_map(Result::ok).map(|text| Ok(Event::default().data(text))))
}
