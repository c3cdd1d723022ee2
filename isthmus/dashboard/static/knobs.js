// The sliders: what they show comes from the process that is steered, unless somebody is just moving one.

import { headers } from "./access.js";
import { byId, el, say } from "./dom.js";
import { duration, known, rate } from "./format.js";

const STEPS = 1000;
const HANDS_OFF_MS = 1500;

// Per knob: words, the scale's ends (logarithmic; the link's has 0 at its left end), and marks on it.
const KNOBS = {
  rate_bytes_per_s: {
    word: "Rate of the emulated link", text: (value) => (value === 0 ? "cut" : known(value) ? rate(value) : "no limit"), low: 200, high: 2e6, zero: true,
    marks: [[0, "cut"], [1e3, "1 kB/s"], [1e4, "10"], [1e5, "100"], [1e6, "1 MB/s"]], back: "Follow the trace", origin: (name) => `by the trace ${name}`,
  },
  deadline_s: {
    word: "Deadline", text: duration, low: 0.005, high: 1, zero: false,
    marks: [[0.01, "10 ms"], [0.03, "30"], [0.1, "100 ms"], [0.3, "300"], [1, "1 s"]], back: "As at the start", origin: () => "as at the start",
  },
};
const FLOOR = 40;  // of STEPS: what lies below it is 0

export function toPlace(value, { low, high, zero }) {
  if (zero && value <= 0) return 0;
  const floor = zero ? FLOOR : 0;
  const share = Math.log(Math.min(high, Math.max(low, value)) / low) / Math.log(high / low);
  return floor + share * (STEPS - floor);
}

export function toValue(place, { low, high, zero }) {
  const floor = zero ? FLOOR : 0;
  if (zero && place < floor / 2) return 0;
  const value = low * (high / low) ** (Math.max(0, place - floor) / (STEPS - floor));
  return Number(value.toPrecision(3));
}

export class Knobs {
  // `changed` is called when a knob was turned.
  constructor(changed) {
    this.changed = changed;
    this.knobs = new Map();
    this.may = false;
  }

  allow(may) {
    this.may = may;
    for (const knob of this.knobs.values()) knob.enable(may);
  }

  draw(controls, beliefs) {
    const wanted = controls.flatMap((control) => control.knobs.filter((knob) => knob.name in KNOBS).map((knob) => ({ control, knob })));
    byId("controls").hidden = wanted.length === 0;
    say(byId("controls-note"), this.may ? "The agents feel it at once." : "Read-only: unlock with the token to move them.");
    const keys = wanted.map(({ control, knob }) => `${control.id} ${knob.name}`);
    if (String([...this.knobs.keys()]) !== String(keys)) {
      this.knobs = new Map(wanted.map(({ control, knob }, at) => [keys[at], new Knob(control, knob, this.changed)]));
      byId("knobs").replaceChildren(...[...this.knobs.values()].map((knob) => knob.box));
      this.allow(this.may);
    }
    wanted.forEach(({ control, knob }, at) => this.knobs.get(keys[at]).show(knob, control.name, beliefs[knob.name]));
  }
}

class Knob {
  constructor(control, { name }, changed) {
    this.id = control.id;
    this.name = name;
    this.kind = KNOBS[name];
    this.changed = changed;
    this.touched = -Infinity;
    this.next = undefined;
    this.sending = false;
    const id = `knob-${control.id}-${name}`;
    this.slider = el("input", { id, type: "range", min: 0, max: STEPS, step: 1, oninput: () => this.move() });
    this.output = el("output", { for: id });
    this.origin = el("span", { class: "origin" });
    this.back = el("button", { type: "button", class: "quiet", onclick: () => this.send(null) }, this.kind.back);
    this.mark = el("i", { hidden: true });
    this.told = el("p", { class: "told" });
    const scale = el("div", { class: "scale", "aria-hidden": "true" }, ...this.kind.marks.map(([value, word]) => {
      const label = el("span", {}, word);
      label.style.left = `${toPlace(value, this.kind) / 10}%`;
      return label;
    }));
    const track = el("div", { class: "track" }, this.slider, el("div", { class: "belief", "aria-hidden": "true" }, this.mark), scale);
    const word = control.kind === "agent" ? `${this.kind.word} of ${control.name}` : this.kind.word;
    this.box = el("div", { class: "knob" }, el("div", { class: "top" }, el("label", { for: id }, word), this.output, this.origin), track, el("div", { class: "below" }, this.told, this.back));
  }

  enable(may) {
    this.slider.disabled = !may;
    this.back.hidden = !may;
  }

  show({ value, is_set: isSet }, name, belief) {
    if (known(belief?.value)) {
      this.mark.hidden = false;
      this.mark.style.left = `${toPlace(belief.value, this.kind) / 10}%`;
    }
    say(this.told, belief ? belief.text : "");
    if (performance.now() - this.touched < HANDS_OFF_MS || this.sending) return;
    this.place(value);
    say(this.origin, isSet ? "set here" : this.kind.origin(name));
    this.back.disabled = !isSet;
  }

  place(value) {
    if (known(value)) this.slider.value = toPlace(value, this.kind);
    this.word(value);
  }

  word(value) {
    say(this.output, this.kind.text(value));
    this.slider.setAttribute("aria-valuetext", this.kind.text(value));
  }

  move() {
    const value = toValue(Number(this.slider.value), this.kind);
    this.word(value);
    this.send(value);
  }

  // One request at a time; what is moved meanwhile is sent after it.
  async send(value) {
    this.touched = value === null ? -Infinity : performance.now();
    this.next = value;
    if (this.sending) return;
    this.sending = true;
    while (this.next !== undefined) {
      const wish = { [this.name]: this.next };
      this.next = undefined;
      try {
        const answer = await fetch(`api/controls/${this.id}`, { method: "POST", body: JSON.stringify(wish), headers: headers({ "Content-Type": "application/json" }) });
        say(this.origin, answer.ok ? "set here" : (await answer.text()).trim());
        if (answer.ok) {
          const [knob] = (await answer.json()).knobs.filter((each) => each.name === this.name);
          this.back.disabled = !knob.is_set;
          if (wish[this.name] === null) { this.place(knob.value); say(this.origin, ""); }
        }
      } catch {
        say(this.origin, "the dashboard cannot be reached");
      }
      this.changed();
    }
    this.sending = false;
  }
}
