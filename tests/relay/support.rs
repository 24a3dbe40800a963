//! Nodes on ports of their own, and every client half.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use pushpull::{Action, Authorizer, Backend, Gate, Paths, Service};
use pushpull_core::{
    Backoff, Context, ErrorKind, Fetching, Message, Problem, Producer, PublishError, Published, Pull, Push,
    Schedule, Subscribe, SubscribeError, Subscription, Topic,
};
use pushpull_grpc_stream::GrpcClient;
use pushpull_http::Listener;
use pushpull_http_poll::HttpPollClient;
use pushpull_longpoll::LongpollClient;
use pushpull_sse::SseClient;
use pushpull_ws::WsClient;
use tokio::task::AbortHandle;

/// The transports, each a server half and a client half.
pub(crate) const HALVES: [Half; 5] = [Half::Ws, Half::Sse, Half::Longpoll, Half::HttpPoll, Half::Grpc];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Ws,
    Sse,
    Longpoll,
    HttpPoll,
    Grpc,
}

/// A client half, whichever it is.
#[derive(Clone)]
pub(crate) struct Client {
    push: Arc<dyn Push>,
    pub(crate) pull: Arc<dyn Pull>,
    producer: Arc<dyn Producer>,
}

/// A server on a port of its own; gone when dropped.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    serving: AbortHandle,
}

/// Lets nobody see `secret` and below.
struct Discreet;

#[async_trait]
impl Authorizer for Discreet {
    async fn identify(&self, _: Option<&str>, cx: Context) -> Result<Context, Problem> {
        Ok(cx)
    }

    async fn authorize(&self, _: &Context, action: Action<'_>) -> Result<(), Problem> {
        let asked = match action {
            Action::Subscribe(pattern) => pattern.as_str(),
            Action::Publish(topic) => topic.as_str(),
            _ => return Ok(()),
        };
        match asked.starts_with("secret") {
            true => Err(Problem::new(ErrorKind::Forbidden, "it is a secret")),
            false => Ok(()),
        }
    }
}

impl Node {
    /// Serves `backend`, and lets nobody see what is secret if it is `discreet`.
    pub(crate) async fn serve(backend: impl Into<Backend>, discreet: bool) -> Self {
        let gate = Gate::builder().with_keep_alive(Duration::from_millis(50));
        let gate = if discreet { gate.with_authorizer(Discreet) } else { gate }.build().unwrap();
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let (address, drain) = (listener.local_addr().unwrap(), gate.drain().clone());
        let service = Service::new(backend, gate, Paths::default());
        let serving = tokio::spawn(async move {
            listener.serve(service, drain, std::future::pending(), Duration::ZERO).await;
        });
        Self { address, serving: serving.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(2), Duration::from_millis(4), Duration::from_millis(20))
}

const SILENCE: Duration = Duration::from_secs(5);

fn quick(mut schedule: Schedule) -> Schedule {
    schedule.backoff = backoff();
    schedule
}

impl Half {
    /// The client half of the server at `url`.
    pub(crate) fn client(self, url: &str) -> Client {
        match self {
            Self::Ws => {
                let ws = WsClient::new(url).unwrap().with_backoff(backoff()).with_silence(SILENCE);
                Client::streaming(ws)
            }
            Self::Sse => {
                let sse = SseClient::new(url).unwrap().with_backoff(backoff()).with_silence(SILENCE);
                Client::streaming(sse)
            }
            Self::Longpoll => {
                let schedule = quick(Schedule::long_poll(Duration::from_secs(1)));
                Client::whole(LongpollClient::new(url).unwrap().with_schedule(schedule))
            }
            Self::HttpPoll => {
                let schedule = quick(Schedule::every(Duration::from_millis(5)));
                Client::whole(HttpPollClient::new(url).unwrap().with_schedule(schedule))
            }
            Self::Grpc => {
                Client::whole(GrpcClient::new(url).unwrap().with_backoff(backoff()).with_silence(SILENCE))
            }
        }
    }
}

impl Client {
    /// Of one that streams alone.
    fn streaming(client: impl Push + Producer + Clone) -> Self {
        let pull = Arc::new(Fetching::over(client.clone()));
        Self { push: Arc::new(client.clone()), pull, producer: Arc::new(client) }
    }

    fn whole(client: impl Push + Pull + Producer + Clone) -> Self {
        let pull = Arc::new(client.clone());
        Self { push: Arc::new(client.clone()), pull, producer: Arc::new(client) }
    }
}

impl From<Client> for Backend {
    fn from(client: Client) -> Self {
        Self::new().with_push(client.push).with_pull(client.pull).with_producer(client.producer)
    }
}

#[async_trait]
impl Push for Client {
    async fn subscribe(&self, cx: &Context, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.push.subscribe(cx, request).await
    }
}

#[async_trait]
impl Producer for Client {
    async fn publish(
        &self,
        cx: &Context,
        topic: &Topic,
        messages: &[Message],
    ) -> Result<Published, PublishError> {
        self.producer.publish(cx, topic, messages).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
