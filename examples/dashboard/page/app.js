// The page: five panels over the same events, the machine's figures, and what all of it adds up to.

import { Panel } from "./panel.js";
import { Ledger, seqOf } from "./proof.js";
import { eventSource, grpc, longPoll, poll, webSocket } from "./transports.js";

const TRANSPORTS = [
  { id: "ws", name: "WebSocket", kind: "push", how: "one socket, both ways", open: webSocket },
  { id: "sse", name: "EventSource", kind: "push", how: "one endless answer", open: eventSource },
  { id: "longpoll", name: "Long polling", kind: "pull", how: "an answer when there is news", open: longPoll },
  { id: "poll", name: "Polling", kind: "pull", how: "asked once a second", open: poll },
  { id: "grpc", name: "gRPC", kind: "push", how: "by a Rust client that hands it on", open: grpc },
];
const FRAME = 66;
const FIGURES = 250;
const RATE_WINDOW = 5000;
const TOGETHER = 100;

const number = new Intl.NumberFormat("en");
const element = (id) => document.getElementById(id);
const write = (id, text) => {
  if (element(id).textContent !== text) element(id).textContent = text;
};

/** The server's clock against this one: told apart only where they plainly differ. */
let skew = Infinity;
const difference = () => (skew < 0 || (skew > 2000 && skew < Infinity) ? skew : 0);

const machine = { "host.cpu": {}, "host.memory": {}, "host.load": {}, "host.disk": {}, "host.network": {} };
const newest = [];

const shared = {
  ledger: new Ledger(),
  serverNow: () => Date.now() - difference(),
  localTime: ({ time }) => time + difference(),
  latency({ time, snapshot }) {
    const late = Date.now() - time;
    if (!snapshot) skew = Math.min(skew, late);
    return Math.max(0, late - difference());
  },
  /** Whichever transport brings an event first shows it. */
  show({ topic, key, data, cursor, time }) {
    const last = newest.at(-1);
    const seq = seqOf(cursor);
    const isNew = !last || seq > last.seq || time > last.time;
    if (machine[topic] && data && (isNew || !machine[topic][key])) machine[topic][key] = data;
    if (!isNew) return;
    // In another history seq begins anew; of what was published together the last stands for all.
    if (last && seq < last.seq) newest.length = 0;
    else if (last && time - last.time < TOGETHER) newest.pop();
    newest.push({ seq, time });
    while (newest[0].time < time - RATE_WINDOW) newest.shift();
  },
};

const panels = TRANSPORTS.map((transport) => new Panel(transport, shared));

const sum = (values, what) => Object.values(values).reduce((total, value) => total + what(value), 0);

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count >= 99.5 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

function showMachine() {
  const { all, ...cores } = machine["host.cpu"];
  const { ram } = machine["host.memory"];
  const { average } = machine["host.load"];
  const disks = machine["host.disk"];
  const { lo, ...interfaces } = machine["host.network"];
  if (all) tile("cpu", `${all.busy.toFixed(0)} %`, `${Object.keys(cores).length} cores`);
  if (ram) tile("memory", bytes(ram.used), `of ${bytes(ram.total)}`);
  if (average) tile("load", average.one.toFixed(2), `${average.five.toFixed(2)} in 5 min`);
  tile("disk", bytes(sum(disks, (disk) => disk.used)), `of ${bytes(sum(disks, (disk) => disk.total))}`);
  const sent = bytes(sum(interfaces, (one) => one.sent));
  tile("network", `${bytes(sum(interfaces, (one) => one.received))}/s`, `sent ${sent}/s`);
}

function tile(name, figure, more) {
  write(`${name}-figure`, figure);
  write(`${name}-more`, more);
}

function showVerdict() {
  const total = (what) => panels.reduce((all, panel) => all + what(panel), 0);
  const lost = total((panel) => panel.lost());
  const repeated = total((panel) => panel.proof.repeats + panel.proof.disorder);
  write("lost", number.format(lost));
  write("repeated", number.format(repeated));
  const anew = panels.some((panel) => panel.proof.anew > 0);
  element("anew").hidden = !anew;
  element("claim").hidden = anew;
  for (const label of ["lost", "repeated"]) write(`${label}-label`, anew ? `${label} since then` : label);
  const gaps = total((panel) => panel.proof.gaps);
  write("gaps", number.format(gaps));
  element("gaps").classList.toggle("fault", gaps > 0);
  write("delivered", number.format(total((panel) => panel.proof.events)));
  write("cuts", number.format(total((panel) => panel.cuts)));
  element("lost").classList.toggle("fault", lost > 0);
  element("repeated").classList.toggle("fault", repeated > 0);
}

/** Every event has a place of its own in the one sequence: its growth is the rate of publishing. */
function showRate() {
  const [first, last] = [newest[0], newest.at(-1)];
  const seconds = last ? (last.time - first.time) / 1000 : 0;
  if (seconds > 1) write("rate", number.format(Math.round((last.seq - first.seq) / seconds)));
}

function showFigures() {
  for (const panel of panels) panel.render();
  showMachine();
  showVerdict();
  showRate();
}

let drawn = 0;
function draw(at) {
  if (at - drawn >= FRAME) {
    drawn = at;
    for (const panel of panels) panel.chart.draw(Date.now());
  }
  requestAnimationFrame(draw);
}

element("cut-all").addEventListener("click", () => panels.forEach((panel) => panel.cut()));
element("command").textContent = `curl -N '${location.origin}/sse?topic=host.*&start=snapshot'`;

/** What tests read. */
window.pushpull = {
  get panels() {
    return Object.fromEntries(panels.map((panel) => [panel.id, panel.report()]));
  },
};

setInterval(showFigures, FIGURES);
showFigures();
requestAnimationFrame(draw);
