// One transport: its link, its cursor, its figures and its proof.

import { Chart } from "./chart.js";
import { caughtUp, toldOf } from "./notes.js";
import { Proof } from "./proof.js";

const AWAY = 3000;
const RECENT = 5000;
const FIRST_RETRY = 250;
const LONGEST_RETRY = 10000;

const number = new Intl.NumberFormat("en");
const median = (sorted) => sorted[Math.floor(sorted.length / 2)];

export class Panel {
  /** connecting, live, cut (by the button) or retrying. */
  state = "connecting";
  place = null;
  cuts = 0;
  /** What the last resume brought: { events, lost, repeats, took, gap } once it is complete. */
  caughtUp = null;
  proof = new Proof();
  recent = [];
  #generation = 0;
  #failures = 0;
  #catching = null;

  constructor({ id, name, kind, how, open }, shared) {
    Object.assign(this, { id, name, kind, open, shared });
    const fragment = document.getElementById("panel").content.cloneNode(true);
    this.root = fragment.querySelector("article");
    this.parts = Object.fromEntries([...this.root.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
    this.root.id = id;
    this.root.dataset.kind = kind;
    this.#write({ name, kind, how });
    this.parts.chart.setAttribute("aria-label", `CPU use and latency as ${name} brings them`);
    this.parts.button.addEventListener("click", () => (this.state === "cut" ? this.resume() : this.cut()));
    document.getElementById("panels").append(this.root);
    this.chart = new Chart(this.parts.chart);
    this.#connect();
  }

  cut() {
    if (this.state === "cut") return;
    this.#disconnect();
    this.#say("cut");
    this.cuts += 1;
    this.caughtUp = null;
    this.resumeAt = performance.now() + AWAY;
    this.timer = setTimeout(() => this.resume(), AWAY);
    this.#note(`Cut at ${this.place ?? "the start"}.`);
    this.render();
  }

  resume() {
    this.#say("connecting");
    this.#connect();
    this.render();
  }

  #disconnect() {
    clearTimeout(this.timer);
    this.#generation += 1;
    this.close?.();
    this.close = null;
    this.chart.away(Date.now());
  }

  #connect() {
    clearTimeout(this.timer);
    this.#begin();
    this.close = this.open(this.place, this.#sink());
  }

  /** Events from before `until` were missed while away. */
  #begin() {
    if (!this.place) return;
    const { repeats } = this.proof;
    // What was told on the way of a link that broke again stays told.
    const gap = this.#catching?.gap ?? null;
    this.#catching = { began: performance.now(), until: this.shared.serverNow(), events: 0, repeats, took: 0, gap };
  }

  /** Hears of its own connection only: what a closed one still says is nothing. */
  #sink() {
    const generation = ++this.#generation;
    const only = (hear) => (...said) => generation === this.#generation && hear(...said);
    return {
      opened: only(() => this.#opened()),
      event: only((event) => this.#event(event)),
      gap: only((gap) => this.#gap(gap)),
      place: only((cursor) => this.#told(cursor)),
      retrying: only(() => this.#retrying()),
      ended: only((why, delay) => this.#ended(why, delay)),
    };
  }

  #opened() {
    this.#failures = 0;
    this.chart.back(Date.now());
    this.#say("live");
    if (!this.#catching) this.#note("");
  }

  #event(event) {
    const late = this.shared.latency(event);
    const caught = this.#caught(event);
    this.proof.event(event);
    if (!event.snapshot) {
      this.place = event.cursor;
      this.shared.ledger.add(this.id, event.cursor);
      this.recent.push({ at: performance.now(), late, caught });
    }
    this.chart.add(event, this.shared.localTime(event), event.snapshot ? null : late, caught);
    this.shared.show(event);
  }

  /** Whether the event was missed while away; the first that was not ends the catching up. */
  #caught(event) {
    const catching = this.#catching;
    if (!catching) return false;
    if (event.time <= catching.until) {
      catching.events += 1;
      catching.took = performance.now() - catching.began;
      return true;
    }
    this.#catching = null;
    // The event that ends it is on its way into the proof: judged once it is there.
    queueMicrotask(() => this.#complete(catching));
    return false;
  }

  #complete({ events, repeats, took, gap }) {
    this.caughtUp = { events, took, lost: this.lost(), repeats: this.proof.repeats - repeats, gap };
    this.#note(caughtUp(this.caughtUp));
  }

  #gap(gap) {
    this.proof.gap(gap);
    this.place = gap.cursor;
    if (this.#catching) this.#catching.gap = gap;
    this.#note(toldOf(gap));
  }

  #told(cursor) {
    this.place = cursor;
    this.proof.place(cursor);
  }

  #retrying() {
    if (this.state === "live") {
      this.chart.away(Date.now());
      this.#begin();
    }
    this.#say("retrying");
    this.#note("The link broke; the browser connects again.");
  }

  /** Full jitter, doubled each time, unless the server said when to come back. */
  #ended(why, delay) {
    this.#disconnect();
    this.#say("retrying");
    const longest = Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** ++this.#failures);
    this.timer = setTimeout(() => this.#connect(), delay ?? FIRST_RETRY + Math.random() * longest);
    this.#note(`The link ${why}; connecting again.`);
  }

  /** Events that it should have and has not: by the chain of `prev`, and by what the other panels have. */
  lost() {
    return Math.max(this.proof.broken, this.shared.ledger.lost(this.id, this.proof));
  }

  figures() {
    const since = performance.now() - RECENT;
    while (this.recent.length && this.recent[0].at < since) this.recent.shift();
    const late = this.recent.filter((one) => !one.caught).map((one) => one.late).sort((a, b) => a - b);
    return { latency: late.length ? median(late) : null, rate: this.recent.length / (RECENT / 1000) };
  }

  /** The panel's state as tests read it. */
  report() {
    const { state, place, cuts, caughtUp } = this;
    const { events, gaps, anew, repeats, disorder, links, broken } = this.proof;
    return { state, place, cuts, caughtUp, events, gaps, anew, repeats, disorder, links, broken, lost: this.lost(), ...this.figures() };
  }

  render() {
    const { state, place, events, gaps, anew, repeats, disorder, links, broken, lost, latency, rate } = this.report();
    const since = anew ? " since it began anew" : "";
    this.#write({
      state,
      latency: latency === null ? "–" : number.format(Math.round(latency)),
      rate: number.format(Math.round(rate)),
      events: number.format(events),
      lost: number.format(lost) + since,
      repeats: number.format(repeats) + since,
      gaps: number.format(gaps),
      chain: broken ? `broken ${number.format(broken)} times` : `${number.format(links)} links hold`,
      order: disorder ? `fell ${number.format(disorder)} times` : anew ? `rising${since}` : "always rising",
      cursor: place ?? "none yet",
      button: this.#label(),
    });
    this.root.dataset.state = state;
    const faults = { lost, repeats, gaps, chain: broken, order: disorder };
    for (const [part, count] of Object.entries(faults)) this.parts[part].classList.toggle("fault", count > 0);
  }

  #label() {
    if (this.state !== "cut") return `Cut ${this.name}`;
    return `Resume now (${Math.max(0, Math.ceil((this.resumeAt - performance.now()) / 1000))} s)`;
  }

  #say(state) {
    this.state = state;
  }

  #note(text) {
    this.parts.note.textContent = text;
  }

  /** Only what changed, so that the page is not laid out anew for nothing. */
  #write(texts) {
    for (const [part, text] of Object.entries(texts)) {
      if (this.parts[part].textContent !== text) this.parts[part].textContent = text;
    }
  }
}
