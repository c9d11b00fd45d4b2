// Puts what /status.json says into the page that the server made. The server writes all text: here
// numbers go to their places and charts are drawn anew; when anything else has changed
// (`revision`), the page is asked for again and its content takes the place of this one's.
const EVERY = 2000, KEEP = 180, WIDTH = 1000, HEIGHT = 100, NOTHING = "\u2013";

// As in formats.py.
const thousands = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0});
const FORMS = {
  count: v => thousands.format(v),
  rate: v => v < 10 ? v.toFixed(1) : thousands.format(v),
  duration: v => v < 0.00995 ? (v * 1000).toFixed(1).replace(/\.0$/, "") + " ms"
    : v < 0.9995 ? (v * 1000).toFixed(0) + " ms"
    : v < 9.995 ? v.toFixed(2).replace(/\.?0+$/, "") + " s" : v.toFixed(0) + " s",
  share: v => {
    const percent = v * 100;
    if (percent === 0 || percent >= 9.95) return percent.toFixed(0) + " %";
    return percent >= 0.095 ? percent.toFixed(1) + " %" : "< 0.1 %";
  },
  octets: v => {
    for (const unit of ["B/s", "kB/s", "MB/s"]) {
      if (v < 999.5) return v.toFixed(unit === "B/s" || v >= 9.95 ? 0 : 1) + " " + unit;
      v /= 1000;
    }
    return v.toFixed(1) + " GB/s";
  },
  moment: v => new Date(v * 1000).toISOString().slice(0, 19).replace("T", " "),
  age: v => {
    const s = Math.floor(v), m = Math.floor(s / 60), h = Math.floor(m / 60);
    if (s < 60) return s + " s";
    if (m < 60) return m + " min";
    return h < 24 ? h + " h " + m % 60 + " min" : Math.floor(h / 24) + " d " + h % 24 + " h";
  },
};

// As in charts.py.
function top(several) {
  const most = Math.max(0, ...several.flat().filter(v => v));
  for (let step = 1e-3; ; step *= 10)
    for (const factor of [1, 2, 5]) if (step * factor >= most) return step * factor;
}
function places(series, top) {
  const first = KEEP - series.length;
  return series.map((v, n) => [
    Math.round((first + n) * WIDTH / (KEEP - 1)),
    v === null ? null : Math.round(HEIGHT - Math.min(v / top, 1) * HEIGHT),
  ]);
}
function line(series, top) {
  let down = false;
  return places(series, top).map(([x, y]) => {
    const before = down;
    down = y !== null;
    return !down ? "" : before ? `L${x} ${y}` : `M${x} ${y}h0`;
  }).join("");
}
function area(series, top) {
  if (!series.length) return "";
  const at = places(series, top);
  return `M${at[0][0]} ${HEIGHT}` + at.map(([x, y]) => `L${x} ${y === null ? HEIGHT : y}`).join("") +
    `L${WIDTH} ${HEIGHT}Z`;
}

function find(status, path) {
  return path.split(".").reduce((part, name) => part === undefined ? part : part[name], status);
}
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function put(status) {
  for (const place of document.querySelectorAll("[data-v]")) {
    const value = find(status, place.dataset.v);
    if (value !== undefined)
      say(place, value === null ? NOTHING : FORMS[place.dataset.f](value));
  }
  for (const bar of document.querySelectorAll("[data-part]")) {
    const whole = find(status, bar.dataset.whole), part = find(status, bar.dataset.part);
    if (whole > 0) bar.setAttribute("width", Math.round(part / whole * WIDTH));
  }
  for (const chart of document.querySelectorAll("[data-chart]")) {
    const names = chart.dataset.chart.split(" ");
    const scale = top(names.map(name => status.history[name]));
    for (const path of chart.querySelectorAll("path[data-series]"))
      path.setAttribute("d", (path.dataset.draw === "area" ? area : line)(
        status.history[path.dataset.series], scale));
    say(chart.querySelector(".top"), FORMS[chart.dataset.f](scale));
    for (const last of chart.querySelectorAll("[data-last]")) {
      const value = status.history[last.dataset.last].at(-1) ?? null;
      say(last, value === null ? NOTHING : FORMS[chart.dataset.f](value));
    }
  }
  latest = status;
}

let latest = null, wanted = document.body.dataset.revision, asking = false;

async function redraw() {
  const answer = await fetch("/", {cache: "no-store"});
  if (!answer.ok) throw new Error(answer.status);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const open = new Set([...document.querySelectorAll("details[open]")].map(d => d.id));
  for (const details of fresh.querySelectorAll("details")) details.open = open.has(details.id);
  document.querySelector("main").replaceWith(fresh.querySelector("main"));
  document.querySelector("header").replaceWith(fresh.querySelector("header"));
  document.title = fresh.title;
  document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").href;
  wanted = fresh.body.dataset.revision;
}

async function look() {
  if (asking || document.hidden) return;
  asking = true;
  const stop = new AbortController(), patience = setTimeout(() => stop.abort(), 8000);
  try {
    const answer = await fetch("/status.json", {cache: "no-store", signal: stop.signal});
    if (!answer.ok) throw new Error(answer.status);
    const status = await answer.json();
    if (status.revision !== wanted) await redraw();
    put(status);
    live("live", "live");
  } catch {
    live("lost", "no answer, trying again");
  } finally {
    clearTimeout(patience);
    asking = false;
  }
}
function live(state, words) {
  const mark = document.querySelector("#live");
  mark.className = state;
  say(mark, words);
  document.body.classList.toggle("stale", state === "lost");
}

// What a chart says at the place that is pointed at.
function point(event) {
  const chart = event.target.closest?.("[data-chart]");
  for (const other of document.querySelectorAll("[data-chart]")) if (other !== chart) leave(other);
  if (!chart || !latest) return;
  const box = chart.querySelector("svg").getBoundingClientRect();
  const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  const names = chart.dataset.chart.split(" "), length = latest.history[names[0]].length;
  const n = Math.round(part * (KEEP - 1)) - (KEEP - length);
  if (n < 0) return leave(chart);
  const x = Math.round((KEEP - length + n) * WIDTH / (KEEP - 1));
  const cross = chart.querySelector(".cross");
  cross.setAttribute("d", `M${x} 0V${HEIGHT}`);
  chart.classList.add("pointed");
  for (const name of names) {
    const value = latest.history[name][n];
    say(chart.querySelector(`.at[data-name="${name}"]`),
      value === null ? NOTHING : FORMS[chart.dataset.f](value));
  }
  const ago = (length - 1 - n) * latest.history.every;
  say(chart.querySelector(".ago"), ago ? FORMS.age(ago) + " ago" : "now");
}
function leave(chart) {
  chart.classList.remove("pointed");
}

document.addEventListener("pointermove", point);
document.addEventListener("pointerleave", () => document.querySelectorAll("[data-chart]").forEach(leave));
document.addEventListener("visibilitychange", look);
live("live", "live");
setInterval(look, EVERY);
look();
