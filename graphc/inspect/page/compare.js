// Two reports side by side: totals, kernels, operators and modules that changed, and the nodes that only one of them has.

let other = null;
let otherName = "";

function readReport(text) {
  if (text.trimStart().startsWith("{")) return new Report(JSON.parse(text));
  const begin = 'id="report-data">', at = text.indexOf(begin);
  if (at < 0) throw new Error("no report in this file");
  return new Report(JSON.parse(text.slice(at + begin.length, text.indexOf("</", at))));
}

async function loadOther(file) {
  try {
    other = readReport(await file.text());
    otherName = file.name;
    set({bottom: "compare"});
    drawBottom();
    mark();
  } catch (e) {
    dialog("This file cannot be compared", h("p", {}, String(e.message || e)));
  }
}

// What a node is, apart from its number: nodes of two reports with the same text are the same, as often as both have it.
const nodeText = (p, n) => `${n.phase} ${n.module} ${n.op === "input" ? n.name : n.op} ${n.type} ${Object.entries(n.attrs || {}).join()}`;
const counted = list => list.reduce((m, x) => m.set(x, (m.get(x) || 0) + 1), new Map());

function onlyIn(list, texts) {
  const left = counted(texts);
  return list.filter(([, text]) => { const n = left.get(text) || 0; left.set(text, n - 1); return n <= 0; });
}

function totals(p) {
  const m = p.data.memory || {};
  return {
    "traced nodes": [p.stages[0].nodes.length, String], "nodes that run": [p.stages[p.stages.length - 1].nodes.length, String], "kernel launches": [p.launches.length, String],
    "distinct kernels": [p.kernels.length, String], barriers: [p.launches.filter(l => l.barrier).length, String], operations: [sum(p.launches, l => l.flops * (l.times || 1)), flopsText],
    "memory moved": [sum(p.launches, l => l.bytes * (l.times || 1)), bytesText], arena: [m.arena || 0, bytesText], "parameters and state": [m.slots || 0, bytesText],
    "time in kernels": [sum(p.launches, l => l.seconds), timeText],
  };
}

function compareView() {
  if (!other) {
    return h("div", {class: "scroll"}, h("p", {class: "hint"}, "Compare this report with another one, of the same model before or after a change: ", h("button", {onclick: () => $("file").click()}, "Choose a report"), " (.html or .json), or drop it on this page."));
  }
  const p = program(), q = other.programs.find(x => x.name === p.name) || other.programs[0];
  const stage = Math.min(state.stage, p.stages.length - 1), theirs = q.stage(p.stages[stage].key) >= 0 ? q.stage(p.stages[stage].key) : q.stages.length - 1;
  const here = p.stages[stage].nodes.map(i => [i, nodeText(p, p.nodes[i])]), there = q.stages[theirs].nodes.map(i => [i, nodeText(q, q.nodes[i])]);
  const added = onlyIn(here, there.map(x => x[1])), gone = onlyIn(there, here.map(x => x[1]));
  const mine = totals(p), his = totals(q);
  const names = new Set(q.kernels.map(k => k.name)), own = new Set(p.kernels.map(k => k.name));
  const newKernels = p.kernels.filter(k => !names.has(k.name)), oldKernels = q.kernels.filter(k => !own.has(k.name));
  const sign = (a, b) => a === b ? h("td", {class: "dim"}, "=") : h("td", {class: `n ${a > b ? "more" : "less"}`}, b ? `${a > b ? "+" : "−"}${percent(Math.abs(a - b) / b)}` : "new");
  return h("div", {class: "scroll columns", id: "comparison"},
    h("section", {}, heading("Totals", `this report against ${clip(otherName, 40)}`), h("table", {class: "grid"}, h("thead", {}, h("tr", {}, ["", "here", "there", ""].map(t => h("th", {}, t)))), h("tbody", {}, Object.keys(mine).filter(k => mine[k][0] || his[k][0]).map(k => h("tr", {}, h("td", {}, k), h("td", {class: "n"}, mine[k][1](mine[k][0])), h("td", {class: "n"}, his[k][1](his[k][0])), sign(mine[k][0], his[k][0])))))),
    h("section", {}, heading(`Only here: ${plural(added.length, "node")}`, `${p.stages[stage].title}, marked in the graph`), list(added.map(x => x[0]), nodeLink, 40)),
    h("section", {}, heading(`Only there: ${plural(gone.length, "node")}`), list(gone, ([i]) => h("div", {class: "link"}, clip(q.label(q.nodes[i]), 30), " ", h("span", {class: "mono dim"}, clip(q.nodes[i].type, 40)), " ", h("span", {class: "dim"}, clip(q.nodes[i].module, 30))), 40)),
    h("section", {}, heading(`Kernels only here: ${newKernels.length}`), list(newKernels, k => h("button", {class: "link mono", onclick: () => select("kernel", k.name)}, k.name), 20), heading(`Kernels only there: ${oldKernels.length}`), list(oldKernels, k => h("details", {}, h("summary", {class: "mono"}, k.name), h("pre", {class: "plain"}, k.source)), 20)));
}

// The nodes that only this report has, marked in the graph.
function differing() {
  if (!other) return [];
  const p = program(), q = other.programs.find(x => x.name === p.name) || other.programs[0], at = q.stage(stageKey());
  if (at < 0) return [];
  return onlyIn(p.stages[state.stage].nodes.map(i => [i, nodeText(p, p.nodes[i])]), q.stages[at].nodes.map(i => nodeText(q, q.nodes[i]))).map(x => x[0]);
}
