// The servers, by what Prometheus would read: rates, batches, queues and waits of every model.

import { spark } from "./charts.js";
import { byId, el, say } from "./dom.js";
import { age, count, duration, known, percent, rate } from "./format.js";

export function drawServers(servers, nowUnixS) {
  byId("servers").hidden = servers.length === 0;
  const list = byId("server-list");
  const key = servers.map((server) => [server.url, ...server.models.map((model) => model.name)].join(" ")).join("\n");
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...servers.map(serverPanel));
  }
  servers.forEach((server, index) => fillServer(list.children[index], server, nowUnixS));
}

function serverPanel(server) {
  return el("article", { class: "server" }, el("div", { class: "name" }, new URL(server.url).host, el("span"), el("span", { class: "bad" })),
    ...server.models.map((model) => el("dl", { class: "model" }, el("div", { class: "who" }, model.name, " ", el("span")),
      ...FIGURES.map(([title]) => el("div", {}, el("dt", {}, title), el("dd", {}, el("span"), el("small")))))));
}

// Title, text, small print, and which of the chart's columns to draw.
const FIGURES = [
  ["Frames", (m) => (known(m.frames_per_s) ? `${count(m.frames_per_s)}/s` : "–"), (m) => ` ${rate(m.bytes_in_per_s)} in`, 0],
  ["Latents a batch", (m) => count(m.batch), () => "", 1],
  ["Waiting", (m) => count(m.queued), () => " latents", 2],
  ["Queue", (m) => duration(m.stages.queue.p50), (m) => ` p99 ${duration(m.stages.queue.p99)}`, null],
  ["At the server", (m) => duration(m.stages.total.p50), (m) => ` p99 ${duration(m.stages.total.p99)}`, null],
  ["Computing", (m) => percent(m.busy), () => " of the time", null],
];

function fillServer(panel, server, nowUnixS) {
  const [facts, trouble] = panel.firstChild.querySelectorAll("span");
  const left = known(server.certificate_end_unix_s) ? server.certificate_end_unix_s - nowUnixS : null;
  say(facts, left === null ? "plain text" : left > 0 ? `certificate valid for ${age(left)}` : "certificate expired");
  say(trouble, server.trouble ? `cannot be read: ${server.trouble}` : "");
  server.models.forEach((model, index) => {
    const [who, ...cells] = panel.children[index + 1].children;
    const refused = Object.entries(model.outcomes_per_s).filter(([outcome, each]) => outcome !== "ok" && each > 0);
    say(who.lastChild, [model.provider ?? "not loaded", ...refused.map(([outcome, each]) => `${count(each)}/s ${outcome}`)].join(" · "));
    FIGURES.forEach(([, text, small, column], at) => {
      const [value, extra] = cells[at].querySelector("dd").children;
      say(value, text(model));
      say(extra, small(model));
      if (column === null) return;
      cells[at].querySelector("svg")?.remove();
      cells[at].append(spark(model.chart.map((row) => row[column])));
    });
  });
}
