// The devices: cards when they are few, a mosaic when they are many. One listbox with one tab stop; the arrow
// keys move in it. A tick changes only what has changed.

import { byId, el, look, say } from "./dom.js";
import { duration, known, percent, point, rate } from "./format.js";

export const OUTCOMES = ["remote", "exit", "local", "late", "dropped"];
export const OUTCOME_WORDS = {
  remote: "server", exit: "early exit", local: "device alone", late: "late", dropped: "dropped",
};
const MOST_CARDS = 12;

export class Fleet {
  constructor(onSelect) {
    this.onSelect = onSelect;
    this.roster = [];
    this.tiles = [];
    this.columns = null;
    this.selected = null;
    this.focused = 0;
    this.box = byId("tiles");
    for (const id of ["find", "show", "colour"]) byId(id).addEventListener("input", () => this.draw(this.columns));
    this.box.addEventListener("click", (event) => this.pick(event.target.closest("[role=option]")));
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("pointerover", (event) => this.peek(event.target.closest("[role=option]")));
    this.box.addEventListener("focusin", (event) => this.peek(event.target.closest("[role=option]")));
  }

  setRoster(devices) {
    const same = devices.length === this.tiles.length && devices.every((device, i) => device.key === this.roster[i].key);
    this.roster = devices;
    this.columns = null;  // those at hand are of the roster before
    this.cards = devices.length <= MOST_CARDS;
    if (!same) {
      this.box.className = this.cards ? "cards" : "mosaic";
      this.tiles = devices.map((device, index) => this.cards ? card(index) : el("button", { class: "tile", role: "option", tabindex: "-1", "data-index": index }));
      this.box.replaceChildren(...this.tiles);
      this.focused = 0;
      this.tiles[0]?.setAttribute("tabindex", "0");
    }
    this.tiles.forEach((tile, index) => {
      if (this.cards) say(tile.querySelector(".called"), devices[index].name);
      else tile.setAttribute("aria-label", devices[index].name);
    });
    byId("colour-by").hidden = this.cards;
  }

  draw(columns) {
    if (!columns) return;
    this.columns = columns;
    const by = this.cards ? "outcome" : byId("colour").value;
    const wanted = byId("find").value.trim().toLowerCase();
    const show = byId("show").value;
    let shown = 0;
    this.tiles.forEach((tile, index) => {
      const away = !this.matches(index, wanted, show);
      shown += away ? 0 : 1;
      const colour = this.colour(index, by);
      const alarm = ["", " alarm", " serious"][columns.alarm[index]];
      if (this.cards) this.fillCard(tile, index, `tile ${colour}${alarm}`, away);
      else look(tile, `tile ${colour}${alarm}${away ? " away" : ""}`);
      const selected = String(this.roster[index].key === this.selected);
      if (tile.getAttribute("aria-selected") !== selected) tile.setAttribute("aria-selected", selected);
    });
    byId("fleet").hidden = this.roster.length < 2;
    say(byId("fleet-title"), shown === this.roster.length ? `${shown} devices` : `${shown} of ${this.roster.length} devices`);
    drawLegend(this.cards ? null : by, this.widths());
    this.peek(this.peeked);
  }

  widths() {
    return this.roster.find((device) => device.widths.length)?.widths ?? [];
  }

  matches(index, wanted, show) {
    const { state, alarm } = this.columns;
    if (wanted && !this.roster[index].name.toLowerCase().includes(wanted)) return false;
    return show === "all" || (show === "alarm" ? alarm[index] > 0 : state[index] === show);
  }

  colour(index, by) {
    const { state, outcomes, p95, deadline, point: points } = this.columns;
    if (state[index] !== "live") return state[index];
    if (by === "width") return points[index] ? `w${ramp(points[index][0], this.roster[index].widths.length)}` : "";
    if (by === "latency") {
      if (!known(p95[index]) || !known(deadline[index])) return "";
      const share = p95[index] / deadline[index];
      return `l${share > 1 ? 4 : Math.min(3, Math.floor(share * 4))}`;
    }
    const most = Math.max(...outcomes[index]);
    return most ? OUTCOMES[outcomes[index].indexOf(most)] : "";
  }

  describe(index) {
    const c = this.columns;
    const words = [this.roster[index].name];
    if (c.state[index] !== "live") return `${words[0]}: ${c.state[index] === "silent" ? "silent" : "its run has ended"}`;
    const frames = c.outcomes[index].reduce((sum, each) => sum + each, 0);
    words.push(point(c.point[index], this.roster[index].widths));
    if (known(c.p95[index])) words.push(`p95 ${duration(c.p95[index] / 1e4)} of ${duration(c.deadline[index] / 1e4)}`);
    words.push(rate(c.rate[index]));
    if (frames) words.push(`${percent(c.outcomes[index][0] / frames)} by a server`);
    return words.join(" · ");
  }

  fillCard(tile, index, mark, away) {
    const c = this.columns;
    look(tile, away ? "card away" : "card");
    look(tile.querySelector(".tile"), mark);
    say(tile.querySelector(".state"), c.state[index]);
    const [pointLine, latencyLine] = tile.querySelectorAll(".line");
    say(pointLine.firstChild, point(c.point[index], this.roster[index].widths));
    say(pointLine.lastChild, rate(c.rate[index]));
    const [low, high, end] = [c.p50[index], c.p95[index], c.deadline[index]];
    say(latencyLine.firstChild, known(low) ? `${duration(low / 1e4)} median` : "no answer now");
    say(latencyLine.lastChild, known(end) ? `of ${duration(end / 1e4)}` : "");
    const [wide, narrow] = tile.querySelectorAll(".meter i");
    wide.style.width = known(high) && end ? `${Math.min(100, (100 * high) / end)}%` : "0";
    look(wide, known(high) && high > end ? "over" : "p95");
    narrow.style.width = known(low) && end ? `${Math.min(100, (100 * low) / end)}%` : "0";
    const parts = tile.querySelectorAll(".share i");
    OUTCOMES.forEach((_, at) => { parts[at].style.flexGrow = c.outcomes[index][at]; parts[at].hidden = !c.outcomes[index][at]; });
  }

  peek(tile) {
    this.peeked = tile ?? this.peeked;
    const at = this.peeked ? Number(this.peeked.dataset.index) : -1;
    byId("peek").hidden = this.cards;
    say(byId("peek"), at >= 0 && at < this.roster.length ? this.describe(at) : "Point at a device, or move with the arrow keys.");
  }

  pick(tile) {
    if (!tile) return;
    this.focus(Number(tile.dataset.index));
    this.onSelect(this.roster[this.focused].key);
  }

  focus(index) {
    this.tiles[this.focused]?.setAttribute("tabindex", "-1");
    this.focused = index;
    this.tiles[index].setAttribute("tabindex", "0");
    this.tiles[index].focus({ preventScroll: false });
  }

  key(event) {
    const shown = this.tiles.map((tile, index) => index).filter((index) => !this.tiles[index].classList.contains("away"));
    if (!shown.length) return;
    const across = getComputedStyle(this.box).gridTemplateColumns.split(" ").length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across };
    const at = Math.max(0, shown.indexOf(this.focused));
    let to = null;
    if (event.key in steps) to = Math.min(shown.length - 1, Math.max(0, at + steps[event.key]));
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = shown.length - 1;
    if (to === null) return;
    event.preventDefault();
    this.focus(shown[to]);
  }
}

// Where a width lies on the colours' ramp, which ends at the smallest and the largest.
export function ramp(index, widths) {
  return Math.min(3, Math.round((3 * index) / Math.max(widths - 1, 1)));
}

function card(index) {
  return el("button", { class: "card", role: "option", tabindex: "-1", "data-index": index },
    el("span", { class: "name" }, el("span", { class: "tile" }), el("span", { class: "called" }), el("span", { class: "state" })),
    el("span", { class: "line" }, el("span"), el("span")),
    el("span", { class: "line" }, el("span"), el("span")),
    el("span", { class: "meter" }, el("i"), el("i", { class: "p50" })),
    el("span", { class: "share" }, ...OUTCOMES.map((outcome) => el("i", { class: `${outcome}-bg` }))));
}

function drawLegend(by, widths) {
  const list = byId("legend");
  const key = `${by} ${widths}`;
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const marks = [["silent", "silent"], ["ended", "ended"], ["alarm", "alarm"], ["serious", "serious alarm"]];
  const entries = {
    outcome: OUTCOMES.map((outcome) => [outcome, OUTCOME_WORDS[outcome]]),
    latency: [["l0", "p95 below ¼ of the deadline"], ["l1", "below ½"], ["l2", "below ¾"], ["l3", "in time"], ["l4", "late"]],
    width: widths.map((width, index) => [`w${ramp(index, widths.length)}`, `width ${width}`]),
  };
  const shown = by === null ? [...OUTCOMES.map((outcome) => [outcome, OUTCOME_WORDS[outcome]]), ...marks.slice(2)] : [...entries[by], ...marks];
  list.replaceChildren(...shown.map(([name, word]) => el("li", {}, el("span", { class: `tile ${name}` }), word)));
}
