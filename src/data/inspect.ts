/** What a set of images is, and what is odd about it. */
import { openArchive, type ArchiveKind } from './formats/archive.js';
import { imageFile, sourceLength, type ImageSource } from './formats/image-source.js';
import { describeImages } from './jobs.js';

export interface Inspection {
  path: string;
  kind: ArchiveKind;
  images: number;
  identities: number;
  /** Of a verification set. */
  pairs: { genuine: number; impostor: number } | null;
  /** Images of the identity with fewest, the middle one, and the one with most. */
  imagesPerIdentity: { least: number; median: number; most: number } | null;
  /** How many images have each width and height in pixels, most frequent first. */
  sizes: { width: number; height: number; images: number }[];
  /** Bytes of the smallest, middle and largest image; null when none can be read. */
  bytes: { least: number; median: number; most: number } | null;
  /** Of red, green and blue, 0 to 255, over the pixels of all images; null when none can be decoded. */
  mean: number[] | null;
  std: number[] | null;
  /** A sentence when the colours look swapped, else null. */
  colourOrder: string | null;
  /** Groups of images with the same bytes; broken ones are not compared. */
  duplicates: { within: string[][]; across: string[][] };
  broken: { image: string; reason: string }[];
  notes: readonly string[];
}

const spread = (values: Int32Array) => {
  const sorted = values.sort();
  return {
    least: sorted[0] ?? 0,
    median: sorted[sorted.length >> 1] ?? 0,
    most: sorted.at(-1) ?? 0,
  };
};

export interface InspectOptions {
  /** Another set, to find images that are in both. */
  against?: string | undefined;
  workers?: number;
  onProgress?: (images: number, total: number) => void;
}

/** What there is to say of a set's images together; of each alone only what finds duplicates is kept. */
interface Totals {
  /** Images that can be decoded, and their pixels. */
  good: number;
  pixels: number;
  /** Over these pixels, of red, green and blue. */
  sums: number[];
  squares: number[];
  /** How many images have a width and height. */
  sizes: Map<string, number>;
  /** Bytes of each image, -1 where it cannot be read. */
  bytes: Int32Array;
  /** The first 64 bits of the hash of each image's bytes, 0 where it is broken. */
  keys: BigUint64Array;
  broken: { image: number; reason: string }[];
  /** Images whose middle has a colour, and those of them with more blue than red. */
  coloured: number;
  blue: number;
}

async function totalsOf(source: ImageSource, options: InspectOptions): Promise<Totals> {
  const images = sourceLength(source);
  const totals: Totals = {
    good: 0,
    pixels: 0,
    sums: [0, 0, 0],
    squares: [0, 0, 0],
    sizes: new Map(),
    bytes: new Int32Array(images).fill(-1),
    keys: new BigUint64Array(images),
    broken: [],
    coloured: 0,
    blue: 0,
  };
  await describeImages(source, options, (facts, image) => {
    if (facts.hash !== '') totals.bytes[image] = facts.bytes;
    if (facts.fault !== null) return void totals.broken.push({ image, reason: facts.fault });
    totals.keys[image] = BigInt(`0x${facts.hash.slice(0, 16)}`);
    totals.good++;
    totals.pixels += facts.width * facts.height;
    for (let c = 0; c < 3; c++) {
      totals.sums[c] = (totals.sums[c] ?? 0) + (facts.sums[c] ?? 0);
      totals.squares[c] = (totals.squares[c] ?? 0) + (facts.squares[c] ?? 0);
    }
    const size = `${facts.width} ${facts.height}`;
    totals.sizes.set(size, (totals.sizes.get(size) ?? 0) + 1);
    const [r = 0, , b = 0] = facts.middle;
    if (Math.abs(r - b) > 4) totals.coloured++;
    if (b - r > 4) totals.blue++;
  });
  totals.broken.sort((a, b) => a.image - b.image);
  return totals;
}

/** Images with the same bytes in groups, in their order. Sorted keys take a tenth of the memory of a map of millions. */
function duplicatesOf(keys: BigUint64Array): number[][] {
  const sorted = keys.slice().sort();
  const groups = new Map<bigint, number[]>();
  for (let i = 1; i < sorted.length; i++)
    if (sorted[i] === sorted[i - 1] && sorted[i] !== 0n) groups.set(sorted[i] ?? 0n, []);
  if (groups.size > 0) keys.forEach((key, image) => groups.get(key)?.push(image));
  return [...groups.values()].sort(([a = 0], [b = 0]) => a - b);
}

/** For each image of `theirs` that is among `ours` too, the first one there and itself. */
function commonOf(ours: BigUint64Array, theirs: BigUint64Array): [mine: number, image: number][] {
  const [a, b] = [ours.slice().sort(), theirs.slice().sort()];
  const first = new Map<bigint, number>();
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const [x, y] = [a[i] ?? 0n, b[j] ?? 0n];
    if (x === y && x !== 0n) first.set(x, -1);
    if (x <= y) i++;
    if (y <= x) j++;
  }
  ours.forEach((key, image) => {
    if (first.get(key) === -1) first.set(key, image);
  });
  const common: [number, number][] = [];
  theirs.forEach((key, image) => {
    const mine = first.get(key);
    if (mine !== undefined) common.push([mine, image]);
  });
  return common;
}

/** Reads and decodes every image of `path`. */
export async function inspect(path: string, options: InspectOptions = {}): Promise<Inspection> {
  const archive = await openArchive(path);
  const { source, labels, names, pairs } = archive;
  const totals = await totalsOf(source, options);
  const { good, pixels, sums, squares } = totals;
  const counts = new Int32Array(names.length);
  labels.forEach((label) => label >= 0 && (counts[label] = (counts[label] ?? 0) + 1));
  const mean = sums.map((sum) => sum / Math.max(1, pixels));
  const std = squares.map((square, c) =>
    Math.sqrt(Math.max(0, square / Math.max(1, pixels) - (mean[c] ?? 0) ** 2)),
  );
  const place = (image: number) => imageFile(source, image);
  const read = totals.bytes.filter((bytes) => bytes >= 0);
  let across: string[][] = [];
  if (options.against !== undefined) {
    const other = await openArchive(options.against);
    const { keys } = await totalsOf(other.source, options);
    across = commonOf(totals.keys, keys).map(([mine, image]) => [
      place(mine),
      imageFile(other.source, image),
    ]);
  }
  return {
    path,
    kind: archive.kind,
    images: labels.length,
    identities: names.length,
    pairs: pairs
      ? {
          genuine: pairs.genuine.filter(Boolean).length,
          impostor: pairs.genuine.filter((genuine) => !genuine).length,
        }
      : null,
    imagesPerIdentity: names.length > 0 ? spread(counts) : null,
    sizes: [...totals.sizes]
      .map(([size, images]) => {
        const [width = 0, height = 0] = size.split(' ').map(Number);
        return { width, height, images };
      })
      .sort((a, b) => b.images - a.images || a.width - b.width || a.height - b.height),
    bytes: read.length > 0 ? spread(read) : null,
    mean: good > 0 ? mean : null,
    std: good > 0 ? std : null,
    colourOrder: colourSuspicion(totals),
    duplicates: { within: duplicatesOf(totals.keys).map((group) => group.map(place)), across },
    broken: totals.broken.map(({ image, reason }) => ({ image: place(image), reason })),
    notes: archive.notes,
  };
}

/**
 * Skin has more red than blue, whatever its tone. Where most colour images have more blue than red in their middle, red and blue were
 * probably swapped when the images were written. Grey images tell nothing.
 */
function colourSuspicion({ coloured, blue }: Totals): string | null {
  if (coloured === 0 || blue / coloured < 0.5) return null;
  return `in ${blue} of ${coloured} colour images the middle has more blue than red: red and blue are probably swapped (BGR)`;
}
