// What pages do beyond their HTML: one stream per visible tab, and curves drawn from the tables beside them.
// Nothing here is needed to read or to steer.
(() => {
  "use strict";
  let source = null;
  // Browsers allow six streams per host: tabs nobody looks at give theirs up, and catch up when they are seen again.
  window.htmx.createEventSource = (url) => (source = new EventSource(url));
  document.addEventListener("visibilitychange", () => {
    const live = document.querySelector("[data-live]");
    if (!live) return;
    if (document.hidden) {
      if (source) source.close();
      return;
    }
    if (source && source.readyState !== EventSource.CLOSED) return;
    const again = live.cloneNode(true);
    live.replaceWith(again);
    window.htmx.process(again);
    draw(again);
  });

  const plots = new Map();
  function draw(root) {
    if (!window.uPlot) return;
    for (const [node, plot] of plots) if (!node.isConnected) { plot.destroy(); plots.delete(node); }
    for (const node of root.querySelectorAll("[data-plot]")) {
      const told = JSON.parse(node.dataset.plot);
      const style = getComputedStyle(document.documentElement);
      const ink = style.getPropertyValue("--soft"), line = style.getPropertyValue("--line");
      const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
      node.textContent = "";
      plots.set(node, new window.uPlot({
        width: node.clientWidth || 300, height: 200, cursor: { drag: { x: false, y: false } }, legend: { show: false },
        scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.1] } },
        axes: [
          { ...axis, values: (_, at) => at.map((i) => told.names[i] || ""), splits: () => told.names.map((_, i) => i).filter((i) => i % told.every === 0) },
          { ...axis, size: 52, values: (_, at) => at.map((v) => v + " %") },
        ],
        series: [{}, ...told.series.map((one) => ({
          label: one.name, width: 2, stroke: style.getPropertyValue("--v" + one.tone),
          paths: window.uPlot.paths.stepped({ align: 1 }), points: { show: false },
        }))],
      }, [told.names.map((_, i) => i), ...told.series.map((one) => one.values)], node));
    }
  }
  document.addEventListener("DOMContentLoaded", () => draw(document));
  document.addEventListener("htmx:afterSwap", (event) => draw(event.target));
  let due = 0;
  window.addEventListener("resize", () => { clearTimeout(due); due = setTimeout(() => draw(document), 200); });
})();
