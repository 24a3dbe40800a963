//! Every promise at the leaf of a tree, and through a server half over another client half.

use async_trait::async_trait;
use pushpull_broker::{Broker, Retention};
use pushpull_core::{
    Batch, Context, Fetch, FetchError, Message, Producer, PublishError, Published, Pull, Push, Subscribe,
    SubscribeError, Subscription, Topic,
};
use pushpull_testkit::{Capabilities, Capability, Harness, conformance, proxy::Proxy};

use crate::{
    support::{Client, Half, Node},
    tree::Tree,
};

/// Events of a topic that every level retains.
const RETAINS: usize = 256;

/// A way to a root through something in between, whose own way to the root can be cut.
struct Through {
    name: &'static str,
    client: Client,
    root: Broker,
    between: Between,
    capabilities: Capabilities,
}

enum Between {
    Tree(Tree),
    Pass { proxy: Proxy, _nodes: [Node; 2] },
}

fn capabilities() -> Capabilities {
    use Capability::{Credit, Cut, Heartbeat, Publish, Snapshot};
    [Credit, Cut, Heartbeat, Publish, Snapshot].into_iter().fold(Capabilities::NONE, Capabilities::with)
}

async fn pass(name: &'static str, server: Half, client: Half) -> Through {
    let root = Broker::memory_with(Retention::default().with_messages(RETAINS));
    let source = Node::serve(root.clone(), false).await;
    let proxy = Proxy::start(source.address, 5).await.unwrap();
    let node = Node::serve(client.client(&proxy.url()), false).await;
    let through = server.client(&node.url());
    let between = Between::Pass { proxy, _nodes: [source, node] };
    Through { name, client: through, root, between, capabilities: capabilities() }
}

async fn leaf() -> Through {
    let retention = Retention::default().with_messages(RETAINS);
    let tree = Tree::grow_from(retention, Half::Ws, Half::Grpc).await;
    let client = Half::Sse.client(&tree.nodes[2].url());
    let capabilities = capabilities().with(Capability::OverflowLatest);
    Through { name: "leaf", client, root: tree.root.clone(), between: Between::Tree(tree), capabilities }
}

async fn sse_over_ws() -> Through {
    let through = pass("sse over ws", Half::Sse, Half::Ws).await;
    Through { capabilities: capabilities().with(Capability::OverflowLatest), ..through }
}

async fn ws_over_longpoll() -> Through {
    pass("ws over long polling", Half::Ws, Half::Longpoll).await
}

async fn http_poll_over_sse() -> Through {
    pass("http polling over sse", Half::HttpPoll, Half::Sse).await
}

#[async_trait]
impl Harness for Through {
    fn name(&self) -> &str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn retains(&self) -> usize {
        RETAINS
    }

    async fn publish(&self, topic: &Topic, messages: &[Message]) -> Result<Published, PublishError> {
        self.client.publish(&Context::default(), topic, messages).await
    }

    async fn consume(&self, request: Subscribe) -> Result<Subscription, SubscribeError> {
        self.client.subscribe(&Context::default(), request).await
    }

    async fn read(&self, request: Fetch) -> Result<Batch, FetchError> {
        self.root.fetch(&Context::default(), request).await
    }

    async fn cut(&self) {
        match &self.between {
            Between::Tree(tree) => tree.proxy.cut(),
            Between::Pass { proxy, .. } => proxy.cut(),
        }
    }
}

conformance!(at_the_leaf, super::leaf);
conformance!(through_sse_over_ws, super::sse_over_ws);
conformance!(through_ws_over_longpoll, super::ws_over_longpoll);
conformance!(through_http_poll_over_sse, super::http_poll_over_sse);
