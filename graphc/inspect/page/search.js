// Search: nodes of this stage, modules, kernels, buffers and lines of code, by name.

function searchAll(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const fits = s => { const t = s.toLowerCase(); return words.every(w => t.includes(w)); };
  const p = program(), out = [];
  for (const g of tree.groups.values()) {
    if (g.parent && fits(`${g.key} ${groupTitle(g)}`)) out.push({kind: "group", title: groupTitle(g), note: `${PHASE_NAMES[g.key] ? "phase" : "module"}, ${g.count}`, rank: fits(g.name) ? 0 : 2, go: () => { openTo(g); select("group", g.key, {line: null}); const e = cy.getElementById(`g:${g.key}`); if (e.nonempty()) look(e); }});
  }
  for (const i of tree.kernels ? [] : tree.visible) {
    const n = p.nodes[i];
    if (fits(`${p.label(n)} ${n.type} ${n.module} ${n.kind}`)) out.push({kind: "node", title: p.label(n), note: `${n.type}  ${n.module}`, rank: fits(p.label(n)) ? 1 : 3, go: () => { reveal(i); select("node", i, {line: null}); }});
    if (out.length > 400) break;
  }
  for (const l of p.launches) if (fits(`${l.id} ${l.name} ${l.kind} ${p.kernels[l.kernel].name}`)) out.push({kind: "kernel", title: `${l.id}  ${l.name}`, note: p.kernels[l.kernel].name, rank: 2, go: () => { select("launch", l.id, {line: null}); if (tree.kernels) reveal(l.id); }});
  for (const b of p.buffers) if (fits(b.name)) out.push({kind: "buffer", title: b.name, note: `${b.type}  ${bytesText(b.bytes)}`, rank: 4, go: () => select("buffer", b.id, {line: null})});
  for (const key of lineFacts(p).keys()) { const at = report.line(key); if (at && fits(`${at.name} ${at.text}`)) out.push({kind: "line", title: at.text.trim(), note: at.name, rank: 3, go: () => set({line: key, selected: null})}); }
  return out.sort((a, b) => a.rank - b.rank).slice(0, 40);
}

function openTo(g) {
  const opened = new Set(state.opened);
  for (let x = g.parent; x && x.parent; x = x.parent) opened.add(x.key);
  if ([...opened].some(k => !state.opened.has(k))) set({opened, touched: true});
}

let hits = [], at = 0;
function drawHits() {
  const box = $("found");
  box.replaceChildren(...hits.map((x, i) => h("button", {class: i === at ? "on" : "", role: "option", "aria-selected": String(i === at), onmousedown: e => { e.preventDefault(); choose(i); }}, h("small", {}, x.kind), h("b", {}, clip(x.title, 60)), h("span", {class: "dim"}, clip(x.note, 60)))), $("search").value.trim() && !hits.length ? h("div", {class: "dim none"}, "nothing in this stage") : "");
  box.hidden = !$("search").value.trim();
  const on = box.querySelector(".on");
  if (on) on.scrollIntoView({block: "nearest"});
}

function choose(i) {
  if (!hits[i]) return;
  at = i;
  hits[i].go();
  $("found").hidden = true;
  $("graph").focus();
}

function makeSearch() {
  const input = $("search");
  $("found").hidden = true;
  input.addEventListener("input", () => { hits = searchAll(input.value); at = 0; drawHits(); });
  input.addEventListener("focus", () => { if (input.value) { hits = searchAll(input.value); drawHits(); } });
  input.addEventListener("blur", () => { $("found").hidden = true; });
  input.addEventListener("keydown", e => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); at = Math.max(0, Math.min(hits.length - 1, at + (e.key === "ArrowDown" ? 1 : -1))); drawHits(); }
    else if (e.key === "Enter") choose(at);
    else if (e.key === "Escape") { input.value = ""; hits = []; drawHits(); $("graph").focus(); }
    e.stopPropagation();
  });
}
