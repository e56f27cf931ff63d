// Where boxes stand. Dagre for what a person can look at; for very many boxes rows by depth, which takes no time.

const MANY = 700;
const MOST_BOXES = 2000;
const canvas = document.createElement("canvas").getContext("2d");

function textWidth(text, font) {
  canvas.font = font;
  return canvas.measureText(text).width;
}

function boxSize(lines, bold) {
  const width = Math.max(...lines.map(t => textWidth(t, `${bold ? 600 : 400} 11.5px system-ui, sans-serif`)));
  return {width: Math.max(54, Math.ceil(width) + 24), height: lines.length > 1 ? 42 : 28};
}

function arrange(cy, done) {
  const count = cy.nodes().length;
  const rankers = count > MANY ? [] : count > 250 ? ["longest-path"] : ["network-simplex", "longest-path"];
  const found = rankers.find(ranker => {
    try {
      cy.layout({name: "dagre", rankDir: "TB", nodeSep: 22, edgeSep: 12, rankSep: 42, ranker, animate: false, fit: false, nodeDimensionsIncludeLabels: false}).run();
      return true;
    } catch (e) { return false; }  // some nested graphs have no place for an edge in dagre
  });
  if (!found) byDepth(cy);
  done(!found);
}

function byDepth(cy) {
  const depth = new Map();
  const rows = [];
  const leaves = cy.nodes().filter(n => !n.isParent());
  const waiting = new Map(leaves.map(n => [n.id(), n.incomers("edge").length]));
  let front = leaves.filter(n => !waiting.get(n.id())).toArray();
  const seen = new Set();
  for (let d = 0; front.length || seen.size < leaves.length; d++) {
    if (!front.length) front = leaves.filter(n => !seen.has(n.id())).toArray().slice(0, 1);  // a cycle: begin anywhere
    const next = [];
    for (const n of front) {
      if (seen.has(n.id())) continue;
      seen.add(n.id());
      depth.set(n.id(), d);
      n.outgoers("node").forEach(m => {
        waiting.set(m.id(), waiting.get(m.id()) - 1);
        if (waiting.get(m.id()) <= 0 && !seen.has(m.id())) next.push(m);
      });
    }
    rows.push(front);
    front = next;
  }
  let y = 0;
  for (const row of rows) {
    const width = sum(row, n => n.data("width") + 24);
    let x = -width / 2;
    for (const n of row) {
      n.position({x: x + n.data("width") / 2, y});
      x += n.data("width") + 24;
    }
    y += 90;
  }
}
