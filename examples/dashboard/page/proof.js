// The proof that nothing was lost and nothing came twice, kept by the consumer itself.

import { beganAnew } from "./notes.js";

const REMEMBERED = 20000;

/** A cursor's place in the sequence, as a number. */
export const seqOf = (cursor) => Number(cursor.slice(cursor.lastIndexOf("-") + 1));

const epochOf = (cursor) => cursor.slice(0, cursor.lastIndexOf("-"));

/**
 * One consumer's check of what it was given: seq rises, no event comes twice, and on each topic `prev` names the
 * event that came before, so a lost one would break the chain.
 */
export class Proof {
  events = 0;
  gaps = 0;
  /** How many of the gaps began another history. */
  anew = 0;
  repeats = 0;
  disorder = 0;
  links = 0;
  broken = 0;
  /** Where the live part began, the newest event since, and the history both are of. */
  start = null;
  top = null;
  epoch = null;
  #newest = new Map();
  #seen = new Set();
  /** Below this a gap has told what is missing. */
  #told = 0;

  event({ topic, cursor, prev, snapshot }) {
    const seq = seqOf(cursor);
    this.events += 1;
    if (!snapshot) this.#rise(seq, epochOf(cursor));
    if (!snapshot && prev !== undefined) this.#link(topic, prev);
    this.#newest.set(topic, cursor);
  }

  #rise(seq, epoch) {
    this.epoch = epoch;
    this.start ??= seq - 1;
    if (this.#seen.has(seq)) this.repeats += 1;
    else if (seq <= this.top) this.disorder += 1;
    this.top = Math.max(this.top, seq);
    this.#seen.add(seq);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
  }

  #link(topic, prev) {
    const newest = this.#newest.get(topic) ?? null;
    const before = prev === null ? 0 : seqOf(prev);
    const holds = prev === newest || before < this.#told || (newest === null && before <= this.start);
    if (holds) this.links += 1;
    else this.broken += 1;
  }

  gap(gap) {
    const { before, cursor } = gap;
    this.gaps += 1;
    this.#told = Math.max(this.#told, seqOf(before));
    // Another history: what was seen of the old one proves nothing about it.
    if (beganAnew(gap)) {
      this.anew += 1;
      this.#newest.clear();
      this.#seen.clear();
      this.start = this.top = this.#told = seqOf(cursor);
    }
  }

  place(cursor) {
    this.start ??= seqOf(cursor);
  }
}

/** What all consumers together were given: what one has and another lacks, was lost on the way. */
export class Ledger {
  /** By epoch, by seq: who was given it. */
  #epochs = new Map();

  add(consumer, cursor) {
    const epoch = epochOf(cursor);
    if (!this.#epochs.has(epoch)) this.#epochs.set(epoch, new Map());
    if (this.#epochs.size > 2) this.#epochs.delete(this.#epochs.keys().next().value);
    const events = this.#epochs.get(epoch);
    const seq = seqOf(cursor);
    if (events.has(seq)) events.get(seq).add(consumer);
    else events.set(seq, new Set([consumer]));
    if (events.size > REMEMBERED) events.delete(events.keys().next().value);
  }

  /** How many events between its start and its newest one `consumer` was not given. */
  lost(consumer, { start, top, epoch }) {
    let lost = 0;
    for (const [seq, given] of this.#epochs.get(epoch) ?? []) {
      if (seq > start && seq <= top && !given.has(consumer)) lost += 1;
    }
    return lost;
  }
}
