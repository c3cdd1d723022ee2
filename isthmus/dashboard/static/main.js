// The page: what comes over the stream, and where it goes.

import { rights, setToken, token, tokenFromAddress } from "./access.js";
import { DeviceView } from "./device.js";
import { byId, say } from "./dom.js";
import { Fleet } from "./fleet.js";
import { age, clock, duration, known, rate } from "./format.js";
import { Knobs } from "./knobs.js";
import { drawAlarms, drawFigures } from "./overview.js";
import { drawServers } from "./servers.js";
import { Stream } from "./stream.js";

// After a knob was turned the device is looked at more often: the effect shows at once.
const CLOSER_LOOKS = 15;
const CLOSER_LOOK_MS = 200;

const view = new DeviceView();
const fleet = new Fleet((key) => select(key, true));
const knobs = new Knobs(lookCloser);
let roster = [];
let lastTick = null;
let lostSince = null;
let closer = 0;

const stream = new Stream({
  state(state, why) {
    if (state === "live") lostSince = null;
    else lostSince ??= Date.now();
    if (state === "refused") askForToken(true);
    document.body.classList.toggle("stale", state !== "live");
    byId("status").className = `status ${state === "live" ? "live" : "lost"}`;
    showStatus(state, why);
  },
  message(kind, data) {
    if (kind === "roster") takeRoster(data);
    else if (kind === "tick") draw(data);
  },
});

function showStatus(state, why) {
  const text = state === "live" ? "live" : state === "refused" ? "needs the token" : `no connection for ${age((Date.now() - lostSince) / 1e3)}: ${why}`;
  say(byId("status-text"), text);
}

function takeRoster(data) {
  roster = data.devices;
  fleet.setRoster(roster);
  const selected = roster.find((device) => device.key === fleet.selected) ?? roster[0];
  select(selected?.key ?? null, false);
  say(byId("foot"), `Isthmus ${data.version}. Figures of the last 5 seconds, charts of the last 2 minutes; running since ${clock(data.began_unix_s)}.`);
}

function select(key, go) {
  const device = roster.find((each) => each.key === key);
  if (!device && key !== null) return;
  fleet.selected = key;
  view.select(device);
  view.refresh();
  fleet.draw(fleet.columns);
  if (go) byId("device").scrollIntoView({ block: "nearest" });
}

function showAlarmed() {
  byId("show").value = "alarm";
  fleet.draw(fleet.columns);
  byId("fleet").scrollIntoView({ block: "start" });
}

function draw(tick) {
  const began = performance.now();
  lastTick = tick;
  const alarms = drawAlarms(tick.alarms, tick.unix_s, (subject) => (subject === null ? showAlarmed() : select(subject, true)));
  document.title = alarms ? `(${alarms}) Isthmus dashboard` : "Isthmus dashboard";
  drawFigures(tick.totals);
  fleet.draw(tick.devices);
  knobs.draw(tick.controls, beliefs(tick));
  drawServers(tick.servers, tick.unix_s);
  byId("empty").hidden = roster.length > 0 || tick.servers.length > 0;
  byId("figures").hidden = !byId("empty").hidden;
  view.refresh();
  // For whoever measures the page (benchmarks/dashboard.py).
  performance.measure("tick", { start: began, end: performance.now() });
}

// What stands on the sliders' scales beside the knob: what the selected device believes, and achieves.
function beliefs(tick) {
  const at = roster.findIndex((device) => device.key === fleet.selected);
  if (at < 0 || tick.devices.state[at] !== "live") return {};
  const believed = tick.devices.rate[at];
  const p95 = tick.devices.p95[at];
  return {
    rate_bytes_per_s: { value: believed, text: known(believed) ? `the agent believes ${rate(believed)}` : "" },
    deadline_s: { value: known(p95) ? p95 / 1e4 : null, text: known(p95) ? `95 % of answers take less than ${duration(p95 / 1e4)}` : "" },
  };
}

async function lookCloser() {
  const running = closer > 0;
  closer = CLOSER_LOOKS;
  if (running) return;
  while (closer > 0) {
    closer -= 1;
    await Promise.all([view.refresh(), new Promise((done) => setTimeout(done, CLOSER_LOOK_MS))]);
  }
}

async function showRights() {
  let may = { read: true, steer: false, token: false };
  try {
    may = await rights();
  } catch {
    return;
  }
  knobs.allow(may.steer);
  const lock = byId("lock");
  lock.hidden = !may.token;
  say(lock, may.steer ? "Lock" : "Unlock");
  if (lastTick) knobs.draw(lastTick.controls, beliefs(lastTick));
  return may;
}

function askForToken(needed) {
  byId("unlock").hidden = false;
  byId("unlock-cancel").hidden = needed;
  byId("token").focus();
}

byId("lock").addEventListener("click", async () => {
  if (byId("lock").textContent === "Unlock") {
    askForToken(false);
    return;
  }
  setToken(null);
  await showRights();
});
byId("unlock-cancel").addEventListener("click", () => { byId("unlock").hidden = true; });
byId("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  const before = token();
  setToken(byId("token").value.trim());
  const may = await showRights();
  byId("token").value = "";
  if (may?.steer) {
    say(byId("unlock-error"), "");
    byId("unlock").hidden = true;
    stream.start();
    return;
  }
  setToken(before);
  await showRights();
  say(byId("unlock-error"), may ? "That is not the token." : "The dashboard cannot be reached.");
});
addEventListener("hashchange", async () => { tokenFromAddress(); await showRights(); });

tokenFromAddress();
showRights();
stream.start();
