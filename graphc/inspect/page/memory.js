// The arena over the phases of a run: one bar a temporary, as high as its bytes, as long as it lives; the peak is marked.

function memoryView() {
  const p = program(), memory = p.data.memory;
  if (!memory) return h("p", {class: "hint"}, "No memory plan: the graph is run as it was traced.");
  const placed = p.buffers.filter(b => b.offset !== undefined);
  if (!placed.length) return h("p", {class: "hint"}, "Nothing is stored between kernels: the arena is empty.");
  const phases = Math.max(...placed.map(b => b.dies), ...p.launches.map(l => l.phase)) + 1;
  const width = Math.max($("bottom-body").clientWidth - 24, Math.min(phases * 5, 6000)), height = Math.max($("bottom-body").clientHeight - 74, 110), left = 74, x = i => left + i * (width - left - 10) / phases, y = v => 12 + height * (1 - v / memory.arena);
  const inUse = new Array(phases).fill(0);
  for (const b of placed) for (let i = b.born; i <= b.dies; i++) inUse[i] += b.size;
  const peak = inUse.indexOf(Math.max(...inUse));
  const chosen = memoryChoice();
  const bars = placed.map(b => svg("rect", {
    x: x(b.born) + 0.5, y: y(b.offset + b.size), width: Math.max(x(b.dies + 1) - x(b.born) - 1, 1.5), height: Math.max(y(b.offset) - y(b.offset + b.size) - 0.5, 0.8),
    class: barClass(chosen, b.id), style: `fill:${hueOf(b.id)}`, data: {buffer: b.id},
    onclick: () => select("buffer", b.id, {line: null, rule: null}),
    onmousemove: e => showTip(e, h("b", {}, clip(b.name, 60)), " ", h("span", {class: "mono"}, clip(b.type, 60)), h("div", {class: "dim"}, `${bytesText(b.bytes)}, phases ${b.born} – ${b.dies}, at ${b.offset.toLocaleString("en")}`)),
    onmouseleave: hideTip,
  }));
  const step = Math.max(1, Math.ceil(phases / 24));
  return h("div", {class: "scroll"},
    h("p", {class: "caption"}, h("b", {}, bytesText(memory.arena)), ` of arena hold ${plural(placed.length, "temporary", "temporaries")} that would take ${bytesText(memory.unplanned)} side by side. `,
      h("span", {class: "peak-text"}, `Peak: ${bytesText(inUse[peak])} in phase ${peak}. `), h("span", {class: "dim"}, `A phase is what runs between two barriers. For any sizes: ${clip(memory.formula, 120)}.`)),
    svg("svg", {id: "arena", width, height: height + 34, viewBox: `0 0 ${width} ${height + 34}`, role: "img", "aria-label": "Arena over phases"},
      svg("rect", {x: x(peak), y: 4, width: Math.max(x(peak + 1) - x(peak), 2), height: height + 10, class: "peak"}), svg("text", {x: x(peak) + 3, y: 11, class: "peak-label"}, "peak"),
      [0, 0.5, 1].map(f => [svg("line", {x1: left, x2: width - 10, y1: y(f * memory.arena), y2: y(f * memory.arena), class: "rule"}), svg("text", {x: left - 6, y: y(f * memory.arena) + 4, class: "axis end"}, bytesText(f * memory.arena))]),
      bars,
      Array.from({length: Math.ceil(phases / step)}, (_, i) => svg("text", {x: x(i * step) + 2, y: height + 27, class: "axis"}, String(i * step)))));
}

function memoryChoice() {
  const p = program(), s = state.selected;
  if (s && s.kind === "buffer") return new Set([s.id]);
  if (s && s.kind === "launch" && p.launches[s.id]) return new Set([...p.launches[s.id].reads, ...p.launches[s.id].writes]);
  if (s && s.kind === "node" && p.bufferOf.has(s.id)) return new Set([p.bufferOf.get(s.id)]);
  if (state.line) return new Set(p.nodesOfLine(state.line).map(n => p.bufferOf.get(n.id)).filter(x => x !== undefined));
  return new Set();
}
