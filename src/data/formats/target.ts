/**
 * Where a set may be written, and what may be written there: found out before any work. An attempt has the name `*.part`; one that was cut
 * off goes on only where it was made from the same images.
 */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import * as z from 'zod';
import { UserError } from '../../tensor/errors.js';
import { checkUnlocked } from '../../train/run-lock.js';
import { archiveKind, type Archive, type ArchiveKind } from './archive.js';

/** What a set is made of. */
export interface Content {
  readonly archive: Archive;
  /** Its images in the order in which they are written: by ascending labels. */
  readonly order: Int32Array;
  /** Left out, no attempt goes on. */
  readonly origin?: Origin;
}

/** What a set is made from. An attempt that was cut off goes on only if it was made from the same. */
export interface Origin {
  /** Path of the set that the images are taken from. */
  readonly path: string;
  /** Of all that says which images come in which order. */
  readonly digest: string;
}

/** Without slashes at its end: a name beside it would lie in it. */
export const withoutSlash = (path: string) => path.replace(/(?<=[^/])\/+$/, '');
export const partOf = (path: string) => `${withoutSlash(path)}.part`;
export const indexOf = (path: string) => path.replace(/\.rec$/i, '.idx');

/** A path as the system knows it: links are followed as far as there is something. */
function realPath(path: string): string {
  const full = resolve(path);
  if (existsSync(full)) return realpathSync(full);
  return dirname(full) === full ? full : join(realPath(dirname(full)), basename(full));
}

/** Whether `path` is `folder` or lies in it. */
export function isWithin(path: string, folder: string): boolean {
  return `${realPath(path)}${sep}`.startsWith(`${realPath(folder)}${sep}`);
}

/**
 * Checks, before anything is written, that a set can be written to `path`: nothing is there, neither the set nor an attempt made from
 * something else, no other process writes there, a folder does not become an identity of the folder that it is made from, and the format
 * can hold what it is made of.
 */
export function checkTarget(path: string, content?: Content): void {
  const kind = archiveKind(path);
  if (kind === 'list')
    throw new UserError(
      `a list holds no images: expected a folder, .rec, .bin or .parquet to write, got ${path}`,
    );
  if (kind !== 'folder' && path !== withoutSlash(path))
    throw new UserError(`${path}: expected the name of a file, without a slash at its end`);
  if (existsSync(path) && !(kind === 'folder' && readdirSync(path).length === 0))
    throw new UserError(`${path} is there already: expected a new name`);
  if (kind === 'folder' && content?.archive.kind === 'folder' && isWithin(path, content.archive.path))
    throw new UserError(
      `${path} lies in ${content.archive.path}, which it is made from: expected a place outside of it`,
    );
  if (content) checkContent(path, kind, content);
  if (existsSync(dirname(path))) checkUnlocked(withoutSlash(path));
  const part = partOf(path);
  // Others are started anew.
  if (kind !== 'folder' && kind !== 'recordio') return;
  const attempt = existsSync(part);
  // The index is written last: beside an attempt it is that attempt's.
  if (kind === 'recordio' && !attempt && existsSync(indexOf(path)))
    throw new UserError(`${indexOf(path)} is there already: expected a name without an index, got ${path}`);
  if (!attempt) return;
  const before = readOrigin(kind === 'folder' ? join(part, originName) : partOf(indexOf(path)));
  const origin = content?.origin;
  const remove = 'remove it to start anew';
  if (!origin || !before)
    throw new UserError(`${part} is of a run that was cut off and cannot go on: ${remove}`);
  if (before.path !== origin.path)
    throw new UserError(`${part} was begun from ${before.path}, expected ${origin.path}: ${remove}`);
  if (before.digest !== origin.digest)
    throw new UserError(
      `${part} was begun from other images of ${origin.path} than there are now: ${remove}`,
    );
}

/** Checks that the format can hold these images. */
function checkContent(path: string, kind: ArchiveKind, { archive, order }: Content): void {
  const identities = new Set(order.map((image) => archive.labels[image] ?? -1));
  if (kind === 'recordio') checkCounts(path, order.length, identities.size);
  if (kind === 'folder')
    for (const identity of identities) checkFolderName(path, archive.names[identity] ?? '');
}

/** Checks that the numbers of a .rec, which are float32, can tell its records apart. */
export function checkCounts(path: string, images: number, identities: number): void {
  const most = 2 ** 24 - 1;
  if (images + identities > most)
    throw new UserError(
      `${path}: expected at most ${most} images and identities together, found ${images} and ${identities}: write .parquet or a folder`,
    );
}

export function checkFolderName(path: string, identity: string): void {
  // Names that begin with a dot are not read (folder.ts).
  if (identity === '' || /[/\\\0]|^\./.test(identity))
    throw new UserError(
      `${path}: expected identities that can be names of folders, found "${identity}": write .rec or .parquet`,
    );
}

/** Name of the file in a folder's attempt that holds its origin; the attempt of a .rec has it in the first line of its index. */
export const originName = '.origin';

function readOrigin(file: string): Origin | undefined {
  try {
    const [line = ''] = readFileSync(file, 'utf8').split('\n', 1);
    return z.object({ path: z.string(), digest: z.string() }).parse(JSON.parse(line));
  } catch {
    return undefined; // there is none
  }
}
