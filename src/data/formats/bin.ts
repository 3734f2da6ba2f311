/**
 * Verification sets as InsightFace keeps them (lfw.bin and others): a pickle of two lists, the encoded images, and for each pair of
 * neighbouring images whether they show one person. The folds of the protocol are ten stretches of pairs, as even as can be.
 */
import { readFileSync } from 'node:fs';
import { UserError } from '../../tensor/errors.js';
import type { Pairs } from '../pairs.js';
import type { Archive } from './archive.js';
import { pickledBytes, readPickle, type Pickled } from './pickle.js';

export const binFolds = 10;

/** Pairs of neighbouring images. */
export function neighbourPairs(genuine: boolean[]): Pairs {
  const count = genuine.length;
  // The first count % folds folds have one pair more.
  const longer = count % binFolds;
  const size = Math.floor(count / binFolds);
  const foldOf = (i: number) =>
    i < longer * (size + 1)
      ? Math.floor(i / (size + 1))
      : longer + Math.floor((i - longer * (size + 1)) / Math.max(1, size));
  return {
    first: Int32Array.from(genuine, (_, i) => 2 * i),
    second: Int32Array.from(genuine, (_, i) => 2 * i + 1),
    genuine,
    fold: Int32Array.from(genuine, (_, i) => foldOf(i)),
  };
}

export function openBin(file: string): Archive {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new UserError(`${file} cannot be read (${error instanceof Error ? error.message : String(error)})`);
  }
  const wrong = (what: string) => new UserError(`${file}: ${what}`);
  let value: Pickled;
  try {
    value = readPickle(bytes);
  } catch (error) {
    throw error instanceof UserError ? wrong(error.message) : error;
  }
  const [bins, same] = Array.isArray(value) && value.length === 2 ? value : [];
  if (!Array.isArray(bins) || !Array.isArray(same))
    throw wrong('expected a list of images and a list of booleans');
  if (bins.length !== 2 * same.length || same.length === 0)
    throw wrong(`expected two images for each pair, found ${bins.length} images and ${same.length} pairs`);
  const images = bins.map((image, i) => {
    const data = pickledBytes(image);
    if (!data || data.length === 0) throw wrong(`image ${i}: expected bytes, found something else`);
    return data;
  });
  const genuine = same.map((flag, i) => {
    if (typeof flag === 'boolean') return flag;
    if (flag === 0 || flag === 1) return flag === 1;
    throw wrong(`pair ${i}: expected true or false, found something else`);
  });
  // Small buffers share memory with others: the place tells too.
  const inFile = images.every(
    (image) =>
      image.buffer === bytes.buffer &&
      image.byteOffset >= bytes.byteOffset &&
      image.byteOffset + image.length <= bytes.byteOffset + bytes.length,
  );
  const memory = inFile ? null : new SharedArrayBuffer(images.reduce((sum, image) => sum + image.length, 0));
  let end = 0;
  const starts = Float64Array.from(images, (image) => {
    if (!memory) return image.byteOffset - bytes.byteOffset;
    new Uint8Array(memory).set(image, end);
    end += image.length;
    return end - image.length;
  });
  return {
    kind: 'bin',
    path: file,
    source: {
      kind: 'slices',
      file,
      memory,
      starts,
      lengths: Int32Array.from(images, (image) => image.length),
    },
    labels: new Int32Array(images.length).fill(-1),
    names: [],
    pairs: neighbourPairs(genuine),
    notes: [],
  };
}

/** Opcodes of the pickle (protocol 2) that is written: what a reader of any Python understands. */
const [proto, emptyList, mark, appends, tuple2, stop] = [0x80, 0x5d, 0x28, 0x65, 0x86, 0x2e];

/** What comes before the images, between them, and behind them, in a pickle of (images, same) of protocol 3. */
export const binWriter = {
  head: Buffer.from([proto, 3, emptyList, mark]),
  image(bytes: Uint8Array): Buffer {
    const head = Buffer.alloc(5);
    head[0] = 0x42; // BINBYTES
    head.writeUInt32LE(bytes.length, 1);
    return Buffer.concat([head, bytes]);
  },
  tail: (genuine: readonly boolean[]): Buffer =>
    Buffer.from([appends, emptyList, mark, ...genuine.map((g) => (g ? 0x88 : 0x89)), appends, tuple2, stop]),
};
