// Photographs from any of the formats as a set to train on. The first scan reads and decodes every image, so that a broken one is known
// by name before training starts; what was found is remembered by the set's path and, for each file, its size and time of change.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import * as z from 'zod';
import { UserError } from '../tensor/errors.js';
import { nowhere, statIfThere } from '../train/atomic.js';
import { readSafetensors, writeSafetensors } from '../train/safetensors.js';
import { cacheFolder, writableCache } from './cache.js';
import { FaceSet } from './face-set.js';
import { openArchive, type Archive } from './formats/archive.js';
import { imageFile, imageKey, sourceLength } from './formats/image-source.js';
import { meshFileOf, openMeshes, type MeshTable } from '../pose/mesh-file.js';
import { stretch, WorkerPool } from './jobs.js';

export interface PhotographOptions {
  /** Side in pixels to which images are brought (image-file.ts says how). */
  size: number;
  /** Identities with fewer usable images are left out; 1 keeps all. */
  minImagesPerIdentity?: number;
  /** Identities with more usable images are left out; null keeps all. */
  maxImagesPerIdentity?: number | null;
  /** At most so many identities, the first ones; null for all. */
  maxIdentities?: number | null;
  /** Threads that check images; 0 checks in the calling one. */
  workers?: number;
  /** Where to remember what was checked; null checks again each time. */
  cache?: string | null;
  onProgress?: ((images: number, total: number) => void) | undefined;
}

/** What a scan found. */
export interface Photographs {
  readonly faces: FaceSet;
  /** Images that cannot be used, and why. */
  readonly broken: readonly { readonly file: string; readonly reason: string }[];
  /** Identities left out because they have too few or too many usable images. */
  readonly leftOut: number;
  readonly archive: Archive;
}

/** What was found at the last scan. */
interface Remembered {
  /** A number for each file checked, of its path and stamp, ascending: as text those of millions of files would make no string. */
  readonly checked: BigUint64Array;
  /** The broken images, with the reason. */
  readonly broken: Readonly<Record<string, string>>;
}
const brokenSchema = z.record(z.string(), z.string());

function recall(file: string | null): Remembered {
  const nothing = { checked: new BigUint64Array(), broken: {} };
  if (!file || !existsSync(file)) return nothing;
  try {
    const { tensors, metadata } = readSafetensors(file);
    const bytes = Uint8Array.from(tensors.get('checked')?.data ?? []);
    return {
      checked: new BigUint64Array(bytes.buffer),
      broken: brokenSchema.parse(JSON.parse(metadata['broken'] ?? '')),
    };
  } catch {
    return nothing; // a damaged cache is no cache
  }
}

function remember(file: string, checked: BigUint64Array, broken: Remembered['broken']): void {
  const data = new Uint8Array(checked.sort().buffer);
  writeSafetensors(file, new Map([['checked', { dtype: 'uint8', shape: [data.length], data }]]), {
    broken: JSON.stringify(broken),
  });
}

/** Whether ascending numbers hold one. */
function holds(sorted: BigUint64Array, wanted: bigint): boolean {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0n) < wanted) low = middle + 1;
    else high = middle;
  }
  return sorted[low] === wanted;
}

/** What tells one state of a file from another. */
export const stampOf = (file: string): string => {
  const found = statIfThere(file, nowhere);
  return found ? `${found.size} ${found.mtimeMs}` : 'missing';
};

/** The reason for each image that cannot be used. */
async function findFaults(
  { path, source }: Archive,
  options: PhotographOptions,
): Promise<ReadonlyMap<number, string>> {
  const { workers = availableParallelism(), cache = cacheFolder, onProgress } = options;
  const hash = createHash('sha1').update(resolve(path)).digest('hex').slice(0, 16);
  const file = cache && join(writableCache(cache), `checked-${hash}.safetensors`);
  const known = recall(file);
  const total = sourceLength(source);
  const broken: Record<string, string> = {};
  const reasons = new Map<number, string>();
  const keyOf = (item: number) => imageKey(source, item);
  const note = (item: number, reason: string | null | undefined) => {
    if (!reason) return;
    reasons.set(item, reason);
    broken[keyOf(item)] = reason;
  };
  const stateOf = (container: string) =>
    createHash('sha1')
      .update(`${container}\0${stampOf(container)}`)
      .digest()
      .readBigUInt64LE();
  const checked = new BigUint64Array(source.kind === 'files' ? total : 1);
  if (source.kind !== 'files') checked[0] = stateOf(source.file);
  // Images that follow each other make one job.
  const fresh: [number, number][] = [];
  for (let item = 0; item < total; item++) {
    if (source.kind === 'files') checked[item] = stateOf(join(source.root, keyOf(item)));
    const state = checked[source.kind === 'files' ? item : 0] ?? 0n;
    const last = fresh.at(-1);
    if (holds(known.checked, state)) note(item, known.broken[keyOf(item)]);
    else if (last && last[1] === item && item - last[0] < stretch) last[1]++;
    else fresh.push([item, item + 1]);
  }
  if (fresh.length === 0) return reasons;
  const count = fresh.reduce((sum, [begin, end]) => sum + end - begin, 0);
  const pool = new WorkerPool(workers, { source });
  try {
    let done = 0;
    const jobs = fresh.map(([begin, end]) => ({ kind: 'check', begin, end }) as const);
    await pool.runAll(jobs, (found, { begin, end }) => {
      for (let item = begin; item < end; item++) note(item, found[item - begin]);
      done += end - begin;
      onProgress?.(done, count);
    });
  } finally {
    await pool.close();
  }
  if (file) remember(file, checked, broken);
  return reasons;
}

/**
 * Opens the photographs at `place`, a path of any format or what has been opened. Broken images are left out and named in the result; fewer than two identities are an
 * error.
 */
export async function openPhotographs(
  place: string | Archive,
  options: PhotographOptions,
): Promise<Photographs> {
  const { minImagesPerIdentity = 1, maxImagesPerIdentity = null, maxIdentities = null } = options;
  const archive = typeof place === 'string' ? await openArchive(place) : place;
  const { faces, broken } = await usableImages(archive, options);
  const counts = new Int32Array(faces.identities);
  faces.data.labels.forEach((label) => (counts[label] = (counts[label] ?? 0) + 1));
  const [least, most] = [Math.max(1, minImagesPerIdentity), maxImagesPerIdentity ?? Infinity];
  const suited: number[] = [];
  counts.forEach((count, identity) => {
    if (count >= least && count <= most) suited.push(identity);
  });
  const kept = maxIdentities === null ? suited : suited.slice(0, maxIdentities);
  if (kept.length < 2) {
    const [first] = broken;
    throw new UserError(
      `expected at least 2 identities with ${least} ${most < Infinity ? `to ${most}` : 'or more'} usable images in ${archive.path}, found ${kept.length} of ${faces.identities}` +
        (first ? ` (${broken.length} broken images, the first ${first.file}: ${first.reason})` : ''),
    );
  }
  return {
    faces: kept.length === faces.identities ? faces : faces.subset(kept),
    broken,
    leftOut: faces.identities - suited.length,
    archive,
  };
}

function meshesOf({ path, kind, source }: Archive): MeshTable | null {
  return openMeshes(meshFileOf(path, kind === 'folder'), sourceLength(source)) ?? null;
}

/** The images of an archive that can be decoded, in its order. */
export async function usableImages(
  archive: Archive,
  options: PhotographOptions,
): Promise<{ faces: FaceSet; broken: Photographs['broken']; reasons: ReadonlyMap<number, string> }> {
  const { source, labels, names } = archive;
  const reasons = await findFaults(archive, options);
  const items = Int32Array.from(labels.keys()).filter((item) => !reasons.has(item));
  const faces = new FaceSet({
    source: { kind: 'photographs', images: source, meshes: meshesOf(archive) },
    size: options.size,
    items,
    labels: items.map((item) => labels[item] ?? -1),
    names,
    rendered: null,
  });
  const broken = [...reasons]
    .sort(([a], [b]) => a - b)
    .map(([item, reason]) => ({ file: imageFile(source, item), reason }));
  return { faces, broken, reasons };
}
