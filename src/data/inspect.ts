/** What a set of images is, and what is odd about it. */
import { openArchive, type ArchiveKind } from './formats/archive.js';
import { imageFile } from './formats/image-source.js';
import { mapImages, type ImageFacts } from './jobs.js';

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

const spread = (values: number[]) => {
  const sorted = values.sort((a, b) => a - b);
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

/** Reads and decodes every image of `path`. */
export async function inspect(path: string, options: InspectOptions = {}): Promise<Inspection> {
  const archive = await openArchive(path);
  const { source, labels, names, pairs } = archive;
  const facts = await mapImages(source, options);
  const good = facts.filter((fact): fact is Extract<ImageFacts, { fault: null }> => fact.fault === null);
  const counts = new Array<number>(names.length).fill(0);
  labels.forEach((label) => label >= 0 && (counts[label] = (counts[label] ?? 0) + 1));
  const sizes = new Map<string, number>();
  for (const { width, height } of good)
    sizes.set(`${width} ${height}`, (sizes.get(`${width} ${height}`) ?? 0) + 1);
  const pixels = good.reduce((sum, { width, height }) => sum + width * height, 0);
  const total = (of: (fact: (typeof good)[number]) => readonly number[]) =>
    [0, 1, 2].map((c) => good.reduce((sum, fact) => sum + (of(fact)[c] ?? 0), 0) / Math.max(1, pixels));
  const mean = total(({ sums }) => sums);
  const std = total(({ squares }) => squares).map((square, c) =>
    Math.sqrt(Math.max(0, square - (mean[c] ?? 0) ** 2)),
  );
  const place = (image: number) => imageFile(source, image);
  const byHash = new Map<string, string[]>();
  facts.forEach(({ hash, fault }, image) => {
    if (fault === null) byHash.set(hash, [...(byHash.get(hash) ?? []), place(image)]);
  });
  const read = facts.filter(({ hash }) => hash !== '').map(({ bytes }) => bytes);
  const across: string[][] = [];
  if (options.against !== undefined) {
    const other = await openArchive(options.against);
    const theirs = await mapImages(other.source, options);
    theirs.forEach(({ hash }, image) => {
      const [mine] = byHash.get(hash) ?? [];
      if (mine !== undefined) across.push([mine, imageFile(other.source, image)]);
    });
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
    sizes: [...sizes]
      .map(([size, images]) => {
        const [width = 0, height = 0] = size.split(' ').map(Number);
        return { width, height, images };
      })
      .sort((a, b) => b.images - a.images),
    bytes: read.length > 0 ? spread(read) : null,
    mean: good.length > 0 ? mean : null,
    std: good.length > 0 ? std : null,
    colourOrder: colourSuspicion(good),
    duplicates: { within: [...byHash.values()].filter((group) => group.length > 1), across },
    broken: facts.flatMap(({ fault }, image) =>
      fault === null ? [] : [{ image: place(image), reason: fault }],
    ),
    notes: archive.notes,
  };
}

/**
 * Skin has more red than blue, whatever its tone. Where most colour images have more blue than red in their middle, red and blue were
 * probably swapped when the images were written. Grey images tell nothing.
 */
function colourSuspicion(facts: readonly Extract<ImageFacts, { fault: null }>[]): string | null {
  const coloured = facts.filter(({ middle: [r = 0, , b = 0] }) => Math.abs(r - b) > 4);
  const blue = coloured.filter(({ middle: [r = 0, , b = 0] }) => b > r).length;
  if (coloured.length === 0 || blue / coloured.length < 0.5) return null;
  return `in ${blue} of ${coloured.length} colour images the middle has more blue than red: red and blue are probably swapped (BGR)`;
}
