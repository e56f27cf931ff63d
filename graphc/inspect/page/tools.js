// Small helpers: elements made from data (always as text, never as markup), and numbers for people.

const SVG = "http://www.w3.org/2000/svg";
const $ = id => document.getElementById(id);

function fill(element, props, children) {
  for (const [key, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key === "style") element.style.cssText = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

const clip = (text, length = 60) => {
  const points = Array.from(text.length > 4 * length ? text.slice(0, 4 * length) : text);
  return points.length <= length ? text : points.slice(0, length - 1).join("") + "…";
};
const plural = (n, word, more = word + "s") => `${n.toLocaleString("en")} ${n === 1 ? word : more}`;

function scaled(n, units, base) {
  let i = 0;
  while (Math.abs(n) >= base && i < units.length - 1) { n /= base; i++; }
  const digits = i === 0 || n >= 100 ? 0 : n >= 10 ? 1 : 2;
  return `${n.toFixed(digits)}${units[i] ? " " + units[i] : ""}`;
}
const bytesText = n => scaled(n, ["B", "KiB", "MiB", "GiB", "TiB"], 1024);
const flopsText = n => scaled(n, ["", "k", "M", "G", "T", "P"], 1000);
const timeText = s => s >= 1 ? `${s.toFixed(2)} s` : s >= 1e-3 ? `${(s * 1e3).toFixed(2)} ms` : `${(s * 1e6).toFixed(1)} µs`;
const percent = x => `${(100 * x).toFixed(x < 0.0995 ? 1 : 0)} %`;
const sum = (list, get = x => x) => list.reduce((total, x) => total + (get(x) || 0), 0);

function groupBy(list, key) {
  const out = new Map();
  for (const x of list) {
    const k = key(x);
    if (!out.has(k)) out.set(k, []);
    out.get(k).push(x);
  }
  return out;
}

function download(name, content, type) {
  const url = typeof content === "string" && content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], {type}));
  const link = h("a", {href: url, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  if (url.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function showTip(event, ...content) {
  const tip = $("tip");
  tip.replaceChildren(...content);
  tip.hidden = false;
  const {innerWidth, innerHeight} = window;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - box.height - 8)}px`;
}
const hideTip = () => { $("tip").hidden = true; };

// A value on a scale from 0 to 1 as a colour: pale to strong, readable under dark and light text.
function heat(x) {
  const dark = document.documentElement.dataset.theme === "dark";
  const stops = dark
    ? [[38, 50, 66], [52, 92, 130], [60, 132, 136], [190, 150, 60], [216, 88, 58]]
    : [[238, 243, 248], [188, 216, 236], [140, 200, 186], [248, 208, 110], [238, 112, 78]];
  const at = Math.max(0, Math.min(1, x)) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  const mix = stops[i].map((a, k) => Math.round(a + (stops[i + 1][k] - a) * (at - i)));
  return `rgb(${mix.join(",")})`;
}

// A steady colour for a name.
const HUES = [212, 158, 28, 268, 338, 96, 190, 48, 306, 130, 240, 6];
function hueOf(index) {
  const dark = document.documentElement.dataset.theme === "dark";
  const hue = HUES[index % HUES.length];
  return dark ? `hsl(${hue}, 38%, 34%)` : `hsl(${hue}, 62%, 86%)`;
}
