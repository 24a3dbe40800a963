// A chat over the browser's own WebSocket. The room is a topic. What is said goes out and comes back over the same
// socket; after a break the page goes on from its cursor, and says again, under the same idempotency id, what was not
// acknowledged: nothing is lost, nothing is said twice.

const SHOWN = 500;
const FIRST_RETRY = 250;
const LONGEST_RETRY = 10_000;
const AWAY = 3000;

const element = (id) => document.getElementById(id);
const messages = element("messages");

let nick = "";
let topic = "";
let socket = null;
let cursor = null;
let failures = 0;
let timer = 0;
let sent = 0;
/** What was said and not yet acknowledged, by its id. */
const outbox = new Map();
const counts = { messages: 0, gaps: 0, connections: 0 };
let state = "idle";

function connect() {
  clearTimeout(timer);
  tell("connecting", "Connecting …");
  const from = cursor ? { after: cursor } : { start: "earliest" };
  const url = new URL(`/ws?${new URLSearchParams({ topic, ...from })}`, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const opened = new WebSocket(url, "pushpull.v1.json");
  socket = opened;
  opened.onopen = () => {
    failures = 0;
    counts.connections += 1;
    tell("live", `In ${topic} as ${nick}.`);
    for (const publish of outbox.values()) send({ publish });
  };
  opened.onmessage = ({ data }) => [JSON.parse(data)].flat().forEach(take);
  opened.onclose = ({ code, reason }) => {
    if (socket === opened) retry(code, /\bretry=(\d+)/.exec(reason)?.[1]);
  };
}

/** Full jitter, doubled each time, unless the server said how many milliseconds to wait. */
function retry(code, advised) {
  socket = null;
  const longest = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** ++failures);
  tell("retrying", `The link was closed (${code}); connecting again.`);
  timer = setTimeout(connect, advised ?? FIRST_RETRY + Math.random() * longest);
}

function leave() {
  clearTimeout(timer);
  const left = socket;
  socket = null;
  left?.close();
}

function take(frame) {
  const control = frame.heartbeat ?? frame.ok ?? frame.goaway;
  if (control) cursor = control.cursor ?? cursor;
  else if (frame.published) outbox.delete(frame.published.id);
  else if (frame.error) refused(frame.error);
  else if (frame.gap) missed(frame.gap);
  else show(frame);
}

function refused({ id, detail, title }) {
  outbox.delete(id);
  line("notice", "", detail ?? title);
}

function missed(gap) {
  counts.gaps += 1;
  cursor = gap.cursor;
  const anew = gap.reason === "reset" || gap.reason === "rewound";
  const told = anew ? "The history began anew: what was said before cannot be known" : "Some messages are gone";
  line("notice", "", `${told} (${gap.reason}).`);
}

function show(event) {
  cursor = event.cursor;
  counts.messages += 1;
  const { data } = event;
  const said = typeof data === "object" && data !== null ? data : { text: data };
  line("message", said.nick || "someone", said.text ?? "", event.time);
}

/** Whatever others wrote is text, never markup. */
function line(kind, name, text, time) {
  const row = document.createElement("p");
  row.className = kind;
  const parts = { time: time ? new Date(time).toLocaleTimeString() : "", b: String(name), span: String(text) };
  for (const [tag, content] of Object.entries(parts)) {
    if (content) row.appendChild(document.createElement(tag)).textContent = content;
  }
  const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
  messages.append(row);
  while (messages.childElementCount > SHOWN) messages.firstElementChild.remove();
  if (atEnd) messages.scrollTop = messages.scrollHeight;
}

function send(frame) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
}

function unique() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function tell(now, text) {
  state = now;
  element("state").textContent = text;
  element("state").dataset.state = now;
}

element("join").addEventListener("submit", (event) => {
  event.preventDefault();
  leave();
  nick = element("nick").value.trim();
  topic = `chat.${element("room").value}`;
  cursor = null;
  outbox.clear();
  messages.replaceChildren();
  for (const control of document.querySelectorAll("#say *, #cut")) control.disabled = false;
  connect();
  element("text").focus();
});

element("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = element("text").value;
  element("text").value = "";
  sent += 1;
  const publish = { id: sent, topic, idempotency: unique(), data: { nick, text } };
  outbox.set(sent, publish);
  send({ publish });
});

element("cut").addEventListener("click", () => {
  leave();
  tell("cut", "Cut: back in 3 seconds. What you say meanwhile is sent then.");
  timer = setTimeout(connect, AWAY);
});

/** What tests read. */
window.pushpull = {
  get chat() {
    return { state, cursor, waiting: outbox.size, ...counts };
  },
};
