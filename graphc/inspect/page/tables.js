// Tables at the bottom: passes with the rules that fired, kernels, and the stage as text.

function passesView() {
  const p = program();
  if (!p.data.passes.length) return h("p", {class: "hint"}, "No passes ran.");
  return h("table", {class: "grid", id: "passes"}, h("thead", {}, h("tr", {}, ["pass", "time", "made", "replaced", "nodes after", "rules that fired"].map(t => h("th", {}, t)))),
    h("tbody", {}, p.data.passes.map(x => h("tr", {class: `link ${x.stage === state.stage ? "on" : ""}`, onclick: () => set({stage: x.stage, changes: true})},
      h("td", {}, h("b", {}, x.name)), h("td", {class: "n"}, timeText(x.seconds)), h("td", {class: "n plus"}, x.added.length ? `+${x.added.length}` : ""), h("td", {class: "n minus"}, x.removed.length ? `−${x.removed.length}` : ""), h("td", {class: "n"}, p.stages[x.stage].nodes.length.toLocaleString("en")),
      h("td", {class: "chips"}, Object.entries(x.rules).sort((a, b) => b[1] - a[1]).map(([r, n]) => h("button", {class: state.rule === r ? "on" : "", title: report.data.rules[r] || r, onclick: e => { e.stopPropagation(); set({stage: x.stage, rule: state.rule === r ? null : r, line: null, selected: null}); }}, `${r}${n > 1 ? ` ×${n}` : ""}`)))))));
}

let kernelOrder = "work";
function kernelsView() {
  const p = program();
  if (!p.kernels.length) return h("p", {class: "hint"}, "No kernels.");
  const rows = p.kernels.map((k, i) => {
    const uses = p.launches.filter(l => l.kernel === i);
    return {k, uses, flops: sum(uses, l => l.flops * (l.times || 1)), bytes: sum(uses, l => l.bytes * (l.times || 1)), seconds: sum(uses, l => l.seconds), lines: k.source.split("\n").length - 1};
  });
  const orders = {name: (a, b) => a.k.name < b.k.name ? -1 : 1, launches: (a, b) => b.uses.length - a.uses.length, work: (a, b) => b.flops - a.flops, bytes: (a, b) => b.bytes - a.bytes, time: (a, b) => b.seconds - a.seconds, lines: (a, b) => b.lines - a.lines};
  rows.sort(orders[kernelOrder]);
  const column = (key, text) => h("th", {class: `sort ${kernelOrder === key ? "on" : ""}`, onclick: () => { kernelOrder = key; drawBottom(); }}, text);
  return h("table", {class: "grid", id: "kernels"}, h("thead", {}, h("tr", {}, column("name", "kernel"), h("th", {}, "kind"), h("th", {}, "computes"), column("launches", "launches"), column("work", "operations"), column("bytes", "bytes"), p.profile ? column("time", "time") : null, column("lines", "lines"))),
    h("tbody", {}, rows.map(r => h("tr", {class: `link ${state.selected && state.selected.kind === "kernel" && state.selected.id === r.k.name ? "on" : ""}`, onclick: () => select("kernel", r.k.name, {line: null, rule: null})},
      h("td", {class: "mono"}, r.k.name), h("td", {}, r.k.kind), h("td", {}, clip(r.uses[0].name, 50)), h("td", {class: "n"}, String(r.uses.length)), h("td", {class: "n"}, flopsText(r.flops)), h("td", {class: "n"}, bytesText(r.bytes)), p.profile ? h("td", {class: "n"}, timeText(r.seconds)) : null, h("td", {class: "n"}, String(r.lines))))));
}

const TEXT_LINES = 3000;
function stageText(p, stage) {
  const ix = p.index(stage), names = new Map();
  let count = 0;
  for (const i of ix.order) { const n = p.nodes[i]; names.set(i, n.op === "input" ? `%${n.name}` : `%${count++}`); }
  return ix.order.filter(i => p.nodes[i].op !== "input").map(i => {
    const n = p.nodes[i];
    const inside = [...(n.inputs || []).map(x => names.get(x) || "?"), ...Object.entries(n.attrs || {}).map(([k, v]) => `${k}=${v}`)];
    const where = p.lines(n).map(k => { const at = report.line(k); return at ? at.name : ""; });
    return [i, `${n.context ? "  " : ""}${names.get(i)} = ${n.op}(${inside.join(", ")}) : ${n.type}`, [...where, n.module].filter(Boolean).join(" ")];
  });
}

function textView() {
  const p = program();
  if (stageKey() === "kernels") return h("div", {class: "scroll text"}, p.kernels.map(k => [h("h4", {class: "mono"}, k.name), kernelSource(k)]));
  const lines = stageText(p, state.stage);
  return h("div", {class: "scroll text", id: "stage-text"}, lines.slice(0, TEXT_LINES).map(([i, text, where]) => h("div", {class: `row live ${same(state.selected, {kind: "node", id: i}) ? "on" : ""}`, data: {node: i}, onclick: () => { select("node", i, {line: null, rule: null}); if (tree.shown.has(i)) reveal(i); }},
    h("code", {}, clip(text, 220)), where ? h("span", {class: "c"}, `  # ${clip(where, 60)}`) : null)), lines.length > TEXT_LINES ? h("p", {class: "hint"}, `${lines.length - TEXT_LINES} more lines: Export has all of it.`) : null);
}

const BOTTOM = {memory: ["Memory", memoryView], launches: ["Launches", launchesView], kernels: ["Kernels", kernelsView], passes: ["Passes", passesView], text: ["Text", textView], compare: ["Compare", () => compareView()]};

function drawBottom() {
  if (!BOTTOM[state.bottom]) state.bottom = "memory";
  $("bottom-tabs").replaceChildren(...Object.entries(BOTTOM).map(([k, [t]]) => h("button", {role: "tab", "aria-selected": String(state.bottom === k), data: {tab: k}, onclick: () => set({bottom: k})}, t)));
  const body = $("bottom-body"), inner = body.firstElementChild;
  const kept = inner ? [inner.scrollLeft, inner.scrollTop, body.scrollTop] : null;
  const same = body.dataset.tab === state.bottom;
  body.replaceChildren(BOTTOM[state.bottom][1]());
  body.dataset.tab = state.bottom;
  if (kept && same && body.firstElementChild) { [body.firstElementChild.scrollLeft, body.firstElementChild.scrollTop, body.scrollTop] = kept; }
}

onChange(["program", "stage", "bottom", "selected", "line", "rule"], now => {
  if (now.size === 1 && now.has("stage") && ["memory", "launches", "kernels", "compare"].includes(state.bottom)) return;
  drawBottom();
});
