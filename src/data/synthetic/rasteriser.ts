// A triangle rasteriser with a depth buffer. Vertices carry a place in the picture (pixels), a depth (greater is nearer), the
// diffuse and specular light on them, and a place on a texture; those are interpolated linearly over the triangle, and
// the pixel is texel x (ambient + diffuse x light) + specular x light.
import type { Colour } from './identity.js';

/** Where a picture is drawn: linear RGB [side, side, 3] and depth [side, side]; a depth of -Infinity is empty. */
export interface Canvas {
  readonly side: number;
  readonly colour: Float32Array;
  readonly depth: Float32Array;
}

/** Vertices as the rasteriser reads them: `fields` numbers each, in the order x, y, depth, diffuse, specular, texture x, texture y. */
export const fields = 7;

export interface Texture {
  readonly width: number;
  readonly height: number;
  readonly texels: Float32Array;
}

export interface Lighting {
  readonly ambient: Colour;
  readonly light: Colour;
}

export function createCanvas(side: number): Canvas {
  return { side, colour: new Float32Array(side * side * 3), depth: new Float32Array(side * side) };
}

/** Draws triangles (three indices each) that face the camera: counter-clockwise as seen, with y down. */
export function drawTriangles(
  canvas: Canvas,
  vertices: Float32Array,
  triangles: Uint16Array,
  texture: Texture,
  { ambient, light }: Lighting,
): void {
  const { side, colour, depth } = canvas;
  const { width, height, texels } = texture;
  const [ar, ag, ab] = ambient;
  const [lr, lg, lb] = light;
  for (let t = 0; t < triangles.length; t += 3) {
    const a = (triangles[t] ?? 0) * fields;
    const b = (triangles[t + 1] ?? 0) * fields;
    const c = (triangles[t + 2] ?? 0) * fields;
    const ax = vertices[a] as number;
    const ay = vertices[a + 1] as number;
    const abx = (vertices[b] ?? 0) - ax;
    const aby = (vertices[b + 1] ?? 0) - ay;
    const acx = (vertices[c] ?? 0) - ax;
    const acy = (vertices[c + 1] ?? 0) - ay;
    const area = abx * acy - aby * acx;
    if (area <= 1e-6) continue;
    const left = Math.max(0, Math.ceil(ax + Math.min(0, abx, acx) - 0.5));
    const right = Math.min(side - 1, Math.floor(ax + Math.max(0, abx, acx) - 0.5));
    const top = Math.max(0, Math.ceil(ay + Math.min(0, aby, acy) - 0.5));
    const bottom = Math.min(side - 1, Math.floor(ay + Math.max(0, aby, acy) - 0.5));
    if (left > right || top > bottom) continue;
    const scale = 1 / area;
    const az = vertices[a + 2] ?? 0;
    const abz = (vertices[b + 2] ?? 0) - az;
    const acz = (vertices[c + 2] ?? 0) - az;
    const ad = vertices[a + 3] ?? 0;
    const abd = (vertices[b + 3] ?? 0) - ad;
    const acd = (vertices[c + 3] ?? 0) - ad;
    const as = vertices[a + 4] ?? 0;
    const abs = (vertices[b + 4] ?? 0) - as;
    const acs = (vertices[c + 4] ?? 0) - as;
    const atx = (vertices[a + 5] ?? 0) + 0.5;
    const abtx = (vertices[b + 5] ?? 0) + 0.5 - atx;
    const actx = (vertices[c + 5] ?? 0) + 0.5 - atx;
    const aty = (vertices[a + 6] ?? 0) + 0.5;
    const abty = (vertices[b + 6] ?? 0) + 0.5 - aty;
    const acty = (vertices[c + 6] ?? 0) + 0.5 - aty;
    for (let y = top; y <= bottom; y++) {
      const py = y + 0.5 - ay;
      for (let x = left; x <= right; x++) {
        const px = x + 0.5 - ax;
        const u = (px * acy - py * acx) * scale; // weight of b
        const v = (py * abx - px * aby) * scale; // weight of c
        if (u < -1e-5 || v < -1e-5 || u + v > 1.00001) continue;
        const z = az + u * abz + v * acz;
        const at = y * side + x;
        if (z <= (depth[at] ?? 0)) continue;
        depth[at] = z;
        const diffuse = ad + u * abd + v * acd;
        const specular = as + u * abs + v * acs;
        const i = Math.min(width - 1, (atx + u * abtx + v * actx) | 0);
        const j = Math.min(height - 1, (aty + u * abty + v * acty) | 0);
        const texel = (j * width + i) * 3;
        const out = at * 3;
        colour[out] = (texels[texel] ?? 0) * (ar + diffuse * lr) + specular * lr;
        colour[out + 1] = (texels[texel + 1] ?? 0) * (ag + diffuse * lg) + specular * lg;
        colour[out + 2] = (texels[texel + 2] ?? 0) * (ab + diffuse * lb) + specular * lb;
      }
    }
  }
}

/** The triangles of a grid of vertices; a quad is left out where `keep` is false. */
export function gridTriangles(
  rows: number,
  columns: number,
  keep: (row: number, column: number) => boolean,
): Uint16Array {
  const triangles = new Uint16Array((rows - 1) * (columns - 1) * 6);
  let count = 0;
  for (let row = 0; row < rows - 1; row++)
    for (let column = 0; column < columns - 1; column++) {
      if (!keep(row, column)) continue;
      const a = row * columns + column;
      const c = a + columns;
      triangles[count] = a;
      triangles[count + 1] = triangles[count + 3] = a + 1;
      triangles[count + 2] = triangles[count + 5] = c;
      triangles[count + 4] = c + 1;
      count += 6;
    }
  return triangles.subarray(0, count);
}
