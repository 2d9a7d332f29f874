// Read the common point-cloud files far enough for a preview, and draw one that can be turned.

const MAX_PREVIEW_POINTS = 6000;
const SIZES = { char: 1, int8: 1, uchar: 1, uint8: 1, short: 2, int16: 2, ushort: 2, uint16: 2, int: 4, int32: 4, uint: 4, uint32: 4, float: 4, float32: 4, double: 8, float64: 8 };

function fromRows(text, { skip = 0, prefix = null, limit = Infinity } = {}) {
  const points = [];
  for (const line of text.split(/\r?\n/).slice(skip)) {
    const row = prefix === null ? line : line.startsWith(prefix) ? line.slice(prefix.length) : null;
    if (row === null) continue;
    const numbers = row.trim().split(/[\s,;]+/).map(Number);
    if (numbers.length >= 3 && numbers.slice(0, 3).every(Number.isFinite)) points.push(...numbers.slice(0, 3));
    if (points.length >= 3 * limit) break;
  }
  return points;
}

function fromOff(text) {
  const words = text.replace(/#.*/g, "").replace(/^OFF/, "").trim().split(/\s+/).map(Number);
  return words.slice(3, 3 + 3 * words[0]);
}

function fromPly(bytes) {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 1 << 16));
  const end = text.indexOf("end_header");
  if (end < 0) return [];
  const header = text.slice(0, end).split(/\r?\n/);
  const count = Number(header.find((line) => line.startsWith("element vertex"))?.split(" ")[2] ?? 0);
  const first = header.findIndex((line) => line.startsWith("element vertex"));
  const rest = header.slice(first + 1);
  const stop = rest.findIndex((line) => line.startsWith("element"));
  const properties = (stop < 0 ? rest : rest.slice(0, stop)).filter((line) => line.startsWith("property")).map((line) => line.split(" "));
  const bodyStart = text.indexOf("\n", end) + 1;
  if (header[1]?.includes("ascii")) {
    return fromRows(new TextDecoder().decode(bytes.subarray(bodyStart)), { limit: count });
  }
  const little = header[1]?.includes("little");
  const view = new DataView(bytes.buffer, bytes.byteOffset + bodyStart);
  const offsets = [];
  let stride = 0;
  for (const [, type, name] of properties) {
    if ("xyz".includes(name)) offsets.push([stride, type]);
    stride += SIZES[type] ?? 4;
  }
  const points = [];
  for (let i = 0; i < count && (i + 1) * stride <= view.byteLength; i += 1) {
    for (const [offset, type] of offsets.slice(0, 3)) {
      const at = i * stride + offset;
      points.push(SIZES[type] === 8 ? view.getFloat64(at, little) : view.getFloat32(at, little));
    }
  }
  return points;
}

function fromStl(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const faces = bytes.byteLength >= 84 ? view.getUint32(80, true) : 0;
  if (84 + faces * 50 !== bytes.byteLength) {
    return fromRows(new TextDecoder().decode(bytes).replace(/^\s*vertex\s+/gm, "vertex "), { prefix: "vertex " });
  }
  const points = [];
  for (let face = 0; face < faces; face += 1) {
    for (let value = 3; value < 12; value += 1) points.push(view.getFloat32(84 + face * 50 + value * 4, true));
  }
  return points;
}

function fromNpy(bytes) {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 512));
  const headerEnd = text.indexOf("\n") + 1;
  const type = /'descr': '([<|>=]?)f([48])'/.exec(text);
  const shape = /'shape': \((\d+), (\d+)/.exec(text);
  if (!type || !shape || Number(shape[2]) < 3) return [];
  const view = new DataView(bytes.buffer, bytes.byteOffset + headerEnd);
  const size = Number(type[2]);
  const points = [];
  for (let i = 0; i < Number(shape[1]); i += 1) {
    for (let axis = 0; axis < 3; axis += 1) {
      const at = (i * Number(shape[2]) + axis) * size;
      if (at + size > view.byteLength) return points;
      points.push(size === 8 ? view.getFloat64(at, type[1] !== ">") : view.getFloat32(at, type[1] !== ">"));
    }
  }
  return points;
}

function thinned(points) {
  const count = Math.floor(points.length / 3);
  const step = Math.max(1, count / MAX_PREVIEW_POINTS);
  const kept = [];
  for (let i = 0; i < count; i += step) {
    const row = Math.floor(i) * 3;
    kept.push(points[row], points[row + 1], points[row + 2]);
  }
  return kept;
}

/** Return points scaled into the unit sphere, x y z after one another; empty when the format is only the server's. */
export function readPoints(bytes, extension) {
  const text = () => new TextDecoder().decode(bytes);
  const readers = {
    ply: () => fromPly(bytes),
    obj: () => fromRows(text(), { prefix: "v " }),
    off: () => fromOff(text()),
    stl: () => fromStl(bytes),
    npy: () => fromNpy(bytes),
    xyz: () => fromRows(text()),
    pts: () => fromRows(text()),
  };
  const points = thinned(readers[extension]?.() ?? []).filter(Number.isFinite);
  const centre = [0, 1, 2].map((axis) => points.reduce((sum, v, i) => (i % 3 === axis ? sum + v : sum), 0) / Math.max(1, points.length / 3));
  const centred = points.map((value, i) => value - centre[i % 3]);
  let radius = 0;
  for (let i = 0; i + 2 < centred.length; i += 3) radius = Math.max(radius, Math.hypot(centred[i], centred[i + 1], centred[i + 2]));
  return centred.map((value) => value / (radius || 1));
}

/** Draw points on a canvas that turns by dragging and by the arrow keys. */
export function showPoints(canvas, points) {
  let yaw = 0.6;
  let pitch = -0.35;
  const draw = () => {
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    const size = Math.min(width, height) * 0.47;
    const [sinY, cosY, sinP, cosP] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
    context.clearRect(0, 0, width, height);
    for (let i = 0; i + 2 < points.length; i += 3) {
      const x = points[i] * cosY + points[i + 2] * sinY;
      const away = points[i + 2] * cosY - points[i] * sinY;
      const y = points[i + 1] * cosP - away * sinP;
      const depth = points[i + 1] * sinP + away * cosP;
      const shade = Math.round(48 + 22 * depth);
      context.fillStyle = `hsl(${225 - 45 * points[i + 1]} 75% ${shade}%)`;
      context.fillRect(width / 2 + x * size, height / 2 - y * size, 2, 2);
    }
  };
  const turn = (dx, dy) => {
    yaw += dx;
    pitch = Math.max(-1.5, Math.min(1.5, pitch + dy));
    draw();
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) turn(event.movementX * 0.01, event.movementY * 0.01);
  });
  const keys = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    turn(...keys[event.key]);
  });
  draw();
}
