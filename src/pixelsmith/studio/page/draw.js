// Drawing over a picture: a rectangle, a lasso, or a brush. What is drawn is kept in shares of the whole result, and shown
// where the picture that is looked at has it.
import { element, made } from "./api.js";

const CLOSE = 0.004; // of the view: corners of a lasso that are nearer than this are one
const MAP_SIDE = 512; // pixels on the longer side of a painted map
const LEAST_SIDE = 64; // and on the shorter one at least, so that rounding keeps the aspect ratio
const BRUSHES = { hold: 255, free: 0 };

export class Drawing {
  constructor(viewer, onDrawn) {
    this.viewer = viewer;
    this.onDrawn = onDrawn; // is called with the corners of what was drawn
    this.tool = ""; // "rectangle", "lasso", "hold" or "free"
    this.outlines = []; // {corners, name}: what stays in sight
    this.corners = [];
    this.map = null; // a canvas of greys, white holds
    this.size = 0.12; // of the brush, as a share of the result's width
    this.frame = null; // where the result lies in the picture: x, y, width, height in widths of the picture
    this.ink = made("canvas", { id: "ink", data: { "aria-hidden": "true" } });
    element("picture").append(this.ink);
    viewer.addHandler("update-viewport", () => this.draw());
    viewer.addHandler("canvas-press", (event) => this.press(event));
    viewer.addHandler("canvas-drag", (event) => this.drag(event));
    viewer.addHandler("canvas-drag-end", (event) => this.tool && (event.preventDefaultAction = true));
    viewer.addHandler("canvas-release", () => this.release());
  }

  use(tool) {
    this.tool = tool;
    this.corners = [];
    element("see").classList.toggle("drawing", Boolean(tool));
    this.draw();
  }

  // Of a point of the screen: shares of the result, inside of it.
  at(position) {
    const point = this.viewer.viewport.pointFromPixel(position);
    const { x, y, width, height } = this.frame;
    const inside = (share) => Math.min(1, Math.max(0, share));
    return [inside((point.x - x) / width), inside((point.y - y) / height)];
  }

  press(event) {
    if (!this.tool || !this.frame) return;
    this.corners = [this.at(event.position)];
    this.began = this.corners[0];
    if (this.tool in BRUSHES) this.dab(this.began);
    this.draw();
  }

  drag(event) {
    if (!this.tool || !this.corners.length) return;
    event.preventDefaultAction = true;
    const to = this.at(event.position);
    if (this.tool === "rectangle") this.corners = rectangle(this.began, to);
    else {
      const last = this.corners.at(-1);
      const near = CLOSE * Math.min(1, this.viewer.viewport.getBounds().width);
      if (Math.hypot(to[0] - last[0], to[1] - last[1]) < near) return;
      this.corners.push(to);
      if (this.tool in BRUSHES) this.dab(to, last);
    }
    this.draw();
  }

  release() {
    if (!this.tool || !this.corners.length) return;
    const drawn = this.corners;
    if (this.tool in BRUSHES || drawn.length < 3) this.corners = [];
    else this.onDrawn(drawn, this.tool);
    this.draw();
  }

  // What is visible of the result: without a pointer a place is chosen by zooming.
  visible() {
    const { x, y, width, height } = this.viewer.viewport.getBounds(true);
    const [from, to] = [[x, y], [x + width, y + height]].map(([left, top]) =>
      this.at(this.viewer.viewport.pixelFromPoint(new OpenSeadragon.Point(left, top))),
    );
    this.corners = rectangle(from, to);
    this.onDrawn(this.corners, "rectangle");
    this.draw();
  }

  // Begin to paint on a map, or on a grey of this share where there is none.
  async paint(share, address) {
    const { width, height } = this.frame;
    const scale = Math.max(MAP_SIDE / Math.max(width, height), LEAST_SIDE / Math.min(width, height));
    const map = made("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
    const context = map.getContext("2d");
    context.fillStyle = grey(255 * share);
    context.fillRect(0, 0, map.width, map.height);
    if (address) {
      const before = new Image();
      before.src = address;
      await before.decode();
      context.drawImage(before, 0, 0, map.width, map.height);
    }
    this.map = map;
    this.draw();
  }

  dab([x, y], [fromX, fromY] = [x, y]) {
    if (!this.map) return; // it is still being fetched
    const context = this.map.getContext("2d");
    const { width, height } = this.map;
    context.strokeStyle = grey(BRUSHES[this.tool]);
    context.lineWidth = this.size * width;
    context.lineCap = "round";
    context.filter = `blur(${Math.round(0.15 * context.lineWidth)}px)`;
    context.beginPath();
    context.moveTo(fromX * width, fromY * height);
    context.lineTo(x * width + 0.01, y * height);
    context.stroke();
  }

  painted() {
    return new Promise((given) => this.map.toBlob(given, "image/png"));
  }

  clear() {
    this.corners = [];
    this.map = null;
    this.use("");
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.viewer.container;
    const ratio = window.devicePixelRatio;
    if (this.ink.width !== width * ratio || this.ink.height !== height * ratio) {
      [this.ink.width, this.ink.height] = [width * ratio, height * ratio];
    }
    const context = this.ink.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.frame) return;
    const to = ([x, y]) => {
      const { x: left, y: top, width: across, height: down } = this.frame;
      return this.viewer.viewport.pixelFromPoint(new OpenSeadragon.Point(left + x * across, top + y * down), true);
    };
    if (this.map) {
      const [from, end] = [to([0, 0]), to([1, 1])];
      context.globalAlpha = 0.55;
      context.drawImage(this.map, from.x, from.y, end.x - from.x, end.y - from.y);
      context.globalAlpha = 1;
    }
    for (const { corners, name } of this.outlines) outline(context, corners.map(to), name);
    if (this.corners.length > 1 && !(this.tool in BRUSHES)) outline(context, this.corners.map(to));
  }
}

const grey = (value) => `rgb(${[value, value, value].map(Math.round).join(" ")})`;

export function rectangle([left, top], [right, bottom]) {
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

// White on black: seen on any picture.
function outline(context, points, name) {
  context.beginPath();
  points.forEach(({ x, y }) => context.lineTo(x, y));
  context.closePath();
  context.lineJoin = "round";
  for (const [width, colour] of [[4, "#0009"], [2, "#fff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
  context.fillStyle = "#fff2";
  context.fill();
  if (!name) return;
  const { x, y } = points.reduce((first, point) => (point.y < first.y ? point : first));
  context.font = "600 13px system-ui, sans-serif";
  context.lineWidth = 3;
  context.strokeStyle = "#000a";
  context.fillStyle = "#fff";
  context.strokeText(name, x + 8, y + 18);
  context.fillText(name, x + 8, y + 18);
}
