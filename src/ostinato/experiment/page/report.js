// The page: reads the data beside it, draws one chart per metric, follows the controls; on a live page, asks for more.
const $ = id => document.getElementById(id);
const view = {
  axis: "step", log: false, smoothing: 0, seeds: true, range: null, hidden: new Set(), colors: {}, font: "sans-serif",
  zoom(range) { view.range = range; $("whole").hidden = range === null; redraw(); },
  place(v) { return view.axis === "seconds" ? duration(v) : number(v, 3); },
};
let data, charts = [];

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["surface", "ink", "muted", "hair", "grid", "accent", "bad", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"])
    view.colors[name] = style.getPropertyValue("--" + name).trim();
  view.font = style.getPropertyValue("--text");
}

function decode(found) {
  const sums = steps => { let at = 0; return steps.map(d => at += d); };
  for (const chart of found.charts) for (const one of [...chart.lines, ...chart.bands]) one.step = sums(one.step);
  return found;
}

// Where a step lies on the axis: by the run's clock, straight between its marks.
function locate(run, step) {
  if (view.axis === "step") return step;
  const steps = run.clock.step, values = run.clock[view.axis];
  if (!steps.length) return step;
  let low = 0, high = steps.length - 1;
  while (low < high) { const mid = (low + high) >> 1; if (steps[mid] < step) low = mid + 1; else high = mid; }
  if (low === 0 || steps[low] <= step) return values[low];
  const part = (step - steps[low - 1]) / (steps[low] - steps[low - 1]);
  return values[low - 1] + part * (values[low] - values[low - 1]);
}

// An exponential average without the pull of its start; gaps stay gaps.
function smooth(values) {
  let sum = 0, weight = 0;
  return values.map(v => {
    if (v === null) return null;
    sum = view.smoothing * sum + (1 - view.smoothing) * v; weight = view.smoothing * weight + (1 - view.smoothing);
    return sum / weight;
  });
}

const banded = run => view.seeds && data.groups.some(group => group.runs.includes(run));
const shown = id => !view.hidden.has(id);

function seriesOf(chart) {
  const found = [], covered = new Set();
  const add = (one, run, id, label) => {
    const x = one.step.map(step => locate(data.runs[run], step));
    const base = { label, color: view.colors["c" + run % 8], dashed: run >= 8, x, steps: one.step, y: one.value, low: one.low, high: one.high, error: one.error, dots: chart.held_out };
    if (!view.smoothing || chart.held_out) { found.push(base); return; }  // evaluations are few, and exact
    if (!one.low) found.push({ ...base, faint: true, error: undefined });
    found.push({ ...base, y: smooth(one.value), low: one.low && smooth(one.low), high: one.high && smooth(one.high), error: undefined, dots: false });
  };
  if (view.seeds) for (const band of chart.bands) if (band.step.length) {
    const group = data.groups[band.group];
    group.runs.forEach(run => covered.add(run));
    if (shown("g" + band.group)) add(band, group.runs[0], "g" + band.group, group.label);
  }
  for (const line of chart.lines) {
    const group = view.seeds ? data.groups.findIndex(g => g.runs.includes(line.run)) : -1;
    if (covered.has(line.run)) { rest(chart, line, group, found); continue; }
    if (shown(group >= 0 ? "g" + group : "r" + line.run)) add(line, line.run, "r" + line.run, data.runs[line.run].label);
  }
  return found;
}

// A seed that went on when there was no other to take a mean with.
function rest(chart, line, group, found) {
  const band = chart.bands.find(b => b.group === group);
  const from = line.step.findIndex(step => step > band.step[band.step.length - 1]);
  if (from < 0 || !shown("g" + group)) return;
  const first = Math.max(0, from - 1), x = line.step.slice(first).map(step => locate(data.runs[line.run], step));
  found.push({ label: data.runs[line.run].label + " alone", color: view.colors["c" + data.groups[group].runs[0] % 8], dashed: false, thin: true,
    x, steps: line.step.slice(first), y: view.smoothing && !chart.held_out ? smooth(line.value).slice(first) : line.value.slice(first) });
}

function marksOf(chart) {
  const found = [];
  for (const line of chart.lines) {
    const group = view.seeds ? data.groups.findIndex(g => g.runs.includes(line.run)) : -1;
    if (!shown(group >= 0 ? "g" + group : "r" + line.run)) continue;
    for (const mark of data.runs[line.run].marks)
      found.push({ ...mark, x: locate(data.runs[line.run], mark.step), color: view.colors["c" + line.run % 8],
        text: (data.runs.length > 1 ? data.runs[line.run].label + " · " : "") + "step " + mark.step + ": " + mark.text });
  }
  return found;
}

const seen = new IntersectionObserver(entries => {
  for (const entry of entries) { entry.target.plot.visible = entry.isIntersecting; if (entry.isIntersecting) drawOne(entry.target.plot); }
}, { rootMargin: "200px" });
const sized = new ResizeObserver(entries => { for (const entry of entries) if (entry.target.plot.visible) entry.target.plot.draw(); });

function drawOne(plot) { plot.show(seriesOf(plot.chart), marksOf(plot.chart)); }
function redraw(all) { for (const chart of charts) if (chart.plot.visible || all === true) drawOne(chart.plot); }

function makeChart(chart) {
  const figure = element("figure"), canvas = element("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", chart.metric + " over " + chart.lines.map(l => data.runs[l.run].label).join(", ") + "; its values are in the tables");
  const caption = element("figcaption", "", chart.metric), note = element("small");
  caption.append(note);
  figure.append(caption, canvas);
  canvas.plot = new Plot(figure, canvas, note, view); canvas.plot.chart = chart;
  seen.observe(canvas); sized.observe(canvas);
  return { name: chart.metric, first: chart.first, figure, plot: canvas.plot };
}

// New data: charts that stay keep their canvas.
function arrange() {
  const before = new Map(charts.map(chart => [chart.name, chart]));
  charts = data.charts.map(chart => {
    const old = before.get(chart.metric);
    if (!old) return makeChart(chart);
    old.plot.chart = chart; old.first = chart.first; before.delete(chart.metric);
    return old;
  });
  for (const old of before.values()) old.figure.remove();
  const further = $("further").querySelector(".charts");
  for (const chart of charts) { const home = chart.first ? $("first") : further; if (chart.figure.parentNode !== home) home.append(chart.figure); }
  find(); legend(); redraw();
}

function find() {
  const wanted = $("find").value.trim().toLowerCase();
  for (const chart of charts) chart.figure.hidden = wanted !== "" && !chart.name.toLowerCase().includes(wanted);
  const others = charts.filter(chart => !chart.first && !chart.figure.hidden).length;
  $("further").hidden = others === 0;
  $("further").querySelector("summary").textContent = others + " further metrics";
  if (wanted) $("further").open = true;
}

function legend() {
  const entries = [];
  if (view.seeds) data.groups.forEach((group, i) => entries.push(["g" + i, group.label, group.runs[0]]));
  data.runs.forEach((run, i) => { if (!banded(i)) entries.push(["r" + i, run.label, i]); });
  $("legend").replaceChildren(...entries.map(([id, label, run]) => {
    const button = element("button"), key = element("i", "key c" + run % 8 + (run >= 8 ? " dashed" : ""));
    button.type = "button"; button.append(key, label); button.setAttribute("aria-pressed", shown(id));
    button.onclick = () => { shown(id) ? view.hidden.add(id) : view.hidden.delete(id); legend(); redraw(); };
    return button;
  }));
  $("legend").hidden = entries.length < 2;
  $("shades").hidden = !data.charts.some(chart => chart.bands.length || chart.lines.some(line => line.error));
  $("signs").hidden = !data.runs.some(run => run.marks.length);
  $("seeds-control").hidden = !data.groups.length;
}

function controls() {
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  $("axis").addEventListener("change", event => { view.axis = event.target.value; view.zoom(null); });
  $("smoothing").addEventListener("input", event => { view.smoothing = Number(event.target.value); $("smoothed").value = event.target.value; redraw(); });
  $("log").addEventListener("change", event => { view.log = event.target.checked; redraw(); });
  $("seeds").addEventListener("change", event => { view.seeds = event.target.checked; legend(); redraw(); });
  $("find").addEventListener("input", find);
  $("whole").addEventListener("click", () => view.zoom(null));
  const theme = () => { readColors(); redraw(true); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
  addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); theme(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); theme(); });
}

// A live page: the same data again every few seconds, if anything has changed.
async function follow(live) {
  let tag = "", took = 0;
  for (;;) {
    await new Promise(done => setTimeout(done, Math.max(document.hidden ? 20000 : live.seconds * 1000, 10 * took)));
    const asked = performance.now();
    try {
      const answer = await fetch(live.address, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 304) continue;
      if (!answer.ok) throw new Error(answer.status);
      tag = answer.headers.get("ETag") || "";
      const news = await answer.json();
      data = decode(news.drawn);
      for (const [name, html] of Object.entries(news.parts)) replace(document.querySelector('[data-part="' + name + '"]'), html);
      $("made").textContent = news.made;
      arrange();
    } catch (problem) { $("made").textContent = "the server does not answer; trying again"; }
    took = performance.now() - asked;  // what takes long is asked for seldom: training goes first
  }
}

// Text that the server has escaped; what is open stays open.
function replace(part, html) {
  if (!part || part.lastHtml === html) return;
  const open = [...part.querySelectorAll("details")].map(d => d.open);
  const known = part.lastHtml !== undefined;
  part.innerHTML = part.lastHtml = html;
  const now = part.querySelectorAll("details");
  if (known || open.length === now.length) now.forEach((d, i) => { if (i < open.length) d.open = open[i]; });
}

data = decode(JSON.parse($("data").textContent));
readColors(); controls(); arrange();
if ($("live")) follow(JSON.parse($("live").textContent));
