// Instants: UTC, as text of the format.

const instantOf = (source, seq) => ((sources.get(source) || {}).instants || {})[seq];
const milliseconds = (instant) => Date.parse(instant.replace(/\.(\d{3})\d*Z$/, ".$1Z"));
const minute = (instant) => instant.slice(0, 16).replace("T", " ");
const day = (instant) => instant.slice(0, 10);

const stamp = (instant, short = minute) =>
  instant ? h("time", { datetime: instant, title: `${instant.replace("T", " ").replace("Z", "")} UTC` }, short(instant)) : null;

// A load, and when it was: `load 12, 2026-11-22`.
const loadAt = (source, seq, short = day) =>
  seq === undefined || seq === null ? null
    : h("span", { class: "load" }, `load ${number(seq)}`, instantOf(source, seq) ? [" · ", stamp(instantOf(source, seq), short)] : null);

const newestOf = (source) => (source.head ? source.instants[source.head] : null);
