// A cell a symbol: its newest price, in the colour of its way since the page was opened.

/** A move of so many percent is coloured in full. */
const FULL = 4;
/** At more flushes a second a flash is no longer seen. */
const CALM = 10;

export class Board {
  #symbols = new Map();
  #changed = new Set();
  #flashes = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  constructor(root) {
    this.root = root;
  }

  get size() {
    return this.#symbols.size;
  }

  take({ key, data }) {
    const symbol = this.#symbols.get(key) ?? { opened: data.price, cell: this.#list(key) };
    symbol.isNew = symbol.price === undefined;
    symbol.price = data.price;
    this.#symbols.set(key, symbol);
    this.#changed.add(symbol);
  }

  /** A new cell, in the order of the alphabet. */
  #list(key) {
    const cell = document.createElement("div");
    const [name, price] = [document.createElement("b"), document.createElement("span")];
    cell.append(name, price);
    name.textContent = cell.dataset.symbol = key;
    const next = [...this.root.children].find((other) => other.dataset.symbol > key);
    this.root.insertBefore(cell, next ?? null);
    return cell;
  }

  /** To be called once a frame: however many events came since, a symbol is drawn once. `rate`: flushes a second, or null. */
  draw(rate) {
    const calm = this.#flashes && rate !== null && rate <= CALM;
    for (const { cell, price, opened, isNew } of this.#changed) {
      const moved = (price / opened - 1) * 100;
      cell.lastChild.textContent = price.toFixed(2);
      cell.dataset.moved = Math.sign(moved);
      cell.style.setProperty("--heat", `${Math.min(1, Math.abs(moved) / FULL) * 55}%`);
      cell.title = `${moved.toFixed(2)} % since the page was opened`;
      if (calm && !isNew) cell.animate([{ outlineColor: "var(--flash)" }, { outlineColor: "transparent" }], 450);
    }
    this.#changed.clear();
  }
}
