/** Bringing a set of images from one format to another, byte for byte, and dividing one by identity. */
import { createHash } from 'node:crypto';
import { basename, resolve } from 'node:path';
import { UserError } from '../tensor/errors.js';
import { permuted, purposes } from '../tensor/philox.js';
import { archiveKind, openArchive, type Archive } from './formats/archive.js';
import { imageFile, imageKey, openSource, type SourceReader } from './formats/image-source.js';
import { checkTarget, isWithin, type Content, type Origin } from './formats/target.js';
import { createArchive, type ArchiveWriter } from './formats/writers.js';
import { readSize } from './image-file.js';
import { stampOf } from './photographs.js';

export interface Packed {
  images: number;
  identities: number;
  /** Images that were there of an attempt before. */
  resumed: number;
  /** A sentence about a file beside it that was not written. */
  note?: string;
}

export interface PackOptions {
  /** The images to take, all by default. */
  keep?: (identity: number) => boolean;
  onProgress?: (images: number, total: number) => void;
}

/** Images by ascending identity, each identity's in the order of the archive; those of a verification set as they are. */
export function orderOf(
  { labels, pairs }: Archive,
  keep: (identity: number) => boolean = () => true,
): Int32Array {
  const images = Int32Array.from(labels.keys());
  if (pairs) return images;
  return images
    .filter((image) => keep(labels[image] ?? -1))
    .sort((a, b) => (labels[a] ?? 0) - (labels[b] ?? 0) || a - b);
}

/** Numbers identities anew as they come, without gaps; images of one identity come together. */
export function renumbering(): (identity: number) => number {
  let label = -1;
  let before: number | undefined;
  return (identity) => {
    if (identity !== before) label++;
    before = identity;
    return label;
  };
}

/** All that determines what a set of these images in this order is, so that an attempt that was cut off goes on with the same only. */
function originOf({ path, source, labels, names }: Archive, order: Int32Array): Origin {
  const hash = createHash('sha256');
  if (source.kind !== 'files') hash.update(stampOf(path));
  for (const image of order) {
    const place =
      source.kind === 'files'
        ? `${imageKey(source, image)} ${stampOf(imageFile(source, image))}`
        : String(source.starts[image]);
    hash.update(`${place}\0${names[labels[image] ?? -1] ?? ''}\0`);
  }
  return { path: resolve(path), digest: hash.digest('hex') };
}

interface Prepared extends Content {
  readonly to: string;
}

/** Makes every check that can be made before something is written. */
function prepare(archive: Archive, to: string, keep?: (identity: number) => boolean): Prepared {
  const kind = archiveKind(to);
  if ((kind === 'bin') !== (archive.pairs !== undefined))
    throw new UserError(
      kind === 'bin'
        ? `${to}: expected a verification set (.bin) to make one from, found ${archive.path}`
        : `${archive.path} is a verification set, without identities: expected a .bin to pack it to, got ${to}`,
    );
  const order = orderOf(archive, keep);
  if (order.length === 0) throw new UserError(`${archive.path}: expected images to pack, found none`);
  const prepared = { archive, to, order, origin: originOf(archive, order) };
  checkTarget(to, prepared);
  return prepared;
}

/** The bytes of an image; what is wrong with it is said with its place. */
function readImage({ source }: Archive, reader: SourceReader, image: number): Buffer {
  try {
    return reader.bytes(image);
  } catch (error) {
    throw new UserError(
      `${imageFile(source, image)}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function begin(prepared: Prepared): ArchiveWriter {
  const size = archiveKind(prepared.to) === 'recordio' ? sideOf(prepared) : 0;
  return createArchive(prepared.to, size, prepared);
}

/** Side in pixels of the first image that is not broken, for `property`. */
function sideOf({ archive: { path, source }, order }: Prepared): number {
  const reader = openSource(source);
  let reason: string | undefined;
  try {
    for (const image of order)
      try {
        return readSize(reader.bytes(image));
      } catch (error) {
        reason ??= `${imageFile(source, image)}: ${error instanceof Error ? error.message : String(error)}`;
      }
  } finally {
    reader.close();
  }
  throw new UserError(`${path}: expected images that can be decoded, found none (the first, ${reason})`);
}

/** Writes the images that are not there yet, and gives a function that makes the set whole. */
async function write(
  { archive, order }: Prepared,
  writer: ArchiveWriter,
  onProgress: PackOptions['onProgress'],
): Promise<() => Promise<Packed>> {
  const { source, labels, names } = archive;
  const reader = openSource(source);
  try {
    const number = renumbering();
    let label = -1;
    for (const [place, image] of order.entries()) {
      const identity = labels[image] ?? -1;
      label = number(identity);
      if (place >= writer.done)
        await writer.add({
          bytes: readImage(archive, reader, image),
          label,
          identity: names[identity] ?? '',
          name: source.kind === 'files' ? basename(imageKey(source, image)) : String(image).padStart(7, '0'),
        });
      onProgress?.(place + 1, order.length);
    }
    return async () => {
      const note = await writer.finish(archive.pairs?.genuine);
      return {
        images: order.length,
        identities: archive.pairs ? 0 : label + 1,
        resumed: writer.done,
        ...(note === undefined ? {} : { note }),
      };
    };
  } finally {
    reader.close();
  }
}

/** Writes the images of `archive` to `to`, with the very bytes they have. A run that was cut off goes on where it stopped. */
export async function pack(archive: Archive, to: string, options: PackOptions = {}): Promise<Packed> {
  const prepared = prepare(archive, to, options.keep);
  const writer = begin(prepared);
  try {
    const finish = await write(prepared, writer, options.onProgress);
    return await finish();
  } finally {
    writer.close();
  }
}

/** Writes `heldOut` identities, drawn by seed, to `test`, and the others to `train`. */
export async function split(
  from: string,
  train: string,
  test: string,
  heldOut: number,
  seed: number,
  onProgress?: PackOptions['onProgress'],
): Promise<{ train: Packed; test: Packed }> {
  const archive = await openArchive(from);
  const count = archive.names.length;
  if (archive.pairs) throw new UserError(`${from} is a verification set, without identities to divide by`);
  if (heldOut < 1 || heldOut >= count)
    throw new UserError(
      `expected 1 to ${count - 1} of the ${count} identities of ${from} to hold out, got ${heldOut}`,
    );
  const order = Array.from({ length: count }, (_, i) => permuted(i, count, seed, purposes.identitySplit, 0));
  const chosen = new Set(order.slice(0, heldOut));
  if (isWithin(train, test) || isWithin(test, train))
    throw new UserError(`expected two places that do not hold each other, got ${train} and ${test}`);
  // Both are checked before either is written, and made whole at the end: a split that was cut off goes on, and a .rec has a property only
  // where it is alone.
  const heldOutSet = prepare(archive, test, (identity) => chosen.has(identity));
  const trainSet = prepare(archive, train, (identity) => !chosen.has(identity));
  const testWriter = begin(heldOutSet);
  let trainWriter: ArchiveWriter | undefined;
  try {
    trainWriter = begin(trainSet);
    const finishTest = await write(heldOutSet, testWriter, onProgress);
    const finishTrain = await write(trainSet, trainWriter, onProgress);
    return { test: await finishTest(), train: await finishTrain() };
  } finally {
    testWriter.close();
    trainWriter?.close();
  }
}
