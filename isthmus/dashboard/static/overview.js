// Alarms and key figures: what a person should see first.

import { byId, el, say } from "./dom.js";
import { age, clock, count, duration, joules, known, percent, rate } from "./format.js";

const KINDS = {
  outage: "Outage", silent: "Silent", throttling: "Throttled", deadline: "Deadlines missed",
  certificate: "Certificate", server: "Server", refusals: "Refusals",
};
// More alarms of a kind than this are one line.
const SINGLY = 3;

// `onSelect` takes a device's key, or null for all that have an alarm.
export function drawAlarms(alarms, nowUnixS, onSelect) {
  const list = byId("alarm-list");
  const rows = alarmRows(alarms);
  // Rebuilt only when something came or went: a button that has the focus keeps it.
  const key = rows.map((row) => row.key).join("\n");
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...rows.map((row) => alarmItem(row, onSelect)));
  }
  rows.forEach((row, index) => {
    const [, what, when] = list.children[index].children;
    say(what.firstChild, row.title);
    say(what.lastChild, ` ${row.text}`);
    say(when, `for ${age(nowUnixS - row.since)}`);
  });
  const total = Object.values(alarms.counts).reduce((sum, each) => sum + each, 0);
  byId("no-alarm").hidden = total > 0;
  drawPassed(alarms.passed);
  return total;
}

function alarmRows({ counts, now }) {
  const rows = new Map();
  for (const alarm of now) {
    const count = counts[alarm.kind];
    const word = KINDS[alarm.kind] ?? alarm.kind;
    if (count <= SINGLY) {
      const key = `${alarm.kind} ${alarm.subject}`;
      rows.set(key, { ...alarm, key, title: `${word}: ${alarm.name}`, since: alarm.since_unix_s });
    } else if (!rows.has(alarm.kind)) {
      const names = now.filter((other) => other.kind === alarm.kind).slice(0, SINGLY).map((other) => other.name);
      const text = `${names.join(", ")} and ${count - names.length} more`;
      rows.set(alarm.kind, { kind: alarm.kind, key: alarm.kind, subject: null, serious: alarm.serious, title: `${word}: ${count} devices`, text, since: alarm.since_unix_s });
    } else {
      const row = rows.get(alarm.kind);
      row.since = Math.min(row.since, alarm.since_unix_s);
    }
  }
  return [...rows.values()];
}

function alarmItem(row, onSelect) {
  const name = el("button", { type: "button", onclick: () => onSelect(row.subject) });
  name.disabled = row.kind === "server" || row.kind === "refusals";
  return el("li", { class: row.serious ? "serious" : "" }, el("span", { class: "mark", "aria-hidden": "true" }), el("span", { class: "what" }, name, el("span")), el("time"));
}

function drawPassed(passed) {
  byId("passed").hidden = passed.length === 0;
  const list = byId("passed-list");
  const key = passed.length ? `${passed.length} ${passed[0].until_unix_s}` : "";
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...passed.map((alarm) => el("li", {},
    `${clock(alarm.since_unix_s)}, for ${age(alarm.until_unix_s - alarm.since_unix_s)}: ${KINDS[alarm.kind] ?? alarm.kind}, ${alarm.name}`)));
}

export function drawFigures(totals) {
  const { outcomes, seconds } = totals;
  const frames = Object.values(outcomes).reduce((sum, each) => sum + each, 0);
  const inTime = outcomes.remote + outcomes.exit + outcomes.local;
  const servers = frames ? outcomes.remote / frames : null;
  const energy = totals.metered
    ? [count(totals.power_w), "W", `${totals.metered === totals.devices ? "" : `${totals.metered} of ${totals.devices} devices, `}${totals.modelled ? (totals.modelled >= totals.metered ? "modelled" : "partly modelled") : "measured"}`]
    : ["–", "", "no meter"];
  const perFrame = totals.metered && frames && totals.metered === totals.devices ? `, ${joules(totals.power_w / (frames / seconds))} a frame` : "";
  const cards = [
    ["Devices live", [String(totals.live), ""], totals.live === totals.devices ? "all that were heard" : `of ${totals.devices} heard`],
    ["Frames", [count(frames / seconds), "/s"], frames ? `${percent(servers)} by servers` : "none now"],
    ["In time", [percent(frames ? inTime / frames : null), ""], frames ? `${outcomes.late} late, ${outcomes.dropped} dropped` : ""],
    ["Latency, median", split(duration(totals.p50_s)), known(totals.p99_s) ? `p99 ${duration(totals.p99_s)}` : ""],
    ["Uplink payload", split(rate(totals.payload_bytes_per_s)), "without headers"],
    ["Power", [energy[0], energy[1]], energy[2] + perFrame],
  ];
  const list = byId("figures");
  if (!list.children.length) {
    list.append(...cards.map(([title]) => el("div", {}, el("dt", {}, title), el("dd", { class: "value" }, el("span"), el("small")), el("dd", { class: "note" }))));
  }
  cards.forEach(([title, [value, unit], note], index) => {
    const [term, dd, extra] = list.children[index].children;
    say(term, title);
    say(dd.firstChild, value);
    say(dd.lastChild, unit);
    say(extra, note);
  });
}

function split(text) {
  const [value, ...unit] = text.split(" ");
  return [value, unit.join(" ")];
}
