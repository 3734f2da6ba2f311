/**
 * RecordIO, the container of MXNet, as InsightFace fills it. A record: the magic word, a word with the payload's length in its lower
 * 29 bits and in the upper three 0 (a whole record) or 1, 2, 3 (first, middle, last piece of one that was cut wherever its payload
 * held the magic word, which belongs back between the pieces), the payload, zeros up to a multiple of four bytes. The payload
 * of an image: flag (uint32), label (float32), two ids (uint64), then `flag` labels of float32 where flag > 0, then the image's bytes.
 *
 * An index has a line `key TAB offset` for each record. In InsightFace's layout record 0 has no image but two labels, a and b: images
 * have the keys 1 ... a - 1; the records a ... b - 1 are the identities, whose two labels are the first key of their images and the one
 * after the last. Some writers leave the identities out: then a counts all records, and the images have their own labels.
 */
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { UserError } from '../../tensor/errors.js';
import { explaining } from '../../train/atomic.js';
import type { Archive } from './archive.js';

export const magic = 0xced7230a;
export const headerBytes = 24;
const lengthMask = 2 ** 29 - 1;

/** Bytes that a payload takes as a whole record. */
export const recordBytes = (payload: number): number => 8 + payload + (-payload & 3);

/** The payload of the record at the start of `bytes`, which end with it. */
export function payloadOf(bytes: Buffer): Buffer {
  const pieces: Buffer[] = [];
  let at = 0;
  for (;;) {
    if (at + 8 > bytes.length) throw new UserError('the record ends inside of its header');
    const found = bytes.readUInt32LE(at);
    if (found !== magic)
      throw new UserError(
        `expected a record (magic ${magic.toString(16)}), found ${found.toString(16).padStart(8, '0')}`,
      );
    const word = bytes.readUInt32LE(at + 4);
    const [kind, length] = [word >>> 29, word & lengthMask];
    const first = pieces.length === 0;
    if (kind > 3 || (first ? kind > 1 : kind < 2))
      throw new UserError(`the record is broken: a piece of kind ${kind} where there can be none`);
    if (at + 8 + length > bytes.length) throw new UserError(`the record of ${length} bytes is cut off`);
    const piece = bytes.subarray(at + 8, at + 8 + length);
    if (kind === 0) return piece;
    if (!first) pieces.push(magicBytes);
    pieces.push(piece);
    if (kind === 3) return Buffer.concat(pieces);
    at += recordBytes(length);
  }
}
const magicBytes = Buffer.alloc(4);
magicBytes.writeUInt32LE(magic);

export interface RecordHeader {
  readonly labels: number[];
  /** Bytes of the payload before the image. */
  readonly size: number;
}

/** The header of a payload, or of its beginning. */
export function readHeader(payload: Buffer): RecordHeader {
  if (payload.length < headerBytes)
    throw new UserError(
      `expected an image record of at least ${headerBytes} bytes, found ${payload.length} bytes`,
    );
  const flag = payload.readUInt32LE(0);
  if (flag === 0) return { labels: [payload.readFloatLE(4)], size: headerBytes };
  const size = headerBytes + 4 * flag;
  if (size > payload.length)
    throw new UserError(`the record has ${payload.length} bytes, too few for its ${flag} labels`);
  return { labels: Array.from({ length: flag }, (_, i) => payload.readFloatLE(headerBytes + 4 * i)), size };
}

/** The image in the record at the start of `bytes`. */
export function recordImage(bytes: Buffer): Buffer {
  const payload = payloadOf(bytes);
  return payload.subarray(readHeader(payload).size);
}

/** A record of an image, cut where it must be. */
export function imageRecord(image: Buffer, label: number, id: number): Buffer {
  return record(Buffer.concat([header([label], id), image]));
}
/** The header of a payload: one label, or several. */
export function header(labels: readonly number[], id: number): Buffer {
  const several = labels.length > 1;
  const bytes = Buffer.alloc(headerBytes + (several ? 4 * labels.length : 0));
  bytes.writeUInt32LE(several ? labels.length : 0, 0);
  if (!several) bytes.writeFloatLE(labels[0] ?? 0, 4);
  bytes.writeBigUInt64LE(BigInt(id), 8);
  if (several) labels.forEach((label, i) => bytes.writeFloatLE(label, headerBytes + 4 * i));
  return bytes;
}
/** A payload as a record; as MXNet does, it is cut at each magic word that lies at a multiple of four bytes. */
export function record(payload: Buffer): Buffer {
  if (payload.length > lengthMask)
    throw new UserError(`a record holds at most ${lengthMask} bytes, got ${payload.length}`);
  const cuts: number[] = [];
  for (let at = payload.indexOf(magicBytes); at >= 0; at = payload.indexOf(magicBytes, at + 1))
    if (at % 4 === 0) cuts.push(at);
  const pieces: Buffer[] = [];
  for (let i = 0; i <= cuts.length; i++) {
    const from = i === 0 ? 0 : (cuts[i - 1] ?? 0) + 4;
    const piece = payload.subarray(from, cuts[i] ?? payload.length);
    const kind = cuts.length === 0 ? 0 : i === 0 ? 1 : i === cuts.length ? 3 : 2;
    const head = Buffer.alloc(8);
    head.writeUInt32LE(magic, 0);
    head.writeUInt32LE(kind * 2 ** 29 + piece.length, 4);
    pieces.push(head, piece, Buffer.alloc(-piece.length & 3));
  }
  return Buffer.concat(pieces);
}

/** Keys and offsets of an index, by ascending key. */
function readIndex(file: string): { keys: Int32Array; starts: Float64Array } {
  const text = explaining(`read ${file}`, () => readFileSync(file));
  let lines = 0;
  for (let at = text.indexOf(10); at >= 0; at = text.indexOf(10, at + 1)) lines++;
  if (text.length > 0 && text.at(-1) !== 10) lines++;
  const keys = new Int32Array(lines);
  const starts = new Float64Array(lines);
  let at = 0;
  let count = 0;
  const bad = (line: number): never => {
    const end = text.indexOf(10, at);
    const found = text.toString('latin1', at, Math.min(end < 0 ? text.length : end, at + 60));
    throw new UserError(`${file}:${line}: expected a key, a tab and an offset, found "${found}"`);
  };
  for (let line = 1; at < text.length; line++) {
    let [key, offset, part, digits, i] = [0, 0, 0, 0, at];
    for (; i < text.length && text[i] !== 10; i++) {
      const digit = (text[i] ?? 0) - 48;
      if (digit >= 0 && digit <= 9) {
        if (part === 0) key = key * 10 + digit;
        else offset = offset * 10 + digit;
        digits++;
      } else if (text[i] === 9 && part === 0 && digits > 0) [part, digits] = [1, 0];
      else if (text[i] !== 13) bad(line);
    }
    if (i === at || (i === at + 1 && text[at] === 13)) {
      at = i + 1;
      continue; // an empty line
    }
    if (part !== 1 || digits === 0 || key > 0x7fffffff || offset > Number.MAX_SAFE_INTEGER) bad(line);
    keys[count] = key;
    starts[count++] = offset;
    at = i + 1;
  }
  let sorted = true;
  for (let i = 1; i < count && sorted; i++) sorted = (keys[i - 1] ?? 0) < (keys[i] ?? 0);
  if (sorted) return { keys: keys.subarray(0, count), starts: starts.subarray(0, count) };
  const order = Array.from({ length: count }, (_, i) => i).sort((a, b) => (keys[a] ?? 0) - (keys[b] ?? 0));
  return {
    keys: Int32Array.from(order, (i) => keys[i] ?? 0),
    starts: Float64Array.from(order, (i) => starts[i] ?? 0),
  };
}

class RecordFile {
  readonly descriptor: number;
  readonly size: number;
  readonly #head = Buffer.alloc(8 + headerBytes + 8);

  constructor(readonly file: string) {
    this.descriptor = explaining(`open ${file}`, () => openSync(file, 'r'));
    this.size = fstatSync(this.descriptor).size;
  }

  /** The first bytes of the record at `start`; checks that it is one. */
  head(start: number): Buffer {
    const count = readSync(this.descriptor, this.#head, 0, this.#head.length, start);
    const head = this.#head.subarray(0, count);
    if (count < 8 || head.readUInt32LE(0) !== magic)
      throw new UserError(
        start >= this.size
          ? `${this.file}: expected a record at byte ${start}, but the file has ${this.size} bytes`
          : `${this.file}: expected a record at byte ${start}, found none`,
      );
    return head;
  }

  /** Labels of the record at `start`: at most two of them. */
  labels(start: number): number[] {
    const head = this.head(start);
    const length = head.readUInt32LE(4) & lengthMask;
    const payload = head.subarray(8, 8 + length);
    if (payload.length >= headerBytes && payload.readUInt32LE(0) > 2)
      return [payload.readFloatLE(headerBytes)];
    try {
      return readHeader(payload).labels;
    } catch (error) {
      throw new UserError(
        `${this.file}: record at byte ${start}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  /** Where each record begins, from the file alone. */
  scan(): Float64Array {
    const starts: number[] = [];
    for (let at = 0; at < this.size;) {
      const begin = at;
      for (let kind = 1; kind === 1 || kind === 2;) {
        const word = this.head(at).readUInt32LE(4);
        kind = word >>> 29;
        at += recordBytes(word & lengthMask);
        if (at > this.size)
          throw new UserError(
            `${this.file}: the record at byte ${begin} is cut off: it needs ${at - this.size} bytes more`,
          );
      }
      starts.push(begin);
    }
    return Float64Array.from(starts);
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

/** For each record, the bytes to the one after it in the file, at most 2^29. */
function spansOf(starts: Float64Array, size: number): Int32Array {
  let ascending = true;
  for (let i = 1; i < starts.length && ascending; i++) ascending = (starts[i - 1] ?? 0) < (starts[i] ?? 0);
  const spans = new Int32Array(starts.length);
  if (ascending) {
    starts.forEach((start, i) => (spans[i] = Math.min((starts[i + 1] ?? size) - start, 2 ** 29)));
    return spans;
  }
  const order = Array.from(starts, (_, i) => i).sort((a, b) => (starts[a] ?? 0) - (starts[b] ?? 0));
  order.forEach((record, i) => {
    const next = order[i + 1];
    const end = next === undefined ? size : (starts[next] ?? 0);
    spans[record] = Math.min(end - (starts[record] ?? 0), 2 ** 29);
  });
  return spans;
}

/** What `property` beside the records says: identities, height, width. */
function readProperty(file: string): number[] | undefined {
  if (!existsSync(file)) return undefined;
  const text = explaining(`read ${file}`, () => readFileSync(file, 'utf8')).trim();
  const numbers = text.split(',').map(Number);
  if (numbers.length !== 3 || !numbers.every((n) => Number.isInteger(n) && n > 0))
    throw new UserError(
      `${file}: expected identities, height and width, such as "85742,112,112", found "${text.slice(0, 60)}"`,
    );
  return numbers;
}

/** Opens FILE.rec, with FILE.idx and property beside it where they are; without an index the file is scanned. */
export function openRecordIo(file: string): Archive {
  const records = new RecordFile(file);
  try {
    const indexFile = file.replace(/\.rec$/i, '.idx');
    const index = existsSync(indexFile) ? readIndex(indexFile) : undefined;
    const all = index?.starts ?? records.scan();
    const keys = index?.keys ?? Int32Array.from(all, (_, i) => i);
    if (all.length === 0) throw new UserError(`${file}: expected records, found none`);
    const spans = spansOf(all, records.size);
    spans.forEach((span, i) => {
      if (span <= 0)
        throw new UserError(
          `${indexFile}: record ${keys[i]}: expected an offset within the ${records.size} bytes of ${file}, found ${all[i]}`,
        );
    });
    const property = readProperty(file.replace(/[^/]*$/, 'property'));
    const layout = insightFaceLayout(records, keys, all);
    const kept = layout?.images ?? Int32Array.from(all, (_, i) => i);
    if (kept.length === 0) throw new UserError(`${file}: expected images, found none`);
    const found = layout?.labels ?? Float64Array.from(kept, (i) => records.labels(all[i] ?? 0)[0] ?? NaN);
    const { labels, names } = numbered(found, (i) => `${file}: record at byte ${all[kept[i] ?? 0]}`);
    const notes = [
      ...(index ? [] : [`${indexFile} is missing: the records were found by reading the file through`]),
      ...(property && property[0] !== names.length
        ? [`property says ${property[0]} identities, the records have ${names.length}`]
        : []),
    ];
    return {
      kind: 'recordio',
      path: file,
      source: {
        kind: 'records',
        file,
        starts: Float64Array.from(kept, (i) => all[i] ?? 0),
        spans: Int32Array.from(kept, (i) => spans[i] ?? 0),
      },
      labels,
      names,
      notes,
    };
  } finally {
    records.close();
  }
}

/** Images and their labels by the ranges of InsightFace's layout, or undefined when the first record is an image. */
function insightFaceLayout(
  records: RecordFile,
  keys: Int32Array,
  starts: Float64Array,
): { images: Int32Array; labels: Float64Array } | undefined {
  if (keys[0] !== 0) return undefined;
  const [a = 0, b = 0] = rangesOf(records, starts[0] ?? 0);
  if (!(Number.isInteger(a) && a >= 1)) return undefined;
  if (a === keys.length && placeOf(keys, a) < 0) {
    const images = Int32Array.from({ length: a - 1 }, (_, i) => i + 1);
    return { images, labels: Float64Array.from(images, (i) => records.labels(starts[i] ?? 0)[0] ?? NaN) };
  }
  if (b <= a) return undefined;
  const broken = (what: string) => new UserError(`${records.file}: ${what}`);
  if (a > keys.length)
    throw broken(`record 0 says that there are ${a - 1} images, the index has ${keys.length} records`);
  const images = new Int32Array(a - 1);
  const labels = new Float64Array(a - 1);
  let count = 0;
  for (let key = a; key < b; key++) {
    const record = placeOf(keys, key);
    if (record < 0)
      throw broken(`record 0 says that identities are at ${a} to ${b - 1}, but ${key} is not in the index`);
    const [first = 0, end = 0] = rangesOf(records, starts[record] ?? 0);
    if (!(first >= 1 && end >= first && end <= a))
      throw broken(`identity record ${key}: expected images between 1 and ${a}, found ${first} to ${end}`);
    for (let image = first; image < end; image++) {
      const place = placeOf(keys, image);
      if (place < 0) throw broken(`identity record ${key} names image ${image}, which is not in the index`);
      if (count === images.length)
        throw broken(`the identity records name more than the ${a - 1} images of record 0`);
      images[count] = place;
      labels[count++] = key - a;
    }
  }
  return { images: images.subarray(0, count), labels: labels.subarray(0, count) };
}

/** Where a key is among ascending ones, or -1. Keys are 0, 1, 2, ... as a rule. */
function placeOf(keys: Int32Array, key: number): number {
  if (keys[key] === key) return key;
  let [low, high] = [0, keys.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const found = keys[middle] ?? 0;
    if (found === key) return middle;
    if (found < key) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

/** The first two labels of a record without an image. */
function rangesOf(records: RecordFile, start: number): number[] {
  const head = records.head(start);
  const payload = head.subarray(8);
  const length = head.readUInt32LE(4) & lengthMask;
  const count = payload.length < headerBytes + 8 ? 0 : payload.readUInt32LE(0);
  if (count < 2 || length !== headerBytes + 4 * count) return [];
  return [payload.readFloatLE(headerBytes), payload.readFloatLE(headerBytes + 4)];
}

/** Identities numbered from 0 by ascending label. */
export function numbered(
  found: Float64Array,
  place: (image: number) => string,
): { labels: Int32Array; names: string[] } {
  found.forEach((label, image) => {
    if (!Number.isInteger(label) || label < 0)
      throw new UserError(`${place(image)}: expected a whole number as label, found ${label}`);
  });
  const values = Float64Array.from(new Set(found)).sort();
  const number = new Map(Array.from(values, (value, i) => [value, i]));
  return {
    labels: Int32Array.from(found, (value) => number.get(value) ?? 0),
    names: Array.from(values, String),
  };
}
