// Five ways to carry the same events: each function opens one at a place, tells `sink` what it brings, and returns
// what closes it. The query, the events and the cursor are the same; only the path differs.
//
// sink.opened()            the link is up
// sink.event(event)        an event
// sink.gap(gap)            what was asked for and is gone
// sink.place(cursor)       everything up to here was delivered
// sink.retrying()          the browser itself connects again
// sink.ended(why, delay)   it is over, the link `why`; `delay`: the server's advice in milliseconds, if any

const TOPICS = "host.>";
const POLL_EVERY = 1000;
/** The code of a socket that ended without a closing handshake. */
const ABNORMAL = 1006;

/** Resumes after `place`; without one begins with each key's newest event, then goes live. */
function query(place, options) {
  const from = place ? { after: place } : { start: "snapshot" };
  return new URLSearchParams({ topic: TOPICS, ...from, ...options });
}

function take(item, sink) {
  if (item.gap) sink.gap(item.gap);
  else sink.event(item);
}

export const webSocket = (place, sink) => socket("/ws", place, sink);

/** What no browser speaks: behind this socket stands a gRPC subscription of its own, which ends with it. */
export const grpc = (place, sink) => socket("/over-grpc/ws", place, sink);

function socket(path, place, sink) {
  const url = new URL(`${path}?${query(place)}`, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const link = new WebSocket(url, "pushpull.v1.json");
  let delay;
  link.onopen = () => sink.opened();
  link.onmessage = ({ data }) => {
    for (const frame of [JSON.parse(data)].flat()) {
      const control = frame.heartbeat ?? frame.ok ?? frame.goaway;
      delay = frame.goaway?.retry ?? delay;
      if (control?.cursor) sink.place(control.cursor);
      if (!control) take(frame, sink);
    }
  };
  link.onclose = ({ code, reason }) => {
    const advised = /\bretry=(\d+)/.exec(reason)?.[1];
    sink.ended(code === ABNORMAL ? "broke" : `was closed with ${code}`, advised ? Number(advised) : delay);
  };
  return () => link.close();
}

export function eventSource(place, sink) {
  const source = new EventSource(`/sse?${query(place, { format: "json" })}`);
  source.onopen = () => sink.opened();
  source.onmessage = ({ data }) => take(JSON.parse(data), sink);
  source.addEventListener("pushpull-gap", ({ data }) => take(JSON.parse(data), sink));
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) sink.ended("was refused");
    else sink.retrying();
  };
  return () => source.close();
}

export const longPoll = poller("/longpoll", { wait: 20, limit: 1000 }, 0);

export const poll = poller("/poll", { limit: 1000 }, POLL_EVERY);

function poller(path, options, pause) {
  return (place, sink) => {
    const abort = new AbortController();
    ask(path, options, pause, place, sink, abort.signal).catch(({ why, delay }) => sink.ended(why ?? "broke", delay));
    return () => abort.abort();
  };
}

async function ask(path, options, pause, place, sink, signal) {
  for (let opened = false; ; opened = true) {
    const response = await fetch(`${path}?${query(place, options)}`, { signal, cache: "no-store" });
    if (!response.ok) throw refusal(response);
    const page = await response.json();
    if (!opened) sink.opened();
    for (const item of page.events) take(item, sink);
    place = page.cursor;
    sink.place(place);
    if (!page.more && pause) await new Promise((resolve) => setTimeout(resolve, pause));
    signal.throwIfAborted();
  }
}

function refusal(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  return Object.assign(new Error(response.statusText), { why: `was refused with ${response.status}`, delay: seconds ? seconds * 1000 : undefined });
}
