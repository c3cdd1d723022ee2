// Numbers as people read them; null and undefined are unknown. The units are those of the command line.

export const UNKNOWN = "–";

function short(value) {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}

export function known(value) {
  return value !== null && value !== undefined;
}

export function bytes(count) {
  if (!known(count)) return UNKNOWN;
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (Math.abs(count) >= size) return `${short(count / size)} ${unit}`;
  }
  return `${short(count)} B`;
}

export function rate(bytesPerS) {
  return known(bytesPerS) ? `${bytes(bytesPerS)}/s` : UNKNOWN;
}

export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds >= 120) return `${Math.floor(seconds / 60)} m ${Math.round(seconds % 60)} s`;
  if (seconds >= 1) return `${short(seconds)} s`;
  if (seconds >= 1e-3 || seconds === 0) return `${short(seconds * 1e3)} ms`;
  return `${short(seconds * 1e6)} µs`;
}

// How long something lasts, for people who look at it while it does.
export function age(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
  return `${Math.floor(whole / 86400)} days`;
}

export function clock(unixS) {
  return new Date(unixS * 1e3).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function count(value) {
  return known(value) ? short(value) : UNKNOWN;
}

export function percent(share) {
  if (!known(share)) return UNKNOWN;
  if (share > 0 && share < 0.005) return "<1 %";
  if (share > 0.999 && share < 1) return ">99.9 %";
  return `${Number((100 * share).toFixed(share > 0.99 && share < 1 ? 1 : 0))} %`;
}

export function joules(value) {
  if (!known(value)) return UNKNOWN;
  return value >= 1 ? `${short(value)} J` : `${short(value * 1e3)} mJ`;
}

// "0.75 × 8": how much of the head was computed, and how many channels were sent.
export function point(pair, widths) {
  if (!pair) return UNKNOWN;
  const [index, channels] = pair;
  const width = widths && index < widths.length ? String(widths[index]) : `#${index}`;
  return channels ? `width ${width} · ${channels} ch` : `on device · width ${width}`;
}
