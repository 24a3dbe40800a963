// A chart drawn by hand: above, the CPU as this transport brings it; below, how late each event came.
// Both run by the time at which an event was published, so that what was missed while away fills its own place.

const WINDOW = 40_000;
const LATE_HEIGHT = 70;
const GAP = 24;
const LEFT = 44;
const SLOWEST = 10_000;
const DECADES = [[1, "1 ms"], [10, "10 ms"], [100, "100 ms"], [1000, "1 s"], [10_000, "10 s"]];

export class Chart {
  #series = new Map();
  #late = [];
  #away = [];

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.theme();
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.theme());
  }

  theme() {
    const style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = { line: colour("--data"), grid: colour("--grid"), text: colour("--quiet"), away: colour("--away"), caught: colour("--caught") };
    this.font = `10.5px ${style.fontFamily}`;
  }

  /** `late` in milliseconds; null if the event was not live. */
  add({ topic, key, data }, time, late, caught) {
    if (late !== null) this.#late.push({ time, late, caught });
    if (topic !== "host.cpu") return;
    if (!this.#series.has(key)) this.#series.set(key, []);
    this.#series.get(key).push({ time, value: data.busy, caught });
  }

  away(now) {
    if (this.#away.at(-1)?.to !== null) this.#away.push({ from: now, to: null });
  }

  back(now) {
    const last = this.#away.at(-1);
    if (last) last.to ??= now;
  }

  draw(now) {
    const { context } = this;
    this.#forget(now - WINDOW - 2000);
    context.clearRect(0, 0, this.width, this.height);
    context.font = this.font;
    const x = (time) => LEFT + (this.width - LEFT) * (1 - (now - time) / WINDOW);
    const cpu = { top: 20, bottom: this.height - LATE_HEIGHT - GAP };
    const late = { top: this.height - LATE_HEIGHT, bottom: this.height - 6 };
    this.#scale(cpu, "CPU in use", [[0, "0"], [0.5, "50"], [1, "100 %"]]);
    this.#scale(late, "how late each event came", DECADES.map(([value, label]) => [fraction(value), label]));
    context.save();
    context.beginPath();
    context.rect(LEFT, 0, this.width - LEFT, this.height);
    context.clip();
    this.#drawAway(x, now);
    this.#drawCpu(x, cpu);
    this.#drawLate(x, late);
    context.restore();
  }

  #scale({ top, bottom }, title, marks) {
    const { context } = this;
    context.fillStyle = this.colours.text;
    context.textAlign = "left";
    context.textBaseline = "bottom";
    context.fillText(title, LEFT, top - 3);
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [share, label] of marks) {
      const y = Math.round(bottom - (bottom - top) * share) + 0.5;
      context.fillStyle = this.colours.grid;
      context.fillRect(LEFT, y - 0.5, this.width - LEFT, 1);
      context.fillStyle = this.colours.text;
      context.fillText(label, LEFT - 5, y);
    }
  }

  #drawAway(x, now) {
    this.context.fillStyle = this.colours.away;
    for (const { from, to } of this.#away) {
      this.context.fillRect(x(from), 0, Math.max(2, x(to ?? now) - x(from)), this.height);
    }
  }

  #drawCpu(x, { top, bottom }) {
    const { context } = this;
    const y = (value) => bottom - ((bottom - top) * Math.min(100, value)) / 100;
    context.lineJoin = "round";
    for (const [key, points] of this.#series) {
      if (key !== "all") this.#line(points, x, y, 1, 0.3);
    }
    const all = this.#series.get("all");
    if (!all?.length) return;
    this.#line(all, x, y, 2, 1);
    context.lineTo(x(all.at(-1).time), bottom);
    context.lineTo(x(all[0].time), bottom);
    context.globalAlpha = 0.12;
    context.fillStyle = this.colours.line;
    context.fill();
    context.globalAlpha = 1;
    for (const point of all) {
      if (point.caught) this.#dot(x(point.time), y(point.value), 2.5, this.colours.caught);
    }
  }

  #line(points, x, y, width, alpha) {
    const { context } = this;
    context.beginPath();
    for (const { time, value } of points) context.lineTo(x(time), y(value));
    context.globalAlpha = alpha;
    context.lineWidth = width;
    context.strokeStyle = this.colours.line;
    context.stroke();
    context.globalAlpha = 1;
  }

  #drawLate(x, { top, bottom }) {
    for (const { time, late, caught } of this.#late) {
      const y = bottom - (bottom - top) * fraction(late);
      this.#dot(x(time), y, 1.6, caught ? this.colours.caught : this.colours.line);
    }
  }

  #dot(x, y, radius, colour) {
    const { context } = this;
    context.fillStyle = colour;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }

  #forget(before) {
    for (const points of [...this.#series.values(), this.#late]) {
      const first = points.findIndex(({ time }) => time >= before);
      if (first > 0) points.splice(0, first);
    }
    while (this.#away.length && this.#away[0].to !== null && this.#away[0].to < before) this.#away.shift();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = devicePixelRatio || 1;
    Object.assign(this, { width: clientWidth, height: clientHeight });
    Object.assign(this.canvas, { width: Math.round(clientWidth * ratio), height: Math.round(clientHeight * ratio) });
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }
}

/** Where a latency stands between 1 ms and the slowest shown, on a scale of decades. */
function fraction(late) {
  return Math.log10(Math.min(SLOWEST, Math.max(1, late))) / Math.log10(SLOWEST);
}
