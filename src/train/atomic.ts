// Files that are either the old one or the new one, whole: written under a temporary name beside the target, forced to the disk,
// then renamed over it. After a failure the old file is as it was and the temporary one is gone.
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeSync,
  type Stats,
} from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { UserError } from '../tensor/errors.js';

/** Replaces `file` by `content`, or by what `content` writes to the open file it is given. */
export function writeAtomic(
  file: string,
  content: string | Uint8Array | ((descriptor: number) => void),
): void {
  const temporary = temporaryOf(file);
  let descriptor: number | undefined;
  try {
    descriptor = openSync(temporary, 'w');
    if (typeof content === 'function') content(descriptor);
    else writeAll(descriptor, typeof content === 'string' ? Buffer.from(content) : content);
    fsyncSync(descriptor);
    closeSync(descriptor);
    descriptor = undefined;
    renameSync(temporary, file);
  } catch (error) {
    if (descriptor !== undefined) closeSync(descriptor);
    removeIfThere(temporary);
    throw explainFileError(error, `write ${file}`);
  }
  syncFolder(dirname(file));
}

/**
 * Checks, before any work, where its result is to go.
 * @param option that names the file, for the message
 * @throws UserError unless the name ends as one of the formats does, its folder exists and it can be written there
 */
export function checkOutput(option: string, file: string, formats: readonly string[]): void {
  if (!formats.includes(extname(file)))
    throw new UserError(`${option} ${file}: expected a name that ends in ${formats.join(', ')}`);
  if (!explaining(`write ${file}`, () => statIfThere(dirname(file)))?.isDirectory())
    throw new UserError(`${option} ${file}: expected a folder at ${dirname(file)}, found none`);
  checkWritable(file);
}

/** Replaces `file` by what `fill` writes to the path that it is given. */
export const replaceFile = (file: string, fill: (temporary: string) => Promise<void>): Promise<void> =>
  replaceFiles(new Map([[file, fill]]));

/** The same for files that belong together: none is replaced before all are written. */
export async function replaceFiles(
  fills: ReadonlyMap<string, (temporary: string) => void | Promise<void>>,
): Promise<void> {
  const files = [...fills].map(([file, fill]) => ({ file, fill, temporary: temporaryOf(file) }));
  const explained = async (file: string, write: () => void | Promise<void>) => {
    try {
      await write();
    } catch (error) {
      for (const { temporary } of files) removeIfThere(temporary);
      throw explainFileError(error, `write ${file}`);
    }
  };
  for (const { file, fill, temporary } of files)
    await explained(file, async () => {
      await fill(temporary);
      syncFile(temporary);
    });
  for (const { file, temporary } of files) await explained(file, () => renameSync(temporary, file));
  for (const { file } of files) syncFolder(dirname(file));
}

/** Forces what was written to a file to the disk. */
export function syncFile(file: string): void {
  const descriptor = openSync(file, 'r+');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Checks, before any work, that `file` can be written where it is to go. */
export function checkWritable(file: string): void {
  if (explaining(`write ${file}`, () => statIfThere(file))?.isDirectory())
    throw new UserError(`cannot write ${file}: it is a folder`);
  const temporary = temporaryOf(file);
  try {
    closeSync(openSync(temporary, 'w'));
    rmSync(temporary);
  } catch (error) {
    throw explainFileError(error, `write ${file}`);
  }
}

const temporaryOf = (file: string) => join(dirname(file), `.${basename(file)}.${process.pid}.tmp`);

function removeIfThere(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // Its folder is none: what failed before says so.
  }
}

/**
 * Makes a folder, and those above it, where they are not there yet. Commands do so before any work whose result is to go there.
 * @param name what to call it in the sentence that says why it cannot be made
 */
export function makeFolder(folder: string, name = `the folder ${folder}`): void {
  try {
    makeFolders(folder);
  } catch (error) {
    throw explainFileError(error, `make ${name}`);
  }
}

/** One after the other: where none can be made, as in /proc, Node's recursive mkdir tries for ever. */
function makeFolders(folder: string): void {
  const isFolder = () => statIfThere(folder)?.isDirectory() === true;
  if (isFolder()) return;
  if (!existsSync(dirname(folder))) makeFolders(dirname(folder));
  try {
    mkdirSync(folder);
  } catch (error) {
    // Another process may have made it meanwhile.
    if (!isFolder()) throw error;
  }
}

/** Writes every byte; the system may take fewer at a time than it is given, and no more than 2 GiB. */
export function writeAll(descriptor: number, data: Uint8Array, position?: number): void {
  const most = 1 << 28;
  for (let done = 0; done < data.length;)
    done += writeSync(
      descriptor,
      data,
      done,
      Math.min(most, data.length - done),
      position === undefined ? null : position + done,
    );
}

/** Removes what processes that were killed while writing into `folder` left behind. */
export function removeTemporaries(folder: string): void {
  for (const name of explaining(`read ${folder}`, () => readdirSync(folder)))
    if (/^\..*\.\d+\.tmp$/.test(name)) rmSync(join(folder, name), { force: true });
}

const reasons: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOENT: 'no such file or folder',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'it is a folder',
  EFBIG: 'the file would be too large',
  EEXIST: 'a file of that name is there',
  EIO: 'the disk reports an input/output error',
};

/** An error of the file system as a sentence, `what` being for example "write a/b"; anything else is given back as it is. */
export function explainFileError(error: unknown, what: string): unknown {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return error;
  const code = String(error.code);
  return new UserError(`cannot ${what}: ${reasons[code] ?? code}`, { cause: error });
}

/** Does `work`, whose errors of the file system are told as `explainFileError` tells them. */
export function explaining<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw explainFileError(error, what);
  }
}

/** The errors of links that lead nowhere: to nothing, below a file, in a circle. */
export const nowhere = ['ENOENT', 'ENOTDIR', 'ELOOP'];

/**
 * What is at a path, if anything is. Node's `throwIfNoEntry` means other errors from 22 on than before.
 * @param absent the errors that say that nothing is; by default a path below a file is refused
 */
export function statIfThere(path: string, absent: readonly string[] = ['ENOENT']): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && absent.includes(String(error.code))) return undefined;
    throw error;
  }
}

/** Makes a rename outlive a power failure, where the system can. */
function syncFolder(folder: string): void {
  let descriptor: number;
  try {
    descriptor = openSync(folder, 'r');
  } catch {
    return; // Windows cannot open a folder; the rename is done all the same.
  }
  try {
    fsyncSync(descriptor);
  } catch {
    // Some network file systems refuse it.
  } finally {
    closeSync(descriptor);
  }
}

/** The folder and those above it that are not there, the innermost first. */
export const missingFolders = (folder: string): string[] =>
  existsSync(folder) ? [] : [folder, ...missingFolders(dirname(folder))];

/** Removes those that are there and hold nothing. */
export function removeEmpty(folders: readonly string[]): void {
  for (const folder of folders)
    try {
      rmdirSync(folder);
    } catch {
      // Something is in it, or it was not made.
    }
}
