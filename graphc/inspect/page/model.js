// The report's data with what the views need beside it: users, phases, scopes, kernels of a node.

const PHASES = ["forward", "backward", "optimizer"];
const PHASE_NAMES = {forward: "Forward", backward: "Backward", optimizer: "Optimizer"};
const PHASE_NOTES = {
  forward: "what your code computes, up to the loss", backward: "gradients, made by differentiating the graph",
  optimizer: "new values of parameters and moments",
};
const OPTIMIZER = /^optimizer(_\d+)?($|[./])/;

class Program {
  constructor(report, data) {
    this.report = report;
    this.data = data;
    this.name = data.name;
    this.nodes = data.nodes;
    this.stages = data.stages;
    this.launches = data.launches;
    this.kernels = data.kernels;
    this.buffers = data.buffers;
    this.profile = data.profile || null;
    this.traced = new Set(this.stages[0].key === "traced" && this.stages.length > 1 && this.stages[1].key === "gradient" ? this.stages[0].nodes : []);
    this.nodes.forEach((n, i) => { n.id = i; n.dtype ||= (report.data.dtypes || {})[n.type.split("[")[0]]; this.place(n); });
    this.phases = this.nodes.some(n => n.phase !== "forward");
    this.launchesOf = new Map();
    this.launches.forEach((l, i) => {
      l.id = i;
      for (const n of l.nodes) this.launchesOf.set(n, [...(this.launchesOf.get(n) || []), i]);
    });
    this.bufferOf = new Map();
    this.buffers.forEach((b, i) => { b.id = i; if (b.node !== undefined) this.bufferOf.set(b.node, i); });
    this.indexes = new Map();
    this.launches.forEach(l => { l.place = this.launchPlace(l); });
    this.time();
  }

  // The phase of a node and its scope as a list of names; a node of several scopes stands where they part.
  place(n) {
    const scopes = (n.scopes || []).map(i => this.data.scopes[i]);
    const gradient = [], update = [], forward = [];
    for (const s of scopes) (s.startsWith("grad:") ? gradient : OPTIMIZER.test(s) ? update : forward).push(s);
    const chosen = forward.length ? forward : gradient.length ? gradient : update;
    n.phase = forward.length ? "forward" : gradient.length ? "backward" : update.length ? "optimizer" : "forward";
    if (n.op === "input" && n.role === "state" && OPTIMIZER.test(n.name)) n.phase = "optimizer";
    const paths = chosen.map(s => s.replace(/^(grad:)+/, "").replace(/^optimizer(?=[./]|$)[./]?/, "").split(/[./]/).filter(Boolean));
    n.path = paths.reduce((a, b) => { let i = 0; while (i < a.length && a[i] === b[i]) i++; return a.slice(0, i); }, paths[0] || []);
    n.module = chosen.length ? chosen[0].replace(/^(grad:)+/, "").split("/")[0] : "";
  }

  // A kernel stands in the scope of the node that is most of its work.
  launchPlace(l) {
    const nodes = l.nodes.map(i => this.nodes[i]);
    const main = nodes.reduce((a, b) => !a || (b.flops || 0) > (a.flops || 0) ? b : a, null);
    return main ? {phase: main.phase, path: main.phase === "optimizer" ? main.path : main.module ? main.module.split(".") : []} : {phase: "forward", path: []};
  }

  // Seconds of launches and, by their share of the operations, of nodes.
  time() {
    const measured = this.profile && this.profile.launches;
    this.seconds = new Map();
    if (!measured) return;
    this.total = sum(measured, s => s || 0);
    this.launches.forEach((l, i) => {
      l.seconds = measured[i] === null ? undefined : measured[i];
      const total = sum(l.nodes, n => this.nodes[n].flops);
      for (const n of l.nodes) {
        const share = total ? (this.nodes[n].flops || 0) / total : 1 / l.nodes.length;
        this.seconds.set(n, (this.seconds.get(n) || 0) + (l.seconds || 0) * share);
      }
    });
  }

  // The least time that the machine's limits allow a launch.
  least(l) {
    const machine = this.profile && this.profile.machine;
    if (!machine || l.seconds === undefined) return 0;
    return Math.max(l.flops / machine.flops_per_second, l.bytes / machine.bytes_per_second) * (l.times || 1);
  }

  // Time over the least time: 1 is the roofline.
  distance(l) { return this.least(l) > 0 ? l.seconds / this.least(l) : undefined; }

  // The same for colours, of a launch or of several: what has next to nothing to do is thousands of times too slow, and does not matter.
  gap(seconds, least) { return least > 0 && seconds >= 0.005 * this.total ? seconds / least : undefined; }

  index(stage) {
    if (!this.indexes.has(stage)) this.indexes.set(stage, new Index(this, stage));
    return this.indexes.get(stage);
  }

  stage(key) { return this.stages.findIndex(s => s.key === key); }

  // Places of user lines: "file:line" of a node.
  lines(n) { return (n.locs || []).map(([file, line]) => `${this.fileNumber(file)}:${line}`); }
  fileNumber(file) { return this.report.fileNumbers.get(this.data.files[file]); }

  nodesOfLine(key) { return this.nodes.filter(n => n.locs && this.lines(n).includes(key)); }
  launchesOfLine(key) {
    const nodes = new Set(this.nodesOfLine(key).map(n => n.id));
    return this.launches.filter(l => l.nodes.some(n => nodes.has(n)));
  }

  label(n) {
    if (n.op === "input") return n.name;
    if (n.op === "const") return n.value !== undefined ? n.value : "const";
    return n.op;
  }
}

// One stage of a program: who reads whom, what is hidden, and what stands in for it.
class Index {
  constructor(program, stage) {
    this.program = program;
    this.stage = stage;
    this.record = program.stages[stage];
    this.order = this.record.nodes;
    this.members = new Set(this.order);
    this.scanOf = new Map();  // context -> [scan node, body]
    this.operands = new Map();  // input of a body -> operand of the scan
    for (const i of this.order) {
      for (const body of program.nodes[i].bodies || []) {
        this.scanOf.set(body.context, [i, body]);
        const own = program.nodes[i].inputs || [];
        body.inputs.forEach((n, k) => { if (own[k] !== undefined) this.operands.set(n, own[k]); });
      }
    }
    this.users = new Map();
    for (const i of this.order) {
      for (const x of this.inputs(i)) {
        if (!this.users.has(x)) this.users.set(x, []);
        this.users.get(x).push(i);
      }
    }
    this.constant = new Set();
    for (const i of this.order) {
      const n = program.nodes[i];
      if (n.op === "const" || (["view", "identity"].includes(n.kind) && (n.inputs || []).length && n.inputs.every(x => this.constant.has(x)))) this.constant.add(i);
    }
  }

  // Operands; a scan reads the results of its body, and the body reads the scan's operands.
  inputs(i) {
    const n = this.program.nodes[i];
    if (n.bodies) return n.bodies.flatMap(b => b.outputs);
    if (this.operands.has(i)) return [this.operands.get(i)];
    return n.inputs || [];
  }

  path(i) {
    const n = this.program.nodes[i];
    const inside = n.context && this.scanOf.get(n.context);
    if (inside) return [...this.path(inside[0]), `loop ×${inside[1].times}`];
    return this.program.phases ? [n.phase, ...n.path] : n.path;
  }

  hidden(i, options) {
    const n = this.program.nodes[i];
    if (this.operands.has(i)) return true;
    if (n.kind === "tuple") return true;
    if (this.constant.has(i)) return !options.consts;
    if (n.op === "input") return n.role !== "arg" && !options.params;
    return false;
  }
}

class Report {
  constructor(data) {
    if (data.format !== "graphc-report") throw new Error("this file is no graphc report");
    if (data.version > 1) throw new Error(`this report has version ${data.version}: a newer graphc reads it`);
    this.data = data;
    this.files = data.files;
    this.fileNumbers = new Map(data.files.map((f, i) => [f.path, i]));
    this.modules = new Map(data.modules.map(m => [m.path, m]));
    this.programs = data.programs.map(p => new Program(this, p));
  }

  line(key) {
    const [file, line] = key.split(":").map(Number);
    const f = this.files[file];
    return f && f.lines[line] !== undefined ? {file: f, line, text: f.lines[line], name: `${f.name}:${line}`} : null;
  }
}
