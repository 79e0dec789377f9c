// The part with curves: headlines, the run's main panels, and every figure that was logged.

const CURVE_COLOURS = 4;

/** The series of a figure, one a run; `curve` is its place among the panel's. */
function seriesOf(runs, metric, label, evaluated, curve) {
  const several = runs.length > 1;
  return runs.map((run) => ({
    label: several ? [label, run.label].filter(Boolean).join(", ") : label,
    points: run.points(metric, evaluated),
    colour: several ? run.number : curve % CURVE_COLOURS,
    dash: several ? curve : 0,
    dots: evaluated,
  }));
}

function panelChart(runs, panel, pick) {
  const series = panel.curves.flatMap((curve, place) =>
    seriesOf(runs, curve.metric, curve.label, curve.evaluated, place),
  );
  const evaluated = panel.curves.every((curve) => curve.evaluated);
  const look = {
    unit: panel.unit,
    shares: panel.shares,
    log: panel.logarithmic,
    pick: evaluated ? null : pick,
  };
  return chart(panel.title, series, look);
}

/** The last value of each headline, and how it came there. */
function headlineTiles(runs) {
  const tiles = runs[0].about.headlines.map(({ metric, label, form }) => {
    const known = runs.map((run) => run.points(metric, false));
    if (!known.some((points) => points.length)) return null;
    const rows = known.map((points, number) => {
      const last = points.length ? points[points.length - 1][1] : null;
      return el(
        "div",
        { class: "value" },
        el("b", {}, format(last, form)),
        sparkline(points, number),
      );
    });
    return el("div", { class: "tile" }, el("span", { class: "label" }, label), rows);
  });
  return el("div", { class: "tiles" }, tiles);
}

/** Held-out figures, first and last. */
function evaluationTable(runs) {
  const columns = runs[0].about.evaluation;
  const rows = runs.flatMap((run) => {
    const lines = run.about.evaluations;
    if (!lines.length) return [];
    const shown = lines.length > 1 ? [lines[0], lines[lines.length - 1]] : lines;
    return shown.map((line) => [run, line]);
  });
  if (!rows.length) return null;
  const known = columns.filter(({ metric }) =>
    rows.some(([, line]) => typeof line[metric] === "number"),
  );
  const head = [
    runs.length > 1 ? "run" : null,
    "held out, after",
    ...known.map((column) => column.label),
  ];
  return el(
    "table",
    { class: "plain" },
    columnHeads(head),
    el(
      "tbody",
      {},
      rows.map(([run, line]) =>
        el(
          "tr",
          {},
          runs.length > 1 ? el("td", {}, runMark(run), run.label) : null,
          el("th", { scope: "row" }, counted(line.step, "step")),
          known.map(({ metric, form }) =>
            el("td", { class: "number" }, format(line[metric], form)),
          ),
        ),
      ),
    ),
  );
}

/** Names of all figures in lines of several runs. */
function namesIn(linesOfRuns) {
  const names = new Set();
  for (const line of linesOfRuns.flat()) for (const name in line) names.add(name);
  return [...names].filter((name) => !["step", "time", "non_finite"].includes(name));
}

/** Every figure of the steps and evaluations, each drawn when it comes into sight. */
function allFigures(runs, pick) {
  const figures = [
    ...namesIn(runs.map((run) => run.figures)).map((name) => [name, false]),
    ...namesIn(runs.map((run) => run.about.evaluations)).map((name) => [name, true]),
  ];
  const waiting = new Map();
  const sight = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        sight.unobserve(entry.target);
        entry.target.replaceChildren(waiting.get(entry.target)());
      }
    },
    { rootMargin: "300px" },
  );
  const places = figures.map(([name, evaluated]) => {
    const place = el("div", { class: "place" });
    const title = evaluated ? `${name}, held out` : name;
    const label = runs.length > 1 ? "" : name;
    const look = { small: true, pick: evaluated ? null : pick };
    waiting.set(place, () => chart(title, seriesOf(runs, name, label, evaluated, 0), look));
    sight.observe(place);
    return [title, place];
  });
  const grid = el(
    "div",
    { class: "charts small" },
    places.map(([, place]) => place),
  );
  const search = el("input", {
    type: "search",
    placeholder: "such as verdicts/",
    "aria-label": "Show figures whose name holds",
    input: () => {
      for (const [title, place] of places) place.hidden = !title.includes(search.value.trim());
    },
  });
  return el(
    "section",
    { "aria-label": "All figures" },
    el("h2", {}, "All figures ", el("span", { class: "faint" }, String(figures.length))),
    el("p", { class: "finder" }, search),
    grid,
  );
}

/** The whole part; `pick(step)` shows the samples of a step. */
function curvesPart(runs, pick) {
  const measured = runs.some((run) => run.figures.length || run.about.evaluations.length);
  if (!measured) {
    return el(
      "div",
      {},
      el(
        "p",
        { class: "notice" },
        "This run has logged no figures by step. Its answers and its recipe are in the other parts.",
      ),
    );
  }
  const panels = runs[0].about.panels.map((panel) => panelChart(runs, panel, pick));
  return el(
    "div",
    {},
    headlineTiles(runs),
    el("div", { class: "charts" }, panels),
    evaluationTable(runs),
    allFigures(runs, pick),
  );
}
