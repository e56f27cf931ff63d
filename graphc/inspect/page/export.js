// Saving what is shown: SVG and PNG pictures, DOT, the text of the stage, and the data.

const fileName = () => `${report.data.title}-${program().name}-${stageKey()}`.replace(/[^\w.-]+/g, "_").slice(0, 120);

function exportSvg() {
  const box = cy.elements().boundingBox(), pad = 20;
  const out = svg("svg", {xmlns: SVG, viewBox: `${box.x1 - pad} ${box.y1 - pad} ${box.w + 2 * pad} ${box.h + 2 * pad}`, width: Math.ceil(box.w + 2 * pad), height: Math.ceil(box.h + 2 * pad), "font-family": "system-ui, sans-serif"});
  out.append(svg("rect", {x: box.x1 - pad, y: box.y1 - pad, width: box.w + 2 * pad, height: box.h + 2 * pad, fill: css("--page")}),
    svg("defs", {}, svg("marker", {id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse"}, svg("path", {d: "M0 0 L8 4 L0 8 z", fill: css("--edge")}))));
  const frames = cy.nodes(":parent").toArray().sort((a, b) => a.parents().length - b.parents().length);
  for (const n of frames) {
    const b = n.boundingBox({includeLabels: false});
    out.append(svg("rect", {x: b.x1, y: b.y1, width: b.w, height: b.h, rx: 10, fill: css("--frame"), stroke: css("--frame-line")}), svg("text", {x: b.x1 + b.w / 2, y: b.y1 - 5, "text-anchor": "middle", "font-size": 11.5, "font-weight": 600, fill: css("--dim")}, n.data("label")));
  }
  cy.edges().forEach(e => {
    const a = e.sourceEndpoint(), b = e.targetEndpoint(), mid = e.midpoint();
    if (!a || !b || !isFinite(a.x) || !isFinite(b.x)) return;
    out.append(svg("path", {d: `M${a.x} ${a.y} Q${2 * mid.x - (a.x + b.x) / 2} ${2 * mid.y - (a.y + b.y) / 2} ${b.x} ${b.y}`, fill: "none", stroke: css("--edge"), "stroke-width": e.data("width"), "marker-end": "url(#arrow)"}));
  });
  cy.nodes().forEach(n => {
    if (n.isParent()) return;
    const p = n.position(), w = n.data("width"), t = n.data("height"), lines = n.data("label").split("\n");
    out.append(svg("rect", {x: p.x - w / 2, y: p.y - t / 2, width: w, height: t, rx: 6, fill: n.data("fill"), stroke: css("--box-line")}),
      ...lines.map((text, i) => svg("text", {x: p.x, y: p.y + 4 + (i - (lines.length - 1) / 2) * 14.5, "text-anchor": "middle", "font-size": 11.5, "font-weight": i ? 400 : 600, fill: css("--text")}, text)));
  });
  return new XMLSerializer().serializeToString(out);
}

const quoted = s => `"${String(s).replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`;

function exportDot() {
  const lines = [`digraph ${quoted(fileName())} {`, "  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=11];"];
  const children = groupBy([...shown.frames.values(), ...shown.boxes.values()], b => b.parent);
  let clusters = 0;
  const write = (parent, indent) => {
    for (const b of children.get(parent) || []) {
      if (shown.frames.has(b.id)) {
        lines.push(`${indent}subgraph cluster_${clusters++} {`, `${indent}  label=${quoted(groupTitle(b.group))}; style=rounded; color="#99a"; fontname="sans-serif"; fontsize=11;`);
        write(b.id, indent + "  ");
        lines.push(`${indent}}`);
      } else lines.push(`${indent}${quoted(b.id)} [label=${quoted(boxLines(b).join("\n"))}, fillcolor=${quoted(hex(cy.getElementById(b.id).data("fill")))}];`);
    }
  };
  write(null, "  ");
  for (const e of shown.edges.values()) lines.push(`  ${quoted(e.from)} -> ${quoted(e.to)};`);
  return lines.concat("}").join("\n") + "\n";
}

function hex(colour) {
  canvas.fillStyle = "#ffffff";
  canvas.fillStyle = colour;
  return canvas.fillStyle;
}

const EXPORTS = {
  svg: ["Picture (SVG)", () => download(`${fileName()}.svg`, exportSvg(), "image/svg+xml")],
  png: ["Picture (PNG)", () => download(`${fileName()}.png`, cy.png({full: true, scale: 2, maxWidth: 12000, maxHeight: 12000, bg: css("--page")}), "image/png")],
  dot: ["Graphviz (DOT)", () => download(`${fileName()}.dot`, exportDot(), "text/vnd.graphviz")],
  text: ["Stage as text", () => download(`${fileName()}.txt`, stageText(program(), state.stage).map(([, t, w]) => t + (w ? `  # ${w}` : "")).join("\n") + "\n", "text/plain")],
  json: ["Data of the report (JSON)", () => download(`${report.data.title.replace(/[^\w.-]+/g, "_").slice(0, 100)}.json`, $("report-data").textContent, "application/json")],
};

function makeExport() {
  const menu = $("export-menu");
  menu.replaceChildren(...Object.entries(EXPORTS).map(([k, [text, run]]) => h("button", {data: {format: k}, onclick: () => { menu.hidden = true; run(); }}, text)));
  $("export").addEventListener("click", e => { e.stopPropagation(); menu.hidden = !menu.hidden; });
  document.addEventListener("click", () => { menu.hidden = true; });
}
