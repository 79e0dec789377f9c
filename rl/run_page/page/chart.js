// Line charts, drawn as SVG: seen by eye, walked through by arrow keys, told by their labels.

const SMOOTH_FROM = 20; // points; below, a running mean hides more than it shows

/** Around each point the mean of `width` values; fewer near the ends. */
function runningMean(points, width) {
  const half = Math.floor(width / 2);
  const sums = [0];
  for (const [, value] of points) sums.push(sums[sums.length - 1] + value);
  return points.map(([step], i) => {
    const from = Math.max(0, i - half);
    const to = Math.min(points.length, i + half + 1);
    return [step, (sums[to] - sums[from]) / (to - from)];
  });
}

/** Round numbers from `low` to `high`, about `count` of them. */
function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw) || power;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(at);
  return found.map((at) => (Math.abs(at) < step * 1e-6 ? 0 : at));
}

/** Marks from `low` to `high`: powers of ten, some left out where there are many; 1, 2, 5 and tens
 * of these where there are few. */
function logMarks(low, high) {
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  if (last - first < 1) {
    const near = [1, 2, 5, 10, 20, 50].map((each) => each * 10 ** Math.floor(Math.log10(low)));
    const inside = near.filter((each) => each >= low && each <= high);
    return inside.length > 1 ? inside : [low, high];
  }
  const every = Math.max(1, Math.ceil((last - first) / 4));
  const found = [];
  for (let at = first; at <= last; at += every) found.push(10 ** at);
  return found;
}

function yScale(series, { shares, log }, bottom, top) {
  const values = series.flatMap((each) => each.points.map(([, value]) => value));
  if (log && values.some((value) => value > 0)) {
    const positive = values.filter((value) => value > 0);
    let [low, high] = [Math.min(...positive), Math.max(...positive)];
    if (low === high) [low, high] = [low / 2, high * 2];
    const [from, to] = [Math.log10(low), Math.log10(high)];
    const at = (value) => bottom - ((Math.log10(value) - from) / (to - from)) * (bottom - top);
    return { at: (value) => (value > 0 ? at(value) : bottom), marks: logMarks(low, high) };
  }
  let low = values.reduce((a, b) => Math.min(a, b), Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (shares) [low, high] = [0, 1];
  if (low === high)
    [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const room = shares ? 0 : (high - low) * 0.06;
  [low, high] = [low - room, high + room];
  const at = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  return { at, marks: ticks(low, high, 4) };
}

function path(points, x, y) {
  return points
    .map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`)
    .join("");
}

/** One series: its points, and where there are many, a running mean with the points behind it. */
function drawn(each, x, y) {
  const look = { class: `line colour-${each.colour} dash-${each.dash || 0}` };
  if (each.dots || each.points.length < SMOOTH_FROM) {
    const dots = each.points.map(([step, value]) =>
      svg("circle", { class: `dot colour-${each.colour}`, cx: x(step), cy: y(value), r: 2.5 }),
    );
    return [svg("path", { ...look, d: path(each.points, x, y) }), ...dots];
  }
  const width = Math.max(3, Math.floor(each.points.length / 20)) | 1;
  return [
    svg("path", { class: `raw colour-${each.colour}`, d: path(each.points, x, y) }),
    svg("path", { ...look, d: path(runningMean(each.points, width), x, y) }),
  ];
}

function inWords(title, series, form) {
  const told = series.map(({ label, points }) => {
    const [[first, from], [last, to]] = [points[0], points[points.length - 1]];
    const span = first === last ? "" : ` at step ${first}, ${format(to, form)} at step ${last}`;
    return `${label} ${format(from, form)}${span}`;
  });
  return `${title}: ${told.join("; ")}`;
}

/**
 * A chart with its title.
 * series: [{label, points: [[step, value]], colour, dash, dots}]; look: {unit, shares, log, form,
 * small, pick}, where `pick(step)` is called with a step that is chosen.
 */
function chart(title, series, look = {}) {
  const known = series.filter((each) => each.points.length);
  const head = el("figcaption", {}, el("strong", {}, title), look.unit ? ` ${look.unit}` : null);
  if (!known.length)
    return el("figure", { class: "chart" }, head, el("p", { class: "faint" }, "not measured"));
  const [width, height] = look.small ? [300, 132] : [560, 228];
  const [left, right, top, bottom] = [46, width - 10, 8, height - 22];
  const form = look.form || (look.shares ? ".1%" : look.log ? ".1e" : "");
  const steps = [...new Set(known.flatMap((each) => each.points.map(([step]) => step)))];
  steps.sort((a, b) => a - b);
  const [from, to] = [steps[0], steps[steps.length - 1]];
  const x = (step) =>
    from === to ? (left + right) / 2 : left + ((step - from) / (to - from)) * (right - left);
  const { at: y, marks } = yScale(known, look, bottom, top);
  const grid = marks.flatMap((value) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    svg(
      "text",
      { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" },
      look.shares ? format(value, ".0%") : plain(value),
    ),
  ]);
  const below = ticks(from, to, look.small ? 3 : 6)
    .filter(Number.isInteger)
    .map((step) =>
      svg(
        "text",
        { class: "tick", x: x(step), y: height - 6, "text-anchor": "middle" },
        plain(step),
      ),
    );
  const cross = svg("line", { class: "cross", y1: top, y2: bottom, visibility: "hidden" });
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      tabindex: 0,
      "aria-label": inWords(title, known, form),
    },
    grid,
    below,
    known.flatMap((each) => drawn(each, x, y)),
    cross,
  );
  const legend = el(
    "p",
    { class: "legend" },
    known.length > 1 ? known.map((each) => legendEntry(each)) : null,
  );
  const told = el("p", { class: "told", "aria-live": "polite" });
  follow({ picture, cross, told, steps, x, known, form, pick: look.pick });
  return el("figure", { class: look.small ? "chart small" : "chart" }, head, picture, legend, told);
}

function legendEntry({ label, colour, dash }) {
  const swatch = svg(
    "svg",
    { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": true },
    svg("path", { class: `line colour-${colour} dash-${dash || 0}`, d: "M1 4L21 4" }),
  );
  return el("span", {}, swatch, label);
}

/** Let pointer and arrow keys walk over the steps, and tell the values there. */
function follow({ picture, cross, told, steps, x, known, form, pick }) {
  const byStep = known.map((each) => new Map(each.points));
  let place = -1;
  const show = (next) => {
    place = Math.max(0, Math.min(steps.length - 1, next));
    const step = steps[place];
    filled(cross, { x1: x(step), x2: x(step), visibility: "visible" }, []);
    const values = known
      .map((each, i) => [each, byStep[i].get(step)])
      .filter(([, value]) => value !== undefined);
    const names = known.length > 1;
    told.replaceChildren(
      el("b", {}, `step ${step}`),
      ...values.map(([each, value]) =>
        el("span", {}, names ? `${each.label} ` : "", el("b", {}, format(value, form))),
      ),
    );
  };
  const hide = () => {
    cross.setAttribute("visibility", "hidden");
    told.replaceChildren();
  };
  const nearest = (event) => {
    const box = picture.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * picture.viewBox.baseVal.width;
    let best = 0;
    steps.forEach((step, i) => {
      if (Math.abs(x(step) - at) < Math.abs(x(steps[best]) - at)) best = i;
    });
    show(best);
  };
  picture.addEventListener("pointermove", nearest);
  picture.addEventListener("pointerleave", hide);
  picture.addEventListener("blur", hide);
  picture.addEventListener("click", () => pick && place >= 0 && pick(steps[place]));
  picture.addEventListener("keydown", (event) => {
    const moves = {
      ArrowRight: place + 1,
      ArrowLeft: place < 0 ? steps.length - 1 : place - 1,
      Home: 0,
      End: steps.length - 1,
    };
    if (event.key in moves) show(moves[event.key]);
    else if (event.key === "Enter" && pick && place >= 0) pick(steps[place]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  if (pick) picture.classList.add("pickable");
}

/** A few pixels of a curve, beside a number. */
function sparkline(points, colour) {
  if (points.length < 2) return null;
  const values = points.map(([, value]) => value);
  const [low, high] = [
    values.reduce((a, b) => Math.min(a, b)),
    values.reduce((a, b) => Math.max(a, b)),
  ];
  const [from, to] = [points[0][0], points[points.length - 1][0]];
  const x = (step) => 1 + ((step - from) / (to - from || 1)) * 76;
  const y = (value) => 19 - ((value - low) / (high - low || 1)) * 17;
  const shown = runningMean(points, Math.max(1, Math.floor(points.length / 40)) | 1);
  return svg(
    "svg",
    { class: "spark", viewBox: "0 0 78 20", "aria-hidden": true },
    svg("path", { class: `line colour-${colour}`, d: path(shown, x, y) }),
  );
}
