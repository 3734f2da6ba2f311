/** Bringing a set of images from one format to another, byte for byte, and dividing one by identity. */
import { basename } from 'node:path';
import { UserError } from '../tensor/errors.js';
import { permuted, purposes } from '../tensor/philox.js';
import { archiveKind, openArchive, type Archive } from './formats/archive.js';
import { imageFile, openSource } from './formats/image-source.js';
import { createArchive } from './formats/writers.js';
import { readSize } from './image-file.js';

export interface Packed {
  images: number;
  identities: number;
  /** Images that were there of an attempt before. */
  resumed: number;
}

export interface PackOptions {
  /** The images to take, all by default. */
  keep?: (identity: number) => boolean;
  onProgress?: (images: number, total: number) => void;
}

/** Images by ascending identity, each identity's in the order of the archive; those of a verification set as they are. */
function orderOf({ labels, pairs }: Archive, keep: (identity: number) => boolean): Int32Array {
  const images = Int32Array.from(labels.keys());
  if (pairs) return images;
  return images
    .filter((image) => keep(labels[image] ?? -1))
    .sort((a, b) => (labels[a] ?? 0) - (labels[b] ?? 0) || a - b);
}

/** Writes the images of `archive` to `to`, with the very bytes they have. A run that was cut off goes on where it stopped. */
export async function pack(archive: Archive, to: string, options: PackOptions = {}): Promise<Packed> {
  const { keep = () => true, onProgress } = options;
  const kind = archiveKind(to);
  if ((kind === 'bin') !== (archive.pairs !== undefined))
    throw new UserError(
      kind === 'bin'
        ? `${to}: expected a verification set (.bin) to make one from, found ${archive.path}`
        : `${archive.path} is a verification set, without identities: expected a .bin to pack it to, got ${to}`,
    );
  const { source, labels, names } = archive;
  const order = orderOf(archive, keep);
  const [first] = order;
  if (first === undefined) throw new UserError(`${archive.path}: expected images to pack, found none`);
  const reader = openSource(source);
  const of = <T>(image: number, read: (bytes: Buffer) => T): T => {
    try {
      return read(reader.bytes(image));
    } catch (error) {
      throw new UserError(
        `${imageFile(source, image)}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  };
  try {
    const writer = createArchive(to, of(first, readSize));
    // Identities are numbered anew, without gaps.
    let label = -1;
    let before: number | undefined;
    for (const [place, image] of order.entries()) {
      const identity = labels[image] ?? -1;
      if (identity !== before) label++;
      before = identity;
      if (place >= writer.done)
        await writer.add({
          bytes: of(image, (bytes) => bytes),
          label,
          identity: names[identity] ?? '',
          name:
            source.kind === 'files' ? basename(source.files[image] ?? '') : String(image).padStart(7, '0'),
        });
      onProgress?.(place + 1, order.length);
    }
    await writer.finish(archive.pairs?.genuine);
    return { images: order.length, identities: archive.pairs ? 0 : label + 1, resumed: writer.done };
  } finally {
    reader.close();
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
  const progress = onProgress ? { onProgress } : {};
  return {
    test: await pack(archive, test, { keep: (identity) => chosen.has(identity), ...progress }),
    train: await pack(archive, train, { keep: (identity) => !chosen.has(identity), ...progress }),
  };
}
