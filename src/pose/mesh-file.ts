/**
 * The face meshes of a set of images, fitted once (`turl data fit`) and kept beside it: for each image its yaw, and for those that face
 * the camera the mesh, with a hash of the image so that a mesh is never used on another one. A mesh is 468 points in the unit of the
 * image's centred square, as 16-bit numbers of 1/8192 (a hundredth of a pixel at 112).
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../tensor/errors.js';
import { meshPoints } from '../align/mesh.js';
import { locateTensors, writeSafetensors } from '../train/safetensors.js';
import { nearFrontal } from './turn.js';

const hashBytes = 8;
const unit = 8192;
const rowBytes = hashBytes + meshPoints * 3 * 2;

/** The first bytes of the hash of an image's content. */
export function contentHash(bytes: Uint8Array): Uint8Array {
  return createHash('sha1').update(bytes).digest().subarray(0, hashBytes);
}

/** Where the meshes of the set at `path` are kept: in the folder, or beside the file. */
export function meshFileOf(path: string, folder: boolean): string {
  return folder ? join(path, 'meshes.safetensors') : `${path}.meshes.safetensors`;
}

/** What is known of one image: nothing of one without a face. */
export interface FittedFace {
  readonly hash: Uint8Array;
  /** Degrees. */
  readonly yaw: number;
  /** [468, 3], in the unit of the image's centred square, from its upper left corner. */
  readonly mesh: Float32Array;
}

/** Writes the faces of all images, in the order of the set. */
export function writeMeshes(file: string, faces: readonly (FittedFace | undefined)[]): void {
  const yaw = Float32Array.from(faces, (face) => face?.yaw ?? NaN);
  const frontal = faces.map((face) => (face && Math.abs(face.yaw) <= nearFrontal ? face : undefined));
  const rows = new Int32Array(faces.length).fill(-1);
  const kept = frontal.filter((face) => face !== undefined);
  let next = 0;
  frontal.forEach((face, item) => {
    if (face) rows[item] = next++;
  });
  const data = Buffer.alloc(kept.length * rowBytes);
  kept.forEach(({ hash, mesh }, row) => {
    data.set(hash, row * rowBytes);
    mesh.forEach((value, i) =>
      data.writeInt16LE(
        Math.max(-32768, Math.min(32767, Math.round(value * unit))),
        row * rowBytes + hashBytes + i * 2,
      ),
    );
  });
  const bytes = (array: Float32Array | Int32Array) => new Uint8Array(array.buffer);
  writeSafetensors(
    file,
    new Map([
      ['yaw', { dtype: 'float32', shape: [faces.length], data: bytes(yaw) }],
      ['rows', { dtype: 'int32', shape: [faces.length], data: bytes(rows) }],
      ['meshes', { dtype: 'uint8', shape: [kept.length, rowBytes], data }],
    ] as const),
    { format: 'turl meshes 1' },
  );
}

/** A mesh file ready to be read from in any thread. Plain data. */
export interface MeshTable {
  readonly file: string;
  /** Byte at which the first row begins. */
  readonly position: number;
  /** For each image of the source, the row of its mesh, or -1. */
  readonly rows: Int32Array;
}

function read(descriptor: number, bytes: Uint8Array, position: number, file: string): void {
  if (readSync(descriptor, bytes, 0, bytes.length, position) !== bytes.length)
    throw new UserError(`${file} ends within a mesh: make it again with turl data fit`);
}

/** The table in `file` of a set of `images`, or undefined where there is no such file. @throws UserError for one of another set */
export function openMeshes(file: string, images: number): MeshTable | undefined {
  if (!existsSync(file)) return undefined;
  const tensors = locateTensors(file);
  const [rows, meshes] = [tensors.get('rows'), tensors.get('meshes')];
  if (rows?.dtype !== 'int32' || meshes?.shape[1] !== rowBytes)
    throw new UserError(
      `${file}: expected face meshes, found something else; make it again with turl data fit`,
    );
  if (rows.shape[0] !== images)
    throw new UserError(
      `${file}: expected the meshes of ${images} images, found those of ${rows.shape[0]}; run turl data fit again`,
    );
  const descriptor = openSync(file, 'r');
  try {
    // Shared, so that workers need no copies.
    const bytes = new Uint8Array(images * 4);
    read(descriptor, bytes, rows.position, file);
    const shared = new Int32Array(new SharedArrayBuffer(images * 4));
    shared.set(new Int32Array(bytes.buffer));
    return { file, position: meshes.position, rows: shared };
  } finally {
    closeSync(descriptor);
  }
}

/** Reads meshes of a table in this thread. */
export class MeshReader {
  readonly #descriptor: number;
  readonly #row = Buffer.alloc(rowBytes);
  readonly #mesh = new Float32Array(meshPoints * 3);

  constructor(readonly table: MeshTable) {
    this.#descriptor = openSync(table.file, 'r');
  }

  /**
   * The mesh [468, 3] of an image in the pixels of its picture of `size`; it holds until the next call.
   * @throws UserError when it was fitted to other bytes than `image`
   */
  mesh(item: number, image: Uint8Array, size: number): Float32Array {
    const { file, position, rows } = this.table;
    const row = rows[item] ?? -1;
    if (row < 0) throw new UserError('there is no mesh of this image, so it cannot be turned');
    read(this.#descriptor, this.#row, position + row * rowBytes, file);
    if (!contentHash(image).every((byte, i) => byte === this.#row[i]))
      throw new UserError(`the mesh in ${file} is of another image: run turl data fit again`);
    for (let i = 0; i < this.#mesh.length; i++) {
      const value = (this.#row.readInt16LE(hashBytes + i * 2) / unit) * size;
      this.#mesh[i] = i % 3 === 2 ? value : value - 0.5;
    }
    return this.#mesh;
  }
}
