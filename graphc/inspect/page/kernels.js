// A kernel's source with its lines tied to nodes.

// `lit` are line numbers to mark; `nodeOf` maps a line to a node.
function kernelSource(kernel, {lit = new Set(), nodeOf = new Map()} = {}) {
  const lines = kernel.source.replace(/\n$/, "").split("\n");
  const box = h("div", {class: "source"}, lines.map((text, i) => {
    const node = nodeOf.get(i + 1);
    return h("div", {
      class: `row ${lit.has(i + 1) ? "on" : ""} ${node !== undefined ? "live" : ""}`,
      title: node !== undefined ? `${program().label(program().nodes[node])} : ${program().nodes[node].type}` : undefined,
      onclick: node !== undefined ? () => select("node", node, {line: null, rule: null}) : undefined,
    }, h("span", {class: "no"}, String(i + 1)), h("code", {}, codeText(clip(text, 400))));
  }));
  const first = lit.size ? Math.min(...lit) : 0;
  if (first > 8) requestAnimationFrame(() => { const row = box.children[first - 5]; if (row) box.scrollTop = row.offsetTop - box.offsetTop; });
  return box;
}

// Lines of a launch's kernel that compute one of `nodes`.
const linesFor = (launch, nodes) => new Set(launch.lines.filter(([, n]) => nodes.has(n)).map(([line]) => line));
const nodeOfLine = launch => new Map(launch.lines);
