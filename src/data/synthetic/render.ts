// Renders one image of one identity: pose the model, light its vertices, align by five points as face crops of this field are,
// rasterise at twice the size, put a background behind it, and develop to sRGB bytes [size, size, 3].
import { alignedPoints, fitSimilarity } from '../../align/similarity.js';
import { drawIdentity } from './identity.js';
import { noise } from './noise.js';
import { buildModel, type FaceModel, type Part } from './parts.js';
import { createCanvas, drawTriangles, fields, type Canvas } from './rasteriser.js';
import { drawScene, usualVariety, type Scene, type Variety } from './scene.js';
import { paintEyes } from './skin.js';

// sRGB's curve as a table over linear [0, 1].
const curve = Float32Array.from({ length: 4097 }, (_, i) => {
  const x = i / 4096;
  return 255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055);
});

/** Places points of the head (units of 10 cm) in the picture (pixels): x' = a X - b Y + c, y' = b X + a Y + d after perspective. */
interface Camera {
  readonly rotation: readonly number[]; // 3x3, rows
  readonly distance: number;
  a: number;
  b: number;
  c: number;
  d: number;
}

function rotationOf(yaw: number, pitch: number, roll: number): number[] {
  const [y, p, r] = [yaw, pitch, roll].map((x) => (x * Math.PI) / 180) as [number, number, number];
  const [cy, sy, cp, sp, cr, sr] = [
    Math.cos(y),
    Math.sin(y),
    Math.cos(p),
    Math.sin(p),
    Math.cos(r),
    Math.sin(r),
  ];
  // roll(z) pitch(x) yaw(y)
  const m = [cy, 0, sy, sp * sy, cp, -sp * cy, -cp * sy, sp, cp * cy];
  const [m0, m1, m2, m3, m4, m5, m6, m7, m8] = m as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  return [
    cr * m0 - sr * m3,
    cr * m1 - sr * m4,
    cr * m2 - sr * m5,
    sr * m0 + cr * m3,
    sr * m1 + cr * m4,
    sr * m2 + cr * m5,
    m6,
    m7,
    m8,
  ];
}

/** Renders faces of one population at one size. Keeps the models of the identities it last drew. */
export class FaceRenderer {
  readonly #canvas: Canvas;
  readonly #models = new Map<number, FaceModel>();
  #positions = new Float32Array(0);
  #vertices = new Float32Array(0);

  constructor(
    readonly seed: number,
    readonly size: number,
    readonly variety: Variety = usualVariety,
  ) {
    this.#canvas = createCanvas(size * 2);
  }

  /** Writes image `image` of `identity` to `out` [size, size, 3]; `yaw` (degrees) replaces the drawn one, all else being equal. */
  render(identity: number, image: number, out: Uint8Array, yaw?: number): void {
    const model = this.#model(identity);
    const scene = drawScene(this.seed, identity, image, this.variety);
    const { colour, depth, side } = this.#canvas;
    colour.fill(0);
    depth.fill(-Infinity);
    const [head, ...others] = model.parts;
    paintEyes(model.face, model.head, model.skin, head.texture.texels, scene.gaze);
    const posed = this.#express(model, scene);
    const camera: Camera = {
      rotation: rotationOf(yaw ?? scene.yaw, scene.pitch, scene.roll),
      distance: scene.distance,
      a: 1,
      b: 0,
      c: 0,
      d: 0,
    };
    align(camera, model, posed, scene, side);
    this.#draw(head, posed, camera, scene);
    for (const part of others) this.#draw(part, part.positions, camera, scene);
    develop(this.#canvas, model, scene, this.size, out);
  }

  #model(identity: number): FaceModel {
    const known = this.#models.get(identity);
    if (known) return known;
    const model = buildModel(drawIdentity(this.seed, identity), this.size * 2);
    const oldest = this.#models.keys().next();
    if (this.#models.size >= 16 && !oldest.done) this.#models.delete(oldest.value);
    this.#models.set(identity, model);
    return model;
  }

  #express({ head }: FaceModel, scene: Scene): Float32Array {
    const { positions, open, smile, brows } = head;
    if (this.#positions.length < positions.length) this.#positions = new Float32Array(positions.length);
    const posed = this.#positions;
    for (let i = 0; i < positions.length; i++)
      posed[i] =
        (positions[i] ?? 0) +
        scene.open * (open[i] ?? 0) +
        scene.smile * (smile[i] ?? 0) +
        scene.brows * (brows[i] ?? 0);
    return posed;
  }

  #draw(part: Part, positions: Float32Array, camera: Camera, scene: Scene): void {
    const count = part.rows * part.columns * fields;
    if (this.#vertices.length < count) this.#vertices = new Float32Array(count);
    shadeVertices(this.#vertices, part, positions, camera, scene);
    const [wr, wg, wb] = scene.whiteBalance;
    drawTriangles(this.#canvas, this.#vertices, part.triangles, part.texture, {
      ambient: [scene.ambient * wr, scene.ambient * wg, scene.ambient * wb],
      light: [scene.direct * wr, scene.direct * wg, scene.direct * wb],
    });
  }
}

// The point of the head at a grid place, turned and seen in perspective (before the camera's similarity), y down.
function project(camera: Camera, positions: Float32Array, vertex: number): [number, number] {
  const [x, y, z] = [0, 1, 2].map((k) => positions[vertex * 3 + k] ?? 0) as [number, number, number];
  const r = camera.rotation;
  const turned = (k: number): number => (r[k] ?? 0) * x + (r[k + 1] ?? 0) * y + (r[k + 2] ?? 0) * z;
  const scale = 1 / (camera.distance - turned(6));
  return [turned(0) * scale, -turned(3) * scale];
}

function align(camera: Camera, model: FaceModel, positions: Float32Array, scene: Scene, side: number): void {
  const columns = model.parts[0].columns;
  const seen = model.points.map(([row, column]): [number, number] => {
    const r = Math.floor(row);
    const c = Math.floor(column);
    const corners = [0, 1, columns, columns + 1].map((o) => project(camera, positions, r * columns + c + o));
    const weights = [
      (1 - row + r) * (1 - column + c),
      (1 - row + r) * (column - c),
      (row - r) * (1 - column + c),
      (row - r) * (column - c),
    ];
    const sum = (k: 0 | 1): number => corners.reduce((total, p, i) => total + p[k] * (weights[i] ?? 0), 0);
    return [sum(0), sum(1)];
  });
  // Roll is what is left after alignment, so the template is turned by it.
  const s = (side / 112) * scene.zoom;
  const angle = (scene.roll * Math.PI) / 180;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const template = alignedPoints.map(([x, y]): [number, number] => [
    side / 2 + side * scene.shiftX + s * (cos * (x - 56) + sin * (y - 56)),
    side / 2 + side * scene.shiftY + s * (-sin * (x - 56) + cos * (y - 56)),
  ]);
  [camera.a, camera.b, camera.c, camera.d] = fitSimilarity(seen, template);
}

// Vertices as the rasteriser wants them; normals from the grid's differences.
function shadeVertices(
  vertices: Float32Array,
  part: Part,
  p: Float32Array,
  camera: Camera,
  scene: Scene,
): void {
  const { rows, columns, texture } = part;
  const [r0 = 0, r1 = 0, r2 = 0, r3 = 0, r4 = 0, r5 = 0, r6 = 0, r7 = 0, r8 = 0] = camera.rotation;
  const { a, b, c, d, distance } = camera;
  // The light in the head's frame: rotation transposed. Highlights: halfway between light and viewer.
  const [lx, ly, lz] = scene.towards;
  const into = (x: number, y: number, z: number): [number, number, number] => [
    r0 * x + r3 * y + r6 * z,
    r1 * x + r4 * y + r7 * z,
    r2 * x + r5 * y + r8 * z,
  ];
  const [tx, ty, tz] = into(lx, ly, lz);
  const half = Math.hypot(lx, ly, lz + 1);
  const [hx, hy, hz] = into(lx / half, ly / half, (lz + 1) / half);
  const gloss = part.gloss * scene.gloss * scene.direct;
  const stepX = (texture.width - 1) / (columns - 1);
  const stepY = (texture.height - 1) / (rows - 1);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const vertex = row * columns + column;
      const left = (column > 0 ? vertex - 1 : vertex) * 3;
      const right = (column < columns - 1 ? vertex + 1 : vertex) * 3;
      const up = (row > 0 ? vertex - columns : vertex) * 3;
      const down = (row < rows - 1 ? vertex + columns : vertex) * 3;
      const ux = (p[right] ?? 0) - (p[left] ?? 0);
      const uy = (p[right + 1] ?? 0) - (p[left + 1] ?? 0);
      const uz = (p[right + 2] ?? 0) - (p[left + 2] ?? 0);
      const vx = (p[up] ?? 0) - (p[down] ?? 0);
      const vy = (p[up + 1] ?? 0) - (p[down + 1] ?? 0);
      const vz = (p[up + 2] ?? 0) - (p[down + 2] ?? 0);
      const nx = uy * vz - uz * vy;
      const ny = uz * vx - ux * vz;
      const nz = ux * vy - uy * vx;
      const length = 1 / (Math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9);
      const x = p[vertex * 3] ?? 0;
      const y = p[vertex * 3 + 1] ?? 0;
      const z = p[vertex * 3 + 2] ?? 0;
      const depth = r6 * x + r7 * y + r8 * z;
      const scale = 1 / (distance - depth);
      const sx = (r0 * x + r1 * y + r2 * z) * scale;
      const sy = -(r3 * x + r4 * y + r5 * z) * scale;
      const shine = Math.max(0, (nx * hx + ny * hy + nz * hz) * length);
      const shine4 = shine * shine * shine * shine;
      const at = vertex * fields;
      vertices[at] = a * sx - b * sy + c;
      vertices[at + 1] = b * sx + a * sy + d;
      vertices[at + 2] = depth;
      vertices[at + 3] = Math.max(0, (nx * tx + ny * ty + nz * tz) * length * 0.88 + 0.12);
      vertices[at + 4] = gloss * shine4 * shine4 * shine4 * shine4;
      vertices[at + 5] = column * stepX;
      vertices[at + 6] = row * stepY;
    }
}

// Halves the picture over the background, exposes it, adds sensor grain, and writes sRGB bytes.
function develop(canvas: Canvas, model: FaceModel, scene: Scene, size: number, out: Uint8Array): void {
  const { colour, depth, side } = canvas;
  const { skin } = model.face;
  // A camera exposes dark skin longer, though not wholly so.
  const exposure =
    scene.exposure * 0.62 * (0.42 / (0.3 * skin[0] + 0.6 * skin[1] + 0.1 * skin[2] + 0.05)) ** 0.5;
  const [first, second, third] = scene.backgrounds;
  const s = scene.patternScale * (56 / size);
  let grain = scene.grainSeed | 1;
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const top = (2 * y * side + 2 * x) | 0;
      let empty = 0;
      if (depth[top] === -Infinity) empty += 0.25;
      if (depth[top + 1] === -Infinity) empty += 0.25;
      if (depth[top + side] === -Infinity) empty += 0.25;
      if (depth[top + side + 1] === -Infinity) empty += 0.25;
      let one = 0;
      let two = 0;
      if (empty > 0) {
        one = 0.5 + 0.5 * noise(x * s + scene.pattern, y * s);
        two = Math.max(0, noise(x * s * 2.3, y * s * 2.3 + scene.pattern));
      }
      // A xorshift generator: grain needs speed, not quality. Three values of 8 bits around 0.
      grain ^= grain << 13;
      grain ^= grain >>> 17;
      grain ^= grain << 5;
      for (let k = 0; k < 3; k++) {
        const i = top * 3 + k;
        let light =
          ((colour[i] ?? 0) +
            (colour[i + 3] ?? 0) +
            (colour[i + side * 3] ?? 0) +
            (colour[i + side * 3 + 3] ?? 0)) *
          0.25 *
          exposure;
        if (empty > 0) {
          const mixed =
            ((first[k] ?? 0) * one + (second[k] ?? 0) * (1 - one)) * (1 - two) + (third[k] ?? 0) * two;
          light += empty * mixed * (scene.whiteBalance[k] ?? 1);
        }
        const noisy =
          (curve[Math.min(4096, (light * 4096) | 0)] ?? 0) +
          scene.grain * ((((grain >>> (8 * k)) & 255) - 127.5) / 74);
        out[(y * size + x) * 3 + k] = Math.max(0, Math.min(255, noisy + 0.5));
      }
    }
}
