// What the page shows now. Everything that changes goes through set(), which tells the views and keeps the address up to date.

const state = {
  program: 0,
  stage: 0,
  selected: null,  // {kind: "node" | "group" | "launch" | "buffer" | "kernel", id}
  line: null,  // "file:line"
  rule: null,
  opened: new Set(),  // keys of open groups, when the user has chosen; otherwise the default
  touched: false,
  colour: "kind",
  params: false,
  consts: false,
  changes: false,
  left: "source",
  bottom: "memory",
};

const listeners = [];
const onChange = (keys, run) => listeners.push([keys, run]);
let depth = 0, changed = new Set();

function set(values) {
  for (const [key, value] of Object.entries(values)) {
    if (state[key] !== value || value instanceof Set) {
      state[key] = value;
      changed.add(key);
    }
  }
  if (depth) return;
  depth++;
  try {
    for (let round = 0; changed.size && round < 5; round++) {
      const now = changed;
      changed = new Set();
      for (const [keys, run] of listeners) if (keys.some(k => now.has(k))) run(now);
    }
  } finally { depth--; }
  rememberAddress();
}

let report = null;
const program = () => report.programs[state.program];
const index = () => program().index(state.stage);
const stageKey = () => program().stages[state.stage].key;
const same = (a, b) => a === b || (a && b && a.kind === b.kind && a.id === b.id);
const select = (kind, id, more = {}) => set({selected: kind === null ? null : {kind, id}, ...more});

// -- deep links: the address holds the program, the stage, the selection, the line, the open groups and the colours
let addressTimer = 0;
function address() {
  const out = new URLSearchParams();
  out.set("program", program().name);
  out.set("stage", stageKey());
  if (state.selected) out.set("select", `${state.selected.kind}:${state.selected.id}`);
  if (state.line) out.set("line", state.line);
  if (state.colour !== "kind") out.set("colour", state.colour);
  if (state.params) out.set("params", "1");
  if (state.consts) out.set("consts", "1");
  if (state.changes) out.set("changes", "1");
  if (state.bottom !== "memory") out.set("tab", state.bottom);
  if (state.touched) {
    const keys = [...state.opened].join("|");
    if (keys.length < 3000) out.set("open", keys);
  }
  return "#" + out;
}

function rememberAddress() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    try { history.replaceState(null, "", address()); } catch (e) { /* some browsers forbid it for files */ }
  }, 120);
}

function followAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("program")) return false;
  const at = Math.max(0, report.programs.findIndex(p => p.name === given.get("program")));
  const p = report.programs[at];
  const stage = Math.max(0, p.stage(given.get("stage")));
  const [kind, id] = (given.get("select") || "").split(/:(.*)/s);
  set({
    program: at, stage,
    selected: kind && id !== undefined ? {kind, id: kind === "group" || kind === "kernel" ? id : Number(id)} : null,
    line: given.get("line"), colour: given.get("colour") || "kind", params: given.has("params"), consts: given.has("consts"),
    changes: given.has("changes"), bottom: given.get("tab") || "memory",
    touched: given.has("open"), opened: new Set((given.get("open") || "").split("|").filter(Boolean)),
  });
  return true;
}
