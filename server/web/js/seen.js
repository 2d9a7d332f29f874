// What the model saw: each medium with its confidence, the neighbours of the visual cache, milliseconds per stage.

import { thumbnailUrl } from "./api.js";
import { element } from "./dom.js";
import { KIND_NAMES } from "./media.js";

const percent = (share) => `${Math.round(share * 100)} %`;

function sampledText(sampled = {}) {
  if (sampled.width_px && sampled.num_frames) return `${sampled.num_frames} frames of ${sampled.width_px} × ${sampled.height_px}`;
  if (sampled.width_px) return `${sampled.width_px} × ${sampled.height_px} pixels`;
  if (sampled.seconds) return `${sampled.seconds.toFixed(1)} s at ${sampled.sample_rate_hz} Hz`;
  if (sampled.num_points) return `${sampled.num_points} points`;
  return "";
}

function mediumRow(medium) {
  const sure = medium.confidence;
  return element(
    "li",
    {},
    `${KIND_NAMES[medium.modality] ?? medium.modality} (${medium.container}), weight ${medium.weight}, ${sampledText(medium.sampled)} `,
    sure === null || sure === undefined
      ? null
      : element("meter", { min: 0, max: 1, low: 0.5, value: sure, title: `confidence ${percent(sure)}` }, percent(sure)),
    sure === null || sure === undefined ? null : ` ${percent(sure)} sure`,
  );
}

function neighbourFigure(neighbour) {
  const metadata = neighbour.metadata ?? {};
  const name = neighbour.caption ?? neighbour.label ?? neighbour.file ?? `item ${neighbour.id}`;
  const url = thumbnailUrl(neighbour);
  const picture = url ? element("img", { src: url, alt: "", width: 48, height: 48, loading: "lazy" }) : element("span", { class: "no-preview" }, metadata.emoji ?? "◇");
  const about = [name, metadata.source, neighbour.file].filter(Boolean).join(", ");
  return element("figure", { title: about }, picture, element("figcaption", {}, `${name} ${Number(neighbour.score).toFixed(2)}`));
}

/** Return what the embedding was drawn toward: a picture where the index has one, a name and its file in any case. */
function neighbourPart(cache, neighbours) {
  if (!neighbours.length) return null;
  const shown = neighbours.slice(0, 10);
  const note = shown.some(thumbnailUrl) ? "" : " It keeps no pictures, only their embeddings and names.";
  return element(
    "div",
    {},
    element("p", { class: "usage" }, `Pulled toward the ${neighbours.length} nearest of the index ${cache?.index ?? ""}.${note}`),
    element("div", { class: "neighbours", "aria-label": "Nearest in the gallery" }, ...shown.map(neighbourFigure)),
  );
}

function stageRows(stages) {
  const total = Math.max(...Object.values(stages), 1e-9);
  return Object.entries(stages).map(([stage, ms]) =>
    element("tr", {}, element("th", { scope: "row" }, stage), element("td", {}, element("meter", { min: 0, max: total, value: ms })), element("td", {}, `${ms.toFixed(1)} ms`)),
  );
}

/** Return the disclosure that explains one answer, or null when the server told nothing. */
export function seenPanel(bind, usage) {
  if (!bind) return null;
  const media = bind.media ?? [];
  const neighbours = bind.cache?.neighbours ?? bind.neighbours ?? [];
  const stages = bind.stages_ms ?? {};
  return element(
    "details",
    { class: "seen" },
    element("summary", {}, media.length ? "What the model saw" : "How it was answered"),
    element("ul", {}, ...media.map(mediumRow)),
    bind.parts ? element("p", { class: "usage" }, `Named one by one: ${bind.parts.map((part) => part.name).join(", ")}`) : null,
    neighbourPart(bind.cache, neighbours),
    element("table", {}, element("tbody", {}, ...stageRows(stages))),
    usage ? element("p", { class: "usage" }, `${usage.prompt_tokens} tokens read, ${usage.completion_tokens} written`) : null,
  );
}
