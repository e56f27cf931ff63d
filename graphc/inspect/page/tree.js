// Scopes as a tree of groups, and what of it is visible. Only what is visible is ever laid out or drawn.
//
// A group has `groups` (below it) and `items` (node numbers, or launches in the stage "kernels"). Groups whose neighbours compute the
// same are put together as one ("0-11 ×12"); a group that holds a single thing is that thing.

const AUTO_OPEN = 34;

class Group {
  constructor(key, name, parent) {
    this.key = key;
    this.name = name;
    this.parent = parent;
    this.groups = new Map();
    this.items = [];
    this.times = 1;
    this.launch = null;
  }
  child(name) {
    if (!this.groups.has(name)) this.groups.set(name, new Group(this.key ? `${this.key}/${name}` : name, name, this));
    return this.groups.get(name);
  }
  get depth() { return this.parent ? this.parent.depth + 1 : 0; }
  all() { return [...this.items, ...[...this.groups.values()].flatMap(g => g.all())]; }
}

class Tree {
  constructor(program, stage, options) {
    this.program = program;
    this.stage = stage;
    this.index = program.index(stage);
    this.key = program.stages[stage].key;
    this.root = new Group("", "", null);
    this.home = new Map();
    this.reached = new Map();
    this.kernels = this.key === "kernels";
    if (this.kernels) this.placeLaunches();
    else this.placeNodes(options);
    this.tidy(this.root);
    this.shorten(this.root);
    this.groups = new Map();
    const walk = g => { this.groups.set(g.key, g); for (const i of g.items) this.home.set(i, g); for (const c of g.groups.values()) walk(c); };
    walk(this.root);
    this.total(this.root);
  }

  walkTo(path) { return path.reduce((g, name) => g.child(name), this.root); }

  placeNodes(options) {
    const fused = this.key === "fused";
    const launch = new Map();
    if (fused) this.program.launches.forEach((l, i) => { for (const n of l.nodes) if (!launch.has(n)) launch.set(n, i); });
    this.visible = [];
    for (const i of this.index.order) {
      const n = this.program.nodes[i];
      if (this.index.hidden(i, options)) continue;
      if (fused && !launch.has(i) && n.op !== "input" && !n.bodies) continue;
      this.visible.push(i);
      let g;
      if (fused && launch.has(i)) {
        const l = this.program.launches[launch.get(i)];
        g = this.walkTo([...(this.program.phases ? [l.place.phase] : []), ...l.place.path]).child(`kernel ${l.id}`);
        g.launch = l;
      } else g = this.walkTo(n.op === "input" && n.role === "arg" ? [] : this.index.path(i));
      g.items.push(i);
    }
    this.shown = new Set(this.visible);
  }

  placeLaunches() {
    this.visible = this.program.launches.map(l => l.id);
    this.shown = new Set(this.visible);
    for (const l of this.program.launches) this.walkTo([...(this.program.phases ? [l.place.phase] : []), ...l.place.path]).items.push(l.id);
    const walk = g => {  // many launches of one kernel in one place are one box
      for (const [kernel, list] of groupBy(g.items, i => this.program.launches[i].kernel)) {
        if (list.length < 3 || list.length === g.items.length) continue;
        const c = g.child(`${this.program.kernels[kernel].name}`);
        c.items.push(...list);
        c.sameKernel = kernel;
        g.items = g.items.filter(i => !list.includes(i));
      }
      for (const c of g.groups.values()) if (c.sameKernel === undefined) walk(c);
    };
    walk(this.root);
  }

  // Neighbours that compute the same become one group.
  tidy(g) {
    for (const c of g.groups.values()) this.tidy(c);
    const rows = [...g.groups.values()];
    const out = new Map();
    for (let i = 0; i < rows.length;) {
      const found = /^(\D*)(\d+)$/.exec(rows[i].name);
      let j = i + 1;
      if (found && !rows[i].launch) {  // upwards, or downwards as a backward pass meets them
        const step = j < rows.length && rows[j].name === `${found[1]}${Number(found[2]) - 1}` ? -1 : 1;
        while (j < rows.length && rows[j].name === `${found[1]}${Number(found[2]) + step * (j - i)}` && this.signature(rows[j]) === this.signature(rows[i])) j++;
      }
      if (j - i >= 2 && j - i < rows.length + (g.items.length ? 1 : 0) + (g.parent ? 1 : 0)) {
        const run = new Group(`${g.key ? g.key + "/" : ""}${rows[i].name}..${rows[j - 1].name}`, `${rows[i].name} – ${rows[j - 1].name}`, g);
        run.times = j - i;
        for (const r of rows.slice(i, j)) { r.parent = run; run.groups.set(r.name, r); }
        out.set(run.name, run);
      } else for (const r of rows.slice(i, j)) out.set(r.name, r);
      i = j;
    }
    g.groups = out;
  }

  signature(g) {
    if (g.sign === undefined) {
      const own = g.items.map(i => this.kernels ? this.program.launches[i].kernel : `${this.program.nodes[i].op}:${this.program.nodes[i].type}`).join(",");
      g.sign = own + "(" + [...g.groups.values()].map(c => (/\d$/.test(c.name) ? "" : c.name) + this.signature(c)).join(";") + ")";
    }
    return g.sign;
  }

  // A group with one thing in it is that thing; a group in a group joins their names.
  shorten(g) {
    for (const [name, c] of [...g.groups]) {
      this.shorten(c);
      if (c.launch || c.times > 1) continue;
      if (!c.groups.size && c.items.length === 1 && g.parent) {
        g.groups.delete(name);
        g.items.push(c.items[0]);
      } else if (!c.items.length && c.groups.size === 1 && g.parent) {
        const only = [...c.groups.values()][0];
        if (only.times > 1) {  // nothing but equal blocks: the group is they
          c.name = only.name.includes("[") ? `${c.name}.${only.name}` : `${c.name} [${only.name}]`;
          c.times = only.times;
          c.groups = only.groups;
          for (const x of c.groups.values()) x.parent = c;
          continue;
        }
        if (only.launch) continue;
        only.name = `${c.name}.${only.name}`;
        only.parent = g;
        g.groups.delete(name);
        g.groups.set(only.name, only);
      }
    }
  }

  total(g) {
    g.count = g.items.length;
    g.flops = g.bytes = g.seconds = 0;
    g.least = 0;
    for (const i of g.items) {
      const x = this.kernels ? this.program.launches[i] : this.program.nodes[i];
      g.flops += (x.flops || 0) * (x.times || 1);
      g.bytes += x.bytes || 0;
      g.seconds += this.kernels ? x.seconds || 0 : this.program.seconds.get(i) || 0;
      if (this.kernels) g.least += this.program.least(x);
    }
    for (const c of g.groups.values()) {
      this.total(c);
      g.count += c.count; g.flops += c.flops; g.bytes += c.bytes; g.seconds += c.seconds; g.least += c.least;
    }
  }

  // Groups that are open when nobody has chosen: level by level, while it stays easy to see.
  defaultOpen() {
    const open = new Set([""]);
    let count = this.root.items.length + this.root.groups.size;
    let level = [...this.root.groups.values()];
    while (level.length) {
      const able = level.filter(g => g.times === 1 && g.sameKernel === undefined && g.key !== "backward" && g.key !== "optimizer" && !(g.launch && g.count > 12));
      const more = sum(able, g => g.items.length + g.groups.size - 1);
      if (count + more > AUTO_OPEN) break;
      for (const g of able) open.add(g.key);
      count += more;
      level = able.flatMap(g => [...g.groups.values()]);
    }
    return open;
  }

  // The box that shows an item: itself, or the outermost folded group around it.
  box(item, open) {
    let found = null;
    for (let g = this.home.get(item); g && g.parent; g = g.parent) if (!open.has(g.key)) found = g;
    return found;
  }

  // What an item's readers see of it: itself, or what stands behind it where it is hidden.
  reach(i) {
    if (this.reached.has(i)) return this.reached.get(i);
    this.reached.set(i, []);
    const out = this.shown.has(i) ? [i] : [...new Set(this.index.inputs(i).flatMap(x => this.reach(x)))];
    this.reached.set(i, out);
    return out;
  }

  itemEdges() {
    if (this.edges) return this.edges;
    const out = [];
    if (this.kernels) {
      const writer = new Map();
      for (const l of this.program.launches) {
        for (const b of l.reads) if (writer.has(b)) out.push([writer.get(b), l.id, this.program.buffers[b].bytes, b]);
        for (const b of l.writes) writer.set(b, l.id);
      }
    } else {
      for (const i of this.index.order) this.reach(i);  // operands stand first: no deep recursion
      for (const i of this.visible) {
        for (const x of new Set(this.index.inputs(i).flatMap(k => this.reach(k)))) out.push([x, i, this.program.nodes[x].bytes || 0, x]);
      }
    }
    return (this.edges = out);
  }

  // The visible boxes and the edges between them.
  project(open) {
    const boxes = new Map(), frames = new Map(), edges = new Map();
    const idOf = (item, g) => g ? `g:${g.key}` : `${this.kernels ? "k" : "n"}:${item}`;
    const where = new Map();
    for (const item of this.visible) {
      const g = this.box(item, open);
      const id = idOf(item, g);
      where.set(item, id);
      if (!boxes.has(id)) {
        let parent = g ? g.parent : this.home.get(item);
        boxes.set(id, {id, group: g, item: g ? null : item, parent: parent && parent.parent ? `g:${parent.key}` : null});
        for (; parent && parent.parent; parent = parent.parent) {
          frames.set(`g:${parent.key}`, {id: `g:${parent.key}`, group: parent, parent: parent.parent.parent ? `g:${parent.parent.key}` : null});
        }
      }
    }
    for (const [a, b, bytes, what] of this.itemEdges()) {
      const from = where.get(a), to = where.get(b);
      if (!from || !to || from === to) continue;
      const id = `${from}>${to}`;
      const e = edges.get(id) || {id, from, to, bytes: 0, values: new Set()};
      if (!e.values.has(what)) { e.values.add(what); e.bytes += bytes; }
      edges.set(id, e);
    }
    return {boxes, frames, edges, where};
  }
}
