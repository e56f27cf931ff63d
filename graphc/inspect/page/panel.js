// The panel on the right: everything about what is selected, or the story of the program when nothing is.

const row = (name, ...value) => value.flat(3).some(v => v !== undefined && v !== null && v !== false && v !== "")
  ? h("tr", {}, h("th", {}, name), h("td", {}, ...value)) : null;
const facts = (...rows) => h("table", {class: "facts"}, rows);
const heading = (text, more) => h("h3", {}, text, more !== undefined ? h("small", {}, ` ${more}`) : null);

function nodeLink(i) {
  const n = program().nodes[i];
  return h("button", {class: "link", data: {node: i}, onclick: () => { select("node", i, {line: null, rule: null}); if (tree.shown.has(i) && !tree.kernels) reveal(i); }},
    h("i", {class: "dot", style: `background:${css(`--kind-${n.kind}`) || css("--kind-identity")}`}), clip(program().label(n), 36), " ", h("span", {class: "mono dim"}, clip(n.type, 44)));
}

function launchLink(i) {
  const l = program().launches[i];
  return h("button", {class: "link", data: {launch: i}, onclick: () => { select("launch", i, {line: null, rule: null}); if (tree.kernels) reveal(i); }},
    h("i", {class: "dot", style: `background:${css(`--kind-${l.kind}`) || css("--kind-identity")}`}), `${i}  ${clip(l.name, 36)} `, h("span", {class: "dim"}, l.kind));
}

function bufferLink(i) {
  const b = program().buffers[i];
  return h("button", {class: "link", data: {buffer: i}, onclick: () => select("buffer", i, {line: null, rule: null, bottom: b.offset !== undefined ? "memory" : state.bottom})},
    clip(b.name, 36), " ", h("span", {class: "mono dim"}, clip(b.type, 30)), " ", h("span", {class: "dim"}, `${bytesText(b.bytes)} ${SPACES[b.space] || b.space}`));
}

const SPACES = {temp: "in the arena", slot: "parameter or state", arg: "argument", out: "result", const: "constant", static: "kept between calls"};

const list = (items, make, most = 12) => [items.slice(0, most).map(make), items.length > most ? h("div", {class: "dim"}, `and ${items.length - most} more`) : null];

// A line of the user's file with its neighbours.
function snippet(key, named = true) {
  const at = report.line(key);
  if (!at) return null;
  const rows = [];
  for (let i = at.line - 3; i <= at.line + 3; i++) {
    const text = at.file.lines[i];
    if (text === undefined) continue;
    rows.push(h("div", {class: `row ${i === at.line ? "on" : ""}`}, h("span", {class: "no"}, String(i)), h("code", {}, codeText(clip(text, 160)))));
  }
  return h("div", {class: "snippet"}, named ? h("button", {class: "link where", onclick: () => set({line: key, selected: null, rule: null, left: "source"})}, at.name) : null, h("div", {class: "source short"}, rows));
}

function ruleLinks(names) {
  return names.map(r => h("div", {class: "rule"}, h("button", {class: "link", onclick: () => set({rule: state.rule === r ? null : r, line: null})}, clip(r, 60)),
    report.data.rules[r] ? h("div", {class: "mono dim"}, clip(report.data.rules[r], 200)) : null));
}

function nodePanel(id) {
  const p = program(), n = p.nodes[id];
  if (!n) return overview();
  const ix = index();
  const stages = p.stages.map((s, i) => [s, i]).filter(([s, i]) => s.key !== "kernels" && p.index(i).members.has(id));
  const launches = p.launchesOf.get(id) || [];
  const buffer = p.bufferOf.get(id), b = p.buffers[buffer];
  const users = ix.users.get(id) || [];
  const inputs = ix.members.has(id) ? ix.inputs(id) : n.inputs || [];
  const reasons = (p.data.decisions || {rows: []}).rows.filter(r => r[0] === id || r[1] === id);
  return [
    h("div", {class: "head"}, h("span", {class: "tag", style: `background:${css(`--kind-${n.kind}`)}`}, n.op === "input" ? `${n.role} input` : n.kind), h("h2", {}, clip(p.label(n), 300))),
    n.op !== "input" && report.data.ops[n.op] ? h("p", {class: "about"}, clip(report.data.ops[n.op].replace(/`/g, ""), 240)) : null,
    facts(
      row("shape", h("span", {class: "mono"}, n.type)), row("dtype", n.dtype), row("size", n.bytes ? bytesText(n.bytes) : null),
      row("operations", n.flops ? flopsText(n.flops) : null), row("time", p.seconds.has(id) ? `${timeText(p.seconds.get(id))} (its share)` : null),
      row("module", n.module ? h("button", {class: "link", onclick: () => openModule(n.module)}, clip(n.module, 80)) : null, (n.scopes || []).length > 1 ? h("span", {class: "dim"}, ` and ${n.scopes.length - 1} more`) : null),
      row("result", resultsOf(id).join(", ")), row("new value of", index().record.updates.filter(([, x]) => x === id).map(([name]) => name).join(", ")),
      row("phase", p.phases ? PHASE_NAMES[n.phase] : null),
      row("stages", stages.length ? `${stages[0][0].title}${stages.length > 1 ? ` – ${stages[stages.length - 1][0].title}` : ""}` : null, ix.members.has(id) ? null : h("span", {class: "warn"}, " not in this stage")),
      Object.entries(n.attrs || {}).map(([k, v]) => row(k, h("span", {class: "mono"}, clip(v, 300)))),
      (n.bodies || []).map(body => row(body.name, `repeated ${body.times} times`)),
    ),
    n.locs ? [heading("Your code"), p.lines(n).slice(0, 3).map(k => snippet(k)), n.locs.length > 3 ? h("div", {class: "dim"}, `and ${plural(n.locs.length - 3, "more line", "more lines")}`) : null] : null,
    inputs.length ? [heading("Reads", inputs.length), list(inputs, nodeLink)] : null,
    users.length ? [heading("Read by", users.length), list(users, nodeLink)] : null,
    (n.rules || []).length ? [heading("Made by the rules"), ruleLinks(n.rules)] : null,
    b ? [heading("Memory"), facts(row("buffer", bufferLink(buffer)), row("place", b.offset !== undefined ? `${b.offset.toLocaleString("en")} in the arena` : SPACES[b.space]), row("lives", b.born !== undefined ? `phases ${b.born} – ${b.dies}` : null), row("layout", b.layout))]
      : launches.length ? [heading("Memory"), h("p", {class: "dim"}, "Never stored: it lives in registers, inside its kernel.")] : null,
    reasons.length ? [heading("Fusion"), list(reasons, ([a, c, fused, why]) => h("div", {class: "reason"}, h("span", {class: fused ? "yes" : "no-fuse"}, fused ? "joined" : "apart"), nodeLink(a === id ? c : a), h("div", {class: "dim"}, p.data.decisions.reasons[why])), 8)] : null,
    launches.slice(0, 2).map(i => {
      const l = p.launches[i];
      return [heading("Kernel", launches.length > 1 ? `${launches.indexOf(i) + 1} of ${launches.length}` : undefined), launchLink(i), kernelSource(p.kernels[l.kernel], {lit: linesFor(l, new Set([id])), nodeOf: nodeOfLine(l)})];
    }),
  ];
}

function limits(l) {
  const p = program(), far = p.distance(l);
  return far === undefined ? null : `${far.toFixed(2)}× the roofline${far > 1 ? ` (${percent(1 / far)} of the limit)` : ""}`;
}

function launchPanel(id) {
  const p = program(), l = p.launches[id];
  if (!l) return overview();
  const kernel = p.kernels[l.kernel];
  const lines = [...new Set(l.nodes.flatMap(n => p.lines(p.nodes[n])))];
  const uses = p.launches.filter(x => x.kernel === l.kernel).length;
  const wanted = state.line ? new Set(p.nodesOfLine(state.line).map(n => n.id)) : new Set();
  return [
    h("div", {class: "head"}, h("span", {class: "tag", style: `background:${css(`--kind-${l.kind}`)}`}, `${l.kind} kernel`), h("h2", {}, `${id}  ${clip(l.name, 200)}`)),
    facts(
      row("kernel", h("span", {class: "mono"}, kernel.name), uses > 1 ? h("button", {class: "link", onclick: () => select("kernel", kernel.name)}, ` launched ${uses} times`) : null),
      row("runs over", h("span", {class: "mono"}, l.axes.join(" × ") || "1"), l.folds.length ? [" folding ", h("span", {class: "mono"}, l.folds.join(" × "))] : null),
      row("times", l.times > 1 ? `${l.times} in a loop` : null), row("operations", flopsText(l.flops)), row("moves", bytesText(l.bytes)),
      row("intensity", l.bytes ? `${(l.flops / l.bytes).toFixed(1)} operations a byte` : null),
      row("time", l.seconds !== undefined ? timeText(l.seconds) : null), row("limit", limits(l)),
      row("starts", l.barrier ? "after a barrier" : l.static ? "once, until parameters change" : "without a barrier"), row("phase", String(l.phase)),
    ),
    heading("Computes", l.nodes.length), list(l.nodes, nodeLink, 16),
    lines.length ? [heading("From your code"), lines.slice(0, 4).map(k => snippet(k)), lines.length > 4 ? h("div", {class: "dim"}, `and ${plural(lines.length - 4, "more line", "more lines")}`) : null] : null,
    heading("Reads", l.reads.length), list(l.reads, bufferLink), heading("Writes", l.writes.length), list(l.writes, bufferLink),
    heading("Source"), kernelSource(kernel, {lit: linesFor(l, wanted), nodeOf: nodeOfLine(l)}),
  ];
}

function kernelPanel(name) {
  const p = program(), k = p.kernels.find(x => x.name === name);
  if (!k) return overview();
  const uses = p.launches.filter(l => p.kernels[l.kernel] === k);
  return [
    h("div", {class: "head"}, h("span", {class: "tag", style: `background:${css(`--kind-${k.kind}`)}`}, `${k.kind} kernel`), h("h2", {class: "mono"}, k.name)),
    facts(row("launched", plural(uses.length, "time")), row("operations", flopsText(sum(uses, l => l.flops * (l.times || 1)))), row("moves", bytesText(sum(uses, l => l.bytes)))),
    heading("Launches"), list(uses.map(l => l.id), launchLink, 20), heading("Source"), kernelSource(k, {nodeOf: nodeOfLine(uses[0])}),
  ];
}

function bufferPanel(id) {
  const p = program(), b = p.buffers[id];
  if (!b) return overview();
  const readers = p.launches.filter(l => l.reads.includes(id)).map(l => l.id), writers = p.launches.filter(l => l.writes.includes(id)).map(l => l.id);
  return [
    h("div", {class: "head"}, h("span", {class: "tag"}, "buffer"), h("h2", {}, clip(b.name, 200))),
    facts(row("value", b.node !== undefined ? nodeLink(b.node) : null), row("type", h("span", {class: "mono"}, b.type)), row("size", bytesText(b.bytes)), row("kept", SPACES[b.space]), row("layout", b.layout),
      row("place", b.offset !== undefined ? `bytes ${b.offset.toLocaleString("en")} – ${(b.offset + b.size).toLocaleString("en")} of the arena` : null), row("lives", b.born !== undefined ? `phases ${b.born} – ${b.dies}` : null)),
    heading("Written by", writers.length), list(writers, launchLink), heading("Read by", readers.length), list(readers, launchLink),
  ];
}

function groupPanel(key) {
  const g = tree.groups.get(key);
  if (!g) return overview();
  if (g.launch) return launchPanel(g.launch.id);
  const p = program(), items = g.all(), module = moduleOf(g);
  const nodes = tree.kernels ? [...new Set(items.flatMap(i => p.launches[i].nodes))] : items;
  const ops = [...groupBy(nodes, i => p.nodes[i].op)].map(([op, all]) => [op, all.length]).sort((a, b) => b[1] - a[1]);
  const lines = [...groupBy(nodes.flatMap(i => p.lines(p.nodes[i])), x => x)].sort((a, b) => b[1].length - a[1].length).map(([k]) => k);
  const launches = tree.kernels ? items : [...new Set(nodes.flatMap(i => p.launchesOf.get(i) || []))].sort((a, b) => a - b);
  const heavy = [...nodes].filter(i => p.nodes[i].flops).sort((a, b) => p.nodes[b].flops - p.nodes[a].flops);
  return [
    h("div", {class: "head"}, h("span", {class: "tag"}, g.times > 1 ? `${g.times} equal blocks` : PHASE_NAMES[key] ? "phase" : "module"), h("h2", {}, clip(groupTitle(g), 200))),
    PHASE_NOTES[key] ? h("p", {class: "about"}, PHASE_NOTES[key]) : null,
    h("p", {}, h("button", {onclick: () => toggle(g)}, state.opened.has(key) ? "Fold" : "Open"), " ", h("button", {onclick: () => openDeep(g)}, "Open all inside")),
    facts(row("class", module ? module.class : null), row("output", module ? h("span", {class: "mono"}, module.output) : null), row("parameters", module && module.parameters ? module.parameters.toLocaleString("en") : null),
      row(tree.kernels ? "launches" : "nodes", g.count.toLocaleString("en")), row("kernels", launches.length ? plural(launches.length, "launch", "launches") : null),
      row("operations", flopsText(g.flops)), row("values", tree.kernels ? null : bytesText(g.bytes)), row("time", g.seconds ? timeText(g.seconds) : null)),
    heading("Operators"), h("p", {class: "chips"}, ops.slice(0, 14).map(([op, n]) => h("span", {}, `${op}${n > 1 ? ` ×${n}` : ""}`))),
    heavy.length ? [heading("Most work"), list(heavy, nodeLink, 6)] : null,
    lines.length ? [heading("Your code"), lines.slice(0, 3).map(k => snippet(k))] : null,
    launches.length ? [heading("Kernels", launches.length), list(launches, launchLink, 10)] : null,
  ];
}

// Level by level, while it can still be drawn quickly.
function openDeep(g) {
  const opened = new Set(state.opened);
  let count = 0, level = [g], whole = true;
  while (level.length) {
    const next = level.flatMap(x => [...x.groups.values()]);
    for (const x of level) {
      const more = x.items.length + x.groups.size;
      if (count + more > MOST_BOXES) { whole = false; continue; }
      count += more;
      opened.add(x.key);
    }
    level = next.filter(x => opened.has(x.parent.key));
  }
  for (let x = g.parent; x && x.parent; x = x.parent) opened.add(x.key);
  set({opened, touched: true});
  if (!whole) note(`The rest stays folded: more than ${MOST_BOXES.toLocaleString("en")} boxes`);
}

function linePanel(key) {
  const p = program(), at = report.line(key);
  if (!at) return overview();
  const launches = p.launchesOfLine(key), nodes = new Set(p.nodesOfLine(key).map(n => n.id));
  const stages = p.stages.map((s, i) => [s, i, s.key === "kernels" ? launches.length : s.nodes.filter(n => nodes.has(n)).length]);
  const most = Math.max(...stages.map(s => s[2]), 1);
  const here = index().order.filter(i => nodes.has(i) && !index().constant.has(i) && p.nodes[i].op !== "input");
  return [
    h("div", {class: "head"}, h("span", {class: "tag"}, "your line"), h("h2", {}, at.name)), snippet(key, false),
    heading("In every stage"), h("div", {class: "ladder"}, stages.map(([s, i, n]) => h("button", {class: i === state.stage ? "on" : "", onclick: () => set({stage: i})},
      h("span", {}, s.title), h("i", {style: `width:${(62 * n / most).toFixed(1)}%`}), h("b", {}, String(n))))),
    tree.kernels ? null : [heading("Nodes here", here.length), list(here, nodeLink, 14)],
    heading("Kernels", launches.length),
    launches.slice(0, 3).map(l => [launchLink(l.id), kernelSource(p.kernels[l.kernel], {lit: linesFor(l, nodes), nodeOf: nodeOfLine(l)})]),
    list(launches.slice(3).map(l => l.id), launchLink, 10),
  ];
}

// What became of the program, in a few sentences, and what costs most.
function overview() {
  const p = program(), first = p.stages[0], fused = p.stage("fused"), memory = p.data.memory;
  const lines = new Set(p.nodes.flatMap(n => p.lines(n)));
  const flops = sum(p.launches, l => l.flops * (l.times || 1)), moved = sum(p.launches, l => l.bytes * (l.times || 1));
  const measured = sum(p.launches, l => l.seconds);
  const step = (key, big, text) => h("button", {class: "fact", onclick: () => { const i = p.stage(key); if (i >= 0) set({stage: i}); }}, h("b", {}, big), h("span", {}, text));
  const barriers = p.launches.filter(l => l.barrier).length;
  const top = [...p.launches].sort((a, b) => measured ? (b.seconds || 0) - (a.seconds || 0) : b.flops * (b.times || 1) - a.flops * (a.times || 1)).slice(0, 8);
  const cost = l => measured ? (l.seconds || 0) : l.flops * (l.times || 1), all = measured || flops || 1;
  return [
    h("div", {class: "head"}, h("span", {class: "tag"}, "program"), h("h2", {}, p.name)),
    h("p", {class: "about"}, "How your code becomes kernels. Walk along the stages above; click a box or a line of code to follow it."),
    h("div", {class: "story"},
      lines.size ? step(first.key, lines.size, `${lines.size === 1 ? "line" : "lines"} of your code`) : null,
      step(first.key, first.nodes.length.toLocaleString("en"), "traced nodes"),
      p.stage("gradient") > 0 ? step("gradient", p.stages[p.stage("gradient")].nodes.length.toLocaleString("en"), "with gradient and update") : null,
      p.stage("decompose") >= 0 ? step("decompose", p.stages[p.stage("decompose")].nodes.length.toLocaleString("en"), "primitives") : null,
      fused >= 0 ? step("fused", p.launches.length.toLocaleString("en"), "kernel launches") : null,
      fused >= 0 ? step("kernels", p.kernels.length.toLocaleString("en"), "distinct kernels") : null),
    p.launches.length ? facts(
      row("operations", `${flopsText(flops)} a run`), row("memory moved", `${bytesText(moved)} a run`), row("measured", measured ? `${timeText(measured)} in kernels` : null),
      row("arena", memory ? [bytesText(memory.arena), h("span", {class: "dim"}, ` for ${bytesText(memory.unplanned)} of temporaries`)] : null),
      row("parameters, state", memory ? bytesText(memory.slots) : null), row("barriers", String(barriers))) : h("p", {class: "dim"}, "This program runs the graph as it was traced, or was not compiled: it has no kernels."),
    top.length ? [heading(measured ? "Where the time goes" : "Where the work is"), h("div", {class: "ranks"}, top.map(l => h("button", {data: {launch: l.id}, onclick: () => select("launch", l.id)},
      h("i", {style: `width:${(100 * cost(l) / (cost(top[0]) || 1)).toFixed(1)}%`}), h("span", {}, `${l.id}  ${clip(l.name, 34)}`), h("b", {}, `${measured ? timeText(cost(l)) : flopsText(cost(l))} · ${percent(cost(l) / all)}`))))] : null,
    (p.data.notes || []).length ? [heading("Copies", p.data.notes.length), list(p.data.notes, t => h("div", {class: "dim small"}, clip(t, 200)), 5)] : null,
  ];
}

function drawPanel() {
  const s = state.selected;
  const content = s ? {node: nodePanel, launch: launchPanel, group: groupPanel, buffer: bufferPanel, kernel: kernelPanel}[s.kind](s.id)
    : state.line ? linePanel(state.line) : overview();
  $("panel").replaceChildren(...[content].flat(Infinity).filter(Boolean));
  $("right").scrollTop = 0;
}

onChange(["program", "stage", "selected", "line", "params", "consts", "opened"], drawPanel);
