// The page: a picture that zooms like a map, beside another one of the same place.
"use strict";

const POLL_MS = 3000;
const REFRESH_MS = 30000;
const STEP = 1.6; // of one press of a zoom button or key
const pause = (milliseconds) => new Promise((over) => setTimeout(over, milliseconds));
const element = (id) => document.getElementById(id);
const divider = element("divider");
const other = element("other");

const viewer = OpenSeadragon({
  element: element("picture"),
  showNavigationControl: false,
  drawer: "canvas",
  maxZoomPixelRatio: 4,
  visibilityRatio: 0.5,
  animationTime: 0.4,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
});

let shown = null;
let layers = []; // [{number, item}]: the picture itself, and the one it is compared with
let tiled = false; // whether a picture that wraps is shown once more on the axes on which it does
let share = 0.5; // where the divider stands, as a share of the page's width

function tileSource(number, version) {
  const { width, height } = shown.pictures[number];
  const levels = Math.ceil(Math.log2(Math.max(width, height, shown.tile) / shown.tile));
  return {
    width,
    height,
    tileSize: shown.tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: levels,
    // The server counts levels from the full picture, OpenSeadragon towards it.
    getTileUrl: (level, x, y) => `tile/${number}/${levels - level}/${x}/${y}?version=${shown.token}-${version}`,
  };
}

// The middle of a stage's picture covers the next one: where shapes differ it is wider or higher than that.
function placeOf(number) {
  const last = shown.pictures[shown.pictures.length - 1];
  const it = shown.pictures[number];
  let scale = 1;
  for (let i = number; i + 1 < shown.pictures.length; i++) {
    const [below, above] = [shown.pictures[i], shown.pictures[i + 1]];
    scale *= Math.max(above.width / below.width, above.height / below.height);
  }
  const width = (it.width * scale) / last.width;
  const height = (it.height * scale) / last.width;
  return { x: (1 - width) / 2, y: (last.height / last.width - height) / 2, width };
}

function addLayer(number, index, right = 0, down = 0) {
  const place = placeOf(number);
  const it = shown.pictures[number];
  place.x += right * place.width;
  place.y += (down * place.width * it.height) / it.width;
  return new Promise((resolve, reject) => {
    viewer.addTiledImage({
      tileSource: tileSource(number, it.version),
      ...place,
      index,
      success: (event) => resolve({ number, item: event.item, version: shown.pictures[number].version }),
      error: reject,
    });
  });
}

async function showLayers(numbers) {
  viewer.world.removeAll();
  layers = [];
  for (const [index, number] of numbers.entries()) layers.push(await addLayer(number, index));
  divider.hidden = layers.length < 2;
  placeDivider();
  if (tiled) for (const [right, down] of repeats()) await addLayer(numbers[0], undefined, right, down);
}

// Where a picture is shown again: 2×2 if it wraps on both axes.
function repeats() {
  return [[1, 0], [0, 1], [1, 1]].filter(([right, down]) => (!right || shown.wrap.includes("x")) && (!down || shown.wrap.includes("y")));
}

async function toggleTiled() {
  if (!shown.wrap) return;
  tiled = !tiled;
  element("tiled").setAttribute("aria-pressed", String(tiled));
  if (tiled) other.value = ""; // beside its repetitions nothing is compared
  element("compare").hidden = tiled || other.options.length < 2;
  await showLayers(wanted());
  viewer.viewport.goHome();
}

// A layer that grew is loaded beneath its old self, which goes when the new one is there: nothing flickers, and a server
// that is slow because the run has the machine is not asked anew before it has answered.
async function refreshLayer(index) {
  const old = layers[index];
  const grown = await addLayer(old.number, index);
  if (old.item.getClip()) grown.item.setClip(old.item.getClip());
  await Promise.race([new Promise((loaded) => grown.item.whenFullyLoaded(loaded)), pause(REFRESH_MS)]);
  if (layers[index] !== old) return; // other layers were chosen meanwhile, and all that was there is gone
  layers[index] = grown;
  viewer.world.removeItem(old.item);
  placeDivider();
}

// The compared picture is drawn to the left of the divider only.
function placeDivider() {
  divider.style.left = `${100 * share}%`;
  divider.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  if (layers.length < 2) return;
  const { item } = layers[1];
  const x = share * viewer.container.clientWidth;
  const edge = item.viewportToImageCoordinates(viewer.viewport.pointFromPixel(new OpenSeadragon.Point(x, 0), true)).x;
  const size = item.getContentSize();
  const width = Math.min(Math.max(edge, 0.001), size.x);
  // Setting a clip asks for another drawing, so it is set only when it changes.
  if (Math.abs((item.getClip()?.width ?? -1) - width) > 1e-3) item.setClip(new OpenSeadragon.Rect(0, 0, width, size.y));
}

function moveDivider(to) {
  share = Math.min(1, Math.max(0, to));
  placeDivider();
  rememberPlace();
}

// The address keeps what is seen: centre, width of the view, compared picture and divider.
function rememberPlace() {
  const { x, y, width } = viewer.viewport.getBounds();
  const height = viewer.viewport.getBounds().height;
  const place = new URLSearchParams({ x: (x + width / 2).toFixed(6), y: (y + height / 2).toFixed(6), w: width.toFixed(6) });
  if (other.value !== "") {
    place.set("with", other.value);
    place.set("at", share.toFixed(3));
  }
  history.replaceState(null, "", `#${place}`);
}

function goToPlace() {
  const place = new URLSearchParams(location.hash.slice(1));
  const [x, y, width] = ["x", "y", "w"].map((name) => Number.parseFloat(place.get(name)));
  if (![x, y, width].every(Number.isFinite) || width <= 0) return;
  const height = width / viewer.viewport.getAspectRatio();
  viewer.viewport.fitBounds(new OpenSeadragon.Rect(x - width / 2, y - height / 2, width, height), true);
}

function saveRegion() {
  if (!layers.length) return;
  const number = shown.pictures.length - 1;
  const box = layers[0].item.viewportToImageRectangle(viewer.viewport.getBounds(true));
  const query = new URLSearchParams({
    picture: number, left: box.x, top: box.y, right: box.x + box.width, bottom: box.y + box.height,
  });
  const link = document.createElement("a");
  link.href = `region.png?${query}`;
  link.download = "region.png";
  link.click();
}

function toggleSettings() {
  const panel = element("settings");
  panel.hidden = !panel.hidden;
  element("about").setAttribute("aria-expanded", String(!panel.hidden));
}

function zoomBy(factor) {
  viewer.viewport.zoomBy(factor).applyConstraints();
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.();
}

function describe() {
  document.title = shown.prompt ? `${shown.prompt} – Pixelsmith` : `${shown.title} – Pixelsmith`;
  element("prompt").textContent = shown.prompt || shown.title;
  element("values").replaceChildren(
    ...shown.settings.map(([name, value]) => {
      const row = document.createElement("tr");
      for (const [tag, text] of [["th", name], ["td", value]]) {
        row.append(Object.assign(document.createElement(tag), { textContent: text }));
      }
      return row;
    }),
  );
  const chosen = other.value;
  const names = shown.pictures.slice(0, -1).map((picture) => picture.name);
  // Only when there are others: a list that is open must not close.
  if (other.options.length !== names.length + 1) {
    other.replaceChildren(new Option("nothing", ""), ...names.map((name, number) => new Option(name, number)));
    other.value = chosen !== "" && Number(chosen) < names.length ? chosen : "";
  }
  element("compare").hidden = tiled || names.length === 0;
  element("tiled").hidden = !shown.wrap;
  const progress = shown.pictures.length ? "the run goes on; this page fills in" : "the run has made nothing yet; this page waits";
  element("status").textContent = shown.growing ? progress : "";
}

async function fetchShown() {
  const answer = await fetch("shown.json");
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.json();
}

function wanted() {
  return [shown.pictures.length - 1, ...(other.value === "" ? [] : [Number(other.value)])];
}

async function poll() {
  try {
    const before = shown.pictures.length;
    shown = await fetchShown();
    describe();
    if (shown.pictures.length !== before) {
      await showLayers(wanted());
    } else {
      for (const [index, layer] of layers.entries()) {
        if (shown.pictures[layer.number].version === layer.version) continue;
        if (tiled) await showLayers(wanted());
        else await refreshLayer(index);
      }
    }
  } catch (error) {
    element("status").textContent = `no answer: ${error.message}`;
  }
  if (shown.growing) setTimeout(poll, POLL_MS);
}

async function start() {
  shown = await fetchShown();
  describe();
  while (!shown.pictures.length) {
    await pause(POLL_MS);
    try {
      shown = await fetchShown();
      describe();
    } catch (error) {
      element("status").textContent = `no answer: ${error.message}`;
    }
  }
  const place = new URLSearchParams(location.hash.slice(1));
  if (place.get("with") !== null) other.value = place.get("with");
  const at = Number.parseFloat(place.get("at"));
  if (Number.isFinite(at)) share = Math.min(1, Math.max(0, at));
  await showLayers(wanted());
  if (location.hash) goToPlace();
  else viewer.viewport.goHome(true);
  viewer.addHandler("update-viewport", placeDivider);
  viewer.addHandler("animation-finish", rememberPlace);
  if (shown.growing) setTimeout(poll, POLL_MS);
}

element("zoom-in").onclick = () => zoomBy(STEP);
element("zoom-out").onclick = () => zoomBy(1 / STEP);
element("home").onclick = () => viewer.viewport.goHome();
element("full-screen").onclick = toggleFullScreen;
element("full-screen").hidden = !document.fullscreenEnabled; // some telephones have none
element("save").onclick = saveRegion;
element("tiled").onclick = toggleTiled;
element("about").onclick = toggleSettings;
other.onchange = async () => {
  await showLayers(wanted());
  rememberPlace();
};
divider.addEventListener("pointerdown", (event) => {
  divider.setPointerCapture(event.pointerId);
  divider.onpointermove = (move) => moveDivider(move.clientX / viewer.container.clientWidth);
});
divider.addEventListener("pointerup", () => (divider.onpointermove = null));
divider.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
  if (step === undefined) return;
  moveDivider(share + step);
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLSelectElement || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    "+": () => zoomBy(STEP),
    "=": () => zoomBy(STEP), // the same key without Shift
    "-": () => zoomBy(1 / STEP),
    0: () => viewer.viewport.goHome(),
    f: toggleFullScreen,
    s: saveRegion,
    t: toggleTiled,
    i: toggleSettings,
  };
  actions[event.key]?.();
});
// These are this page's: OpenSeadragon would zoom once more, and flip, turn and move the picture by letters.
viewer.addHandler("canvas-key", (event) => {
  if (/^[a-z0+=-]$/i.test(event.originalEvent.key)) event.preventDefaultAction = true;
});
window.addEventListener("hashchange", goToPlace);

start().catch((error) => (element("status").textContent = `the picture cannot be shown: ${error.message}`));
