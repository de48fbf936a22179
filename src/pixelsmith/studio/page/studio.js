// The studio: a library of projects, and one project with its form, its pictures and its work.
import { address, ask, duration, element, jobPath, labelOf, listen, made, projectPath } from "./api.js";
import { otherThan } from "./candidate.js";
import { Form, NEW, randomSeed } from "./form.js";
import { Drawing } from "./draw.js";
import { Looking, coverOf } from "./look.js";

const CANDIDATES = 4;
const POSITIONS = [0.25, 0.5, 0.75];
const GROWN_MS = 2500; // how often a growing picture is looked at anew
const GIVEN_PATH = /^.*given-[0-9a-f]{8}/; // of the picture that was given, in messages
const UNFINISHED = ["waiting", "running"];

let project = null; // as the server last told it
let looks = [];
let chosen = ""; // keys of the picture that is shown, and of the one it is compared with
let compared = "";
let inView = ""; // the picture to which the strip was moved
let mode = "divider";
let followed = ""; // the picture that grows, whose newest stage is shown
let place = null; // the job whose crops are shown
let lookedAt = 0;
let shownHash = "";

const form = new Form({ onWrong: say, onPlan: () => (readout(), warnOfOther()) });
const looking = new Looking({ onMove: moved, onPlace: (point) => tryPlace(point) });
const drawing = new Drawing(looking.viewer, drawn);

// Beside the form, or at the top where there is none.
function say(text) {
  element(element("project").hidden ? "status" : "wrong").textContent = text;
}

// An action of the page: it says what went wrong, and a second click while it goes on, or of a double click, is none.
const safely = (act) => {
  let goesOn = false;
  return async (...given) => {
    if (goesOn || given[0]?.detail > 1) return;
    goesOn = true;
    try {
      say("");
      await act(...given);
    } catch (error) {
      say(error.message);
      element("wrong").scrollIntoView({ block: "nearest" });
    } finally {
      goesOn = false;
    }
  };
};

// --- the library

async function showLibrary() {
  project = null;
  form.project = null;
  document.title = "Pixelsmith studio";
  element("title").textContent = "";
  element("library").hidden = false;
  element("project").hidden = true;
  const found = await ask("GET", "/api/projects");
  element("projects").replaceChildren(
    ...found.map((one) => {
      const picture = one.picture
        ? made("img", { src: smallOf(one.name, one.picture), alt: "", loading: "lazy" })
        : made("div", { className: "empty" });
      const words = one.prompt || one.name;
      const remove = made("button", { type: "button", className: "remove", textContent: "×", title: "Remove", data: { "aria-label": `Remove ${words}` } });
      remove.onclick = safely(async () => {
        if (!confirm(`Remove “${words}” with all its pictures?`)) return;
        await ask("DELETE", projectPath(one.name));
        await showLibrary();
      });
      return made("li", {}, made("a", { href: `#/${one.name}` }, picture, made("span", { textContent: words })), remove);
    }),
  );
  element("first-prompt").focus();
}

const smallOf = (name, key, version) =>
  address(projectPath(name, `/looks/${encodeURIComponent(key)}/small`), version ? { version } : {});

async function create(prompt) {
  const created = await ask("POST", "/api/projects", { ...NEW, prompt, seed: randomSeed() });
  element("first-prompt").value = "";
  location.hash = `#/${created.name}`;
  await route();
}

const start = safely(async () => {
  await create(element("first-prompt").value.trim() || element("first-prompt").placeholder);
  // Its button is disabled until then, if the project before had no prompt.
  await form.think();
  element("candidates").click();
});
element("begin").onsubmit = (event) => {
  event.preventDefault();
  start();
};

// --- a project

async function openProject(name, state) {
  if (project?.name !== name) {
    project = await ask("GET", projectPath(name));
    chosen = compared = followed = "";
    place = null;
    element("place").hidden = true;
    aim(false);
    closeTool();
    element("library").hidden = true;
    element("project").hidden = false;
    form.fill(project);
    chosen = state.get("look") ?? "";
    compared = state.get("with") ?? "";
    mode = state.get("mode") ?? "divider";
    if (Number.isFinite(Number.parseFloat(state.get("at")))) looking.share = Number.parseFloat(state.get("at"));
    await refresh();
    looking.goTo(...["x", "y", "w"].map((part) => Number.parseFloat(state.get(part))));
  } else {
    looking.goTo(...["x", "y", "w"].map((part) => Number.parseFloat(state.get(part))));
  }
}

async function refresh() {
  const name = project.name;
  const [now, found] = await Promise.all([ask("GET", projectPath(name)), ask("GET", projectPath(name, "/looks"))]);
  if (project?.name !== name) return;
  project = { ...now, form: project.form };
  looks = found;
  lookedAt = Date.now();
  describe();
  await showLooks();
}

function describe() {
  const prompt = form.values.prompt;
  document.title = prompt ? `${prompt} – Pixelsmith studio` : "Pixelsmith studio";
  element("title").textContent = prompt;
  element("given").hidden = project.given === null;
  form.nameAreas(project.given !== null);
  element("candidates").hidden = project.given !== null;
  element("painted").hidden = project.map === null;
  element("slider").disabled = project.map !== null;
  chosen = currentOf(followed)?.key ?? chosen;
  if (!looks.some((look) => look.key === chosen)) chosen = unchosen()?.key ?? "";
  if (!looks.some((look) => look.key === compared) || compared === chosen) compared = "";
  warnOfOther();
  strip();
  jobs();
}

// What is shown before one is chosen: the newest picture, or of candidates the one whose seed the form has.
function unchosen() {
  const newest = looks.at(-1);
  const isCandidate = (look) => jobBy(jobOf(look.key))?.kind === "candidates";
  if (!newest || !isCandidate(newest)) return newest;
  return looks.findLast((look) => isCandidate(look) && look.key.endsWith(`:${form.values.seed}`)) ?? newest;
}

// What is chosen is what grows, or else this is said beside the button.
function warnOfOther() {
  const look = lookOf(chosen);
  element("other-grows").textContent = look ? otherThan(jobBy(jobOf(look.key)), look, form.values, form.plan) : "";
}

const lookOf = (key) => looks.find((look) => look.key === key);

// The version of a picture that stands for it, by the job in which it grew.
const currentOf = (picture) => looks.findLast((look) => picture && look.picture === picture && look.current);

// A grown picture stands for its stages and versions; they are there to compare with.
function thumbs() {
  const last = new Map();
  for (const look of looks) if (look.current) last.set(look.picture || look.key, look);
  return [...last.values()];
}

const isShown = (look) => look.key === chosen || (look.picture && look.picture === lookOf(chosen)?.picture);

function strip() {
  const shown = thumbs();
  const entries = shown.map((look) => {
    const current = Boolean(isShown(look));
    return [`${look.key} ${look.version} ${current}`, () => thumb(look, current)];
  });
  for (const job of project.jobs) {
    if (job.kind !== "candidates" || !UNFINISHED.includes(job.state)) continue;
    for (const seed of job.seeds) {
      if (!job.results.includes(seed)) entries.push([`${job.id} ${seed}`, () => awaited(seed)]);
    }
  }
  const list = element("strip");
  keptUp(list, entries);
  if (chosen === inView) return;
  inView = chosen;
  const current = list.querySelector('[aria-current="true"]');
  if (current) list.scrollLeft = current.offsetLeft - list.offsetLeft - list.clientWidth / 2;
}

const jobOf = (key) => key.split(":")[0];

function thumb(look, current) {
  const label = look.picture ? look.label.split(",")[0] : look.label.replace("seed ", "");
  const node = made(
    "button",
    { type: "button", title: `${look.label}, ${look.width} × ${look.height}`, data: { "aria-current": String(current) } },
    made("img", { src: smallOf(project.name, look.key, look.version), alt: "" }),
    made("span", { className: "name-of", textContent: label }),
  );
  node.onclick = () => choose(look.key);
  return made("li", {}, node);
}

function awaited(seed) {
  const name = made("span", { className: "name-of", textContent: String(seed) });
  return made("li", {}, made("button", { type: "button", disabled: true }, made("span", { className: "empty" }), name));
}

async function choose(key) {
  if (tool) closeTool(); // it draws over the picture that was chosen before
  chosen = key;
  followed = lookOf(key)?.picture ?? "";
  if (compared === key) compared = "";
  const [name, seed] = key.split(":");
  const job = project.jobs.find((one) => one.id.endsWith(`/${name}`));
  // What is chosen is what grows: its words and its seed.
  if (job?.kind === "candidates") {
    const { prompt, negative_prompt, model } = job.form;
    form.set({ ...form.values, prompt, negative_prompt, model, preset: job.form.preset, seed: Number(seed) });
    form.changed();
  }
  describe();
  await showLooks();
}

async function showLooks() {
  element("nothing").hidden = looks.length > 0;
  element("view").hidden = looks.length === 0;
  const others = element("other");
  const rest = looks.filter((look) => look.key !== chosen);
  element("compare").hidden = rest.length === 0;
  element("mode").hidden = !compared;
  if (document.activeElement !== others) {
    others.replaceChildren(new Option("nothing", ""), ...rest.map((look) => new Option(labelOf(look), look.key)));
  }
  others.value = compared;
  element("mode").value = mode;
  await looking.show(project.name, lookOf(chosen) ?? null, lookOf(compared) ?? null, mode);
  readout();
}

function readout() {
  const look = lookOf(chosen);
  if (!look) {
    element("readout").textContent = "";
    return;
  }
  const words = [`${look.width} × ${look.height}`, `${Math.round(100 * looking.scale)} %`];
  const dpi = form.plan?.dpi;
  if (dpi && look.picture) {
    words.push(`${((look.width / dpi) * 2.54).toFixed(1)} × ${((look.height / dpi) * 2.54).toFixed(1)} cm`);
  }
  element("readout").textContent = words.join(" · ");
}

// The address keeps what is seen.
function moved(rests = true) {
  readout();
  if (!rests || !project || !lookOf(chosen)) return;
  const state = new URLSearchParams({ look: chosen, ...looking.place });
  if (compared) {
    state.set("with", compared);
    state.set("mode", mode);
    state.set("at", looking.share.toFixed(3));
  }
  shownHash = `#/${project.name}?${state}`;
  history.replaceState(null, "", shownHash);
}

// --- work

// What stays the same stays in the page: a button under the pointer must not be another one when it is released.
function keptUp(list, entries) {
  const there = new Map([...list.children].map((node) => [node.dataset.key, node]));
  const nodes = entries.map(([key, make]) => {
    const node = there.get(key) ?? make();
    node.dataset.key = key;
    return node;
  });
  const same = nodes.length === list.children.length && nodes.every((node, i) => node === list.children[i]);
  if (!same) list.replaceChildren(...nodes);
}

function jobs() {
  const lasting = ["grow", "redo"];
  const listed = project.jobs.filter((job) => lasting.includes(job.kind) || job.state === "failed" || job.state === "paused");
  const keys = (job) => `${job.id} ${job.state} ${job.file} ${job.of} ${isCurrent(job)} ${nameOf(job)} ${removable(job)}`;
  keptUp(element("jobs"), listed.reverse().map((job) => [keys(job), () => jobNode(job)]));
  for (const job of listed) {
    const node = document.getElementById(job.id);
    node.querySelector("small").textContent = stateOf(job);
    keptUp(node.querySelector(".warnings"), job.warnings.map((text) => [text, () => warningNode(text)]));
    const bar = node.querySelector("progress");
    if (bar) bar.value = job.share;
  }
}

const jobName = (job) => job.id.split("/")[1];
const jobBy = (name) => project.jobs.find((job) => jobName(job) === name);
const rootOf = (job) => (job.of && jobBy(job.of) ? rootOf(jobBy(job.of)) : jobName(job));
const isCurrent = (job) => jobOf(currentOf(rootOf(job))?.key ?? "") === jobName(job);

function nameOf(job) {
  if (job.kind === "candidates") return "Candidates";
  if (job.kind === "place") return "Place";
  const grown = project.jobs.filter((one) => one.kind === "grow").map(jobName);
  const picture = `Picture ${grown.indexOf(rootOf(job)) + 1}`;
  if (job.kind === "grow") return picture;
  const versions = project.jobs.filter((one) => one.kind === "redo" && one.file && rootOf(one) === rootOf(job)).map(jobName);
  return job.file ? `${picture}, version ${versions.indexOf(jobName(job)) + 2}` : `${picture}, a place`;
}

// What can be done with a finished version of a picture.
function versionRow(job) {
  const row = made("div", { className: "row acts" });
  const again = job.kind === "redo";
  if (!isCurrent(job)) row.append(button("Use this one", () => useVersion(jobName(job))));
  if (isCurrent(job)) row.append(button("Redo a place", () => redoPlace(job)));
  if (again && isCurrent(job)) row.append(button("Undo", () => useVersion(job.of)));
  if (again) row.append(button("Compare", () => compareWith(job.of, jobName(job))));
  return row;
}

async function useVersion(name) {
  const job = jobBy(name);
  await ask("POST", jobPath(job, "/use"));
  followed = rootOf(job);
  compared = "";
  await refresh();
}

// A picture goes after the versions that were made from it; those of a version stay.
const removable = (job) => !UNFINISHED.includes(job.state) && (job.kind === "redo" || !project.jobs.some((one) => one.of === jobName(job)));

async function remove(job) {
  if (!confirm(`Remove “${nameOf(job)}”?`)) return;
  await ask("DELETE", jobPath(job));
  await refresh();
}

async function compareWith(before, after) {
  const last = (name) => looks.findLast((look) => jobOf(look.key) === name)?.key ?? "";
  followed = "";
  [chosen, compared] = [last(after), last(before)];
  describe();
  await showLooks();
}

function jobNode(job) {
  const name = nameOf(job);
  const title = made("span", {}, `${name} `, made("small"));
  const row = made("div", { className: "row" }, title);
  if (UNFINISHED.includes(job.state)) row.append(button("Pause", () => ask("POST", jobPath(job, "/pause"))));
  if (job.state === "paused") row.append(button("Resume", () => resume(job)));
  if (job.state === "failed") row.append(button("Try again", () => resume(job)));
  if (job.file) row.append(made("a", { href: address(jobPath(job, "/picture.tif")), download: "", textContent: "Save" }));
  if (removable(job)) row.append(button("Remove", () => remove(job)));
  const node = made("li", { id: job.id }, row, made("ul", { className: "warnings" }));
  if (UNFINISHED.includes(job.state) || job.state === "paused") {
    node.append(made("progress", { max: 1, data: { "aria-label": name } }));
  }
  if (job.file && job.state === "done") node.append(versionRow(job));
  return node;
}

const warningNode = (text) => made("li", { textContent: text.replace(GIVEN_PATH, "Your picture") });

function resume(job) {
  if (["grow", "redo"].includes(job.kind)) followed = rootOf(job);
  return ask("POST", jobPath(job, "/resume"));
}

function button(text, act) {
  return made("button", { type: "button", textContent: text, onclick: safely(act) });
}

function stateOf(job) {
  if (job.state === "failed") return job.error;
  if (job.state === "paused") return `paused at ${Math.round(100 * job.share)} %`;
  if (job.state === "waiting") return "in the queue";
  if (job.kind === "redo" && job.state === "done") return `seed ${job.form.seed}`;
  if (job.state === "done") return job.form.size.includes("@") ? job.form.size : job.form.size.replace("x", " × ");
  if (job.doing === "pausing") return "pausing";
  const left = job.seconds_left === null ? "" : `, ${duration(job.seconds_left)} left`;
  return `${Math.round(100 * job.share)} %${left}`;
}

let refreshing = null;
async function told(job) {
  if (!project || job.id.split("/")[0] !== project.name) return;
  const index = project.jobs.findIndex((one) => one.id === job.id);
  const before = project.jobs[index];
  if (index < 0) project.jobs.push(job);
  else project.jobs[index] = job;
  jobs();
  if (place?.id === job.id) showPlace(job);
  const more = before?.state !== job.state || before?.results.length !== job.results.length;
  const grows = job.kind === "grow" && Date.now() - lookedAt > GROWN_MS;
  if ((more || grows) && !refreshing) {
    lookedAt = Date.now();
    refreshing = refresh().catch((error) => say(error.message)).finally(() => (refreshing = null));
    if (more) refreshing.then(() => settle(job));
  }
}

// Once more when all is quiet: what was told while the last look went on.
let settling;
function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => project && refresh().catch((error) => say(error.message)), 400);
}

element("candidates").onclick = safely(async () => {
  await form.keep();
  const first = form.values.seed;
  const seeds = [first, ...Array.from({ length: CANDIDATES - 1 }, randomSeed)];
  const known = project.jobs.some((job) => job.kind === "candidates" && job.seeds.includes(first));
  if (known) seeds[0] = randomSeed();
  await ask("POST", projectPath(project.name, "/jobs"), { kind: "candidates", form: form.values, seeds });
});

element("grow").onclick = safely(async () => {
  await form.keep();
  const job = await ask("POST", projectPath(project.name, "/jobs"), { kind: "grow", form: form.values });
  followed = job.id.split("/")[1];
});

async function give(file) {
  if (!file) return;
  await ask("PUT", projectPath(project.name, "/given"), file);
  chosen = "given";
  await refresh();
  form.keepShapeOf(lookOf("given"));
  await form.keep();
}
element("file").onchange = safely(async (event) => {
  await give(event.target.files[0]);
  event.target.value = "";
});
element("take-back").onclick = safely(async () => {
  await ask("DELETE", projectPath(project.name, "/given"));
  await refresh();
  await form.think();
});
const see = element("see");

// A file may be dropped anywhere: where it is not taken the browser would open it in place of the page.
const drop = safely(async (file) => {
  if (!project) await create(element("first-prompt").value.trim());
  await give(file);
});
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    const leaves = type === "drop" || (type === "dragleave" && !event.relatedTarget);
    if (type !== "dragleave" || leaves) document.body.classList.toggle("drop", !leaves);
    if (type === "drop") drop(event.dataTransfer.files[0]);
  });
}

// --- a place at several positions of the Slider

function aim(on = !looking.aiming) {
  looking.aiming = on;
  element("try").setAttribute("aria-pressed", String(on));
  element("try").textContent = on ? "Click in the picture" : "Try at a place";
  see.classList.toggle("aiming", on);
}

const tryPlace = safely(async (point) => {
  if (!form.plan) throw new Error("Fill in the form first.");
  aim(false);
  looking.mark(point);
  const [width, height] = form.plan.size;
  const look = lookOf(chosen);
  // The picture that is asked for may show less of this one than all.
  const inside = coverOf(look, { width, height });
  const x = inside.x + point.x * inside.width;
  const y = inside.y + point.y * inside.width;
  const share = (value) => Math.min(1, Math.max(0, value));
  const at = [share(x), share((y * width) / height)];
  element("crops").replaceChildren();
  // A painted map has its own position for each place: there is nothing to choose from.
  const sliders = project.map ? [form.slider ?? RESULT] : form.slider === null ? POSITIONS : around(form.slider);
  place = await ask("POST", projectPath(project.name, "/jobs"), { kind: "place", form: form.values, at, sliders });
  showPlace(place);
});

const around = (slider) => [...new Set([Math.max(0, slider - 0.25), slider, Math.min(1, slider + 0.25)])].map((value) => Number(value.toFixed(2)));

function showPlace(job) {
  element("place").hidden = false;
  const waits = job.state === "failed" ? job.error : job.state === "waiting" ? "in the queue" : "…";
  keptUp(
    element("crops"),
    job.sliders.map((slider) => {
      const there = job.results.includes(slider);
      return [`${job.id} ${slider} ${there || waits}`, () => crop(job, slider, there, waits)];
    }),
  );
}

function crop(job, slider, there, waits) {
  const words = slider.toFixed(2);
  const picture = there
    ? made("img", { src: address(jobPath(job, `/place/${words}`), { created: job.created }), alt: `The place ${job.map ? "as painted" : `at ${words}`}` })
    : made("div", { className: "empty", textContent: waits });
  if (job.map) return made("figure", {}, picture, made("figcaption", { textContent: "as painted" }));
  const use = made("button", { type: "button", textContent: `Use ${words}`, disabled: !there });
  use.onclick = () => {
    form.chooseSlider(slider);
    closePlace();
  };
  return made("figure", {}, picture, made("figcaption", {}, use));
}

function closePlace() {
  if (element("place").contains(document.activeElement)) element("try").focus();
  place = null;
  element("place").hidden = true;
  looking.mark(null);
}

element("try").onclick = () => aim();
element("close-place").onclick = closePlace;

// --- drawing: a redo, a region, a Slider map

const RESULT = 0.5; // the Slider of places that are not painted, while the model chooses
let tool = null; // {kind, done, corners}

// Where the whole result lies in the picture that is shown.
function frameOf(look, [width, height]) {
  const inside = coverOf(look, { width, height });
  return { x: -inside.x / inside.width, y: -inside.y / inside.width, width: 1 / inside.width, height: height / width / inside.width };
}

function openTool(kind, { says, word, shape, frame, done }) {
  if (!lookOf(chosen)) throw new Error("Choose a picture first.");
  closePlace();
  aim(false);
  tool = { kind, done, corners: null };
  drawing.frame = frame;
  element("tool").hidden = false;
  element("tool-says").textContent = says;
  element("tool-done").textContent = word;
  element("tool-done").disabled = true;
  element("shapes").hidden = kind === "map";
  element("brushes").hidden = kind !== "map";
  element("tool-words").hidden = kind === "map";
  element("tool-numbers").hidden = kind !== "redo";
  see.classList.add("with-tool");
  // On a telephone it is reached from below the picture.
  see.scrollIntoView({ block: "nearest" });
  useShape(shape);
}

function useShape(shape) {
  drawing.use(shape);
  for (const one of document.querySelectorAll("#tool [data-tool]")) one.setAttribute("aria-pressed", String(one.dataset.tool === shape));
}

function closeTool() {
  tool = null;
  element("tool").hidden = true;
  see.classList.remove("with-tool");
  drawing.clear();
  drawing.outlines = [];
}

function drawn(corners) {
  tool.corners = corners;
  element("tool-done").disabled = false;
}

const percent = (corners) => corners.map((corner) => corner.map((share) => Number((100 * share).toFixed(3))));

async function redoPlace(job) {
  followed = rootOf(job);
  compared = "";
  describe();
  await showLooks();
  const look = lookOf(chosen);
  let slider = null;
  element("tool-prompt").value = form.values.prompt;
  element("tool-seed").value = randomSeed();
  element("tool-slider").value = RESULT;
  element("tool-value").textContent = "as before";
  element("tool-slider").oninput = (event) => {
    slider = Number(event.target.value);
    element("tool-value").textContent = slider.toFixed(2);
  };
  openTool("redo", {
    says: "Draw around the part to redo.",
    word: "Redo",
    shape: "rectangle",
    frame: { x: 0, y: 0, width: 1, height: look.height / look.width },
    done: async (corners) => {
      const own = { prompt: element("tool-prompt").value.trim(), seed: Number(element("tool-seed").value || 0) };
      const asked = { ...job.form, ...own, slider: slider ?? job.form.slider };
      await ask("POST", projectPath(project.name, "/jobs"), { kind: "redo", form: asked, of: jobName(job), polygon: percent(corners) });
    },
  });
}

function showRegions() {
  const look = lookOf(chosen);
  if (!look || !form.plan) return;
  drawing.frame = frameOf(look, form.plan.size);
  drawing.outlines = form.regions
    .filter((region) => region.polygon?.length)
    .map((region) => ({ corners: region.polygon.map((corner) => corner.map((part) => part / 100)), name: region.prompt }));
  drawing.draw();
}

element("regions").addEventListener("focusin", showRegions);
element("regions").addEventListener("focusout", () => {
  if (tool) return;
  drawing.outlines = [];
  drawing.draw();
});

function frameOfResult() {
  if (!form.plan) throw new Error("Fill in the form first.");
  return frameOf(lookOf(chosen) ?? { width: 1, height: 1 }, form.plan.size);
}

element("add-region").onclick = safely(() => {
  element("tool-prompt").value = "";
  openTool("region", {
    says: "Draw around a part of the picture and type its prompt.",
    word: "Add",
    shape: "rectangle",
    frame: frameOfResult(),
    done: (corners) => {
      const prompt = element("tool-prompt").value.trim();
      if (!prompt) throw new Error("Type a prompt for the region.");
      form.chooseRegions([...form.regions, { prompt, polygon: percent(corners), unit: "percent" }]);
    },
  });
  showRegions();
});

element("paint").onclick = safely(async () => {
  openTool("map", {
    says: "Paint white where the picture is kept, black where the model invents.",
    word: "Done",
    shape: "hold",
    frame: frameOfResult(),
    done: async () => {
      project = { ...project, ...(await ask("PUT", projectPath(project.name, "/map"), await drawing.painted())), form: project.form };
      describe();
      await form.think();
    },
  });
  element("brush").value = drawing.size;
  const before = project.map && address(projectPath(project.name, "/map"), { version: project.map });
  await drawing.paint(form.slider ?? RESULT, before);
  element("tool-done").disabled = false;
});

element("unpaint").onclick = safely(async () => {
  await ask("DELETE", projectPath(project.name, "/map"));
  await refresh();
  await form.think();
});

const finish = safely(async () => {
  await tool.done(tool.corners);
  closeTool();
});
element("tool").onsubmit = (event) => {
  event.preventDefault();
  if (!element("tool-done").disabled) finish();
};
element("tool-cancel").onclick = closeTool;
element("tool-prompt").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element("tool").requestSubmit();
};
element("brush").oninput = (event) => (drawing.size = Number(event.target.value));
element("visible").onclick = () => drawing.visible();
for (const one of document.querySelectorAll("#tool [data-tool]")) one.onclick = () => useShape(one.dataset.tool);

// --- view

const actions = {
  "+": () => looking.zoomIn(),
  "=": () => looking.zoomIn(), // the same key without Shift
  "-": () => looking.zoomOut(),
  0: () => looking.fit(),
  1: () => looking.one(),
  s: () => looking.saveVisible(),
  p: () => aim(),
  c: () => compared && setMode({ divider: "beside", beside: "flicker", flicker: "divider" }[mode]),
  " ": () => looking.flicker(),
  f: () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.()),
  "?": () => element("keys").showModal(),
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  Escape: () => (tool ? closeTool() : place ? closePlace() : aim(false)),
};

function step(by) {
  const shown = thumbs().map((look) => look.key);
  const at = shown.findIndex((key) => isShown(lookOf(key)));
  const next = shown[at + by];
  if (next) choose(next);
}

function setMode(to) {
  mode = to;
  return showLooks();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog, button, a, summary");
  if (event.ctrlKey || event.metaKey || event.altKey || element("project").hidden) return;
  if (typing && !(event.key === "Escape" || (typing.tagName === "BUTTON" && event.key !== " " && event.key !== "Enter"))) return;
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
});
for (const [id, key] of [["zoom-in", "+"], ["zoom-out", "-"], ["fit", 0], ["one", 1], ["save", "s"], ["help", "?"]]) {
  element(id).onclick = actions[key];
}
element("other").onchange = (event) => {
  compared = event.target.value;
  event.target.blur();
  return showLooks();
};
element("mode").onchange = (event) => setMode(event.target.value);

async function copy(id, text) {
  const node = element(id);
  const before = node.textContent;
  try {
    // Browsers give no clipboard to pages of other machines without encryption.
    await navigator.clipboard.writeText(text);
  } catch {
    element("to-copy").value = text;
    element("copy").showModal();
    element("to-copy").select();
    return;
  }
  node.textContent = "Copied";
  setTimeout(() => (node.textContent = before), 1500);
}
element("copy-prompt").onclick = safely(() => copy("copy-prompt", form.values.prompt));
element("copy-command").onclick = safely(async () => {
  await form.keep();
  if (form.plan) await copy("copy-command", form.plan.command);
});

// --- begin

async function route() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  if (!name) return showLibrary();
  return openProject(decodeURIComponent(name), new URLSearchParams(query ?? ""));
}

let listened = false;
listen(told, (there) => {
  element("status").textContent = there ? "" : "The studio cannot be reached.";
  // What happened while nothing was told.
  if (there && listened && project) refresh().catch((error) => say(error.message));
  listened ||= there;
});
const begin = () =>
  route().catch((error) => {
    element("status").textContent = error.message;
  });
window.addEventListener("hashchange", () => location.hash !== shownHash && begin());
begin();
