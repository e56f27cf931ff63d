// The keyboard.

const KEYS = [
  ["/", "search"], ["← →  or  [ ]", "the stage before, the next"], [", .", "the pass before, the next, that changed something"], ["↑ ↓", "along the data: what is read, what reads it"], ["j k", "the next box, the one before"],
  ["Enter", "open or fold the selected group"], ["Backspace", "the group around"], ["Esc", "select nothing"], ["f", "show everything"], ["+ −", "nearer, farther"], ["c", "next colouring"], ["x", "mark what passes changed"],
  ["1 – 6", "the tables at the bottom"], ["d", "light or dark"], ["?", "this list"],
];

function boxOfSelection() {
  const chosen = chosenElement();
  return chosen && chosen.nonempty() && !chosen.isParent() ? chosen : null;
}

function goTo(element) {
  const box = element.data("box");
  select(...selectionOf(box), {line: null, rule: null});
  look(element);
}

function alongData(by) {
  const now = boxOfSelection();
  if (!now) return byOrder(1);
  const next = by > 0 ? now.outgoers("node") : now.incomers("node");
  if (next.nonempty()) goTo(next[0]);
}

function byOrder(by) {
  const all = cy.nodes().filter(n => !n.isParent()).toArray().sort((a, b) => a.position().y - b.position().y || a.position().x - b.position().x);
  if (!all.length) return;
  const now = boxOfSelection(), i = now ? all.findIndex(n => n.id() === now.id()) : by > 0 ? -1 : all.length;
  goTo(all[(i + by + all.length) % all.length]);
}

function dialog(title, ...content) {
  const box = $("dialog");
  box.replaceChildren(h("h2", {}, title), ...content, h("form", {method: "dialog"}, h("button", {autofocus: true}, "Close")));
  if (!box.open) box.showModal();
}

const showKeys = () => dialog("Keys", h("table", {class: "facts"}, KEYS.map(([k, t]) => h("tr", {}, h("th", {}, k.split("  or  ").flatMap((x, i) => [i ? " or " : "", x.split(" ").map(c => [h("kbd", {}, c), " "])])), h("td", {}, t)))));

function key(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || /INPUT|SELECT|TEXTAREA/.test(e.target.tagName) && e.target.type !== "checkbox" || $("dialog").open) return;
  const s = state.selected, g = s && s.kind === "group" && tree.groups.get(s.id);
  const run = {
    "/": () => $("search").focus(), "[": () => stepStage(-1), "]": () => stepStage(1), ArrowLeft: () => stepStage(-1), ArrowRight: () => stepStage(1),
    ",": () => stepChange(-1), ".": () => stepChange(1), ArrowUp: () => alongData(-1), ArrowDown: () => alongData(1), j: () => byOrder(1), k: () => byOrder(-1),
    Enter: () => { if (g) toggle(g); }, Backspace: () => {
      const parent = g ? g.parent : s && tree.home.get(s.id);
      if (parent && parent.parent) select("group", parent.key);
    },
    Escape: () => select(null, null, {line: null, rule: null}), f: () => cy.fit(undefined, 30), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
    c: () => { const all = [...$("colour").options].filter(o => !o.disabled).map(o => o.value); set({colour: all[(all.indexOf(state.colour) + 1) % all.length]}); },
    x: () => set({changes: !state.changes}), d: () => setTheme(), "?": showKeys,
    ...Object.fromEntries(Object.keys(BOTTOM).map((t, i) => [String(i + 1), () => set({bottom: t})])),
  }[e.key];
  if (!run || (e.key === "Enter" && e.target.tagName === "BUTTON")) return;
  e.preventDefault();
  run();
}

const zoom = by => cy.zoom({level: cy.zoom() * by, renderedPosition: {x: cy.width() / 2, y: cy.height() / 2}});
