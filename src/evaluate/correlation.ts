// How alike the sub-embeddings are (Fig. 5 of the paper: "the correlation is computed in terms of distance to class center").
// Embeddings F [n, K, d]: image i, sub-embedding k. With unit vectors f_i^(k) and the class centre c_y^(k), the unit vector along
// the mean of f_i^(k) over the images of identity y, each image has K distances
//   r_i^(k) = 1 - f_i^(k) . c_{y_i}^(k)
// and entry (k, l) of the matrix [K, K] is the Pearson correlation of r^(k) and r^(l) over the images. The figure reported is the
// mean of |entry| over k != l: 1 when all sub-embeddings find the same images hard, 0 when each has its own.
// Images without an identity (a label below 0), and identities with one image, whose distance is 0 by construction, are left out.
import { UserError } from '../tensor/errors.js';

export interface Correlation {
  /** [K, K], row by row. NaN in the rows and columns of a sub-embedding whose distance is the same for all images. */
  matrix: Float64Array;
  /** Mean absolute entry off the diagonal; null where that is not defined: K = 1, a NaN entry, or no identity with two images. */
  mean: number | null;
  /** Images of identities with at least two. */
  images: number;
}

/** `labels`: the identity of each image, -1 where it is not known; `groups`: K; `size`: d, length of one sub-embedding. */
export function subEmbeddingCorrelation(
  embeddings: Float32Array | Float64Array,
  labels: ArrayLike<number>,
  groups: number,
  size: number,
): Correlation {
  const width = groups * size;
  if (embeddings.length !== labels.length * width)
    throw new UserError(
      `correlation: expected embeddings [${labels.length}, ${groups}, ${size}], got ${embeddings.length} numbers`,
    );
  const finite = embeddings.findIndex((value) => !Number.isFinite(value));
  if (finite >= 0)
    throw new UserError(
      `correlation: the embedding of image ${Math.floor(finite / width)} has a value that is not finite`,
    );
  const unit = normalizeRows(Float64Array.from(embeddings), size);

  const byIdentity = new Map<number, number[]>();
  for (let i = 0; i < labels.length; i++) {
    if (labels[i]! < 0) continue;
    const images = byIdentity.get(labels[i]!);
    if (images) images.push(i);
    else byIdentity.set(labels[i]!, [i]);
  }
  const distances: Float64Array[] = [];
  for (const images of byIdentity.values()) {
    if (images.length < 2) continue;
    const centre = new Float64Array(width);
    for (const i of images) for (let j = 0; j < width; j++) centre[j]! += unit[i * width + j]!;
    normalizeRows(centre, size);
    for (const i of images) {
      const distance = new Float64Array(groups).fill(1);
      for (let j = 0; j < width; j++) distance[Math.floor(j / size)]! -= unit[i * width + j]! * centre[j]!;
      distances.push(distance);
    }
  }
  const matrix = pearson(distances, groups);
  let sum = 0;
  for (let i = 0; i < matrix.length; i++) if (i % (groups + 1) !== 0) sum += Math.abs(matrix[i]!);
  const mean = sum / (groups * (groups - 1));
  return { matrix, mean: Number.isFinite(mean) ? mean : null, images: distances.length };
}

/** Divides each run of `size` numbers by its length, in place; a zero vector stays zero. */
function normalizeRows(values: Float64Array, size: number): Float64Array {
  for (let start = 0; start < values.length; start += size) {
    const row = values.subarray(start, start + size);
    const norm = Math.hypot(...row);
    if (norm > 0) for (let j = 0; j < size; j++) row[j]! /= norm;
  }
  return values;
}

function pearson(rows: readonly Float64Array[], columns: number): Float64Array {
  const mean = new Float64Array(columns);
  for (const row of rows) for (let k = 0; k < columns; k++) mean[k]! += row[k]! / rows.length;
  const covariance = new Float64Array(columns * columns);
  for (const row of rows)
    for (let k = 0; k < columns; k++)
      for (let l = 0; l < columns; l++)
        covariance[k * columns + l]! += (row[k]! - mean[k]!) * (row[l]! - mean[l]!);
  // Distances around 1 carry rounding of 1e-16 each: a spread of that size is none.
  const spread = Float64Array.from({ length: columns }, (_, k) => {
    const deviation = Math.sqrt(covariance[k * (columns + 1)]!);
    return deviation > 1e-14 * Math.sqrt(rows.length) ? deviation : NaN;
  });
  return covariance.map((value, at) => value / (spread[Math.floor(at / columns)]! * spread[at % columns]!));
}
