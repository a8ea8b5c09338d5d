"use strict";
// The X-ray with its window, its zoom and a heat map over it. Nothing here knows of findings or of the service.

class Viewer {
  constructor(place, said) {
    this.place = place;
    this.said = said; // called when zoom or window have changed
    this.stage = document.createElement("div");
    this.stage.className = "stage";
    this.image = document.createElement("img");
    this.image.alt = "";
    this.image.draggable = false;
    this.map = document.createElement("canvas");
    this.stage.append(this.image, this.map);
    place.append(this.stage);
    this.reset();
    this.listen();
  }

  show(url) {
    this.image.src = url;
    this.clearMap();
    this.reset();
  }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0, brightness: 100, contrast: 100 });
    this.draw();
  }

  zoom(factor, x = this.place.clientWidth / 2, y = this.place.clientHeight / 2) {
    const scale = Math.min(12, Math.max(1, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.draw();
  }

  move(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.draw();
  }

  window(brightness, contrast) {
    this.brightness = Math.min(300, Math.max(20, brightness));
    this.contrast = Math.min(400, Math.max(20, contrast));
    this.draw();
  }

  draw() {
    const width = this.place.clientWidth, height = this.place.clientHeight;
    this.x = Math.min(0, Math.max(width * (1 - this.scale), this.x));
    this.y = Math.min(0, Math.max(height * (1 - this.scale), this.y));
    this.stage.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.image.style.filter = `brightness(${this.brightness}%) contrast(${this.contrast}%)`;
    this.said(this);
  }

  // A gray map over the whole image becomes orange that is the clearer the stronger it is.
  async showMap(url, opacity) {
    const gray = new Image();
    gray.src = url;
    await gray.decode();
    this.map.width = this.image.naturalWidth;
    this.map.height = this.image.naturalHeight;
    const context = this.map.getContext("2d", { willReadFrequently: true });
    context.drawImage(gray, 0, 0, this.map.width, this.map.height);
    const pixels = context.getImageData(0, 0, this.map.width, this.map.height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      const strength = pixels.data[i];
      pixels.data.set([255, 170 - strength * 0.35, 40, strength], i);
    }
    context.putImageData(pixels, 0, 0);
    this.map.style.opacity = opacity;
    this.map.hidden = false;
  }

  clearMap() {
    this.map.hidden = true;
  }

  listen() {
    const place = this.place;
    place.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = place.getBoundingClientRect();
      this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    place.addEventListener("pointerdown", (event) => place.setPointerCapture(event.pointerId));
    place.addEventListener("pointermove", (event) => {
      if (!place.hasPointerCapture(event.pointerId)) return;
      if (event.shiftKey) this.window(this.brightness - event.movementY / 2, this.contrast + event.movementX / 2);
      else this.move(event.movementX, event.movementY);
    });
    place.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (step && event.shiftKey) this.window(this.brightness + 10 * step[1], this.contrast - 10 * step[0]);
      else if (step) this.move(40 * step[0], 40 * step[1]);
      else if (event.key === "+" || event.key === "=") this.zoom(1.2);
      else if (event.key === "-") this.zoom(1 / 1.2);
      else if (event.key === "0") this.reset();
      else return;
      event.preventDefault();
    });
  }
}
