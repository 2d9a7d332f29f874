// A preview of each medium: picture, waveform with player, film, point cloud that turns.

import { element } from "./dom.js";
import { extensionOf } from "./media.js";
import { readPoints, showPoints } from "./points.js";

async function drawWaveform(canvas, blob) {
  const audio = new OfflineAudioContext(1, 1, 16000);
  const samples = (await audio.decodeAudioData(await blob.arrayBuffer())).getChannelData(0);
  const context = canvas.getContext("2d");
  const step = Math.max(1, Math.floor(samples.length / canvas.width));
  context.fillStyle = getComputedStyle(canvas).color;
  for (let x = 0; x < canvas.width; x += 1) {
    let peak = 0;
    for (let i = x * step; i < Math.min((x + 1) * step, samples.length); i += 1) peak = Math.max(peak, Math.abs(samples[i]));
    const tall = Math.max(1, peak * canvas.height);
    context.fillRect(x, (canvas.height - tall) / 2, 1, tall);
  }
}

async function pointPreview(blob, name) {
  const points = readPoints(new Uint8Array(await blob.arrayBuffer()), extensionOf(name));
  if (!points.length) return element("span", { class: "no-preview" }, extensionOf(name) || "3-D");
  const canvas = element("canvas", {
    width: 220, height: 150, tabindex: 0, role: "img",
    "aria-label": `Point cloud ${name}; turn it by dragging or with the arrow keys`,
  });
  showPoints(canvas, points);
  return canvas;
}

/** Return an element that shows the medium; the caller puts it on the page. */
export async function previewOf({ kind, name, blob }) {
  const url = URL.createObjectURL(blob);
  switch (kind) {
    case "image":
      return element("img", { src: url, alt: name });
    case "video":
      return element("video", { src: url, controls: true, muted: true, preload: "metadata", "aria-label": name });
    case "audio": {
      const canvas = element("canvas", { class: "wave", width: 220, height: 48, role: "img", "aria-label": `Waveform of ${name}` });
      drawWaveform(canvas, blob).catch(() => canvas.remove());
      return element("div", { class: "sound" }, canvas, element("audio", { src: url, controls: true, "aria-label": name }));
    }
    default:
      URL.revokeObjectURL(url);
      return pointPreview(blob, name);
  }
}
