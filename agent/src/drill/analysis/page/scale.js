// A group that is loaded: which instances come, and which go again. Times of instances are since the load began.
put(main, "h1", "Drill of scaling: " + f.target_pct + " % for " + f.secs + " s");
put(main, "p", f.url + " · " + f.started + " · by " + f.by);

const came = r.instances.filter((one) => !one.before);
const after = (ms) => secs(ms) + " after the load ";
cards([
  ["Did the group scale out?", "out", {
    answer: r.out ? "yes" : "no",
    why: [r.out ? "new instances: " + came.length + ", the first answered " + after(r.out_after_ms) + "began"
      : r.load_ms === null ? "it ended before there was any load" : "no new instance came to answer"] }],
  ["Did it scale in again?", "in", {
    answer: r.in === null ? "unknown" : r.in ? "yes" : "no",
    why: [r.in === null ? "none had come" : r.in ? "the last newcomer answered for the last time " + after(r.in_after_ms) + "ended"
      : "still there: " + came.filter((one) => one.gone_after_ms === null).map((one) => one.instance).join(", ")] }],
]);

const short = section("In short");
table(short, ["", "measured"], [
  ["First new instance, since the load began", [secs(r.out_after_ms), "out_after_ms"]],
  ["Last answer of a new instance, since the load ended", [secs(r.in_after_ms), "in_after_ms"]],
  ["Instances before the load", [String(r.instances.length - came.length), "before"]],
  ["New instances", [String(came.length), "came"]],
  ["Requests", [String(r.requests), "requests"]],
  ["Errors", [String(r.errors), "errors"]],
]);

// A lane for each node and each instance; under an instance that came, the time that it was there.
const lanes = section("Timeline");
const { chart, x, row, lane } = timeline(lanes, r.nodes.length + 1 + r.instances.length);
r.nodes.forEach((node, n) => lane(node.node, (one) => one[3] === n));
const began = r.load_ms === null ? 0 : r.load_ms;
const end = Math.max(...r.phases.map((phase) => phase.end_ms));
const steps = r.instances.flatMap((one) => [
  [one.before ? 0 : began + one.came_after_ms, 1],
  ...(one.gone_after_ms === null ? [] : [[began + one.gone_after_ms, -1]]),
]).sort((a, b) => a[0] - b[0]);
const inUse = row("instances that answer");
let count = 0;
steps.forEach(([at, change], n) => {
  count += change;
  const until = n + 1 < steps.length ? steps[n + 1][0] : end;
  if (until <= at) return;
  const tall = (LANE * count) / Math.max(1, r.instances.length);
  draw(chart, "rect", { x: x(at), y: inUse + LANE - tall, width: x(until) - x(at), height: tall, class: "predicted" });
  if (x(until) - x(at) > 14) draw(chart, "text", { x: x(at) + 4, y: inUse + 14 }, String(count));
});
r.instances.forEach((one, n) => {
  const y = lane(one.instance, (row) => row[6] === n);
  if (one.before && one.gone_after_ms === null) return;
  const from = one.before ? 0 : began + one.came_after_ms;
  const until = one.gone_after_ms === null ? end : began + one.gone_after_ms;
  draw(chart, "line", { x1: x(from), x2: x(until), y1: y + LANE + 4, y2: y + LANE + 4, class: "stay" });
  draw(chart, "text", { x: Math.min(x(until) + 6, RIGHT - 60), y: y + LANE + 9 }, secs(until - from));
});
legend(lanes, [...OUTCOMES, ["predicted", "how many answer, and how long a newcomer did"]]);

table(section("Instances"), ["instance", "answers", "came", "gone"], r.instances.map((one) => [one.instance,
  String(one.answers), [one.before ? "before" : secs(one.came_after_ms), "came_after_ms"],
  [secs(one.gone_after_ms), "gone_after_ms"]]));
table(section("Nodes"), ["node", "requests", "errors", "failed with"],
  r.nodes.map((node) => [node.node, String(node.requests), String(node.errors), failures(node.failures)]), [3]);

latency();
facts();
download();
