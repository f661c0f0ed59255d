// What every drill's page has: text and tables, the timeline, the latency, the facts, the data.
const { result: r, requests } = JSON.parse(document.getElementById("data").textContent);
const f = r.facts;
const main = document.getElementById("main");
const SVG = "http://www.w3.org/2000/svg";

// Everything shown is set as text or as an attribute's value, never as markup.
const put = (parent, tag, text, attributes = {}) => {
  const one = document.createElement(tag);
  if (text !== undefined) one.textContent = text;
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  return parent.appendChild(one);
};
const draw = (parent, tag, attributes, text) => {
  const one = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  if (text !== undefined) one.textContent = text;
  return parent.appendChild(one);
};
const secs = (ms) => (ms === null || ms === undefined ? "–" : (ms / 1000).toFixed(3) + " s");
const millis = (ms) => (ms === null || ms === undefined ? "–" : ms.toFixed(1) + " ms");
const range = (one) => (one.least_ms / 1000).toFixed(1) + " to " + (one.most_ms / 1000).toFixed(1) + " s";
const section = (title) => {
  const one = put(main, "section");
  put(one, "h2", title);
  return one;
};
const table = (parent, heads, rows, textual = []) => {
  const wide = put(parent, "div", undefined, { class: "wide" });
  const one = put(wide, "table");
  const head = put(put(one, "thead"), "tr");
  heads.forEach((text) => put(head, "th", text));
  const body = put(one, "tbody");
  for (const row of rows) {
    const line = put(body, "tr");
    row.forEach((cell, n) => {
      const [text, key] = Array.isArray(cell) ? cell : [cell];
      put(line, "td", text, { ...(key ? { "data-key": key } : {}), ...(textual.includes(n) ? { class: "text" } : {}) });
    });
  }
};

// Questions and their answers.
const cards = (questions) => {
  const all = put(main, "div", undefined, { class: "cards" });
  for (const [question, key, verdict] of questions) {
    if (!verdict) continue;
    const one = put(all, "div", undefined, { class: "card " + verdict.answer });
    put(one, "span", question);
    put(one, "b", verdict.answer === "unknown" ? "cannot tell" : verdict.answer, { "data-key": key });
    const list = put(one, "ul");
    verdict.why.forEach((why) => put(list, "li", why));
  }
};

// A timeline with room for this many rows, one below the other; time since the start runs from left to right.
const LEFT = 190, RIGHT = 990, LANE = 20, STEP = 38, CELLS = 200;
const timeline = (parent, count) => {
  const end = Math.max(1, ...r.phases.map((phase) => phase.end_ms));
  const x = (ms) => LEFT + ((RIGHT - LEFT) * Math.min(ms, end)) / end;
  const height = 40 + count * STEP + 30;
  const chart = draw(parent, "svg", { viewBox: "0 0 1000 " + height, role: "img", "aria-label": "timeline" });
  let named = 0, next = 40;
  r.phases.forEach((phase) => {
    draw(chart, "line", { x1: x(phase.start_ms), x2: x(phase.start_ms), y1: 8, y2: height - 30, class: "axis" });
    if (x(phase.end_ms) - x(phase.start_ms) > 30) {
      draw(chart, "text", { x: x(phase.start_ms) + 3, y: named % 2 ? 30 : 16, class: "soft" }, phase.phase);
      named += 1;
    }
  });
  draw(chart, "line", { x1: LEFT, x2: RIGHT, y1: height - 30, y2: height - 30, class: "axis" });
  for (let n = 0; n <= 4; n += 1) {
    draw(chart, "text", { x: x((end * n) / 4), y: height - 4, class: "soft",
      "text-anchor": n === 4 ? "end" : n === 0 ? "start" : "middle" }, ((end * n) / 4000).toFixed(1) + " s");
  }
  // An empty row: where it is.
  const row = (name) => {
    const y = next;
    next += STEP;
    draw(chart, "text", { x: 4, y: y + 14 }, name.length > 26 ? name.slice(0, 25) + "…" : name);
    return y;
  };
  // A row of the requests that `picks` takes.
  const lane = (name, picks) => {
    const y = row(name);
    draw(chart, "rect", { x: LEFT, y, width: RIGHT - LEFT, height: LANE, class: "lane" });
    const good = new Array(CELLS).fill(0), bad = new Array(CELLS).fill(0);
    for (const one of requests.rows) {
      const slot = Math.floor((one[1] / end) * CELLS);
      if (slot >= CELLS || !picks(one)) continue;
      (typeof one[5] === "number" && one[5] >= 200 && one[5] < 400 ? good : bad)[slot] += 1;
    }
    const kindOf = (slot) => (good[slot] + bad[slot] === 0 ? "" : bad[slot] === 0 ? "good" : good[slot] === 0 ? "bad" : "mixed");
    for (let from = 0, to = 0; from < CELLS; from = to) {
      const kind = kindOf(from);
      let answered = 0, failed = 0;
      for (to = from; to < CELLS && kindOf(to) === kind; to += 1) { answered += good[to]; failed += bad[to]; }
      if (kind === "") continue;
      const start = (end * from) / CELLS, stop = (end * to) / CELLS;
      const cell = draw(chart, "rect",
        { x: x(start).toFixed(1), y, width: (x(stop) - x(start)).toFixed(1), height: LANE, class: kind });
      draw(cell, "title", {}, secs(start) + " to " + secs(stop) + ": " + answered + " answered, " + failed + " failed");
    }
    return y;
  };
  // A moment, over all rows.
  const mark = (name, at) => {
    if (at === null) return;
    draw(chart, "line", { x1: x(at), x2: x(at), y1: 36, y2: height - 30, class: "mark" });
    draw(chart, "text", { x: x(at) - 24, y: height - 18, class: "soft" }, name);
  };
  return { chart, x, row, lane, mark };
};
const legend = (parent, keys, note) => {
  const one = put(parent, "p");
  for (const [kind, text] of keys) {
    put(one, "span", undefined, { class: "key", style: "background: var(--" + kind + ")" });
    put(one, "span", text);
  }
  if (note) put(one, "span", " · " + note);
};
const OUTCOMES = [["good", "answered"], ["mixed", "some failed"], ["bad", "all failed"]];
const failures = (all) => Object.entries(all).map(([name, count]) => name + " ×" + count).join(", ");

const latency = () => {
  const one = section("Latency by phase");
  table(one, ["phase", "from", "to", "requests", "errors", "p50", "p90", "p99", "max"],
    r.phases.map((phase) => [phase.phase, secs(phase.start_ms), secs(phase.end_ms), String(phase.requests),
      String(phase.errors), [millis(phase.p50_ms), "p50_ms"], millis(phase.p90_ms), [millis(phase.p99_ms), "p99_ms"],
      millis(phase.max_ms)]));
  put(one, "p", r.schedule.late + " requests (" + r.schedule.late_pct + " %) were sent more than 20 ms late, " +
    r.schedule.worst_ms + " ms at worst" + (r.schedule.blurred ? ": this machine was too busy for exact figures." : "."));
};
const facts = () => table(section("Facts"), ["", ""], Object.entries(f).map(([name, value]) =>
  [name.replaceAll("_", " "), value === null ? "–" : String(value)]), [1]);

// The very lines that --json writes, without those of the fault.
const download = () => {
  const data = section("Data");
  const events = () => {
    const start = Date.parse(f.started);
    const lines = requests.rows.map(([due, sent, ended, node, kept, outcome, instance]) => JSON.stringify({
      event: "request", at: new Date(start + sent).toISOString(), start_ms: sent, end_ms: ended,
      latency_ms: Number((ended - sent).toFixed(3)), late_ms: Number((sent - due).toFixed(3)),
      node: requests.nodes[node], stream: kept ? "kept" : "new",
      status: typeof outcome === "number" ? outcome : null, error: typeof outcome === "number" ? null : outcome,
      instance: instance === null ? null : requests.instances[instance] }));
    lines.push(JSON.stringify(r));
    return lines.join("\n") + "\n";
  };
  const button = put(data, "button", "Download every request as NDJSON");
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([events()], { type: "application/x-ndjson" }));
    link.download = "drill.ndjson";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  put(data, "p", requests.rows.length + " requests.", { "data-key": "rows" });
  document.title = "Drill: " + f.url;
};
