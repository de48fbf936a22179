// Looking: one picture that zooms like a map, or two of the same place.
import { address, element, labelOf, projectPath } from "./api.js";

const STEP = 1.6; // of one press of a zoom button or key
const REFRESH_MS = 30000;
const pause = (milliseconds) => new Promise((over) => setTimeout(over, milliseconds));
const options = {
  showNavigationControl: false,
  drawer: "canvas",
  maxZoomPixelRatio: 8,
  visibilityRatio: 0.5,
  animationTime: 0.4,
  preserveViewport: true,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
};

function tileSource(project, look) {
  const { width, height, tile, key, version } = look;
  const levels = Math.ceil(Math.log2(Math.max(width, height, tile) / tile));
  return {
    width,
    height,
    tileSize: tile,
    tileOverlap: 0,
    minLevel: 0,
    maxLevel: levels,
    // The server counts levels from the full picture, OpenSeadragon towards it.
    getTileUrl: (level, x, y) =>
      address(projectPath(project, `/looks/${encodeURIComponent(key)}/tile/${levels - level}/${x}/${y}`), { version }),
  };
}

// The middle of a smaller picture covers the larger one: where shapes differ it is wider or higher than that.
export function coverOf(it, over) {
  const scale = Math.max(over.width / it.width, over.height / it.height);
  const [width, height] = [(it.width * scale) / over.width, (it.height * scale) / over.width];
  return { x: (1 - width) / 2, y: (over.height / over.width - height) / 2, width };
}

export class Looking {
  constructor({ onMove, onPlace }) {
    // It would also react to a change of its size later, when this page has already done so (see fitContainer).
    this.viewer = OpenSeadragon({ element: element("picture"), ...options, autoResize: false });
    new ResizeObserver(() => this.fitContainer()).observe(this.viewer.container);
    this.second = null;
    this.project = null;
    this.first = null; // the picture, and the one that it is compared with
    this.other = null;
    this.mode = "divider";
    this.share = 0.5; // where the divider stands, as a share of the width
    this.flickered = false;
    this.aiming = false;
    this.items = [];
    this.queue = Promise.resolve();
    this.told = null; // newer states of the two pictures
    this.refreshing = false;
    this.waitNoMore = () => {};
    this.onMove = onMove;
    this.viewer.addHandler("update-viewport", () => this.placeDivider());
    this.viewer.addHandler("animation-finish", () => onMove());
    this.viewer.addHandler("animation", () => onMove(false));
    this.viewer.addHandler("canvas-key", (event) => {
      // These are this page's: OpenSeadragon would flip, turn and move the picture by them.
      if (/^([a-z0+=-]|Arrow(Left|Right))$/i.test(event.originalEvent.key)) event.preventDefaultAction = true;
    });
    this.viewer.addHandler("canvas-click", (event) => {
      if (!this.aiming || !event.quick || !this.first) return;
      event.preventDefaultAction = true;
      onPlace(this.viewer.viewport.pointFromPixel(event.position));
    });
    this.listenToDivider();
  }

  // Pictures change one after another, however fast they are chosen.
  show(project, first, other, mode) {
    this.queue = this.queue.then(() => this.change(project, first, other, mode)).catch(console.error);
    return this.queue;
  }

  async change(project, first, other, mode) {
    const same = this.project === project && this.first?.key === first?.key && this.other?.key === other?.key;
    if (same && this.mode === mode) {
      // Not awaited: tiles of a picture that grows may take long, and what is chosen meanwhile must not wait for them.
      this.refresh(first, other).catch(console.error);
      return;
    }
    this.waitNoMore();
    const keepsPlace = this.project === project && this.first;
    Object.assign(this, { project, first, other, mode, flickered: false });
    this.viewer.world.removeAll();
    this.viewer.clearOverlays();
    this.items = [];
    this.told = null;
    element("second").hidden = mode !== "beside" || !other;
    this.second?.world.removeAll();
    this.fitContainer();
    if (first) this.items.push(await this.added(this.viewer, first));
    if (first && other) {
      if (mode === "beside") this.openSecond();
      this.items.push(await this.added(mode === "beside" ? this.second : this.viewer, other));
    }
    if (!keepsPlace) this.viewer.viewport.goHome(true);
    this.labels();
    this.placeDivider();
    this.onMove();
  }

  // Where the picture has more or less room than before, its centre and its size on the screen stay.
  fitContainer() {
    const { container, viewport } = this.viewer;
    const [before, now] = [viewport.getContainerSize(), new OpenSeadragon.Point(container.clientWidth, container.clientHeight)];
    if (!now.x || !now.y || now.equals(before)) return;
    const [center, zoom] = [viewport.getCenter(), viewport.getZoom()];
    viewport.resize(now);
    viewport.zoomTo((zoom * before.x) / now.x, null, true);
    viewport.panTo(center, true);
    this.placeDivider();
  }

  // `options` are those of OpenSeadragon: `index` counts from the lowest picture and is by default above all others.
  added(viewer, look, options = {}) {
    return new Promise((success, error) => {
      viewer.addTiledImage({
        tileSource: tileSource(this.project, look),
        ...coverOf(look, this.first),
        ...options,
        success: (event) => success({ item: event.item, look, viewer }),
        error,
      });
    });
  }

  // One refresh at a time; what is told meanwhile follows it.
  async refresh(...looks) {
    this.told = looks;
    if (this.refreshing) return;
    this.refreshing = true;
    try {
      while (this.told) {
        const now = this.told;
        this.told = null;
        for (const [index, look] of now.entries()) await this.renew(index, look);
      }
    } finally {
      this.refreshing = false;
    }
  }

  // What grew is loaded beneath its old self, which goes when the new one is there: nothing flickers.
  async renew(index, look) {
    const old = this.items[index];
    if (!look || old?.look.key !== look.key || old.look.version === look.version) return;
    const { world } = old.viewer;
    const opacity = old.item.getOpacity();
    const grown = await this.added(old.viewer, look, { index: world.getIndexOfItem(old.item), opacity });
    if (old.item.getClip()) grown.item.setClip(old.item.getClip());
    // What is not seen is not loaded.
    const another = new Promise((chosen) => (this.waitNoMore = chosen));
    if (opacity && this.items[index] === old) await Promise.race([new Promise((loaded) => grown.item.whenFullyLoaded(loaded)), pause(REFRESH_MS), another]);
    if (this.items[index] !== old) {
      world.removeItem(grown.item); // another picture was chosen meanwhile
      return;
    }
    this.items[index] = grown;
    world.removeItem(old.item);
    this[index === 0 ? "first" : "other"] = look;
    this.placeDivider();
  }

  openSecond() {
    if (!this.second) {
      this.second = OpenSeadragon({ element: element("second"), ...options });
      const follow = (from, to) => () => {
        if (this.mode !== "beside" || this.following) return;
        this.following = true;
        to.viewport.fitBounds(from.viewport.getBounds(true), true);
        this.following = false;
      };
      this.viewer.addHandler("update-viewport", follow(this.viewer, this.second));
      this.second.addHandler("canvas-drag", () => setTimeout(follow(this.second, this.viewer)));
      this.second.addHandler("canvas-scroll", () => setTimeout(follow(this.second, this.viewer), 50));
    }
  }

  labels() {
    const [first, second] = [element("name-first"), element("name-second")];
    first.hidden = second.hidden = !this.other;
    if (!this.other) return;
    const [a, b] = [this.first, this.other].map(labelOf);
    const swapped = this.mode === "beside";
    first.textContent = swapped ? b : a;
    second.textContent = swapped ? a : b;
    if (this.mode === "flicker") {
      second.hidden = !this.flickered;
      first.hidden = this.flickered;
    }
  }

  flicker() {
    if (this.mode !== "flicker" || this.items.length < 2) return;
    this.flickered = !this.flickered;
    this.items[1].item.setOpacity(this.flickered ? 1 : 0);
    this.labels();
  }

  // The compared picture is drawn to the left of the divider only.
  placeDivider() {
    const divider = element("divider");
    divider.hidden = this.mode !== "divider" || this.items.length < 2;
    if (this.items.length < 2) return;
    const { item } = this.items[1];
    if (this.mode === "flicker") item.setOpacity(this.flickered ? 1 : 0);
    if (divider.hidden) return;
    divider.style.left = `${100 * this.share}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(100 * this.share)));
    const x = this.share * this.viewer.container.clientWidth;
    const corner = this.viewer.viewport.pointFromPixel(new OpenSeadragon.Point(x, 0), true);
    const size = item.getContentSize();
    const width = Math.min(Math.max(item.viewportToImageCoordinates(corner).x, 0.001), size.x);
    // Setting a clip asks for another drawing, so it is set only when it changes.
    if (Math.abs((item.getClip()?.width ?? -1) - width) > 1e-3) {
      item.setClip(new OpenSeadragon.Rect(0, 0, width, size.y));
    }
  }

  listenToDivider() {
    const divider = element("divider");
    const move = (to) => {
      this.share = Math.min(1, Math.max(0, to));
      this.placeDivider();
      this.onMove();
    };
    divider.addEventListener("pointerdown", (event) => {
      divider.setPointerCapture(event.pointerId);
      const left = element("see").getBoundingClientRect().left;
      divider.onpointermove = (to) => move((to.clientX - left) / this.viewer.container.clientWidth);
    });
    divider.addEventListener("pointerup", () => (divider.onpointermove = null));
    divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
      if (step === undefined) return;
      move(this.share + step);
      event.preventDefault();
      event.stopPropagation();
    });
  }

  zoomBy(factor) {
    this.viewer.viewport.zoomBy(factor).applyConstraints();
  }
  zoomIn() {
    this.zoomBy(STEP);
  }
  zoomOut() {
    this.zoomBy(1 / STEP);
  }
  fit() {
    this.viewer.viewport.goHome();
  }
  one() {
    if (this.items.length) this.viewer.viewport.zoomTo(this.items[0].item.imageToViewportZoom(1));
  }

  // Pixels of the screen for one of the picture.
  get scale() {
    return this.items.length ? this.items[0].item.viewportToImageZoom(this.viewer.viewport.getZoom(true)) : 0;
  }

  mark(point) {
    this.viewer.clearOverlays();
    if (!point) return;
    const mark = Object.assign(document.createElement("div"), { className: "mark" });
    this.viewer.addOverlay({ element: mark, location: point });
  }

  get place() {
    const { x, y, width, height } = this.viewer.viewport.getBounds();
    return { x: (x + width / 2).toFixed(6), y: (y + height / 2).toFixed(6), w: width.toFixed(6) };
  }

  goTo(x, y, width) {
    if (![x, y, width].every(Number.isFinite) || width <= 0) return;
    const height = width / this.viewer.viewport.getAspectRatio();
    this.viewer.viewport.fitBounds(new OpenSeadragon.Rect(x - width / 2, y - height / 2, width, height), true);
  }

  saveVisible() {
    if (!this.items.length) return;
    const { item, look } = this.items[0];
    const box = item.viewportToImageRectangle(this.viewer.viewport.getBounds(true));
    const query = { left: box.x, top: box.y, right: box.x + box.width, bottom: box.y + box.height };
    const link = document.createElement("a");
    link.href = address(projectPath(this.project, `/looks/${encodeURIComponent(look.key)}/region`), query);
    link.download = "";
    link.click();
  }
}
