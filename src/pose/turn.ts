/**
 * Turns the head of a photograph to another yaw (§3: pose). The head around the face mesh (head.ts) is rotated about its own vertical
 * axis, brought back to the five points of the photograph, and drawn with a depth buffer. Its texture is the photograph; what was
 * turned away from the camera there is taken from the other half of the face where that is seen better.
 */
import { headFrame, meshFivePoints } from '../align/mesh.js';
import { fitSimilarity } from '../align/similarity.js';
import { Background } from './background.js';
import { buildHead, headTopology } from './head.js';

/** The camera's distance in half widths of the face: an arm's length or so. With it the yaw that the mesh measures on the result is
 *  the one asked for (docs/alignment-and-pose.md); from further away faces look turned less. */
const distance = 8;
const empty = 1e9; // depth of a pixel without a head

/** Degrees of yaw beyond which a face is not turned: too much of it is hidden. */
export const nearFrontal = 20;

const smooth = (from: number, to: number, x: number): number =>
  Math.max(0, Math.min(1, (x - from) / (to - from)));

/** How much each point faces the viewer: z of its unit normal, 1 towards the viewer. */
function facing(
  points: Float32Array,
  triangles: Uint16Array,
  out: Float32Array,
  normals: Float32Array,
): void {
  normals.fill(0);
  for (let t = 0; t < triangles.length; t += 3) {
    const a = (triangles[t] as number) * 3;
    const b = (triangles[t + 1] as number) * 3;
    const c = (triangles[t + 2] as number) * 3;
    const ax = points[a] as number;
    const ay = points[a + 1] as number;
    const az = points[a + 2] as number;
    const ux = (points[b] as number) - ax;
    const uy = (points[b + 1] as number) - ay;
    const uz = (points[b + 2] as number) - az;
    const vx = (points[c] as number) - ax;
    const vy = (points[c + 1] as number) - ay;
    const vz = (points[c + 2] as number) - az;
    const nx = uy * vz - uz * vy;
    const ny = uz * vx - ux * vz;
    const nz = ux * vy - uy * vx;
    for (let k = 0; k < 3; k++) {
      const at = (triangles[t + k] as number) * 3;
      normals[at] = (normals[at] as number) + nx;
      normals[at + 1] = (normals[at + 1] as number) + ny;
      normals[at + 2] = (normals[at + 2] as number) + nz;
    }
  }
  for (let i = 0; i < out.length; i++) {
    const x = normals[i * 3] as number;
    const y = normals[i * 3 + 1] as number;
    const z = normals[i * 3 + 2] as number;
    out[i] = -z / (Math.sqrt(x * x + y * y + z * z) + 1e-9);
  }
}

/** Turns faces in pictures of one size. It keeps its buffers, so one is needed for each thread. */
export class FaceTurner {
  readonly #source: Float32Array;
  readonly #turned: Float32Array;
  readonly #normals: Float32Array;
  readonly #facing: Float32Array;
  /** Share of each point's texture that comes from the other half. */
  readonly #borrowed: Float32Array;
  readonly #depth: Float32Array;
  /** How much of each pixel the head covers, 0 to 1. */
  readonly #cover: Float32Array;
  readonly #background: Background;

  constructor(readonly size: number) {
    const { points } = headTopology();
    this.#source = new Float32Array(points * 3);
    this.#turned = new Float32Array(points * 3);
    this.#normals = new Float32Array(points * 3);
    this.#facing = new Float32Array(points);
    this.#borrowed = new Float32Array(points);
    this.#depth = new Float32Array(size * size);
    this.#cover = new Float32Array(size * size);
    this.#background = new Background(size);
  }

  /**
   * @param photograph [size, size, 3]
   * @param mesh [468, 3] of the face in it, in pixels
   * @param yaw degrees, positive to the image's right
   * @param out [size, size, 3], not the photograph itself
   */
  turn(photograph: Uint8Array, mesh: ArrayLike<number>, yaw: number, out: Uint8Array): void {
    const { triangles } = headTopology();
    buildHead(mesh, this.#source);
    facing(this.#source, triangles, this.#facing, this.#normals);
    this.#borrow();
    this.#rotate(mesh, yaw);
    this.#depth.fill(empty);
    this.#cover.fill(0);
    this.#draw(photograph, out);
    this.#background.fill(photograph, this.#source, headTopology().outline);
    this.#background.putBehind(out, this.#cover);
    soften(out, this.#depth, this.size, 0.25 * halfWidth(mesh));
  }

  // The other half's texture is used where this one is seen at a grazing angle and the other is seen better.
  #borrow(): void {
    const { mirror, points } = headTopology();
    for (let i = 0; i < points; i++) {
      const own = this.#facing[i] ?? 0;
      const other = this.#facing[mirror[i] ?? i] ?? 0;
      this.#borrowed[i] = smooth(0.4, 0.1, own) * smooth(0.05, 0.25, other - own);
    }
  }

  #rotate(mesh: ArrayLike<number>, yaw: number): void {
    const { points } = headTopology();
    const { right, down, back } = headFrame(mesh);
    const [source, turned] = [this.#source, this.#turned];
    // The angle that brings the axis to the right, whose depth is the sine of the yaw, there: A sin + B cos = sin(yaw).
    const [A, B] = [back[2] ?? 1, right[2] ?? 0];
    const reach = Math.max(-1, Math.min(1, Math.sin((yaw * Math.PI) / 180) / Math.hypot(A, B)));
    const angle = Math.asin(reach) - Math.atan2(B, A);
    const [px, py, pz] = pivot(mesh);
    const [dx = 0, dy = 0, dz = 0] = down;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const away = distance * halfWidth(mesh);
    // The mesh is what the camera saw: without its perspective; Rodrigues about `down`, right turning into back; with perspective.
    for (let i = 0; i < points * 3; i += 3) {
      const z = (source[i + 2] as number) - pz;
      const spread = (away + z) / away;
      const x = ((source[i] as number) - px) * spread;
      const y = ((source[i + 1] as number) - py) * spread;
      const dot = (dx * x + dy * y + dz * z) * (1 - cos);
      const depth = z * cos - (dx * y - dy * x) * sin + dz * dot;
      const shrink = away / (away + depth);
      turned[i] = px + shrink * (x * cos - (dy * z - dz * y) * sin + dx * dot);
      turned[i + 1] = py + shrink * (y * cos - (dz * x - dx * z) * sin + dy * dot);
      turned[i + 2] = pz + depth;
    }
    const [a, b, c, d] = fitSimilarity(meshFivePoints(turned), meshFivePoints(mesh));
    const scale = Math.hypot(a, b);
    for (let i = 0; i < points; i++) {
      const x = turned[i * 3] as number;
      const y = turned[i * 3 + 1] as number;
      turned[i * 3] = a * x - b * y + c;
      turned[i * 3 + 1] = b * x + a * y + d;
      turned[i * 3 + 2] = (turned[i * 3 + 2] as number) * scale;
    }
  }

  #draw(photograph: Uint8Array, out: Uint8Array): void {
    const { triangles, mirror, opacity } = headTopology();
    const { size } = this;
    const [depth, cover] = [this.#depth, this.#cover];
    const [p, from, borrowed] = [this.#turned, this.#source, this.#borrowed];
    for (let t = 0; t < triangles.length; t += 3) {
      const a = triangles[t] as number;
      const b = triangles[t + 1] as number;
      const c = triangles[t + 2] as number;
      const ax = p[a * 3] as number;
      const ay = p[a * 3 + 1] as number;
      const abx = (p[b * 3] as number) - ax;
      const aby = (p[b * 3 + 1] as number) - ay;
      const acx = (p[c * 3] as number) - ax;
      const acy = (p[c * 3 + 1] as number) - ay;
      const area = abx * acy - aby * acx;
      if (Math.abs(area) < 1e-6) continue;
      const left = Math.max(0, Math.ceil(ax + Math.min(0, abx, acx)));
      const right = Math.min(size - 1, Math.floor(ax + Math.max(0, abx, acx)));
      const top = Math.max(0, Math.ceil(ay + Math.min(0, aby, acy)));
      const bottom = Math.min(size - 1, Math.floor(ay + Math.max(0, aby, acy)));
      if (left > right || top > bottom) continue;
      const scale = 1 / area;
      const az = p[a * 3 + 2] as number;
      const abz = (p[b * 3 + 2] as number) - az;
      const acz = (p[c * 3 + 2] as number) - az;
      const am = borrowed[a] as number;
      const bm = borrowed[b] as number;
      const cm = borrowed[c] as number;
      const mixed = am + bm + cm > 0;
      for (let y = top; y <= bottom; y++)
        for (let x = left; x <= right; x++) {
          const u = ((x - ax) * acy - (y - ay) * acx) * scale;
          const v = ((y - ay) * abx - (x - ax) * aby) * scale;
          if (u < -1e-4 || v < -1e-4 || u + v > 1.0001) continue;
          const z = az + u * abz + v * acz;
          const at = y * size + x;
          if (z >= (depth[at] as number)) continue;
          depth[at] = z;
          const w = 1 - u - v;
          cover[at] = w * (opacity[a] as number) + u * (opacity[b] as number) + v * (opacity[c] as number);
          const share = mixed ? w * am + u * bm + v * cm : 0;
          sample(photograph, size, from, a, b, c, w, u, v, out, at * 3, 1);
          if (share > 0)
            sample(
              photograph,
              size,
              from,
              mirror[a] as number,
              mirror[b] as number,
              mirror[c] as number,
              w,
              u,
              v,
              out,
              at * 3,
              share,
            );
        }
    }
  }
}

// Edges, where the depth of neighbours differs by more than `step`, take half of their colour from the four pixels around.
function soften(out: Uint8Array, depth: Float32Array, size: number, step: number): void {
  for (let y = 1; y < size - 1; y++)
    for (let x = 1; x < size - 1; x++) {
      const at = y * size + x;
      const z = depth[at] as number;
      const jump = (other: number): boolean => Math.abs(z - (depth[other] as number)) > step;
      if (!(jump(at + 1) || jump(at - 1) || jump(at + size) || jump(at - size))) continue;
      for (let i = at * 3; i < at * 3 + 3; i++)
        out[i] =
          0.5 * (out[i] as number) +
          0.125 *
            ((out[i - 3] as number) +
              (out[i + 3] as number) +
              (out[i - 3 * size] as number) +
              (out[i + 3 * size] as number)) +
          0.5;
    }
}

// Half the distance between the ears.
function halfWidth(mesh: ArrayLike<number>): number {
  return Math.hypot(...[0, 1, 2].map((k) => (mesh[454 * 3 + k] ?? 0) - (mesh[234 * 3 + k] ?? 0))) / 2;
}

// Between the ears, about where a neck turns.
function pivot(mesh: ArrayLike<number>): [number, number, number] {
  const middle = (k: number): number => ((mesh[234 * 3 + k] ?? 0) + (mesh[454 * 3 + k] ?? 0)) / 2;
  return [middle(0), middle(1), middle(2)];
}

const reflect = (x: number, n: number): number => {
  const period = 2 * (n - 1);
  const r = Math.abs(x) % period;
  return r > n - 1 ? period - r : r;
};

/** Mixes into out[to ...] the photograph's colour at a place in a triangle, bilinear; beyond the edges it is reflected. */
function sample(
  photograph: Uint8Array,
  size: number,
  points: Float32Array,
  a: number,
  b: number,
  c: number,
  w: number,
  u: number,
  v: number,
  out: Uint8Array,
  to: number,
  share: number,
): void {
  let x = w * (points[a * 3] as number) + u * (points[b * 3] as number) + v * (points[c * 3] as number);
  let y =
    w * (points[a * 3 + 1] as number) + u * (points[b * 3 + 1] as number) + v * (points[c * 3 + 1] as number);
  if (x < 0 || x >= size - 1) x = Math.min(size - 1.001, reflect(x, size));
  if (y < 0 || y >= size - 1) y = Math.min(size - 1.001, reflect(y, size));
  const left = x | 0;
  const top = y | 0;
  const fx = x - left;
  const fy = y - top;
  const at = (top * size + left) * 3;
  const below = at + size * 3;
  for (let k = 0; k < 3; k++) {
    const upper = (photograph[at + k] as number) * (1 - fx) + (photograph[at + 3 + k] as number) * fx;
    const lower = (photograph[below + k] as number) * (1 - fx) + (photograph[below + 3 + k] as number) * fx;
    const value = upper + fy * (lower - upper);
    out[to + k] = share === 1 ? value + 0.5 : (out[to + k] as number) * (1 - share) + value * share + 0.5;
  }
}
