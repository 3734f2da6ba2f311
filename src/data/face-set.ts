// A set of face images with identity labels, wherever the images come from: generated faces, or files of photographs. A FaceSet knows what there
// is; a FaceReader, opened on the set in any thread, makes the pixels.
import { createHash } from 'node:crypto';
import { UserError } from '../tensor/errors.js';
import { Draws, permuted, purposes } from '../tensor/philox.js';
import { imageFile, imageKey, imagePlace, openSource, type ImageSource } from './formats/image-source.js';
import { decodeImage } from './image-file.js';
import { MeshReader, type MeshTable } from '../pose/mesh-file.js';
import { FaceTurner } from '../pose/turn.js';
import { FaceRenderer } from './synthetic/render.js';
import type { Variety } from './synthetic/scene.js';

/** Where images come from. Everything here can be sent to a worker. */
export type FaceSource =
  | {
      readonly kind: 'synthetic';
      readonly seed: number;
      readonly imagesPerIdentity: number;
      readonly variety: Variety;
    }
  | {
      readonly kind: 'photographs';
      readonly images: ImageSource;
      /** The face meshes by which heads are turned, where they have been fitted. */
      readonly meshes: MeshTable | null;
    };

/** Images rendered ahead, one after another: plain, and turned when training uses the pose variation. */
export interface RenderedImages {
  readonly pixels: SharedArrayBuffer;
  readonly turned: SharedArrayBuffer | null;
}

/** The plain data of a FaceSet. */
export interface FaceSetData {
  readonly source: FaceSource;
  /** Side of the square images in pixels. */
  readonly size: number;
  /** For each image, its number in the source. */
  readonly items: Int32Array;
  /** For each image, its identity's number in this set. */
  readonly labels: Int32Array;
  /** For each identity, its name. */
  readonly names: readonly string[];
  readonly rendered: RenderedImages | null;
}

/** Face images [size, size, 3] with labels 0 ... identities - 1. */
export class FaceSet {
  constructor(readonly data: FaceSetData) {}

  get size(): number {
    return this.data.size;
  }
  get images(): number {
    return this.data.items.length;
  }
  get identities(): number {
    return this.data.names.length;
  }
  /** Whether there are images that can be turned to another yaw. */
  get yawAvailable(): boolean {
    const { source } = this.data;
    return source.kind === 'synthetic' || source.meshes !== null;
  }
  /** Whether this image can: every generated face, and photographs of faces that look at the camera, once a mesh has been fitted. */
  canTurn(image: number): boolean {
    const { source, items } = this.data;
    return source.kind === 'synthetic' || (source.meshes?.rows[items[image] ?? -1] ?? -1) >= 0;
  }
  /** The identity of an image. */
  label(image: number): number {
    return this.data.labels[image] ?? -1;
  }
  /** An identity's name: as its source has it, or its number in the generated population. */
  identityName(identity: number): string {
    return this.data.names[identity] ?? '';
  }
  /** An image's name: its path below the folder, its place in a file, or identity/number. */
  imageName(image: number): string {
    const { source, items } = this.data;
    const item = items[image] ?? 0;
    if (source.kind === 'photographs') return imagePlace(source.images, item);
    return `${Math.floor(item / source.imagesPerIdentity)}/${item % source.imagesPerIdentity}`;
  }
  /** An image's name in tables: its path below the folder, its number in a file, or identity/number. */
  imageKey(image: number): string {
    const { source, items } = this.data;
    return source.kind === 'photographs' ? imageKey(source.images, items[image] ?? 0) : this.imageName(image);
  }
  /** SHA-256 of who is on which image, in order: another one, and training would be another. Not of the pixels, nor of the place of the set. */
  digest(): string {
    const hash = createHash('sha256').update(JSON.stringify(this.data.names));
    for (let image = 0; image < this.images; image++)
      hash.update(`${this.label(image)} ${this.imageKey(image)}\n`);
    return hash.digest('hex');
  }
  /** For each identity, its images. */
  imagesByIdentity(): number[][] {
    const lists: number[][] = this.data.names.map(() => []);
    this.data.labels.forEach((label, image) => lists[label]?.push(image));
    return lists;
  }
  /** The set of these identities only, renumbered in the order given. */
  subset(identities: readonly number[]): FaceSet {
    const wanted = new Set(identities);
    const images = Array.from(this.data.labels.keys()).filter((image) => wanted.has(this.label(image)));
    return this.only(images, identities);
  }
  /** The set of these images only, and of these identities, renumbered in the order given; by default those of the images. */
  only(
    images: readonly number[],
    identities: readonly number[] = [...new Set(images.map((image) => this.label(image)))],
  ): FaceSet {
    const renumbered = new Map(identities.map((identity, i) => [identity, i]));
    return new FaceSet({
      ...this.data,
      items: Int32Array.from(images, (image) => this.data.items[image] ?? 0),
      labels: Int32Array.from(images, (image) => renumbered.get(this.label(image)) ?? 0),
      names: identities.map((identity) => this.identityName(identity)),
      rendered: null,
    });
  }
}

/** Divides the identities at random, by seed: `heldOut` of them are never trained on. */
export function splitIdentities(
  faces: FaceSet,
  heldOut: number,
  seed: number,
): { train: FaceSet; heldOut: FaceSet } {
  if (heldOut > faces.identities - 2)
    throw new UserError(
      `data.held_out_identities: expected at most ${Math.max(0, faces.identities - 2)} of ${faces.identities} identities, so that two are left to train on, got ${heldOut}`,
    );
  const order = Array.from({ length: faces.identities }, (_, i) =>
    permuted(i, faces.identities, seed, purposes.identitySplit, 0),
  );
  const ascending = (list: number[]): number[] => list.sort((a, b) => a - b);
  return {
    train: faces.subset(ascending(order.slice(heldOut))),
    heldOut: faces.subset(ascending(order.slice(0, heldOut))),
  };
}

/** The yaw in degrees, between the two of `range` to either side, at which an image of the set is shown when turned for training. */
export function trainingYaw(seed: number, item: number, range: readonly [number, number]): number {
  const draws = new Draws(seed, purposes.facePose, 0, item);
  const side = draws.chance(0.5) ? 1 : -1;
  return side * draws.uniform(range[0], range[1]);
}

/** Makes pixels. One reader per thread. */
export interface FaceReader {
  /** Writes the image to `out` [size, size, 3]; with a yaw in degrees, turned to it (see FaceSet.canTurn). */
  read(image: number, out: Uint8Array, yaw?: number): void;
  /** Writes the turned version that was rendered ahead, or else renders it at `yaw`. */
  readTurned(image: number, out: Uint8Array, yaw: number): void;
}

function readerOfSource(data: FaceSetData): (item: number, out: Uint8Array, yaw?: number) => void {
  const { source, size } = data;
  if (source.kind === 'synthetic') {
    const renderer = new FaceRenderer(source.seed, size, source.variety);
    const each = source.imagesPerIdentity;
    return (item, out, yaw) => renderer.render(Math.floor(item / each), item % each, out, yaw);
  }
  const { images, meshes } = source;
  const reader = openSource(images);
  const meshReader = meshes && new MeshReader(meshes);
  const turner = meshes && new FaceTurner(size);
  const straight = new Uint8Array(size * size * 3);
  return (item, out, yaw) => {
    try {
      const bytes = reader.bytes(item);
      if (yaw === undefined) return decodeImage(bytes, size, out);
      if (!meshReader || !turner) throw new UserError('no mesh has been fitted, so it cannot be turned');
      const mesh = meshReader.mesh(item, bytes, size);
      decodeImage(bytes, size, straight);
      turner.turn(straight, mesh, yaw, out);
    } catch (error) {
      throw new UserError(
        `${imageFile(images, item)}: ${error instanceof Error ? error.message : String(error)}`,
        { cause: error },
      );
    }
  };
}

/** Opens a reader on a set. */
export function openReader({ data }: FaceSet): FaceReader {
  const make = readerOfSource(data);
  const bytes = data.size * data.size * 3;
  const stored = (store: SharedArrayBuffer, image: number): Uint8Array =>
    new Uint8Array(store, image * bytes, bytes);
  const { rendered } = data;
  return {
    read(image, out, yaw) {
      if (rendered && yaw === undefined) out.set(stored(rendered.pixels, image));
      else make(data.items[image] ?? 0, out, yaw);
    },
    readTurned(image, out, yaw) {
      if (rendered?.turned) out.set(stored(rendered.turned, image));
      else make(data.items[image] ?? 0, out, yaw);
    },
  };
}

/** Looks images up by person and number, as pairs files name them: image j of NAME is NAME/NAME_000j.*, with four digits. */
export function findByNumber(faces: FaceSet): (name: string, number: number) => number | undefined {
  const images = new Map<string, number>();
  for (let image = 0; image < faces.images; image++) {
    const path = faces.imageName(image);
    images.set(path.replace(/\.[^./]*$/, ''), image);
  }
  return (name, number) => images.get(`${name}/${name}_${String(number).padStart(4, '0')}`);
}
