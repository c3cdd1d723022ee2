// One device: its last two minutes, and what it does now.

import { headers } from "./access.js";
import { Charts, scale } from "./charts.js";
import { byId, el, look, say } from "./dom.js";
import { OUTCOMES, OUTCOME_WORDS, ramp } from "./fleet.js";
import { bytes, duration, joules, known, percent, point, rate, UNKNOWN } from "./format.js";

export class DeviceView {
  constructor() {
    this.key = null;
    this.widths = [];
    this.charts = null;
    this.asked = 0;
  }

  select(device) {
    this.key = device?.key ?? null;
    byId("device").hidden = !device;
    if (!device) return;
    say(byId("device-title"), device.name);
    const facts = [device.bundle, device.policy && `policy ${device.policy}`, device.fps && `${device.fps} frames/s from ${device.source}`];
    say(byId("device-facts"), facts.filter(Boolean).join(" · "));
    if (!this.charts || String(this.widths) !== String(device.widths)) {
      this.widths = device.widths;
      this.charts = new Charts(byId("charts"), this.plan());
    }
  }

  plan() {
    const widths = this.widths.map((width, index) => [`w${ramp(index, this.widths.length)}`, `width ${width}`, true]);
    return [
      { title: "Link", height: 118, legend: [["true", "true rate"], ["estimate", "what the agent believes"]] },
      { title: "Operating point", height: 88, legend: [...widths, ["own", "on device", true]] },
      { title: "Latency", height: 118, legend: [["remote", "median"], ["band", "to p95", true], ["deadline", "deadline"]] },
      { title: "Outcomes, frames a second", height: 88, legend: OUTCOMES.map((outcome) => [outcome, OUTCOME_WORDS[outcome], true]) },
      { title: "Power", height: 60, legend: [] },
    ];
  }

  async refresh() {
    if (this.key === null) return;
    const key = this.key;
    const asked = ++this.asked;
    try {
      const answer = await fetch(`api/devices/${key.split("/").map(encodeURIComponent).join("/")}`, { headers: headers() });
      if (!answer.ok || this.key !== key || asked < this.asked) return;
      this.draw(await answer.json());
    } catch {
      // The stream says that the connection is lost.
    }
  }

  draw(d) {
    this.charts.draw(d.seconds, [this.link(d), this.points(d), this.latency(d), outcomes(d), power(d)]);
    this.now(d);
  }

  link(d) {
    const truth = d.link ?? [];
    const most = Math.max(0, ...d.rate.filter(known), ...truth.filter(known));
    const layers = [{ kind: "line", class: "estimate", values: d.rate }];
    if (d.link) layers.unshift({ kind: "area", class: "area", values: truth }, { kind: "steps", class: "true", values: truth });
    return {
      ...scale(most, rate, 1000), layers, words: `the agent believes ${rate(d.rate.findLast(known))}`,
      read: (second) => `${d.link ? `${rate(truth[second])} true, ` : ""}${rate(d.rate[second])} believed`,
    };
  }

  points(d) {
    const most = Math.max(1, ...d.channels);
    // A second without a channel sent, but with frames: the device answered by itself.
    const values = d.channels.map((channels, second) => [d.width[second] < 0 ? 0 : Math.max(channels, most * 0.05)]);
    const classes = (second) => (d.channels[second] > 0 ? `f-w${ramp(d.width[second], this.widths.length)}` : "f-own");
    return {
      max: most * 1.06, ticks: [[0, "0"], [most, `${most} ch`]], layers: [{ kind: "bars", values, classes }],
      words: point(d.now.point, this.widths),
      read: (second) => (d.width[second] < 0 ? UNKNOWN : point([d.width[second], d.channels[second]], this.widths)),
    };
  }

  latency(d) {
    const p95 = d.p95.map(ms), p50 = d.p50.map(ms), deadline = d.deadline.map(ms);
    const most = Math.max(0, ...deadline.filter(known)) * 1.15 || Math.max(...p95.filter(known), 0.01);
    const layers = [{ kind: "band", class: "band", values: p95, lows: p50 }, { kind: "line", class: "median", values: p50 }, { kind: "steps", class: "deadline", values: deadline }];
    return {
      ...scale(most, duration), layers, words: `median ${duration(p50.findLast(known))}, deadline ${duration(deadline.findLast(known))}`,
      read: (second) => (known(p50[second]) ? `${duration(p50[second])} median, ${duration(p95[second])} p95, deadline ${duration(deadline[second])}` : "no answer"),
    };
  }

  now(d) {
    const { now } = d;
    say(byId("now-point"), d.state === "live" ? point(now.point, this.widths) : d.state === "silent" ? "silent" : "the run has ended");
    say(byId("now-reason"), now.reason);
    const rows = [
      ["Last frame", now.frame === null ? UNKNOWN : `${OUTCOME_WORDS[now.outcome]}${now.payload_bytes ? `, ${bytes(now.payload_bytes)}` : ""}`],
      ["Round trip", duration(now.rtt_s)],
      ["Waiting to be sent", bytes(now.backlog_bytes)],
      ["Server", now.server ?? UNKNOWN],
      ["Temperature", known(now.temperature_c) ? `${Math.round(now.temperature_c)} °C${now.throttled ? ", throttled" : ""}` : "no sensor", now.throttled],
      ["Energy", known(now.joules_per_frame) ? `${joules(now.joules_per_frame)} a frame` : "no meter"],
      ...(known(now.power_w) ? [["Meter", `${now.energy_source}${now.energy_source.startsWith("model") ? ", modelled" : ", measured"}`]] : []),
    ];
    const list = byId("now-facts");
    if (list.children.length !== 2 * rows.length) list.replaceChildren(...rows.flatMap(([word]) => [el("dt", {}, word), el("dd")]));
    rows.forEach(([, text, bad], index) => {
      say(list.children[2 * index + 1], text);
      look(list.children[2 * index + 1], bad ? "bad" : "");
    });
    drawStages(now.stages);
  }
}

function outcomes(d) {
  const most = Math.max(1, ...d.outcomes.map((stack) => stack.reduce((sum, each) => sum + each, 0)));
  return {
    ...scale(most, (value) => String(Math.round(value * 10) / 10)),
    layers: [{ kind: "bars", values: d.outcomes, classes: OUTCOMES.map((outcome) => `f-${outcome}`) }],
    words: `in the last second ${OUTCOMES.map((outcome, at) => `${d.outcomes.at(-1)[at]} ${OUTCOME_WORDS[outcome]}`).join(", ")}`,
    read: (second) => OUTCOMES.map((outcome, at) => [d.outcomes[second][at], OUTCOME_WORDS[outcome]]).filter(([n]) => n).map(([n, word]) => `${n} ${word}`).join(", ") || "no frame",
  };
}

function power(d) {
  if (!d.power.some(known)) return null;
  const word = (value) => `${Number(value.toFixed(2))} W`;
  return {
    ...scale(Math.max(...d.power.filter(known)), word), layers: [{ kind: "line", class: "power", values: d.power }],
    words: word(d.power.findLast(known)), read: (second) => (known(d.power[second]) ? word(d.power[second]) : UNKNOWN),
  };
}

function drawStages(stages) {
  const total = stages.reduce((sum, [, , seconds]) => sum + seconds, 0);
  byId("stages").hidden = byId("stages-title").hidden = total === 0;
  const bar = byId("stages"), list = byId("stage-list");
  const key = stages.map(([name]) => name).join(" ");
  if (bar.dataset.key !== key) {
    bar.dataset.key = key;
    // Stages of one place share a hue; two shades take turns, as in reports.
    const turns = {};
    const marks = stages.map(([, where]) => `s-${where}${(turns[where] = (turns[where] ?? -1) + 1) % 2}`);
    bar.replaceChildren(...marks.map((mark) => el("i", { class: mark })));
    list.replaceChildren(...stages.map(([name, where], at) => el("li", { title: where }, el("span", {}, el("i", { class: marks[at] }), name), el("span"))));
  }
  stages.forEach(([, , seconds], index) => {
    bar.children[index].style.width = `${(100 * seconds) / total}%`;
    say(list.children[index].lastChild, `${duration(seconds)} · ${percent(seconds / total)}`);
  });
}

function ms(tenths) {
  return known(tenths) ? tenths / 1e4 : null;
}
