// The last minute, a bar a second: below what was received, above it what was spared.

const SECONDS = 60;
/** Seconds over which a figure is the mean: more than one, since what was spared is told once a second. */
const RECENT = 5;

export class Chart {
  #bars = [];
  #marked = false;

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  add(received, spared) {
    this.#bars.push({ received, spared, marked: this.#marked });
    this.#marked = false;
    if (this.#bars.length > SECONDS) this.#bars.shift();
    this.#draw();
  }

  /** The slider was moved: what comes next is of another rate. */
  mark() {
    this.#marked = true;
  }

  /** Since the slider was moved, if that is recent. */
  mean(what) {
    let recent = this.#bars.slice(-RECENT);
    const moved = recent.findLastIndex((bar) => bar.marked);
    // The second in which it was moved is of both rates.
    if (moved >= 0 && moved < recent.length - 1) recent = recent.slice(moved + 1);
    return recent.reduce((sum, bar) => sum + what(bar), 0) / Math.max(1, recent.length);
  }

  #draw() {
    const { canvas, context } = this;
    const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
    Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const top = Math.max(1, ...this.#bars.map(({ received, spared }) => received + spared));
    const step = width / SECONDS;
    this.#bars.forEach(({ received, spared, marked }, n) => {
      const x = width - (this.#bars.length - n) * step;
      const [got, left] = [(height * received) / top, (height * spared) / top];
      context.fillStyle = colour("--spared");
      context.fillRect(x, height - got - left, step - 1, left);
      context.fillStyle = colour("--got");
      context.fillRect(x, height - Math.max(got, received ? 1.5 : 0), step - 1, Math.max(got, received ? 1.5 : 0));
      context.fillStyle = colour("--quiet");
      if (marked) context.fillRect(x - 1, 0, 1, height);
    });
  }
}
