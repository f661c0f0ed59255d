"use strict";
(() => {
  // The very lines that --json writes, without those of the fault. Without scripts the page has everything but this.
  const { result, requests } = JSON.parse(document.getElementById("data").textContent);
  const events = () => {
    const start = Date.parse(result.facts.started);
    const lines = requests.rows.map(([due, sent, ended, node, kept, outcome, instance]) => JSON.stringify({
      event: "request", at: new Date(start + sent).toISOString(), start_ms: sent, end_ms: ended,
      latency_ms: Number((ended - sent).toFixed(3)), late_ms: Number((sent - due).toFixed(3)),
      node: requests.nodes[node], stream: kept ? "kept" : "new",
      status: typeof outcome === "number" ? outcome : null, error: typeof outcome === "number" ? null : outcome,
      instance: instance === null ? null : requests.instances[instance] }));
    lines.push(JSON.stringify(result));
    return lines.join("\n") + "\n";
  };
  const button = document.createElement("button");
  button.textContent = "Download every request as NDJSON";
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([events()], { type: "application/x-ndjson" }));
    link.download = "drill.ndjson";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.getElementById("download").append(button);
})();
