// The stages as one line to walk along, from the user's code to kernels, with what each pass changed.

const MAJOR = new Set(["traced", "gradient", "simplify", "decompose", "fused", "kernels"]);

function changesAt(stage) {
  const p = program();
  const into = p.data.passes.find(x => x.stage === stage), next = p.data.passes.find(x => x.stage === stage + 1);
  let added = into ? into.added : [];
  if (p.stages[stage].key === "gradient") added = p.stages[stage].nodes.filter(n => !p.traced.has(n));
  return {added, going: next ? next.removed : []};
}

// The same node in another stage, where passes only gave it other operands.
function follow(id, from, to) {
  const p = program(), by = from < to ? 1 : -1;
  for (let s = from; s !== to && id !== undefined; s += by) {
    if (p.index(to).members.has(id)) return id;
    const pass = p.data.passes.find(x => x.stage === (by > 0 ? s + 1 : s));
    const pair = pass && pass.rewired.find(x => x[by > 0 ? 0 : 1] === id);
    if (pair) id = pair[by > 0 ? 1 : 0];
    else if (!p.index(s + by).members.has(id)) return undefined;
  }
  return id;
}

function stageCount(p, i) {
  return p.stages[i].key === "kernels" ? p.launches.length : p.stages[i].nodes.length;
}

function drawStages() {
  const p = program();
  const steps = p.stages.map((s, i) => {
    const pass = p.data.passes.find(x => x.stage === i);
    const quiet = pass && !pass.added.length && !pass.removed.length;
    const count = stageCount(p, i);
    const changed = pass && !quiet;
    const unit = s.key === "kernels" ? plural(count, "launch", "launches") : changed ? count.toLocaleString("en") : plural(count, "node");
    return h("button", {
      class: `step ${MAJOR.has(s.key) ? "major" : "minor"} ${quiet ? "quiet" : ""}`, data: {stage: s.key}, title: s.about,
      "aria-pressed": String(i === state.stage), onclick: () => set({stage: i}),
    }, h("i", {}), h("b", {}, s.title), h("small", {}, unit, changed ? h("span", {class: "delta"}, h("em", {class: "plus"}, ` +${pass.added.length}`), h("em", {class: "minus"}, ` −${pass.removed.length}`)) : null));
  });
  $("stages").replaceChildren(
    h("button", {class: "icon", id: "stage-back", title: "The stage before  ( [ )", onclick: () => stepStage(-1)}, "‹"),
    h("div", {class: "rail"}, steps),
    h("button", {class: "icon", id: "stage-next", title: "The next stage  ( ] )", onclick: () => stepStage(1)}, "›"),
    h("input", {id: "slider", type: "range", min: 0, max: p.stages.length - 1, step: 1, value: state.stage, "aria-label": "Stage", oninput: e => set({stage: Number(e.target.value)})}),
  );
}

function stepStage(by) {
  const at = Math.max(0, Math.min(program().stages.length - 1, state.stage + by));
  if (at !== state.stage) set({stage: at});
}

// The next pass (in a direction) that changed something, with the changes marked.
function stepChange(by) {
  const passes = program().data.passes.filter(p => p.added.length || p.removed.length).map(p => p.stage);
  const next = by > 0 ? passes.find(s => s > state.stage) : passes.filter(s => s < state.stage).pop();
  if (next !== undefined) set({stage: next, changes: true});
}

let stageBefore = null;
onChange(["program", "stage"], now => {
  const s = state.selected;
  if (s && s.kind === "node" && !now.has("program") && stageBefore !== null && !index().members.has(s.id)) {
    const found = follow(s.id, stageBefore, state.stage);
    if (found !== undefined && found !== s.id) set({selected: {kind: "node", id: found}});
  }
  stageBefore = state.stage;
  if (now.has("program") || !$("slider")) drawStages();
  document.querySelectorAll("#stages .step").forEach((b, i) => b.setAttribute("aria-pressed", String(i === state.stage)));
  if ($("slider")) $("slider").value = state.stage;
  const p = program();
  $("about-program").textContent = [p.data.target && `for ${p.data.target}`, ...Object.entries(p.data.dims).map(([k, v]) => `${k} = ${v}`)].filter(Boolean).join(" · ");
});
onChange(["changes", "params", "consts"], () => {
  $("show-changes").checked = state.changes;
  $("show-params").checked = state.params;
  $("show-consts").checked = state.consts;
});
