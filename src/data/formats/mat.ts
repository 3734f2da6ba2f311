/**
 * Variables of a MATLAB 5 file (.mat), as far as lists of images need them: numbers, text, and cells of these. The file is a sequence of
 * elements: a tag of type and length in bytes, then the data, padded to 8 bytes; a short element has its data in the tag.
 */
import { readFileSync } from 'node:fs';
import { inflateSync } from 'node:zlib';
import { UserError } from '../../tensor/errors.js';

export type MatValue = readonly number[] | string | readonly MatValue[];

const types = { compressed: 15, matrix: 14 } as const;
const classes = { cell: 1, char: 4 } as const;

/** How many bytes a number of each type has, and how it is read. */
const numbers: Readonly<Record<number, readonly [bytes: number, read: (b: Buffer, at: number) => number]>> = {
  1: [1, (b, at) => b.readInt8(at)],
  2: [1, (b, at) => b.readUInt8(at)],
  3: [2, (b, at) => b.readInt16LE(at)],
  4: [2, (b, at) => b.readUInt16LE(at)],
  5: [4, (b, at) => b.readInt32LE(at)],
  6: [4, (b, at) => b.readUInt32LE(at)],
  7: [4, (b, at) => b.readFloatLE(at)],
  9: [8, (b, at) => b.readDoubleLE(at)],
  12: [8, (b, at) => Number(b.readBigInt64LE(at))],
  13: [8, (b, at) => Number(b.readBigUInt64LE(at))],
  16: [1, (b, at) => b.readUInt8(at)],
  17: [2, (b, at) => b.readUInt16LE(at)],
};

interface Element {
  readonly type: number;
  readonly data: Buffer;
}

/** The elements that follow each other in a buffer. */
function* elements(buffer: Buffer): Generator<Element> {
  for (let at = 0; at + 8 <= buffer.length;) {
    const first = buffer.readUInt32LE(at);
    const short = first >>> 16;
    if (short > 0) {
      if (short > 4) throw new RangeError(`a short element of ${short} bytes`);
      yield { type: first & 0xffff, data: buffer.subarray(at + 4, at + 4 + short) };
      at += 8;
      continue;
    }
    const length = buffer.readUInt32LE(at + 4);
    if (at + 8 + length > buffer.length)
      throw new RangeError(`an element of ${length} bytes at byte ${at} of ${buffer.length}`);
    yield { type: first, data: buffer.subarray(at + 8, at + 8 + length) };
    // Compressed elements alone are not padded.
    at += 8 + (first === types.compressed ? length : Math.ceil(length / 8) * 8);
  }
}

function numbersOf({ type, data }: Element): number[] {
  const [bytes, read] = numbers[type] ?? [];
  if (!bytes || !read) throw new RangeError(`numbers of type ${type}`);
  return Array.from({ length: Math.floor(data.length / bytes) }, (_, i) => read(data, i * bytes));
}

/** UTF-8, or a number for each character. */
function textOf(element: Element): string {
  return element.type === 16
    ? element.data.toString('utf8')
    : numbersOf(element)
        .map((code) => String.fromCharCode(code))
        .join('');
}

function matrix(data: Buffer): { name: string; value: MatValue } {
  const [flags, , name, ...parts] = elements(data);
  const kind = flags?.data[0] ?? 0;
  const [content] = parts;
  const value =
    kind === classes.cell
      ? parts.map((part) => matrix(part.data).value)
      : !content
        ? []
        : kind === classes.char
          ? textOf(content)
          : numbersOf(content);
  return { name: name?.data.toString('latin1') ?? '', value };
}

/** All variables by name; of a matrix the values in the order of its columns. @throws UserError when it is no such file */
export function readMat(file: string): ReadonlyMap<string, MatValue> {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch {
    throw new UserError(`${file}: expected a file that can be read, found none`);
  }
  const expected = `${file}: expected a MATLAB 5 file`;
  if (bytes.length < 128 || bytes.toString('latin1', 126, 128) !== 'IM')
    throw new UserError(`${expected}, found something else`);
  const found = new Map<string, MatValue>();
  try {
    for (const { type, data } of elements(bytes.subarray(128)))
      for (const element of type === types.compressed ? elements(inflateSync(data)) : [{ type, data }])
        if (element.type === types.matrix) {
          const { name, value } = matrix(element.data);
          found.set(name, value);
        }
  } catch (error) {
    throw new UserError(`${expected}, found ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  return found;
}
