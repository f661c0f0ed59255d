// A target that fails: what it cost, beside what it should have cost.
const what = f.observed ? "failover, observed" : "failover: " + f.mode + " for " + f.secs + " s";
put(main, "h1", "Drill of a " + what);
put(main, "p", f.url + " · " + f.started + " · by " + f.by + (f.instance ? " · target " + f.instance : ""));

cards([
  ["Did the outage last as long as predicted?", "hypothesis", r.hypothesis],
  ["Is everything cleaned up?", "cleanup", r.cleanup],
  ["Was it safe?", "safety", r.safety],
]);

const short = section("In short");
const predicted = r.predicted;
table(short, ["", "measured", "predicted"], [
  ["Outage, all nodes", [secs(r.outage_ms), "outage_ms"],
    [predicted ? (predicted.visible ? range(predicted.outage) : "none") : "–", "predicted_outage"]],
  ["Back in use at every node, after the recovery", [secs(r.readmitted_after_ms), "readmitted_after_ms"],
    [predicted && !f.observed ? range(predicted.readmission) : "–", "predicted_readmission"]],
  ["Requests", [String(r.requests), "requests"], ""],
  ["Errors since the beginning of the fault", [String(r.errors), "errors"], ""],
]);
put(short, "p", "A window may be " + secs(r.below_ms) + " shorter than predicted and " + secs(r.above_ms) +
  " longer: requests come one by one, and probes are not sent to the millisecond.");

// A lane for each node and each instance, and one for the prediction.
const lanes = section("Timeline");
const { chart, x, row, lane, mark } = timeline(lanes, r.nodes.length + 1 + r.instances.length);
r.nodes.forEach((node, n) => {
  const y = lane(node.node, (one) => one[3] === n);
  if (node.outage_ms === null) return;
  draw(chart, "line", { x1: x(node.first_error_ms), x2: x(node.last_error_ms), y1: y + LANE + 4, y2: y + LANE + 4,
    class: "window" });
  draw(chart, "text", { x: Math.min(x(node.last_error_ms) + 6, RIGHT - 60), y: y + LANE + 9 }, secs(node.outage_ms));
});
if (predicted && predicted.visible && r.first_error_ms !== null) {
  const from = r.first_error_ms + predicted.outage.least_ms, until = r.first_error_ms + predicted.outage.most_ms;
  const y = row("last error, predicted");
  draw(chart, "rect", { x: x(from), y, width: Math.max(2, x(until) - x(from)), height: LANE, class: "predicted" });
  draw(chart, "line", { x1: x(r.first_error_ms), x2: x(r.last_error_ms), y1: y + LANE / 2, y2: y + LANE / 2,
    class: "window" });
  draw(chart, "text", { x: Math.min(x(until) + 6, RIGHT - 110), y: y + 14 }, range(predicted.outage));
}
r.instances.forEach((one, n) => lane(one.instance + (one.instance === f.instance ? " *" : ""), (row) => row[6] === n));
mark("effective", r.effective_ms);
mark("recovered", r.recovered_ms);
legend(lanes, [...OUTCOMES, ["predicted", "predicted"]], f.instance ? "* the target that failed" : "");

table(section("Nodes"), ["node", "requests", "errors", "outage", "new connections", "kept", "drained", "back in use", "failed with"],
  r.nodes.map((node) => [node.node + (node.present ? "" : " (left the name)"), String(node.requests), String(node.errors),
    [secs(node.outage_ms), "node_outage_ms"], secs(node.new.outage_ms), secs(node.kept.outage_ms),
    secs(node.drained_after_ms), secs(node.readmitted_after_ms), failures(node.failures)]), [8]);

const instances = section("Instances");
if (r.instances.length === 0) put(instances, "p", "No answer named its instance.");
else table(instances, ["instance", "answers", "first", "last", "in the baseline"],
  r.instances.map((one) => [one.instance, String(one.answers), secs(one.first_ms), secs(one.last_ms), one.before ? "yes" : "no"]));

latency();

const probes = section("Probes that this target saw");
if (r.probes.length === 0) put(probes, "p", "None, or no log to see them in.");
else table(probes, ["node", "probes", "missed", "interval min", "p50", "max", "not 2xx"],
  r.probes.map((node) => [node.node, String(node.probes), String(node.missed), secs(node.interval_min_ms),
    secs(node.interval_p50_ms), secs(node.interval_max_ms), String(node.not_ok)]));

facts();
download();
