/** Where is kept what need not be found out twice: results of scans, and unpacked Parquet. It can be deleted at any time. */
import { accessSync, constants } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeFolder } from '../train/atomic.js';

export const cacheFolder = '.turl-cache';

/** `folder`, made where it is not there yet; where it cannot be written to, one of this user's among the system's temporary files. */
export function writableCache(folder: string): string {
  try {
    makeFolder(folder);
    accessSync(folder, constants.W_OK);
    return folder;
  } catch {
    const other = join(tmpdir(), `turl-cache-${process.getuid?.() ?? 'user'}`);
    makeFolder(other);
    return other;
  }
}
