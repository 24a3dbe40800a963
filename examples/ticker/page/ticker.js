// One WebSocket: the market's newest prices at the rate that the slider asks for, and how much that spared.

import { Board } from "./board.js";
import { Chart } from "./chart.js";

/** What the slider stands for: flushes a second; null: as it comes. */
const RATES = [0.2, 0.5, 1, 2, 5, 10, 20, 60, null];
const LONGEST_RETRY = 10_000;

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const element = (id) => document.getElementById(id);
const chart = new Chart(element("chart"));
const board = new Board(element("board"));
const total = { received: 0, spared: 0, bytes: 0, missed: 0 };
let told = { ...total };
let state = "connecting";
let place = null;
let link = null;
let failures = 0;
/** When the server asked to be asked again, in milliseconds, if it did. */
let advised;
let timer;

/** What was asked for. */
const rate = () => RATES[Number(element("rate").value)];

/** Goes on from its place, if it has one: another rate is another subscription to the same sequence. */
function connect() {
  clearTimeout(timer);
  const asked = new URLSearchParams({ topic: "quotes.*", conflate: "key", ...(place ? { after: place } : { start: "snapshot" }) });
  if (rate()) asked.set("rate", rate());
  const url = new URL(`/ws?${asked}`, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const opened = new WebSocket(url, "pushpull.v1.json");
  // Each connection counts what it was spared from nothing.
  let counted = 0;
  opened.onopen = () => say("live");
  opened.onmessage = ({ data }) => {
    if (opened !== link) return;
    failures = 0;
    total.bytes += data.length;
    for (const frame of [JSON.parse(data)].flat()) counted = take(frame, counted);
  };
  opened.onclose = () => opened === link && retry();
  link = opened;
}

function take(frame, counted) {
  const { heartbeat, gap, goaway } = frame;
  if (heartbeat) {
    place = heartbeat.cursor ?? place;
    total.spared += heartbeat.conflated - counted;
    return heartbeat.conflated;
  }
  // Only a heartbeat gives the first place, since it ends the snapshot: who is cut before it needs a new one.
  if (gap) {
    place &&= gap.cursor;
    total.missed += 1;
  } else if (goaway) {
    place &&= goaway.cursor ?? place;
    advised = goaway.retry;
  } else if (frame.topic) {
    if (!frame.snapshot) place &&= frame.cursor;
    total.received += 1;
    board.take(frame);
  }
  return counted;
}

/** Full jitter, doubled each time, unless the server said when to come back. */
function retry() {
  say("retrying");
  const longest = Math.min(LONGEST_RETRY, 250 * 2 ** ++failures);
  timer = setTimeout(connect, advised ?? 250 + Math.random() * longest);
  advised = undefined;
}

function say(what) {
  state = what;
  element("state").textContent = what;
  element("state").dataset.state = what;
}

function showFigures() {
  const past = Object.fromEntries(Object.entries(total).map(([what, count]) => [what, count - told[what]]));
  told = { ...total };
  chart.add(past.received, past.spared);
  const published = chart.mean((one) => one.received + one.spared);
  const [received, spared] = [chart.mean((one) => one.received), chart.mean((one) => one.spared)];
  const share = Math.floor((100 * spared) / Math.max(1, published));
  const figures = { published, received, spared, bytes: past.bytes / 1000, missed: total.missed };
  for (const [id, figure] of Object.entries(figures)) element(id).textContent = number.format(figure);
  const live = `${number.format(board.size)} symbols. Of ${number.format(published)} updates a second this page takes ${number.format(received)}: it is spared ${share} %.`;
  element("sentence").textContent = state === "live" ? live : "There is no link; the page goes on from its place once the server is there.";
}

function showRate() {
  const asked = rate();
  const words = asked === null ? "as it comes" : asked < 1 ? `every ${1 / asked} s` : asked === 1 ? "once a second" : `${asked} times a second`;
  element("rate-now").textContent = words;
  element("rate").setAttribute("aria-valuetext", words);
  const flag = asked === null ? "" : ` --rate ${asked}`;
  element("command").textContent = `cargo run --release --example ticker -- watch ${location.origin}${flag}`;
}

element("rate").addEventListener("input", showRate);
element("rate").addEventListener("change", () => {
  const old = link;
  chart.mark();
  connect();
  old.close();
});

/** What tests read. */
window.pushpull = {
  get now() {
    return { state, place, symbols: board.size, rate: rate(), ...total };
  },
};

setInterval(showFigures, 1000);
showRate();
connect();
(function draw() {
  board.draw(rate());
  requestAnimationFrame(draw);
})();
