/**
 * A head around a face mesh. The mesh ends at the hairline, the cheeks and the chin; rings of further points carry it on: over the
 * skull, back past the ears, under the chin. Every point has its own place in the photograph, so hair and ears come along when the
 * head turns; the last ring is transparent, so that the head fades into what is behind it.
 */
import { canonicalFace, headFrame, meshPoints } from '../align/mesh.js';

/** A ring around the mesh's border. Distances from the border's middle are multiplied, to the sides, at the top and the bottom. */
interface Ring {
  readonly side: number;
  readonly top: number;
  readonly bottom: number;
  /** How far behind the border, in half widths of the face, there. */
  readonly depth: readonly [side: number, top: number, bottom: number];
  readonly opacity: number;
}

const rings: readonly Ring[] = [
  { side: 1.06, top: 1.12, bottom: 1.05, depth: [0.1, 0.2, 0.3], opacity: 1 },
  { side: 1.14, top: 1.28, bottom: 1.16, depth: [0.4, 0.6, 0.5], opacity: 1 },
  { side: 1.22, top: 1.42, bottom: 1.35, depth: [0.9, 1.0, 0.7], opacity: 1 },
  { side: 1.4, top: 1.65, bottom: 1.7, depth: [1.3, 1.5, 0.9], opacity: 0 },
];

/** What all heads share: how their points hang together. */
export interface HeadTopology {
  /** Points of the mesh's border, in order around it. */
  readonly border: Uint16Array;
  /** Points of mesh and rings. */
  readonly points: number;
  /** [n, 3], all turning the same way. */
  readonly triangles: Uint16Array;
  /** For each point, that of the other half. */
  readonly mirror: Uint16Array;
  /** For each point, 1 where the head is solid, 0 where it has faded away. */
  readonly opacity: Float32Array;
  /** The points around what is solid: the head's outline in the photograph. */
  readonly outline: Uint16Array;
}

/** The edges that only one triangle has, as a loop. */
function borderOf(triangles: Uint16Array): Uint16Array {
  const next = new Map<number, number>();
  const edges = new Set<number>();
  for (let t = 0; t < triangles.length; t += 3)
    for (let k = 0; k < 3; k++)
      edges.add((triangles[t + k] ?? 0) * 65536 + (triangles[t + ((k + 1) % 3)] ?? 0));
  for (const edge of edges) {
    const [a, b] = [edge >>> 16, edge & 65535];
    if (!edges.has(b * 65536 + a)) next.set(a, b);
  }
  const [start = 0] = next.keys();
  const loop = [start];
  for (let at = next.get(start) ?? start; at !== start; at = next.get(at) ?? start) loop.push(at);
  return Uint16Array.from(loop);
}

let shared: HeadTopology | undefined;

export function headTopology(): HeadTopology {
  if (shared) return shared;
  const face = canonicalFace();
  const border = borderOf(face.triangles);
  const n = border.length;
  const points = meshPoints + rings.length * n;
  const at = (ring: number, i: number): number =>
    ring < 0 ? (border[i % n] ?? 0) : meshPoints + ring * n + (i % n);
  const triangles = [...face.triangles];
  const mirror = new Uint16Array(points);
  const opacity = new Float32Array(points).fill(1);
  mirror.set(face.mirror);
  rings.forEach((ring, r) =>
    border.forEach((point, i) => {
      triangles.push(at(r - 1, i + 1), at(r - 1, i), at(r, i), at(r - 1, i + 1), at(r, i), at(r, i + 1));
      mirror[at(r, i)] = at(r, border.indexOf(face.mirror[point] ?? 0));
      opacity[at(r, i)] = ring.opacity;
    }),
  );
  const outline = border.map((_, i) => at(rings.length - 2, i));
  shared = { border, points, triangles: Uint16Array.from(triangles), mirror, opacity, outline };
  return shared;
}

/** Writes the points [n, 3] of the head around `mesh` [468, 3]: the same frame and unit, in the pose of the photograph. */
export function buildHead(mesh: ArrayLike<number>, out: Float32Array): void {
  const { border } = headTopology();
  const { right, down, back } = headFrame(mesh);
  const [rx = 0, ry = 0, rz = 0] = right;
  const [dx = 0, dy = 0, dz = 0] = down;
  const [bx = 0, by = 0, bz = 0] = back;
  for (let i = 0; i < meshPoints * 3; i++) out[i] = mesh[i] ?? 0;
  let [cx, cy, cz] = [0, 0, 0];
  for (const i of border) {
    cx += (mesh[i * 3] ?? 0) / border.length;
    cy += (mesh[i * 3 + 1] ?? 0) / border.length;
    cz += (mesh[i * 3 + 2] ?? 0) / border.length;
  }
  // Along the head's own axes: how far each border point lies from the middle.
  const along = Float32Array.from(border, (i) => {
    const [x, y, z] = [(mesh[i * 3] ?? 0) - cx, (mesh[i * 3 + 1] ?? 0) - cy, (mesh[i * 3 + 2] ?? 0) - cz];
    return rx * x + ry * y + rz * z;
  });
  const half = along.reduce((most, u) => Math.max(most, Math.abs(u)), 0);
  border.forEach((i, n) => {
    const x = (mesh[i * 3] ?? 0) - cx;
    const y = (mesh[i * 3 + 1] ?? 0) - cy;
    const z = (mesh[i * 3 + 2] ?? 0) - cz;
    const u = along[n] ?? 0;
    const v = dx * x + dy * y + dz * z;
    const w = bx * x + by * y + bz * z;
    const length = Math.hypot(u, v) || 1;
    // Shares of top, bottom and side: they sum to one.
    const top = Math.max(0, -v / length) ** 2;
    const bottom = Math.max(0, v / length) ** 2;
    const side = 1 - top - bottom;
    rings.forEach((ring, r) => {
      const factor = ring.side * side + ring.top * top + ring.bottom * bottom;
      const depth = ring.depth[0] * side + ring.depth[1] * top + ring.depth[2] * bottom;
      const [pu, pv, pw] = [u * factor, v * factor, w + depth * half];
      const to = (meshPoints + r * border.length + n) * 3;
      out[to] = cx + rx * pu + dx * pv + bx * pw;
      out[to + 1] = cy + ry * pu + dy * pv + by * pw;
      out[to + 2] = cz + rz * pu + dz * pv + bz * pw;
    });
  });
}
