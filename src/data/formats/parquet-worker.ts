/** Unpacks a Parquet file, in a thread of its own: the library that decodes it trusts what the file says, and a damaged one can keep it
 *  busy for ever or fill the memory. The thread tells of each row group; silence ends it (parquet.ts). */
import { closeSync, openSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, type FileMetaData } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import * as z from 'zod';
import { UserError } from '../../tensor/errors.js';
import { explainFileError, explaining, writeAll } from '../../train/atomic.js';
import { columnOf } from './identities.js';

const imageColumns = ['image', 'img', 'jpg', 'jpeg', 'png', 'webp', 'bytes', 'data'];
const labelColumns = ['label', 'identity', 'identity_id', 'class', 'cls', 'person', 'target', 'name', 'id'];

/** The images, one after the other in a file of their own. */
export interface Unpacked {
  starts: Float64Array;
  lengths: Int32Array;
  /** The label of each as text. */
  labels: string[];
}
export interface UnpackRequest {
  file: string;
  to: string;
}
/** What the thread sends: a row group is done, all is done, or what is wrong. */
export type UnpackAnswer = { alive: true } | { unpacked: Unpacked } | { error: string };

/** Columns of the table, by their first names. */
function columnsOf(file: string, { schema }: FileMetaData): { image: string; label: string } {
  const names: string[] = [];
  for (let i = 1; i < schema.length; i++) {
    names.push(schema[i]?.name ?? '');
    // Children follow their parent; only the first names matter.
    for (let open = schema[i]?.num_children ?? 0; open > 0 && i + 1 < schema.length; open--)
      open += schema[++i]?.num_children ?? 0;
  }
  const [image, label] = [imageColumns, labelColumns].map((known) => names[columnOf(names, known)]);
  if (!image || !label)
    throw new UserError(
      `${file}: expected a column of images (${imageColumns.join(', ')}) and one of labels (${labelColumns.join(', ')}), found ${names.join(', ')}`,
    );
  return { image, label };
}

/** Where there is none, it has no bytes: a broken image, as others are. */
const imageBytes = z.instanceof(Uint8Array).nullish();
const imageValue = z
  .union([imageBytes, z.object({ bytes: imageBytes }).transform(({ bytes }) => bytes)])
  .transform((bytes) => bytes ?? new Uint8Array());
const labelValue = z.union([z.string().min(1), z.int(), z.bigint()]).transform(String);

/** A page may say any size: none is as large as this. */
const largestPage = 2 ** 30;

async function unpack({ file, to }: UnpackRequest, alive: () => void): Promise<Unpacked> {
  const source = await asyncBufferFromFile(file);
  const metadata = await parquetMetadataAsync(source);
  const { image, label } = columnsOf(file, metadata);
  if (Number(metadata.num_rows) > source.byteLength) throw new Error('more rows than bytes');
  const checked = Object.fromEntries(
    Object.entries(compressors).map(([codec, decompress]) => [
      codec,
      (input: Uint8Array, length: number) => {
        if (length > largestPage) throw new Error(`a page of ${length} bytes is too large`);
        return decompress(input, length);
      },
    ]),
  );
  const starts: number[] = [];
  const lengths: number[] = [];
  const labels: string[] = [];
  let [row, end] = [0, 0];
  const writing = <T>(write: () => T): T => explaining(`write ${to}`, write);
  const out = writing(() => openSync(to, 'w'));
  try {
    for (const group of metadata.row_groups) {
      const rowEnd = row + Number(group.num_rows);
      const rows = await parquetReadObjects({
        file: source,
        metadata,
        columns: [image, label],
        rowStart: row,
        rowEnd,
        compressors: checked,
        utf8: false,
      });
      if (rows.length !== rowEnd - row)
        throw new Error(`expected ${rowEnd - row} rows in a row group, found ${rows.length}`);
      for (const values of rows) {
        const bytes = imageValue.safeParse(values[image]);
        const name = labelValue.safeParse(textOf(values[label]));
        if (!bytes.success)
          throw new UserError(`${file}: row ${row}: expected the bytes of an image in column ${image}`);
        if (!name.success)
          throw new UserError(`${file}: row ${row}: expected a whole number or a text in column ${label}`);
        writing(() => writeAll(out, bytes.data));
        starts.push(end);
        lengths.push(bytes.data.length);
        labels.push(name.data);
        end += bytes.data.length;
        row++;
      }
      alive();
    }
  } finally {
    closeSync(out);
  }
  if (end === 0 && row > 0)
    throw new UserError(`${file}: expected the bytes of images in column ${image}, found none`);
  return { starts: Float64Array.from(starts), lengths: Int32Array.from(lengths), labels };
}

const textOf = (value: unknown) =>
  value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : value;

function sentence(error: unknown, file: string): string {
  const told = explainFileError(error, `read ${file}`);
  if (told instanceof UserError) return told.message;
  return `${file}: expected a whole Parquet file: ${told instanceof Error ? told.message : String(told)}`;
}

parentPort?.on('message', (request: UnpackRequest) => {
  const answer = (message: UnpackAnswer) => parentPort?.postMessage(message);
  unpack(request, () => answer({ alive: true })).then(
    (unpacked) => answer({ unpacked }),
    (error: unknown) => answer({ error: sentence(error, request.file) }),
  );
});
