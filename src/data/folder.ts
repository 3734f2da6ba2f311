// Folders of photographs, <identity>/<image>. The first scan reads and decodes every file, so that a broken one is known by name
// before training starts; what was found is remembered by path, size and time of change.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { extname, join, resolve } from 'node:path';
import { UserError } from '../tensor/errors.js';
import { writeAtomic } from '../train/atomic.js';
import { FaceSet } from './face-set.js';
import { imageExtensions } from './image-file.js';
import { WorkerPool } from './jobs.js';

export interface FolderOptions {
  /** Side in pixels to which images are brought (image-file.ts says how). */
  size: number;
  /** Identities with fewer usable images are left out; 1 keeps all. */
  minImagesPerIdentity?: number;
  /** At most so many identities, the first by name; null for all. */
  maxIdentities?: number | null;
  /** Threads that check files; 0 checks in the calling one. */
  workers?: number;
  /** Where to remember what was checked; null checks again each time. */
  cache?: string | null;
  onProgress?: (files: number, total: number) => void;
}

/** What a scan found. */
export interface FolderScan {
  readonly faces: FaceSet;
  /** Files that cannot be used, and why. */
  readonly broken: readonly { readonly file: string; readonly reason: string }[];
  /** Identities left out because they have too few usable images. */
  readonly tooFew: number;
}

interface Found {
  readonly path: string;
  readonly stamp: string;
}

const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function listImages(root: string): Found[] {
  let entries;
  try {
    entries = readdirSync(root, { withFileTypes: true });
  } catch {
    throw new UserError(`expected a folder of <identity>/<image>, found none at ${root}`);
  }
  const folders = entries.filter((entry) => entry.isDirectory() || entry.isSymbolicLink());
  const found: Found[] = [];
  for (const { name } of folders.sort((a, b) => byName(a.name, b.name))) {
    const folder = join(root, name);
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) continue;
    for (const file of readdirSync(folder).sort(byName)) {
      if (!imageExtensions.includes(extname(file).toLowerCase())) continue;
      const { size, mtimeMs } = statSync(join(folder, file), { throwIfNoEntry: false }) ?? {
        size: 0,
        mtimeMs: 0,
      };
      found.push({ path: `${name}/${file}`, stamp: `${size} ${mtimeMs}` });
    }
  }
  return found;
}

// path -> [stamp, reason or null]
type Remembered = Record<string, [string, string | null]>;

function recall(file: string | null): Remembered {
  if (!file || !existsSync(file)) return {};
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Remembered;
  } catch {
    return {}; // a damaged cache is no cache
  }
}

async function findFaults(
  root: string,
  images: readonly Found[],
  options: FolderOptions,
): Promise<Remembered> {
  const { workers = availableParallelism(), cache = '.turl-cache', onProgress } = options;
  const key = createHash('sha1').update(resolve(root)).digest('hex').slice(0, 16);
  const file = cache && join(cache, `folder-${key}.json`);
  const known = recall(file);
  const result: Remembered = {};
  const fresh: Found[] = [];
  for (const image of images) {
    const entry = known[image.path];
    if (entry && entry[0] === image.stamp) result[image.path] = entry;
    else fresh.push(image);
  }
  if (fresh.length === 0) return result;
  const pool = new WorkerPool(workers, { faces: null, ring: null });
  try {
    const piece = 64;
    let done = 0;
    const pieces = Array.from({ length: Math.ceil(fresh.length / piece) }, (_, i) =>
      fresh.slice(i * piece, (i + 1) * piece),
    );
    await Promise.all(
      pieces.map(async (list) => {
        const reasons = await pool.run({ kind: 'check', files: list.map(({ path }) => join(root, path)) });
        list.forEach(({ path, stamp }, i) => (result[path] = [stamp, reasons?.[i] ?? null]));
        done += list.length;
        onProgress?.(done, fresh.length);
      }),
    );
  } finally {
    await pool.close();
  }
  if (cache && file) {
    mkdirSync(cache, { recursive: true });
    writeAtomic(file, JSON.stringify(result));
  }
  return result;
}

/** Scans `root`. Broken images are left out and named in the result; an empty or one-identity folder is an error. */
export async function scanFolder(root: string, options: FolderOptions): Promise<FolderScan> {
  const { size, minImagesPerIdentity = 1, maxIdentities = null } = options;
  const images = listImages(root);
  if (images.length === 0)
    throw new UserError(
      `expected images (${imageExtensions.join(', ')}) in ${join(root, '<identity>')} folders, found none`,
    );
  const faults = await findFaults(root, images, options);
  const broken: { file: string; reason: string }[] = [];
  const byIdentity = new Map<string, string[]>();
  for (const { path } of images) {
    const name = path.slice(0, path.indexOf('/'));
    const list = byIdentity.get(name) ?? [];
    byIdentity.set(name, list);
    const reason = faults[path]?.[1];
    if (reason) broken.push({ file: join(root, path), reason });
    else list.push(path);
  }
  const enough = [...byIdentity].filter(([, list]) => list.length >= Math.max(1, minImagesPerIdentity));
  const kept = maxIdentities === null ? enough : enough.slice(0, maxIdentities);
  if (kept.length < 2) {
    const first = broken[0];
    throw new UserError(
      `expected at least 2 identities with ${minImagesPerIdentity} or more usable images in ${root}, found ${kept.length} of ${byIdentity.size} folders` +
        (first ? ` (${broken.length} broken images, the first ${first.file}: ${first.reason})` : ''),
    );
  }
  const files = kept.flatMap(([, list]) => list);
  const faces = new FaceSet({
    source: { kind: 'folder', root, files },
    size,
    items: Int32Array.from(files, (_, i) => i),
    labels: Int32Array.from(kept.flatMap(([, list], label) => list.map(() => label))),
    names: kept.map(([name]) => name),
    rendered: null,
  });
  return { faces, broken, tooFew: byIdentity.size - enough.length };
}
