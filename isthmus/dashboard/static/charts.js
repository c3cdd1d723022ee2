// Charts over the same seconds, one below the other, with one cursor through all of them.

import { el, say, svg } from "./dom.js";
import { known } from "./format.js";

const LEFT = 58;
const RIGHT = 6;
const FOOT = 18;

// `chart`: {title, height, unit(value), legend: [[class, word, is a block]], read(second) → text}.
export class Charts {
  constructor(box, charts) {
    this.box = box;
    this.charts = charts.map((chart) => new Chart(chart));
    box.replaceChildren(...this.charts.map((chart) => chart.figure));
    this.cursor = null;
    this.seconds = 0;
    box.addEventListener("pointermove", (event) => this.point(event));
    box.addEventListener("pointerleave", () => this.move(null));
    box.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.move(Math.min(this.seconds - 1, Math.max(0, (this.cursor ?? this.seconds) + step)));
    });
    box.addEventListener("blur", () => this.move(null));
    new ResizeObserver(() => this.again?.()).observe(box);
  }

  // `specs`: one per chart: {max, ticks, layers, read}; null hides a chart.
  draw(seconds, specs) {
    this.seconds = seconds;
    this.again = () => this.draw(seconds, specs);
    const width = this.box.clientWidth;
    if (!width) return;
    const last = specs.findLastIndex((spec) => spec !== null);
    this.charts.forEach((chart, index) => chart.draw(specs[index], width, seconds, index === last));
    this.move(this.cursor);
  }

  point(event) {
    const x = event.clientX - this.box.getBoundingClientRect().left;
    const plot = this.box.clientWidth - LEFT - RIGHT;
    const second = Math.floor(((x - LEFT) / plot) * this.seconds);
    this.move(second >= 0 && second < this.seconds ? second : null);
  }

  move(second) {
    this.cursor = second;
    this.charts.forEach((chart) => chart.mark(second, this.seconds));
  }
}

class Chart {
  constructor({ title, height, legend }) {
    this.height = height;
    this.reading = el("span");
    const words = legend.map(([name, word, block]) => el("span", { class: "key" }, el("i", { class: `c-${name}${block ? " block" : ""}` }), word));
    this.title = el("div", { class: "title" }, el("b", {}, title), this.reading, el("span", {}, ...words));
    this.svg = svg("svg", { role: "img" });
    this.figure = el("div", { class: "chart" }, this.title, this.svg);
    this.name = title;
  }

  draw(spec, width, seconds, last) {
    this.figure.hidden = spec === null;
    this.spec = spec;
    if (spec === null) return;
    const plot = width - LEFT - RIGHT;
    this.x = (second) => LEFT + (second / seconds) * plot;
    this.y = (value) => 6 + (1 - Math.min(1, Math.max(0, value / spec.max))) * (this.height - 6);
    const height = this.height + (last ? FOOT : 4);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("aria-label", `${this.name}: ${spec.words}`);
    this.line = svg("path", { class: "cursor" });
    this.svg.replaceChildren(...this.axes(spec, width, seconds, last), ...spec.layers.flatMap((layer) => this.layer(layer)), this.line);
  }

  axes(spec, width, seconds, last) {
    const marks = spec.ticks.flatMap(([value, word]) => {
      const y = Math.round(this.y(value)) + 0.5;
      return [svg("path", { class: value ? "axis" : "axis base", d: `M${LEFT} ${y}H${width - RIGHT}` }),
        svg("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, word)];
    });
    if (!last) return marks;
    const step = width < 420 ? 60 : 30;
    for (let before = 0; before <= seconds; before += step) {
      const anchor = before === 0 ? "end" : before === seconds ? "start" : "middle";
      marks.push(svg("text", { x: this.x(seconds - before), y: this.height + FOOT - 3, "text-anchor": anchor }, before ? `−${before} s` : "now"));
    }
    return marks;
  }

  // {kind: "line" | "steps" | "area" | "band" | "bars", class, values, lows, classes}.
  layer(layer) {
    if (layer.kind === "bars") return this.bars(layer);
    const high = layer.values.map((value) => (known(value) ? this.y(value) : null));
    if (layer.kind === "line") return svg("path", { class: layer.class, d: runs(high).map((run) => this.curve(run)).join("") });
    if (layer.kind === "steps") return svg("path", { class: layer.class, d: runs(high).map((run) => this.steps(run)).join("") });
    const low = layer.kind === "area" ? high.map((y) => (y === null ? null : this.y(0))) : layer.lows.map((value) => (known(value) ? this.y(value) : null));
    const shape = layer.kind === "area" ? (run, back) => this.steps(run, back) : (run, back) => this.curve(run, back);
    const d = runs(high).map((run) => {
      const under = run.map(([second]) => [second, low[second]]);
      return `${shape(run)}L${shape(under, true).slice(1)}Z`;
    });
    return svg("path", { class: layer.class, d: d.join("") });
  }

  // Bars that stand on each other; neighbours of one class are one path.
  bars({ values, classes }) {
    const paths = new Map();
    // Narrow bars stand side by side: gaps of less than a pixel would shimmer.
    const gap = this.x(1) - this.x(0) > 4 ? 0.5 : 0;
    values.forEach((stack, second) => {
      let base = 0;
      stack.forEach((value, part) => {
        if (!value) return;
        const name = typeof classes === "function" ? classes(second, part) : classes[part];
        const [x0, x1, y0, y1] = [this.x(second) + gap, this.x(second + 1) - gap, this.y(base), this.y(base + value)];
        base += value;
        paths.set(name, `${paths.get(name) ?? ""}M${x0.toFixed(1)} ${y0.toFixed(1)}H${x1.toFixed(1)}V${y1.toFixed(1)}H${x0.toFixed(1)}Z`);
      });
    });
    return [...paths].map(([name, d]) => svg("path", { class: gap ? name : `${name} crisp`, d }));
  }

  curve(run, back = false) {
    const points = run.map(([second, y]) => `${this.x(second + 0.5).toFixed(1)} ${y.toFixed(1)}`);
    if (run.length === 1) points.push(`${this.x(run[0][0] + 1).toFixed(1)} ${run[0][1].toFixed(1)}`);
    return `M${(back ? points.reverse() : points).join("L")}`;
  }

  steps(run, back = false) {
    const points = run.flatMap(([second, y]) => [`${this.x(second).toFixed(1)} ${y.toFixed(1)}`, `${this.x(second + 1).toFixed(1)} ${y.toFixed(1)}`]);
    return `M${(back ? points.reverse() : points).join("L")}`;
  }

  mark(second, seconds) {
    if (!this.spec || !this.line) return;
    if (second === null) {
      this.line.removeAttribute("d");
      say(this.reading, "");
      return;
    }
    const x = this.x(second + 0.5);
    this.line.setAttribute("d", `M${x} 6V${this.height}`);
    say(this.reading, `−${seconds - second} s: ${this.spec.read(second)}`);
  }
}

// The stretches without a gap, as [[second, y], ...].
function runs(ys) {
  const found = [];
  let run = [];
  ys.forEach((y, second) => {
    if (y !== null) run.push([second, y]);
    else if (run.length) { found.push(run); run = []; }
  });
  if (run.length) found.push(run);
  return found;
}

// The end of an axis: the least of 1, 2 or 5 times a power of ten that holds `most`, and three marks on it.
export function scale(most, word, least = 0) {
  const top = Math.max(most, least) || 1;
  const power = 10 ** Math.floor(Math.log10(top));
  const max = [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((end) => end >= top * 0.999);
  return { max: max * 1.04, ticks: [[0, word(0)], [max / 2, word(max / 2)], [max, word(max)]] };
}

export function spark(values) {
  const seen = values.filter(known);
  const most = Math.max(...seen, 1e-9);
  const ys = values.map((value) => (known(value) ? 28 - (26 * value) / most : null));
  const shift = 120 - values.length;
  const d = runs(ys).map((run) => `M${run.map(([at, y]) => `${at + shift} ${y.toFixed(1)}`).join("L")}`).join("");
  const chart = svg("svg", { class: "spark", viewBox: "0 0 120 30", preserveAspectRatio: "none", "aria-hidden": "true" });
  chart.append(svg("path", { class: "base", d: "M0 29H120" }), svg("path", { d }));
  return chart;
}


