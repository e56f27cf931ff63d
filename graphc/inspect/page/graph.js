// The graph: boxes of the present stage in cytoscape, what is marked, and what a click does.

let cy = null;
let tree = null;
let shown = null;
const trees = new Map();

const KINDS = {
  contract: "products", elementwise: "elementwise", reduce: "reductions", view: "views", composite: "composites", scan: "loops",
  gather: "gathers", scatter: "scatters", generate: "generators", input: "inputs", identity: "copies", const: "constants", custom: "custom",
  map: "map kernels", row: "row kernels",
};
const HEATS = {
  time: {name: "measured time", unit: timeText, of: x => x.seconds},
  bytes: {name: "bytes", unit: bytesText, of: x => x.bytes},
  flops: {name: "operations", unit: flopsText, of: x => x.flops},
  roofline: {name: "distance from the roofline", unit: x => `${x.toFixed(1)}×`, of: x => x.roofline},
};
const COLOURS = {
  kind: "kind", phase: "phase", scope: "module", dtype: "dtype", bytes: "bytes", flops: "operations", time: "measured time",
  roofline: "distance from the roofline",
};

function makeGraph() {
  cytoscape.use(cytoscapeDagre);
  cy = cytoscape({
    container: $("graph"), minZoom: 0.02, maxZoom: 3, boxSelectionEnabled: false, autoungrabify: true, pixelRatio: "auto",
    hideEdgesOnViewport: false, textureOnViewport: false, style: [],
  });
  cy.on("tap", "node", e => {
    const box = e.target.data("box");
    if (box) select(...selectionOf(box));
  });
  cy.on("tap", e => { if (e.target === cy) select(null, null, {line: null, rule: null}); });
  cy.on("dbltap", "node", e => { const g = e.target.data("box") && e.target.data("box").group; if (g) toggle(g); });
  cy.on("mouseover", "node", e => {
    const box = e.target.data("box");
    if (box) showTip(e.originalEvent, ...tipOf(box));
    cy.container().style.cursor = "pointer";
  });
  cy.on("mouseover", "edge", e => {
    const edge = e.target.data("edge");
    if (edge) showTip(e.originalEvent, h("b", {}, plural(edge.values.size, "value")), h("div", {class: "dim"}, bytesText(edge.bytes)), edgeTypes(edge));
  });
  cy.on("mouseout", () => { hideTip(); cy.container().style.cursor = ""; });
  cy.on("viewport", hideTip);
}

const selectionOf = box => box.group ? ["group", box.group.key] : [tree.kernels ? "launch" : "node", box.item];

function edgeTypes(edge) {
  const types = [...edge.values].slice(0, 4).map(v => tree.kernels ? program().buffers[v].type : program().nodes[v].type);
  return h("div", {class: "mono"}, types.map(t => h("div", {}, clip(t, 60))), edge.values.size > 4 ? "…" : null);
}

function tipOf(box) {
  if (box.group) {
    const g = box.group;
    return [h("b", {}, clip(groupTitle(g), 80)), h("div", {class: "dim"},
      `${plural(g.count, tree.kernels ? "launch" : "node", tree.kernels ? "launches" : "nodes")} · ${flopsText(g.flops)} operations`
      + (g.seconds ? ` · ${timeText(g.seconds)}` : "")),
      h("div", {class: "dim"}, state.opened.has(g.key) ? "double click folds" : "double click opens")];
  }
  if (tree.kernels) {
    const l = program().launches[box.item];
    return [h("b", {}, clip(l.name, 80)), h("div", {class: "dim"}, `${l.kind} kernel · ${flopsText(l.flops)} operations · ${bytesText(l.bytes)}`
      + (l.seconds ? ` · ${timeText(l.seconds)}` : ""))];
  }
  const n = program().nodes[box.item];
  const line = n.locs && report.line(program().lines(n)[0]);
  return [h("b", {}, clip(program().label(n), 80)), " ", h("span", {class: "mono"}, clip(n.type, 80)),
    n.module ? h("div", {class: "dim"}, clip(n.module, 80)) : null,
    line ? h("div", {class: "mono code"}, `${clip(line.name, 40)}  ${clip(line.text.trim(), 80)}`) : null];
}

// -- titles of boxes
function moduleOf(g) {
  const path = g.key.split("/").filter(p => !PHASES.includes(p) && !p.includes("..")).join(".");
  return report.modules.get(path);
}

function groupTitle(g) {
  if (g.launch) return `kernel ${g.launch.id}`;
  if (g.sameKernel !== undefined) return `${program().launches[g.items[0]].name} ×${g.items.length}`;
  const name = g.depth === 1 && PHASE_NAMES[g.key] ? PHASE_NAMES[g.key] : g.name;
  const module = moduleOf(g);
  return name + (g.times > 1 ? `  ×${g.times}` : "") + (module && g.times === 1 ? `  ${module.class}` : "");
}

function boxLines(box) {
  const p = program();
  if (box.group) {
    const g = box.group;
    const what = tree.kernels ? plural(g.count, "launch", "launches") : plural(g.count, "node");
    if (g.launch) return [`kernel ${g.launch.id} · ${g.launch.kind}`, `${clip(g.launch.name, 30)} · ${what}`];
    if (g.times > 1) {
      const first = [...g.groups.values()][0];
      const module = first && moduleOf(first);
      return [`${clip(g.name, 24)}  ×${g.times}`, `${module ? clip(module.class, 24) + " · " : ""}${what}`];
    }
    return [clip(groupTitle(g), 40), what];
  }
  if (tree.kernels) {
    const l = p.launches[box.item];
    return [`${l.id}  ${clip(l.name, 34)}`, `${l.kind} [${clip(l.axes.join(" × ") || "1", 26)}]${l.times > 1 ? ` ×${l.times}` : ""}`];
  }
  const n = p.nodes[box.item];
  const results = resultsOf(n.id);
  return [clip(p.label(n), 34) + (results.length ? `  →  ${clip(results.join(", "), 30)}` : ""), clip(n.type, 36)];
}

// The names under which the program returns a node.
const resultsOf = i => index().record.outputs.filter(([, n]) => n === i).map(([name]) => name);

// -- colours
function kindOf(box) {
  if (box.group) return box.group.launch ? box.group.launch.kind : "group";
  return tree.kernels ? program().launches[box.item].kind : program().nodes[box.item].kind;
}

function measures(box) {
  const p = program();
  if (box.group) {
    const g = box.group;
    if (g.launch) return {...g, flops: g.launch.flops, bytes: g.launch.bytes, seconds: g.launch.seconds, roofline: p.gap(g.launch.seconds, p.least(g.launch))};
    return {flops: g.flops, bytes: g.bytes, seconds: g.seconds || undefined, roofline: p.gap(g.seconds, g.least)};
  }
  if (tree.kernels) {
    const l = p.launches[box.item];
    return {flops: l.flops * (l.times || 1), bytes: l.bytes, seconds: l.seconds, roofline: p.gap(l.seconds, p.least(l))};
  }
  const n = p.nodes[box.item];
  const launches = p.launchesOf.get(n.id) || [];
  const far = launches.map(i => p.gap(p.launches[i].seconds, p.least(p.launches[i]))).filter(x => x !== undefined);
  return {flops: n.flops || 0, bytes: n.bytes || 0, seconds: p.seconds.get(n.id), roofline: far.length ? Math.max(...far) : undefined};
}

function firstNode(box) {
  const item = box.group ? box.group.all()[0] : box.item;
  const p = program();
  return tree.kernels ? p.nodes[p.launches[item].nodes[0]] || {} : p.nodes[item];
}

function nameFor(box) {
  const n = firstNode(box);
  if (state.colour === "dtype") return box.group && !box.group.launch ? "" : n.dtype || "";
  if (state.colour === "phase") return PHASE_NAMES[n.phase] || "";
  if (state.colour === "scope") return (n.path && n.path.slice(0, 2).join(".")) || "";
  return "";
}

function paint(boxes) {
  const legend = [];
  const fills = new Map();
  if (state.colour === "kind") {
    const seen = new Set();
    for (const b of boxes) { const k = kindOf(b); seen.add(k); fills.set(b.id, css(`--kind-${k}`) || css("--kind-identity")); }
    for (const k of Object.keys(KINDS)) if (seen.has(k)) legend.push([css(`--kind-${k}`), KINDS[k]]);
  } else if (HEATS[state.colour]) {
    const {of, unit, name} = HEATS[state.colour];
    const values = boxes.map(b => of(measures(b)));
    const top = Math.max(...values.filter(v => v !== undefined && isFinite(v)), 0);
    boxes.forEach((b, i) => fills.set(b.id, values[i] === undefined ? css("--kind-group") : heat(!top ? 0 : state.colour === "roofline" ? Math.log(Math.max(values[i], 1)) / Math.log(Math.max(top, 1.001)) : Math.sqrt(values[i] / top))));
    legend.push(top ? ["scale", `${name}: ${state.colour === "roofline" ? 1 : 0}`, unit(top)] : ["", `no ${name} here`]);
  } else {
    const names = [...new Set(boxes.map(nameFor))].sort();
    for (const b of boxes) { const n = nameFor(b); fills.set(b.id, n ? hueOf(names.indexOf(n)) : css("--kind-group")); }
    for (const n of names.slice(0, 14)) if (n) legend.push([hueOf(names.indexOf(n)), n]);
  }
  $("legend").replaceChildren(...legend.map(([colour, text, most]) => colour === "scale"
    ? h("span", {class: "scale"}, text, h("i", {style: `background:linear-gradient(90deg,${[0, .25, .5, .75, 1].map(heat).join(",")})`}), most)
    : h("span", {}, colour ? h("i", {style: `background:${colour}`}) : null, clip(text, 30))));
  return fills;
}

function graphStyle() {
  const text = css("--text"), dim = css("--dim"), accent = css("--accent"), font = "system-ui, sans-serif";
  return [
    {selector: "node", style: {
      shape: "round-rectangle", "corner-radius": 6, width: "data(width)", height: "data(height)", "background-color": "data(fill)",
      "border-width": 1, "border-color": css("--box-line"), label: "data(label)", "text-valign": "center", "text-halign": "center", "text-wrap": "wrap",
      "font-family": font, "font-size": 11.5, "line-height": 1.25, color: text, "min-zoomed-font-size": 5, "overlay-opacity": 0,
    }},
    {selector: "node.folded", style: {"border-width": 1.5, "border-color": css("--group-line"), "font-weight": 600}},
    {selector: "node.stack", style: {"border-width": 4, "border-style": "double", "border-color": css("--group-line")}},
    {selector: "node.io", style: {"border-style": "dashed", shape: "round-rectangle", "corner-radius": 14}},
    {selector: "node.result", style: {"border-width": 2, "border-color": css("--added"), "corner-radius": 14}},
    {selector: ":parent", style: {
      "background-color": css("--frame"), "background-opacity": 1, "border-color": css("--frame-line"), "border-width": 1, "corner-radius": 10, padding: 14,
      label: "data(label)", "text-valign": "top", "text-halign": "center", "text-margin-y": -3, "font-size": 11.5, "font-weight": 600, color: dim,
      "text-background-color": css("--page"), "text-background-opacity": 0.7, "text-background-padding": 2,
    }},
    {selector: "edge", style: {
      width: "data(width)", "curve-style": "bezier", "line-color": css("--edge"), "target-arrow-color": css("--edge"), "target-arrow-shape": "triangle",
      "arrow-scale": 0.8, "overlay-opacity": 0, "target-endpoint": "outside-to-node",
    }},
    {selector: "node.added", style: {"border-color": css("--added"), "border-width": 3}},
    {selector: "node.going", style: {"border-color": css("--removed"), "border-width": 3, "border-style": "dashed"}},
    {selector: "node.lit", style: {"border-color": css("--lit"), "border-width": 3.5}},
    {selector: "node.faint, edge.faint", style: {opacity: 0.36}},
    {selector: ":parent.faint", style: {opacity: 1}},
    {selector: "edge.into, edge.outof", style: {"line-color": accent, "target-arrow-color": accent, width: 2.5, "z-index": 9}},
    {selector: "node.chosen", style: {"border-color": accent, "border-width": 3.5}},
  ];
}

// -- drawing
function currentTree() {
  const key = `${state.program}:${state.stage}:${state.params}:${state.consts}`;
  if (!trees.has(key)) trees.set(key, new Tree(program(), state.stage, {params: state.params, consts: state.consts}));
  return trees.get(key);
}

function draw({keep = null} = {}) {
  const before = keep && cy.getElementById(keep).nonempty() ? cy.getElementById(keep).renderedPosition() : null;
  const view = tree ? {zoom: cy.zoom(), pan: {...cy.pan()}} : null;
  const previous = tree;
  tree = currentTree();
  if (!state.touched) state.opened = tree.defaultOpen();
  state.opened.add("");
  shown = tree.project(state.opened);
  const boxes = [...shown.boxes.values()];
  const fills = paint(boxes);
  const elements = [];
  for (const f of shown.frames.values()) {
    elements.push({data: {id: f.id, parent: f.parent || undefined, label: `${clip(groupTitle(f.group), 44)}`, box: f, fill: css("--frame"), width: 10, height: 10}});
  }
  for (const b of boxes) {
    const lines = boxLines(b);
    const input = !b.group && !tree.kernels && program().nodes[b.item].op === "input";
    elements.push({
      data: {id: b.id, parent: b.parent || undefined, label: lines.join("\n"), box: b, fill: fills.get(b.id), ...boxSize(lines, b.group && !b.group.launch)},
      classes: `${b.group && !b.group.launch ? "folded" : ""} ${b.group && (b.group.times > 1 || b.group.sameKernel !== undefined) ? "stack" : ""} ${input ? "io" : ""} ${!b.group && !tree.kernels && resultsOf(b.item).length ? "result" : ""}`,
    });
  }
  const most = Math.max(...[...shown.edges.values()].map(e => e.bytes), 1);
  for (const e of shown.edges.values()) {
    elements.push({data: {id: e.id, source: e.from, target: e.to, edge: e, width: 1 + 2.5 * Math.sqrt(e.bytes / most)}});
  }
  cy.startBatch();
  cy.elements().remove();
  cy.style(graphStyle());
  cy.add(elements);
  cy.endBatch();
  arrange(cy, many => { if (many) note(`${cy.nodes().length} boxes: drawn in rows by depth`); });
  const after = keep && cy.getElementById(keep).nonempty() ? cy.getElementById(keep) : null;
  if (before && after) {
    cy.zoom(view.zoom);
    const now = after.renderedPosition();
    cy.panBy({x: before.x - now.x, y: before.y - now.y});
  } else if (!view || !previous || previous !== tree) home();
  mark();
  crumbs();
  const n = boxes.length;
  $("status").textContent = `${plural(n, "box", "boxes")} for ${plural(tree.visible.length, tree.kernels ? "launch" : "node", tree.kernels ? "launches" : "nodes")}`;
  $("graph").dataset.boxes = n;
}

// Everything, unless it would be too small to read: then the upper end.
function home() {
  cy.fit(undefined, 48);
  if (cy.zoom() > 1.15) { cy.zoom(1.15); cy.center(); }
  if (cy.zoom() < 0.45) {
    const box = cy.elements().boundingBox(), leaves = cy.nodes().filter(n => !n.isParent()).toArray();
    const top = leaves.filter(n => n.position().y < box.y1 + 160), level = 0.65;
    const x = top.length ? sum(top, n => n.position().x) / top.length : (box.x1 + box.x2) / 2;
    cy.zoom(level);
    cy.pan({x: cy.width() / 2 - level * x, y: 44 - level * box.y1});
  }
}

function toggle(g) {
  const opened = new Set(state.opened);
  if (opened.has(g.key)) for (const k of [...opened]) { if (k === g.key || tree.groups.get(k) && within(tree.groups.get(k), g)) opened.delete(k); }
  else opened.add(g.key);
  set({opened, touched: true});
}
const within = (g, outer) => { for (let p = g.parent; p; p = p.parent) if (p === outer) return true; return false; };

// Opens the groups around an item and brings it into view.
function reveal(item) {
  const opened = new Set(state.opened);
  for (let g = tree.home.get(item); g && g.parent; g = g.parent) opened.add(g.key);
  if ([...opened].some(k => !state.opened.has(k))) set({opened, touched: true});
  const found = cy.getElementById(`${tree.kernels ? "k" : "n"}:${item}`);
  if (found.nonempty()) look(found);
}

function look(found) {
  const e = cy.extent(), p = found.position();
  if (p.x < e.x1 || p.x > e.x2 || p.y < e.y1 || p.y > e.y2 || cy.zoom() < 0.35) cy.animate({center: {eles: found}, zoom: Math.max(cy.zoom(), 0.7)}, {duration: 180});
}

// -- marks: the selection, what comes from the same lines, what a pass changed
function litItems() {
  const p = program();
  if (state.line) {
    const nodes = p.nodesOfLine(state.line).map(n => n.id);
    if (!tree.kernels) return new Set(nodes);
    return new Set(p.launchesOfLine(state.line).map(l => l.id));
  }
  if (state.rule) {
    const nodes = p.nodes.filter(n => (n.rules || []).includes(state.rule)).map(n => n.id);
    return tree.kernels ? new Set(nodes.flatMap(n => p.launchesOf.get(n) || [])) : new Set(nodes);
  }
  const s = state.selected;
  if (!s) return null;
  if (s.kind === "launch" && !tree.kernels) return new Set(p.launches[s.id] ? p.launches[s.id].nodes : []);
  if (s.kind === "kernel") {
    const uses = p.launches.filter(l => p.kernels[l.kernel].name === s.id);
    return new Set(tree.kernels ? uses.map(l => l.id) : uses.flatMap(l => l.nodes));
  }
  if (s.kind === "buffer") {
    const touching = p.launches.filter(l => l.reads.includes(s.id) || l.writes.includes(s.id));
    if (tree.kernels) return new Set(touching.map(l => l.id));
    const b = p.buffers[s.id];
    return new Set(b && b.node !== undefined ? [b.node] : []);
  }
  if (s.kind === "node") {
    if (tree.kernels) return new Set(p.launchesOf.get(s.id) || []);
    if (!tree.shown.has(s.id) && p.nodes[s.id]) {  // made by an earlier or later pass: what comes from the same lines and module
      const lines = new Set(p.lines(p.nodes[s.id])), module = p.nodes[s.id].module;
      return new Set(tree.visible.filter(i => p.nodes[i].module === module && p.lines(p.nodes[i]).some(l => lines.has(l))));
    }
  }
  return null;
}

function chosenElement() {
  const s = state.selected;
  if (!s || !shown) return null;
  if (s.kind === "group") return cy.getElementById(`g:${s.id}`);
  if (s.kind === (tree.kernels ? "launch" : "node")) {
    const id = shown.where.get(s.id);
    return id ? cy.getElementById(id) : null;
  }
  return null;
}

function mark() {
  if (!shown) return;
  cy.startBatch();
  cy.elements().removeClass("lit faint into outof chosen added going");
  const lit = litItems();
  if (lit) {
    const ids = new Set([...lit].map(i => shown.where.get(i)).filter(Boolean));
    cy.nodes().forEach(n => { if (!n.isParent()) n.addClass(ids.has(n.id()) ? "lit" : "faint"); });
    cy.edges().addClass("faint");
  }
  const chosen = chosenElement();
  if (chosen && chosen.nonempty()) {
    chosen.removeClass("faint").addClass("chosen");
    chosen.incomers("edge").removeClass("faint").addClass("into");
    chosen.outgoers("edge").removeClass("faint").addClass("outof");
  }
  if (state.bottom === "compare" && other && !tree.kernels) {
    for (const i of differing()) { const id = shown.where.get(i); if (id) cy.getElementById(id).addClass("added"); }
  } else if (state.changes) {
    const {added, going} = changesAt(state.stage);
    const light = (items, name) => { for (const i of items) { const id = shown.where.get(i); if (id) cy.getElementById(id).addClass(name); } };
    light(going, "going");
    light(added, "added");
  }
  cy.endBatch();
  $("graph").dataset.lit = lit ? cy.nodes(".lit").length : 0;
  $("graph").dataset.added = cy.nodes(".added").length;
}

function crumbs() {
  const g = state.selected && state.selected.kind === "group" ? tree.groups.get(state.selected.id)
    : state.selected && tree.home.get(state.selected.id);
  const path = [];
  for (let x = g; x && x.parent; x = x.parent) path.unshift(x);
  $("crumbs").replaceChildren(...path.map(x => h("button", {onclick: () => select("group", x.key)}, clip(groupTitle(x), 30))));
}

function note(text) {
  $("status").textContent = text;
}

onChange(["program", "stage", "params", "consts"], () => draw());
onChange(["opened"], now => {
  if (now.has("program") || now.has("stage")) return;
  const chosen = state.selected && state.selected.kind === "group" ? `g:${state.selected.id}` : state.selected ? shown && shown.where.get(state.selected.id) : null;
  draw({keep: chosen || null});
});
onChange(["colour"], () => {
  const fills = paint([...shown.boxes.values()]);
  cy.batch(() => fills.forEach((fill, id) => cy.getElementById(id).data("fill", fill)));
});
onChange(["selected", "line", "rule", "changes", "bottom"], () => { mark(); crumbs(); });
