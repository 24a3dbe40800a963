// One WebSocket: the market's newest prices at the rate that the slider asks for, and how much that spared.

import { Chart } from "./chart.js";

/** What the slider stands for: flushes a second; null: as it comes. */
const RATES = [0.2, 0.5, 1, 2, 5, 10, 20, 60, null];
const LONGEST_RETRY = 10_000;
/** Above this many flushes a second a flash is not seen. */
const CALM = 10;
/** A move of so many percent since the page was opened is coloured in full. */
const FULL = 4;

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const element = (id) => document.getElementById(id);
const chart = new Chart(element("chart"));
const flashes = !matchMedia("(prefers-reduced-motion: reduce)").matches;

const symbols = new Map();
const changed = new Set();
const total = { received: 0, spared: 0, bytes: 0, missed: 0 };
let told = { ...total };
let state = "connecting";
let place = null;
let link = null;
let failures = 0;
let timer;

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
  const { heartbeat, gap } = frame;
  if (heartbeat) {
    place = heartbeat.cursor ?? place;
    total.spared += heartbeat.conflated - counted;
    return heartbeat.conflated;
  }
  if (gap) {
    place = gap.cursor;
    total.missed += 1;
  } else if (frame.topic) {
    quote(frame);
  }
  return counted;
}

function quote({ key, data, cursor, snapshot }) {
  if (!snapshot) place = cursor;
  total.received += 1;
  const symbol = symbols.get(key) ?? { opened: data.price, cell: list(key) };
  symbol.before = symbol.price;
  symbol.price = data.price;
  symbols.set(key, symbol);
  changed.add(symbol);
}

/** A new cell, in the order of the alphabet. */
function list(key) {
  const cell = document.createElement("div");
  const [name, price] = [document.createElement("b"), document.createElement("span")];
  cell.append(name, price);
  name.textContent = cell.dataset.symbol = key;
  const next = [...element("board").children].find((other) => other.dataset.symbol > key);
  element("board").insertBefore(cell, next ?? null);
  return cell;
}

/** Full jitter, doubled each time. */
function retry() {
  say("retrying");
  const longest = Math.min(LONGEST_RETRY, 250 * 2 ** ++failures);
  timer = setTimeout(connect, 250 + Math.random() * longest);
}

function say(what) {
  state = what;
  element("state").textContent = what;
  element("state").dataset.state = what;
}

/** However many events came since, a symbol is drawn once a frame. */
function draw() {
  const calm = flashes && rate() !== null && rate() <= CALM;
  for (const { cell, price, before, opened } of changed) {
    const moved = (price / opened - 1) * 100;
    cell.lastChild.textContent = price.toFixed(2);
    cell.dataset.moved = Math.sign(moved);
    cell.style.setProperty("--heat", `${Math.min(1, Math.abs(moved) / FULL) * 55}%`);
    cell.title = `${moved.toFixed(2)} % since the page was opened`;
    if (calm && before !== undefined) cell.animate([{ outlineColor: "var(--flash)" }, { outlineColor: "transparent" }], 450);
  }
  changed.clear();
  requestAnimationFrame(draw);
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
  element("sentence").textContent = state === "live"
    ? `${number.format(symbols.size)} symbols. Of ${number.format(published)} updates a second this page takes ${number.format(received)}: it is spared ${share} %.`
    : "The link broke; it goes on from its place once the server is there.";
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
    return { state, place, symbols: symbols.size, rate: rate(), ...total };
  },
};

setInterval(showFigures, 1000);
showRate();
connect();
requestAnimationFrame(draw);
