// What kind of medium a file is, and the content part that sends it.

const POINT_FORMATS = ["ply", "obj", "off", "stl", "xyz", "pts", "pcd", "npy", "glb"];
const KINDS = {
  jpg: "image", jpeg: "image", png: "image", webp: "image", bmp: "image", gif: "image",
  wav: "audio", mp3: "audio", flac: "audio", ogg: "audio", opus: "audio", m4a: "audio",
  mp4: "video", mov: "video", mkv: "video", webm: "video",
  ...Object.fromEntries(POINT_FORMATS.map((format) => [format, "point_cloud"])),
};
export const KIND_NAMES = { image: "picture", audio: "sound", video: "film", point_cloud: "point cloud" };

export function extensionOf(name) {
  return name.includes(".") ? name.split(".").pop().toLowerCase() : "";
}

/** Return the kind of a file by its declared type, else by its name; null when neither tells. */
export function kindOf(file) {
  const major = (file.type || "").split("/")[0];
  if (["image", "audio", "video"].includes(major)) return major;
  return KINDS[extensionOf(file.name ?? "")] ?? null;
}

/** Return `{kind, name, blob, weight}` of a file. Throws a sentence for a file nobody can read. */
export function attachmentOf(file) {
  const kind = kindOf(file);
  if (!kind) {
    const known = [...new Set(Object.keys(KINDS))].join(", ");
    throw new Error(`${file.name || "this file"} is no medium that BindChat reads; it reads ${known}`);
  }
  return { kind, name: file.name || KIND_NAMES[kind], blob: file, weight: 1 };
}

function base64Of(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("the file could not be read"));
    reader.readAsDataURL(blob);
  });
}

/** Return the content part of one attachment; the server decides the container from the bytes. */
export async function partOf({ kind, name, blob, weight }) {
  const data = await base64Of(blob);
  const type = (blob.type || "application/octet-stream").split(";")[0];
  const url = `data:${type};base64,${data}`;
  const weighted = weight === 1 ? {} : { weight };
  switch (kind) {
    case "image":
      return { type: "image_url", image_url: { url }, ...weighted };
    case "audio":
      return { type: "audio_url", audio_url: { url }, ...weighted };
    case "video":
      return { type: "video_url", video_url: { url }, ...weighted };
    default: {
      const format = extensionOf(name);
      return { type: "input_point_cloud", input_point_cloud: { data, ...(format ? { format } : {}) }, ...weighted };
    }
  }
}
