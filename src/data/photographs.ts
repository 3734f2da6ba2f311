// Photographs from any of the formats as a set to train on. The first scan reads and decodes every image, so that a broken one is known
// by name before training starts; what was found is remembered by the set's path and, for each file, its size and time of change.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import * as z from 'zod';
import { UserError } from '../tensor/errors.js';
import { writeAtomic } from '../train/atomic.js';
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
  onProgress?: (images: number, total: number) => void;
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

/** What was found at the last scan: for each file checked its stamp, and the broken images with the reason. */
const remembered = z.object({
  stamps: z.record(z.string(), z.string()),
  broken: z.record(z.string(), z.string()),
});
type Remembered = z.infer<typeof remembered>;

function recall(file: string | null): Remembered {
  const nothing = { stamps: {}, broken: {} };
  if (!file || !existsSync(file)) return nothing;
  try {
    return remembered.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return nothing; // a damaged cache is no cache
  }
}

/** What tells one state of a file from another. */
export const stampOf = (file: string): string => {
  const found = statSync(file, { throwIfNoEntry: false });
  return found ? `${found.size} ${found.mtimeMs}` : 'missing';
};

/** The reason for each image that cannot be used. */
async function findFaults(
  { path, source }: Archive,
  options: PhotographOptions,
): Promise<ReadonlyMap<number, string>> {
  const { workers = availableParallelism(), cache = cacheFolder, onProgress } = options;
  const hash = createHash('sha1').update(resolve(path)).digest('hex').slice(0, 16);
  const file = cache && join(writableCache(cache), `checked-${hash}.json`);
  const known = recall(file);
  const now: Remembered = { stamps: {}, broken: {} };
  const reasons = new Map<number, string>();
  const keyOf = (item: number) => imageKey(source, item);
  const note = (item: number, reason: string | null | undefined) => {
    if (!reason) return;
    reasons.set(item, reason);
    now.broken[keyOf(item)] = reason;
  };
  const fresh: number[] = [];
  for (let item = 0; item < sourceLength(source); item++) {
    const container = source.kind === 'files' ? join(source.root, keyOf(item)) : source.file;
    const stamp = (now.stamps[container] ??= stampOf(container));
    if (known.stamps[container] === stamp) note(item, known.broken[keyOf(item)]);
    else fresh.push(item);
  }
  if (fresh.length === 0) return reasons;
  const pool = new WorkerPool(workers, { source });
  try {
    // Images that follow each other make one job.
    const stretches: [number, number][] = [];
    for (const item of fresh) {
      const last = stretches.at(-1);
      if (last && last[1] === item && item - last[0] < stretch) last[1]++;
      else stretches.push([item, item + 1]);
    }
    let done = 0;
    await Promise.all(
      stretches.map(async ([begin, end]) => {
        const found = await pool.run({ kind: 'check', begin, end });
        for (let item = begin; item < end; item++) note(item, found[item - begin]);
        done += end - begin;
        onProgress?.(done, fresh.length);
      }),
    );
  } finally {
    await pool.close();
  }
  if (file) writeAtomic(file, JSON.stringify(now));
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
