// An answer token by token, shaded by what sampler or learner say of each.

/** Shades by their names. `share`: how deep a value is shaded, 0 to 1, the same in every answer, so
 * that a colour means one size. */
const SHADES = {
  entropy: {
    label: "entropy",
    about: "how undecided the learner is where the token stands",
    scale: ["0", "2 nats or more"],
    values: (told) => told.entropy,
    share: (value) => Math.sqrt(Math.min(1, value / 2)),
  },
  gap: {
    label: "gap",
    about: "the learner’s logprob of the token less the sampler’s",
    scale: ["learner less likely, 1 nat", "1 nat, likelier"],
    values: (told) => told.gap,
    share: (value) => Math.min(1, Math.max(0, 1 + Math.log10(Math.abs(value)) / 3)),
    unseen: "all gaps are below 0.001 nats: learner and sampler agree",
  },
  surprise: {
    label: "surprise",
    about: "−log of the probability that the sampler gave the token",
    scale: ["0", "2 nats or more"],
    values: (told) => told.logprob.map((value) => (value === null ? null : -value)),
    share: (value) => Math.sqrt(Math.min(1, Math.max(0, value) / 2)),
  },
  none: { label: "none", values: () => [] },
};

const SPECIAL = /^<[|｜].*[|｜]>$/;

function tokenSpan(text, value, shade) {
  const span = el("span", { class: SPECIAL.test(text) ? "token special" : "token" }, text);
  const share = value ? Math.round(shade.share(value) * 85) : 0;
  if (share > 0) {
    span.style.backgroundColor = `color-mix(in srgb, var(${value < 0 ? "--cool" : "--heat"}) ${share}%, transparent)`;
    if (share > 60) span.classList.add("deep");
  }
  return span;
}

/** What is known of token `i`, in words. */
function tokenTold(told, i) {
  const facts = [
    ["probability", told.logprob[i] === null ? null : Math.exp(told.logprob[i]), ".1%"],
  ];
  if (told.entropy) facts.push(["entropy", told.entropy[i], ".3f"], ["gap", told.gap[i], ".3g"]);
  return [
    el("span", { class: "faint" }, `token ${i + 1} of ${told.text.length} `),
    el("code", {}, JSON.stringify(told.text[i])),
    ...facts.map(([label, value, form]) =>
      el("span", { class: "fact" }, `${label} `, el("b", {}, format(value, form))),
    ),
  ];
}

function scaleLegend({ scale, label }) {
  return el("span", { class: "scale" }, scale[0], el("span", { class: `ramp ${label}` }), scale[1]);
}

/** What is to be said of a shade in this answer. */
function shadeNote(told, shade, values) {
  if (!told.gap) return "left out of the update: the learner says nothing of it";
  const seen = values.some((value) => value && shade.share(value) > 0);
  return shade.unseen && !seen ? shade.unseen : shade.about;
}

/** The answer's tokens with the shades to choose among. */
function tokenView(told, choice) {
  const known = Object.keys(SHADES).filter((name) => name === "none" || SHADES[name].values(told));
  const wanted = choice.get("shade", "entropy");
  const name = known.includes(wanted) ? wanted : known[0];
  const shade = SHADES[name];
  const values = shade.values(told);
  const readout = el(
    "p",
    { class: "readout", "aria-live": "polite" },
    el(
      "span",
      { class: "faint" },
      "Point at a token, or walk with the arrow keys, to see its figures.",
    ),
  );
  const spans = told.text.map((text, i) => tokenSpan(text, values[i], shade));
  const text = el(
    "div",
    { class: "text", tabindex: 0, role: "group", "aria-label": "Answer, token by token" },
    spans,
  );
  let at = -1;
  const show = (i) => {
    spans[at]?.classList.remove("at");
    at = Math.max(0, Math.min(spans.length - 1, i));
    spans[at].classList.add("at");
    readout.replaceChildren(...tokenTold(told, at));
  };
  text.addEventListener("pointerover", (event) => {
    const i = spans.indexOf(event.target);
    if (i >= 0) show(i);
  });
  text.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: spans.length - 1 }[event.key];
    if (to === undefined) return;
    show(to);
    event.preventDefault();
    event.stopPropagation();
  });
  const buttons = known.map((each) =>
    el(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": String(each === name),
        title: SHADES[each].about,
        "data-shade": each,
        click: () => choice.set({ shade: each, page: choice.get("page") }),
      },
      SHADES[each].label,
    ),
  );
  const note = shadeNote(told, shade, values);
  return el(
    "div",
    { class: "tokens" },
    el(
      "div",
      { class: "bar" },
      el("span", { class: "faint" }, "shaded by"),
      el("span", { class: "chips" }, buttons),
      shade.scale ? scaleLegend(shade) : null,
    ),
    note ? el("p", { class: "faint note" }, note) : null,
    text,
    readout,
  );
}
