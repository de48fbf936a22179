// The form: what is asked for, kept on disk a moment after it changes, and what it would take.
import { amount, ask, duration, element, made, projectPath } from "./api.js";

const SIZES = [
  ["Square, 2048 pixels", "2048x2048"],
  ["Square, 4096 pixels", "4096x4096"],
  ["Wide 16:9, 3840 × 2160", "3840x2160"],
  ["Tall 9:16, 2160 × 3840", "2160x3840"],
  ["Print 20 × 30 cm, 300 dpi", "20x30cm@300dpi"],
  ["Print 60 × 90 cm, 300 dpi", "60x90cm@300dpi"],
  ["A gigapixel", "32768x32768"],
];
const AREAS = [16, 60]; // megapixels, in the shape of the given picture or else of the model
const OWN = "own";
const SAME_SHAPE = 0.01; // difference of aspect ratios, as a share
const WAIT_MS = 350;
export const NEW = { prompt: "", negative_prompt: "", size: "2048x2048", model: "embedded", preset: "fast", seed: 0, slider: null, regions: [] };
const SLIDER = 0.5; // where the handle stands while the model chooses
export const randomSeed = () => Math.floor(Math.random() * 2 ** 32);

export class Form {
  constructor({ onWrong, onPlan }) {
    this.node = element("make");
    this.project = null;
    this.slider = null;
    this.regions = [];
    this.plan = null;
    this.onWrong = onWrong;
    this.onPlan = onPlan;
    const choice = element("size-choice");
    this.areas = AREAS.map((area) => new Option("", `${area}MP`));
    choice.append(...SIZES.map(([name, value]) => new Option(name, value)), ...this.areas, new Option("Another size", OWN));
    this.nameAreas(false);
    choice.onchange = () => {
      element("size-own").hidden = choice.value !== OWN;
      if (choice.value !== OWN) this.fields.size.value = choice.value;
      else this.fields.size.focus();
      this.changed();
    };
    this.node.addEventListener("input", (event) => {
      if (event.target.id === "slider") this.setSlider(Number(event.target.value));
      if (event.target.id !== "file") this.changed();
    });
    this.node.addEventListener("submit", (event) => event.preventDefault());
    element("automatic").onclick = () => this.chooseSlider(null);
    element("random").onclick = () => this.chooseSeed(randomSeed());
  }

  get fields() {
    return this.node.elements;
  }

  get values() {
    const values = { slider: this.slider, regions: this.regions };
    for (const name of ["prompt", "negative_prompt", "size", "model", "preset"]) values[name] = this.fields[name].value.trim();
    values.seed = Number(this.fields.seed.value || 0);
    return values;
  }

  fill(project) {
    this.project = project.name;
    this.set(project.form);
  }

  set(form) {
    for (const [name, value] of Object.entries(form)) if (!["slider", "regions"].includes(name)) this.fields[name].value = value;
    this.setRegions(form.regions);
    this.setSize(form.size);
    this.setSlider(form.slider);
    this.think();
  }

  setSize(size) {
    this.fields.size.value = size;
    const choice = element("size-choice");
    const known = [...choice.options].some((option) => option.value === size);
    choice.value = known ? size : OWN;
    element("size-own").hidden = known;
  }

  nameAreas(given) {
    this.areas.forEach((option, i) => (option.textContent = `${given ? "As your picture, " : ""}${AREAS[i]} megapixels`));
  }

  // A size of another shape would cut off the edges of a given picture, so it becomes an area, which keeps them.
  keepShapeOf({ width, height }) {
    if (/MP\s*$/i.test(this.fields.size.value)) return;
    if (this.plan) {
      const [across, down] = this.plan.size;
      if (Math.abs((across * height) / (down * width) - 1) < SAME_SHAPE) return;
    }
    const area = (width * height) / 1e6;
    this.setSize(`${AREAS.find((one) => one > area) ?? Math.ceil(4 * area)}MP`);
  }

  setSlider(value) {
    this.slider = value;
    element("slider").value = value ?? SLIDER;
    element("slider-value").textContent = value === null ? "automatic" : value.toFixed(2);
    element("automatic").hidden = value === null;
  }

  chooseSlider(value) {
    this.setSlider(value);
    this.changed();
  }

  setRegions(regions) {
    this.regions = regions;
    element("regions").replaceChildren(...regions.map((region, i) => this.regionNode(region, i)));
  }

  chooseRegions(regions) {
    this.setRegions(regions);
    this.changed();
  }

  regionNode(region, i) {
    const words = made("input", { value: region.prompt, autocomplete: "off", data: { "aria-label": `Prompt of region ${i + 1}` } });
    // An empty prompt is no region's: it is kept once there is one again.
    words.oninput = () => words.value.trim() && (this.regions[i] = { ...this.regions[i], prompt: words.value });
    const remove = made("button", { type: "button", className: "quiet", textContent: "×", title: "Remove", data: { "aria-label": `Remove region ${i + 1}` } });
    remove.onclick = () => this.chooseRegions(this.regions.filter((other, at) => at !== i));
    return made("li", { className: "row" }, words, remove);
  }

  chooseSeed(seed) {
    this.fields.seed.value = seed;
    this.changed();
  }

  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.keep(), WAIT_MS);
  }

  async keep() {
    clearTimeout(this.timer);
    const project = this.project;
    if (!project) return;
    try {
      await ask("PUT", projectPath(project), this.values);
    } catch (error) {
      if (this.project === project) this.onWrong(error.message);
      return;
    }
    if (this.project === project) await this.think();
  }

  // What it would take stands beside the button.
  async think() {
    const project = this.project;
    const cost = element("cost");
    if (!this.fields.prompt.value.trim()) {
      this.plan = null;
      cost.textContent = "";
      element("grow").disabled = element("candidates").disabled = true;
      this.onPlan();
      return;
    }
    try {
      const plan = await ask("POST", "/api/plan", { ...this.values, project });
      if (this.project !== project) return;
      this.plan = plan;
      const [width, height] = plan.size;
      const time = plan.seconds === null ? "time known after the first" : `about ${duration(plan.seconds)}`;
      cost.textContent = `${width} × ${height}, ${time}, ${amount(plan.disk_bytes)}`;
      element("grow").disabled = element("candidates").disabled = false;
      this.onWrong("");
      this.onPlan();
    } catch (error) {
      if (this.project !== project) return;
      this.plan = null;
      cost.textContent = "";
      element("grow").disabled = true;
      this.onWrong(error.message);
      this.onPlan();
    }
  }
}
