// Launches in order: measured, thread by thread, where a profile came along; otherwise by their work, phase by phase.

function launchesView() {
  const p = program();
  if (!p.launches.length) return h("p", {class: "hint"}, "No kernels.");
  return p.profile && (p.profile.timeline || []).length ? measuredView(p) : plannedView(p);
}

const launchTip = l => [h("b", {}, `${l.id}  ${clip(l.name, 60)}`), h("div", {class: "dim"}, `${l.kind} · phase ${l.phase} · ${flopsText(l.flops)} operations · ${bytesText(l.bytes)}${l.seconds !== undefined ? ` · ${timeText(l.seconds)}` : ""}`)];
const onLaunch = l => ({
  class: barClass(launchChosen(), l.id), data: {launch: l.id}, style: `fill:${css(`--kind-${l.kind}`) || css("--kind-identity")}`,
  onclick: () => { select("launch", l.id, {line: null, rule: null}); if (tree.kernels) reveal(l.id); },
  onmousemove: e => showTip(e, ...launchTip(l)), onmouseleave: hideTip,
});

// Of few that are meant each is framed; of many the others are dimmed.
const barClass = (chosen, id) => `bar ${!chosen.size ? "" : chosen.has(id) ? chosen.size > 12 ? "" : "on" : "off"}`;

function launchChosen() {
  const p = program(), s = state.selected;
  if (s && s.kind === "launch") return new Set([s.id]);
  if (s && s.kind === "node") return new Set(p.launchesOf.get(s.id) || []);
  if (s && s.kind === "kernel") return new Set(p.launches.filter(l => p.kernels[l.kernel].name === s.id).map(l => l.id));
  if (state.line) return new Set(p.launchesOfLine(state.line).map(l => l.id));
  return new Set();
}

// Without measurements the length of a bar is its work: what it would take at the ratio of a usual processor (10 operations a byte).
function plannedView(p) {
  const work = l => Math.max(l.flops / 10, l.bytes, 1) * (l.times || 1);
  const measured = p.profile && p.profile.launches;
  const size = l => measured ? l.seconds || 0 : work(l);
  const total = sum(p.launches, size) || 1;
  const width = Math.max($("bottom-body").clientWidth - 24, Math.min(p.launches.length * 5, 6000)), left = 10;
  let x = left;
  const parts = [];
  for (const l of p.launches) {
    const w = Math.max((width - left - 10) * size(l) / total, 2.5);
    if (l.barrier) parts.push(svg("line", {x1: x, x2: x, y1: 8, y2: 92, class: "barrier"}));
    parts.push(svg("rect", {x, y: 22, width: Math.max(w - 1, 1.5), height: 56, ...onLaunch(l)}));
    if (w > 60) parts.push(svg("text", {x: x + 5, y: 54, class: "inside"}, clip(`${l.id} ${l.name}`, Math.floor(w / 7))));
    x += w;
  }
  return h("div", {class: "scroll"},
    h("p", {class: "caption"}, measured ? `${timeText(total)} in kernels. ` : "Not measured: the length of a bar is the launch's work, the larger of its bytes and a tenth of its operations. ", h("span", {class: "dim"}, `${plural(p.launches.length, "launch", "launches")}; dashed lines are barriers, where all threads meet.`)),
    svg("svg", {id: "launches", width: Math.max(x + 10, width), height: 100}, parts));
}

function measuredView(p) {
  const {timeline, barriers = []} = p.profile;
  const start = Math.min(...timeline.map(t => t.start)), end = Math.max(...timeline.map(t => t.end));
  const threads = [...new Set(timeline.map(t => t.thread))].sort((a, b) => a - b);
  const width = Math.max($("bottom-body").clientWidth - 24, Math.min(timeline.length * 3, 8000)), left = 74, tall = 34, x = t => left + (width - left - 12) * (t - start) / (end - start || 1);
  const rows = threads.flatMap((thread, i) => [
    svg("text", {x: 4, y: 26 + i * (tall + 8) + tall / 2, class: "axis"}, `thread ${thread}`),
    timeline.filter(t => t.thread === thread && p.launches[t.launch]).map(t => svg("rect", {x: x(t.start), y: 20 + i * (tall + 8), width: Math.max(x(t.end) - x(t.start) - 0.4, 0.8), height: tall, ...onLaunch(p.launches[t.launch])})),
    barriers.filter(b => b.thread === thread).map(b => svg("rect", {x: x(b.start), y: 20 + i * (tall + 8), width: Math.max(x(b.end) - x(b.start), 0.6), height: tall, class: "wait"})),
  ]);
  const bottom = 26 + threads.length * (tall + 8);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map(f => svg("text", {x: x(start + f * (end - start)), y: bottom + 10, class: `axis ${f === 1 ? "end" : ""}`}, timeText(f * (end - start))));
  const waiting = sum(barriers, b => b.end - b.start), busy = sum(timeline, t => t.end - t.start);
  return h("div", {class: "scroll"},
    h("p", {class: "caption"}, h("b", {}, timeText(end - start)), ` on ${plural(threads.length, "thread")}: ${percent(busy / ((end - start) * threads.length || 1))} in kernels, ${percent(waiting / ((end - start) * threads.length || 1))} waiting at barriers (hatched).`),
    svg("svg", {id: "launches", width, height: bottom + 18},
      svg("defs", {}, svg("pattern", {id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"}, svg("rect", {width: 2, height: 5, class: "hatch"}))), rows, ticks));
}
