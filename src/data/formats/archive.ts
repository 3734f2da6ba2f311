/** A set of encoded images with labels, in any of the formats that are read; which one is told by the path. */
import { existsSync } from 'node:fs';
import { extname } from 'node:path';
import { UserError } from '../../tensor/errors.js';
import { explaining, statIfThere } from '../../train/atomic.js';
import type { Pairs } from '../pairs.js';
import { openBin } from './bin.js';
import { isCfpSplit, openCfp } from './cfp.js';
import { openFolder } from './folder.js';
import type { ImageSource } from './image-source.js';
import { openList } from './list.js';
import { openParquet } from './parquet.js';
import { openRecordIo } from './recordio.js';

export type ArchiveKind = 'folder' | 'recordio' | 'bin' | 'list' | 'parquet';

export interface Archive {
  readonly kind: ArchiveKind;
  readonly path: string;
  readonly source: ImageSource;
  /** For each image, the number of its identity. */
  readonly labels: Int32Array;
  /** For each identity, its name. A verification set has no identities. */
  readonly names: readonly string[];
  /** Of a verification set: which images are compared. */
  readonly pairs?: Pairs;
  /** What is odd but no error. */
  readonly notes: readonly string[];
}

const expected =
  'expected a folder of <identity>/<image>, or a file .rec (RecordIO), .bin (verification), .parquet, or .lst, .csv, .tsv, .txt (list)';

/** The kind that a path has, or would have when written. */
export function archiveKind(path: string): ArchiveKind {
  const found = explaining(`open ${path}`, () => statIfThere(path));
  if (found?.isDirectory()) return 'folder';
  switch (extname(path).toLowerCase()) {
    case '.rec':
      return 'recordio';
    case '.bin':
      return 'bin';
    case '.parquet':
      return 'parquet';
    case '.lst':
    case '.csv':
    case '.tsv':
    case '.txt':
      return 'list';
    case '':
      return 'folder';
    default:
      throw new UserError(`${expected}, found ${path}`);
  }
}

/**
 * Opens what is at `path`. Only what says where images and labels are is read, no image.
 * @param images for a list, the folder its paths start from; by default its own
 */
export async function openArchive(path: string, images?: string | null): Promise<Archive> {
  if (!existsSync(path)) throw new UserError(`${expected}, found none at ${path}`);
  switch (archiveKind(path)) {
    case 'folder':
      return isCfpSplit(path) ? openCfp(path) : openFolder(path);
    case 'recordio':
      return openRecordIo(path);
    case 'bin':
      return openBin(path);
    case 'parquet':
      return openParquet(path);
    case 'list':
      return openList(path, images);
  }
}
