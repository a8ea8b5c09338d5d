// The X-ray: gray window, zoom, and a heat map over it.

const CLOSEST = 8;
const STEP = 1.25; // of a key or button
const NUDGE = 40; // pixels
// "inferno" of matplotlib at nine places: its lightness rises evenly, so it is read without colours as well.
const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85],
  [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

function colour(value) {
  const place = (value / 255) * (INFERNO.length - 1);
  const first = Math.min(Math.floor(place), INFERNO.length - 2);
  return INFERNO[first].map((low, c) => low + (place - first) * (INFERNO[first + 1][c] - low));
}

function grays(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, n) => data[4 * n]);
}

export class Viewer {
  constructor(find) {
    for (const name of ["view", "plane", "xray", "heat", "brightness", "contrast", "zoom", "opacity"]) {
      this[name] = find(name);
    }
    this.gray = null;
    this.pointers = new Map();
    this.place();
    for (const slider of [this.brightness, this.contrast]) slider.addEventListener("input", () => this.drawSoon());
    this.opacity.addEventListener("input", () => this.fade());
    find("in").addEventListener("click", () => this.scaleBy(STEP));
    find("out").addEventListener("click", () => this.scaleBy(1 / STEP));
    find("reset").addEventListener("click", () => this.reset());
    this.view.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.view.addEventListener("keydown", (event) => this.onKey(event));
    this.view.addEventListener("pointerdown", (event) => this.onDown(event));
    this.view.addEventListener("pointermove", (event) => this.onMove(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.view.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    new ResizeObserver(() => this.fit()).observe(this.view);
    drawKey(find("key"));
  }

  show(bitmap) {
    this.gray = grays(bitmap);
    [this.xray.width, this.xray.height] = [bitmap.width, bitmap.height];
    this.hideHeat();
    this.reset();
  }

  clear() {
    this.gray = null;
    this.xray.width = this.xray.height = 0;
    this.hideHeat();
  }

  reset() {
    this.brightness.value = this.contrast.value = 0;
    this.place();
    this.draw();
    this.fit();
  }

  // ---------------------------------------------------------------------------------- heat map

  showHeat(bitmap, name) {
    const values = grays(bitmap);
    [this.heat.width, this.heat.height] = [bitmap.width, bitmap.height];
    const context = this.heat.getContext("2d");
    const image = context.createImageData(bitmap.width, bitmap.height);
    values.forEach((value, n) => image.data.set([...colour(value), value], 4 * n)); // where it is 0 nothing is covered
    context.putImageData(image, 0, 0);
    this.heat.setAttribute("aria-label", `Heat map of ${name}`);
    this.heat.hidden = false;
    this.fade();
  }

  hideHeat() {
    this.heat.hidden = true;
  }

  fade() {
    this.heat.style.opacity = this.opacity.value / 100;
  }

  // ------------------------------------------------------------------------------------ window

  drawSoon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    if (!this.gray) return;
    const slope = 2 ** (this.contrast.value / 40);
    const centre = 127.5 - 1.275 * this.brightness.value;
    const shown = Uint32Array.from({ length: 256 }, (_, value) => {
      const gray = Math.max(0, Math.min(255, Math.round(127.5 + slope * (value - centre))));
      return 0xff000000 | (gray << 16) | (gray << 8) | gray;
    });
    const image = new ImageData(this.xray.width, this.xray.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let n = 0; n < pixels.length; n++) pixels[n] = shown[this.gray[n]];
    this.xray.getContext("2d").putImageData(image, 0, 0);
  }

  // -------------------------------------------------------------------------------------- zoom

  place(scale = 1, x = 0, y = 0) {
    // x and y: how far the middle of the image is from the middle of the view, in pixels of the screen
    Object.assign(this, { scale, x, y });
    this.plane.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.zoom.textContent = `${Math.round(100 * scale)} %`;
    this.view.classList.toggle("near", scale > 1);
  }

  fit() {
    if (!this.gray) return;
    const { clientWidth, clientHeight } = this.view;
    const ratio = Math.min(clientWidth / this.xray.width, clientHeight / this.xray.height);
    this.plane.style.width = `${this.xray.width * ratio}px`;
    this.plane.style.height = `${this.xray.height * ratio}px`;
    this.moveBy(0, 0);
  }

  moveBy(dx, dy) {
    const most = (side) => Math.max(0, (this.plane[`client${side}`] * this.scale - this.view[`client${side}`]) / 2);
    const [width, height] = [most("Width"), most("Height")];
    const clamp = (value, limit) => Math.max(-limit, Math.min(limit, value));
    this.place(this.scale, clamp(this.x + dx, width), clamp(this.y + dy, height));
  }

  scaleBy(factor, event) {
    const scale = Math.max(1, Math.min(CLOSEST, this.scale * factor));
    const box = this.view.getBoundingClientRect();
    const x = event ? event.clientX - box.left - box.width / 2 : 0;
    const y = event ? event.clientY - box.top - box.height / 2 : 0;
    const ratio = scale / this.scale; // what is under the pointer stays there
    this.place(scale, x - ratio * (x - this.x), y - ratio * (y - this.y));
    this.moveBy(0, 0);
  }

  // ------------------------------------------------------------------------------------ events

  onWheel(event) {
    event.preventDefault();
    this.scaleBy(2 ** (-event.deltaY / 400), event);
  }

  onKey(event) {
    const does = {
      "+": () => this.scaleBy(STEP),
      "=": () => this.scaleBy(STEP),
      "-": () => this.scaleBy(1 / STEP),
      0: () => this.reset(),
      ArrowLeft: () => this.moveBy(NUDGE, 0),
      ArrowRight: () => this.moveBy(-NUDGE, 0),
      ArrowUp: () => this.moveBy(0, NUDGE),
      ArrowDown: () => this.moveBy(0, -NUDGE),
    }[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    does();
  }

  onDown(event) {
    if (event.button > 1) return;
    this.view.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
  }

  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    this.pointers.set(event.pointerId, event);
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    const other = [...this.pointers.values()].find((one) => one.pointerId !== event.pointerId);
    if (other) {
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      this.scaleBy(apart(event) / Math.max(1, apart(before)), event);
    } else if (event.pointerType === "touch" || event.shiftKey || before.button === 1 || event.buttons === 4) {
      this.moveBy(dx, dy);
    } else {
      this.contrast.value = Number(this.contrast.value) + dx / 3;
      this.brightness.value = Number(this.brightness.value) - dy / 3;
      this.drawSoon();
    }
  }
}

function drawKey(canvas) {
  const context = canvas.getContext("2d");
  for (let n = 0; n < canvas.width; n++) {
    context.fillStyle = `rgb(${colour((255 * n) / (canvas.width - 1)).map(Math.round).join(" ")})`;
    context.fillRect(n, 0, 1, 1);
  }
}
