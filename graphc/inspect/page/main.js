// Starts the page.

function setTheme(theme) {
  const root = document.documentElement;
  root.dataset.theme = theme || (root.dataset.theme === "dark" ? "light" : "dark");
  try { localStorage.setItem("graphc-theme", root.dataset.theme); } catch (e) { /* not allowed for some files */ }
  if (!cy) return;
  const view = {zoom: cy.zoom(), pan: {...cy.pan()}};
  const fills = paint([...shown.boxes.values()]);
  cy.batch(() => {
    fills.forEach((fill, id) => cy.getElementById(id).data("fill", fill));
    for (const id of shown.frames.keys()) cy.getElementById(id).data("fill", css("--frame"));
  });
  cy.style(graphStyle());
  cy.viewport(view);
  drawBottom();
  drawPanel();
}

function firstTheme() {
  let kept = null;
  try { kept = localStorage.getItem("graphc-theme"); } catch (e) { /* not allowed for some files */ }
  return kept || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function makeSplitters() {
  for (const bar of document.querySelectorAll(".splitter")) {
    bar.addEventListener("pointerdown", e => {
      e.preventDefault();
      bar.setPointerCapture(e.pointerId);
      const side = bar.dataset.side;
      const move = m => {
        const size = side === "left" ? m.clientX : side === "right" ? innerWidth - m.clientX : innerHeight - m.clientY;
        document.documentElement.style.setProperty(`--${side}`, `${Math.max(120, Math.min(size, (side === "bottom" ? innerHeight : innerWidth) * 0.7))}px`);
        cy.resize();
      };
      bar.addEventListener("pointermove", move);
      bar.addEventListener("pointerup", () => bar.removeEventListener("pointermove", move), {once: true});
    });
  }
}

function makeTools() {
  $("title").textContent = clip(report.data.title, 80);
  $("title").title = clip(report.data.title, 400);
  $("programs").replaceChildren(...report.programs.map((p, i) => h("button", {role: "tab", data: {program: p.name}, onclick: () => set({program: i, stage: Math.min(state.stage, p.stages.length - 1), selected: null, line: null, rule: null, touched: false, opened: new Set()})}, clip(p.name, 40))));
  $("colour").replaceChildren(...Object.entries(COLOURS).map(([k, t]) => h("option", {value: k}, t)));
  $("colour").addEventListener("change", e => set({colour: e.target.value}));
  $("compare").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", e => { if (e.target.files[0]) loadOther(e.target.files[0]); e.target.value = ""; });
  document.addEventListener("dragover", e => e.preventDefault());
  document.addEventListener("drop", e => { e.preventDefault(); if (e.dataTransfer.files[0]) loadOther(e.dataTransfer.files[0]); });
  $("theme").addEventListener("click", () => setTheme());
  $("help").addEventListener("click", showKeys);
  $("fit").addEventListener("click", () => cy.fit(undefined, 30));
  $("open-all").addEventListener("click", () => openDeep(tree.root));
  $("fold-all").addEventListener("click", () => set({opened: new Set([""]), touched: true}));
  for (const name of ["params", "consts", "changes"]) $(`show-${name}`).addEventListener("change", e => set({[name]: e.target.checked}));
  document.addEventListener("keydown", key);
  window.addEventListener("hashchange", followAddress);
  window.addEventListener("resize", () => cy.resize());
}

onChange(["program"], () => {
  document.querySelectorAll("#programs button").forEach((b, i) => b.setAttribute("aria-selected", String(i === state.program)));
  const timed = program().profile;
  for (const o of $("colour").options) o.disabled = !timed && o.value === "time" || !(timed && timed.machine) && o.value === "roofline";
});
onChange(["colour"], () => { $("colour").value = state.colour; });

function start() {
  const began = performance.now();
  setTheme(firstTheme());
  report = new Report(JSON.parse($("report-data").textContent));
  makeGraph();
  makeTools();
  makeSearch();
  makeExport();
  makeSplitters();
  state.program = state.stage = -1;  // so that everything counts as changed
  if (!followAddress()) set({program: Math.max(0, report.programs.findIndex(p => p.phases)), stage: 0, colour: "kind"});
  $("colour").value = state.colour;
  document.documentElement.dataset.ready = String(Math.round(performance.now() - began));
}

// For scripts and tests: what is shown, and a way to change it.
window.graphcReport = {
  get state() { return state; }, get report() { return report; }, get cy() { return cy; }, get tree() { return tree; }, get shown() { return shown; },
  set, select, toggle: k => toggle(tree.groups.get(k)), svg: exportSvg, dot: exportDot, address, loadOther: (name, text) => loadOther(new File([text], name)),
};

try { start(); } catch (e) {
  document.body.prepend(h("p", {class: "failure"}, `The report could not be shown: ${e.message}`));
  throw e;
}
