/**
 * Finding faces in photographs. `FaceDetector` is the only thing that the rest of turl knows of a detector; `openDetector` gives
 * the one that turl carries: BlazeFace (Bazarevsky et al., arXiv 1907.05047) finds boxes, Face Mesh (Kartynnik et al.,
 * arXiv 1907.06724) places 468 points in each.
 */
import { join } from 'node:path';
import type { Device } from '../tensor/device.js';
import { tensor } from '../tensor/tensor.js';
import { GraphModel } from './graph-model.js';
import { meshFivePoints, meshPoints, meshYaw, modelsFolder } from './mesh.js';
import { apply, warp, type Picture, type Point, type Similarity } from './similarity.js';

/** One face, in the pixels of its picture. */
export interface DetectedFace {
  /** Left, top, width, height. */
  readonly box: readonly [left: number, top: number, width: number, height: number];
  /** The detector's confidence, 0 to 1. */
  readonly score: number;
  /** The eyes (image left first), the nose's tip, the mouth's corners. */
  readonly points: readonly Point[];
  /** [468, 3]: x, y and z (away from the viewer), not rounded. */
  readonly mesh: Float32Array;
  /** Degrees, positive when the head is turned to the image's right. */
  readonly yaw: number;
}

export interface FaceDetector {
  /** The faces of each picture, the most central and largest first; none where none is found. */
  detect(pictures: readonly Picture[]): DetectedFace[][];
  dispose(): void;
}

/** A square part of a picture: its centre, its side in pixels, and by how much it is turned, in radians. */
interface Region {
  readonly x: number;
  readonly y: number;
  readonly side: number;
  readonly turn: number;
}

interface Candidate extends Region {
  readonly picture: number;
  readonly score: number;
  readonly box: DetectedFace['box'];
}

const boxSide = 256; // BlazeFace's input in pixels
const meshSide = 192; // Face Mesh's
const together = 8; // pictures in one batch: enough for the kernels, few enough for the caches

/** From a place in a picture of the region, `size` pixels wide, to the place in the whole picture. */
function fromRegion({ x, y, side, turn }: Region, size: number): Similarity {
  const scale = side / size;
  const [a, b] = [scale * Math.cos(turn), scale * Math.sin(turn)];
  const middle = (size - 1) / 2;
  return [a, b, x - a * middle + b * middle, y - b * middle - a * middle];
}

/** The regions as a batch [n, size, size, 3], values scaled to scale v + shift. */
function regionBatch(
  pictures: readonly Picture[],
  regions: readonly (Region & { readonly picture: number })[],
  size: number,
  [scale, shift]: readonly [number, number],
): Float32Array {
  const each = size * size * 3;
  const batch = new Float32Array(regions.length * each);
  regions.forEach((region, i) => {
    const picture = pictures[region.picture];
    if (picture) warp(picture, fromRegion(region, size), size, batch.subarray(i * each, (i + 1) * each));
  });
  for (let i = 0; i < batch.length; i++) batch[i] = (batch[i] ?? 0) * scale + shift;
  return batch;
}

// BlazeFace's anchors: the centres of two grids, with 2 and 6 anchors a place. Outputs are offsets in pixels from the centre.
const grids = [
  { places: 16, anchors: 2, scores: 'Identity', boxes: 'Identity_2' },
  { places: 8, anchors: 6, scores: 'Identity_1', boxes: 'Identity_3' },
] as const;

function overlap(a: DetectedFace['box'], b: DetectedFace['box']): number {
  const shared = (i: 0 | 1): number =>
    Math.max(0, Math.min(a[i] + a[(i + 2) as 2 | 3], b[i] + b[(i + 2) as 2 | 3]) - Math.max(a[i], b[i]));
  const both = shared(0) * shared(1);
  return both / (a[2] * a[3] + b[2] * b[3] - both);
}

/** Of candidates that overlap, the surest. */
function distinct(candidates: Candidate[]): Candidate[] {
  const kept: Candidate[] = [];
  for (const one of candidates.sort((a, b) => b.score - a.score))
    if (kept.every((other) => overlap(one.box, other.box) < 0.3)) kept.push(one);
  return kept;
}

class MediaPipeDetector implements FaceDetector {
  readonly #boxes: GraphModel;
  readonly #mesh: GraphModel;

  constructor(
    readonly device: Device,
    readonly threshold: number,
  ) {
    this.#boxes = new GraphModel(join(modelsFolder, 'blazeface.json'), device);
    this.#mesh = new GraphModel(join(modelsFolder, 'facemesh.json'), device);
  }

  detect(pictures: readonly Picture[]): DetectedFace[][] {
    const faces: DetectedFace[][] = [];
    for (let i = 0; i < pictures.length; i += together)
      faces.push(...this.#detect(pictures.slice(i, i + together)));
    return faces;
  }

  #detect(pictures: readonly Picture[]): DetectedFace[][] {
    // A face that fills the picture is found when there is room around it.
    const found = this.#find(
      pictures,
      pictures.map((_, i) => i),
      1,
    );
    const without = pictures.map((_, i) => i).filter((i) => !found.some(({ picture }) => picture === i));
    found.push(...this.#find(pictures, without, 1.6));
    // The mesh is placed twice: in the region of the box, then in its own, which is steadier.
    const rough = this.#place(pictures, found);
    const fine = this.#place(
      pictures,
      found.map((face, i) => ({ ...face, ...regionOf(rough[i]?.mesh ?? []) })),
    );
    const faces: DetectedFace[][] = pictures.map(() => []);
    found.forEach(({ picture, score, box }, i) => {
      const placed = fine[i];
      if (!placed || placed.presence < 0.5) return;
      const { mesh } = placed;
      faces[picture]?.push({ box, score, points: meshFivePoints(mesh), mesh, yaw: meshYaw(mesh) });
    });
    return faces.map((list, i) =>
      list.sort((a, b) => prominence(b, pictures[i]) - prominence(a, pictures[i])),
    );
  }

  /** Boxes in these pictures, each seen with `room` times its longer side. */
  #find(pictures: readonly Picture[], which: readonly number[], room: number): Candidate[] {
    if (which.length === 0) return [];
    const regions = which.map((picture) => {
      const { width, height } = pictures[picture] ?? { width: 1, height: 1 };
      const side = Math.max(width, height) * room;
      return { picture, x: (width - 1) / 2, y: (height - 1) / 2, side, turn: 0 };
    });
    const batch = regionBatch(pictures, regions, boxSide, [1 / 127.5, -1]);
    const input = tensor(batch, [which.length, boxSide, boxSide, 3], {
      device: this.device,
      label: 'detector',
    });
    const results = this.#boxes.run(input);
    input.dispose();
    return regions.flatMap((region, image) => {
      const view = fromRegion(region, boxSide);
      const candidates: Candidate[] = [];
      for (const { places, anchors, scores: scoreName, boxes: boxName } of grids) {
        const count = places * places * anchors;
        const scores = results.get(scoreName)?.subarray(image * count, (image + 1) * count) ?? [];
        const boxes = results.get(boxName)?.subarray(image * count * 16, (image + 1) * count * 16) ?? [];
        scores.forEach((logit, n) => {
          const score = 1 / (1 + Math.exp(-logit));
          if (score < this.threshold) return;
          const place = Math.floor(n / anchors);
          const step = boxSide / places;
          const at = (k: number, axis: 'x' | 'y'): number =>
            (boxes[n * 16 + k] ?? 0) +
            ((axis === 'x' ? place % places : Math.floor(place / places)) + 0.5) * step;
          const point = (k: number): Point => apply(view, [at(k, 'x'), at(k + 1, 'y')]);
          const [x, y] = point(0);
          const scale = region.side / boxSide;
          const [width, height] = [2, 3].map((k) => (boxes[n * 16 + k] ?? 0) * scale) as [number, number];
          const [eyeX, eyeY] = point(4);
          const [otherX, otherY] = point(6);
          candidates.push({
            picture: region.picture,
            score,
            box: [x - width / 2, y - height / 2, width, height],
            x,
            y,
            side: 1.5 * Math.max(width, height),
            turn: Math.atan2(otherY - eyeY, otherX - eyeX),
          });
        });
      }
      return distinct(candidates);
    });
  }

  /** The mesh in each region, and how surely there is a face (0 to 1). */
  #place(
    pictures: readonly Picture[],
    regions: readonly (Region & { readonly picture: number })[],
  ): { mesh: Float32Array; presence: number }[] {
    if (regions.length === 0) return [];
    const batch = regionBatch(pictures, regions, meshSide, [1 / 255, 0]);
    const input = tensor(batch, [regions.length, meshSide, meshSide, 3], {
      device: this.device,
      label: 'detector',
    });
    const results = this.#mesh.run(input);
    input.dispose();
    const points = results.get('Identity_2') ?? new Float32Array(0);
    return regions.map((region, i) => {
      const view = fromRegion(region, meshSide);
      const mesh = points.slice(i * meshPoints * 3, (i + 1) * meshPoints * 3);
      for (let p = 0; p < mesh.length; p += 3) {
        // The network counts from the outer edge of the first pixel.
        const [x, y] = apply(view, [(mesh[p] ?? 0) - 0.5, (mesh[p + 1] ?? 0) - 0.5]);
        mesh.set([x, y, ((mesh[p + 2] ?? 0) * region.side) / meshSide], p);
      }
      return { mesh, presence: results.get('Identity_1')?.[i] ?? 0 };
    });
  }

  dispose(): void {
    this.#boxes.dispose();
    this.#mesh.dispose();
  }
}

/** Around a mesh: upright by its eyes, 1.5 times its size. */
function regionOf(mesh: ArrayLike<number>): Region {
  const [first = [0, 0], second = [1, 0]] = meshFivePoints(mesh);
  const turn = Math.atan2(second[1] - first[1], second[0] - first[0]);
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < meshPoints * 3; i += 3) {
    const [x, y] = [mesh[i] ?? 0, mesh[i + 1] ?? 0];
    const [u, v] = [cos * x + sin * y, cos * y - sin * x];
    [left, right] = [Math.min(left, u), Math.max(right, u)];
    [top, bottom] = [Math.min(top, v), Math.max(bottom, v)];
  }
  const [u, v] = [(left + right) / 2, (top + bottom) / 2];
  return {
    x: cos * u - sin * v,
    y: sin * u + cos * v,
    side: 1.5 * Math.max(right - left, bottom - top),
    turn,
  };
}

// Area less twice the squared distance from the middle: the face that the photograph is of.
function prominence({ box: [left, top, width, height] }: DetectedFace, picture: Picture | undefined): number {
  const x = left + width / 2 - (picture?.width ?? 0) / 2;
  const y = top + height / 2 - (picture?.height ?? 0) / 2;
  return width * height - 2 * (x * x + y * y);
}

/** Opens the detector on a device. `threshold` is the least confidence of a box. */
export function openDetector(device: Device, { threshold = 0.5 } = {}): FaceDetector {
  return new MediaPipeDetector(device, threshold);
}
