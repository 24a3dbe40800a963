"""A client that has nothing of pushpull's: descriptions come by reflection, the rest is grpcio's."""

import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

address, count = sys.argv[1], int(sys.argv[2])
channel = grpc.insecure_channel(address)

database = ProtoReflectionDescriptorDatabase(channel)
services = database.get_services()
assert "pushpull.v1.Delivery" in services and "grpc.health.v1.Health" in services, services
pool = descriptor_pool.DescriptorPool(database)
delivery = pool.FindServiceByName("pushpull.v1.Delivery")


def message(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pushpull.v1." + name))


SubscribeRequest, FetchRequest, PublishRequest, ClientFrame, ServerFrame, FetchReply, PublishReply = map(
    message,
    "SubscribeRequest FetchRequest PublishRequest ClientFrame ServerFrame FetchReply PublishReply".split(),
)


def call(kind, method, reply):
    path = "/pushpull.v1.Delivery/" + method
    assert method in delivery.methods_by_name
    return getattr(channel, kind)(path, lambda asked: asked.SerializeToString(), reply.FromString)


publish = call("unary_unary", "Publish", PublishReply)
fetch = call("unary_unary", "Fetch", FetchReply)
subscribe = call("unary_stream", "Subscribe", ServerFrame)
attach = call("stream_stream", "Attach", ServerFrame)


def refused(work, code):
    try:
        work()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error
    raise AssertionError("not refused")


health = health_pb2_grpc.HealthStub(channel)
assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING

published = publish(PublishRequest(topic="a", payload=b"1", content_type="application/json", key="k"))
reply = fetch(FetchRequest(topics=["a"], start=2))
event = reply.events[0].event
assert (event.cursor, event.key, event.payload) == (published.cursor, "k", b"1")
assert event.HasField("prev") and event.prev == "", "its topic's first"
assert reply.cursor == published.cursor and not reply.more

error = refused(lambda: list(subscribe(SubscribeRequest(topics=["a"], after="nonsense"))), grpc.StatusCode.INVALID_ARGUMENT)
assert error.details().startswith("after"), error.details()
details = dict(error.trailing_metadata())["grpc-status-details-bin"]
assert b"bad-request" in details and b"google.rpc.BadRequest" in details, details
refused(lambda: publish(PublishRequest(topic="a", payload=b"x" * 70_000)), grpc.StatusCode.RESOURCE_EXHAUSTED)
refused(lambda: publish(PublishRequest(topic="a", payload=b"x" * 3_000_000)), grpc.StatusCode.RESOURCE_EXHAUSTED)
refused(lambda: list(subscribe(SubscribeRequest(topics=["a"]), timeout=0.2)), grpc.StatusCode.DEADLINE_EXCEEDED)
cancelled = subscribe(SubscribeRequest(topics=["a"]))
assert next(cancelled).WhichOneof("frame") == "heartbeat"
cancelled.cancel()


def said():
    yield ClientFrame(subscribe=SubscribeRequest(id=1, topics=["a"]))
    yield ClientFrame(publish=PublishRequest(id=2, topic="a", payload=b"2"))


frames = attach(said())
first, answer = next(frames), next(frames)
assert first.heartbeat.cursor == published.cursor, first
assert answer.ok.id == 1 and answer.ok.cursor == published.cursor, answer
heard = {next(frames).WhichOneof("frame") for _ in range(2)}
assert heard == {"published", "event"}, heard
frames.cancel()

frames = subscribe(SubscribeRequest(topics=["small"]))
assert next(frames).WhichOneof("frame") == "heartbeat"
going = subscribe(SubscribeRequest(topics=["go"]))
assert next(going).WhichOneof("frame") == "heartbeat"
print("paused", flush=True)
while next(going).WhichOneof("frame") != "event":
    pass
seen, last = 0, None
while seen < count:
    frame = next(frames)
    if frame.WhichOneof("frame") == "event":
        event = frame.event
        assert len(event.payload) == 20 and (event.prev == last or last is None)
        seen, last = seen + 1, event.cursor
    else:
        assert frame.WhichOneof("frame") == "heartbeat", frame
print("done", flush=True)
