// The user's code on the left: each line tells how much came of it, and selecting it lights up its nodes and kernels in every stage.

function lineFacts(p) {
  if (!p.facts) {
    p.facts = new Map();
    const stage = p.index(Math.max(0, p.stage("fused") >= 0 ? p.stage("fused") : 0));
    for (const n of p.nodes) {
      for (const key of new Set(p.lines(n))) {
        if (!p.facts.has(key)) p.facts.set(key, {nodes: 0, flops: 0, bytes: 0, seconds: 0, launches: new Set()});
        const f = p.facts.get(key);
        for (const l of p.launchesOf.get(n.id) || []) f.launches.add(l);
        if (!stage.members.has(n.id)) continue;
        f.nodes++;
        f.flops += n.flops || 0;
        f.bytes += n.bytes || 0;
        f.seconds += p.seconds.get(n.id) || 0;
      }
    }
  }
  return p.facts;
}

const TOKEN = /(#.*$)|("""|'''|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|\b(def|class|return|import|from|for|in|if|else|elif|while|with|as|not|and|or|None|True|False|lambda|self|pass|raise|range|yield|is)\b|\b(\d[\d_.]*(?:e[-+]?\d+)?)\b/g;

// Python with its words coloured.
function codeText(text) {
  const out = [];
  let at = 0;
  for (const m of text.matchAll(TOKEN)) {
    if (m.index > at) out.push(text.slice(at, m.index));
    out.push(h("span", {class: m[1] ? "c" : m[2] ? "s" : m[3] ? "k" : "d"}, m[0]));
    at = m.index + m[0].length;
  }
  out.push(text.slice(at));
  return out;
}

function sourceView() {
  const p = program(), facts = lineFacts(p);
  const measure = {flops: "flops", bytes: "bytes", time: "seconds"}[state.colour] || (p.profile ? "seconds" : "flops");
  const top = Math.max(...[...facts.values()].map(f => f[measure]), 1e-12);
  const chosen = chosenLines();
  const files = report.files.map((f, file) => {
    const rows = [];
    let last = 0;
    for (const [number, text] of Object.entries(f.lines)) {
      const key = `${file}:${number}`, fact = facts.get(key);
      if (last && Number(number) > last + 1) rows.push(h("div", {class: "gap"}, "⋯"));
      last = Number(number);
      const share = fact ? fact[measure] / top : 0;
      rows.push(h("div", {
        class: `row ${fact ? "live" : ""} ${state.line === key ? "on" : ""} ${chosen.has(key) ? "near" : ""}`, data: {line: key}, tabindex: fact ? 0 : undefined,
        title: fact ? `${plural(fact.nodes, "node")}, ${plural(fact.launches.size, "kernel launch", "kernel launches")}, ${flopsText(fact.flops)} operations` + (fact.seconds ? `, ${timeText(fact.seconds)}` : "") : undefined,
        onclick: fact ? () => set({line: state.line === key ? null : key, selected: null, rule: null}) : undefined,
        onkeydown: fact ? e => { if (e.key === "Enter") e.currentTarget.click(); } : undefined,
      },
      h("span", {class: "no"}, number), h("code", {}, codeText(clip(text, 240))),
      fact ? h("span", {class: "badge"}, String(fact.nodes)) : null,
      fact ? h("i", {class: "bar", style: `width:${(100 * Math.sqrt(share)).toFixed(1)}%`}) : null));
    }
    return h("section", {class: "file"}, h("h3", {title: f.path}, f.name), rows);
  }).filter(x => x.children.length > 1);
  const hint = files.length ? h("p", {class: "hint"}, "Your lines, with the nodes that came of each. Select one to follow it into every stage.") : h("p", {class: "hint"}, "The graph knows no lines of code.");
  return [hint, files];
}

function chosenLines() {
  const p = program(), s = state.selected;
  if (!s) return new Set();
  if (s.kind === "node" && p.nodes[s.id]) return new Set(p.lines(p.nodes[s.id]));
  if (s.kind === "launch" && p.launches[s.id]) return new Set(p.launches[s.id].nodes.flatMap(n => p.lines(p.nodes[n])));
  if (s.kind === "group" && tree && tree.groups.get(s.id)) {
    return new Set(tree.groups.get(s.id).all().flatMap(i => tree.kernels ? p.launches[i].nodes.flatMap(n => p.lines(p.nodes[n])) : p.lines(p.nodes[i])));
  }
  return new Set();
}

function modulesView() {
  const rows = report.data.modules;
  if (!rows.length) return [h("p", {class: "hint"}, "The program was made from a function: it has no modules.")];
  return [h("table", {class: "grid"}, h("thead", {}, h("tr", {}, ["layer", "output", "parameters", "MACs"].map(t => h("th", {}, t)))),
    h("tbody", {}, rows.map(m => h("tr", {class: "link", onclick: () => openModule(m.path)},
      h("td", {style: `padding-left:${8 + 12 * (m.depth || 0)}px`}, h("b", {}, clip(m.path.split(".").pop() || report.data.title, 40)), " ", h("span", {class: "dim"}, m.class)),
      h("td", {class: "mono"}, clip(m.output || "", 40)), h("td", {class: "n"}, m.parameters ? flopsText(m.parameters) : ""), h("td", {class: "n"}, m.macs || "")))))];
}

function openModule(path) {
  const want = (program().phases ? "forward/" : "") + path.split(".").join("/");
  const opened = new Set(state.opened);
  let best = null;
  for (const g of tree.groups.values()) {
    const plain = g.key.split("/").filter(x => !x.includes("..")).join("/");
    if (plain === want || want.startsWith(plain + "/")) {
      if (!best || g.depth > best.depth) best = g;
      if (plain !== want) opened.add(g.key);
    }
  }
  if (!best) return;
  for (let g = best.parent; g && g.parent; g = g.parent) opened.add(g.key);
  set({opened, touched: true, selected: {kind: "group", id: best.key}, line: null});
  const found = cy.getElementById(`g:${best.key}`);
  if (found.nonempty()) look(found);
}

function drawLeft() {
  const tabs = {source: "Your code", modules: "Modules"};
  $("left-tabs").replaceChildren(...Object.entries(tabs).map(([k, t]) => h("button", {role: "tab", "aria-selected": String(state.left === k), data: {tab: k}, onclick: () => set({left: k})}, t)));
  const body = $("left-body"), top = body.scrollTop;
  body.replaceChildren(...(state.left === "source" ? sourceView() : modulesView()).flat());
  body.scrollTop = top;
}

onChange(["program", "left", "colour"], drawLeft);
onChange(["selected", "line", "stage"], () => {
  if (state.left !== "source") return;
  const near = chosenLines();
  let first = null;
  for (const row of document.querySelectorAll("#left-body .row")) {
    row.classList.toggle("on", row.dataset.line === state.line);
    row.classList.toggle("near", near.has(row.dataset.line));
    if (!first && (row.dataset.line === state.line || near.has(row.dataset.line))) first = row;
  }
  if (first && near.size && near.size < 4) first.scrollIntoView({block: "nearest"});
});
