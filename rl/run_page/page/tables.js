// The part with the recipe and the summary; of two runs, what differs.

function valueText(value) {
  if (value === undefined) return NONE;
  if (value === null) return "null";
  return typeof value === "number" && !Number.isInteger(value) ? plain(value) : String(value);
}

/** Dotted names and each run's value; `all`: also those that are the same in both runs. */
function keyTable(runs, part, all) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.about[part])))];
  const differ = (name) => new Set(runs.map((run) => valueText(run.about[part][name]))).size > 1;
  const shown = all ? names : names.filter(differ);
  if (!shown.length) return el("p", { class: "faint" }, names.length ? "no difference" : "none");
  const several = runs.length > 1;
  const head = several
    ? el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", { scope: "col" }, "key"),
          runs.map((run) => el("th", { scope: "col" }, runMark(run), run.label)),
        ),
      )
    : null;
  return el(
    "table",
    { class: "plain keys" },
    head,
    el(
      "tbody",
      {},
      shown.map((name) =>
        el(
          "tr",
          { class: several && all && differ(name) ? "differs" : null },
          el("th", { scope: "row" }, el("code", {}, name)),
          runs.map((run) => el("td", {}, valueText(run.about[part][name]))),
        ),
      ),
    ),
  );
}

/** The whole part. */
function recipePart(runs) {
  const several = runs.length > 1;
  const places = { summary: el("div", {}), recipe: el("div", {}) };
  const draw = (all) => {
    places.summary.replaceChildren(keyTable(runs, "summary", all || !several));
    places.recipe.replaceChildren(keyTable(runs, "recipe", all || !several));
  };
  draw(false);
  const box = el("input", {
    type: "checkbox",
    id: "all-keys",
    change: (event) => draw(event.target.checked),
  });
  return el(
    "div",
    { class: "reading" },
    several ? el("label", {}, box, " also what is the same in both") : null,
    el("section", {}, el("h2", {}, "Summary"), places.summary),
    el("section", {}, el("h2", {}, "Recipe"), places.recipe),
  );
}
