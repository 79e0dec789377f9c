"use strict";
// Elements and numbers as text. What samples say becomes text nodes only, so none of it is markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; attributes that are functions listen to the event of their name. */
function el(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An SVG element. */
function svg(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** The row of a table that names its columns; those without a text are left out. */
function columnHeads(texts) {
  const cells = texts.filter(Boolean).map((text) => el("th", { scope: "col" }, text));
  return el("thead", {}, el("tr", {}, cells));
}

const NONE = "–";

/** A number by a Python format specification: sign, thousands, digits and one of f, e, d, g, %. */
function format(value, form) {
  if (value === null || value === undefined) return NONE;
  if (typeof value !== "number") return String(value);
  const [, sign, comma, digits, kind] = /^(\+?)(,?)(?:\.(\d+))?([efdg%]?)$/.exec(form || "") || [];
  if (!kind || kind === "g") return plain(value);
  const places = digits === undefined ? 0 : Number(digits);
  let text;
  if (kind === "e") text = value === 0 ? "0" : value.toExponential(places);
  else {
    const shown = kind === "%" ? value * 100 : value;
    const options = { minimumFractionDigits: places, maximumFractionDigits: places };
    text = shown.toLocaleString("en-US", { ...options, useGrouping: Boolean(comma) });
  }
  if (sign && value >= 0) text = `+${text}`;
  return (kind === "%" ? `${text} %` : text).replaceAll("-", "−");
}

/** A number of unknown size, in four digits. */
function plain(value) {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e6 || size < 1e-3)
    return Number(value.toPrecision(3)).toExponential().replaceAll("-", "−");
  if (Number.isInteger(value)) return value.toLocaleString("en-US").replace("-", "−");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

/** Words for how many there are of something. */
function counted(count, one, many) {
  return `${count.toLocaleString("en-US")} ${count === 1 ? one : many || `${one}s`}`;
}

/** A text cut to its ends where it is long. */
function ends(text, most) {
  if (text.length <= most) return text;
  const half = Math.floor(most / 2);
  return `${text.slice(0, half).trimEnd()} … ${text.slice(-half).trimStart()}`;
}

const VERDICTS = {
  correct: ["✓", "good"],
  wrong: ["✗", "bad"],
  no_answer: ["∅", "bad"],
  unparsable: ["?", "warn"],
  bad_gold: ["!", "warn"],
  timeout: ["⏱", "warn"],
  crash: ["!", "warn"],
};

/** A verdict by its sign, its word and its colour. */
function verdictBadge(cause, signOnly) {
  if (cause === null || cause === undefined) return null;
  const [sign, tone] = VERDICTS[cause] || ["•", "warn"];
  const word = cause.replaceAll("_", " ");
  const attributes = { class: `badge ${tone}`, title: word };
  if (signOnly) return el("span", { ...attributes, "aria-label": word, role: "img" }, sign);
  return el("span", attributes, `${sign} ${word}`);
}
