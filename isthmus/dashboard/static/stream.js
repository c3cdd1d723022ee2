// Server-sent events by fetch, because EventSource cannot carry a token. Reconnects for ever, and lets go while
// nobody looks at the page.

import { headers } from "./access.js";

const PATIENCE_MS = 6000;
const LONGEST_PAUSE_MS = 5000;

export class Stream {
  // `handlers`: message(kind, data), state("live" | "lost" | "refused", why).
  constructor(handlers) {
    this.handlers = handlers;
    this.abort = null;
    this.running = false;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.abort?.abort();
      else this.start();
    });
  }

  async start() {
    if (this.running) return;
    this.running = true;
    let pause = 300;
    while (!document.hidden) {
      const began = performance.now();
      const why = await this.once();
      if (document.hidden) break;
      if (why === "refused") {
        this.handlers.state("refused", "");
        break;
      }
      this.handlers.state("lost", why);
      pause = performance.now() - began > 5000 ? 300 : Math.min(LONGEST_PAUSE_MS, pause * 2);
      await new Promise((done) => setTimeout(done, pause));
    }
    this.running = false;
  }

  // Read until the stream ends; return why it did.
  async once() {
    this.abort = new AbortController();
    let watchdog = setTimeout(() => this.abort.abort(), PATIENCE_MS);
    try {
      const answer = await fetch("api/stream", { headers: headers(), signal: this.abort.signal });
      if (answer.status === 401) return "refused";
      if (!answer.ok) return (await answer.text()).trim();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return "the dashboard has stopped";
        clearTimeout(watchdog);
        watchdog = setTimeout(() => this.abort.abort(), PATIENCE_MS);
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        parts.forEach((part) => this.take(part));
      }
    } catch {
      return "the dashboard cannot be reached";
    } finally {
      clearTimeout(watchdog);
    }
  }

  take(part) {
    const said = /^event: (\w+)\ndata: ([^]*)$/.exec(part);
    if (!said) return;
    this.handlers.state("live", "");
    try {
      this.handlers.message(said[1], JSON.parse(said[2]));
    } catch (error) {
      reportError(error);  // a mistake of the page is no lost connection
    }
  }
}
