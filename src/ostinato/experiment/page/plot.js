// One chart on a canvas: axes, lines, bands, marks, a readout under the pointer, zoom by dragging.
// A series: {label, color, dashed, x, y, steps, low, high, error, width, faint}; a null y is a gap.
class Plot {
  constructor(figure, canvas, note, view) {
    this.figure = figure; this.canvas = canvas; this.note = note; this.view = view;
    this.series = []; this.marks = []; this.pointer = null; this.drag = null; this.readout = null;
    canvas.addEventListener("pointermove", event => this.move(event));
    canvas.addEventListener("pointerleave", () => { if (this.drag === null) this.leave(); });
    canvas.addEventListener("pointerdown", event => { this.drag = event.offsetX; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointerup", () => this.drop());
    canvas.addEventListener("pointercancel", () => { this.drag = null; this.leave(); });
    canvas.addEventListener("dblclick", () => view.zoom(null));
  }

  show(series, marks) { this.series = series; this.marks = marks; this.draw(); }

  bounds() {
    let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity, positive = true;
    const range = this.view.range;
    for (const s of this.series) for (let i = 0; i < s.x.length; i++) {
      const x = s.x[i];
      if (range && (x < range[0] || x > range[1])) continue;
      if (!(x >= x0)) x0 = x;
      if (!(x <= x1)) x1 = x;
      if (s.y[i] === null) continue;
      if (s.y[i] <= 0) positive = false;
      const err = s.error && s.error[i] !== null ? 1.96 * s.error[i] : 0;
      y0 = Math.min(y0, s.low ? s.low[i] : s.y[i] - err); y1 = Math.max(y1, s.high ? s.high[i] : s.y[i] + err);
    }
    if (x0 > x1) { x0 = 0; x1 = 1; }
    if (range) [x0, x1] = range;
    if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
    if (y0 > y1) { y0 = 0; y1 = 1; }
    const log = this.view.log && positive;
    if (log) for (const s of this.series) for (let i = 0; i < s.x.length; i++) if (s.y[i] !== null && y0 <= 0) y0 = Math.min(s.y[i], y1);
    if (y0 === y1) { const by = log ? 0 : Math.abs(y0) * 0.1 || 0.5; y0 = log ? y0 / 2 : y0 - by; y1 = log ? y1 * 2 : y1 + by; }
    else if (log) { const by = Math.pow(y1 / y0, 0.05); y0 /= by; y1 *= by; }
    else { const by = (y1 - y0) * 0.06; y0 -= by; y1 += by; }
    return { x0, x1, y0, y1, log };
  }

  draw() {
    const canvas = this.canvas, ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    const g = canvas.getContext("2d"), colors = this.view.colors, b = this.bounds();
    g.scale(ratio, ratio);
    g.font = "11px " + this.view.font;
    this.note.textContent = this.view.log && !b.log ? "linear: not all values are above 0" : "";
    const yTicks = b.log ? logTicks(b.y0, b.y1) : ticks(b.y0, b.y1, 5);
    const yTexts = yTicks.map(t => number(t));
    const left = Math.ceil(Math.max(...yTexts.map(t => g.measureText(t).width), 12)) + 10;
    const box = this.box = { left, top: 10, right: width - 8, bottom: height - 22 };
    const lift = v => b.log ? Math.log(v) : v;
    const low = lift(b.y0), high = lift(b.y1);
    const X = this.X = x => box.left + (x - b.x0) / (b.x1 - b.x0) * (box.right - box.left);
    const Y = y => box.bottom - (lift(y) - low) / (high - low) * (box.bottom - box.top);
    this.unX = px => b.x0 + (px - box.left) / (box.right - box.left) * (b.x1 - b.x0);

    g.lineWidth = 1; g.textBaseline = "middle"; g.textAlign = "right";
    yTicks.forEach((t, i) => {
      const y = Math.round(Y(t)) + 0.5;
      g.strokeStyle = colors.grid; g.beginPath(); g.moveTo(box.left, y); g.lineTo(box.right, y); g.stroke();
      g.fillStyle = colors.muted; g.fillText(yTexts[i], box.left - 8, y);
    });
    g.strokeStyle = colors.hair; g.beginPath(); g.moveTo(box.left, box.bottom + 0.5); g.lineTo(box.right, box.bottom + 0.5); g.stroke();
    g.textBaseline = "alphabetic"; g.fillStyle = colors.muted;
    for (const t of xTicks(b.x0, b.x1, Math.max(2, Math.floor((box.right - box.left) / 75)), this.view.axis)) {
      const text = this.view.place(t), w = g.measureText(text).width / 2;
      g.textAlign = "center";
      g.fillText(text, Math.min(Math.max(X(t), box.left + w - 4), box.right - w + 4), box.bottom + 16);
    }

    g.save(); g.beginPath(); g.rect(box.left - 5, 0, box.right - box.left + 10, box.bottom + 1); g.clip();
    for (const m of this.marks) this.mark(g, X(m.x), m, box);
    for (const s of this.series) if (s.low || s.error) this.area(g, s, X, Y, b);
    for (const s of this.series) this.line(g, s, X, Y);
    if (this.drag !== null && this.pointer) {
      g.fillStyle = colors.accent; g.globalAlpha = 0.14;
      g.fillRect(Math.min(this.drag, this.pointer.x), box.top, Math.abs(this.drag - this.pointer.x), box.bottom - box.top);
      g.globalAlpha = 1;
    }
    g.restore();
    if (this.pointer && this.drag === null) this.point(g, X, Y, box);
  }

  line(g, s, X, Y) {
    g.strokeStyle = g.fillStyle = s.color; g.globalAlpha = s.faint ? 0.25 : s.thin ? 0.6 : 1; g.lineWidth = s.faint || s.thin ? 1 : 1.75; g.lineJoin = "round";
    g.setLineDash(s.dashed ? [5, 3] : []);
    g.beginPath();
    let open = false, alone = null;
    for (let i = 0; i < s.x.length; i++) {
      if (s.y[i] === null) { if (alone) g.rect(alone[0] - 1.5, alone[1] - 1.5, 3, 3); open = false; alone = null; continue; }
      const px = X(s.x[i]), py = Y(s.y[i]);
      if (open) { g.lineTo(px, py); alone = null; } else { g.moveTo(px, py); alone = [px, py]; }
      open = true;
    }
    g.stroke();
    if (alone) { g.beginPath(); g.arc(alone[0], alone[1], 2.5, 0, 7); g.fill(); }
    g.setLineDash([]);
    if (s.dots && !s.faint && s.x.length <= 60) for (let i = 0; i < s.x.length; i++) if (s.y[i] !== null) {
      g.beginPath(); g.arc(X(s.x[i]), Y(s.y[i]), 2, 0, 7); g.fill();
    }
    g.globalAlpha = 1;
  }

  area(g, s, X, Y, b) {
    const edge = (i, side) => {
      const v = s.low ? (side < 0 ? s.low[i] : s.high[i]) : s.y[i] + side * 1.96 * (s.error[i] || 0);
      return b.log ? Math.max(v, b.y0) : v;
    };
    const places = s.x.map((_, i) => i).filter(i => s.y[i] !== null);
    g.fillStyle = s.color; g.globalAlpha = 0.13; g.beginPath();
    for (const i of places) g.lineTo(X(s.x[i]), Y(edge(i, 1)));
    for (const i of places.reverse()) g.lineTo(X(s.x[i]), Y(edge(i, -1)));
    g.fill(); g.globalAlpha = 1;
  }

  mark(g, x, m, box) {
    g.strokeStyle = g.fillStyle = m.kind === "event" ? m.color : this.view.colors.bad;
    g.globalAlpha = m.kind === "event" ? 0.5 : 0.9; g.lineWidth = 1;
    if (m.kind !== "event") { g.setLineDash([2, 3]); g.beginPath(); g.moveTo(x, box.top); g.lineTo(x, box.bottom); g.stroke(); g.setLineDash([]); }
    g.beginPath();
    if (m.kind === "failure") { g.lineWidth = 1.75; g.moveTo(x - 3.5, box.top - 7); g.lineTo(x + 3.5, box.top); g.moveTo(x + 3.5, box.top - 7); g.lineTo(x - 3.5, box.top); g.stroke(); }
    else if (m.kind === "rewind") { g.moveTo(x + 3, box.top - 8); g.lineTo(x - 4, box.top - 4); g.lineTo(x + 3, box.top); g.fill(); }
    else { g.moveTo(x - 3, box.bottom); g.lineTo(x + 3, box.bottom); g.lineTo(x, box.bottom - 5); g.fill(); }
    g.globalAlpha = 1;
  }

  point(g, X, Y, box) {
    const shown = this.series.filter(s => !s.faint), colors = this.view.colors;
    const at = this.unX(this.pointer.x);
    const found = shown.map(s => nearest(s, at)).filter(f => f !== null && Math.abs(X(f.s.x[f.i]) - this.pointer.x) < 40);
    const close = this.marks.filter(m => Math.abs(X(m.x) - this.pointer.x) < 6);
    if (!found.length && !close.length) { this.hide(); return; }
    const places = found.map(f => X(f.s.x[f.i])).sort((a, b) => Math.abs(a - this.pointer.x) - Math.abs(b - this.pointer.x));
    const x = places.length ? places[0] : this.pointer.x;
    g.strokeStyle = colors.muted; g.globalAlpha = 0.5; g.lineWidth = 1; g.beginPath(); g.moveTo(x, box.top); g.lineTo(x, box.bottom); g.stroke(); g.globalAlpha = 1;
    for (const f of found) {
      g.fillStyle = f.s.color; g.strokeStyle = colors.surface; g.lineWidth = 1.5;
      g.beginPath(); g.arc(X(f.s.x[f.i]), Y(f.s.y[f.i]), 3.5, 0, 7); g.fill(); g.stroke();
    }
    this.tell(found, close, x);
  }

  tell(found, close, x) {
    if (!this.readout) { this.readout = element("div", "readout"); this.figure.append(this.readout); }
    const order = found.slice().sort((a, b) => Math.abs(this.X(a.s.x[a.i]) - x) - Math.abs(this.X(b.s.x[b.i]) - x));
    const step = found.length ? order[0].s.steps[order[0].i] : null;
    const rows = found.length ? [element("div", "when", "step " + step.toLocaleString("en"))] : [];
    rows.push(...found.map(f => {
      const row = element("div"), key = element("i", "key"), value = element("b");
      key.style.color = f.s.color; key.classList.toggle("dashed", f.s.dashed);
      let text = number(f.s.y[f.i], 4);
      if (f.s.low) text += " (" + number(f.s.low[f.i], 4) + " to " + number(f.s.high[f.i], 4) + ")";
      else if (f.s.error && f.s.error[f.i] !== null) text += " ± " + number(1.96 * f.s.error[f.i], 2);
      value.textContent = text;
      const own = f.s.steps[f.i];
      row.append(key, element("span", "", f.s.label + (own === step ? "" : " (step " + own.toLocaleString("en") + ")")), value);
      return row;
    }));
    for (const m of close) rows.push(element("div", "mark", m.text));
    this.readout.replaceChildren(...rows);
    this.readout.hidden = false;
    const room = this.figure.clientWidth, own = this.readout.offsetWidth;
    this.readout.style.left = Math.max(0, x + 14 + own > room ? Math.max(0, x - own - 14) : x + 14) + "px";
    this.readout.style.top = this.canvas.offsetTop + 14 + "px";
  }

  hide() { if (this.readout) this.readout.hidden = true; }
  leave() { this.pointer = null; this.hide(); this.draw(); }
  move(event) { this.pointer = { x: event.offsetX, y: event.offsetY }; if (this.drag !== null) this.hide(); this.draw(); }
  drop() {
    const from = this.drag, to = this.pointer ? this.pointer.x : from;
    this.drag = null;
    if (from !== null && Math.abs(to - from) > 8) {
      const ends = [from, to].map(px => this.unX(Math.min(Math.max(px, this.box.left), this.box.right))).sort((a, b) => a - b);
      this.view.zoom(ends);
    } else this.draw();
  }
}

function nearest(s, at) {
  let low = 0, high = s.x.length - 1;
  if (high < 0) return null;
  while (low < high) { const mid = (low + high) >> 1; if (s.x[mid] < at) low = mid + 1; else high = mid; }
  if (low > 0 && at - s.x[low - 1] < s.x[low] - at) low--;
  return s.y[low] === null ? null : { s, i: low };
}

function ticks(from, to, wanted) {
  const rough = (to - from) / wanted, power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function logTicks(from, to) {
  const found = [], decades = Math.log10(to / from), factors = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
  const every = Math.max(1, Math.ceil(decades / 6));
  for (let p = Math.floor(Math.log10(from)); p <= Math.ceil(Math.log10(to)); p++)
    if (p % every === 0) for (const f of factors) { const t = f * Math.pow(10, p); if (t >= from && t <= to) found.push(Number(t.toPrecision(3))); }
  return found.length > 1 ? found : ticks(from, to, 4).filter(t => t > 0);
}

function xTicks(from, to, wanted, axis) {
  if (axis !== "seconds") return ticks(from, to, Math.min(wanted, 6)).filter(t => axis !== "step" || Number.isInteger(t));
  const rough = (to - from) / Math.min(wanted, 6);
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400].find(s => s >= rough) || Math.ceil(rough / 86400) * 86400;
  const found = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) found.push(t);
  return found;
}

function number(v, digits = 4) {
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size >= 1e15 || size < 1e-4) return v.toExponential(Math.max(0, digits - 3)).replace("e+", "e").replace(/\.?0+e/, "e");
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]])
    if (size >= unit) return Number((v / (letter === "k" ? 1e3 : unit)).toPrecision(digits)) + letter;
  return String(Number(v.toPrecision(digits)));
}

function duration(s) {
  if (s < 1) return s === 0 ? "0" : number(s, 2) + " s";
  if (s < 120) return Number(s.toFixed(1)) + " s";
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  return (d ? d + " d " : "") + (h ? h + " h " : "") + (m && !d ? m + " min" : "") || "0";
}

function element(name, cls, text) {
  const e = document.createElement(name);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  return e;
}
